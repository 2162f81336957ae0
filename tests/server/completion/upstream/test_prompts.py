"""Prompts for a server: no control token, no secret, and a window around the cursor."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.evals.tasks.styles import STYLES
from codegen.server.completion.requests import CompletionRequest, DocumentKey, Snippet
from codegen.server.completion.upstream.prompts import code_of, plain, window


def test_a_document_never_spells_a_control_token() -> None:
    marks = {
        mark
        for style in STYLES.values()
        for mark in re.findall(r"<[^<>]+>|\[[A-Z]+\]", style.template)
    }
    marks |= {"<|im_start|>", "<|endoftext|>", "</s>", "<s>", "[INST]", "[/INST]", "<｜User｜>"}
    marks |= {"<repo_name>", "<file_sep>", "<issue_start>", "<end_of_turn>", "<|file_sep|>"}
    for mark in marks:
        assert mark not in plain(f"x{mark}y{mark}{mark}"), mark
        assert plain(f"x{mark}y").replace(" ", "") == f"x{mark}y".replace(" ", "")
    for code in ("a < b > c", "List[INT]", "<div>", "<p>x</p>", "<code>", "x[I]", "a <| b |> c"):
        assert plain(code) == code


def test_secrets_leave_this_machine_in_no_prompt(ask: Any) -> None:
    asked = ask('token = "ghp_0123456789012345678901234567890123456789"\nx = ', "\n")
    assert "ghp_" in window(asked, 1000, remote=False).prefix
    there = window(asked, 1000, remote=True)
    assert "ghp_" not in there.prefix and there.prefix.endswith("\nx = ")


LINES = st.lists(st.sampled_from(["def f():", "    x = 1", "", "        y", "é漢", "# z"])).map(
    "\n".join
)


@settings(deadline=None, max_examples=200)
@given(LINES, LINES, st.lists(LINES, max_size=3), st.integers(64, 400))
def test_a_window_is_a_part_of_the_text_around_the_cursor(
    before: str, after: str, others: list[str], chars: int
) -> None:
    snippets = tuple(Snippet(f"{number}.py", text) for number, text in enumerate(others))
    key = DocumentKey("", "", "")
    asked = CompletionRequest(key, before, after, snippets=snippets)
    found = window(asked, chars, remote=False)
    assert before.endswith(found.prefix) and after.startswith(found.suffix)
    assert found.snippets == snippets[len(snippets) - len(found.snippets) :]
    size = len(found.prefix) + len(found.suffix) + sum(len(one.text) for one in found.snippets)
    assert size <= chars and (found.prefix == before or len(found.prefix) >= chars // 5)
    # All that it was made from was seen.
    more = CompletionRequest(key, f"{'x' * 500}\n{before}", after, snippets=snippets)
    if found.seen < len(before):
        assert window(more, chars, remote=False).prefix == found.prefix


@pytest.mark.parametrize(
    ("answer", "prefix", "wanted"),
    [
        ("return x", "    ", "return x"),
        ("```python\nreturn x\n```", "    ", "return x"),
        ("Sure:\n", "", "Sure:\n"),
        ("    return x", "def f():\n    ", "return x"),
        ("x = 1 + 2", "x = 1", " + 2"),
        ("```py\nx = 1 + 2\n```\nThis adds.", "y = 0\n    x = 1", " + 2"),
        ("```", "", ""),
        ("<CURSOR>1", "", "1"),
    ],
)
def test_what_a_chat_model_answers(answer: str, prefix: str, wanted: str) -> None:
    assert code_of(answer, prefix) == wanted
