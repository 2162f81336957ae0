"""CPU time per LintSeq edit sequence, against the published generator, in one run.

What: CPU milliseconds for one edit sequence, parsing and dependencies included, over 30 HumanEval
programs and 14 modules of the standard library, five sequences a program (s = 5) as in the paper's
data. Ours share the parsing, and the verdicts on equal states, among the five; the published
generator shares nothing, so that one of its sequences stands for all. ``..._s1`` has the figures of
a program's only sequence.

Ours: ``LintSeq(verify="ruff")`` and ``LintSeq(verify="pylint")``, in chunks of 32 programs as the
data engine hands them out; CPU time of ruff's processes is included. Each pass runs in a process of
its own with another seed. The audit by pylint of 0.5 % of the states, which is on by default with
ruff, is left out of these; ``..._ruff_audited`` has it.

Against: PyPI's ``pylintseq``, imported unchanged, in its own interpreter, with the parameters of
the paper's data and the same program texts, one at a time; it sets up a linter for each check, as
published. Where it is not installed: our own reference mode with a linter set up for each check;
the key ``reference`` says which one was measured (``pylintseq`` or ``own``).

Both sides have linted each whole program once before their clock starts: pylint keeps the trees of
library modules that it has parsed, which a long run pays for once. The full run also gives figures
without that (``..._cold``).

Ratios are sums of CPU time over the programs that both sides made a sequence of, with a bootstrap
interval over programs within the two sets. What our check costs for one program is its share of a
chunk's check by characters of states.

``edits_per_sequence`` and ``reference_edits_per_sequence``: the mean number of edits of ours with
ruff and of the peer's, over the programs that both sides made a sequence of. The full run also
gives them for all of HumanEval's solutions, 40 functions and 10 modules of classes of the standard
library (``..._humaneval``, ``..._functions``, ``..._classes``; ``edits_ratio_...`` with an interval
over programs), against our engine ``reference``, five sequences a program on both sides.

``round_trip_rate``: sequences whose text form, parsed and applied again, gives the program.
``dirty_rate``: unfinished states of the ruff mode in which plain pylint finds an error that the
program has not (:mod:`codegen.benchmarks.tools.pylint_audit`); its interval takes states as
independent. The full run also audits modules of installed packages (``third_party=N``).

Limits: CPU time under load is inflated by shared caches, for both sides about alike. The corpus is
small; both sets were chosen before any of this code was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.lintseq_audit import (
    Audit,
    audit,
    published_round_trips,
    round_trips,
)
from codegen.benchmarks.tools.lintseq_pass import (
    Pass,
    cost_by_program,
    edits_by_program,
    one_pass,
    states_of,
)
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.programs import (
    Program,
    benchmark_programs,
    edit_programs,
    third_party_programs,
)
from codegen.benchmarks.tools.published import INSTALL, Peer, Published, find_peer
from codegen.benchmarks.tools.pylint_audit import Messages
from codegen.benchmarks.tools.reference_pass import reference_pass
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import geometric_mean_ratio, rate, ratio_of_sums

MODES = ("ruff", "pylint")
SEQUENCES = 5  # per program, in the paper
RUFF_REPEATS = 8  # runs over 44 programs: eleven full chunks of 32


def run(
    quick: bool = False, *, seed: int = 1, passes: int = 3, third_party: int = 100
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: one pass over every second program, and neither cold figures nor an audit of other
            packages nor the edits of the three larger sets.
        seed: of the first pass and of the bootstrap; pass k has seed + k.
        passes: over the programs, on either side.
        third_party: modules of installed packages to audit.
    """
    at_least(1, passes=passes)
    at_least(0, third_party=third_party)
    if quick:
        passes, third_party = 1, 0
    programs = benchmark_programs()[:: 2 if quick else 1]
    peer = find_peer()
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "ruff", "pylint", "astroid")
    if peer is None:
        report.install["pylintseq"] = INSTALL
    else:
        report.versions |= {f"peer {name}": version for name, version in peer.versions.items()}
    ours, single, published = _measure(programs, peer, seed, passes)
    for mode in MODES:
        _costs(report, mode, programs, ours[mode], published)
        _costs(report, mode, programs, single[mode], published, "_s1")
    _published(report, programs, published, "pylintseq" if peer else "own")
    _edits(report, ours["ruff"], published)
    _costs(report, "ruff", programs, _audited(programs, seed, passes), published, "_audited")
    if not quick:
        _cold(report, programs, peer)
        _edits_of_sets(report)
    known: dict[str, Messages] = {}
    for mode in MODES:
        say(f"linting the states of mode {mode}")
        key = "dirty_rate" if mode == "ruff" else f"dirty_rate_{mode}"
        _dirty(report, key, audit(programs, [_first(done) for done in ours[mode]], known))
    made = [done for found in (ours, single) for passes_ in found.values() for done in passes_]
    good, total = round_trips(programs, made)
    report.set("round_trip_rate", rate(good, total), n=total)
    if third_party:
        _third_party(report, third_party)
    for name in ("humaneval", "stdlib"):
        report.samples[f"{name}_programs"] = sum(program.set == name for program in programs)
    report.samples["passes"] = passes
    return report.mapping()


