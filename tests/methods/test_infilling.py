"""Fill-in-the-middle data: spans against Python's own syntax, nothing lost, errors named."""

from __future__ import annotations

import ast
import random
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import ConfigError
from codegen.core.records import Example
from codegen.data import make
from codegen.evals.tasks.styles import STYLES
from codegen.methods.infilling import KINDS, Infilling, UnsuitableProgram, spans_of

PROGRAM = textwrap.dedent(
    '''
    def grüße(näme: str) -> str:
        """Say ü."""
        if näme == "é":
            return f"hé {näme!r:>{len(näme)}}"
        elif näme:
            return näme.upper()
        else:
            x = [i * 2 for i in range(3)]
        @property
        def inner(): return 1
        try:
            y = x[0] + 1
        finally:
            print(y)
        return str(y)
    '''
).lstrip()


def test_blocks_are_what_stands_under_a_header() -> None:
    found = [PROGRAM[a:b] for a, b in spans_of("block", PROGRAM, random.Random(0))]
    assert "        return näme.upper()\n" in found
    assert "        x = [i * 2 for i in range(3)]\n" in found
    assert "        y = x[0] + 1\n" in found and "        print(y)\n" in found
    assert any(span.startswith('    """Say ü."""') and span.endswith("str(y)\n") for span in found)
    assert not any(span.lstrip().startswith("elif") for span in found)
    for a, b in spans_of("block", PROGRAM, random.Random(0)):
        indentation = PROGRAM[a:b][: len(PROGRAM[a:b]) - len(PROGRAM[a:b].lstrip())]
        ast.parse(PROGRAM[:a] + indentation + "pass\n" + PROGRAM[b:])


def test_nodes_are_pythons_own_segments() -> None:
    nodes = {
        ast.get_source_segment(PROGRAM, node)
        for node in ast.walk(ast.parse(PROGRAM))
        if isinstance(node, (ast.stmt, ast.expr))
    }
    found = {PROGRAM[a:b] for a, b in spans_of("ast", PROGRAM, random.Random(0))}
    assert found <= nodes
    assert {"näme.upper()", "i * 2", "x[0] + 1", "range(3)"} <= found


def test_lines_end_where_lines_end() -> None:
    for newline in ("\n", "\r\n"):
        program = PROGRAM.replace("\n", newline)
        for a, b in spans_of("line", program, random.Random(1)):
            assert a == 0 or program[a - 1] == "\n"
            assert b == len(program) or program[b - 1] == "\n"
            assert program[a:b].splitlines()[0].strip()
        for kind in ("block", "ast"):
            for a, b in spans_of(kind, program, random.Random(1)):
                assert program[a:b].strip()


def test_real_programs_keep_every_character(humaneval_rows: list[dict[str, Any]]) -> None:
    generator = Infilling(sequences=4)
    kinds = set()
    for row in humaneval_rows[:60]:
        program = row["prompt"] + row["canonical_solution"]
        for text in generator.generate(Example(row["task_id"], "", program), random.Random(3)):
            a, b = text.meta["span"]
            assert text.trained == program[a:b]
            asked = STYLES["fim-qwen"].render(prefix=program[:a], suffix=program[b:])
            assert text.segments[0].text == asked and not text.segments[0].train
            kinds.add(text.meta["kind"])
    assert kinds == set(KINDS)


@given(st.text(), st.sampled_from(KINDS), st.integers(0, 9))
def test_any_text_has_sound_spans(program: str, kind: str, seed: int) -> None:
    for a, b in spans_of(kind, program, random.Random(seed)):
        assert 0 <= a <= b <= len(program)


def test_suffix_first_and_left_to_right() -> None:
    example = Example("e", "", "a = 1\nb = 2\n")
    (text,) = Infilling(style="fim-starcoder-spm", spans="line").generate(example, random.Random(0))
    asked, middle = text.segments[0].text, text.trained
    assert asked.startswith("<fim_prefix><fim_suffix>") and "<fim_middle>" in asked
    assert (asked.partition("<fim_middle>")[2] + middle) in example.program
    (plain,) = Infilling(rate=0.0).generate(example, random.Random(0))
    assert plain.trained == example.program and len(plain.segments) == 1
    (whole,) = Infilling(loss="all", spans="line").generate(example, random.Random(0))
    assert all(segment.train for segment in whole.segments)


@pytest.mark.parametrize(
    ("program", "reason", "options"),
    [
        (" \n", "empty", {}),
        ("x = '<|fim_middle|>'\n", "sentinel_in_program", {}),
        ("not python at all!\n", "no_span", {"spans": "block,ast"}),
    ],
)
def test_examples_that_do_not_fit(program: str, reason: str, options: dict[str, Any]) -> None:
    with pytest.raises(UnsuitableProgram) as caught:
        list(Infilling(**options).generate(Example("e", "", program), random.Random(0)))
    assert caught.value.reason == reason


def test_mistakes_are_named() -> None:
    for options, message in (
        ({"style": "chat"}, "infilling style 'chat'.*fim-qwen"),
        ({"spans": "line,word"}, "kind of span 'word'"),
        ({"loss": "suffix"}, "loss is 'suffix'.*middle or all"),
        ({"rate": 1.5}, "rate is 1.5"),
        ({"sequences": 0}, "sequences is 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            make("infilling", **options)
