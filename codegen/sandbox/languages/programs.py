"""Turns a job in another language into commands for the sandbox: to compile it, if the language is
compiled (once for all jobs with the same source), and to run it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import marshal
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codegen.core.errors import InputError, SandboxError
from codegen.sandbox.jobs import Job, Limits, Outcome, ScriptJob
from codegen.sandbox.protocol.orders import FOREIGN

from .base import Toolchain, fill

if TYPE_CHECKING:
    from codegen.sandbox.pool import Done, PendingJob, Pool

# Larger than any machine's memory, for runtimes that are limited only by resident memory.
ANY_ADDRESS_MIB = 1 << 24
# Bounds a native program's memory growth between two checks.
_ADDRESS_FACTOR = 4
# A program may make its compiler loop or fill memory and disk.
COMPILE = Limits(cpu_s=20.0, memory_mib=1024, output_bytes=64 << 20, file_mib=64)
MOST_SOURCE = 2_000_000  # characters
_MOST_KEPT = 256 << 20  # bytes of recent builds
_NOTHING = ("/usr/bin/true",)
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
}


# Replaces /dev/stdin, a link that only the job's first process may follow, in programs. The equal
# length preserves positions in the source.
INPUT = "/tmp/stdin"


@dataclass(frozen=True)
class CommandJob:
    """Instructions for the first process of a job; see :mod:`..program_side.command_job`.

    Attributes:
        mode, files, commands, environment, keep, fetch, fetch_bytes: as in that module.
        address_mib: address space of each process.
        copies_input: whether the first process copies its standard input to :data:`INPUT`.
    """

    mode: str
    files: Mapping[str, bytes]
    commands: Sequence[Sequence[str]]
    environment: Mapping[str, str]
    keep: Sequence[str] = ()
    fetch: Sequence[str] = ()
    fetch_bytes: int = 0
    address_mib: int = ANY_ADDRESS_MIB
    copies_input: bool = False

    def payload(self, token: str) -> bytes:
        """Returns the process's input."""
        order = {
            "mode": self.mode,
            "files": dict(self.files),
            "commands": [list(command) for command in self.commands],
            "environment": dict(self.environment),
            "keep": list(self.keep),
            "fetch": list(self.fetch),
            "fetch_bytes": self.fetch_bytes,
            "token": token,
            "copy_input_to": INPUT if self.copies_input else "",
        }
        return FOREIGN + marshal.dumps(order)


@dataclass(frozen=True)
class TestedProgram:
    """A job's program together with its tests.

    Attributes:
        source: the program's source with its tests.
    """

    toolchain: Toolchain
    job: Job | ScriptJob
    source: str

    @property
    def build(self) -> CommandJob | None:
        """The command that compiles the program; None for an interpreter. It prints the compiled
        files as JSON.
        """
        language = self.toolchain.language
        if not language.compile:
            return None
        return CommandJob(
            "stdio",
            self._files,
            self._filled(language.compile),
            self._environment,
            keep=language.keep,
        )

    @property
    def check(self) -> CommandJob:
        """The command that checks the program for errors without running it."""
        language = self.toolchain.language
        # The checker runs as the compiler of a program that does nothing.
        commands = self._filled([language.check, _NOTHING])
        return CommandJob("stdio", self._files, commands, self._environment)

    def run(self, built: Mapping[str, bytes]) -> CommandJob:
        """Returns the command that runs the program, with the files of its build."""
        job, language, memory_mib = self.job, self.toolchain.language, self.job.limits.memory_mib
        files = built if language.compile else self._files
        script = job if isinstance(job, ScriptJob) else None
        return CommandJob(
            job.mode,
            {**script.files, **files} if script else files,
            self._filled([language.run]),
            self._environment,
            fetch=script.fetch if script else (),
            fetch_bytes=job.limits.file_mib << 19,
            address_mib=ANY_ADDRESS_MIB if language.any_address else _ADDRESS_FACTOR * memory_mib,
            copies_input=INPUT in self.source,
        )

    @functools.cached_property
    def key(self) -> str:
        """Hash of everything that affects the build."""
        said = [self.toolchain.cache, self.toolchain.version, sorted(self._files.items())]
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @functools.cached_property
    def _names(self) -> dict[str, str]:
        toolchain, language = self.toolchain, self.toolchain.language
        own = language.names(self.source) if language.names else {}
        names = {"memory_mib": str(self.job.limits.memory_mib), "cache": toolchain.cache}
        plain = self.job.mode in ("stdio", "run")
        support = "" if plain else " ".join(language.support)
        return {**names, **toolchain.tools, "support": support, **own}

    @functools.cached_property
    def _files(self) -> dict[str, bytes]:
        language, names = self.toolchain.language, self._names
        files = {fill(language.file, names): self.source}
        if names["support"]:
            files |= {name: fill(text, names) for name, text in language.support.items()}
        own = {name: text.encode("utf-8", "surrogatepass") for name, text in files.items()}
        return {**(self.job.files if isinstance(self.job, ScriptJob) else {}), **own}

    @property
    def _environment(self) -> dict[str, str]:
        own = self.toolchain.language.environment
        return {**_ENVIRONMENT, **{key: fill(text, self._names) for key, text in own.items()}}

    def _filled(self, commands: Sequence[Sequence[str]]) -> list[list[str]]:
        filled = [[fill(part, self._names) for part in command] for command in commands]
        return [[part for part in command if part] for command in filled]