def _measure(
    programs: Sequence[Program], peer: Peer | None, seed: int, passes: int
) -> tuple[dict[str, list[Pass]], dict[str, list[Pass]], list[Mapping[str, Published]]]:
    """Ours, with all sequences and with one, and the peer by turns: a drift meets all of them."""
    ours: dict[str, list[Pass]] = {mode: [] for mode in MODES}
    single: dict[str, list[Pass]] = {mode: [] for mode in MODES}
    published: list[Mapping[str, Published]] = []
    for number in range(passes):
        for mode in MODES:
            for found, sequences in ((ours, SEQUENCES), (single, 1)):
                done = _ours(programs, mode, sequences, seed + number, _warm_up(programs))
                found[mode].append(done)
        say("the reference on the same programs; this takes a while")
        published.append(_theirs(programs, peer, seed + number, _warm_up(programs)))
        say(f"pass {number + 1} of {passes} done")
    return ours, single, published


def _ours(
    programs: Sequence[Program],
    mode: str,
    sequences: int,
    seed: int,
    warm_up: Sequence[str],
    audit: float = 0.0,
) -> Pass:
    # ruff's verdicts are not remembered, pylint's are: a second round would find some of them.
    repeats = RUFF_REPEATS if mode == "ruff" else 1
    return fresh(
        one_pass,
        programs,
        mode,
        sequences=sequences,
        repeats=repeats,
        seed=seed,
        warm_up=warm_up,
        audit=audit,
    )


def _theirs(
    programs: Sequence[Program], peer: Peer | None, seed: int, warm_up: Sequence[str]
) -> Mapping[str, Published]:
    if peer is None:
        return fresh(reference_pass, programs, seed, warm_up)
    # One seed for all would draw the same share of each program's lines first.
    seeds = [seed + 1000 * number for number in range(len(programs))]
    jobs = [(p.id, p.text, own) for p, own in zip(programs, seeds, strict=True)]
    return peer.run(jobs, warm_up)


def _warm_up(programs: Sequence[Program]) -> list[str]:
    """The programs with one more line, so that no verdict on them can be used again."""
    return [f"{program.text}\n# warm-up\n" for program in programs]


def _first(done: Pass) -> Pass:
    """The pass with the sequences of its first round only: enough to audit."""
    return Pass(texts={id_: texts[:1] for id_, texts in done.texts.items()})


def _audited(programs: Sequence[Program], seed: int, passes: int) -> list[Pass]:
    """The default of ``codegen data lintseq``: with pylint on a random share of the states."""
    from codegen.lintseq import LintSeq

    share = LintSeq().audit or 0.0
    warm_up = _warm_up(programs)
    return [
        _ours(programs, "ruff", SEQUENCES, seed + number, warm_up, share)
        for number in range(passes)
    ]


def _cold(report: Report, programs: Sequence[Program], peer: Peer | None) -> None:
    """One pass of either side without the warm-up."""
    theirs = _theirs(programs, peer, report.seed, ())
    made = {id_: result.cpu_s for id_, result in theirs.items() if result.diffs is not None}
    for mode in MODES:
        done = _ours(programs, mode, SEQUENCES, report.seed, ())
        cost = cost_by_program(done)
        report.set(f"cpu_ms_per_sequence_{mode}_cold", _milliseconds([done]), n=done.sequences)
        both = [program for program in programs if program.id in cost and program.id in made]
        pairs = [made[p.id] for p in both], [cost[p.id] for p in both], [p.set for p in both]
        ratio = ratio_of_sums(*pairs, report.seed) if both else None
        report.set(f"ratio_{mode}_cold", ratio, n=len(both))
    mean = 1000 * fmean(made.values()) if made else None
    report.set("reference_cpu_ms_per_sequence_cold", mean, n=len(made))
    say("cold passes done")


