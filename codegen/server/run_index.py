"""Finds and describes the runs below a directory.

A run is recognized by the settings file that its command wrote (:mod:`codegen.core.runs`) and by
the file's keys, so another program's ``manifest.json`` is not mistaken for a run. Files are
untrusted: links are not followed, and a corrupt file counts as missing. No files are written or
locked.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from codegen.core.errors import InputError
from codegen.core.paths import open_plain
from codegen.core.runs import LOCK, flatten, is_locked

RunKind = Literal["quickstart", "training", "search", "data", "evaluation"]
State = Literal["running", "stopped", "done"]

_MOST_BYTES = 64 << 20
_MOST_FOLDERS = 20_000
# Directories of a run that contain no runs and may be large.
_INSIDE = ("model", "checkpoints", "state", "tokens")
_UNSHOWN = ("prompts_sha256", "fingerprint")


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        name: path, relative if the searched directory was.
        state: ``stopped`` if it is neither finished nor locked by a process.
        what: short description: task, data or model.
        when: latest modification time of its files, in seconds since 1970.
        bytes: total size of the directory.
        numbers: main results, the most important first.
        resume: command that resumes a stopped run.
    """

    name: str
    folder: Path
    kind: RunKind
    state: State
    what: str
    when: float
    bytes: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    resume: str = ""

    @property
    def result(self) -> str:
        """The main result with its name."""
        return next((f"{name} {shown_number(name, n)}" for name, n in self.numbers.items()), "")

    def to_json(self) -> dict[str, Any]:
        """Returns the run as JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass(frozen=True, slots=True)
class _Kind:
    """Kind of run, with its detection and description.

    Attributes:
        settings: possible settings files.
        holds: tuples of dotted keys; the file must have all keys of one tuple.
        done: files that mark a finished run; one of them suffices.
        locks: files locked by a process while it writes.
        describe: (settings, directory) -> description of the run, and its results.
        command: command that resumes the run; fields of the settings in braces.
    """

    name: RunKind
    settings: tuple[str, ...]
    holds: tuple[tuple[str, ...], ...]
    done: tuple[str, ...]
    locks: tuple[str, ...]
    describe: Callable[[Mapping[str, Any], Path], tuple[str, dict[str, float]]]
    command: str


def find_runs(places: Iterable[str | os.PathLike[str]]) -> list[Run]:
    """Finds the runs in and below directories, sorted by name.

    Raises:
        InputError: if a path is not a directory.
    """
    found: dict[Path, Run] = {}
    seen: set[Path] = set()
    for place in places:
        if not Path(place).is_dir():
            raise InputError(f"{os.fspath(place)} is not a directory.", "Pass a directory of runs.")
        waiting = [Path(place)]
        while waiting and len(seen) < _MOST_FOLDERS:
            folder = waiting.pop()
            if (real := folder.resolve()) in seen:
                continue
            seen.add(real)
            if run := read_run(folder):
                found[real] = run
            inside = _INSIDE if run and run.kind == "training" else ()
            waiting += (path for path in _folders(folder) if path.name not in inside)
    return sorted(found.values(), key=lambda run: run.name)


def _folders(folder: Path) -> Iterator[Path]:
    """Yields the subdirectories of a directory, except links and hidden ones."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith((".", "__")):
                yield folder / entry.name


def read_run(folder: str | os.PathLike[str]) -> Run | None:
    """Returns the run in a directory, None if absent."""
    folder = Path(folder)
    known = _kind_of(folder)
    if known is None:
        return None
    kind, settings = known
    what, numbers = kind.describe(settings, folder)
    is_running = any(is_locked(folder / name) for name in kind.locks)
    is_done = any((folder / name).is_file() for name in kind.done)
    state: State = "running" if is_running else "done" if is_done else "stopped"
    resume = ""
    if state == "stopped":
        task = _text(settings, "settings.task")
        resume = kind.command.format(out=shlex.quote(str(folder)), task=shlex.quote(task))
    size, when = _size(folder)
    name = os.path.normpath(folder)
    return Run(name, folder, kind.name, state, what, when, size, numbers, resume)


def settings_of(run: Run) -> dict[str, Any]:
    """Returns the settings of a run by dotted key."""
    known = _kind_of(run.folder)
    settings = known[1] if known else {}
    section = {"evaluation": "settings", "data": "run", "quickstart": "request"}.get(run.kind, "")
    inner = settings.get(section)
    flat = flatten(inner if isinstance(inner, dict) else settings)
    return {key: value for key, value in flat.items() if key not in _UNSHOWN}


def differing(one: Run, other: Run) -> dict[str, tuple[Any, Any]]:
    """Returns the settings that differ: key -> values in both runs, None if missing."""
    first, second = settings_of(one), settings_of(other)
    return {
        key: (first.get(key), second.get(key))
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    }


def shown_number(name: str, value: float) -> str:
    """Formats a result by its name: rates in percent, integers without decimals."""
    if name.startswith(("pass@", "best pass@", "accuracy")):
        return f"{100 * value:.1f}%"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def shown_size(count: float) -> str:
    """Formats a number of bytes with a unit: ``12.3 MB``."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} GB"


def shown_time(seconds: float) -> str:
    """Formats a time in seconds since 1970 as local time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")


