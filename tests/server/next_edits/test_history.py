"""The edits of a document: where one ends, what is kept of it, and that no secret is."""

from __future__ import annotations

import json
import random
import string
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.records import Change, Edit
from codegen.edits.formats import window_text
from codegen.edits.sessions import lines_of
from codegen.server.context.document import TextDocument
from codegen.server.next_edits.history import Outcomes, Tracker, Watched, hidden_lines, redacted
from tests.server.conftest import change

LINES = st.lists(st.sampled_from(["a", "b", "c d", ""]), max_size=3)


@given(
    st.lists(st.sampled_from(["a", "b", "c d", "e"]), min_size=45, max_size=45),
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(0, 2), LINES, st.booleans()),
        max_size=6,
        unique_by=lambda step: step[0],
    ),
)
def test_the_history_leads_back_to_what_was_opened(
    lines: list[str], steps: list[tuple[int, int, list[str], bool]]
) -> None:
    """In any order and however it is cut into edits, taking them back gives the beginning."""
    opened = "\n".join(lines) + "\n"
    document, tracker, now = TextDocument(opened), Tracker(), 0.0
    shifts: dict[int, int] = {}
    for place, size, new, pauses in steps:
        now += 5.0 if pauses else 0.1
        start = 5 * place + sum(by for other, by in shifts.items() if other < place)
        shifts[place] = len(new) - size
        step = change("".join(f"{one}\n" for one in new), (start, 0), (start + size, 0))
        tracker.changing(document, [step], now)
        document.apply([step])
    text = lines_of(document.text)
    for one in sorted(tracker.changes(document, "a.py"), key=lambda c: -c.line):
        new = lines_of(one.new)
        assert text[one.line : one.line + len(new)] == new
        text[one.line : one.line + len(new)] = lines_of(one.old)
    assert "".join(text) == opened


def test_typing_is_one_edit_and_a_pause_or_a_distance_begins_another() -> None:
    document, tracker = TextDocument("x = 1\n" * 30), Tracker()

    def make(step: Any, now: float) -> None:
        tracker.changing(document, [step], now)
        document.apply([step])

    assert not tracker.calm(0)
    for number, letter in enumerate("abc"):
        make(change(letter, (2, number), (2, number)), 0.1 * number)
    make(change("d", (2, 3), (2, 3)), 5.0)  # a pause within a word
    assert [c[1:] for c in tracker.changes(document, "p")] == [(2, "x = 1\n", "abcdx = 1\n")]
    make(change("", (2, 0), (2, 4)), 5.05)  # and taken back
    assert tracker.changes(document, "p") == []
    make(change("abcd", (2, 0), (2, 0)), 5.06)
    make(change("z", (20, 0), (20, 0)), 5.1)  # far away
    make(change("new\n", (0, 0), (0, 0)), 9.0)  # much later
    found = tracker.changes(document, "p")
    assert [(c.path, c.line) for c in found] == [("p", 3), ("p", 21), ("p", 0)]
    assert [c.new for c in found] == ["abcdx = 1\n", "zx = 1\n", "new\n"]
    assert tracker.calm(9.1)
    make(change("y\n" * 20, (5, 0), (5, 0)), 20.0)  # a paste
    assert not tracker.calm(20.1) and tracker.calm(22.0)


def test_an_accepted_edit_is_kept_after_half_a_minute(tmp_path: Path) -> None:
    """What happens later does not count, nor what another machine may not see."""
    log = tmp_path / "edits.jsonl"
    counted: list[str] = []
    key = "sk-" + "a1B2" * 10

    def watched(text: str, edit: Edit | None) -> tuple[Outcomes, TextDocument]:
        outcomes, document = Outcomes(log), TextDocument(text)
        lines = lines_of(text)
        after = ["a = 2\n", *lines[1:]]
        one = Watched(edit, after[0], "u", document, lines, after, (0, 1), (0, 1),
                      counted.append, 0.0)  # fmt: skip
        outcomes.watch("1", one)
        outcomes.accept("1", 1.0)
        document.apply([change("2", (0, 4), (0, 5))])
        return outcomes, document

    text = "a = 1\nb = 1\n"
    log.touch(0o644)
    for undone_at, kept in ((30.9, False), (31.0, True)):
        outcomes, document = watched(text, Edit("", "a.py", text, (), (0, 1), 5))
        outcomes.changing("u", undone_at)
        document.apply([change("1", (0, 4), (0, 5))])
        outcomes.close()
        assert json.loads(log.read_text().splitlines()[-1])["kept"] is kept
    assert counted == ["next_edit_kept"] and log.stat().st_mode & 0o777 == 0o600
    outcomes, _ = watched(text, None)
    outcomes.close()
    outcomes, document = watched(text, Edit("", "a.py", text, (), (0, 1), 5))
    outcomes.close("u", is_lost=True)  # the text is not known
    assert len(log.read_text().splitlines()) == 2
    hidden = redacted(Edit("", "a.py", f"a = 1\nK = '{key}'\n", (), (0, 1), 5), ())
    outcomes, _ = watched(text, hidden)
    outcomes.close()
    assert key not in log.read_text() and len(log.read_text().splitlines()) == 3


