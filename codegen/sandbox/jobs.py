"""Input and output records of the sandbox, and the payloads of a job's two processes."""

from __future__ import annotations

import functools
import json
import marshal
import types
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, ClassVar, Literal, Protocol

from codegen.core.errors import ConfigError, InputError
from codegen.core.paths import inner_path
from codegen.core.records import Status, Trust, is_at_least

from .blinding import Blinded, blind
from .languages import find
from .protocol import wire
from .protocol.suites import TEST_FILE
from .tests_side.analysis import GivenCode, collected_names, names_read, side_effect_free

Mode = Literal["isolated", "blinded", "stdio", "in_sandbox", "calls"]
MODES: tuple[Mode, ...] = ("isolated", "blinded", "stdio", "in_sandbox", "calls")
WALL_FACTOR = 3.0
PYTHON = "python"

# A function's name, its positional and its named arguments; a global variable's name and None, to
# read the variable; or an expression.
Call = tuple[str, Sequence[Any] | None] | tuple[str, Sequence[Any], Mapping[str, Any]] | str


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one job.

    Attributes:
        cpu_s: CPU seconds of the program; if exceeded, the status is ``timeout``. The wall time
            limit is three times as long.
        memory_mib: address space of each process in addition to the interpreter's; and memory of
            all processes together, with their sockets, pipes and page tables.
        output_bytes: bytes of standard output (``calls``; ``stdio`` allows more, see
            :attr:`Job.most_output`) and of returned values (``calls``).
        file_mib: size of each written file; all files together may be four times as large.
        processes: simultaneous processes and threads.
        open_files: file descriptors per process.
    """

    cpu_s: float = 6.0
    memory_mib: int = 1024
    output_bytes: int = 65536
    file_mib: int = 16
    processes: int = 128
    open_files: int = 256

    def __post_init__(self) -> None:
        for name, least, most in (
            ("cpu_s", 0.05, 86400),
            ("memory_mib", 128, 1 << 20),
            ("output_bytes", 1, 64 << 20),
            ("file_mib", 1, 1 << 16),
            ("processes", 1, 4096),
            ("open_files", 16, 4096),
        ):
            value = getattr(self, name)
            kind = (int, float) if name == "cpu_s" else int
            if not isinstance(value, kind) or not least <= value <= most:
                what = "a number" if name == "cpu_s" else "an integer"
                raise ConfigError(
                    f"Sandbox limit {name} is {value!r}; it must be {what} in [{least}, {most}]."
                )

    @property
    def wall_s(self) -> float:
        """Wall-clock limit in seconds of a program that uses no CPU time."""
        return WALL_FACTOR * self.cpu_s


@dataclass(frozen=True, slots=True)
class Job:
    """One program to run, and how to score it.

    Modes:
        - ``isolated``: ``setup`` and ``test`` run in another sandbox, where each
          function of the program is a proxy. The test's statements run first; then its
          definitions are called: ``check(entry_point)`` if ``entry_point`` is set, functions
          ``test…``, and classes of :mod:`unittest`. Tests that need more than plain values and
          functions are ``blinded`` (:attr:`mechanism`).
        - ``blinded``: the tests run in the program's process, without the values that they expect
          (:mod:`.blinding`).
        - ``stdio``: the program runs as a script, with ``stdin``, to its end (exit status 0); its
          standard output, including its child processes', is compared with ``expected_stdout``,
          ignoring whitespace at the ends of lines and blank lines at the end. None: no comparison.
        - ``in_sandbox``: setup, program and test run in one process, for tests that need the
          program's objects; the program could forge the verdict.
        - ``calls``: evaluates ``calls`` in order and returns the values. A call is a function's
          name, its arguments and optionally its named arguments; or a name and None, to read a
          global variable; or an expression over the program's names. After an exception the
          remaining calls are still made.

    In another ``language`` (:mod:`.languages`) the modes are

        - ``stdio``: as above.
        - ``isolated``: ``test`` is appended to the program; the answers file that it writes
          (:mod:`.program_side.command_job`) is compared with ``expected_stdout`` outside. Printed
          output is dropped.
        - ``in_sandbox``: ``test`` is appended to the program; it passes with exit status 0 after
          its last statement has returned the job's token.

    Attributes:
        entry_point: the function under test; the program must define it.
        setup: code to execute before the test, on the test's side.
        stdin, expected_stdout: see ``stdio``.
        language: a name or alias from :mod:`.languages`.
        calls: see mode ``calls``; arguments are plain values (see ``protocol.wire``).
        plain: the tests need only plain values and functions, so no analysis is necessary.
        least_trust: minimum grade; a job whose verdict has a lower grade is ``refused``.
    """

    program: str
    test: str = ""
    entry_point: str = ""
    setup: str = ""
    mode: Mode = "isolated"
    stdin: str = ""
    expected_stdout: str | None = ""
    calls: Sequence[Call] = ()
    limits: Limits = Limits()
    language: str = PYTHON
    plain: bool = False
    least_trust: Trust = "in_sandbox"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(
                f"Unknown sandbox mode {self.mode!r}.", f"Choose one of: {', '.join(MODES)}."
            )
        for name in ("program", "test", "entry_point", "setup", "stdin", "expected_stdout"):
            value = getattr(self, name)
            if not isinstance(value, str) and (name, value) != ("expected_stdout", None):
                raise InputError(f"The job's {name} must be a string, got {type(value).__name__}.")

    @property
    def is_foreign(self) -> bool:
        """True if the program is not in Python."""
        return self.language != PYTHON

    @property
    def compares_output(self) -> bool:
        """True if the verdict compares the program's output after it has exited."""
        return self.mode == "stdio" or (self.is_foreign and self.mode == "isolated")

    @property
    def blinded(self) -> Blinded | None:
        """The tests in two parts if they run in the program's process, else None; depends only on
        the tests.
        """
        if self.plain or self.is_foreign or self.mode not in ("isolated", "blinded"):
            return None
        if "os._exit" in self.test:  # it would stop the program's process; see tests_side.checker
            return None
        return blind(self.setup, self.test, self.entry_point, self.mode == "isolated")

    @property
    def mechanism(self) -> Mode:
        """The way to score the job: its mode or, for tests that need more than plain values and
        functions, ``blinded``; ``in_sandbox`` if these have no assertions about the program.
        """
        found = self.blinded
        if found is None:
            return "isolated" if self.mode == "blinded" else self.mode
        return "blinded" if found.sites else "in_sandbox"

    @property
    def trust(self) -> Trust:
        """Grade of the verdict."""
        mechanism = self.mechanism
        if mechanism == "blinded":
            found = self.blinded
            assert found is not None
            if len(found.open) == found.sites:
                return "in_sandbox"
            return "partly_blinded" if found.open else "blinded"
        return "isolated" if mechanism == "calls" else mechanism

    def reaches(self, least: Trust) -> bool:
        """Returns True if the verdict's grade is at least ``least``."""
        return is_at_least(self.trust, least)

    @property
    def most_output(self) -> int:
        """Maximum bytes of standard output: more than a correct program needs."""
        expected = len((self.expected_stdout or "").encode("utf-8", "surrogatepass"))
        return self.limits.output_bytes + (2 * expected if self.compares_output else 0)


