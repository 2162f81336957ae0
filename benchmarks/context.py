"""Other files of the workspace in the prompt: exact next lines, recall, cost of a key stroke.

What, with the embedded model, in a window of ``context`` tokens of which pieces of other files take
at most ``share`` (:mod:`codegen.server.workspace`):

- ``exact_gain``: by how much more of the next lines the first suggested line is the line that
  people wrote, with pieces of all kinds against none in the same window; ``similarity_gain`` the
  same for the edit similarity (1 - Levenshtein's distance over the longer one's length). Paired,
  with 95 % bootstrap intervals over repositories. Table ``lines``: for each kind of line
  (:mod:`context_cases`) and each choice of pieces (``none``, one kind alone, ``all``) exact,
  similarity and their gains.
- ``recall``: of lines of repositories with needed names, the share of these names whose definition
  is among the pieces of all kinds; ``recall_new`` of the names of a line that its file has nowhere
  else, the share that the pieces have. Neither depends on the model. Table ``found``: by kind of
  line and choice, with ``overlap``: instead of BM25 the pieces whose identifiers are most like
  those around the cursor (Jaccard), as llama.vim compares its chunks.
- ``keys``: lines are typed key by key with a request after each, as VS Code sends them, with pieces
  and without: tokens encoded a key, and wall and CPU time to the first answer and to the settled
  one, over the keys that the model answered; the first request of a document is not among them.
- ``index_ms_per_file``, ``choose_p50_ms``, ``choose_p95_ms``: CPU time of indexing and of choosing;
  ``index_bytes_per_char``: memory of an index over the text in it.

Repositories are the folders in ``repositories``, by default the pure Python distributions installed
in this environment; histories are in the folder of data sets. A repository's index holds its files
as they are, the line to predict included, but nothing of the file that is being edited is shown.

Limits: one small model that was not trained on prompts of several files; Python only; a file is
typed in the state in which it was published.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import os
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lsprotocol import types

from codegen.benchmarks.tools.context_cases import (
    KINDS,
    Case,
    history_cases,
    new_names,
    repository_cases,
)
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import clustered_mean
from codegen.errors import ConfigError
from codegen.evals.metrics.text import edit_distance
from codegen.generation import SamplingParams
from codegen.records import read_rows
from codegen.runs import Journal, RunDirectory
from codegen.server.pieces import KINDS as KINDS_OF_PIECES
from codegen.server.pieces import Kind, Place, words
from codegen.server.requests import CompletionRequest, DocumentKey, ServerLimits, Snippet
from codegen.server.session import Session
from codegen.server.workspace import Folder

if TYPE_CHECKING:
    from codegen.server.engine import CompletionEngine

CHOICES: dict[str, tuple[Kind, ...]] = {
    "none": (),
    "definitions": ("definitions",),
    "similar": ("similar",),
    "edits": ("edits",),
    "all": ("definitions", "edits", "similar"),
}
PARTS = ("recall", "exact", "keys")
_OF_REPOSITORIES = ("none", "definitions", "similar", "all")
_OF_HISTORIES = ("none", "edits", "similar", "all")
_LINE_TOKENS = 48
_CHARS_A_TOKEN = 3  # as the server counts
_MOST_FILES = 400  # per installed distribution
_TYPED_CHARS = 80  # per two lines


def run(
    quick: bool = False, *, seed: int = 0, parts: str = "recall,exact,keys", repositories: str = "",
    data: str = "", lines: int = 120, recall_lines: int = 1000, typed: int = 30,
    context: int = 1024, share: float = 0.25, out: str = "",
) -> Mapping[str, object]:  # fmt: skip
    """Measures.

    Args:
        quick: 1 line of each kind, 10 for recall, 1 place typed, in 3 repositories.
        seed: of all draws.
        parts: which of recall, exact and keys, separated by commas.
        repositories: a folder of folders of Python files.
        data: the folder of data sets; by default what CODEGEN_TEST_DATA names. Without it there are
            no lines of kind ``history``.
        lines: of each kind, for exact lines.
        recall_lines: of each kind, for recall.
        typed: places where two lines are typed.
        context: tokens of the window.
        share: most of them for pieces of other files.
        out: a folder for the results of single lines, from which a run is resumed.
    """
    import torch

    at_least(1, lines=lines, recall_lines=recall_lines, typed=typed)
    at_least(128, context=context)
    wanted = {part.strip() for part in parts.split(",")}
    if unknown := wanted - set(PARTS):
        raise ConfigError(f"Unknown parts {sorted(unknown)}.", f"There are: {', '.join(PARTS)}.")
    if quick:
        lines, recall_lines, typed = 1, 10, 1
    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "tree-sitter")
    folders = _folders(repositories, 3 if quick else 24)
    bench = _Bench(folders, data, seed, context, share)
    report.samples |= {"repositories": len(folders), "context": context, "share": share}
    report.notes.append("Repositories: " + ", ".join(sorted(folders)) + ".")
    if "recall" in wanted:
        bench.recall(report, recall_lines)
    if "exact" in wanted:
        bench.exact(report, lines, out)
    if "keys" in wanted:
        asyncio.run(bench.keys(report, typed))
    return report.mapping()


def _folders(given: str, most: int) -> dict[str, Path]:
    """Names and folders of repositories."""
    if given and not Path(given).is_dir():
        raise ConfigError(f"{given} is not a folder.", "Name the folder of the repositories.")
    if given:
        found = {path.name: path for path in sorted(Path(given).iterdir()) if path.is_dir()}
    else:
        found = dict(_installed())
    if not found:
        raise ConfigError(f"{given} holds no folders.", "Unpack each repository into one.")
    return dict(list(found.items())[:most])


def _installed() -> Iterable[tuple[str, Path]]:
    """Packages of the environment's distributions that hold enough Python files to try."""
    seen: dict[str, Path] = {}
    for one in distributions():
        files = [path for path in one.files or () if path.suffix == ".py"]
        tops = {path.parts[0] for path in files if len(path.parts) > 1}
        if 15 <= len(files) <= _MOST_FILES and len(tops) == 1:
            top = Path(str(one.locate_file(tops.pop())))
            if top.is_dir() and not top.is_symlink() and top.name.isidentifier():
                seen[f"{one.name} {one.version}"] = top
    return sorted(seen.items())