_RANDOM = random.Random(0)
_BASE64 = string.ascii_letters + string.digits + "+/"
KEY_ROWS = ["".join(_RANDOM.choices(_BASE64, k=64)) + "\n" for _ in range(24)]


KEY_ROWS.append("".join(_RANDOM.choices(_BASE64, k=22)) + "==\n")


PRIVATE = f"-----BEGIN RSA PRIVATE KEY-----\n{''.join(KEY_ROWS)}-----END RSA PRIVATE KEY-----\n"


def sent(edit: Edit) -> str | None:
    """All that another machine may see of a moment; None if nothing."""
    shown = redacted(edit, hidden_lines(edit))
    if shown is None:
        return None
    assert window_text(shown) == window_text(edit)
    return shown.text + "".join(change.old + change.new for change in shown.history)


@pytest.mark.parametrize("first", [0, 5, 20, 26, 27, 30])
def test_no_part_of_a_key_leaves_the_machine(first: int) -> None:
    """Wherever the window begins, and whatever was edited in the key."""
    text, rows = PRIVATE + "x = 1\n" * 8, lines_of(PRIVATE)
    other = Change("a.py", 28, "x = 0\n", "x = 1\n")
    edit = Edit("", "a.py", text, (Change("a.py", 7, "", rows[7]), other), (first, first + 4), 0)
    said = sent(edit)
    assert (said is None) == (first < 27)
    if said:
        assert not any(row.strip() in said for row in rows) and "x = 0" in said
    # Without its first line, with a part of it, and without its last one.
    for without, with_ in ((rows[0], ""), ("-----BEGIN", "----BEGIN"), (rows[-1], "x\n")):
        broken = edit.text.replace(without, with_)
        change = Change("a.py", 0, rows[0], "" if not with_ else rows[0].replace(without, with_))
        top = max(0, first - (not with_))
        for history in ((other,), (change, other)) if rows[-1] != without else ((other,),):
            state = replace(edit, text=broken, history=history, window=(top, top + 4))
            said = sent(state)
            assert not said or not any(row.strip() in said for row in rows[1:-1])
    # What is gone from the file is known from its edits.
    whole = Change("a.py", 3, "".join(rows[3:6]), "")
    gone = "".join(rows[:3]) + "".join(rows[6:]) + "x\n" * 9
    said = sent(Edit("", "a.py", gone, (whole,), (26, 30), 0))
    assert said and not any(row.strip() in said for row in rows)
    last = Change("a.py", 20, "".join(rows[22:]), "")  # and with it the short last line
    rest = last._replace(line=4, old="".join(rows[4:22]))
    two = Edit("", "a.py", "".join(rows[:4]) + "x\n" * 9, (last, other._replace(line=5), rest),
               (5, 9), 0)  # fmt: skip
    said = sent(two)
    assert not said or not any(row.strip() in said for row in rows[1:-1])


def test_what_is_a_secret_is_told_from_the_whole_file() -> None:
    """A value whose name is out of the window; and no more than the secrets is hidden."""
    change = Change("a.py", 0, "a\n", "b\n")
    text = "b\n'password':\n" + " " * 4 + "'hunter2hunter2xyz',\n" + "c\n" * 5
    for window in ((0, 2), (3, 6)):
        said = sent(Edit("", "a.py", text, (change,), window, 0))
        assert said and "hunter2" not in said
    mention = 'MARK = "-----BEGIN PRIVATE KEY-----"\n' + "def f(value):\n    return value\n" * 20
    said = sent(Edit("", "a.py", mention, (change,), (20, 24), 0))
    assert said and said.count("return value") == 20
    begun = "x\n" * 8 + "-----BEGIN PRIVATE KEY-----\n" + "".join(KEY_ROWS)  # no end of line or key
    last = Change("a.py", 33, KEY_ROWS[-1].strip()[:9], KEY_ROWS[-1].strip())
    assert sent(Edit("", "a.py", begun.rstrip("\n"), (last,), (0, 4), 0)) is None
