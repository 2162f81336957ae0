"""LintSeq in languages other than Python: states that the compiler rejects, and CPU time.

Uses the reference solutions of McEval (50 per language) and, for Java, HumanEvalPack, in the folder
that CODEGEN_TEST_DATA names; Go programs without their tests' unused imports. One sequence per
program. The keys of a language have its prefix, such as ``go_``:

- ``programs``: number with a sequence; ``skipped``: number that LintSeq rejects; ``not_clean``:
  number that the compiler rejects as a whole, as they need packages or other files.
- ``round_trip``: the fraction of sequences whose edits restore the program.
- ``dirty``: the fraction of unfinished states of the default check (the grammar's errors) that the
  language's compiler rejects; with ``--verify strict`` such states are omitted.
  Its interval is by bootstrap over programs.
- ``ms_a_sequence``: CPU time per sequence with the default check; ``strict_ms_a_state``: wall time
  of the compiler's check per state, in batches.

A missing compiler yields null and the package to install.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence

from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, chosen_parts
from codegen.benchmarks.tools.statistics import clustered_mean
from codegen.core.errors import MachineError
from codegen.core.records import Example
from codegen.evals import tasks
from codegen.lintseq import LintSeq, UnsupportedProgram, resolve
from codegen.lintseq.languages import LANGUAGES, Grammar
from codegen.lintseq.program import PreparedProgram, prepare
from codegen.lintseq.resampling import VerifiedSequence, verified_sequences
from codegen.lintseq.verify import check_for

_TESTS_IMPORT = re.compile(r'^\t"(?:testing|github\.com/stretchr/testify/assert)"\n', re.MULTILINE)


def measure_languages(report: Report, languages: str, limit: int) -> None:
    """Sets the results of some languages.

    Args:
        report: receives the results.
        languages: names, comma-separated, or ``all``.
        limit: maximum programs per language, sampled by the seed; 0 for all.
    """
    names = [grammar.name for grammar in LANGUAGES]
    wanted = names if languages == "all" else sorted(chosen_parts(languages, names))
    for grammar in LANGUAGES:
        if grammar.name in wanted:
            programs = _solutions(grammar)
            random.Random(report.seed).shuffle(programs)
            _measure(report, grammar, programs[: limit or None])
            say(grammar.name)


def _solutions(grammar: Grammar) -> list[str]:
    name = "humanevalpack" if grammar.name == "java" else "mceval"  # McEval's lacks the classes
    task = tasks.load(f"{name}:{grammar.name}")
    return [_TESTS_IMPORT.sub("", task.reference(problem)) for problem in task.problems()]


def _measure(report: Report, grammar: Grammar, programs: Sequence[str]) -> None:
    name, key = grammar.name, f"{grammar.name}_"
    prepared: list[PreparedProgram] = []
    began = time.process_time()
    for program in programs:
        try:
            prepared.append(prepare(program, language=name))
        except UnsupportedProgram:
            continue
    jobs = [(one, random.Random(report.seed)) for one in prepared]
    made = [one for one in verified_sequences(jobs, "ruff") if isinstance(one, VerifiedSequence)]
    spent = time.process_time() - began
    report.set(f"{key}skipped", len(programs) - len(made), n=len(programs))
    report.set(f"{key}ms_a_sequence", 1000 * spent / len(made) if made else None, n=len(made))
    trips = [_round_trip(one.sequence.program, name) for one in made]
    report.set(f"{key}round_trip", sum(trips) / len(trips) if trips else None, n=len(trips))
    try:
        check = check_for("strict", name)
        assert check is not None
        whole = check([one.sequence.program for one in made])
        clean = [one for one, found in zip(made, whole, strict=True) if not found]
        states = [one.sequence.states[:-1] for one in clean]
        began = time.perf_counter()
        found = iter(check([state for own in states for state in own]))
        spent = time.perf_counter() - began
    except MachineError as error:
        report.install[name] = f"{error.message} {error.remedy}".strip()
        for figure in ("programs", "not_clean", "dirty", "strict_ms_a_state"):
            report.set(key + figure, None)
        return
    clusters = [str(number) for number, own in enumerate(states) for _ in own]
    dirty = [float(bool(next(found))) for _ in clusters]
    count = len(dirty)
    report.set(f"{key}programs", len(clean))
    report.set(f"{key}not_clean", len(made) - len(clean))
    report.set(f"{key}dirty", clustered_mean(dirty, clusters) if count else None, n=count)
    report.set(f"{key}strict_ms_a_state", 1000 * spent / count if count else None, n=count)


def _round_trip(program: str, language: str) -> bool:
    example = Example("a", "", program, language)
    (text,) = LintSeq(audit=0.0).generate(example, random.Random(0))
    return resolve(text.trained).program == program
