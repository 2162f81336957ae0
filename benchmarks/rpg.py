"""RPG: false penalties on real code, cost per token, and loops with and without it.

``false_positive_rate`` is the fraction of line boundaries in real code (files of the standard
library and of the installed packages, sampled at random) where mode ``ours`` would penalize the
actual next token, the line's first that is not whitespace; ``..._stdlib`` and ``..._packages`` are
its two halves, ``..._tokens`` is the fraction of all tokens; ``paper_false_positive_rate`` is the
paper's rule on the same files. ``loops_stopped``: of loops whose copies contain something new
(``data/loops.yaml``), the fraction where the mode lowers the beginning of the next copy by 4 nats
within 24 copies; ``..._counted`` where the copies count up, ``..._worded_blocks`` and
``..._worded_rows`` where each has a new word, in blocks of statements or in single ones;
``..._copies`` is the median number of copies until then. ``us_per_token`` is CPU microseconds to
follow a token and compute its penalties, on the same code in the embedded model's tokens, with
``paper_us_per_token`` and, as a floor, ``lexer_us_per_token``, the structure tracker alone.

Limit: the rule was developed on files of the standard library, but not of the packages.
Repetitive prompts (CodeRepetEval) are a task: ``codegen eval run coderepeteval``.
"""

from __future__ import annotations

import random
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.benchmarks.tools.loops import loops, stopped_after
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import DRAWS, Estimate, rate
from codegen.decoding.rpg import RpgOptions

if TYPE_CHECKING:
    from codegen.decoding.rpg.methods import Method

_TIMED = 60  # files, for the cost


