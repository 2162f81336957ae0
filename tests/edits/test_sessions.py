"""Sessions: edit states are on the way from one text to the other."""

from __future__ import annotations

import ast
import difflib
import random
import subprocess
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.core.records import Edit
from codegen.edits.formats import window_lines, with_window
from codegen.edits.sessions import (
    Hunk,
    Session,
    View,
    apply_diff,
    difference,
    hard_negative,
    lines_of,
    next_edit,
    nothing,
    ordered,
    unfinished,
)
from codegen.edits.sessions import undone as without_last
from tests.edits.test_formats import FILE, rows

WIDE = View(10**6, 10**6, 100, 10**6)
TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c = 1\n", "\n", "    d(e, f)\n"]), max_size=9)


def undone(edit: Edit) -> str:
    """The text before the history, by taking its changes back, last first, wherever they are."""
    lines = lines_of(edit.text)
    for change in sorted(edit.history, key=lambda change: -change.line):
        new = lines_of(change.new)
        assert lines[change.line : change.line + len(new)] == new
        lines[change.line : change.line + len(new)] = lines_of(change.old)
    return "".join(lines)


@given(TEXTS, TEXTS, st.randoms(use_true_random=False))
def test_a_moment_leads_back_and_forth(one: list[str], other: list[str], rng: Any) -> None:
    old, new = "".join(one), "".join(other)
    session = ordered("a.py", old, new, rng)
    for done in range(len(session.hunks) + 1):
        state = session.state(done, WIDE)
        assert undone(state) == old
        assert len(state.history) == done
        assert with_window(state, state.target or "") == new  # all that remains is in the window
        assert 0 <= state.cursor <= len(state.text)
    if session.hunks:
        assert session.state(len(session.hunks), WIDE).text == new


@given(TEXTS, TEXTS, st.randoms(use_true_random=False), st.integers(0, 3), st.integers(0, 3))
def test_the_target_is_of_whole_hunks_in_the_window(
    one: list[str], other: list[str], rng: Any, above: int, below: int
) -> None:
    session = ordered("a.py", "".join(one), "".join(other), rng)
    for done in range(1, len(session.hunks)):
        edit = next_edit(session, done, View(above, below))
        top, bottom = edit.window
        line = edit.text.count("\n", 0, edit.cursor)
        assert top <= line <= bottom and bottom - top <= above + below + 1
        start, end = session.next_lines(done)
        changes = edit.target != "".join(window_lines(edit))
        assert changes >= (top <= start and end <= bottom)
        where = {"here": 0, "below": start - line, "above": line - start, "jump": 0}
        assert where[edit.category] >= 0


def test_a_half_typed_edit_is_completed() -> None:
    session = ordered("a.py", "x = 1\ny = 2\n", "x = 1\nfor i in range(9):\n    y = 2\n",
                      random.Random(0))  # fmt: skip
    seen = set()
    for seed in range(20):
        edit = unfinished(session, 1, WIDE, random.Random(seed))
        assert edit
        seen.add(edit.text)
        assert edit.text[: edit.cursor] == "x = 1\nfor i in range(9):\n    y = 2\n"[: edit.cursor]
        assert edit.target == "x = 1\nfor i in range(9):\n    y = 2\n"
        assert undone(edit) == "x = 1\ny = 2\n"
    assert len(seen) > 5


def test_at_the_end_nothing_is_to_change() -> None:
    session = ordered("a.py", "a\nb\nc\nd\n", "A\nb\nC\nd\n", random.Random(1))
    texts = Counter()
    for seed in range(30):
        edit = nothing(session, View(), random.Random(seed))
        assert edit.target == "".join(window_lines(edit))
        texts[edit.text] += 1
    assert set(texts) == {"A\nb\nC\nd\n", "a\nb\nc\nd\n"}  # done, and taken back


def test_a_hard_negative_calls_for_nothing() -> None:
    """All is done; what was typed last is no change of the program, or a replaced word is left."""
    old = "# Size.\n\ndef size(box):\n    a = box\n    return a\n\n\nprint('box', size(1))\n"
    new = old.replace("(box)", "(bag)").replace("a = box", "a = bag")
    session = ordered("a.py", old, new, random.Random(0))
    kinds: Counter[str] = Counter()
    for seed in range(200):
        edit = hard_negative(session, WIDE, random.Random(seed))
        assert edit is not None and edit.category == "nothing"
        assert edit.text == new and edit.target == "".join(window_lines(edit))
        line = lines_of(new)[new.count("\n", 0, edit.cursor)]
        if len(edit.history) == len(session.hunks):
            assert undone(edit) == old and line == "print('box', size(1))\n"
            kinds["word"] += 1
            continue
        last = edit.history[-1]
        assert undone(replace(edit, history=edit.history[:-1])) == old  # the others, as they were
        earlier = without_last(edit.history, new)
        assert earlier != new and line == last.new
        assert ast.dump(ast.parse(earlier)) == ast.dump(ast.parse(new))
        kind = "comment" if "#" in last.new else "blank" if last.new == "\n" else "trailing"
        kinds[kind] += 1
    assert kinds.keys() == {"word", "comment", "blank", "trailing"} and min(kinds.values()) > 20
    assert hard_negative(Session("a.py", (), ()), WIDE, random.Random(0)) is None


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_a_difference_is_that_of_difflib_if_it_is_one(old: list[str], new: list[str]) -> None:
    opcodes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    expected = [Hunk(a, b, tuple(new[c:d])) for tag, a, b, c, d in opcodes if tag != "equal"]
    assert difference(old, new) == expected
    with suppress(InputError):
        assert difference(old, new, most_work=len(old)) == expected


def test_diffs_as_git_applies_them(data_folder: Path, tmp_path: Path) -> None:
    path = data_folder / "next_edit" / "commits_test.jsonl.gz"
    for row in list(rows(path))[::90]:
        file = tmp_path / row["path"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(row["old"], encoding="utf-8", newline="")
        subprocess.run(["git", "apply", "-"], cwd=tmp_path, input=row["diff"].encode(), check=True)
        assert file.read_bytes().decode() == apply_diff(row["old"], row["diff"])


@pytest.mark.parametrize(
    "diff", ["", "@@ -1,2 +1 @@\n-a = 1\n", "@@ -2 +2 @@\n-a = 1\n+x\n", "@@ -1 +1 @@\nx\n"]
)
def test_a_diff_that_does_not_fit_is_refused(diff: str) -> None:
    with pytest.raises(InputError):
        apply_diff(FILE, diff)
