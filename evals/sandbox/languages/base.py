"""What a programming language is to the sandbox, and what of it is installed here.

A :class:`Language` is data, one small file each. A :class:`Toolchain` is a language as it was found
on this machine: where its compiler or interpreter is, which version, which directories a sandbox
has to show, and what was made once for all programs to share (a precompiled header, an archive of
classes).
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

from codegen.errors import MachineError
from codegen.evals.sandbox.inner.namespaces import TOOLCHAINS
from codegen.paths import cache_folder

from .source import Guard

# What every sandbox shows already; see launch._SYSTEM.
_SHOWN = ("/usr/lib", "/usr/bin", "/usr/local/lib", "/lib", "/bin")
_PROBE_S = 30
_PREPARE_S = 300

Names = Mapping[str, str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Language:
    """A programming language.

    In commands, ``{tool}`` is the place of a tool, ``{tool.home}`` the directory above that of its
    executable, ``{cache}`` the directory that :attr:`prepare`
    filled, ``{memory_mib}`` the job's limit, and any other name in braces what :attr:`names` gives
    for the program.

    Attributes:
        name, aliases: as in a job; the first is canonical.
        title: as its users write it.
        file: of the program in the working directory.
        tools: executables that must be there.
        install: Debian's packages of them.
        version: the command that prints a version.
        compile: commands of the first phase; none for an interpreter.
        keep: patterns of what they leave for the second phase.
        run: the command of the second phase.
        check: the command that looks for errors and runs nothing; its exit status tells.
        root: the command that prints the toolchain's own directory, ``{root}``, where the tool on
            the path only leads to it.
        shares: further paths of the host, with ``*``, that the tools read.
        environment: further variables of its commands.
        any_address: whether its runtime reserves far more address space than it uses, so that only
            resident memory is limited.
        own_proc: whether its runtime needs ``/proc/self``.
        comment: what begins a line that says nothing.
        stop: strings that can only begin something after the function that was asked for.
        answers: code that defines ``codegen_answer(value)``: it adds a line to the file of answers
            in which two values are the same text if they are equal. It comes before the program.
        answers_last: whether it comes behind the program instead.
        support: file -> text of what ``answers`` and ``guard`` need beside the program.
        closing: what may end a program, but has to go where tests follow.
        header: text that :attr:`prepare` compiles for all programs.
        guard: puts the statement that gives back the token at the end of what a program with its
            tests runs; see :mod:`..inner.foreign`.
        names: what further names in braces are for a program.
        prepare: makes what all programs share, once for each version of the tools.
    """

    name: str
    title: str
    file: str
    tools: tuple[str, ...]
    install: str
    version: tuple[str, ...]
    run: tuple[str, ...]
    check: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    compile: tuple[tuple[str, ...], ...] = ()
    keep: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    shares: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    any_address: bool = False
    own_proc: bool = False
    comment: str = "//"
    stop: tuple[str, ...] = ()
    answers: str = ""
    answers_last: bool = False
    support: Mapping[str, str] = field(default_factory=dict)
    closing: str = ""
    header: str = ""
    guard: Guard | None = None
    names: Callable[[str], Names] | None = None
    prepare: Callable[[Toolchain, Path], None] | None = None


class MissingToolchainError(MachineError):
    """A language's compiler or interpreter is not installed."""


@dataclass(frozen=True)
class Toolchain:
    """A language as it was found here.

    Attributes:
        language: what it is of.
        version: what its tool says, in one line.
        here: tool -> its path on this machine.
        tools: tool -> its path in a sandbox.
        binds: (path here, path in the sandbox).
    """

    language: Language
    version: str
    here: Names
    tools: Names
    binds: tuple[tuple[str, str], ...]

    @property
    def cache_here(self) -> Path:
        """Where what all programs share is kept on this machine."""
        language = self.language
        said = [self.version, *sorted(self.here.items()), language.compile, language.header]
        key = hashlib.sha256(repr(said).encode()).hexdigest()[:16]
        return cache_folder() / "languages" / f"{language.name}-{key}"

    @property
    def cache(self) -> str:
        """The same directory in a sandbox."""
        return f"{TOOLCHAINS}/{self.language.name}.cache"

    def prepared_binds(self) -> tuple[tuple[str, str], ...]:
        """All that a sandbox has to show; makes what programs share, the first time.

        Raises:
            MachineError: if that can't be made.
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
                        f"What programs in {self.language.title} share can't be made: {error}.",
                        f"Reinstall it: apt install {self.language.install}",
                    ) from None
                try:
                    made.rename(target)
                except OSError:  # another process was faster
                    if not target.is_dir():
                        raise
        return (*self.binds, (str(target), self.cache))


def run_tool(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """The output of a command of an installed toolchain, which is trusted as this program is.

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
def find_toolchain(language: Language) -> Toolchain:
    """What is installed of a language.

    Raises:
        MissingToolchainError: naming the package to install.
    """
    here: dict[str, str] = {}
    tools: dict[str, str] = {}
    binds: dict[str, str] = {}
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
        if path.is_relative_to("/usr/bin") or any(path.is_relative_to(p) for p in _SHOWN):
            tools[tool] = str(path)
            continue
        top = path.parent.parent if path.parent.name == "bin" else path.parent
        if str(top) != root and _holds_more(top):
            top = path
        inside = f"{TOOLCHAINS}/{language.name}-{hashlib.sha256(bytes(top)).hexdigest()[:8]}"
        binds[str(top)] = inside
        tools[tool] = inside if top == path else f"{inside}/{path.relative_to(top)}"
    for pattern in ("/etc/alternatives", *language.shares):
        for shared in sorted(Path("/").glob(pattern.lstrip("/"))):
            binds[str(shared)] = str(shared)
    if root is not None:
        above = max((top for top in binds if Path(root).is_relative_to(top)), key=len, default="")
        tools["root"] = binds[above] + root.removeprefix(above) if above else root
    tools |= {f"{tool}.home": str(Path(path).parent.parent) for tool, path in tools.items()}
    return Toolchain(language, _version(language, here), here, tools, tuple(binds.items()))


def _holds_more(top: Path) -> bool:
    """Whether a directory is no installation of a tool, but somebody's home, what is above one, or
    a directory in it where programs keep their data; of such a one only the tool itself is shown.
    """
    home = Path.home().resolve()
    own = (".ssh", ".gnupg", ".config", ".cache", ".profile", ".bashrc", ".bash_history")
    return (
        home.is_relative_to(top)
        or (top.parent == home and top.name.startswith("."))
        or any((top / name).exists() for name in own)
    )


def _root(found: str, language: Language) -> str:
    try:
        return run_tool(found, *language.root).strip().splitlines()[-1]
    except (OSError, subprocess.SubprocessError, IndexError):
        raise MissingToolchainError(
            f"{language.title} does not work here: {found} {' '.join(language.root)} failed.",
            f"Debian, Ubuntu: apt install {language.install}",
        ) from None


def _version(language: Language, here: Names) -> str:
    command = [fill(part, here) for part in language.version]
    try:
        lines = run_tool(*command).split("\n")
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingToolchainError(
            f"{language.title} does not work here: {error}.",
            f"Debian, Ubuntu: apt install {language.install}",
        ) from None
    return next((line.strip() for line in lines if line.strip()), "unknown version")


def fill(text: str, names: Names) -> str:
    """``text`` with the names in braces replaced; those that are unknown stay."""
    return re.sub(r"\{([\w.+-]+)\}", lambda found: names.get(found[1], found[0]), text)
