"""Programming languages of the sandbox, and their installed toolchains.

A :class:`SandboxLanguage` is data. A :class:`Toolchain` is a language as installed on this
machine: the paths of its compiler or interpreter, their version, the directories that a sandbox
must mount, and files that all programs share (a precompiled header, an archive of classes).

Programs are untrusted, so each regex on them takes linear time: repetitions that may begin anywhere
are bounded, or extend to the end of the text if they are not closed.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from codegen.core import languages
from codegen.core.errors import InputError, MachineError
from codegen.core.paths import cache_folder
from codegen.sandbox.isolation.namespaces import TOOLCHAINS

# Combines a program and its tests.
Guard = Callable[[str, str], str]

# Mounted in every sandbox; see launch._SYSTEM.
_SHOWN = ("/usr/lib", "/usr/bin", "/usr/local/lib", "/lib", "/bin")
_PREPARE_S = 300

Names = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class SandboxLanguage:
    """A programming language.

    In commands, ``{tool}`` is the path of a tool, ``{tool.home}`` the parent of its executable's
    directory, ``{cache}`` the directory that :attr:`prepare` filled, ``{memory_mib}`` the job's
    limit; :attr:`names` returns other names for a program.

    Attributes:
        name: name in :data:`codegen.core.languages.LANGUAGES`.
        file: the program's file in the working directory.
        tools: required executables.
        install: Debian packages of the tools.
        version: command that prints a version.
        compile: commands that compile; empty for an interpreter.
        keep: patterns of the compiled files.
        run: command that runs a program.
        check: command that checks for errors without running; its exit status reports errors.
        root: command that prints the toolchain's directory, ``{root}``, if the tool on the path is
            only a link to it.
        shares: other paths of the host, with ``*``, that the tools read.
        environment: extra variables of its commands.
        any_address: whether its runtime reserves far more address space than it uses, so that only
            resident memory is limited.
        stop: strings that can only follow the requested function.
        answers: code that defines ``codegen_answer(value)``: it appends a line to the answers
            file; equal values produce equal lines. It comes before the program.
        answers_last: whether it comes after the program instead.
        support: file -> content of other files that ``answers`` and ``guard`` need.
        closing: an optional end of a program that must be removed if tests follow.
        header: text that :attr:`prepare` compiles for all programs.
        guard: inserts the statement that returns the token at the end of a program with its tests;
            see :mod:`..program_side.command_job`.
        names: other names in braces for a program.
        prepare: creates the files that all programs share, once per version of the tools.
        known_as: title and comment of another package's language; by default from the table.
    """

    name: str
    file: str
    tools: tuple[str, ...]
    install: str
    version: tuple[str, ...]
    run: tuple[str, ...]
    check: tuple[str, ...]
    compile: tuple[tuple[str, ...], ...] = ()
    keep: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    any_address: bool = False
    stop: tuple[str, ...] = ()
    answers: str = ""
    answers_last: bool = False
    support: Mapping[str, str] = field(default_factory=dict)
    closing: str = ""
    header: str = ""
    guard: Guard | None = None
    names: Callable[[str], Names] | None = None
    prepare: Callable[[Toolchain, Path], None] | None = None
    known_as: languages.Language | None = None

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names of the language."""
        return self._about.aliases

    @property
    def title(self) -> str:
        """Name of the language in messages."""
        return self._about.title

    @property
    def comment(self) -> str:
        """The prefix of a comment line."""
        return self._about.comment

    @property
    def _about(self) -> languages.Language:
        return self.known_as or languages.LANGUAGES[self.name]


def support(name: str) -> str:
    """Returns the text of a file in the directory ``support``."""
    return Path(__file__).with_name("support").joinpath(name).read_text("utf-8")


class MissingToolchainError(MachineError):
    """A language's compiler or interpreter is not installed."""