MOST_FILES = 256
SCRIPT_WALL_FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class ScriptJob:
    """A program to run as a script, without a verdict.

    Its outcome has ``stdout``, ``stderr``, ``exit_code`` and ``files``; the status is ``passed`` if
    its exit code is 0. Its wall time limit is twice its CPU limit; a script that exceeds it is not
    rerun.

    Attributes:
        files: content of its working directory, by relative path.
        fetch: relative paths of files to return if it exits by itself; missing files, and files
            that exceed half of ``Limits.file_mib`` together, are omitted.
        limits: limits of the script. It is killed after ``output_bytes`` of standard output; the
            same amount of standard error is kept.
        language: a name or alias from :mod:`.languages`. Compilers have separate limits; if one
            fails, the status is ``compile_error``.

    Raises:
        InputError: for paths that lead out of the working directory, and too many or too large
            files.
    """

    program: str
    stdin: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    fetch: Sequence[str] = ()
    limits: Limits = Limits()
    language: str = PYTHON

    mode: ClassVar[Literal["run"]] = "run"
    trust: ClassVar[Trust] = "in_sandbox"
    compares_output: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("program", "stdin"):
            if not isinstance(value := getattr(self, name), str):
                raise InputError(
                    f"The script's {name} must be a string, got {type(value).__name__}."
                )
        for names, what in ((self.files, "files"), (self.fetch, "fetch")):
            if len(names) > MOST_FILES:
                raise InputError(f"Script {what}: {len(names)} entries; at most {MOST_FILES}.")
            for name in names:
                inner_path(name, f"The script's {what}")
        if sum(map(len, self.files.values())) > self.limits.file_mib << 20:
            raise InputError(f"The script's files are larger than {self.limits.file_mib} MiB.")
        folders = {str(p) for name in self.files for p in PurePosixPath(name).parents}
        if both := folders.intersection(self.files):
            raise InputError(f"The script's files use {min(both)!r} as a file and as a directory.")

    @property
    def is_foreign(self) -> bool:
        """True if the program is not in Python."""
        return self.language != PYTHON

    @property
    def most_output(self) -> int:
        """Maximum bytes of standard output."""
        return self.limits.output_bytes