@options(quick={"boundaries": 6_000})
def run(
    *, boundaries: int = 60_000, model: str = "embedded", seed: int = 0
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        boundaries: number of line boundaries in real code, half from each source.
        model: the model whose tokens are used.
        seed: seed of all samples.
    """
    at_least(100, boundaries=boundaries)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "tokenizers")
    from codegen.decoding.healing import Vocabulary
    from codegen.decoding.rpg.methods import Method
    from codegen.models import load

    tokenizer = load(model).tokenizer
    tokens = Vocabulary.of(tokenizer).tokens
    make = {mode: Method.of(RpgOptions(mode=mode), tokens, {0}) for mode in ("ours", "paper")}
    files = _draw(tokenizer, boundaries, seed)
    _false_positives(report, files, make, seed)
    _loops(report, tokenizer, tokens)
    _costs(report, files[:: max(1, len(files) // _TIMED)], make, seed)
    return report.mapping()


@dataclass(frozen=True, slots=True)
class _File:
    """A file as tokens; ``first`` marks the first token of each nonblank line."""

    source: str
    ids: list[int]
    texts: list[bytes]
    first: list[bool]


def _draw(tokenizer: Any, boundaries: int, seed: int) -> list[_File]:
    from codegen.decoding.healing import Vocabulary

    tokens = Vocabulary.of(tokenizer).tokens
    roots = {"stdlib": sysconfig.get_path("stdlib"), "packages": sysconfig.get_path("purelib")}
    found: list[_File] = []
    for source, root in roots.items():
        paths = [
            path
            for path in sorted(Path(root).rglob("*.py"))
            if source == "packages" or "site-packages" not in path.parts
        ]
        random.Random(seed).shuffle(paths)
        left = boundaries // 2
        for path in paths:
            text = path.read_bytes().decode("utf-8", "replace")
            if not 200 <= len(text) <= 200_000:
                continue
            ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            texts = [tokens[index] or b"" for index in ids]
            file = _File(source, ids, texts, _line_starts(texts))
            found.append(file)
            left -= sum(file.first)
            if left <= 0:
                break
    return found


def _line_starts(texts: Sequence[bytes]) -> list[bool]:
    """Marks the tokens that begin the first non-whitespace text of a line."""
    starts, fresh = [], True
    for text in texts:
        starts.append(fresh and bool(text.strip()))
        last = text.rpartition(b"\n")[2] if b"\n" in text else None
        fresh = not last.strip() if last is not None else fresh and not text.strip()
    return starts


def _hits(method: Method, file: _File) -> list[bool]:
    """Returns True for each token that would have been penalized."""
    rule = method.rule()
    found = []
    for token in file.ids:
        hit = any(
            token in penalty.ids and (penalty.kind != "add" or penalty.amount < 0)
            for penalty in rule.penalties()
        )
        found.append(hit)
        rule.push(token)
    return found


def _false_positives(
    report: Report, files: Sequence[_File], make: Mapping[str, Method], seed: int
) -> None:
    for mode, method in make.items():
        prefix = "" if mode == "ours" else f"{mode}_"
        rows = []
        for file in files:
            hits = _hits(method, file)
            at_lines = sum(hit and first for hit, first in zip(hits, file.first, strict=True))
            rows.append((at_lines, sum(file.first), sum(hits), len(hits)))
        say(f"{mode}: {len(files)} files read")
        table = np.array(rows, dtype=float)
        sources = np.array([file.source for file in files])
        for name, some in {
            "": np.full(len(files), True),
            "_stdlib": sources == "stdlib",
            "_packages": sources == "packages",
        }.items():
            value = _share(table[some, 0], table[some, 1], seed)
            key = f"{prefix}false_positive_rate{name}"
            report.set(key, value, n=int(table[some, 1].sum()))
        tokens = _share(table[:, 2], table[:, 3], seed)
        report.set(f"{prefix}false_positive_rate_tokens", tokens, n=int(table[:, 3].sum()))
    report.samples["files"] = len(files)


def _share(hits: np.ndarray, counts: np.ndarray, seed: int) -> Estimate:
    """Sets hits over counts, with a bootstrap interval over files."""
    keep = counts > 0
    hits, counts = hits[keep], counts[keep]
    draws = min(DRAWS, 2000)
    drawn = np.random.default_rng(seed).integers(0, len(hits), (draws, len(hits)))
    shares = hits[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return Estimate(float(hits.sum() / counts.sum()), float(low), float(high))


def _costs(report: Report, files: Sequence[_File], make: Mapping[str, Method], seed: int) -> None:
    from codegen.decoding.rpg.languages import PYTHON
    from codegen.decoding.rpg.structure import StructureTracker

    def whole(method: Method, file: _File) -> None:
        rule = method.rule()
        for token in file.ids:
            rule.push(token)
            rule.penalties()

    def lexer(file: _File) -> None:
        feed = StructureTracker(PYTHON).feed
        for text in file.texts:
            feed(text)

    parts = {
        "us_per_token": partial(whole, make["ours"]),
        "paper_us_per_token": partial(whole, make["paper"]),
        "lexer_us_per_token": lexer,
    }
    spent: dict[str, list[float]] = {key: [] for key in parts}
    for file in files:
        for key, work in parts.items():
            before = time.process_time()
            work(file)
            spent[key].append(time.process_time() - before)
    counts = np.array([len(file.ids) for file in files], dtype=float)
    for key, seconds in spent.items():
        value = _share(1e6 * np.array(seconds), counts, seed)
        report.set(key, value, n=int(counts.sum()))
    say(f"cost: {len(files)} files timed")


def _loops(report: Report, tokenizer: Any, tokens: Sequence[bytes | None]) -> None:
    """Measures the fraction of written loops that each mode stops, and the copies until then."""
    from codegen.decoding.rpg.methods import Method

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids

    written = loops()
    for mode in ("ours", "paper"):
        prefix = "" if mode == "ours" else f"{mode}_"
        after: list[int | None] = []
        for loop in written:
            options = RpgOptions(mode=mode, language=loop.language)
            rule = Method.of(options, tokens, {0}).rule()
            after.append(stopped_after(rule, loop, encode, tokens))
        kinds = {
            "": [True] * len(written),
            "_counted": [loop.counted for loop in written],
            "_worded_blocks": [loop.block and not loop.counted for loop in written],
            "_worded_rows": [not loop.block and not loop.counted for loop in written],
        }
        for kind, chosen in kinds.items():
            some = [found for found, wanted in zip(after, chosen, strict=True) if wanted]
            stopped = [found for found in some if found is not None]
            key = f"{prefix}loops_stopped{kind}"
            report.set(key, rate(len(stopped), len(some)), n=len(some))
            if stopped:
                report.set(f"{key}_copies", float(np.median(stopped)))
    say(f"loops: {len(written)} read")
