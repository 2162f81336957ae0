"""CPU time per LintSeq edit sequence, against the published generator, in one run.

CPU milliseconds for one edit sequence, parsing and dependencies included, over 30 HumanEval
programs and 14 modules of the standard library, five sequences per program (s = 5) as in the
paper's data. Our five sequences share the parsing and the verdicts on equal states; the published
generator shares no work, so one of its sequences per program is enough.

Ours: ``LintSeq(verify="ruff")`` and ``LintSeq(verify="pylint")``, in chunks of 32 programs as in
the data engine; CPU time of ruff's processes is included. Each pass runs in its own process with
another seed. The default with ruff, an audit of 0.5% of the states by pylint, is measured as
``..._ruff_audited``.

Against: PyPI's ``pylintseq``, imported unchanged, in its own interpreter, with the parameters of
the paper's data and the same programs, one at a time; it sets up a linter for each check. If it is
not installed, our reference mode is measured, with a linter set up for each check; the key
``reference`` names the measured one (``pylintseq`` or ``own``). Both sides have linted each whole
program once before their clock starts, since pylint keeps the trees of library modules that it has
parsed.

Ratios are of CPU time, summed over the programs with sequences from both sides, with a bootstrap
interval over programs within the two sets.

``edits_per_sequence`` and ``reference_edits_per_sequence``: mean edits of 30 sequences per program
(3 if quick), by our default engine and by our engine ``reference``, the published algorithm;
``edits_ratio`` has an interval over programs. The full run adds the same for all of HumanEval's
solutions, 40 functions and 10 class modules of the standard library (``..._humaneval``,
``..._functions``, ``..._classes``).

``round_trip_rate``: fraction of sequences whose text form, parsed and applied, yields the
program. ``dirty_rate``: fraction of unfinished states of the ruff mode in which plain pylint finds
an error that the program lacks (:mod:`codegen.benchmarks.tools.pylint_audit`).

``-o languages=all`` (or ``go,rust``) measures only the other languages
(:mod:`codegen.benchmarks.tools.lintseq_languages`).

Limit: CPU time under load is inflated by shared caches, about equally on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.lintseq_audit import Audit, audit, round_trips
from codegen.benchmarks.tools.lintseq_languages import measure_languages
from codegen.benchmarks.tools.lintseq_pass import Pass, cost_by_program, edits_by_program, one_pass
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.programs import Program, benchmark_programs, edit_programs
from codegen.benchmarks.tools.published import INSTALL, Peer, Published, find_peer
from codegen.benchmarks.tools.pylint_audit import Messages
from codegen.benchmarks.tools.reference_pass import reference_pass
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import rate, ratio_of_sums

MODES = ("ruff", "pylint")
SEQUENCES = 5  # per program, in the paper
DRAWN, DRAWN_QUICK = 30, 3  # per program, for the number of edits
RUFF_REPEATS = 8  # runs over 44 programs: eleven full chunks of 32


@options(
    quick={"passes": 1, "limit": 8},
    needs={
        "limit": ("without -o languages=NAMES", lambda o: o["languages"]),
        "passes": ("with -o languages", lambda o: not o["languages"]),
    },
)
def run(
    quick: bool = False, *, seed: int = 1, passes: int = 3, languages: str = "", limit: int = 0
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: one pass over every third program; eight programs per language.
        seed: seed of the first pass and of the bootstrap; pass k has seed + k.
        passes: passes over the programs, on either side.
        languages: ``all``, or some of LintSeq's other languages, measured instead.
        limit: maximum programs per language; 0 for all.
    """
    at_least(1, passes=passes)
    at_least(0, limit=limit)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "ruff", "pylint", "astroid")
    if languages:
        measure_languages(report, languages, limit)
        return report.mapping()
    programs = benchmark_programs()[:: 3 if quick else 1]
    peer = find_peer()
    if peer is None:
        report.install["pylintseq"] = INSTALL
    else:
        report.versions |= {f"peer {name}": version for name, version in peer.versions.items()}
    ours, published = _measure(programs, peer, seed, passes)
    for mode in MODES:
        _costs(report, mode, programs, ours[mode], published)
    _published(report, programs, published, "pylintseq" if peer else "own")
    _costs(report, "ruff_audited", programs, _audited(programs, seed, passes), published)
    _edits(report, "", programs, DRAWN_QUICK if quick else DRAWN)
    if not quick:
        for name, some in edit_programs().items():
            _edits(report, f"_{name}", some, DRAWN)
    known: dict[str, Messages] = {}
    for mode in MODES:
        say(f"linting the states of mode {mode}")
        key = "dirty_rate" if mode == "ruff" else f"dirty_rate_{mode}"
        _dirty(report, key, audit(programs, [_first(done) for done in ours[mode]], known))
    made = [done for passes_ in ours.values() for done in passes_]
    good, total = round_trips(programs, made)
    report.set("round_trip_rate", rate(good, total), n=total)
    for name in ("humaneval", "stdlib"):
        report.samples[f"{name}_programs"] = sum(program.set == name for program in programs)
    report.samples["passes"] = passes
    return report.mapping()