@dataclass(frozen=True, slots=True)
class _Shown:
    """A line with the pieces of other files that each choice shows."""

    case: Case
    snippets: dict[str, tuple[Snippet, ...]]


class _Bench:
    """Repositories with their indexes, and lines of them.

    Attributes:
        room: characters of pieces.
        index_ms: CPU time of indexing each repository, over its files.
        choose_ms: CPU time of each choice.
        memory: bytes of each index, over the characters in it.
    """

    def __init__(
        self, folders: dict[str, Path], data: str, seed: int, context: int, share: float
    ) -> None:
        self.folders, self.seed, self.context, self.share = folders, seed, context, share
        self.room = int(context * share * _CHARS_A_TOKEN)
        root = data or os.environ.get("CODEGEN_TEST_DATA", "")
        self.histories = Path(root, "next_edit") if root else None
        self.index_ms: list[float] = []
        self.choose_ms: list[float] = []
        self.memory: list[float] = []

    def shown(self, a_kind: int) -> Iterator[_Shown]:
        """Lines, so many of each kind, about as many of each repository as of the others."""
        rng = random.Random(self.seed)
        left: dict[str, int] = dict.fromkeys(KINDS, a_kind)
        each = -(-a_kind // len(self.folders))
        for path in self.folders.values():
            folder = self._indexed(path)
            for case in repository_cases(path, rng, each):
                if left[case.kind]:
                    left[case.kind] -= 1
                    place = Place(case.path, "python", case.prefix, case.suffix)
                    shown = {name: self._chosen(folder, place, name) for name in _OF_REPOSITORIES}
                    shown["overlap"] = overlap(path, place, self.room)
                    yield _Shown(case, shown)
            folder.index.close()
        if self.histories is not None:
            for case in history_cases(self.histories, rng, a_kind):
                yield _Shown(case, {name: self._beside(case, name) for name in _OF_HISTORIES})

    def _indexed(self, path: Path) -> Folder:
        began = time.process_time()
        folder = Folder(PurePosixPath(path))
        steps = 0
        while folder.busy:
            folder.step()
            steps += 1
        self.index_ms.append((time.process_time() - began) * 1e3 / steps)
        self.memory.append(folder.index.nbytes / max(1, folder.index.chars))
        return folder

    def _chosen(
        self, folder: Folder, place: Place, name: str, edited: Sequence[tuple[str, int]] = ()
    ) -> tuple[Snippet, ...]:
        began = time.process_time()
        found = folder.choose(place, CHOICES[name], self.room, edited)
        if name == "all":
            self.choose_ms.append((time.process_time() - began) * 1e3)
        folder.buffer(place.path, None, 0)  # the next choice begins with no pieces
        return found

    def _beside(self, case: Case, name: str) -> tuple[Snippet, ...]:
        """The choice where only one other file is there, which is open."""
        assert case.other is not None
        with TemporaryDirectory() as empty:
            folder = Folder(PurePosixPath(empty))
            folder.buffer(case.other.path, case.other.text, 1)
            place = Place(case.path, "python", case.prefix, case.suffix)
            edited = [(case.other.path, line) for line in case.other.lines]
            found = self._chosen(folder, place, name, edited)
            folder.index.close()
        return found

    # ------------------------------------------------------------------ recall

    def recall(self, report: Report, a_kind: int) -> None:
        """How often what a line needs is shown."""
        needed: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        new: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
        for shown in self.shown(a_kind):
            case = shown.case
            for choice, snippets in shown.snippets.items():
                texts = [snippet.text for snippet in snippets]
                for name in case.needed if case.kind != "history" else ():
                    defined = any(is_defined(name, text) for text in texts)
                    needed[case.kind, choice].append((defined, case.repository))
                count, found = new_names(case, texts)
                if count:
                    new[case.kind, choice].append((found / count, case.repository))
        table: dict[str, dict[str, dict[str, float | int]]] = defaultdict(dict)
        for rows, label in ((needed, "definition"), (new, "new_name")):
            for (kind, choice), values in rows.items():
                cell = table[kind].setdefault(choice, {})
                cell[label] = round(fmean(value for value, _ in values), 4)
                cell[f"{label}_n"] = len(values)
        report.figures["found"] = table
        for key, rows in (("recall", needed), ("recall_new", new)):
            values = [one for (_, choice), some in rows.items() if choice == "all" for one in some]
            if values:
                shares, repositories = [share for share, _ in values], [name for _, name in values]
                report.set(key, clustered_mean(shares, repositories), len(values))
        for key, values in (
            ("index_ms_per_file", self.index_ms),
            ("index_bytes_per_char", self.memory),
        ):
            report.set(key, fmean(values), len(values))
        times = sorted(self.choose_ms)
        report.set("choose_p50_ms", quantile(times, 0.5), len(times))
        report.set("choose_p95_ms", quantile(times, 0.95), len(times))
        say(f"recall of {sum(map(len, needed.values()))} names")

    # ------------------------------------------------------------------ exact lines

    def exact(self, report: Report, a_kind: int, out: str) -> None:
        """Predicts lines with each choice."""
        settings = {
            "seed": self.seed, "context": self.context, "share": self.share, "lines": a_kind,
            "repositories": sorted(self.folders),
        }  # fmt: skip
        with TemporaryDirectory() as temporary:
            directory = RunDirectory(Path(out or temporary), option="-o out")
            with directory.open("lines.jsonl") as journal:
                directory.claim(settings, begun=journal.size > 0)
                rows = [row for _, row in read_rows(journal.path)]
                known = {(row["name"], row["choice"]) for row in rows}
                asyncio.run(self._predict(journal, known, rows, a_kind))
        _tabulate(report, rows)

    async def _predict(
        self, journal: Journal, known: set[tuple[str, str]], rows: list[dict[str, Any]], a_kind: int
    ) -> None:
        engine = None
        for number, shown in enumerate(list(self.shown(a_kind)), 1):
            for choice, snippets in shown.snippets.items():
                if choice == "overlap" or (shown.case.name, choice) in known:
                    continue
                engine = engine or self._engine()
                row = await _predicted(engine, shown.case, choice, snippets, self.share)
                journal.append(json.dumps(row))
                rows.append(row)
            if number % 20 == 0:
                say(f"{number} lines")
        if engine is not None:
            engine.stop()

    def _engine(self) -> CompletionEngine:
        from codegen.models import load
        from codegen.server.engine import CompletionEngine
        from codegen.server.model import CompletionModel

        limits = ServerLimits(context_tokens=self.context)
        return CompletionEngine(CompletionModel(load("embedded"), limits=limits), limits)

    # ------------------------------------------------------------------ keys

    async def keys(self, report: Report, places: int) -> None:
        """Types lines, with pieces of other files and without."""
        engine = self._engine()
        rng = random.Random(self.seed)
        samples: dict[str, list[_Key]] = {"without": [], "with": []}
        left = places
        for name, path in self.folders.items():
            # Few repositories: each has to be indexed at the pace of the background.
            cases = repository_cases(path, rng, 4)[: min(left, 8)]
            left -= len(cases)
            session = Session(ServerLimits(context_tokens=self.context))
            session.use(engine)
            session.files.add(path.as_uri())
            while cases and not session.files.settled:
                await asyncio.sleep(0.1)
            for case in cases:
                for kind, keys in samples.items():
                    shown = list(KINDS_OF_PIECES) if kind == "with" else []
                    session.configure({"context": shown, "contextShare": self.share, "delayMs": 0})
                    keys += await _typed(session, path, case)
            session.files.close()
            say(f"{name}: {sum(map(len, samples.values()))} keys")
            if not left:
                break
        engine.stop()
        report.figures["keys"] = {name: _cost(keys) for name, keys in samples.items()}
        report.samples["typed_places"] = places - left


@dataclass(frozen=True, slots=True)
class _Key:
    """What an automatic request after a key cost, until its first answer and until it is settled,
    in milliseconds of wall and CPU time.
    """

    suggested: bool
    encoded: int
    first_ms: float
    first_cpu_ms: float
    settled_ms: float
    settled_cpu_ms: float


def _cost(keys: Sequence[_Key]) -> dict[str, float]:
    asked = [key for key in keys if not key.suggested]
    found: dict[str, float] = {"keys": len(keys), "answered_by_the_model": len(asked)}
    for what in ("encoded", "first_ms", "first_cpu_ms", "settled_ms", "settled_cpu_ms"):
        values = sorted(getattr(key, what) for key in asked)
        found[f"{what}_mean"] = round(fmean(values), 1)
        found[f"{what}_p50"] = round(quantile(values, 0.5), 1)
        found[f"{what}_p95"] = round(quantile(values, 0.95), 1)
    return found


async def _typed(session: Session, root: Path, case: Case) -> list[_Key]:
    """The keys of a line and of the one after it, typed where they were."""
    uri = (root / case.path).as_uri()
    session.open(uri, "python", 1, case.prefix + case.suffix)
    line, column = case.prefix.count("\n"), len(case.prefix.rpartition("\n")[2])
    after = case.suffix.lstrip("\n").partition("\n")[0]
    found: list[_Key] = []
    await _key(session, uri, line, column)  # encodes the whole window; the keys are what follows
    for char in f"{case.target}\n{after}"[:_TYPED_CHARS]:
        position = types.Position(line, column)
        change = types.TextDocumentContentChangePartial(types.Range(position, position), char)
        session.change(uri, 2, [change])
        line, column = (line + 1, 0) if char == "\n" else (line, column + 1)
        if (key := await _key(session, uri, line, column)) is not None:
            found.append(key)
    session.close(uri)
    return found


async def _key(session: Session, uri: str, line: int, column: int) -> _Key | None:
    session.on_settled = lambda *_: None
    began, cpu = time.perf_counter(), time.process_time()
    snapshot = session.snapshot(uri, types.Position(line, column), automatic=True)
    assert snapshot is not None
    answer = await session.complete(snapshot, automatic=True)
    first = time.perf_counter() - began, time.process_time() - cpu
    if answer is None:
        return None
    if session._settling:
        await asyncio.wait(set(session._settling))
    settled = time.perf_counter() - began, time.process_time() - cpu
    times = (1e3 * seconds for seconds in (*first, *settled))
    return _Key(answer.from_suggestion, answer.encoded, *times)


async def _predicted(
    engine: Any, case: Case, choice: str, snippets: tuple[Snippet, ...], share: float
) -> dict[str, Any]:
    """The first line suggested in a document of its own."""
    key = DocumentKey("bench", "", f"{case.name} {choice}")
    answer = await engine.complete(
        CompletionRequest(
            key, case.prefix, case.suffix, language="python", path=case.path, snippets=snippets,
            snippet_share=share, repository=case.repository.rpartition("/")[2],
            params=SamplingParams(max_new_tokens=_LINE_TOKENS), multiline="never",
        )
    )  # fmt: skip
    engine.close(key)
    line = answer.text.strip().partition("\n")[0].strip()
    longest = max(len(line), len(case.target))
    return {
        "name": case.name, "repository": case.repository, "kind": case.kind, "choice": choice,
        "pieces": len(snippets), "exact": line == case.target,
        "similarity": 1 - edit_distance(line, case.target) / longest, "line": line,
    }  # fmt: skip


def _tabulate(report: Report, rows: Sequence[dict[str, Any]]) -> None:
    """Means by kind of line and choice, and what each choice gains over none."""
    by_name: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_name[row["name"]][row["choice"]] = row
    table: dict[str, dict[str, Any]] = defaultdict(dict)
    for kind in (*KINDS, "cross-file", "every"):
        kinds = {"cross-file": ("first", "again", "history"), "every": KINDS}.get(kind, (kind,))
        lines = [some for some in by_name.values() if some["none"]["kind"] in kinds]
        for choice in CHOICES:
            both = [(some["none"], some[choice]) for some in lines if choice in some]
            if not both or (kind in ("cross-file", "every") and choice not in ("none", "all")):
                continue
            cell: dict[str, Any] = {"n": len(both)}
            repositories = [one["repository"] for one, _ in both]
            for label in ("exact", "similarity"):
                cell[label] = round(fmean(float(one[label]) for _, one in both), 4)
                gains = [float(one[label]) - float(none[label]) for none, one in both]
                if choice != "none":
                    gain = clustered_mean(gains, repositories)
                    cell[f"{label}_gain"] = [None if x is None else round(x, 4) for x in gain]
                    if kind == "every":
                        report.set(f"{label}_gain", gain, len(both))
            table[kind][choice] = cell
    report.figures["lines"] = table


def overlap(root: Path, place: Place, room: int) -> tuple[Snippet, ...]:
    """Pieces of other files by the Jaccard index of their words with those around the cursor."""
    around = [*place.prefix.splitlines()[-16:], *place.suffix.splitlines()[:4]]
    wanted = set(words("\n".join(around)))
    found: list[tuple[float, str, str]] = []
    for path, text, known in _windows(root):
        if path != place.path:
            found.append((len(wanted & known) / max(1, len(wanted | known)), path, text))
    chosen: list[Snippet] = []
    for _, path, text in heapq.nlargest(3, found):
        room -= len(path) + len(text)
        if room >= 0:
            chosen.append(Snippet(path, text))
    return tuple(chosen)


@lru_cache(maxsize=1)
def _windows(root: Path) -> list[tuple[str, str, set[str]]]:
    found = []
    for path in sorted(root.rglob("*.py")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for at in range(0, len(lines), 12):
            text = "".join(lines[at : at + 12]).strip("\n")
            found.append((path.relative_to(root).as_posix(), text, set(words(text))))
    return found


def is_defined(name: str, text: str) -> bool:
    """Whether a piece holds the definition of a name."""
    name = re.escape(name)
    pattern = (
        rf"(?m)^\s*(?:(?:async )?def|class) {name}\b|^\s*{name}\s*(?::[^=\n]+)?=[^=]|^\s*{name}: "
    )
    return re.search(pattern, text) is not None


def quantile(ordered: Sequence[float], share: float) -> float:
    """A value that so large a share of the values does not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
