"""How a model's answers are read, and how many examples' questions are asked together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from codegen.methods.unicoder import STYLES, Unusable, to_unicode
from codegen.methods.unicoder.generator import (
    block,
    checked_comments,
    grade,
    is_python,
    problem_and_solution,
)

PROGRAM = '''\
def total(values):
    """Sum of the positive values."""
    result = 0
    for value in values:
        if value > 0:
            result += value
    url = "http://x // y"
    return result, url
'''


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```\na\n  b\n```", "a\n  b"),
        ("Sure!\n\n```unicode\n\nIF (x) {\n}\n\n```\nThat is all. ```no```", "IF (x) {\n}"),
        ("````unicode\n```\na\n```\n````", "```\na\n```"),
        ("~~~\na\n~~~", "a"),
        ("```\nnever closed\n", "never closed"),
        ("no fence\n  at all\n\n", "no fence\n  at all"),
        ("", ""),
        ("```\n```", ""),
    ],
)
def test_block(answer: str, code: str) -> None:
    assert block(answer) == code


@pytest.mark.parametrize(
    ("answer", "score"),
    [("4", 4), (" **5** ", 5), ("Grade: 3.", 3), ("4/5", 4), ("The grade is 2, so 2", 2)],
)
def test_grade(answer: str, score: int) -> None:
    assert grade(answer) == score


@pytest.mark.parametrize("answer", ["", "six", "0", "6", "45", "3 or 4", "4.5", "10/10"])
def test_no_grade(answer: str) -> None:
    with pytest.raises(Unusable) as caught:
        grade(answer)
    assert caught.value.reason == "no_score"


@pytest.mark.parametrize(
    "answer",
    [
        "[Problem]\nAdd one.\n[Solution]\n```python\nx = 1\n```\n",
        "Of course.\n**[Problem]**\nAdd one.\n\n**[Solution]:**\nx = 1",
        "## [problem]: Add one.\n## [solution]\n~~~\nx = 1\n~~~\nDone.",
    ],
)
def test_problem_and_solution(answer: str) -> None:
    problem, solution = problem_and_solution(answer)
    assert (problem.strip("* "), solution) == ("Add one.", "x = 1\n")


@pytest.mark.parametrize(
    "answer",
    ["", "[Problem]\nx", "[Solution]\nx", "[Problem]\n[Solution]\nx", "[Problem]a[Solution]"],
)
def test_a_section_is_missing(answer: str) -> None:
    with pytest.raises(Unusable) as caught:
        problem_and_solution(answer)
    assert caught.value.reason == "no_problem"


@pytest.mark.parametrize("style", STYLES)
def test_universal_code_is_no_python(style: str) -> None:
    assert is_python(PROGRAM) and is_python("import os") and is_python("x: int = 1")
    for text in (to_unicode(PROGRAM, STYLES[style]).text, "PRINT(x)\nx = 1", "", "(" * 5000, "\0"):
        assert not is_python(text)


# Hybrid answers


@pytest.mark.parametrize("style", STYLES)
def test_comments_anywhere_between_lines_are_kept(style: str) -> None:
    skeleton = to_unicode(PROGRAM, STYLES[style])
    lines = skeleton.text.splitlines()
    rng = random.Random(style)
    inside = False
    commented: list[str] = []
    for line in lines:
        if not inside and "*/" not in line and rng.random() < 0.5:
            indent = line[: len(line) - len(line.lstrip())]
            commented += [f"{indent}// Step {len(commented)} of the work.", ""]
        inside = "/*" in line and "*/" not in line
        commented.append(line)
    text = checked_comments(skeleton, "\n".join(commented))
    assert text == "\n".join(commented) + "\n"


@pytest.mark.parametrize("style", STYLES)
def test_any_other_change_is_refused(style: str) -> None:
    skeleton = to_unicode(PROGRAM, STYLES[style])
    good = skeleton.text.splitlines()
    comment = "// A comment."
    for number, line in enumerate(good):
        if not line.strip():
            continue
        changed = [comment, *good[:number], *good[number + 1 :]]
        assert refusal(skeleton, changed) == "skeleton_changed" or line.lstrip().startswith("//")
        for other in (line + " // trailing", line + " x", "  " + line, line.replace("result", "r")):
            if other != line and not line.lstrip().startswith("//"):
                changed = [comment, *good[:number], other, *good[number + 1 :]]
                assert refusal(skeleton, changed) == "skeleton_changed"
    assert refusal(skeleton, [comment, *good, "x = 1"]) == "skeleton_changed"
    assert refusal(skeleton, [comment, *good[::-1]]) == "skeleton_changed"
    assert refusal(skeleton, good) == "no_comments"
    assert refusal(skeleton, ["//", *good]) == "no_comments"
    assert refusal(skeleton, []) == "skeleton_changed"


def refusal(skeleton: Any, lines: Sequence[str]) -> str:
    try:
        checked_comments(skeleton, "\n".join(lines))
    except Unusable as error:
        return error.reason
    return ""


def test_a_comment_line_inside_a_docstring_is_refused() -> None:
    skeleton = to_unicode('def f():\n    """One.\n\n    // Two.\n    """\n    return 1\n')
    lines = skeleton.text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == "// Two.")
    assert refusal(skeleton, ["// c", *lines]) == ""
    assert refusal(skeleton, [*lines[:at], "    // Three.", *lines[at:]]) == "skeleton_changed"
    assert refusal(skeleton, ["// c", *lines[:at], *lines[at + 1 :]]) == "skeleton_changed"


# Plans
