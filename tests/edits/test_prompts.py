"""Editors' prompts: what our renderers, cursortab and Zed's own layouts write is taken apart."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.core.records import Change, Edit
from codegen.edits.formats import FORMATS, around, window_text
from codegen.edits.prompts import read_editor_prompt
from codegen.edits.sessions import lines_of
from tests.edits.test_formats import edits, rows


@pytest.mark.parametrize("name", ["zeta", "zeta2"])
@given(edit=edits())
@settings(max_examples=150, deadline=None)
def test_what_our_renderers_write_is_taken_apart(name: str, edit: Edit) -> None:
    """The region ends in a newline, as in the answer; the excerpt is the whole small file."""
    form = FORMATS[name]
    above, below = around(edit)
    assume(not above or above.endswith("\n"))  # the region begins a line
    found = read_editor_prompt(form.prompt(edit))
    assert found
    asked = found.edit
    cursor = min(max(edit.cursor, len(above)), len(edit.text) - len(below))
    shown = window_text(edit)
    if not shown.endswith("\n") or cursor == len(above) + len(shown):  # the cursor has a line
        shown += "\n"
    region = window_text(asked)
    assert asked.path == "a.py"
    assert region == shown
    assert around(asked)[0] == above and around(asked)[1].rstrip("\n") == below.rstrip("\n")
    assert asked.cursor == cursor
    after = edit.target or ""
    after += "" if after.endswith("\n") or not after else "\n"
    for new in (after, region):
        is_none = name == "zeta2" and new == region
        answer = found.answer(new)
        assert (not answer) if is_none else form.read(asked, answer) == new


HISTORY = (
    Change("a.py", 0, "", "import json\n"),
    Change("a.py", 3, "    rows = []\n", "    records = []\n    total = 0\n"),
    Change("b.py", 0, "x\n", "y\n"),
    Change("a.py", 5, "    pass\n", ""),
)
TEXT = "import json\n\ndef read():\n    records = []\n    total = 0\n    return rows\n"


@pytest.mark.parametrize("name", ["zeta", "zeta2"])
def test_the_history_has_its_places(name: str) -> None:
    """Of other files, nothing; a deletion without lines around it is at no line."""
    edit = Edit("e", "a.py", TEXT, HISTORY, (2, 6), len(TEXT) - 1)
    found = read_editor_prompt(FORMATS[name].prompt(edit))
    assert found
    last = len(lines_of(found.edit.text))
    assert found.edit.history == (*HISTORY[:2], HISTORY[3]._replace(line=last))


ZED_2 = """<[fim-suffix]>

def write(path):
    pass
<[fim-prefix]><filename>project/util.py
def helper(): ...
...

<filename>edit_history
// User accepted prediction:
--- a/project/other.py
+++ b/project/other.py
@@ -1,1 +1,1 @@
-a = 1
+a = 2
--- a/project/io.py
+++ b/project/io.py
@@ -1,4 +1,4 @@
 import json
 def read(path):
-    rows = []
+    records = []
     with open(path) as file:

<filename>project/io.py
import json
def read(path):
<<<<<<< CURRENT
    records<|user_cursor|> = []
    with open(path) as file:
        rows.append(file.read())
    return rows
=======
<[fim-middle]>"""
REGION = ZED_2.partition("CURRENT\n")[2].partition("=======")[0].replace("<|user_cursor|>", "")


def test_a_prompt_as_zed_writes_it() -> None:
    """By the layout of its ``zeta_prompt``: other files, paths with a slash, lines of context."""
    found = read_editor_prompt(ZED_2)
    assert found
    edit = found.edit
    assert (edit.path, window_text(edit), edit.window) == ("project/io.py", REGION, (2, 6))
    assert edit.text[edit.cursor - 7 : edit.cursor] == "records"
    assert edit.history == (Change("project/io.py", 2, "    rows = []\n", "    records = []\n"),)
    after = REGION.replace("rows", "records")
    assert found.answer(after) == f"{after}>>>>>>> UPDATED\n"
    assert found.answer(REGION) == ""  # Zed would take NO_EDITS for the new text
    assert found.answer("<|user_cursor|>\n") == ""


def test_zeta_1_as_zed_writes_it() -> None:
    prompt = (
        "### Instruction:\nYou are a code completion assistant and your task is to ...\n\n"
        "### User Edits:\n\nUser edited /p/a.py:\n```diff\n@@ -1,2 +1,2 @@\n-a = 1\n+b = 1\n"
        " print(a)\n```\n\n### User Excerpt:\n\n```p/a.py\n<|start_of_file|>\n"
        "<|editable_region_start|>\nb<|user_cursor_is_here|> = 1\nprint(a)\n"
        "<|editable_region_end|>\nprint(2)\n```\n\n### Response:\n"
    )
    found = read_editor_prompt(prompt)
    assert found and found.edit.text == "b = 1\nprint(a)\nprint(2)\n"
    assert found.edit.history == (Change("p/a.py", 0, "a = 1\n", "b = 1\n"),)
    marks = ("<|editable_region_start|>\n", "\n<|editable_region_end|>")
    assert found.answer("b = 1\nprint(b)\n") == "b = 1\nprint(b)".join(marks)
    assert found.answer("b = 1\nprint(a)\n") == "b = 1\nprint(a)".join(marks)
    assert found.answer("<|start_of_file|>\n") == "b = 1\nprint(a)".join(marks)


TAGS = re.compile(r"<\|marker_(\d+)\|>")


def applied(old: list[str], answer: str) -> str:
    """Zed's rule for ``zeta2_1``: the text between the outer tags replaces those blocks."""
    answer = answer.removesuffix("<[end▁of▁sentence]>")
    tags = [*TAGS.finditer(answer)]
    first, last = int(tags[0][1]) - 1, int(tags[-1][1]) - 1
    new = TAGS.sub("", answer)
    return "".join([*old[:first], new, *old[last:]])


