"""UniCode: coverage of Python, exactness of the round trip, and cost per program.

What: Python -> UniCode -> Python over the solutions of HumanEval, those of MBPP (``-o mbpp=FILE``,
its ``mbpp.jsonl``, plain or gzipped; null without) and all modules of the running Python's standard
library that are Python. ``..._equal`` is the share that comes back with the same syntax tree,
annotations included; ``..._covered`` the share of syntax nodes that have a form in UniCode, the
others being embedded as Python; ``stdlib_uncovered`` counts those by type. ``write_ms`` and
``read_ms`` are CPU milliseconds for a HumanEval program, a mean over all six styles.

Against: no peer; UniCoder published no code.

Limits: that a rebuilt program passes its tests is shown by the tests (``pytest -m long
tests/methods/unicode``), since it takes the sandbox.
"""

from __future__ import annotations

import gzip
import json
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.statistics import rate
from codegen.errors import InputError
from codegen.evals.tasks import load
from codegen.methods.unicode import (
    STYLES,
    Annotations,
    Style,
    UnsupportedProgram,
    same_program,
    to_python,
    to_unicode,
)

Programs = list[tuple[str, str]]


def run(
    quick: bool = False, *, mbpp: str = "", style: str = "braces", seed: int = 0
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: every 20th module of the library.
        mbpp: MBPP's file.
        style: of the round trips.
        seed: stands in the report; nothing here is random.
    """
    if style not in STYLES:
        raise InputError(f"There is no style {style!r}.", f"There are: {', '.join(STYLES)}.")
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit")
    task = load("humaneval")
    solutions = [(problem.id, task.reference(problem)) for problem in task.problems()]
    corpora: dict[str, Programs] = {
        "humaneval": solutions,
        "mbpp": _mbpp(Path(mbpp)) if mbpp else [],
        "stdlib": list(_library())[:: 20 if quick else 1],
    }
    for name, programs in corpora.items():
        if not programs:
            report.set(f"{name}_equal", None)
            report.set(f"{name}_covered", None)
            continue
        say(f"{name}: {len(programs)} programs")
        _corpus(report, name, measure(programs, STYLES[style]))
    _costs(report, [program for _, program in solutions])
    if not mbpp:
        report.notes.append("MBPP was not measured: give its file with -o mbpp=FILE.")
    return report.mapping()


def _corpus(report: Report, name: str, found: Coverage) -> None:
    equal = found.programs - len(found.unequal)
    report.set(f"{name}_equal", rate(equal, found.programs), n=found.programs)
    covered = found.nodes - sum(found.uncovered.values())
    report.set(f"{name}_covered", covered / max(1, found.nodes), n=found.nodes)
    report.samples[f"{name}_uncovered"] = dict(found.uncovered)
    report.samples[f"{name}_not_python"] = {k: len(v) for k, v in found.skipped.items()}


def _library() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if "site-packages" not in path.parts:
            text = path.read_bytes().decode("utf-8", errors="replace")
            yield str(path.relative_to(root)), text


def _mbpp(path: Path) -> Programs:
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        return [(str(row["task_id"]), row["code"]) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} can't be read as MBPP: {error!r}.", "Give the file mbpp.jsonl."
        ) from None


def _costs(report: Report, programs: list[str]) -> None:
    written, wrote_s, read_s = 0, 0.0, 0.0
    for style in STYLES.values():
        began = time.process_time()
        texts = [to_unicode(program, style).text for program in programs]
        middle = time.process_time()
        for text in texts:
            to_python(text)
        wrote_s += middle - began
        read_s += time.process_time() - middle
        written += len(texts)
    report.set("write_ms", 1000 * wrote_s / written, n=written)
    report.set("read_ms", 1000 * read_s / written, n=written)


# --- the round trip over a corpus --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Coverage:
    """The round trip Python -> UniCode -> Python over a corpus.

    Attributes:
        programs: how many could be written.
        unequal: names of those that came back with another AST.
        skipped: reason -> names of programs that could not be written.
        nodes: AST nodes of all programs written.
        uncovered: AST node type -> nodes that were embedded as Python.
    """

    programs: int
    unequal: tuple[str, ...]
    skipped: Mapping[str, tuple[str, ...]]
    nodes: int
    uncovered: Mapping[str, int]

    @property
    def covered_rate(self) -> float:
        """The share of nodes that have a form in UniCode."""
        return 1 - sum(self.uncovered.values()) / self.nodes if self.nodes else 1.0


def measure(
    programs: Iterable[tuple[str, str]],
    style: Style = STYLES["braces"],
    *,
    annotations: Annotations = "all",
) -> Coverage:
    """Sends programs, given as (name, source), through the round trip.

    Raises:
        UniCodeSyntaxError: if a text that was written can't be read, an error of this package.
    """
    count = nodes = 0
    unequal: list[str] = []
    skipped: dict[str, tuple[str, ...]] = {}
    uncovered: Counter[str] = Counter()
    for name, program in programs:
        try:
            written = to_unicode(program, style, annotations=annotations)
        except UnsupportedProgram as error:
            skipped[error.reason] = (*skipped.get(error.reason, ()), name)
            continue
        count += 1
        nodes += written.nodes
        uncovered.update(written.uncovered)
        again = to_python(written.text)
        if not same_program(program, again, annotations=annotations):
            unequal.append(name)
    return Coverage(count, tuple(unequal), skipped, nodes, dict(uncovered))
