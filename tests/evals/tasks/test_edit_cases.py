"""Next-edit cases in the form of Zed's evaluation; these are our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from codegen.errors import InputError
from codegen.evals import tasks
from codegen.evals.tasks.edit_cases import read_case
from codegen.evals.tasks.next_edit import NextEditProblem

FILE = """import os


def area(width, height):
    return width * height


def main():
    print(area(2, 3))
    print(os.name)


def area_of(square):
    return area(square, square)
"""
NOW = FILE.replace("def area(", "def rectangle(")
FRONT = """+++
repository_url = "git@example.org:someone/shapes.git"
revision = "0123456789abcdef"
tags = ["rename"]
+++

# shapes--rename

The counts of these diffs are wrong.

"""
HISTORY = """## Edit History

```diff
--- a/shapes.py
+++ b/shapes.py
@@ -1,1 +1,2 @@
 import os


+de
 def area(width, height):
     return width * height
--- a/notes.txt
+++ b/notes.txt
@@ -9 +9 @@
-area
+rectangle
```

// User accepted prediction:
```diff
--- a/shapes.py
+++ b/shapes.py
@@ -90,9 +90,9 @@
-de
-def area(width, height):
+def rectangle(width, height):
     return width * height
```

"""
CURSOR = """## Cursor Position

```shapes.py
def rectangle(width, height):
#            ^[CURSOR_POSITION]
    return width * height


def main():
    print(area(2, 3))

```

"""
RIGHT = """## Expected Patch

```diff
--- a/shapes.py
+++ b/shapes.py
@@ -1,1 +1,1 @@
 def main():
-    print(area(2, 3))
+    print(rectangle(2, 3))
#                  ^[CURSOR_POSITION]
     print(os.name)
```

