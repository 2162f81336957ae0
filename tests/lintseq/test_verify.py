"""Checks of states, and repairs where the dependency rules are made to miss something."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
from pathlib import Path

import pytest

from codegen.core.errors import CodegenError, ConfigError, MachineError
from codegen.core.records import Example
from codegen.lintseq import (
    EditSequence,
    LintSeq,
    UnsupportedProgram,
    VerificationFailed,
    edit_sequence,
    normalize,
    prepare,
    resampling,
    resolve,
)
from codegen.lintseq import verify as ruff
from codegen.lintseq.program import PreparedProgram
from codegen.lintseq.reference import random_sequence
from codegen.lintseq.resampling import edit_sequences
from codegen.lintseq.verify import (
    LintMessage,
    Verify,
    check_compile,
    check_for,
    check_pylint,
    check_ruff,
    new_findings,
)

PROGRAM = "x = 1\ny = x\nif y:\n    z = y\n    print(z)\n"


def without_edges() -> PreparedProgram:
    """The program, with the dependencies of one of its shape whose lines are independent."""
    prepared = prepare("a = 1\nb = 1\nif 1:\n    c = 1\n    print(1)\n")
    return dataclasses.replace(prepared, lines=prepare(PROGRAM).lines)


def without_groups() -> PreparedProgram:
    """The program, when its block may lose its last statement."""
    prepared = prepare(PROGRAM)
    return dataclasses.replace(
        prepared, groups=((),) * len(prepared.groups), group_sizes=(), group_targets=()
    )


def test_compile() -> None:
    clean, broken, late = check_compile(["x = '\\d'\n", "if x:\n", "def f():\n    nonlocal x\n"])
    assert clean == []
    assert [finding.line for finding in broken] == [1]
    assert [finding.line for finding in late] == [2]


def test_ruff() -> None:
    states = [
        "import os\nx = 1\n",
        "x = y  # noqa\n",
        "__all__ = ['a']\n",
        "x = 0\ndef f():\n    print(x)\n    x = 1\n",
        "if x:\n",
        "'%s %s' % (1,)\n",
    ]
    findings = check_ruff(states)
    rules = [{finding.rule for finding in found} for found in findings]
    assert rules[:4] == [set(), {"F821"}, {"F822"}, {"F823"}]
    assert rules[4] == {"syntax-error"}
    assert rules[5] == {"F507"}
    assert findings[1] == [LintMessage(1, "F821", "Undefined name `y`")]


def test_a_missing_block_is_the_fault_of_its_header() -> None:
    for state in ("if x:\n", "if x:  # why\n\n# a\ny = 1\n", "def f(\n    a\n):\nz = 1\n"):
        (found,), (compiled,) = check_ruff([state])[0], check_compile([state])[0]
        assert found.rule == "syntax-error"
        assert state.split("\n")[found.line - 1].partition("#")[0].rstrip().endswith(":")
        assert found.line >= compiled.line


@pytest.mark.slow
def test_ruff_refuses_whatever_the_compiler_refuses(stdlib_paths: list[Path]) -> None:
    """Lines deleted at random, most of which leave no Python; Python's compiler is the oracle."""
    rng = random.Random(5)
    states: list[str] = []
    for path in rng.sample([p for p in stdlib_paths if p.stat().st_size < 25_000], 60):
        try:
            program = normalize(path.read_text(encoding="utf-8"))
            sequence = random_sequence(program, rng)
        except (UnicodeDecodeError, UnsupportedProgram):
            continue
        states += rng.sample(sequence.states, min(6, len(sequence.states)))
        lines = program.split("\n")
        for _ in range(6):
            gone = set(rng.sample(range(len(lines)), min(len(lines) - 1, rng.randint(1, 3))))
            states.append("\n".join(x for n, x in enumerate(lines) if n not in gone))
    compiled, linted = check_compile(states), check_ruff(states)
    assert sum(map(bool, compiled)) > 150
    missed = [s for s, a, b in zip(states, compiled, linted, strict=True) if a and not b]
    assert missed == []


