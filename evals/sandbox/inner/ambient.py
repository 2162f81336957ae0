"""Process state that a program and its tests expect to share, synchronized between two processes:
functions that the tests replaced (mocks, ``sys.stdout``), the environment, the state of ``random``,
the files in the working directory, warnings and log records.

Only tests that name such things pay for it (:func:`wanted`): before each request the tests' side
sends its changes, and after the answer it asks for the program's changes.
"""

from __future__ import annotations

import os
import random
import sys
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .namespaces import WORK

MAX_FILES = 500
MAX_BYTES = 2 << 20
# As they are before a test replaces them, which must not meet this module's own calls.
_open, _open_descriptor, _scandir, _utime = open, os.open, os.scandir, os.utime
_mkdir, _rmdir, _unlink, _getcwd, _chdir = os.mkdir, os.rmdir, os.unlink, os.getcwd, os.chdir
_isdir, _islink = os.path.isdir, os.path.islink
_OF_SYS = frozenset(("stdin", "stdout", "stderr", "argv"))
_NAMES: dict[str, frozenset[str]] = {
    "patches": frozenset(
        (
            *("patch", "setattr", "redirect_stdout", "redirect_stderr"),
            *("stdin", "stdout", "stderr", "argv", "monkeypatch"),
            *("capsys", "capsysbinary", "capfd", "capfdbinary"),
        )
    ),
    "environ": frozenset(("environ", "putenv", "getenv", "monkeypatch")),
    "folder": frozenset(("chdir",)),
    "random": frozenset(("seed", "setstate")),
    "files": frozenset(
        (
            *("open", "TemporaryDirectory", "NamedTemporaryFile", "mkdtemp", "mkstemp", "mkdir"),
            *("makedirs", "touch", "unlink", "remove", "rmtree", "write_text", "write_bytes"),
            *("read_text", "read_bytes", "exists", "isfile", "is_file", "listdir", "iterdir"),
            *("tmp_path", "tmp_path_factory", "tmpdir", "tmpdir_factory"),
        )
    ),
    "warnings": frozenset(
        (
            *("catch_warnings", "assertWarns", "assertWarnsRegex"),
            *("warns", "deprecated_call", "recwarn"),
        )
    ),
    "logs": frozenset(("assertLogs", "assertNoLogs", "addHandler", "caplog")),
}
# Arguments of tests that are fixtures of pytest.
FIXTURES = frozenset(
    (
        *("monkeypatch", "capsys", "capsysbinary", "capfd", "capfdbinary", "caplog", "recwarn"),
        *("tmp_path", "tmp_path_factory", "tmpdir", "tmpdir_factory"),
    )
)


def wanted(names: Collection[str], sets_attributes: bool) -> frozenset[str]:
    """The kinds of state to synchronize for tests that read these names."""
    found = {what for what, some in _NAMES.items() if not some.isdisjoint(names)}
    if sets_attributes:
        found.add("patches")
    return frozenset(found)


# --- files ------------------------------------------------------------------------------------


def _files() -> dict[str, tuple[int, int, bool]]:
    """Path -> size, time of change and whether it is a folder, below the working directory."""
    found: dict[str, tuple[int, int, bool]] = {}
    waiting = [WORK]
    while waiting:
        with _scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.name == ".shm" or len(found) >= MAX_FILES:
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                if not is_folder and not entry.is_file(follow_symlinks=False):
                    continue
                stat = entry.stat(follow_symlinks=False)
                name = os.path.relpath(entry.path, WORK)
                found[name] = (0, 0, True) if is_folder else (stat.st_size, stat.st_mtime_ns, False)
                if is_folder:
                    waiting.append(entry.path)
    return found


def _make_folder(path: str) -> None:
    if not _isdir(path):
        _make_folder(os.path.dirname(path))
        _mkdir(path)