def _kind_of(folder: Path) -> tuple[_Kind, dict[str, Any]] | None:
    for kind in _KINDS:
        for name in kind.settings:
            if not (folder / name).is_file():
                continue
            row = read_object(folder / name)
            if any(all(_dig(row, key) is not None for key in keys) for keys in kind.holds):
                return kind, row
    return None


def read_object(path: Path) -> dict[str, Any]:
    """Reads the JSON object of a file or of a journal's first line; empty if absent."""
    try:
        with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
            read = file.readline if path.suffix == ".jsonl" else file.read
            data = read(_MOST_BYTES)
        row = json.loads(data)
    except (OSError, ValueError, RecursionError, InputError):
        return {}
    return row if isinstance(row, dict) else {}


def _dig(row: Any, key: str) -> Any:
    for part in key.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row


def _text(row: Any, key: str) -> str:
    value = _dig(row, key)
    return value if isinstance(value, str) else ""


def _numbers(row: Any, keys: Mapping[str, str]) -> dict[str, float]:
    found = {name: _dig(row, key) for name, key in keys.items()}
    return {name: n for name, n in found.items() if type(n) in (int, float)}


def _size(folder: Path) -> tuple[int, float]:
    """Returns the total bytes and the latest modification time of all files in a directory."""
    size, when = 0, 0.0
    for here, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                found = Path(here, name).lstat()
                size += found.st_size
                when = max(when, found.st_mtime)
    return size, when


def _quickstart(plan: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, float]]:
    runs = read_object(folder / "report.json").get("runs")
    rates = [
        rate
        for run in (runs if isinstance(runs, list) else [])
        for rate in _numbers(run, {"pass@1": "score.estimates.1.value"}).values()
    ]
    what = f"{_text(plan, 'request.task')}, {_text(plan, 'request.model')}"
    return what, {"best pass@1": max(rates)} if rates else {}


def _training(recipe: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, float]]:
    result = read_object(folder / "train.json")
    curves = {
        "reward": _dig(result, "parts.reward"),
        "held-out loss": result.get("evaluations"),
        "loss": result.get("losses"),
    }
    numbers = {}
    for name, points in curves.items():
        last = points[-1] if isinstance(points, list) and points else None
        if isinstance(last, list) and len(last) == 2 and type(last[1]) in (int, float):
            numbers[name] = last[1]
    if type(steps := recipe.get("steps")) is int and steps:
        numbers["steps"] = steps
    objective = _text(recipe, "objective") or "sft"
    return f"{objective}, {_text(recipe, 'model')}", numbers


def _search(settings: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, float]]:
    result = read_object(folder / "result.json")
    numbers = _numbers(result, {"accuracy": "test.rate"})
    return f"{_text(settings, 'task')}, {_text(settings, 'model')}", numbers


def _data(manifest: Mapping[str, Any], _: Path) -> tuple[str, dict[str, float]]:
    source = _dig(manifest, "run.source") or {}
    spec = _text(source, "spec") or _text(source, "kind")
    what = f"{_text(manifest, 'run.generator')}, {spec}"
    keys = {"texts": "texts", "inputs": "counts.inputs", "kept": "counts.kept"}
    return what, _numbers(manifest, keys)


def _evaluation(settings: Mapping[str, Any], folder: Path) -> tuple[str, dict[str, float]]:
    score = read_object(folder / "score.json")
    task = _text(settings, "settings.task") or _text(score, "task")
    model = _text(settings, "settings.model") or _text(score, "settings.model")
    estimates = _dig(score, "estimates") or {}
    ks = sorted((k for k in estimates if k.isdecimal()), key=int) if estimates else []
    keys = {f"pass@{k}": f"estimates.{k}.value" for k in dict.fromkeys([*ks[:1], *ks[-1:]])}
    return f"{task}, {model or 'unknown model'}", _numbers(score, {**keys, "samples": "samples"})


_KINDS = (
    _Kind(
        "quickstart",
        ("plan.json",),
        (("request.task", "sizes"),),
        ("report.json",),
        (".lock",),
        _quickstart,
        "codegen quickstart --out {out}",
    ),
    _Kind(
        "training",
        ("recipe.json",),
        (("model", "steps", "learning_rate"),),
        ("train.json",),
        (".lock",),
        _training,
        "codegen finetune RECIPE -o output={out}",
    ),
    _Kind(
        "search",
        ("search.json",),
        (("task", "model", "candidates"),),
        ("result.json",),
        ("log.jsonl",),
        _search,
        "codegen cogex search ... --out {out}",
    ),
    _Kind(
        "data",
        ("manifest.json", ".partial/journal.jsonl"),
        (("run.generator", "run.source"),),
        ("manifest.json",),
        (".partial/journal.jsonl",),
        _data,
        "codegen data ... --out {out}",
    ),
    _Kind(
        "evaluation",
        ("run.json", "score.json"),
        (("settings.task", "settings.model"), ("task", "estimates", "statuses")),
        ("samples.jsonl", "score.json"),
        ("samples.partial.jsonl", LOCK),
        _evaluation,
        "codegen eval run {task} ... --out {out}",
    ),
)