```diff
--- a/shapes.py
+++ b/shapes.py
@@ -1,1 +1,1 @@
-    print(area(2, 3))
+    print(rectangle(2, 3))
     print(os.name)


 def area_of(square):
@@ -8,8 +8,8 @@
-    return area(square, square)
+    return rectangle(square, square)
```
"""


def case_at(folder: Path, *parts: str) -> Path:
    path = folder / "shapes--rename.md"
    path.write_text("".join(parts), "utf-8")
    return path


def checkout(folder: Path, name: str = "shapes.py", text: str = FILE) -> Path:
    file = folder / "shapes-01234567" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def test_with_the_file_of_the_repository(tmp_path: Path) -> None:
    checkout(tmp_path)
    case = read_case(case_at(tmp_path, FRONT, HISTORY, CURSOR, RIGHT))
    assert (case.path, case.text) == ("shapes.py", NOW)
    assert case.text[: case.cursor].endswith("def rectangle")
    first = NOW.replace("print(area(", "print(rectangle(")
    assert case.accepted == [first, first.replace("return area(", "return rectangle(")]
    assert [(c.path, c.line, c.old, c.new) for c in case.history] == [
        ("shapes.py", 0, "", "de\n"),  # no longer there
        ("notes.txt", 0, "area\n", "rectangle\n"),
        ("shapes.py", 3, "de\ndef area(width, height):\n", "def rectangle(width, height):\n"),
    ]


def test_without_it_the_excerpt_is_the_file(tmp_path: Path) -> None:
    """The second right answer changes a line that the excerpt does not show."""
    case = read_case(case_at(tmp_path, FRONT, HISTORY, CURSOR, RIGHT))
    assert case.text == "".join(NOW.splitlines(True)[3:9])
    assert case.text[: case.cursor] == "def rectangle"
    assert case.accepted == [case.text.replace("print(area(", "print(rectangle(")]


def test_the_task(tmp_path: Path) -> None:
    checkout(tmp_path)
    case_at(tmp_path, FRONT, HISTORY, CURSOR, RIGHT)
    (problem,) = tasks.load("next-edit-scenarios", source=str(tmp_path)).problems()
    assert isinstance(problem, NextEditProblem)
    assert problem.id == "NextEdit/shapes--rename" and len(problem.accepted) == 2
    top, bottom = problem.edit.window
    assert (top, bottom) == (0, 14)  # both answers are within
    (alone,) = tasks.load(
        "next-edit-scenarios", source=str(tmp_path / "shapes--rename.md")
    ).problems()
    assert alone == problem


@pytest.mark.parametrize(
    "patch",
    [
        "",
        "## Expected Patch\n\n```diff\n--- a/shapes.py\n+++ b/shapes.py\n@@ -1 +1 @@\n de\n```\n",
    ],
)
def test_a_case_without_a_change(tmp_path: Path, patch: str) -> None:
    case = read_case(case_at(tmp_path, FRONT, HISTORY, CURSOR, patch))
    assert case.accepted == [case.text]


@pytest.mark.parametrize(
    ("shown", "cursor"),
    [("x = 1\n  # <[CURSOR_POSITION]\ny = 2\n", 2), ("x <|user_cursor|>= 1\ny = 2\n", 2),
     ("é = 1\n# ^[CURSOR_POSITION]\ny = 2\n\n\n", 2), ("x\n#    ^[CURSOR_POSITION]\ny = 2\n", 1)],
)  # fmt: skip
def test_where_the_cursor_is(tmp_path: Path, shown: str, cursor: int) -> None:
    case = read_case(case_at(tmp_path, f"## Cursor Position\n\n```a.py\n{shown}```\n"))
    assert case.cursor == cursor and case.text.endswith("\ny = 2\n")


def test_ends_of_files(tmp_path: Path) -> None:
    """A file without a newline at its end, a cursor after its last line, a mark of byte order."""
    checkout(tmp_path, text="aa = 1\nbb = 2")
    shown = "## Cursor Position\n\n```shapes.py\naa = 1\nbb = 2\n# ^[CURSOR_POSITION]\n```\n"
    patch = (
        "## Expected Patch\n\n```diff\n--- a/shapes.py\n+++ b/shapes.py\n bb = 2\n+cc = 3\n```\n"
    )
    path = case_at(tmp_path, "\ufeff", FRONT, shown, patch)
    assert read_case(path).accepted == ["aa = 1\nbb = 2\ncc = 3\n"]
    checkout(tmp_path, text="aa = 1\nbb = 2\n")
    case = read_case(case_at(tmp_path, FRONT, shown.replace("# ^", "\n# ^"), patch))
    assert (case.text, case.cursor) == ("aa = 1\nbb = 2\n", 14)


def test_long_context(tmp_path: Path) -> None:
    """All of it is used where it fits; else only what is near is tried in parts."""
    rows = [f"x{number} = {number}\n" for number in range(4000)]
    checkout(tmp_path, text="".join(rows))
    shown = f"## Cursor Position\n\n```shapes.py\n{rows[2000]}#^[CURSOR_POSITION]\n```\n"
    around = [f" {row}" for row in rows[1900:2100]]
    around[100] = "-x2000 = 2000\n+y = 2000\n"
    for first, is_right in ((" no\n", True), (around[0], True), (" no\n", False)):
        around[0] = first
        if not is_right:
            around[100] = "-z\n+y\n"
        patch = f"--- a/shapes.py\n+++ b/shapes.py\n{''.join(around)}"
        path = case_at(tmp_path, FRONT, shown, f"## Expected Patch\n\n```\n{patch}```\n")
        if is_right:
            assert "y = 2000\nx2001" in read_case(path).accepted[0]
        else:
            with pytest.raises(InputError, match="no place"):
                read_case(path)


def test_the_place_nearest_to_the_cursor(tmp_path: Path) -> None:
    lines = "    return 1\n\n\n" * 3
    checkout(tmp_path, text=f"{lines}here\n{lines}")
    patch = RIGHT.split("```diff")[0] + (
        "```diff\n--- a/shapes.py\n+++ b/shapes.py\n-    return 1\n+    return 2\n```\n"
    )
    shown = "## Cursor Position\n\n```shapes.py\nhere\n#   ^[CURSOR_POSITION]\n```\n"
    case = read_case(case_at(tmp_path, FRONT, shown, patch))
    assert case.accepted == [f"{lines}here\n    return 2\n\n\n{lines[: len(lines) * 2 // 3]}"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((FRONT, HISTORY, RIGHT), "no block under Cursor Position"),
        ((FRONT, HISTORY, CURSOR.replace("^[", "v[")), "No line under Cursor Position ends in"),
        ((FRONT.replace('"git', "git"), CURSOR), "are not TOML"),
        ((FRONT.replace("\n+++\n", "\n\n"), CURSOR), r"The lines between \+\+\+ have no end"),
        ((FRONT, CURSOR, RIGHT.replace("```diff", "diff").replace("```", "")), "no fenced block"),
        ((FRONT, CURSOR, "## expected patch\n\n```\nrename it\n```\n"), "is no diff"),
        ((FRONT, CURSOR, RIGHT.replace("Expected Patch", "Expected Edit")), "no section 'Expected"),
        ((FRONT, HISTORY, CURSOR, RIGHT.replace("print(area(2, 3))", "print(no)")),
         "No expected patch fits the excerpt"),
        ((FRONT, HISTORY, CURSOR, RIGHT.replace("b/shapes.py", "b/other.py")),
         "No expected patch fits the excerpt"),
    ],
)  # fmt: skip
def test_a_malformed_case_is_named(tmp_path: Path, parts: tuple[str, ...], message: str) -> None:
    path = case_at(tmp_path, *parts)
    with pytest.raises(InputError, match=message) as caught:
        read_case(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((HISTORY, CURSOR.replace("def main", "def other"), RIGHT), "is not in its file"),
        ((HISTORY.replace("-de\n", "-def\n"), CURSOR, RIGHT), "no place for the change of 'def'"),
        ((HISTORY, CURSOR, RIGHT.replace("print(area(2, 3))", "print(no)")), "no place for"),
        ((HISTORY, CURSOR, RIGHT.replace("b/shapes.py", "b/other.py")), "changes other.py;"),
        ((HISTORY, CURSOR.replace("shapes.py", "lost.py"), RIGHT), "holds no file lost.py"),
    ],
)  # fmt: skip
def test_a_case_that_does_not_fit_its_file(
    tmp_path: Path, parts: tuple[str, ...], message: str
) -> None:
    checkout(tmp_path)
    with pytest.raises(InputError, match=message):
        read_case(case_at(tmp_path, FRONT, *parts))


def test_what_a_stranger_sends(tmp_path: Path) -> None:
    """No file outside the checkout is read, and text that is none is refused."""
    secret = tmp_path / "secret.py"
    secret.write_text(FILE, "utf-8")
    home = checkout(tmp_path, "other.py").parent
    path = case_at(tmp_path, FRONT, HISTORY, CURSOR, RIGHT)
    (home / "shapes.py").symlink_to(secret)
    with pytest.raises(InputError, match="holds no file"):
        read_case(path)
    path.write_text(re.sub("shapes.py", "../secret.py", path.read_text("utf-8")), "utf-8")
    with pytest.raises(InputError, match="holds no file"):
        read_case(path)
    (home / "shapes.py").unlink()
    (home / "shapes.py").write_bytes(b"\xff")
    path = case_at(tmp_path, FRONT, HISTORY, CURSOR, RIGHT)
    with pytest.raises(InputError, match=r"shapes-01234567/shapes\.py is not UTF-8"):
        read_case(path)
    path.write_bytes(b"## Cursor \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_case(path)