@dataclass(frozen=True, slots=True)
class CallResult:
    """The result of one call: a value, or the exception it raised.

    Attributes:
        ok: whether it returned.
        value: the returned value; parts that are not plain values are opaque tokens.
        error: the exception's type and message, if it raised.
    """

    ok: bool
    value: Any = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job.

    Attributes:
        status: as in :class:`codegen.core.records.Verdict`; with ``calls``, ``passed`` means all
            calls returned.
        trust: grade of the status.
        cpu_s, wall_s, memory_mib: resources used by the program's process; memory is its largest
            resident set.
        stdout: the beginning of its standard output: ``Limits.output_bytes`` with ``stdio`` and
            ``calls``; otherwise 2000 bytes of ``sys.stdout``. Output still buffered when the
            program is killed is lost.
        values: values returned by the calls, up to the first that failed (``calls``).
        results: results of the calls, up to one that stopped the program (``calls``).
        stderr: the beginning of its standard error (:class:`ScriptJob`).
        exit_code: as in :mod:`subprocess`, negative for a signal; None if it was killed at a limit
            (:class:`ScriptJob`).
        files: contents of the fetched files (:class:`ScriptJob`).
        compile_s: CPU seconds of its compiler; 0 for a cached build.
        sites: number of assertions about the program (``blinded``).
        open_sites: assertions that the program could forge (``blinded``).
        seen: (index, digest) of each open site whose values are informative.
    """

    status: Status
    trust: Trust
    cpu_s: float = 0.0
    wall_s: float = 0.0
    memory_mib: float = 0.0
    message: str = ""
    stdout: str = ""
    values: tuple[Any, ...] = ()
    results: tuple[CallResult, ...] = ()
    stderr: str = ""
    exit_code: int | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    compile_s: float = 0.0
    sites: int = 0
    open_sites: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True if the status is ``passed``."""
        return self.status == "passed"


class SandboxProtocol(Protocol):
    """An open sandbox, on this machine or on a cluster."""

    def describe(self) -> dict[str, Any]:
        """Returns the properties of the sandbox that verdicts depend on."""
        ...

    def map(self, items: Iterable[tuple[Any, Job]]) -> Iterator[tuple[Any, Outcome]]:
        """Runs jobs; yields outcomes in completion order."""
        ...


def is_empty(job: Job) -> bool:
    """Returns True if a job's program has only blank lines and comments."""
    mark = find(job.language).comment if job.is_foreign else "#"
    lines = (line.lstrip() for line in job.program.splitlines())
    return all(not line or line.startswith(mark) for line in lines)


MAX_KEPT_TEXT = 1 << 16


def program_payload(job: Job | ScriptJob, token: str) -> bytes:
    """Returns the input of :mod:`.program_side.program`'s ``main``."""
    text = job.program
    if isinstance(job, ScriptJob):
        files = {name: data.decode("latin-1") for name, data in job.files.items()}
        most = job.limits.file_mib << 19
        text = json.dumps(
            {"program": text, "files": files, "fetch": [*job.fetch], "fetch_bytes": most}
        )
        return f"run\n{text}".encode()
    mechanism, blinded = job.mechanism, job.blinded
    if mechanism in ("in_sandbox", "blinded"):
        test = blinded.inside if blinded and mechanism == "blinded" else job.test
        fields = {
            "program": job.program,
            "setup": blinded.before if blinded and mechanism == "blinded" else job.setup,
            "test": test,
            "entry_point": job.entry_point,
            "collected": _collected(test),
            "token": token,
        }
        text = json.dumps(fields)
    return f"{mechanism}\n{text}".encode("utf-8", "surrogatepass")


