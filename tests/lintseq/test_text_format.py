"""The text form: the published form, the grammar's corners, damage, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.errors import InputError
from codegen.lintseq import (
    Edit,
    Hunk,
    Malformed,
    UnsupportedProgram,
    format_edits,
    parse_edits,
    resolve,
    states,
)

# str.splitlines would split at each of these; a state's lines end in "\n" alone.
ODD_LINES = [
    "",
    "+",
    "-",
    "@@",
    "@@ -0,0 +1 @@",
    "+@@",
    "--- a",
    "\\",
    "\u2028",
    "a\x0cb",
    "\x1c",
    "\x85",
]
line_texts = st.one_of(
    st.sampled_from(ODD_LINES),
    st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=12),
).filter(lambda line: "<|diff|>" not in line)


@st.composite
def edit_lists(draw: st.DrawFn) -> list[Edit]:
    edits = []
    length = 0
    for _ in range(draw(st.integers(0, 4))):
        starts = draw(st.sets(st.integers(0, length), min_size=1, max_size=3))
        hunks = [
            Hunk(start, tuple(draw(st.lists(line_texts, min_size=1, max_size=3))))
            for start in sorted(starts)
        ]
        edits.append(Edit(tuple(hunks)))
        length += sum(len(hunk.lines) for hunk in hunks)
    return edits


EDITS = (
    Edit((Hunk(0, ("def f(x):", "    return x")),)),
    Edit((Hunk(0, ("import os",)), Hunk(1, ("    x += 1", "    x @@ y", "+x")))),
)
TEXT = """\
<|diff|>@@ -0,0 +1,2 @@
+def f(x):
+    return x
<|diff|>@@ -0,0 +1 @@
+import os
@@ -1,0 +3,3 @@
+    x += 1
+    x @@ y
++x
<|diff|>
<|diff|>"""
PROGRAM = "import os\ndef f(x):\n    x += 1\n    x @@ y\n+x\n    return x\n"


def test_published_form() -> None:
    assert format_edits(EDITS) == TEXT
    assert parse_edits(TEXT) == EDITS
    assert states(EDITS) == ("def f(x):\n    return x\n", PROGRAM)


def test_published_form_is_the_reference_codes_join() -> None:
    diffs = ["@@ -0,0 +1,2 @@\n+def f(x):\n+    return x", TEXT.split("<|diff|>")[2][:-1]]
    assert "\n<|diff|>".join(["", *diffs, "", ""]) == "\n" + TEXT


@pytest.mark.parametrize("prefix", ["", "\n", "<prompt ends with the marker>"])
def test_all_ways_to_start(prefix: str) -> None:
    text = TEXT.removeprefix("<|diff|>") if "marker" in prefix else prefix + TEXT
    resolution = resolve(text)
    assert resolution.edits == EDITS
    assert resolution.program == PROGRAM
    assert resolution.complete
    assert not resolution.malformed
    assert resolution.stray_lines == 0


def test_empty_diff_of_the_reference_data_is_passed_over() -> None:
    assert resolve("<|diff|>\n" + TEXT).edits == EDITS


def test_no_edits() -> None:
    assert format_edits(()) == "<|diff|>\n<|diff|>"
    assert resolve(format_edits(())).complete
    assert parse_edits(format_edits(())) == ()


@given(edit_lists())
def test_round_trip(edits: list[Edit]) -> None:
    text = format_edits(edits)
    resolution = resolve(text)
    assert list(resolution.edits) == edits
    assert resolution.complete
    assert not resolution.malformed
    assert resolution.stray_lines == 0
    assert resolution.states == states(edits)
    assert parse_edits(text) == tuple(edits)


@given(st.one_of(st.text(), st.text("@+-0123, \n<|>dif", max_size=200)))
def test_any_text_resolves(text: str) -> None:
    resolve(text, recount=True)
    resolution = resolve(text, keep_partial=True)
    assert resolution.program == (resolution.states[-1] if resolution.edits else "")


@given(edit_lists(), st.data())
def test_damaged_text_resolves_to_what_it_reports(edits: list[Edit], data: st.DataObject) -> None:
    text = format_edits(edits)
    place = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.sampled_from(["", "@", "+", "\n", "7", "@@ -9,0 +9 @@", "<|diff|>", " x"]))
    width = data.draw(st.integers(0, 3))
    resolution = resolve(text[:place] + piece + text[place + width :])
    # What was applied is itself well-formed.
    assert resolve(format_edits(resolution.edits)).program == resolution.program


@given(edit_lists(), st.data())
def test_cut_off_text_keeps_complete_hunks(edits: list[Edit], data: st.DataObject) -> None:
    text = format_edits(edits)
    cut = data.draw(st.integers(0, len(text) - 1))
    resolution = resolve(text[:cut])
    assert not resolution.complete
    assert len(resolution.malformed) <= 1
    assert all(bad.reason == "truncated" for bad in resolution.malformed)
    whole = [hunk for edit in edits for hunk in edit.hunks]
    kept = [hunk for edit in resolution.edits for hunk in edit.hunks]
    # Only the last line of the last one may itself be cut.
    assert kept[:-1] == whole[: len(kept)][:-1]
    if kept:
        last, original = kept[-1], whole[len(kept) - 1]
        assert (last.start, last.lines[:-1]) == (original.start, original.lines[:-1])
        assert original.lines[-1].startswith(last.lines[-1])


def test_keep_partial() -> None:
    cut = TEXT[: TEXT.index(" @@ y")]
    assert resolve(cut).malformed == (Malformed(1, 1, "truncated"),)
    assert resolve(cut).program == "import os\ndef f(x):\n    return x\n"
    partial = resolve(cut, keep_partial=True)
    assert partial.malformed == (Malformed(1, 1, "truncated"),)
    assert partial.program == "import os\ndef f(x):\n    x += 1\n    x\n    return x\n"


START = "<|diff|>@@ -0,0 +1,2 @@\n+a\n+b\n<|diff|>"
END = "\n<|diff|>\n<|diff|>"


@pytest.mark.parametrize(
    ("diff", "reason"),
    [
        ("@@ -0,0 +1,2 @@\n+x", "bad_count"),
        ("@@ -0,0 +1 @@\n+x\n+y", "bad_count"),
        ("@@ -0,0 +1 @@", "bad_count"),
        ("@@ -0,0 +1 @@\nx", "bad_line"),
        ("@@ -0,0 +1 @@\n-x", "bad_line"),
        ("@@ -0,0 +1 @@\n+x\n", "bad_line"),
        ("@@ -0,0 +1 @@\n x", "bad_line"),
        ("@@ -3,0 +4 @@\n+x", "past_end"),
        ("@@ -999999999,0 +1 @@\n+x", "past_end"),
        ("@@ -1,0 +1 @@\n+x", "bad_new_position"),
        ("@@ -1,0 +3 @@\n+x", "bad_new_position"),
        ("@@ -1,1 +1 @@\n+x", "deletes_lines"),
        ("@@ -1,2 +0,0 @@\n-a\n-b", "deletes_lines"),
        ("@@ -1 +1 @@\n+x", "bad_header"),
        ("@@ -0,0 +1,0 @@", "bad_header"),
        ("@@ -0,0 +1 @@ def f():\n+x", "bad_header"),
        ("@@ -0,0 +1 @@ \n+x", "bad_header"),
        ("@@-0,0 +1@@\n+x", "bad_header"),
        ("@@ -٠,0 +1 @@\n+x", "bad_header"),
        ("@@ -0,0 +" + "9" * 6000 + " @@\n+x", "bad_header"),
        ("@@\n+x", "bad_header"),
        ("@@@ -0,0 +1 @@@\n+x", "bad_header"),
    ],
)
def test_malformed_hunks(diff: str, reason: str) -> None:
    resolution = resolve(START + diff + END)
    assert resolution.malformed == (Malformed(1, 0, reason),)
    assert resolution.program == "a\nb\n"
    assert resolution.complete
    with pytest.raises(InputError, match=rf"Edit 1, hunk 0 .*{reason}"):
        parse_edits(START + diff + END)


@pytest.mark.parametrize(
    ("diff", "reason", "program"),
    [
        ("@@ -0,0 +1,2 @@\n+a\n+b\n+c", "bad_count", "a\nb\nc\n"),
        ("@@ -0,0 +1,5 @@\n+a\n+b", "bad_count", "a\nb\n"),
        ("@@ -9,0 +10 @@\n+a", "past_end", "a\n"),
        ("@@ -0,0 +4 @@\n+a", "bad_new_position", "a\n"),
        ("@@ -0,0 +1,0 @@\n+a", "bad_header", ""),
        ("@@ -1,1 +1 @@\n+a", "deletes_lines", ""),
        ("@@ -0,0 +1,2 @@\n+a\n-b", "bad_line", ""),
        ("@@ -0,0 +1,2 @@", "bad_count", ""),
    ],
)
def test_recount_applies_sound_lines_and_still_reports(
    diff: str, reason: str, program: str
) -> None:
    text = f"<|diff|>{diff}\n<|diff|>\n<|diff|>"
    assert resolve(text).program == ""
    resolution = resolve(text, recount=True)
    assert [m.reason for m in resolution.malformed] == [reason]
    assert resolution.program == program


def test_recount_places_a_hunk_past_the_end_at_the_end() -> None:
    text = "<|diff|>@@ -0,0 +1 @@\n+a\n<|diff|>@@ -7,0 +8 @@\n+b\n<|diff|>\n<|diff|>"
    assert resolve(text, recount=True).program == "a\nb\n"


@given(edits=edit_lists())
def test_recount_changes_nothing_for_sound_text(edits: list[Edit]) -> None:
    text = format_edits(edits)
    assert resolve(text, recount=True) == resolve(text)


def test_hunks_must_go_down() -> None:
    resolution = resolve(START + "@@ -1,0 +2 @@\n+x\n@@ -1,0 +3 @@\n+y\n@@ -0,0 +3 @@\n+z" + END)
    assert resolution.malformed == (
        Malformed(1, 1, "out_of_order"),
        Malformed(1, 2, "out_of_order"),
    )
    assert resolution.program == "a\nx\nb\n"


def test_hunks_after_a_malformed_one_are_placed_by_their_old_position() -> None:
    resolution = resolve(START + "@@ -0,0 +1,2 @@\n+x\n@@ -2,0 +5 @@\n+y" + END)
    assert resolution.malformed == (Malformed(1, 0, "bad_count"),)
    assert resolution.program == "a\nb\ny\n"


def test_stray_text_is_counted() -> None:
    text = "Sure!\nHere it is.\n\n" + TEXT.replace(
        "<|diff|>@@ -0,0 +1 @@", "<|diff|>Then:\n@@ -0,0 +1 @@"
    )
    text += "\n<|diff|>Done.\n\n@@ -0,0 +1 @@\n+no"
    resolution = resolve(text)
    assert resolution.program == PROGRAM
    assert resolution.complete
    assert not resolution.malformed
    assert resolution.stray_lines == 3 + 3
    with pytest.raises(InputError, match="6 lines outside of hunks"):
        parse_edits(text)


def test_prose_alone() -> None:
    resolution = resolve("I can't do that.\n")
    assert (resolution.program, resolution.stray_lines, resolution.complete) == ("", 1, False)


def test_unended_text_is_no_parse() -> None:
    with pytest.raises(InputError, match="not ended"):
        parse_edits(TEXT.removesuffix("\n<|diff|>"))


def test_what_the_form_cannot_carry() -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        format_edits([Edit((Hunk(0, ("x = '<|diff|>'",)),))])
    assert caught.value.reason == "contains_marker"
    with pytest.raises(InputError, match="line end"):
        format_edits([Edit((Hunk(0, ("x\ny",)),))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Hunk(-1, ("x",)),
        lambda: Hunk(0, ()),
        lambda: Edit(()),
        lambda: Edit((Hunk(1, ("x",)), Hunk(1, ("y",)))),
        lambda: states([Edit((Hunk(1, ("x",)),))]),
    ],
)
def test_impossible_edits_are_refused(make) -> None:
    with pytest.raises(InputError):
        make()
