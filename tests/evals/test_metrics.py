"""Repetition and diversity, against counting by hand, brute force and simulation."""

from __future__ import annotations

import ast
import itertools
import math
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.evals.metrics import (
    Generation,
    RepeatedEnding,
    compiles,
    edit_distance,
    expected_unique,
    find_loop,
    lex,
    measure_diversity,
    normal_form,
    paper_repetition,
    shapes,
    statements,
    vendi_score,
)

PROGRAM = '''@cache
def f(a, b=2):
    """Doc."""
    for x in a:  # note
        if x: print(x); y = 1
        else:
            return "a" "b"
'''


def stdlib(count: int) -> Iterator[str]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:count]:
        yield path.read_text(encoding="utf-8")


# --- taking programs apart ---------------------------------------------------------------------


def test_statements_of_a_program_by_hand() -> None:
    assert statements(PROGRAM) == [
        "@cache",
        "def f(a, b=2):",
        '"""Doc."""',
        "for x in a:",
        "if x:",
        "print(x)",
        "y = 1",
        "else:",
        'return "a" "b"',
    ]
    assert shapes(PROGRAM)[:4] == ["@ N", "def N ( N , N = 0 ) :", "S", "for N in N :"]
    assert lex("x = 'a b'  # c\n\ty") == ["x", "=", "'a b'", "y"]


@pytest.mark.slow
def test_statements_are_those_of_pythons_own_parser() -> None:
    """Every statement of ``ast`` is found, and beyond them only clauses and decorators."""
    for source in stdlib(12):
        nodes = list(ast.walk(ast.parse(source)))
        # An elif is one statement inside another's orelse in ast, and a clause here.
        decorators = sum(len(getattr(node, "decorator_list", [])) for node in nodes)
        found = statements(source)
        clauses = sum(f.split()[0].rstrip(":") in CLAUSES for f in found)
        elifs = sum(f.startswith("elif") for f in found)
        expected = sum(isinstance(node, ast.stmt) for node in nodes)
        assert len(found) - clauses - decorators == expected - elifs


CLAUSES = {"else", "elif", "except", "finally", "except*", "case"}


@pytest.mark.parametrize(
    "broken", ["def f(:\n  x", "x = [1, 2,\n", '"""open', "\x00\ud800", "", "(" * 5000, "a\n" * 9]
)
def test_broken_text_is_taken_apart_without_harm(broken: str) -> None:
    for take in (lex, statements, shapes, normal_form, compiles):
        take(broken)
    outputs = [Generation("", broken, False)]
    paper_repetition(outputs)