def tests_payload(job: Job, token: str) -> bytes:
    """Returns the input of :mod:`.tests_side.checker`'s ``main``."""
    mechanism, blinded = job.mechanism, job.blinded
    payload: dict[str, Any] = {"mode": mechanism, "foreign": job.is_foreign}
    if job.compares_output:
        payload |= {"expected_stdout": job.expected_stdout, "most_output": job.most_output}
    elif mechanism == "calls":
        payload |= {"calls": pack_calls(job), "output_bytes": job.limits.output_bytes}
    else:
        test = "" if job.is_foreign else job.test
        given = {"setup": code_of(job.setup, "<setup>"), "test": code_of(test, TEST_FILE)}
        payload |= {"text": test, "entry_point": job.entry_point, "token": token}
        if mechanism == "isolated":
            payload |= given
        else:
            is_blinded = blinded is not None and mechanism == "blinded"
            payload |= {
                "setup": code_of("", "<setup>"),
                "test": _outside(blinded) if is_blinded else code_of("", TEST_FILE),
                "open": len(blinded.open) if is_blinded else 0,
                "closed": blinded.sites - len(blinded.open) if is_blinded else 0,
                "given": given,
            }
    return marshal.dumps(payload)


def code_of(text: str, file_name: str) -> str | GivenCode:
    """Compiles the dataset's code for a test process (``GivenCode`` in
    :mod:`.tests_side.analysis`). Returns the source itself if it is too long to cache or does not
    compile, so that the process reports the error.
    """
    return _compiled(text, file_name) if len(text) <= MAX_KEPT_TEXT else text


@functools.lru_cache(maxsize=512)  # many jobs have the same test
def _compiled(text: str, file_name: str) -> str | GivenCode:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about the dataset's code
            code = compile(text, file_name, "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - SyntaxError, ValueError, RecursionError, MemoryError
        return text
    return _given(code)


@functools.lru_cache(maxsize=256)
def _outside(blinded: Blinded) -> GivenCode:
    return _given(compile(blinded.outside, TEST_FILE, "exec", dont_inherit=True))


def _given(code: types.CodeType) -> GivenCode:
    names = names_read(code)
    return (
        marshal.dumps(code),
        side_effect_free(code),
        tuple(names),
        tuple(collected_names(code, names)),
    )


def _collected(text: str) -> list[str]:
    code = _compiled(text, TEST_FILE)
    return [] if isinstance(code, str) else list(code[3])


def pack_calls(job: Job) -> list[object]:
    """Returns a job's calls as trees.

    Raises:
        InputError: for calls that cannot be sent.
    """

    def refuse(value: Any) -> Any:
        raise wire.WireError(f"an argument of type {type(value).__name__} is not a plain value")

    def packed(call: Call) -> list[object]:
        if isinstance(call, str):
            return [call, False, {}]
        if not isinstance(call, (tuple, list)) or len(call) not in (2, 3):
            raise TypeError(f"{call!r:.80} does not have two or three parts")
        name, arguments = call[:2]
        options = call[2] if len(call) > 2 else {}
        if not isinstance(name, str) or isinstance(arguments, (str, bytes)):
            raise TypeError("a call begins with a name, and its arguments are a list or a tuple")
        if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
            raise TypeError("named arguments are a dictionary with strings as keys")
        if arguments is None:
            return [name, None, {}]
        trees = [wire.pack(value, refuse) for value in arguments]
        return [name, trees, {key: wire.pack(value, refuse) for key, value in options.items()}]

    try:
        return [packed(call) for call in job.calls]
    except (wire.WireError, TypeError, ValueError) as error:
        raise InputError(
            f"A call of the job cannot be sent: {error}.",
            "A call is an expression, or a name with a list of plain values and optionally a "
            "dictionary of named ones, or a name with None.",
        ) from None