@given(
    st.lists(st.sampled_from(["a\n", "b\n", "a\nb\n", "\n"]), min_size=1, max_size=4),
    st.text("ab\n", max_size=12),
    st.booleans(),
    st.data(),
)
@settings(max_examples=200, deadline=None)
def test_regions_cut_by_tags(
    blocks: list[str], new: str, is_ended: bool, data: st.DataObject
) -> None:
    """``zeta2_1``; Zed's region may end without the newline of its last line."""
    region = "".join(blocks)
    if not is_ended:
        region = region.removesuffix("\n")
        blocks = [*blocks[:-1], blocks[-1].removesuffix("\n")]
    below = "z\n" if is_ended else "\nz\n"
    is_ended = region.endswith("\n") or not region
    cursor = data.draw(st.integers(0, len(region)))
    shown, seen = "", 0
    for number, block in enumerate(blocks, 1):
        at = cursor - seen
        is_here = 0 <= at <= len(block) and "<|user_cursor|>" not in shown
        marked = f"{block[:at]}<|user_cursor|>{block[at:]}" if is_here else block
        shown, seen = f"{shown}<|marker_{number}|>{marked}", seen + len(block)
    prompt = (
        f"<[fim-suffix]>{below}<[fim-prefix]><filename>a.py\ny\n{shown}"
        f"<|marker_{len(blocks) + 1}|>\n<[fim-middle]>"
    )
    found = read_editor_prompt(prompt)
    assert found
    assert found.edit.text == f"y\n{region}{below}" and found.edit.cursor == 2 + cursor
    window = window_text(found.edit)
    assert window == (region if is_ended else region + "\n")
    after = new if new.endswith("\n") or not new else new + "\n"
    answer = found.answer(after)
    if after == window:
        assert answer == ""
    else:
        assert applied(blocks, answer) == (after if is_ended else after.removesuffix("\n"))


@pytest.mark.parametrize(
    ("old", "new", "needle"),
    [
        ("=======\n", "", "======="),
        ("<|user_cursor|>", "", "<|user_cursor|> once"),
        ("records<|user", "<|user_cursor|>records<|user", "<|user_cursor|> once"),
        ("<[fim-prefix]>", "", "<[fim-prefix]>"),
        ("<filename>", "<file>", "<filename>"),
        ("<[fim-middle]>", "", "<[fim-middle]>"),
        ("<[fim-middle]>", "<[fim-middle]>x", "<[fim-middle]>"),
        ("<<<<<<< CURRENT\n", "<|marker_1|>", "<|marker_1|>, <|marker_2|>"),
        ("import json", "x" * 200_000, "200000 characters"),
    ],
)
def test_a_prompt_with_a_part_missing_is_an_error(old: str, new: str, needle: str) -> None:
    with pytest.raises(InputError, match=re.escape(needle)):
        read_editor_prompt(ZED_2.replace(old, new))


def test_recorded_prompts_of_cursortab(data_folder: Path) -> None:
    """All of its requests for Zeta and Zeta 2 in recorded scenarios, with the models' answers."""
    read = histories = 0
    for row in rows(data_folder / "next_edit" / "cursortab_recordings.jsonl.gz"):
        if row["target"] not in ("zeta", "zeta-2"):
            continue
        name = "zeta2" if row["target"] == "zeta-2" else "zeta"
        asked, answered = json.loads(row["request"]), json.loads(row["response"])
        found = read_editor_prompt(asked["prompt"])
        assert found
        form, edit = FORMATS[name], found.edit
        shown = form.prompt(edit)
        start = "<<<<<<< CURRENT" if name == "zeta2" else "<|editable_region_start|>"
        end = "<[fim-middle]>" if name == "zeta2" else "<|editable_region_end|>"
        region = asked["prompt"].partition(start)[2].partition(end)[0]
        assert region == shown.partition(start)[2].partition(end)[0]
        for change in edit.history:
            lines = lines_of(edit.text)
            new = lines_of(change.new)
            assert lines[change.line : change.line + len(new)] == new or change.line == len(lines)
        after = form.read(edit, answered["choices"][0]["text"])
        answer = found.answer(after)
        assert form.read(edit, answer) == after if answer else after == window_text(edit)
        histories += bool(edit.history)
        read += 1
    assert read == 79 and histories > 20