@dataclass(frozen=True)
class Toolchain:
    """Installation of a language on this machine.

    Attributes:
        here: tool -> its path on this machine.
        tools: tool -> its path in a sandbox.
        binds: (path here, path in the sandbox).
    """

    language: SandboxLanguage
    version: str
    here: Names
    tools: Names
    binds: tuple[tuple[str, str], ...]

    @property
    def cache_here(self) -> Path:
        """The directory of shared files on this machine."""
        language = self.language
        said = [self.version, *sorted(self.here.items()), language.compile, language.header]
        key = hashlib.sha256(repr(said).encode()).hexdigest()[:16]
        return cache_folder() / "languages" / f"{language.name}-{key}"

    @property
    def cache(self) -> str:
        """The same directory in a sandbox."""
        return f"{TOOLCHAINS}/{self.language.name}.cache"

    def prepared_binds(self) -> tuple[tuple[str, str], ...]:
        """Returns all paths to mount; creates the shared files the first time.

        Raises:
            MachineError: if they cannot be created.
        """
        prepare = self.language.prepare
        if prepare is None:
            return self.binds
        target = self.cache_here
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as work:
                made = Path(work, "made")
                made.mkdir(mode=0o755)
                try:
                    prepare(self, made)
                except (OSError, subprocess.SubprocessError) as error:
                    raise MachineError(
                        f"The shared files for {self.language.title} cannot be created: {error}.",
                        f"Reinstall it: apt install {self.language.install}",
                    ) from None
                try:
                    made.rename(target)
                except OSError:  # another process created it first
                    if not target.is_dir():
                        raise
        return (*self.binds, (str(target), self.cache))


