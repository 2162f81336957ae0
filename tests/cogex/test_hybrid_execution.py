"""Hybrid against plain execution."""

from __future__ import annotations

from typing import Any

import pytest
from cogex_helpers import Scripted

from codegen.cogex import Invalid, builtin_families, parse_program
from codegen.cogex.builtin_families import FAMILIES
from codegen.cogex.hybrid_execution import (
    MOST_LEAVES,
    LeafCall,
    emulated_leaf,
    leaf_program,
    run_hybrid,
)
from codegen.cogex.model import PseudoModel
from codegen.sandbox import Sandbox


def real_helper(leaf: LeafCall) -> Any:
    """What the helper that the text leaves out really gives."""
    if not hasattr(builtin_families, leaf.name):
        raise Invalid("no_output")
    return getattr(builtin_families, leaf.name)(*leaf.args, **leaf.named)


def test_with_the_real_helpers_a_hybrid_run_is_the_real_run(sandbox: Sandbox) -> None:
    asked = 0
    for family in FAMILIES.values():
        for number in range(3):
            record = family.record(number)
            program = parse_program(record.program)
            run = run_hybrid(program, record.call, sandbox, real_helper)
            assert not run.failure, run.detail
            assert run.output == record.output
            assert (len(run.leaves) > 0) == bool(program.undefined)
            asked += len(run.leaves)
    assert asked >= 12


PROGRAM = '''\
def judge(text, limit):
    """Judges a text."""
    # Step 1: Words.
    words = text.split()
    lengths = []
    for word in words:
        lengths.append(len(word))
    root = math.sqrt(limit)
    # Step 2: Judge.
    praise = find_praise(words)
    tone = nlp.tone.of(praise, scale=limit)
    if tone == "good":
        mark = 1
    else:
        mark = 2
    # Step 3: Answer.
    return {"words": words, "lengths": lengths, "root": root, "praise": praise,
            "mark": mark, "twice": len(praise) * 2, "answer": len(words) + mark}'''


def answers(leaf: LeafCall) -> Any:
    return ["great"] if leaf.name == "find_praise" else "good"


def test_both_traces(sandbox: Sandbox) -> None:
    run = run_hybrid(parse_program(PROGRAM), "judge('a great film', 9)", sandbox, answers)
    assert run.output == {
        "words": ["a", "great", "film"], "lengths": [1, 5, 4], "root": 3.0,
        "praise": ["great"], "mark": 1, "twice": 2, "answer": 4,
    }  # fmt: skip
    assert [leaf.call for leaf in run.leaves] == [
        "find_praise(['a', 'great', 'film'])",
        "nlp.tone.of(['great'], scale=9)",
    ]
    by_line = {step.line: step.values for step in run.steps}
    assert by_line[4]["words"] == ["a", "great", "film"]
    assert by_line[6]["lengths"] == [1, 5, 4]
    assert by_line[12] == {"mark": 1}
    assert run.values["lengths"] == [1, 5, 4] and run.values["root"] == 3.0


def test_defined_helpers_run(sandbox: Sandbox) -> None:
    text = (
        "def half(x):\n    import nltk\n    return x / 2\n\n"
        "def f(x):\n    y = half(x)\n    return {'y': y, 'answer': guess(y)}"
    )
    run = run_hybrid(parse_program(text), "f(4)", sandbox, lambda _: "good")
    assert run.output == {"y": 2.0, "answer": "good"}
    assert [leaf.call for leaf in run.leaves] == ["guess(2.0)"]


@pytest.mark.parametrize(
    ("body", "call", "failure"),
    [
        ("return {'answer': 1 / x}", "f(0)", "raised"),
        ("return {'answer': missing}", "f(0)", "raised"),
        ("return {'answer': x}", "f()", "call_mismatch"),
        ("return {'answer': x}", "g(1)", "wrong_name"),
        ("return {'answer': helper}", "f(1)", "raised"),
        ("return {'answer': f}", "f(1)", "not_literal"),
        ("y = helper(x)\n    return {'answer': y}", "f(-1)", "no_leaf"),
        ("y = [helper(n) for n in range(x)]\n    return {'answer': y}", "f(40)", "too_many_leaves"),
        ("raise SystemExit\n    return {'answer': 1}", "f(1)", "raised"),
    ],
)
def test_runs_that_fail_say_why(sandbox: Sandbox, body: str, call: str, failure: str) -> None:
    def helper(leaf: LeafCall) -> Any:
        if leaf.args == (-1,):
            raise Invalid("unbalanced", "half a dictionary")
        return 1

    run = run_hybrid(parse_program(f"def f(x):\n    {body}"), call, sandbox, helper)
    assert (run.failure, run.output) == (failure, {})
    assert run.detail
    assert len(run.leaves) == (MOST_LEAVES if failure == "too_many_leaves" else 0)


def test_a_model_answers_helpers() -> None:
    leaf = LeafCall("nlp.tone_of", ("words",), (["great"],), {"scale": 9})
    text, call = leaf_program(leaf)
    program = parse_program(text)
    assert program.undefined == ("nlp.tone_of",) and program.keys == ("answer",)
    assert call == "use_tone_of(['great'], 9)"
    back = Scripted(lambda _: "{'answer': 'good'}")
    assert emulated_leaf(PseudoModel(back), 0.05, leaf) == "good"
    assert back.requests[0].prompt.endswith(f"{text}\n\n>>> {call}\n### Output\n")
    with pytest.raises(Invalid) as caught:
        emulated_leaf(PseudoModel(Scripted(lambda _: "good")), 0.05, leaf)
    assert caught.value.reason == "no_output"


@pytest.mark.parametrize(
    "body",
    [
        "globals()['_cogex_steps'].append(1)",
        "globals()['_cogex_steps'].append([99, {}])",
        "globals()['_cogex_steps'].append([[], 1])",
        "raise globals()['_cogex_Asked'](1)",
        "raise globals()['_cogex_Asked'](1, 2, 3)",
    ],
)
def test_a_program_that_changes_its_trace_is_a_failure(sandbox: Sandbox, body: str) -> None:
    program = parse_program(f"def f(x):\n    {body}\n    return {{'answer': x}}")
    found = run_hybrid(program, "f(1)", sandbox, lambda leaf: 1)
    assert (found.failure, found.output) == ("raised", {})
