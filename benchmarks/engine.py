"""The data engine's inputs per second with one worker and with two, on the same programs.

What: ``LintSeq(verify="ruff", sequences=5)`` with its default audit over functions, methods and
classes of the standard library and the installed packages (definitions of 3 to 120 lines), with the
engine as ``codegen data lintseq`` runs it, including files and journal. Speed is by the wall clock
from the first result to the last, so it excludes process startup, a one-time cost. One worker and
two take turns, each run in its own process. ``ratio`` is two workers over one, ``peak_mb`` (MB,
10^6 bytes) the peak resident memory of all processes in a run with two workers (pages that
processes share count once per process). ``same_bytes`` is 1 if all runs made the same files, except
for the manifest's timing.

Against: no peer.

Limits: on fewer than two idle cores the ratio is meaningless; check the load average. With one
worker the calling process does the work; with two it also reads and writes.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.benchmarks.tools.definitions import DefinitionsSource
from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.memory import MemoryProbe
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import ratio_of_sums

if TYPE_CHECKING:
    from codegen.data import RunProgress

SEQUENCES = 5
WORKERS = (1, 2)
_MB = 1e6 / 2**20  # in MiB


@options(quick={"items": 600, "rounds": 1})
def run(*, items: int = 4000, rounds: int = 3, seed: int = 0) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        items: inputs per run.
        rounds: runs with each number of workers.
        seed: seed of the sequences and of the bootstrap.
    """
    at_least(100, items=items)
    at_least(1, rounds=rounds)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "ruff", "pylint")
    runs: dict[int, list[_Run]] = {workers: [] for workers in WORKERS}
    for number in range(rounds):
        for workers in WORKERS:
            runs[workers].append(fresh(_one_run, workers, items, seed))
        say(f"round {number + 1} of {rounds} done")
    for workers, done in runs.items():
        inputs, seconds = [r.inputs for r in done], [r.seconds for r in done]
        speed = ratio_of_sums(inputs, seconds, seed=seed)
        report.set(f"workers_{workers}_items_per_s", speed, n=sum(inputs))
    # The work is equal, so the ratio of speeds is the ratio of times, by round.
    pace = {w: [r.seconds / r.inputs for r in done] for w, done in runs.items()}
    report.set("ratio", ratio_of_sums(pace[1], pace[2], seed=seed), n=rounds)
    report.set("peak_mb", max(r.peak_mib for r in runs[2]) / _MB, n=rounds)
    report.set("same_bytes", int(len({r.digest for done in runs.values() for r in done}) == 1))
    report.samples["sequences_per_input"] = SEQUENCES
    if usable_cores() < 2:
        report.notes.append("Two workers shared the only core.")
    return report.mapping()


@dataclass(frozen=True, slots=True)
class _Run:
    """A run: the inputs between the first result and the last, their time, and the output."""

    inputs: int
    seconds: float
    peak_mib: float
    digest: str


def _one_run(workers: int, items: int, seed: int) -> _Run:
    from codegen.data import run as run_engine
    from codegen.lintseq import LintSeq

    stamps: list[tuple[float, int]] = []

    with tempfile.TemporaryDirectory(prefix="codegen-bench-engine-") as folder:
        out = Path(folder, "data")
        with MemoryProbe(0.05) as memory:

            def note(progress: RunProgress) -> None:
                if progress.inputs:
                    stamps.append((time.monotonic(), progress.inputs))

            run_engine(
                LintSeq(sequences=SEQUENCES),
                DefinitionsSource(),
                out,
                seed=seed,
                workers=workers,
                limit=items,
                on_progress=note,
            )
        (began, first), (ended, last) = stamps[0], stamps[-1]
        return _Run(last - first, ended - began, memory.peak, _digest(out))


def _digest(out: Path) -> str:
    """Returns a hash of all files of a data directory, without the timing."""
    digest = hashlib.sha256()
    for path in sorted(out.iterdir()):
        content = path.read_bytes()
        if path.name == "manifest.json":
            manifest = json.loads(content)
            del manifest["throughput"]
            content = json.dumps(manifest).encode()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