def test_a_program_cut_off_still_has_its_statements() -> None:
    assert statements("x = 1\nx = 1\ny = [1,\n") == ["x = 1", "x = 1", "y = [1,"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a):\n    return a", "def f(xs):\n    '''Doc.'''\n    return (xs)  # c"),
        ("def f():\n    for i in g(): yield i", "def f():\n  for j in g():\n    yield j\n"),
        ("f = lambda a: a", "f = lambda b: b"),
    ],
)
def test_programs_that_differ_in_form_only_have_one_normal_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)
    compile(normal_form(one), "n", "exec")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(a, b):\n    return a - b", "def f(a, b):\n    return b - a"),
        ("def f(a):\n    return a", "def g(a):\n    return a"),
        ("def f(a):\n    return len", "def f(len):\n    return len"),
        ("def f():\n    global x\n    x = 1", "def f():\n    global y\n    y = 1"),
        ("x = 1", "y = 1"),
        ("broken(", "broken["),
    ],
)
def test_programs_that_differ_otherwise_do_not(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@pytest.mark.slow
def test_a_normal_form_of_real_code_is_its_own_and_compiles() -> None:
    for source in stdlib(8):
        form = normal_form(source)
        compile(form, "form", "exec", dont_inherit=True)
        assert normal_form(form) == form


def table_distance(one: str, other: str) -> int:
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(before + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


@given(st.text("abc", max_size=80), st.text("abc", max_size=80))
def test_the_edit_distance_is_that_of_the_table(one: str, other: str) -> None:
    assert edit_distance(one, other) == table_distance(one, other)


# --- repetition --------------------------------------------------------------------------------


def test_the_papers_measures_by_hand() -> None:
    outputs = [
        Generation("p = 1\n", "x = 1\nx = 1\nx = 2\n", True),  # 9 tokens, 6 4-grams, 4 distinct
        Generation("p = 1\n", "y(\n", False),
    ]
    found = paper_repetition(outputs)
    assert (found.egp, found.ccp, found.outputs, found.tokens) == (0.5, 0.5, 2, 5.5)
    grams = list(zip(*[lex(outputs[0].text)[i:] for i in range(4)], strict=False))
    assert (len(grams), len(set(grams))) == (6, 4)
    assert found.tr_n == pytest.approx((2 / 6 + 0) / 2)
    assert found.tr_s == pytest.approx((1 / 3 + 0) / 2)
    assert found.tr_shape == pytest.approx((2 / 3 + 0) / 2)
    assert found.tr_kind == pytest.approx((3 / 6 + 0) / 2)  # N = 0 thrice: 3 distinct of 6
    assert found.rep_line == pytest.approx((1 / 3 + 0) / 2)
    both = paper_repetition(outputs, scope="prompt+output")
    assert both.scope == "prompt+output"
    assert both.tr_s == pytest.approx((1 / 4 + 0) / 2)
    with pytest.raises(InputError, match="No outputs"):
        paper_repetition([])


def test_similar_lines_by_hand() -> None:
    text = "aa(b, c, d, e)\naa(b, c, d, f)\nzz = 1\n"  # 1 of 10 tokens differs: 0.9 alike
    assert paper_repetition([Generation("", text, True)]).sim_line == pytest.approx(2 / 3)


@given(st.text("ab", max_size=12), st.text("abc", min_size=1, max_size=4), st.integers(3, 6))
def test_a_loop_is_found_where_one_was_made(head: str, piece: str, copies: int) -> None:
    text = head + piece * copies
    loop = find_loop(text)
    assert loop is not None
    assert loop.copies >= 3
    assert loop.period * loop.copies >= len(piece) * copies - loop.period
    body = text[loop.start : loop.start + loop.period]
    tail = text[loop.start :]
    assert tail == (body * (loop.copies + 1))[: len(tail)]
    assert len(tail) >= loop.period * loop.copies


def test_loops_by_hand() -> None:
    assert find_loop("xyababab") == RepeatedEnding(2, 3, 2)
    assert find_loop("xyabababa") == RepeatedEnding(
        2, 3, 2
    )  # the copy that was begun counts to none
    assert find_loop("abab") is None
    assert find_loop("") is None
    found = paper_repetition([Generation("", "x = 1\n" + "y(2)\n" * 30, False)])
    assert found.looping == 1.0
    assert found.loop_onset == pytest.approx(3 / 123)


# --- diversity ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=8), st.data())
def test_rarefaction_is_the_mean_over_all_subsets(keys: list[str], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(keys)))
    expected = np.mean([len(set(subset)) for subset in itertools.combinations(keys, k)])
    assert expected_unique(keys, k) == pytest.approx(expected)


def test_more_samples_of_the_same_source_do_not_look_more_diverse() -> None:
    rng = random.Random(1)

    def drawn(n: int) -> dict[str, list[str]]:
        return {
            f"P{p}": [f"x = {min(rng.getrandbits(8).bit_length(), 6)}" for _ in range(n)]
            for p in range(60)
        }

    few, many = drawn(10), drawn(50)
    plain = [np.mean([len(set(t)) / len(t) for t in run.values()]) for run in (few, many)]
    assert plain[0] > 2 * plain[1]
    rarefied = [np.mean([expected_unique(t, 10) for t in run.values()]) for run in (few, many)]
    assert rarefied[0] == pytest.approx(rarefied[1], rel=0.07)


def test_vendi_counts_distinct_lists() -> None:
    assert vendi_score([["a", "b"]] * 5) == pytest.approx(1.0)
    assert vendi_score([["a"], ["b"], ["c"], ["d"]]) == pytest.approx(4.0)
    assert vendi_score([["a"], ["a"], ["b"], ["b"]]) == pytest.approx(2.0)
    assert vendi_score([[], [], ["a"]]) == pytest.approx(3.0)


def test_diversity_of_samples_by_hand() -> None:
    found = measure_diversity(
        {
            "same": ["x = 1"] * 3,
            "form": ["def f(a): return a", "def f(b):\n  return b", "def f(c): 'd'; return c"],
            "one sample": ["x"],
        }
    )
    assert found is not None
    assert (found.problems, found.samples, found.k) == (2, 3, 3)
    assert found.unique_text == pytest.approx((1 / 3 + 1) / 2)
    assert found.unique_form == pytest.approx(1 / 3)
    assert found.compiles == 1.0
    # form: 26 tokens, of them def f ( ) : return a b c 'd' ;
    assert found.distinct_1 == pytest.approx((3 / 9 + 11 / 26) / 2)
    same = measure_diversity({"p": ["x = 1", "x = 1"]})
    assert same is not None
    assert (same.dissimilarity, same.vendi) == (pytest.approx(0), pytest.approx(0.5))
    assert measure_diversity({"p": ["x"]}) is None
    wide = measure_diversity({"p": [f"x{i} = {i}" for i in range(80)]}, most=20)
    assert wide is not None and wide.samples == 20
    assert measure_diversity({"\ud800": ["\ud800", "\x00"]}) is not None


def test_nothing_is_not_a_number_where_it_need_not_be() -> None:
    found = paper_repetition([Generation("", "", False)])
    assert math.isnan(found.loop_onset)
    assert found.tr_n == found.tr_s == found.rep_line == 0.0
