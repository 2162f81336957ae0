"""Line weights against a plain transcription of the rule, and hand-made cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.lintseq.program import line_weights


def plain_weights(lines: list[str]) -> list[float]:
    """The rule, case by case and line by line, without starts of pieces."""
    indent = []
    previous = 0
    for line in lines:
        visible = line.replace(" ", "")
        if len(visible) > 1:
            previous = 0
            for character in line:
                if character != " ":
                    break
                previous += 1
        indent.append(previous)
    positive = [value for value in indent if value > 0]
    weights = []
    skip_to = None
    for line, depth in zip(lines, indent, strict=True):
        text = line.strip(" ")
        if skip_to is not None:
            weights.append(0.0)
            if text.endswith(skip_to):
                skip_to = None
            continue
        if "=" in text and text.split("=")[0].replace(" ", "").isupper() and text[-1] in "([":
            skip_to = ")" if text[-1] == "(" else "]"
        if text == "" or text[0] == "#":
            weights.append(0.0)
        elif depth == 0:
            weights.append(1.0)
        else:
            weights.append(depth / positive[0])
    return weights


pieces = st.sampled_from(
    [
        "x = 1",
        ")",
        "]",
        "",
        "#",
        "# c",
        "def f():",
        "NAME = [",
        "A_B = (",
        "A: int = [",
        "a = [",
        "N=[",
        "A]",
    ]
)
lines = st.lists(st.builds(lambda depth, text: " " * depth + text, st.integers(0, 9), pieces))


@given(lines)
def test_as_the_plain_loop(lines: list[str]) -> None:
    assert line_weights(lines) == plain_weights(lines)


@pytest.mark.parametrize(
    ("line", "weight"),
    [("x = 1", 1), ("  x = 1", 1), ("    x = 1", 2), ("      x = 1", 3), ("   x = 1", 1.5)],
)
def test_deeper_lines_weigh_more(line: str, weight: float) -> None:
    assert line_weights(["class A:", "  y = 0", line])[2] == weight


def test_a_global_definition_ends_where_the_next_piece_starts() -> None:
    program = ["NAME = (", "    1,", ")  # a comment hides the bracket", "x = 1", "y = 2"]
    assert line_weights(program) == [1, 0, 0, 0, 0]
    assert line_weights(program, {0, 3, 4}) == [1, 0, 0, 1, 1]
