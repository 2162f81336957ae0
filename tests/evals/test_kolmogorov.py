"""The KoLMogorov test: language, sampler, code, scoring, by hand and against published figures."""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from suites import suite

from codegen.core.errors import InputError
from codegen.evals import kolmogorov as kt
from codegen.evals import tasks
from codegen.evals.kolmogorov import SIGNATURES, Argument, CallLine, Kind, LineRef, SequenceProgram
from codegen.evals.tasks import kolmogorov as kt_task
from tests.processes import run

INTEGERS = st.one_of(st.integers(0, 255), st.integers(-300, 600), st.integers(-(2**70), 2**70))


def arguments(kind: Kind, number: int) -> st.SearchStrategy[Argument]:
    if kind == "ref":
        return st.builds(LineRef, st.integers(0, number - 1))
    if kind == "predicate":
        return st.sampled_from(["is_even", "is_odd", "is_not_zero"])
    if kind == "list":
        return st.lists(INTEGERS, max_size=40).map(tuple)
    return INTEGERS


@st.composite
def any_programs(draw: st.DrawFn) -> SequenceProgram:
    lines = []
    for number in range(draw(st.integers(1, 12))):
        names = [name for name, kinds in SIGNATURES.items() if number or "ref" not in kinds]
        name = draw(st.sampled_from(names))
        given_ = tuple(draw(arguments(kind, number)) for kind in SIGNATURES[name])
        lines.append(CallLine(name, given_))
    return SequenceProgram(tuple(lines), draw(st.integers(0, len(lines) - 1)))


@given(any_programs())
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_parsed(program: SequenceProgram) -> None:
    assert kt.parse(program.to_text()) == program


def test_the_papers_count_by_hand() -> None:
    program = kt.parse(
        "sequence_1 = set_list([1, 2, 3])\n"
        "sequence_2 = repeat_num(7, 9)\n"
        "sequence_3 = interleave(sequence_1, sequence_2)\n"
        "sequence_4 = get_subsequence_between_indices(sequence_3, 1, 5)\n"
        "sequence_5 = filter(is_odd, sequence_4)\n"
        "output = sequence_5\n"
    )
    expected = 6 * math.log2(25) + 3 * 8 + math.log2(20) + 8
    expected += 2 * math.log2(3) + math.log2(4) + 16 + math.log2(5)
    assert kt.paper_bits(program) == pytest.approx(expected)
    assert program.run() == [9, 9, 3]


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("range_func_up(3, 6)", [3, 4, 5, 6]),
        ("range_func_interval(3, 10, 3)", [3, 6, 9]),
        ("repeat_num(3, 7)", [7, 7, 7]),
        ("set_list([5, 1])", [5, 1]),
        ("repeat_list(2, s)", [4, 1, 3, 1, 0, 4, 1, 3, 1, 0]),
        ("reverse_list(s)", [0, 1, 3, 1, 4]),
        ("substitute(s, 1, 9)", [4, 9, 3, 9, 0]),
        ("get_subsequence_with_jumps(s, 2)", [4, 3, 0]),
        ("get_subsequence_between_indices(s, 1, 3)", [1, 3]),
        ("max_n(s, 3)", [4, 3, 1]),
        ("min_n(s, 3)", [0, 1, 1]),
        ("add_item_list(s, 2)", [6, 3, 5, 3, 2]),
        ("subtract_item_list(s, 1)", [3, 0, 2, 0, -1]),
        ("modulo_item_list(s, 3)", [1, 1, 0, 1, 0]),
        ("filter(is_even, s)", [4, 0]),
        ("filter(is_odd, s)", [1, 3, 1]),
        ("filter(is_not_zero, s)", [4, 1, 3, 1]),
        ("scan_add(s)", [4, 5, 8, 9, 9]),
        ("add_two_lists(s, t)", [6, 1, 8]),
        ("subtract_two_lists(s, t)", [2, 1, -2]),
        ("modulo_two_lists(s, t)", [0, 3]),
        ("concatenate(s, t)", [4, 1, 3, 1, 0, 2, 0, 5]),
        ("interleave(s, t)", [4, 2, 1, 0, 3, 5, 1, 0]),
        ("interleave(t, s)", [2, 4, 0, 1, 5, 3, 1, 0]),
    ],
)
def test_each_function_as_the_specification_has_it(call: str, expected: list[int]) -> None:
    text = "sequence_1 = set_list([4, 1, 3, 1, 0])\nsequence_2 = set_list([2, 0, 5])\n"
    call = call.replace("(s", "(sequence_1").replace(" s)", " sequence_1)")
    call = call.replace("(t", "(sequence_2").replace(" t)", " sequence_2)")
    text += f"sequence_3 = {call}\noutput = sequence_3\n"
    assert kt.parse(text).run() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("output = 3", "last line"),
        ("sequence_1 = set_list([1])", "last line"),
        ("sequence_1 = __import__('os')\noutput = sequence_1", "not an integer"),
        ("sequence_1 = eval(1)\noutput = sequence_1", "unknown function 'eval'"),
        ("sequence_1 = set_list([1], [2])\noutput = sequence_1", "takes 1"),
        ("sequence_1 = reverse_list(sequence_1)\noutput = sequence_1", "not defined yet"),
        ("sequence_2 = set_list([1])\noutput = sequence_2", "must assign sequence_1"),
        ("sequence_1 = set_list([1])\noutput = sequence_2", "does not exist"),
        ("sequence_1 = set_list([True])\noutput = sequence_1", "not an integer"),
        ("sequence_1 = repeat_num(*[1, 2])\noutput = sequence_1", "not an integer"),
        ("sequence_1 = repeat_num(count=1, value=2)\noutput = sequence_1", "form"),
        ("def f(:", "Not a program"),
        ("(" * 100_000, "Not a program"),
    ],
)
def test_what_is_not_of_the_language_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kt.parse(text)


