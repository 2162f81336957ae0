"""Compilers as checks: what they reject, and toolchains that are missing."""

from __future__ import annotations

import random

import pytest

from codegen.core import languages
from codegen.core.records import Example
from codegen.lintseq import LintSeq, UnsupportedProgram
from codegen.lintseq.languages import LANGUAGES
from codegen.lintseq.program import prepare
from codegen.lintseq.resampling import VerifiedSequence, verified_sequences
from codegen.lintseq.verify import LintMessage, check_for, compilers
from codegen.sandbox.languages import MissingToolchainError, find_toolchain
from tests.lintseq.languages.test_program_graph import _programs


@pytest.fixture(autouse=True, scope="module")
def grammars() -> None:
    for grammar in LANGUAGES:
        pytest.importorskip(languages.LANGUAGES[grammar.name].grammar[0])


def test_what_the_check_rejects_is_left_out() -> None:
    program = _programs("javascript")[0]
    prepared = prepare(program, language="javascript")

    def is_odd(state: str) -> bool:
        return "const tree" in state and "switch (" not in state

    def check(states):
        return [[LintMessage(1, "odd", "odd")] if is_odd(state) else [] for state in states]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilers, "compiler_check", lambda language: check)
        jobs = [(prepared, random.Random(seed)) for seed in range(10)]
        results = verified_sequences(jobs, "strict")
    for result in results:
        assert isinstance(result, VerifiedSequence)
        assert result.sequence.program == program
        assert not any(map(is_odd, result.sequence.states))
    assert any(isinstance(result, VerifiedSequence) and result.joined for result in results)


def test_programs_that_the_compiler_rejects_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def rejecting(*_: object):
        return lambda states: [[LintMessage(3, "compiler", "no such name")] for _ in states]

    monkeypatch.setattr(compilers, "compiler_check", rejecting)
    example = Example("a", "", _programs("go")[0], "go")
    with pytest.raises(UnsupportedProgram, match="line 3: no such name") as caught:
        list(LintSeq(verify="strict").generate(example, random.Random(0)))
    assert caught.value.reason == "not_clean"


def test_a_missing_toolchain_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    find_toolchain.cache_clear()
    compilers.sandbox_for.cache_clear()
    with pytest.raises(MissingToolchainError, match="apt install golang-go"):
        check_for("strict", "go")
    find_toolchain.cache_clear()
