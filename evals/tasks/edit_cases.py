"""Cases of next edits in the Markdown form of Zed's evaluation (``edit_prediction_cli``).

A case names a repository and a revision (TOML between lines of ``+++``) and has sections with
fenced blocks: ``Uncommitted Diff``, ``Edit History``, ``Cursor Position`` (an excerpt; a comment
with ``^[CURSOR_POSITION]`` or ``<[CURSOR_POSITION]`` below the cursor's line, or
``<|user_cursor|>`` in it) and ``Expected Patch``, one block for each right answer, none if nothing
is to be changed. The diffs are written by hand: their line numbers and counts are not used, and a
hunk applies at the nearest place with its lines.

The whole file is read from a checkout beside the case, in a directory named after the repository
and the first eight digits of the revision, such as ``flask-2fec0b20``. Without one, the excerpt is
all of the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from codegen.errors import InputError
from codegen.methods.edits.sessions import Hunk, apply, lines_of
from codegen.records import Change

_FRONT = re.compile(r"\+\+\+\n(.*?)^\+\+\+\n", re.DOTALL | re.MULTILINE)
_HEADING_OR_BLOCK = re.compile(
    r"^## +(?P<heading>[^\n]*)$"
    r"|^(?P<fence>`{3,})(?P<info>[^`\n]*)\n(?P<block>.*?)^(?P=fence)`*[ ]*$",
    re.DOTALL | re.MULTILINE,
)
_EXPECTED = re.compile(
    r"^## +expected patch *$(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE | re.IGNORECASE
)
_MARK, _INLINE = "[CURSOR_POSITION]", "<|user_cursor|>"
_MOST_CONTEXT = 10  # lines on each side of a change, if not all of them fit
_MARKED = re.compile(r"[\^<]\[(?:CURSOR_POSITION|CURSOR|SELECTION)\]")

Body = list[tuple[str, str]]  # a hunk's marks (" ", "-", "+") and lines


class Case(NamedTuple):
    """The moment of a case.

    Attributes:
        text: the file at that moment, or as much of it as the case shows.
        cursor: in characters of ``text``.
        accepted: the right texts after the edit.
    """

    path: str
    text: str
    history: list[Change]
    cursor: int
    accepted: list[str]


def cases_at(path: Path) -> list[Path]:
    """The case at a path, or those in a directory; empty if there are none."""
    if path.is_dir():
        return sorted(path.glob("*.md"))
    return [path] if path.suffix == ".md" and path.is_file() else []


def read_case(path: Path) -> Case:
    """Reads one case.

    Raises:
        InputError: if a part is missing, or a diff does not fit its file.
    """
    try:
        return _read(path.read_text("utf-8-sig"), path.parent)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text.") from None
    except InputError as error:
        raise InputError(f"{path}: {error.message}", error.remedy) from None


def _read(markdown: str, folder: Path) -> Case:
    front = _FRONT.match(markdown)
    if front is None and markdown.startswith("+++"):
        raise InputError("The lines between +++ have no end.", "Close them with a line of +++.")
    try:
        facts = tomllib.loads(front[1]) if front else {}
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"The lines between +++ are not TOML: {error}.") from None
    url, revision = (str(facts.get(name, "")) for name in ("repository_url", "revision"))
    blocks = _blocks(markdown[front.end() :] if front else markdown)
    if "cursor position" not in blocks:
        raise InputError("The case has no block under Cursor Position.")
    path, shown = blocks["cursor position"][-1]
    excerpt, row, column = _cursor(shown)
    history = list(_hunks("".join(text for _, text in blocks.get("edit history", ()))))
    original = _checked_out(folder, url, revision, path)
    if original is None:
        lines, top = excerpt, 0
    else:
        lines = lines_of(original)
        uncommitted = _hunks("".join(text for _, text in blocks.get("uncommitted diff", ())))
        for file, body in (*uncommitted, *history):
            if file == path:
                lines = _applied(lines, body, len(lines))
        shown_lines = [line.rstrip("\n") for line in excerpt]
        found = _found(lines, shown_lines, 0)
        while found is None and shown_lines and not shown_lines[-1]:  # after the file's last line
            shown_lines.pop()
            found = _found(lines, shown_lines, 0)
        if found is None:
            raise InputError(f"The excerpt at the cursor is not in its file: {excerpt[0]!r}.")
        top = found
    here = "".join(lines[top + row : top + row + 1]).rstrip("\n")
    cursor = len("".join(lines[: top + row])) + min(column, len(here))
    _check_patches(markdown, blocks.get("expected patch", ()))
    patches = [text for _, text in blocks.get("expected patch", ())]
    accepted = list(_accepted(patches, path, lines, top + row, is_whole=original is not None))
    if patches and not accepted:
        raise InputError(
            "No expected patch fits the excerpt at the cursor.",
            f"Check out the repository in {folder / _name(url, revision)}.",
        )
    changes = [_change(lines, file, path, body) for file, body in history]
    text = "".join(lines)
    return Case(path, text, changes, cursor, list(dict.fromkeys(accepted)) or [text])


def _check_patches(markdown: str, blocks: Sequence[tuple[str, str]]) -> None:
    """Refuses right answers that could not be read: without any, none is right but silence."""
    section = _EXPECTED.search(markdown)
    names = re.findall(r"^## +(expected[^\n]*)$", markdown, re.MULTILINE | re.IGNORECASE)
    if unknown := [name for name in names if name.strip().lower() != "expected patch"]:
        raise InputError(f"There is no section {unknown[0].strip()!r}.", "Call it Expected Patch.")
    if section and section[1].strip() and not blocks:
        raise InputError(
            "The text under Expected Patch is no fenced block.",
            "Put each right answer between lines of ```, or leave the section empty.",
        )
    if not all(re.search(r"^(?:@@|[-+])", text, re.MULTILINE) for _, text in blocks):
        raise InputError("A block under Expected Patch is no diff.", "Write one, or remove it.")


def _accepted(
    patches: Sequence[str], path: str, lines: list[str], near: int, *, is_whole: bool
) -> Iterator[str]:
    """The text after each patch; of an excerpt, after those that fit it.

    Raises:
        InputError: if a patch does not fit the whole file, or changes another.
    """
    for patch in patches:
        after = lines
        try:
            for file, body in _hunks(_without_marks(patch)):
                if file != path:
                    raise InputError(f"A right answer changes {file}; the cursor is in {path}.")
                after = _applied(after, body, near)
        except InputError:
            if is_whole:
                raise
        else:
            yield "".join(after)


def _name(url: str, revision: str) -> str:
    return f"{re.split('[/:]', url)[-1].removesuffix('.git')}-{revision[:8]}"


def _checked_out(folder: Path, url: str, revision: str, path: str) -> str | None:
    """A file of the repository at the revision; None if there is no checkout.

    Raises:
        InputError: if the checkout does not hold the file, or as a link to elsewhere.
    """
    home = folder / _name(url, revision)
    if not url or not revision or not home.is_dir():
        return None
    # Zed writes paths with or without the name of the repository's directory.
    for name in (path, path.partition("/")[2]):
        file = home / name
        if name and file.is_file() and file.resolve().is_relative_to(home.resolve()):
            try:
                return file.read_text("utf-8")
            except UnicodeDecodeError:
                raise InputError(f"{file} is not UTF-8 text.") from None
    raise InputError(f"{home} holds no file {path}.")


def _blocks(markdown: str) -> dict[str, list[tuple[str, str]]]:
    """The fenced blocks (info, text) under each heading, in lower case."""
    found: dict[str, list[tuple[str, str]]] = {}
    heading = ""
    for match in _HEADING_OR_BLOCK.finditer(markdown):
        if match["heading"] is not None:
            heading = match["heading"].strip().lower()
        else:
            found.setdefault(heading, []).append((match["info"].strip(), match["block"]))
    return found


def _cursor(shown: str) -> tuple[list[str], int, int]:
    """The excerpt's lines, and the cursor's line and column in it."""
    if _INLINE in shown:
        before = shown.partition(_INLINE)[0]
        lines = lines_of(shown.replace(_INLINE, "", 1))
        return lines, before.count("\n"), len(before) - (before.rfind("\n") + 1)
    lines = lines_of(shown)
    marked = next((i for i, line in enumerate(lines) if _MARK in line), 0)
    arrow = lines[marked].partition(_MARK)[0] if lines else ""
    if not marked or not arrow.endswith(("^", "<")):
        raise InputError(f"No line under Cursor Position ends in ^{_MARK} or <{_MARK}.")
    column = len(arrow) - 1 if arrow.endswith("^") else len(arrow) - len(arrow.lstrip())
    rest = lines[:marked] + lines[marked + 1 :]
    while len(rest) > marked and rest[-1] == "\n":  # blank lines before the end of the block
        rest.pop()
    return rest, marked - 1, column


def _without_marks(patch: str) -> str:
    kept = [line for line in lines_of(patch) if not _MARKED.search(line)]
    return "".join(kept).replace(_INLINE, "")


def _hunks(diff: str) -> Iterator[tuple[str, Body]]:
    """The file and the lines of each hunk, which ends where the next one or a file begins."""
    rows = lines_of(diff)
    file, body = "", Body()
    for number, row in enumerate(rows):
        is_old = row.startswith("--- ") and rows[number + 1 : number + 2] != []
        is_header = is_old and rows[number + 1].startswith("+++ ")
        is_new = row.startswith("+++ ") and number > 0 and rows[number - 1].startswith("--- ")
        if is_header or is_new or row.startswith("@@"):
            if any(mark != " " for mark, _ in body):
                yield file, body
            body = []
            if is_new:
                file = row[4:].split("\t")[0].strip().removeprefix("b/")
        elif not row.startswith(("\\", "diff --git ", "index ")):
            mark = row[0] if row[0] in "+- " else " "  # blank lines of the context lose their mark
            body.append((mark, row[1:] if row[0] in "+- " else row))
    if any(mark != " " for mark, _ in body):
        yield file, body


def _core(body: Body) -> tuple[int, int]:
    """The first changed line of a hunk, and the end of the last one."""
    places = [place for place, (mark, _) in enumerate(body) if mark != " "]
    return places[0], places[-1] + 1


def _applied(lines: Sequence[str], body: Body, near: int) -> list[str]:
    """The lines after a hunk, at the place nearest to a line, with as much context as there is."""
    first, end = _core(body)
    below = len(body) - end
    # All of a long context is used, or no more than the lines near the change.
    near_top, near_below = max(0, first - _MOST_CONTEXT), max(0, below - _MOST_CONTEXT)
    cuts = product(range(near_top, first + 1), range(near_below, below + 1))
    for top, bottom in [(0, 0), *sorted(cuts, key=sum)]:
        kept = body[top : len(body) - bottom]
        before = [text.rstrip("\n") for mark, text in kept if mark != "+"]
        if before and (place := _found(lines, before, near)) is not None:
            start = place + first - top
            old = sum(mark != "+" for mark, _ in body[first:end])
            new = [text for mark, text in body[first:end] if mark != "-"]
            ended = [text if text.endswith("\n") else f"{text}\n" for text in new]
            whole = [line if line.endswith("\n") else f"{line}\n" for line in lines[:start]]
            return apply([*whole, *lines[start:]], [Hunk(start, start + old, tuple(ended))])
    shown = next(text for mark, text in body if mark != " ").strip()
    raise InputError(f"A diff does not fit its file: no place for the change of {shown!r}.")


def _found(lines: Sequence[str], wanted: Sequence[str], near: int) -> int | None:
    """Where lines stand, nearest to ``near``; None if they do not."""
    bare = [line.rstrip("\n") for line in lines]
    last = len(bare) - len(wanted)
    places = [i for i in range(last + 1) if bare[i : i + len(wanted)] == list(wanted)]
    return min(places, key=lambda place: abs(place - near), default=None)


def _change(lines: Sequence[str], file: str, path: str, body: Body) -> Change:
    """A hunk as an edit of the history; its line is where its text stands, or 0."""
    first, end = _core(body)
    old, new = (
        "".join(text for mark, text in body[first:end] if mark in (" ", sign)) for sign in "-+"
    )
    line = 0
    if file == path:
        after = [text.rstrip("\n") for mark, text in body[first:end] if mark != "-"]
        line = _found(lines, after, 0) or 0 if after else 0
    return Change(file, line, old, new)