@pytest.mark.parametrize(
    "call", ["repeat_num(999999999999, 1)", "range_func_up(0, 99999999999)", "range_func_up(5, 1)"]
)
def test_a_short_text_can_not_make_a_huge_sequence(call: str) -> None:
    program = kt.parse(f"sequence_1 = {call}\noutput = sequence_1\n")
    if "5, 1" in call:
        assert program.run() == []
    else:
        with pytest.raises(InputError, match="Line 1"):
            program.run()


def test_errors_of_arithmetic_name_the_line() -> None:
    program = kt.parse(
        "sequence_1 = set_list([4])\nsequence_2 = modulo_item_list(sequence_1, 0)\n"
        "output = sequence_2"
    )
    with pytest.raises(InputError, match=r"Line 2 \(modulo_item_list\)"):
        program.run()


# Specification §4.3: 4,000 programs of the original generator. Shares of lines without the output.
SHARES = suite("kolmogorov_shares")


@pytest.mark.slow
def test_statistics_of_drawn_programs_are_those_of_the_original() -> None:
    """Each within 3 standard errors of a difference of two samples of 4,000, and its rounding."""
    count = 4000
    programs = list(kt.sample_programs(count))
    outputs = [program.run() for program in programs]
    assert all(0 <= item <= 255 for output in outputs for item in output)
    lengths = np.array([len(output) for output in outputs], dtype=float)
    lines = np.array([len(program.lines) for program in programs], dtype=float)
    bits = np.array([kt.paper_bits(program) for program in programs])

    def close(values: np.ndarray, target: float, rounding: float) -> bool:
        error = values.std() * math.sqrt(2 / count)
        return bool(abs(values.mean() - target) <= 3 * error + rounding)

    assert close(lengths, 77.5, 0.05)
    assert close(lines + 1, 8.8, 0.05)  # the output line counts there
    assert close(bits, 200.8, 0.05)
    assert close(bits / 8 / lengths, 0.389, 0.0005)
    ratio = bits.sum() / 8 / lengths.sum()
    spread = (bits / 8 - ratio * lengths).std() / lengths.mean() * math.sqrt(2 / count)
    assert abs(ratio - 0.324) <= 3 * spread + 0.0005
    for target, share in [(63, 0.5), (140, 0.9)]:
        low, high = (np.quantile(lengths, share + sign * 0.0335) for sign in (-1, 1))
        assert low <= target <= high
    initiators = Counter(
        sum(line.function in kt.INITIATORS for line in program.lines) for program in programs
    )
    assert set(initiators) == {1, 2, 3, 4, 5}
    assert all(abs(n / count - 0.2) < 3 * math.sqrt(0.16 / count) for n in initiators.values())
    for name, target in SHARES.items():
        found = np.array([sum(x.function == name for x in p.lines) for p in programs], dtype=float)
        mean = found.mean() / lines.mean()
        error = (found - mean * lines).std() / lines.mean() * math.sqrt(2 / count)
        assert abs(mean - target) <= 3 * error + 0.0005, name
    data = [bytes(output) for output in outputs]
    whole = lengths.sum()
    assert len(gzip.compress(b"".join(data))) / whole == pytest.approx(0.494, abs=0.02)
    assert sum(len(gzip.compress(d)) for d in data) / whole == pytest.approx(0.940, abs=0.04)
    texts = "\n".join(program.to_text() for program in programs).encode()
    assert len(gzip.compress(texts)) / whole == pytest.approx(0.621, abs=0.02)


def test_drawing_repeats() -> None:
    programs = list(kt.sample_programs(300, seed=9))
    assert programs == list(kt.sample_programs(300, seed=9))
    assert programs[7] == list(kt.sample_programs(8, seed=9))[7]


def command(*args: str) -> tuple[int, dict[str, Any]]:
    """Runs ``codegen eval kolmogorov ... --json``: exit code and summary."""
    found = run(sys.executable, "-m", "codegen", "eval", "kolmogorov", *args, "--json")
    assert "Traceback" not in found.stderr
    return found.returncode, json.loads(found.stdout or '{"error": ""}')


@pytest.mark.long
def test_drawn_programs_are_written_scored_and_beat_gzip(tmp_path: Path) -> None:
    path = tmp_path / "drawn.jsonl"
    code, summary = command("sample", "-n", "150", "--out", str(path))
    assert code == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == summary["programs"] > 130
    tested = {problem.sequence for problem in tasks.load("kolmogorov").problems()}
    assert not tested & {kt_task.sequence_in(row["instruction"]) for row in rows}
    code, found = command("score", str(path), "--language")
    assert code == 0
    assert found["accuracy"] == 1.0
    assert found["paper_rate"] < 0.36 < found["gzip"]


@pytest.mark.slow
def test_mistakes_give_one_line(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for path in (str(empty), "nowhere"):
        assert command("score", path)[0] != 0
