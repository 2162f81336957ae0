"""Formats: what is written is read back, strictly; recorded answers of real models are read."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen.core.errors import ConfigError
from codegen.core.records import Change, Edit
from codegen.edits.formats import (
    FORMATS,
    QWEN,
    STARCODER,
    Continuation,
    EditFormat,
    Unreadable,
    Unwritable,
    around,
    format_for,
    window_lines,
    with_window,
)
from codegen.edits.sessions import lines_of
from codegen.evals.tasks.next_edit import NextEdit

EXACT = ("blocks", "window", "hunks", "search-replace", "udiff", "few-shot")
"""Formats that can say everything, also that a last line gets or loses its end."""

LINES = st.sampled_from(
    ["\n", "a\n", "b\n", "    return x\n", "\tü = '🐍'\n", "x\r\n", "\x0c\u2028y\n", "- a\n",
     "+ b\n", "# end of file", "```\n", "@@ ... @@\n", " \n", "a\rb\n"]
)  # fmt: skip


def test_the_format_fits_the_tokens() -> None:
    both = {*QWEN.all, *STARCODER.all}
    expected = {"blocks": both, "blocks-qwen": {*QWEN.all}, "search-replace": {STARCODER.file}}
    for name, tokens in expected.items():
        assert format_for("auto", tokens).name == name
        assert NextEdit.style_for(object.__new__(NextEdit), tokens, "chat") == f"edit-{name}"
        assert format_for("udiff", tokens).name == "udiff"
    own = NextEdit.style_for(object.__new__(NextEdit), both, "edit-hunks-qwen")
    assert own == "edit-hunks-qwen"  # on the model's card
    with pytest.raises(ConfigError, match=r"token <filename>, .* auto, blocks-qwen, window-qwen"):
        format_for("hunks", {*QWEN.all})


def joined(lines: list[str]) -> str:
    """A text of which at most the last line has no end."""
    body = [line if line.endswith("\n") else line + "\n" for line in lines[:-1]]
    return "".join([*body, *lines[-1:]])


@st.composite
def edits(draw: st.DrawFn) -> Edit:
    """Any small file, with a window in it and any new text of the window."""
    text = joined(draw(st.lists(LINES, max_size=14)))
    lines = lines_of(text)
    top = draw(st.integers(0, len(lines)))
    bottom = draw(st.integers(top, len(lines)))
    if not draw(st.integers(0, 4)):
        target = "".join(lines[top:bottom])
    else:
        new = draw(st.lists(st.one_of(st.sampled_from(lines or ["\n"]), LINES), max_size=10))
        target = joined(new)
        if bottom < len(lines) and target and not target.endswith("\n"):
            target += "\n"
    history = draw(st.lists(st.builds(Change, st.just("a.py"), st.integers(0, 3), LINES, LINES)))
    cursor = draw(st.integers(0, len(text)))
    return Edit("e", "a.py", text, tuple(history), (top, bottom), cursor, target)


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
@given(edit=edits())
@example(Edit("e", "a.py", "x = 1\nx = 1", (), (0, 2), 0, "x = 1\n"))  # alike but for the newline
@settings(max_examples=25, deadline=None)
def test_what_is_written_is_read_back(form: EditFormat, edit: Edit) -> None:
    form.prompt(edit)
    window = "".join(window_lines(edit))
    target = edit.target or ""
    try:
        answer = form.answer(edit)
    except Unwritable as error:
        assert error.reason == "not_expressible"
        assert form.name.partition("-qwen")[0] not in EXACT
        assert target and (window or "\n").endswith("\n") != target.endswith("\n")
        return
    assert form.read(edit, answer) == target
    for stop in form.stop:
        answer = answer.partition(stop)[0]
    assert form.read(edit, answer) == target, "as it is when decoding ends at a stop string"
    above, below = around(edit)
    assert with_window(edit, target) == above + target + below


@pytest.mark.parametrize("form", FORMATS.values(), ids=list(FORMATS))
@given(edit=edits(), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_damaged_answer_is_refused_or_stays_in_the_window(
    form: EditFormat, edit: Edit, data: st.DataObject
) -> None:
    try:
        answer = form.answer(edit)
    except Unwritable:
        return
    place = data.draw(st.integers(0, len(answer)))
    piece = data.draw(st.sampled_from(["", "1", "\n", "<jupyter_text>", "```", ">>>>>>> ", "x"]))
    damaged = answer[:place] + piece + answer[place + data.draw(st.integers(0, 4)) :]
    try:
        window = form.read(edit, damaged)
    except Unreadable:
        return
    above, below = around(edit)
    assert with_window(edit, window).startswith(above)
    assert with_window(edit, window).endswith(below)
    if below and window:
        assert window.endswith("\n")  # the line below keeps its beginning


OLD, NEW = STARCODER.old, STARCODER.new


def continuations(edit: Edit, answer: str) -> Continuation:
    follow = FORMATS["hunks"].follow
    assert follow
    return follow(edit, answer)


@given(edit=edits())
def test_what_must_follow_never_hinders_a_right_answer(edit: Edit) -> None:
    answer = FORMATS["hunks"].answer(edit)
    parts = re.findall(rf"{OLD}|{NEW}|{STARCODER.none}|.", answer, re.DOTALL)
    for number, part in enumerate(parts):
        marks, copies, _ = continuations(edit, "".join(parts[:number]))
        if part in STARCODER.all:
            assert part in marks
        else:
            assert copies is None or any(copy.startswith(part) for copy in copies)
    assert continuations(edit, answer).ends


@given(edit=edits(), data=st.data())
@settings(deadline=None)
def test_whatever_follows_can_be_applied(edit: Edit, data: st.DataObject) -> None:
    """Any walk through what may follow, however it was drawn, is an answer that parses."""
    answer = ""
    for _ in range(30):
        marks, copies, ends = continuations(edit, answer)
        pieces = [copy[:size] for copy in copies or () for size in (1, 2, len(copy))]
        if copies is None:
            pieces = ["x", "\n", "a\n", window_lines(edit)[0] if window_lines(edit) else "b"]
        if ends:
            FORMATS["hunks"].read(edit, answer)  # does not raise
            if data.draw(st.booleans()):
                return
        assert ends or marks or pieces, "a dead end"
        answer += data.draw(st.sampled_from([*marks, *pieces])) if marks or pieces else ""


FILE = "a = 1\nb = 2\nc = 3\nd = 4\n"


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        ("blocks", "<jupyter_text>1\na\n", "form"),
        ("blocks", "sure: <jupyter_text>1\na\n<jupyter_text>2", "form"),
        ("blocks", "<jupyter_text>2\n<jupyter_text>1", "place"),
        ("blocks", "<jupyter_text>1\na\n<jupyter_text>9", "place"),
        ("blocks", "<jupyter_text>1\na<jupyter_text>2", "line_end"),
        ("hunks", OLD + "b = 2\n" + NEW + OLD + "a = 1\n" + NEW, "not_found"),
        ("hunks", OLD + "b = 3\n" + NEW + "x\n", "not_found"),
        ("hunks", OLD + NEW + "x\n", "not_found"),
        ("hunks", OLD + "b = 2\n" + NEW + "x", "line_end"),
        ("hunks", "x" + OLD + "b = 2\n" + NEW, "form"),
        ("hunks", OLD + "b = 2\n", "form"),
        ("window", "a<jupyter_code>\n", "form"),
        ("zeta", "a = 1\n", "marks"),
        ("zeta2", "a = 1", "line_end"),
        ("sweep", "a<|file_sep|>b", "marks"),
        ("mercury", "a = 1\n", "fence"),
        ("instinct", "<|editable_region_start|>\na = 1", "marks"),
        ("instinct", "a = 1<|editable_region_end|>", "line_end"),
        ("search-replace", "<<<<<<< SEARCH\nz = 9\n=======\nz\n>>>>>>> REPLACE\n", "not_found"),
        ("search-replace", "<<<<<<< SEARCH\n=======\nz\n>>>>>>> REPLACE\n", "empty_search"),
        ("search-replace", "Here it is:\n", "form"),
        ("udiff", "@@ ... @@\n-z = 9\n+z\n", "not_found"),
        ("udiff", "-a = 1\n", "form"),
        ("udiff", "@@ ... @@\n-c = 3\n@@ ... @@\n-a = 1\n", "not_found"),
    ],
)
def test_what_is_not_in_the_format_is_refused(name: str, answer: str, reason: str) -> None:
    edit = Edit("e", "a.py", FILE, (), (0, 4), 0)
    with pytest.raises(Unreadable) as error:
        FORMATS[name].read(edit, answer)
    assert error.value.reason == reason


def test_our_prompt_and_its_three_answers() -> None:
    change = Change("a.py", 0, "a = 0\n", "a = 1\n")
    edit = Edit("e", "a.py", FILE, (change,), (1, 4), 12, "b = 2\nc = 5\n")
    assert FORMATS["blocks"].prompt(edit) == (
        "<filename>a.py\n<issue_start>a = 0\n<issue_comment>a = 1\n<jupyter_start>2\n"
        "<jupyter_text>1\nb = 2\n<jupyter_code>c = 3\nd = 4\n<jupyter_text>2\n<jupyter_output>"
    )
    assert FORMATS["blocks"].answer(edit) == "<jupyter_text>1\nb = 2\nc = 5\n<jupyter_text>2"
    assert FORMATS["window"].answer(edit) == "b = 2\nc = 5\n"
    assert FORMATS["hunks"].prompt(edit) == (
        "<filename>a.py\n<issue_start>a = 0\n<issue_comment>a = 1\n<jupyter_start>2\n"
        "b = 2\n<jupyter_code>c = 3\nd = 4\n<jupyter_output>"
    )
    assert FORMATS["hunks"].answer(edit) == f"{OLD}c = 3\nd = 4\n{NEW}c = 5\n"
    assert FORMATS["search-replace"].answer(edit) == (
        "<<<<<<< SEARCH\nc = 3\nd = 4\n=======\nc = 5\n>>>>>>> REPLACE\n"
    )
    assert FORMATS["udiff"].answer(edit) == "@@ ... @@\n-c = 3\n-d = 4\n+c = 5\n"


@pytest.mark.parametrize(
    "command",
    [
        "data edits . --format rows --out o",
        "eval run next-edit --model embedded --style edit-rows --out o",
        "serve lsp --next-edits rows",
        "serve lsp --upstream http://[::1]:9 --next-edits rows",
    ],
)
def test_a_removed_format_is_an_error_with_a_remedy(command: str, codegen: Any) -> None:
    code, _, err = codegen(*command.split())
    assert code == 2 and err.count("\n") == 1
    assert "The format rows was removed. Regenerate the data with --format hunks, and train" in err


def test_instinct() -> None:
    """As its training code writes it: the latest edit first, five lines around each."""
    text = "".join(f"{letter} = 0\n" for letter in "abcdefgh")
    history = (Change("b.py", 3, "", "x = 1\n"), Change("a.py", 6, "", "g = 0\n"))
    edit = Edit("e", "a.py", text, history, (5, 8), 41, "f = 1\ng = 0\nh = 0\n")
    form = FORMATS["instinct"]
    head, _, rest = form.prompt(edit).partition("### User Edits:\n\n")
    assert head.startswith("<|im_start|>system\nYou are Instinct, an intelligent next-edit ")
    assert head.endswith("modification of code.\n\n### Context:\n\n\n\n\n")
    assert rest == (
        'User edited file "a.py"\n\n```diff\n@@ -2,6 +2,7 @@\n b = 0\n c = 0\n d = 0\n e = 0\n'
        ' f = 0\n+g = 0\n h = 0\n```\n\nUser edited file "b.py"\n\n```diff\n'
        "@@ -4,0 +4,1 @@\n+x = 1\n```\n\n### User Excerpt:\n"
        '"a.py"\n\na = 0\nb = 0\nc = 0\nd = 0\ne = 0\n<|editable_region_start|>\nf = 0\n'
        "g = 0<|user_cursor_is_here|>\nh = 0\n<|editable_region_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert form.answer(edit) == "f = 1\ng = 0\nh = 0"
    assert form.read(edit, "") == ""


def test_a_mark_in_the_text_is_no_prompt() -> None:
    edit = Edit("e", "a.py", "x = '<jupyter_text>'\n", (), (0, 1), 0)
    with pytest.raises(Unwritable) as error:
        FORMATS["hunks"].prompt(edit)
    assert error.value.reason == "mark_in_text"
    assert FORMATS["zeta2"].prompt(edit)


def rows(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


SWEEP = re.compile(
    r"<\|file_sep\|>current/[^\n]*\n(.*)<\|file_sep\|>updated/[^\n]*\n(.*)\Z", re.DOTALL
)
ZETA2 = re.compile(r"<<<<<<< CURRENT\n(.*)=======\n<\[fim-middle\]>\Z", re.DOTALL)


def test_recorded_answers_of_sweep_and_zeta(data_folder: Path) -> None:
    """How many answers change nothing where nothing may be shown, of the first ten scenarios with
    a recorded answer; the figures are those of an own count on the same recordings.
    """
    folder = data_folder / "next_edit"
    expected = {row["source_file"].removesuffix(".txtar"): row["expected"] for row in
                rows(folder / "cursortab_scenarios.jsonl.gz")}  # fmt: skip
    quiet: dict[str, list[bool]] = {}
    seen: set[tuple[str, str]] = set()
    read = 0
    for row in rows(folder / "cursortab_recordings.jsonl.gz"):
        target, key = row["target"], (row["target"], row["scenario"])
        if not target.startswith(("sweep-", "zeta-2")) or key in seen:
            continue
        seen.add(key)
        answer = json.loads(row["response"])["choices"][0]["text"]
        prompt = json.loads(row["request"])["prompt"]
        match = (SWEEP if target.startswith("sweep") else ZETA2).search(prompt)
        assert match
        shown = re.sub(r"<\|(?:user_)?cursor\|>", "", match[1])
        edit = Edit("e", "a", shown, (), (0, len(lines_of(shown))), 0)
        form = FORMATS["sweep" if target.startswith("sweep") else "zeta2"]
        prefill = match[2] if target.startswith("sweep") else ""
        window = form.read(edit, prefill + answer)
        read += 1
        if row["scenario"] in expected and expected[row["scenario"]] is None:
            quiet.setdefault(target, []).append(window.strip() == shown.strip())
    assert read > 100
    found = {target: (sum(flags), len(flags)) for target, flags in quiet.items()}
    assert found == {
        "sweep-next-edit-0.5B": (10, 10),
        "sweep-next-edit-1.5B": (9, 10),
        "sweep-next-edit-7B": (10, 10),
        "zeta-2": (10, 10),
    }