def _measure(
    programs: Sequence[Program], peer: Peer | None, seed: int, passes: int
) -> tuple[dict[str, list[Pass]], list[Mapping[str, Published]]]:
    """Runs our passes and the peer's in turn, so that the machine's load affects both."""
    ours: dict[str, list[Pass]] = {mode: [] for mode in MODES}
    published: list[Mapping[str, Published]] = []
    for number in range(passes):
        for mode in MODES:
            ours[mode].append(_ours(programs, mode, seed + number))
        say("the reference on the same programs; this takes a while")
        published.append(_theirs(programs, peer, seed + number))
        say(f"pass {number + 1} of {passes} done")
    return ours, published


def _ours(programs: Sequence[Program], mode: str, seed: int, audit: float = 0.0) -> Pass:
    # pylint's verdicts are cached, unlike ruff's, so a second round would find some in the cache.
    repeats = RUFF_REPEATS if mode == "ruff" else 1
    options: dict[str, Any] = {"sequences": SEQUENCES, "repeats": repeats, "seed": seed}
    return fresh(one_pass, programs, mode, warm_up=_warm_up(programs), audit=audit, **options)


def _theirs(programs: Sequence[Program], peer: Peer | None, seed: int) -> Mapping[str, Published]:
    if peer is None:
        return fresh(reference_pass, programs, seed, _warm_up(programs))
    # One seed for all would first sample the same fraction of each program's lines.
    jobs = [(p.id, p.text, seed + 1000 * number) for number, p in enumerate(programs)]
    return peer.run(jobs, _warm_up(programs))


def _warm_up(programs: Sequence[Program]) -> list[str]:
    """Adds a line to each program, so that cached verdicts do not apply."""
    return [f"{program.text}\n# warm-up\n" for program in programs]


def _first(done: Pass) -> Pass:
    """Returns the pass with only the sequences of its first round, for the audit."""
    return Pass(texts={id_: texts[:1] for id_, texts in done.texts.items()})


def _audited(programs: Sequence[Program], seed: int, passes: int) -> list[Pass]:
    """Runs the default of ``codegen data lintseq``, with pylint on a sample of the states."""
    from codegen.lintseq import LintSeq

    share = LintSeq().audit
    return [_ours(programs, "ruff", seed + number, share) for number in range(passes)]


def _costs(
    report: Report,
    name: str,
    programs: Sequence[Program],
    passes: Sequence[Pass],
    published: Sequence[Mapping[str, Published]],
) -> None:
    """Sets the cost of a sequence, and its ratio to the peer's."""
    sets = {program.id: program.set for program in programs}
    cost = _mean_by_program([cost_by_program(done) for done in passes])
    made = sum(done.sequences for done in passes)
    spent = sum(done.cpu_s for done in passes)
    report.set(f"cpu_ms_per_sequence_{name}", 1000 * spent / made if made else None, n=made)
    if refused := sum(len(done.refused) for done in passes):
        report.notes.append(f"{name}: {refused} programs were rejected in {len(passes)} passes.")
    peer = _mean_by_program(
        [{id_: r.cpu_s for id_, r in done.items() if r.diffs is not None} for done in published]
    )
    both = [id_ for id_ in cost if id_ in peer]
    pairs = ([peer[i] for i in both], [cost[i] for i in both], [sets[i] for i in both])
    ratio = ratio_of_sums(*pairs, report.seed) if both else None
    report.set(f"ratio_{name}", ratio, n=len(both))


def _mean_by_program(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    ids = dict.fromkeys(id_ for by_program in costs for id_ in by_program)
    return {id_: fmean(by_program[id_] for by_program in costs if id_ in by_program) for id_ in ids}


def _dirty(report: Report, key: str, found: Audit) -> None:
    report.set(key, rate(found.dirty, found.states) if found.states else None, n=found.states)
    if found.dirty:
        reasons = ", ".join(f"{count} {id_}" for id_, count in sorted(found.reasons.items()))
        where = ", ".join(sorted(found.dirty_programs))
        report.notes.append(f"{key}: {found.dirty} of {found.states} states ({reasons}) in {where}")


def _published(
    report: Report,
    programs: Sequence[Program],
    published: Sequence[Mapping[str, Published]],
    name: str,
) -> None:
    results = [result for done in published for result in done.values()]
    made = [result for result in results if result.diffs is not None]
    report.set("reference", name)
    mean = 1000 * sum(result.cpu_s for result in results) / len(made) if made else None
    report.set("reference_cpu_ms_per_sequence", mean, n=len(made))
    asked = len(programs) * len(published)
    if asked > len(made):
        report.notes.append(f"{name}: {asked - len(made)} of {asked} yielded no sequence.")


def _edits(report: Report, suffix: str, programs: Sequence[Program], drawn: int) -> None:
    """Sets the edits per sequence, over programs with sequences from both engines."""
    ours, theirs = (fresh(edits_by_program, programs, e, drawn) for e in ("fast", "reference"))
    both = [program for program in programs if program.id in ours and program.id in theirs]
    pairs = [ours[p.id] for p in both], [theirs[p.id] for p in both]
    for key, values in zip(
        ("edits_per_sequence", "reference_edits_per_sequence"), pairs, strict=True
    ):
        report.set(key + suffix, fmean(values), n=len(both) * drawn)
    ratio = ratio_of_sums(*pairs, [p.set for p in both], report.seed)
    report.set(f"edits_ratio{suffix}", ratio, n=len(both))
    say(f"edits per sequence counted{suffix.replace('_', ': ')}")