def test_ruff_with_no_state_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("ruff was started"))
    assert check_ruff([]) == []


def test_ruff_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "ruff"
    script.write_text("#!/bin/sh\necho broken >&2\nexit 2\n")
    script.chmod(0o755)
    monkeypatch.setattr(ruff, "find_ruff", lambda: str(script))
    with pytest.raises(CodegenError, match="exit code 2: broken"):
        check_ruff(["x = 1\n"])


def test_ruff_that_fails_on_one_program_is_that_programs_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "ruff"
    script.write_text('#!/bin/sh\nfor last; do :; done\n[ "$last" = - ] && exit 0\nexit 101\n')
    script.chmod(0o755)
    monkeypatch.setattr(ruff, "find_ruff", lambda: str(script))
    with pytest.raises(CodegenError, match="exit code 101") as caught:
        check_ruff(["x = 1\n"])
    assert not isinstance(caught.value, MachineError)


def test_ruff_that_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ruff", None)  # as if it were not installed
    monkeypatch.setitem(sys.modules, "ruff.__main__", None)
    with pytest.raises(CodegenError, match="pip install ruff"):
        check_ruff(["x = 1\n"])


def test_findings_of_the_whole_program_are_excused() -> None:
    old = [LintMessage(3, "F821", "a"), LintMessage(9, "F821", "b")]
    assert new_findings([LintMessage(1, "F821", "a")], old) == []
    assert new_findings([LintMessage(1, "F822", "a")], old) == [LintMessage(1, "F822", "a")]
    twice = [LintMessage(1, "F821", "a"), LintMessage(2, "F821", "a")]
    assert new_findings(twice, old) == twice[1:]


def test_line_numbers_in_messages_do_not_count() -> None:
    old = [LintMessage(9, "E0102", "function already defined line 7")]
    assert new_findings([LintMessage(5, "E0102", "function already defined line 3")], old) == []
    assert new_findings(
        [LintMessage(5, "E1121", "too many: 3")], [LintMessage(5, "E1121", "too many: 4")]
    )


def test_unknown_check() -> None:
    with pytest.raises(ConfigError, match="mypy"):
        check_for("mypy")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("check", "damage"),
    [("ruff", without_edges), ("compile", without_groups), ("pylint", without_edges)],
)
def test_dirty_states_are_repaired(check: Verify, damage) -> None:
    prepared = damage()
    seeds = range(20)
    unchecked = edit_sequences([(prepared, random.Random(s)) for s in seeds], verify="static")
    repaired = edit_sequences([(prepared, random.Random(s)) for s in seeds], verify=check)

    def is_clean(result) -> bool:
        find = {"ruff": check_ruff, "compile": check_compile, "pylint": check_pylint}[check]
        return not any(find(result.states))

    assert not all(map(is_clean, unchecked))
    assert all(map(is_clean, repaired))
    assert {result.program for result in repaired if isinstance(result, EditSequence)} == {PROGRAM}
    # Those that were clean at once are left as they are.
    for before, after in zip(unchecked, repaired, strict=True):
        assert not is_clean(before) or after == before


def test_jobs_do_not_depend_on_each_other() -> None:
    prepared = without_edges()
    together = edit_sequences([(prepared, random.Random(s)) for s in range(6)], verify="ruff")
    alone = [edit_sequences([(prepared, random.Random(s))], verify="ruff")[0] for s in range(6)]
    assert together == alone


def test_repairs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.resampling.MAX_REPAIRS", 0)
    prepared = without_groups()
    results = edit_sequences([(prepared, random.Random(s)) for s in range(20)], verify="compile")
    failed = [result for result in results if isinstance(result, VerificationFailed)]
    assert failed
    assert len(failed) < 20
    assert failed[0].check == "compile"
    assert "line" in failed[0].detail
    assert not hasattr(failed[0], "reason")  # the data engine counts it as failed, not as skipped