def _costs(
    report: Report,
    mode: str,
    programs: Sequence[Program],
    passes: Sequence[Pass],
    published: Sequence[Mapping[str, Published]],
    variant: str = "",
) -> None:
    """The cost of a sequence, and the ratios to the peer; by sets and programs without variant."""
    sets = {program.id: program.set for program in programs}
    cost = _mean_by_program([cost_by_program(done) for done in passes])
    name = f"{mode}{variant}"
    report.set(f"cpu_ms_per_sequence_{name}", _milliseconds(passes), n=_sequences(passes))
    if refused := sum(len(done.refused) for done in passes):
        report.notes.append(f"{name}: {refused} programs of {len(passes)} passes were refused.")
    peer = _mean_by_program(
        [{id_: r.cpu_s for id_, r in done.items() if r.diffs is not None} for done in published]
    )
    both = [id_ for id_ in cost if id_ in peer]
    if not both:
        report.set(f"ratio_{name}", None)
        return
    for suffix, ids in {"": both, **({} if variant else _by_set(both, sets))}.items():
        pairs = ([peer[i] for i in ids], [cost[i] for i in ids], [sets[i] for i in ids])
        report.set(f"ratio_{name}{suffix}", ratio_of_sums(*pairs, report.seed), n=len(ids))
        if not suffix and not variant:
            typical = geometric_mean_ratio(*pairs, report.seed)
            report.set(f"ratio_{mode}_per_program", typical, n=len(ids))
            ratios = sorted(p / o for p, o in zip(*pairs[:2], strict=True))
            report.set(f"ratio_{mode}_per_program_min", ratios[0])
            report.set(f"ratio_{mode}_per_program_max", ratios[-1])


def _by_set(ids: Sequence[str], sets: Mapping[str, str]) -> dict[str, list[str]]:
    names = dict.fromkeys(sets[id_] for id_ in ids)
    return {f"_{name}": [id_ for id_ in ids if sets[id_] == name] for name in names}


def _mean_by_program(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    ids = dict.fromkeys(id_ for by_program in costs for id_ in by_program)
    return {id_: fmean(by_program[id_] for by_program in costs if id_ in by_program) for id_ in ids}


def _sequences(passes: Sequence[Pass]) -> int:
    return sum(done.sequences for done in passes)


def _milliseconds(passes: Sequence[Pass]) -> float | None:
    sequences = _sequences(passes)
    return 1000 * sum(done.cpu_s for done in passes) / sequences if sequences else None


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
        report.notes.append(f"{name}: {asked - len(made)} of {asked} gave no sequence.")
    diffs = [{i: r.diffs for i, r in done.items() if r.diffs is not None} for done in published]
    good, total = published_round_trips(programs, diffs)
    report.set("reference_round_trip_rate", rate(good, total) if total else None, n=total)


def _edits(
    report: Report, ours: Sequence[Pass], published: Sequence[Mapping[str, Published]]
) -> None:
    """The edits a sequence of the programs that both sides made one of."""
    own = _mean_by_program(
        [
            {
                id_: fmean(len(states_of(text)) for text in texts)
                for id_, texts in done.texts.items()
            }
            for done in ours
        ]
    )
    theirs = _mean_by_program(
        [
            {id_: sum(map(bool, r.diffs)) for id_, r in done.items() if r.diffs is not None}
            for done in published
        ]
    )
    both = [id_ for id_ in own if id_ in theirs]
    for key, edits in (("edits_per_sequence", own), ("reference_edits_per_sequence", theirs)):
        report.set(key, fmean(edits[id_] for id_ in both) if both else None, n=len(both))


def _edits_of_sets(report: Report) -> None:
    """The same for three larger sets, by our engines."""
    for name, programs in edit_programs().items():
        made = [fresh(edits_by_program, programs, engine) for engine in ("fast", "reference")]
        both = [program.id for program in programs if all(program.id in edits for edits in made)]
        ours, theirs = ([edits[id_] for id_ in both] for edits in made)
        report.set(f"edits_per_sequence_{name}", fmean(ours), n=len(both))
        report.set(f"reference_edits_per_sequence_{name}", fmean(theirs), n=len(both))
        ratio = ratio_of_sums(ours, theirs, [name] * len(both), report.seed)
        report.set(f"edits_ratio_{name}", ratio, n=len(both))
        say(f"edits a sequence of {name} counted")


def _third_party(report: Report, count: int) -> None:
    """Audits programs that no rule was tuned on: the modules of the packages installed here."""
    programs = third_party_programs(count, report.seed)
    known: dict[str, Messages] = {}
    for mode in MODES:
        done = fresh(one_pass, programs, mode, seed=report.seed)
        _dirty(report, f"third_party_dirty_rate_{mode}", audit(programs, [done], known))
        report.samples[f"third_party_programs_{mode}"] = len(done.texts)
        say(f"third-party modules audited ({mode})")
