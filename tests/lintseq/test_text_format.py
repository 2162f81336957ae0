"""The text form: the published form, the grammar's corners, damage, and any text at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.lintseq import (
    EditSequence,
    EditStep,
    UnsupportedProgram,
    format_edits,
    parse_edits,
    resolve,
    states,
)
from codegen.lintseq.edits import InsertHunk, apply
from codegen.lintseq.text_format import MalformedHunk

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


CODE_LINES = st.text("ab =+-@ \t", max_size=6)  # some blank, some equal


@st.composite
def edit_lists(
    draw: st.DrawFn, lines: st.SearchStrategy[str] = line_texts, least: int = 0
) -> list[EditStep]:
    edits = []
    length = 0
    for _ in range(draw(st.integers(least, 4))):
        at = sorted(draw(st.sets(st.integers(0, length), min_size=1, max_size=3)))
        hunks = [InsertHunk(n, tuple(draw(st.lists(lines, min_size=1, max_size=3)))) for n in at]
        edits.append(EditStep(tuple(hunks)))
        length += sum(len(hunk.lines) for hunk in hunks)
    return edits


EDITS = (
    EditStep((InsertHunk(0, ("def f(x):", "    return x")),)),
    EditStep((InsertHunk(0, ("import os",)), InsertHunk(1, ("    x += 1", "    x @@ y", "+x")))),
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
def test_round_trip(edits: list[EditStep]) -> None:
    text = format_edits(edits)
    resolution = resolve(text)
    assert list(resolution.edits) == edits
    assert resolution.complete
    assert not resolution.malformed
    assert resolution.stray_lines == 0
    assert resolution.states == states(edits)
    assert parse_edits(text) == tuple(edits)


@given(edit_lists())
def test_the_anchored_form_needs_no_numbers(edits: list[EditStep]) -> None:
    text = format_edits(edits, anchored=True)
    assert not re.search(r"^@@.*[0-9]", text, re.MULTILINE)
    resolution = resolve(text)
    assert list(resolution.edits) == edits
    assert (resolution.complete, resolution.malformed, resolution.mended) == (True, (), ())
    assert resolution.states == states(edits)
    assert parse_edits(text) == tuple(edits)


def test_the_anchored_form() -> None:
    again = EditStep((InsertHunk(2, ("    pass",)), InsertHunk(3, ("y = 1", "y = 1"))))
    program = [EditStep((InsertHunk(0, ("for a in b:", "for a in b:", "x = 1")),)), again]
    assert format_edits(program, anchored=True) == (
        "<|diff|>@@ @@\n+for a in b:\n+for a in b:\n+x = 1\n"
        "<|diff|>@@ @@\n for a in b:\n for a in b:\n+    pass\n"  # one line is above another place
        "@@ @@\n x = 1\n+y = 1\n+y = 1\n<|diff|>\n<|diff|>"
    )


@pytest.mark.parametrize(
    ("hunk", "reason"),
    [
        ("@@ @@\n z\n+x", "context_not_found"),
        ("@@ @@\n a\n+x\n@@ @@\n+y", "context_not_found"),
        ("@@ @@\n b\n+x\n@@ @@\n a\n+y", "context_not_found"),  # above the last one
        ("@@ @@\n a", "no_lines"),
        ("@@ @@\n a\n+x\n a", "context_not_found"),  # not what is below it
        ("@@ @@\n a\n-b", "bad_line"),
        ("@@ @@\n a\n+x\nThen we add y.", "context_not_found"),
        ("@@ @@@\n a\n+x", "bad_header"),
    ],
)
def test_malformed_anchored_hunks(hunk: str, reason: str) -> None:
    resolution = resolve(f"<|diff|>{hunk}\n<|diff|>\n<|diff|>", base="a\nb\n")
    assert [found.reason for found in resolution.malformed] == [reason]


INNER = "class A:\n    x = 1\n    def f(self):\n        return 1\n"


@pytest.mark.parametrize(
    ("hunk", "kinds"),
    [
        ("@@ @@ class A:\n     def f(self):\n+        # new", ["header_text"]),
        ("@@@@\n     def f(self):\n+        # new", ["header_spacing"]),
        ("@@  @@ \n     def f(self):\n+        # new", ["header_spacing"]),
        ("@@ @@\n     def f(self):\n+        # new\n         return 1", ["context"]),
        ("@@ @@\n     def f(self):\n+        # new\n\n\n", ["blank_line"]),
        ("@@ @@\n    def f(self):\n+        # new", ["indentation"]),  # the sign's blank is missing
        ("@@ @@\n def f(self):\n+        # new", ["indentation"]),
        ("@@ @@\nclass A:\n     x = 1\n     def f(self):\n+        # new", ["sign"]),
        ("```diff\n@@ @@\n     def f(self):\n+        # new\n```", ["fence"]),
        ("@@ @@\n     def f(self):\n+        # new\n\\ No newline at end of file",
         ["no_newline_note"]),
    ],
)  # fmt: skip
def test_anchored_hunks_that_leave_no_doubt_are_mended(hunk: str, kinds: list[str]) -> None:
    resolution = resolve(f"<|diff|>{hunk}\n<|diff|>\n<|diff|>", base=INNER)
    assert resolution.program == INNER.replace("):\n", "):\n        # new\n")
    assert (resolution.malformed, resolution.complete) == ((), True)
    assert {found.kind for found in resolution.mended} == set(kinds)


def test_indentation_that_leaves_a_doubt_is_not_mended() -> None:
    base = "a:\n    x\nb:\n        x\n"
    resolution = resolve("<|diff|>@@ @@\n x\n+y\n<|diff|>\n<|diff|>", base=base)
    assert [found.reason for found in resolution.malformed] == ["context_not_found"]


@pytest.mark.parametrize("anchored", [False, True])
def test_a_fence_around_the_whole_text_is_no_part_of_it(anchored: bool) -> None:
    text = f"```diff\n{format_edits(EDITS, anchored=anchored)}\n```\n"
    resolution = resolve(text)
    assert (resolution.program, resolution.complete, resolution.stray_lines) == (PROGRAM, True, 0)
    assert {found.kind for found in resolution.mended} == {"fence"}
    with pytest.raises(InputError, match="fence"):
        parse_edits(text)


@given(edit_lists(), st.data())
def test_a_cut_anchored_text_is_a_beginning(edits: list[EditStep], data: st.DataObject) -> None:
    text = format_edits(edits, anchored=True)
    resolution = resolve(text[: data.draw(st.integers(0, len(text)))])
    done = len(resolution.edits)
    assert list(resolution.edits[: done - 1]) == edits[: max(0, done - 1)]
    assert {found.reason for found in resolution.malformed} <= {"truncated"}


@given(st.one_of(st.text(), st.text("@+-0123, \n<|>dif", max_size=200)))
def test_any_text_resolves(text: str) -> None:
    resolve(text, recount=True)
    resolution = resolve(text)
    assert resolution.program == (resolution.states[-1] if resolution.edits else "")


@given(edit_lists(), st.data())
def test_damaged_text_resolves_to_what_it_reports(
    edits: list[EditStep], data: st.DataObject
) -> None:
    text = format_edits(edits)
    place = data.draw(st.integers(0, len(text)))
    piece = data.draw(st.sampled_from(["", "@", "+", "\n", "7", "@@ -9,0 +9 @@", "<|diff|>", " x"]))
    width = data.draw(st.integers(0, 3))
    resolution = resolve(text[:place] + piece + text[place + width :])
    # What was applied is itself well-formed.
    assert resolve(format_edits(resolution.edits)).program == resolution.program


@given(edit_lists(), st.data())
def test_cut_off_text_keeps_complete_hunks(edits: list[EditStep], data: st.DataObject) -> None:
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


def test_a_hunk_that_is_cut_off_is_left_out() -> None:
    cut = TEXT[: TEXT.index(" @@ y")]
    assert resolve(cut).malformed == (MalformedHunk(1, 1, "truncated"),)
    assert resolve(cut).program == "import os\ndef f(x):\n    return x\n"


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
        ("@@ -0,0 +1 @@\n x", "context_not_found"),
        ("@@ -0,0 +1 @@\n+x\n-a", "bad_line"),
        ("@@ -3,0 +4 @@\n+x", "past_end"),
        ("@@ -999999999,0 +1 @@\n+x", "past_end"),
        ("@@ -1,0 +1 @@\n+x", "bad_new_position"),
        ("@@ -1,0 +3 @@\n+x", "bad_new_position"),
        ("@@ -1,1 +1 @@\n+x", "deletes_lines"),
        ("@@ -1,2 +0,0 @@\n-a\n-b", "deletes_lines"),
        ("@@ -1 +1 @@\n+x", "bad_header"),
        ("@@ -0,0 +1,0 @@", "bad_header"),
        ("@@ -0,0+1 @@\n+x", "bad_header"),
        ("@@ -٠,0 +1 @@\n+x", "bad_header"),
        ("@@ -0,0 +" + "9" * 6000 + " @@\n+x", "bad_header"),
        ("@@\n+x", "bad_header"),
        ("@@@ -0,0 +1 @@@\n+x", "bad_header"),
    ],
)
def test_malformed_hunks(diff: str, reason: str) -> None:
    resolution = resolve(START + diff + END)
    assert resolution.malformed == (MalformedHunk(1, 0, reason),)
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
def test_recount_changes_nothing_for_sound_text(edits: list[EditStep]) -> None:
    text = format_edits(edits)
    assert resolve(text, recount=True) == resolve(text)


def test_hunks_must_go_down() -> None:
    resolution = resolve(START + "@@ -1,0 +2 @@\n+x\n@@ -1,0 +3 @@\n+y\n@@ -0,0 +3 @@\n+z" + END)
    assert resolution.malformed == (
        MalformedHunk(1, 1, "out_of_order"),
        MalformedHunk(1, 2, "out_of_order"),
    )
    assert resolution.program == "a\nx\nb\n"


def test_hunks_after_a_malformed_one_are_placed_by_their_old_position() -> None:
    resolution = resolve(START + "@@ -0,0 +1,2 @@\n+x\n@@ -2,0 +5 @@\n+y" + END)
    assert resolution.malformed == (MalformedHunk(1, 0, "bad_count"),)
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
    with pytest.raises(InputError, match="does not end"):
        parse_edits(TEXT.removesuffix("\n<|diff|>"))


def test_what_the_form_cannot_carry() -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        format_edits([EditStep((InsertHunk(0, ("x = '<|diff|>'",)),))])
    assert caught.value.reason == "contains_marker"
    with pytest.raises(InputError, match="line break"):
        format_edits([EditStep((InsertHunk(0, ("x\ny",)),))])


@pytest.mark.parametrize(
    "make",
    [
        lambda: InsertHunk(-1, ("x",)),
        lambda: InsertHunk(0, ()),
        lambda: EditStep(()),
        lambda: EditStep((InsertHunk(1, ("x",)), InsertHunk(1, ("y",)))),
        lambda: states([EditStep((InsertHunk(1, ("x",)),))]),
    ],
)
def test_impossible_edits_are_refused(make) -> None:
    with pytest.raises(InputError):
        make()


# -- what models write in place of the published form ----------------------------------------------

BEFORE = ("def f(x):", "    y = x", "", "    return y")
INSERTED = "def f(x):\n    y = x\n    y += 1\n\n    return y\n"


def after(diff: str, recount: bool = False) -> tuple[str, list[str], list[str]]:
    """The program after a diff of :data:`BEFORE`, the mends and the faults."""
    text = f"<|diff|>{diff}\n<|diff|>\n<|diff|>"
    found = resolve(text, base="".join(line + "\n" for line in BEFORE), recount=recount)
    return found.program, [m.kind for m in found.mended], [m.reason for m in found.malformed]


@pytest.mark.parametrize("recount", [False, True])
@pytest.mark.parametrize(
    ("diff", "kinds"),
    [
        ("@@ -2,0 +3 @@ def f(x):\n+    y += 1", ["header_text"]),
        ("@@ -2,0 +3 @@ +    y += 1", ["header_text"]),
        ("@@ -2,0 +3 @@ \n+    y += 1", ["header_spacing"]),
        ("@@-2,0  +3@@\n+    y += 1", ["header_spacing"]),
        ("@@ -2,0 +3 @@\n+    y += 1\n", ["blank_line"]),
        ("@@ -2,0 +3 @@\n+    y += 1\n\n\n", ["blank_line"]),
        ("@@ -1,4 +1,5 @@\n def f(x):\n     y = x\n+    y += 1\n \n     return y", ["context"]),
        ("@@ -1,4 +1,5 @@\n def f(x):\n     y = x\n+    y += 1\n\n     return y",
         ["blank_line", "context"]),
        ("@@ -2,2 +2,3 @@\n     y = x\n+    y += 1\n ", ["context"]),
        ("@@ -2,0 +3 @@\n     y = x\n+    y += 1", ["context"]),
        ("@@ -2,0 +3 @@\n+    y += 1\n \n     return y", ["context"]),
        ("@@ -2,0 +3 @@\n def f(x):\n     y = x\n+    y += 1\n ", ["context"]),
        ("```diff\n@@ -2,0 +3 @@\n+    y += 1\n```", ["fence"]),
        ("@@ -2,0 +3 @@\n+    y += 1\n\\ No newline at end of file", ["no_newline_note"]),
    ],
)  # fmt: skip
def test_what_leaves_no_doubt_is_mended(diff: str, kinds: list[str], recount: bool) -> None:
    assert after(diff, recount) == (INSERTED, kinds, [])


def test_an_empty_line_is_new_if_the_count_says_so() -> None:
    program, kinds, faults = after("@@ -2,0 +3,3 @@\n+    y += 1\n\n+    y += 2")
    assert program == "def f(x):\n    y = x\n    y += 1\n\n    y += 2\n\n    return y\n"
    assert (kinds, faults) == (["blank_line"], [])


@pytest.mark.parametrize(
    ("diff", "fault", "program"),
    [
        # Wrong numbers: only where they may be mended.
        ("@@ -2,0 +3,4 @@\n     y = x\n+    y += 1", "bad_count", INSERTED),
        ("@@ -9,2 +9,3 @@\n     y = x\n+    y += 1\n ", "moved_context", INSERTED),
        ("@@ -0,0 +1 @@\n     y = x\n+    y += 1", "moved_context", INSERTED),
        ("@@ -2,2 +9,3 @@\n     y = x\n+    y += 1\n ", "bad_new_position", INSERTED),
        # No telling where: never applied.
        ("@@ -2,2 +2,3 @@\n     y = z\n+    y += 1\n ", "context_not_found", None),
        ("@@ -2,1 +2,2 @@\n-    y = x\n+    y += 1", "deletes_lines", None),
    ],
)
def test_doubtful_places(diff: str, fault: str, program: str | None) -> None:
    unchanged = "".join(line + "\n" for line in BEFORE)
    assert after(diff)[::2] == (unchanged, [fault])
    assert after(diff, recount=True)[::2] == (program or unchanged, [fault])


def test_several_places_are_ambiguous_unless_the_header_names_one() -> None:
    base = "x = 1\ny = 2\nx = 1\ny = 2\n"
    text = "<|diff|>@@ -{},1 +{},2 @@\n x = 1\n+z = 3\n<|diff|>\n<|diff|>"
    for recount in (False, True):
        third = resolve(text.format(3, 3), base=base, recount=recount)
        assert third.program == "x = 1\ny = 2\nx = 1\nz = 3\ny = 2\n"
        assert not third.malformed
        unknown = resolve(text.format(2, 2), base=base, recount=recount)
        assert unknown.program == base
        assert [m.reason for m in unknown.malformed] == ["ambiguous_context"]


def test_carriage_returns_of_the_text_and_of_a_line() -> None:
    found = resolve(TEXT.replace("\n", "\r\n"))
    assert (found.program, found.complete) == (PROGRAM, True)
    assert [m.kind for m in found.mended] == ["crlf"]
    line = format_edits([EditStep((InsertHunk(0, ("x = 1\r",)),))])
    assert resolve(line).edits == (EditStep((InsertHunk(0, ("x = 1\r",)),)),)


def test_mended_text_is_no_published_form() -> None:
    with pytest.raises(InputError, match="header_text"):
        parse_edits(TEXT.replace("+1 @@", "+1 @@ f"))


def with_context(edits: list[EditStep], lines: int, *, git_numbers: bool) -> str:
    """The text with context lines, written by hand: one hunk of the text for each of ours."""
    diffs = []
    state: list[str] = []
    for edit in edits:
        rows = []
        added = 0
        for hunk in edit.hunks:
            above = state[max(0, hunk.start - lines) : hunk.start]
            below = state[hunk.start : hunk.start + lines]
            context, new = len(above) + len(below), len(hunk.lines)
            if git_numbers and context:
                first = hunk.start - len(above) + 1
                rows.append(f"@@ -{first},{context} +{first + added},{context + new} @@ x")
            else:
                rows.append(f"@@ -{hunk.start},0 +{hunk.start + added + 1},{new} @@")
            rows += [f" {line}" for line in above]
            rows += [f"+{line}" for line in hunk.lines]
            rows += [f" {line}" for line in below]
            added += new
        diffs.append("\n".join(rows))
        state = apply(state, edit)
    return "\n<|diff|>".join(["", *diffs, "", ""])[1:]


MUTATIONS = {
    "heading": lambda edits, text: re.sub(r"(?m)^((?:<\|diff\|>)?@@ .* @@)$", r"\1 class A:", text),
    "spacing": lambda edits, text: re.sub(r"(?m)^((?:<\|diff\|>)?@@ .* @@)$", r"\1  ", text),
    "carriage returns": lambda edits, text: text.replace("\n", "\r\n"),
    "blank line before each marker": lambda edits, text: text.replace("\n<|diff|>", "\n\n<|diff|>"),
    "fences": lambda edits, text: "```diff\n" + text.replace("\n<|diff|>\n<|diff|>",
                                                         "\n```\n<|diff|>\n<|diff|>"),
    "no newline": lambda edits, text: text.rstrip("\n"),
    "context with git's numbers": lambda edits, text: with_context(edits, 2, git_numbers=True),
    "one line of context": lambda edits, text: with_context(edits, 1, git_numbers=True),
    "context with the published numbers": lambda edits, text: with_context(
        edits, 2, git_numbers=False
    ),
}  # fmt: skip


@pytest.mark.parametrize("recount", [False, True])
@pytest.mark.parametrize("name", MUTATIONS)
@settings(max_examples=30)
@given(edits=edit_lists(CODE_LINES, 1))
def test_mutated_text_gives_the_same_program(
    name: str, recount: bool, edits: list[EditStep]
) -> None:
    text = MUTATIONS[name](edits, format_edits(edits))
    found = resolve(text, recount=recount)
    assert found.program == EditSequence(tuple(edits)).program
    assert not found.malformed
    assert found.complete


@given(edits=edit_lists(CODE_LINES, 1), data=st.data())
def test_wrong_counts_give_the_same_program(edits: list[EditStep], data: st.DataObject) -> None:
    """Any counts of new lines and new positions, which say nothing that the lines do not."""

    def wrong(match: re.Match[str]) -> str:
        position = data.draw(st.integers(1, 30))
        return f"@@ -{match[1]},0 +{position},{data.draw(st.integers(1, 30))} @@"

    text = re.sub(r"(?m)@@ -(\d+),0 \+\d+(?:,\d+)? @@$", wrong, format_edits(edits))
    found = resolve(text, recount=True)
    assert found.program == EditSequence(tuple(edits)).program
    assert {m.reason for m in found.malformed} <= {"bad_count", "bad_new_position"}
