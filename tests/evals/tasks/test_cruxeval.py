"""CRUXEval: the answer that was asked for is found and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import sample

from codegen.evals import tasks
from codegen.evals.scoring import score
from codegen.evals.tasks.cruxeval import find_answer
from codegen.sandbox import Sandbox


@pytest.mark.parametrize(
    ("text", "output", "given_"),
    [
        ("[ANSWER]\nassert f(1, 'a') == [2, 'b']\n[/ANSWER]", "[2, 'b']", "1, 'a'"),
        ("assert f(1, 'a') == [2, 'b']", "[2, 'b']", "1, 'a'"),
        ("So:\n```python\nassert f(1, 'a') == [2, 'b']\n```\nDone.", "[2, 'b']", "1, 'a'"),
        ("As f(0) == 3,\nassert f(1, 'a') == [2, 'b']\nholds.", "[2, 'b']", "1, 'a'"),
        ("[ANSWER]assert f(1, 'a') == [2, 'b']", "[2, 'b']", "1, 'a'"),
        ("f(1, 'a')", None, "1, 'a'"),
        ("[2, 'b']", "[2, 'b']", "[2, 'b']"),
        ("assert f() == 1", "1", "*()"),
        ("assert f(f(2), x=3) == 'a == b'", "'a == b'", "f(2), x=3"),
        ("I don't know.", "", ""),
        ("[ANSWER]\n[/ANSWER]", "", ""),
    ],
)
def test_the_side_that_was_asked_for(text: str, output: str | None, given_: str) -> None:
    if output is not None:
        assert find_answer(text, output=True) == output
    assert find_answer(text, output=False) == given_


CRUX = {"id": "s", "code": "def f(x):\n    return x[::-1]", "input": "[1, 2]", "output": "[2, 1]"}


@pytest.mark.parametrize(
    ("name", "style", "text", "status"),
    [
        ("cruxeval-o", "chat", "[ANSWER]assert f([1, 2]) == [2, 1][/ANSWER]", "passed"),
        ("cruxeval-o", "chat", "[1 + 1, 1]", "passed"),
        ("cruxeval-o", "chat", "[1, 2]", "wrong"),
        ("cruxeval-o", "chat", "f([1, 2])", "error"),
        ("cruxeval-o", "chat", "assert f([1, 2]) == f([1, 2])", "error"),
        ("cruxeval-o", "chat", "No idea, sorry", "no_answer"),
        ("cruxeval-o", "continue", " [2, 1]\n[/ANSWER]", "passed"),
        ("cruxeval-o", "few-shot", "assert f([1, 2]) == [2, 1]\n", "passed"),
        ("cruxeval-i", "chat", "assert f([1, 2]) == [2, 1]", "passed"),
        ("cruxeval-i", "chat", "assert f(x=[1, 2]) == [2, 1]", "passed"),
        ("cruxeval-i", "chat", "[2, 1]", "wrong"),
        ("cruxeval-i", "chat", "1", "error"),
        ("cruxeval-i", "continue", "[1, 2]) == [2, 1]", "passed"),
        ("cruxeval-i", "chat", "", "empty"),
        ("cruxeval-o", "chat", "type('A', (list,), {'__eq__': lambda s, o: True})([3])", "wrong"),
    ],
)  # fmt: skip
def test_answers_of_cruxeval(
    write_rows: Callable[[list[Any]], Path],
    tmp_path: Path,
    sandbox: Sandbox,
    name: str,
    style: str,
    text: str,
    status: str,
) -> None:
    task = tasks.load(name, str(write_rows([CRUX])))
    result = score([sample("s", text, style)], task, out=tmp_path / "out", sandbox=sandbox)
    assert list(result.statuses) == [status]
    assert result.complete