def test_failed_sequences_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.resampling.MAX_REPAIRS", 0)
    monkeypatch.setattr("codegen.lintseq.generator.prepare", lambda *_, **__: without_groups())
    example = Example("a", "Do it.", PROGRAM)
    texts = list(LintSeq(sequences=20, verify="compile").generate(example, random.Random(0)))
    failures = 20 - len(texts)
    assert 0 < failures < 20
    assert [text.meta.get("failed_sequences", 0) for text in texts] == [failures] + [0] * (
        len(texts) - 1
    )
    with pytest.raises(VerificationFailed):
        for seed in range(20):
            list(LintSeq(verify="compile").generate(example, random.Random(seed)))


def test_pylint_falls_back_on_the_published_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.resampling.MAX_REPAIRS", 0)
    monkeypatch.setattr("codegen.lintseq.generator.prepare", lambda *_, **__: without_edges())
    example = Example("a", "Do it.", PROGRAM)
    texts = list(LintSeq(sequences=20, verify="pylint").generate(example, random.Random(0)))
    assert len(texts) == 20
    fallbacks = [text.meta.get("fallbacks", 0) for text in texts]
    assert 0 < sum(fallbacks) < 20
    for text in texts:
        resolution = resolve(text.segments[1].text)
        assert resolution.program == PROGRAM
        assert not any(check_pylint(resolution.states))


def test_fallback_excuses_what_the_program_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.resampling.MAX_REPAIRS", -1)  # nothing but the fallback
    program = "x = 1\ny = unknown\nz = x\n"
    (result,) = edit_sequences([(prepare(program), random.Random(2))], verify="pylint")
    assert isinstance(result, EditSequence)
    assert result.program == program
    *findings, whole = check_pylint(result.states)
    assert [finding.rule for finding in whole] == ["E0602"]
    assert not any(new_findings(found, whole) for found in findings)
    assert any(findings)  # the fault is not in the last edit, as the published algorithm has it


def test_program_without_a_line_to_draw_has_no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.lintseq.resampling.MAX_REPAIRS", -1)
    monkeypatch.setattr(
        "codegen.lintseq.resampling.reference_sequence",
        lambda *_: (_ for _ in ()).throw(UnsupportedProgram("no_candidates", "none.")),
    )
    (result,) = edit_sequences([(prepare("x = 1\n"), random.Random(0))], verify="pylint")
    assert isinstance(result, VerificationFailed)
    assert result.check == "pylint"


@pytest.mark.long
def test_too_many_states_are_refused_the_same_way_on_every_machine() -> None:
    """By their length, not by the time they take; the rules alone write even such a program."""
    program = "".join(f"x{n} = {n}\n" for n in range(20_000))
    jobs = [(prepare(text), random.Random(0)) for text in ("y = 1\n", program)]
    small, large = edit_sequences(jobs, verify="compile")
    assert isinstance(small, EditSequence)
    assert isinstance(large, UnsupportedProgram)
    assert large.reason == "too_many_states"
    assert "verify='static'" in large.remedy
    written = edit_sequence(program, random.Random(0), verify="static")
    assert len(written.edits) == 20_000
    assert written.program == program


@pytest.mark.parametrize("most", [200, 500, 10_000])
def test_batches_never_change_a_sequence(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states of one program have less than 200 characters, those of all some 1,000."""
    programs = [f"def f{n}(x):\n    y = x + {n}\n    return y\n" for n in range(9)]
    jobs = [(prepare(text), random.Random(n)) for n, text in enumerate(programs)]
    expected = edit_sequences(jobs, verify="compile")
    assert all(isinstance(found, EditSequence) for found in expected)
    monkeypatch.setattr(resampling, "MOST_STATE_CHARACTERS", most)
    jobs = [(prepare(text), random.Random(n)) for n, text in enumerate(programs)]
    assert edit_sequences(jobs, verify="compile") == expected