def run_tool(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """Runs a command of an installed, trusted toolchain and returns its output.

    Raises:
        OSError, subprocess.SubprocessError: if it fails.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_PREPARE_S,
        check=True,
    )
    return done.stdout + done.stderr


@functools.lru_cache(maxsize=64)
def find_toolchain(language: SandboxLanguage) -> Toolchain:
    """Finds the installed toolchain of a language.

    Raises:
        MissingToolchainError: if a tool is missing or fails; names the package to install.
    """
    here: dict[str, str] = {}
    tools: dict[str, str] = {}
    binds: dict[str, str] = {}
    patterns = [pattern.lstrip("/") for pattern in ("/etc/alternatives", *language.shares)]
    shared = sorted(str(path) for pattern in patterns for path in Path("/").glob(pattern))
    root = None
    for tool in language.tools:
        found = shutil.which(tool)
        if found is None:
            raise MissingToolchainError(
                f"{language.title} is not installed here ({tool} is not on the PATH).",
                f"Debian, Ubuntu: apt install {language.install}",
            )
        if language.root and root is None:
            root = _root(found, language)
        path = Path(found)
        if root is not None and Path(root, "bin", tool).is_file():
            path = Path(root, "bin", tool)
        path = path.resolve()
        here[tool] = str(path)
        if any(path.is_relative_to(shown) for shown in (*_SHOWN, *shared)):
            tools[tool] = str(path)
            continue
        top = path.parent.parent if path.parent.name == "bin" else path.parent
        if str(top) != root and _holds_more(top):
            top = path
        inside = f"{TOOLCHAINS}/{language.name}-{hashlib.sha256(bytes(top)).hexdigest()[:8]}"
        binds[str(top)] = inside
        tools[tool] = inside if top == path else f"{inside}/{path.relative_to(top)}"
    binds |= {path: path for path in shared}
    if root is not None:
        above = max((top for top in binds if Path(root).is_relative_to(top)), key=len, default="")
        tools["root"] = binds[above] + root.removeprefix(above) if above else root
    tools |= _homes(tools)
    return Toolchain(language, _version(language, here), here, tools, tuple(binds.items()))


def _holds_more(top: Path) -> bool:
    """Returns True if a directory has more than a tool's installation: a home directory, its
    parent, or a data directory in it. Then only the tool itself is mounted.
    """
    home = Path.home().resolve()
    own = (".ssh", ".gnupg", ".config", ".cache", ".profile", ".bashrc", ".bash_history")
    return (
        home.is_relative_to(top)
        or (top.parent == home and top.name.startswith("."))
        or any((top / name).exists() for name in own)
    )


def _root(found: str, language: SandboxLanguage) -> str:
    try:
        return run_tool(found, *language.root).strip().splitlines()[-1]
    except (OSError, subprocess.SubprocessError, IndexError):
        raise MissingToolchainError(
            f"{language.title} does not work here: {found} {' '.join(language.root)} failed.",
            f"Debian, Ubuntu: apt install {language.install}",
        ) from None


def _homes(tools: Names) -> Names:
    return {f"{tool}.home": str(Path(path).parent.parent) for tool, path in tools.items()}


def _version(language: SandboxLanguage, here: Names) -> str:
    command = [fill(part, {**here, **_homes(here)}) for part in language.version]
    try:
        lines = run_tool(*command).split("\n")
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingToolchainError(
            f"{language.title} does not work here: {error}.",
            f"Debian, Ubuntu: apt install {language.install}",
        ) from None
    return next((line.strip() for line in lines if line.strip()), "unknown version")


def fill(text: str, names: Names) -> str:
    """Replaces the names in braces in ``text``; unknown names stay."""
    return re.sub(r"\{([\w.+-]+)\}", lambda found: names.get(found[1], found[0]), text)


_NO_CODE = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)"  # comments
    r'|R"([^\s()\\]{0,16})\(.*?(?:\)\1"|\Z)'  # raw strings of C++
    r'|"(?:\\.|[^"\\\n])*+(?:"|(?P<open>))|`[^`]*`'  # strings; an unclosed quote begins no string
    r"|'(?:\\(?:[^\n]|u\{?[0-9a-fA-F]+\}?|x[0-9a-fA-F]+)|[^\\'\n])'",  # one character
    re.DOTALL,
)


# Statements that we append to a tested program.
_WITH_TESTS = re.compile(r"CodegenAnswers\.|codegen_answer|CODEGEN_TOKEN")
_RETURN = re.compile(r"\breturn\b[^;{}]*;\s*")


def masked(text: str) -> str:
    """Blanks comments, strings and character literals in ``text``, keeping positions."""

    def blank(found: re.Match[str]) -> str:
        return found[0] if found["open"] is not None else re.sub(r"[^\n]", " ", found[0])

    return _NO_CODE.sub(blank, text)


def closing_brace(code: str, opening: int) -> int:
    """Returns the index of the brace that closes ``opening``, in masked code; -1 if none."""
    depth = 0
    for found in re.compile(r"[{}]").finditer(code, opening):
        depth += 1 if found[0] == "{" else -1
        if depth == 0:
            return found.start()
    return -1


def appended(statement: str) -> Guard:
    """Returns a guard that appends a statement to the tests."""
    return lambda program, test: f"{program}\n{test}\n{statement}\n"


def in_main(head: str, statement: str, first: str = "") -> Guard:
    """Returns a guard for the last function that ``head`` matches: it inserts ``first`` at the
    beginning and a statement at the end, before the final ``return``.

    If the tests have such a function, the program cannot switch to another one. Some tests are only
    the end of a function that the program begins.
    """
    pattern = re.compile(head)

    def body(code: str) -> tuple[int, int] | None:
        """Returns the span of the last such function's body, in masked code."""
        heads = list(pattern.finditer(code))
        end = closing_brace(code, heads[-1].end() - 1) if heads else -1
        return (heads[-1].end(), end) if end >= 0 else None

    def guard(program: str, test: str) -> str:
        before, text, code = f"{program}\n", test, masked(test)
        found = body(code)
        if found is None:
            before, text, code = "", f"{program}\n{test}", masked(f"{program}\n{test}")
            found = body(code)
        if found is None:
            raise InputError(
                "The test of a job in mode in_sandbox has no main function that returns.",
                "End main with a return, so that the verdict does not depend on the exit status.",
            )
        start, end = found
        last = code.rfind("return", start, end)
        at = last if last >= 0 and _RETURN.fullmatch(code, last, end) else end
        return f"{before}{text[:start]}{first}{text[start:at]}\n{statement}\n{text[at:]}"

    return guard


def main_of(head: str, source: str) -> re.Match[str] | None:
    """Returns the ``main`` that runs: the last one if tests follow the program, else the first."""
    heads = list(re.finditer(head, source))
    return heads[-1 if _WITH_TESTS.search(source) else 0] if heads else None