def program_of(job: Job | ScriptJob, toolchain: Toolchain) -> TestedProgram:
    """Returns a job's program with its tests and their requirements.

    Raises:
        InputError: for a job that its language does not support.
    """
    language, source = toolchain.language, job.program
    length = len(source) + (len(job.test) if isinstance(job, Job) else 0)
    if length > MOST_SOURCE:
        raise InputError(
            f"The program is too long: {length} characters.",
            f"At most {MOST_SOURCE} characters are allowed.",
        )
    if job.mode in ("isolated", "in_sandbox") and language.closing:
        source = source.rstrip().removesuffix(language.closing)
    if isinstance(job, Job) and job.mode == "isolated" and (language.answers or language.support):
        parts = [source, job.test]
        parts.insert(2 if language.answers_last else 0, language.answers)
        source = "\n".join(part for part in parts if part)
    elif isinstance(job, Job) and job.mode == "in_sandbox" and language.guard is not None:
        source = language.guard(source, job.test)
    elif job.mode not in ("stdio", "run"):
        raise InputError(
            f"The sandbox does not run programs in {language.title} in mode {job.mode}.",
            "Every language supports the mode stdio, most support isolated and in_sandbox.",
        )
    else:
        source = source.replace("/dev/stdin", INPUT)
    return TestedProgram(toolchain, job, source)


def build_job(source: str, language: str) -> Job:
    """Returns the job that compiles or checks a program, with separate limits."""
    return Job(source, mode="stdio", expected_stdout=None, limits=COMPILE, language=language)


def built_files(output: str) -> dict[str, bytes]:
    """Returns the files of a build, by name, from its untrusted output.

    Raises:
        ValueError: if it is malformed.
    """
    row = json.loads(output)
    if not isinstance(row, dict) or any("/" in name or name.startswith(".") for name in row):
        raise ValueError("not a build's files")
    return {name: base64.b64decode(content, validate=True) for name, content in row.items()}


class Builds:
    """A cache of recent builds by content, and the jobs waiting for a compiler."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, dict[str, bytes]] = OrderedDict()
        self._bytes = 0
        self._waiting: dict[str, list[tuple[TestedProgram, PendingJob]]] = {}

    def submit(self, pool: Pool, program: TestedProgram, done: Done) -> PendingJob:
        """Queues a program, or its build first; ``done`` is called once with the outcome, in the
        pool's thread.
        """
        build = program.build
        task = pool.task(program.job, done)
        with self._lock:
            files = {} if build is None else self._files.get(program.key)
            if files is None:
                waiting = self._waiting.setdefault(program.key, [])
                waiting.append((program, task))
                if len(waiting) > 1:
                    return task
            elif build is not None:
                self._files.move_to_end(program.key)
        if files is None:

            def built(outcome: Outcome | SandboxError) -> None:
                self._built(pool, program.key, outcome)

            pool.enqueue(pool.task(build_job(program.source, program.job.language), built, build))
        else:
            task.command = program.run(files)
            pool.enqueue(task)
        return task

    def _built(self, pool: Pool, key: str, outcome: Outcome | SandboxError) -> None:
        failed = files = None
        if isinstance(outcome, SandboxError):
            failed = outcome
        else:
            try:
                files = built_files(outcome.stdout) if outcome.passed else None
            except (ValueError, TypeError, RecursionError):
                outcome = replace(outcome, message="the compiler's output files are unreadable")
            failed = None if files else _not_built(outcome)
        with self._lock:
            if files:
                self._put(key, files)
            waiting = self._waiting.pop(key)
        for place, (program, task) in enumerate(waiting):
            if isinstance(failed, SandboxError):
                task.done(failed)
            elif failed is not None:
                task.done(replace(failed, trust=program.job.trust))
            else:
                assert isinstance(outcome, Outcome) and files is not None
                task.compile_s = 0.0 if place else outcome.cpu_s
                task.command = program.run(files)
                pool.enqueue(task)

    def _put(self, key: str, files: dict[str, bytes]) -> None:
        """Stores a build's files, and evicts the least recently used builds."""
        self._files[key] = files
        self._bytes += sum(map(len, files.values()))
        while self._bytes > _MOST_KEPT and len(self._files) > 1:
            _, dropped = self._files.popitem(last=False)
            self._bytes -= sum(map(len, dropped.values()))


def _not_built(outcome: Outcome) -> Outcome:
    """Returns the outcome of jobs whose compiler failed."""
    if outcome.status == "infra_error":
        return outcome
    message = outcome.message
    if outcome.status not in ("compile_error", "passed"):
        message = f"the compiler ended with {outcome.status}: {message}"
    figures = {"cpu_s": 0.0, "stdout": "", "compile_s": outcome.cpu_s}
    return replace(outcome, status="compile_error", message=message, **figures)
