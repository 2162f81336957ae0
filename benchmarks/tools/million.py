"""A million LintSeq edit sequences of a real corpus through the data engine: speed, memory, disk.

``LintSeq(verify="ruff", sequences=5)``, as in the paper, with the default audit, over the
functions, methods and classes of the standard library and all installed packages (definitions of 3
to 120 lines), with the engine as ``codegen data lintseq`` runs it. Resident memory of all its
processes is sampled each second (every 0.3 s up to 100,000 sequences); ``rss_10_mib``,
``rss_50_mib`` and ``rss_100_mib`` are medians over the 5% of the work before that point (pages that
processes share count once per process), ``growth`` is the last over the first.

The directory ``out`` must be new, or contain an interrupted run, which is resumed.

Limits: after a resume, memory restarts and speed covers this call only (``resumed_after``: the
programs done before). The corpus depends on the installed packages.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.benchmarks.tools.definitions import DefinitionsSource
from codegen.benchmarks.tools.machine import usable_cores
from codegen.benchmarks.tools.memory import MemoryProbe
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.benchmarks.tools.timing import measured, tree_cpu_s
from codegen.core.errors import InputError

if TYPE_CHECKING:
    from codegen.data import Manifest, RunProgress

SEQUENCES = 5


def measure_run(report: Report, sequences: int, out: str) -> None:
    """Generates the sequences and sets the results.

    Args:
        report: receives the results.
        sequences: minimum number of sequences, unless the corpus is too small.
        out: the data directory; empty for a temporary one that is deleted.
    """
    with tempfile.TemporaryDirectory(prefix="codegen-bench-million-") as folder:
        _run(report, Path(out or Path(folder, "data")), sequences)


def _run(report: Report, out: Path, sequences: int) -> None:
    from codegen.data import is_finished
    from codegen.data import run as run_engine
    from codegen.lintseq import LintSeq

    if is_finished(out):
        raise InputError(f"{out} is finished; no run can be measured.", "Choose another out.")
    workers = usable_cores()
    first: list[RunProgress] = []
    last: list[RunProgress] = []
    shown = 0
    # Workers are killed at the end, and their linters exit without being waited for.
    busy, before = 0.0, tree_cpu_s()

    with MemoryProbe(1.0 if sequences > 100_000 else 0.3) as memory, measured() as spent:

        def show(progress: RunProgress) -> None:
            nonlocal shown, busy
            first[:] = first or [progress]
            last[:] = [progress]
            memory.share = progress.fraction or 0.0
            if int(100 * memory.share) > shown:
                shown = int(100 * memory.share)
                busy = tree_cpu_s() - before
                if shown % 10 == 0:
                    say(f"{progress.texts} sequences, {memory.share:.0%} of the programs")

        manifest = run_engine(
            LintSeq(sequences=SEQUENCES, verify="ruff"),
            DefinitionsSource(),
            out,
            seed=report.seed,
            workers=workers,
            # A program may be rejected, or have fewer sequences: the limit is on programs.
            limit=-(-sequences // SEQUENCES),
            on_progress=show,
        )
    made = _made(first[0], last[0]) if last else 0
    cpu_s = max(spent.cpu_s, busy)
    report.set("sequences", manifest.texts)
    report.set("sequences_per_s", made / spent.wall_s, n=made)
    report.set("cpu_ms_per_sequence", 1000 * cpu_s / made if made else None, n=made)
    for percent in (10, 50, 100):
        report.set(f"rss_{percent}_mib", memory.at(percent / 100))
    report.set("rss_peak_mib", memory.peak())
    start, end = memory.at(0.1), memory.at(1.0)
    report.set("growth", end / start if start and end else None)
    _size(report, manifest, out)
    report.set("workers", workers)
    report.set("resumed_after", first[0].resumed if first else 0)


def _made(first: RunProgress, last: RunProgress) -> int:
    """Returns the number of texts of this call; after a resume, without the first chunk, whose end
    is unknown.
    """
    return last.texts - (first.texts if first.resumed else 0)


def _size(report: Report, manifest: Manifest, out: Path) -> None:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    report.set("disk_mib", size / 2**20)
    report.set("bytes_per_sequence", size / manifest.texts if manifest.texts else None)
    report.set("files", len(manifest.files))
    report.samples["programs"] = manifest.counts["inputs"]
    for outcome in ("kept", "skipped", "failed"):
        report.samples[outcome] = manifest.counts[outcome]