class Files:
    """The files of one side."""

    def __init__(self) -> None:
        self._seen = _files()

    def changes(self) -> dict[str, Any]:
        """Changes since the last call: name -> content and time of change, True for a folder, None
        if deleted.
        """
        now = _files()
        changed: dict[str, Any] = {}
        size = 0
        for name, entry in now.items():
            if self._seen.get(name) == entry:
                continue
            if entry[2]:
                changed[name] = True
            elif size + entry[0] <= MAX_BYTES:
                size += entry[0]
                with _open(os.path.join(WORK, name), "rb") as file:
                    changed[name] = (file.read(MAX_BYTES), entry[1])
        changed.update(dict.fromkeys(self._seen.keys() - now.keys()))
        self._seen = now
        return changed

    def clear(self) -> None:
        """Removes all."""
        self.apply(dict.fromkeys(_files()))

    def apply(self, changed: dict[str, Any]) -> None:
        """Makes the other side's changes."""
        for name, content in sorted(changed.items()):
            parts = name.split("/")
            if type(name) is not str or "\0" in name or {"", ".", ".."} & set(parts):
                raise ValueError("a malformed name of a file")
            path = os.path.join(WORK, name)
            folder = os.path.dirname(path)
            if os.path.realpath(folder) != folder:
                raise ValueError("a folder that is a link")
            if content is True:
                _make_folder(path)
            elif content is not None:
                data, changed_at = content
                if type(data) is not bytes or type(changed_at) is not int:
                    raise ValueError("a malformed content of a file")
                _make_folder(folder)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
                with _open(_open_descriptor(path, flags, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    _utime(file.fileno(), ns=(changed_at, changed_at))
        for name in sorted((n for n, content in changed.items() if content is None), reverse=True):
            path = os.path.join(WORK, name)
            try:
                if _isdir(path) and not _islink(path):
                    _rmdir(path)
                else:
                    _unlink(path)
            except OSError:
                continue
        self._seen = _files()


# --- the tests' side --------------------------------------------------------------------------


class Surroundings:
    """The tests' side.

    Args:
        wants: see :func:`wanted`.
        names: the global names and attributes that the tests read.
        texts: the texts in their code; names of what they patch are among them.
    """

    def __init__(
        self, wants: frozenset[str], names: Collection[str], texts: Collection[str]
    ) -> None:
        self._wants = wants
        self._modules = dict(_modules(names, texts)) if "patches" in wants else {}
        self._originals = {name: _contents(m) for name, m in self._modules.items()}
        self._sent: dict[tuple[str, str], object] = {}
        self._bound: dict[str, object] = {}
        self._namespace: dict[str, object] = {}
        self._environ: dict[str, str] | None = None
        self._before = dict(os.environ)
        self._random: object = None
        self._files = Files() if "files" in wants and _getcwd() == WORK else None
        self._folder = _getcwd()
        self._text_names = {text.rpartition(".")[2] for text in texts}
        self._first = True

    def bind(self, namespace: dict[str, object], bound: dict[str, object]) -> None:
        """Sets the module of the tests and its names from the program, so that names replaced there
        are replaced in the program.
        """
        self._namespace, self._bound = namespace, dict(bound)

    def reset(self) -> None:
        """Reverts the changes of program and tests to the environment and to files."""
        os.environ.clear()
        os.environ.update(self._before)
        if self._files is not None:
            self._files.clear()

    def changes(self) -> dict[str, Any] | None:
        """The changes on this side; None if there are none."""
        told: dict[str, Any] = {}
        if patches := list(self._patches()):
            told["patches"] = patches
        if "environ" in self._wants:
            now = _without_pytest(os.environ)
            if self._environ != now:
                self._environ = told["environ"] = now
        if "random" in self._wants and self._random != random.getstate():
            self._random = told["random"] = random.getstate()
        if self._files is not None and (changed := self._files.changes()):
            told["files"] = changed
        if "folder" in self._wants and _getcwd() != self._folder:
            self._folder = told["folder"] = _getcwd()
        if self._first:
            told["watch"] = list(self._wants)
            self._first = False
        return told or None

    def _patches(self) -> Iterator[list[object]]:
        for module, original in self._originals.items():
            now = _contents(self._modules[module])
            for name, value in original.items():
                if module == "sys" and name not in _OF_SYS:
                    continue
                yield from self._patch(module, name, now.get(name), value)
        if "patches" in self._wants:
            for name, value in self._bound.items():
                now = dict.get(self._namespace, name)
                if name in getattr(self._namespace, "live", ()):
                    now = value  # as the program has it
                replaced = _is_replacement(now) or name in self._text_names
                if now is value or replaced or ("", name) in self._sent:
                    yield from self._patch("", name, now, value)

    def _patch(
        self, module: str, name: str, now: object, original: object
    ) -> Iterator[list[object]]:
        place = module, name
        if now is original:
            if self._sent.pop(place, original) is not original:
                yield [module, name, False, None]
        elif self._sent.get(place, original) is not now:
            self._sent[place] = now
            yield [module, name, True, now]

    def apply(self, told: dict[str, Any]) -> None:
        """Makes the changes of the program's side."""
        if "environ" in told and "environ" in self._wants:
            for name in _without_pytest(os.environ):
                del os.environ[name]
            self._environ = _without_pytest(told["environ"])
            os.environ.update(self._environ)
        if "random" in told and "random" in self._wants:
            random.setstate(told["random"])
            self._random = random.getstate()
        if "files" in told and self._files is not None:
            self._files.apply(told["files"])
        if "warnings" in told and "warnings" in self._wants:
            import warnings

            for kind, text in told["warnings"]:
                if isinstance(kind, type) and issubclass(kind, Warning):
                    warnings.warn(str(text), kind, stacklevel=4)
        if "logs" in told and "logs" in self._wants:
            import logging

            for name, level, text, least, extra in told["logs"]:
                logger = logging.getLogger(str(name))
                # The program's own level counts, unless the tests have set another.
                least = int(least) if logger.level == logging.NOTSET else 0
                if level >= least if least else logger.isEnabledFor(int(level)):
                    made = logger.makeRecord(
                        str(name), int(level), "program", 0, str(text), (), None, extra=extra
                    )
                    logger.handle(made)


def _without_pytest(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what pytest keeps there: the name of the test, with its parameters,
    and options.
    """
    return {name: text for name, text in environ.items() if not name.startswith("PYTEST_")}


def _is_replacement(value: object) -> bool:
    """Whether a value is a replacement for a function, such as a mock."""
    return callable(value) and type(value).__module__ in ("unittest.mock", "builtins")


def _modules(names: Collection[str], texts: Collection[str]) -> Iterator[tuple[str, object]]:
    """The modules and classes of the standard library in which tests may replace something."""
    yield "builtins", sys.modules["builtins"]
    yield "sys", sys
    found = {name for name in names if name in sys.stdlib_module_names}
    for text in texts:
        parts = text.split(".")
        if len(parts) > 1 and all(map(str.isidentifier, parts)):
            found.update(".".join(parts[:n]) for n in range(1, len(parts)))
    for name in sorted(found - {"builtins", "sys", "__main__", "antigravity", "this"}):
        if name.split(".")[0] not in sys.stdlib_module_names:
            continue
        try:
            owner = _owner(name)
        except (ImportError, AttributeError):
            continue
        if isinstance(owner, (types.ModuleType, type)):
            yield name, owner
        for inner in names if isinstance(owner, types.ModuleType) else ():
            if isinstance(vars(owner).get(inner), type):
                yield f"{name}.{inner}", vars(owner)[inner]


def _contents(owner: object) -> dict[str, object]:
    """What a module holds, or a class, with what it inherits."""
    owners = reversed(owner.__mro__) if isinstance(owner, type) else [owner]
    return {name: value for each in owners for name, value in vars(each).items()}


def _owner(name: str) -> object:
    """A module, or a class in one, by its name."""
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, inner = name.rpartition(".")
        if not module:
            raise
        return getattr(_owner(module), inner)


# --- the program's side -----------------------------------------------------------------------


class ProgramSurroundings:
    """The program's side.

    Args:
        namespace: the program's global names.
    """

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._watch: list[str] = []
        self._originals: dict[tuple[str, str], object] = {}
        self._environ: dict[str, str] = {}
        self._random: object = None
        self._files: Files | None = None
        self._warned: list[object] = []
        self._logged: list[object] = []

    def apply(self, told: dict[str, Any]) -> None:
        """Makes the changes of the tests' side."""
        if "watch" in told:
            self._begin(told["watch"])
        for module, name, is_set, value in told.get("patches", ()):
            self._patch(module, name, is_set, value)
        if "environ" in told:
            os.environ.clear()
            os.environ.update(told["environ"])
            self._environ = dict(os.environ)
        if "random" in told:
            random.setstate(told["random"])
            self._random = random.getstate()
        if "files" in told and self._files is not None:
            self._files.apply(told["files"])
        if "folder" in told:
            _chdir(told["folder"])

    def _begin(self, watch: list[str]) -> None:
        self._watch = watch
        self._environ = dict(os.environ)
        self._random = random.getstate()
        if "files" in watch and _getcwd() == WORK:
            self._files = Files()
        if "warnings" in watch:
            import warnings

            def show(message: object, category: object, *_: object, **__: object) -> None:
                self._warned.append([category, str(message)])

            warnings.simplefilter("always")
            warnings.showwarning = show
        if "logs" in watch:
            import logging

            logged = self._logged
            usual = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}

            class Handler(logging.Handler):
                def emit(self, record: logging.LogRecord) -> None:
                    least = logging.getLogger(record.name).level
                    extra = {k: v for k, v in vars(record).items() if k not in usual}
                    logged.append([record.name, record.levelno, record.getMessage(), least, extra])

            logging.root.addHandler(Handler())
            logging.root.setLevel(1)

    def _patch(self, module: str, name: str, is_set: bool, value: object) -> None:
        place = module, name
        if not module:
            original = self._originals.setdefault(place, self._namespace.get(name))
            self._namespace[name] = value if is_set else original
            return
        owner = _owner(module)
        original = self._originals.setdefault(place, _contents(owner).get(name))
        setattr(owner, name, value if is_set else original)

    def changes(self) -> dict[str, Any]:
        """The changes on this side since the last call."""
        told: dict[str, Any] = {}
        if "environ" in self._watch and self._environ != dict(os.environ):
            self._environ = told["environ"] = dict(os.environ)
        if "random" in self._watch and self._random != random.getstate():
            self._random = told["random"] = random.getstate()
        if self._files is not None and (changed := self._files.changes()):
            told["files"] = changed
        for what, items in (("warnings", self._warned), ("logs", self._logged)):
            if items:
                told[what] = list(items)
                items.clear()
        return told
