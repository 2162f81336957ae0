r"""Parses editors' prompts for Zed's models: ``zeta``, ``zeta2`` and ``zeta2_1``.

Zed and cursortab.nvim send such prompts to a completion server.
:func:`read_editor_prompt` converts one to an edit state, so that any model can answer it in its own
format; :attr:`EditorPrompt.answer` writes the answer that the editor expects.

``zeta2_1`` (V0318SeedMultiRegions of Zed's ``zeta_prompt``) has the frame of ``zeta2``, and tags
within the region instead of lines around it: ``<|marker_1|>block<|marker_2|>block<|marker_3|>``.
The answer is the new text between two tags.

"No edit" is an empty answer, or in ``zeta`` the unchanged region. Zed would insert NO_EDITS, the
word from Zeta 2's training, as the new text.

Limits: the edit state's file is the excerpt in the prompt. Only history changes of that file are
read; a change whose lines changed again has no location and is placed after the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from codegen.core.errors import InputError
from codegen.core.records import Change, Edit
from codegen.edits.formats import FORMATS, Unwritable, window_text
from codegen.edits.sessions import difference, find, lines_of

_SUFFIX, _PREFIX, _MIDDLE = "<[fim-suffix]>", "<[fim-prefix]>", "<[fim-middle]>"
_CURRENT, _SAME = "<<<<<<< CURRENT\n", "=======\n"
_TAG = re.compile(r"<\|marker_(\d{1,4})\|>")
_TAGS_END = "<[end▁of▁sentence]>"
_FILE = re.compile(r"(?:(?<=\n)|(?<=<\[fim-prefix\]>))<filename>")
_ZETA, _RESPONSE = "### Instruction:\nYou are a code completion assistant", "### Response:\n"
_START, _END = "<|editable_region_start|>\n", "\n<|editable_region_end|>"
_EVENT = re.compile(r'^User edited "?(.+?)"?:\n```diff\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^--- a/.*\n\+\+\+ b/(.*)\n", re.MULTILINE)
_HUNK = re.compile(r"^@@.*\n?", re.MULTILINE)
_LONGEST, _HISTORY, _HUNKS = 200_000, 20_000, 12  # characters of prompt and history, hunks


@dataclass(frozen=True, slots=True)
class EditorPrompt:
    """An editor's prompt.

    Attributes:
        edit: edit state; its window is the region that the model may rewrite.
        answer: new text of the region -> the answer that the editor expects.
    """

    edit: Edit
    answer: Callable[[str], str]


def read_editor_prompt(prompt: str) -> EditorPrompt | None:
    """Parses a prompt; None if it is not in one of the formats.

    Raises:
        InputError: if it is in one of the formats but lacks a part.
    """
    is_zeta = prompt.startswith(_ZETA)
    if not is_zeta and not (
        prompt.startswith(_SUFFIX) and (_CURRENT in prompt or _TAG.search(prompt))
    ):
        return None  # probably an ordinary infilling prompt
    if len(prompt) > _LONGEST:
        raise InputError(f"The next-edit prompt has over {_LONGEST} characters.")
    if is_zeta:
        return _read_zeta(prompt)
    below, frame, head = prompt.removeprefix(_SUFFIX).partition(_PREFIX)
    head, middle, rest = head.rpartition(_MIDDLE)
    head = _PREFIX + head
    files = [found.start() for found in _FILE.finditer(head)]
    if not frame or not middle or rest or not files:
        raise InputError(
            "The prompt must have <[fim-prefix]> and <filename>, and end in <[fim-middle]>."
        )
    path, _, text = head[files[-1] :].removeprefix("<filename>").partition("\n")
    history = ""
    for start, end in pairwise(files):
        if head.startswith("<filename>edit_history\n", start):
            history = head[start:end]
    above, current, region = text.partition(_CURRENT)
    if not current:
        return _read_tags(path, history, text, below)
    region, same, rest = region.rpartition(_SAME)
    if not same or rest:
        raise InputError("The region after <<<<<<< CURRENT must end in =======.")
    edit = _edit_state(path, above, region, below, "<|user_cursor|>", _headed(history))
    return EditorPrompt(
        edit, lambda after: "" if after == window_text(edit) else _written("zeta2", edit, after, "")
    )


def _read_zeta(prompt: str) -> EditorPrompt:
    head, _, excerpt = prompt.rpartition("\n### User Excerpt:\n\n```")
    path, _, excerpt = excerpt.partition("\n")
    excerpt, response, rest = excerpt.rpartition(f"```\n\n{_RESPONSE}")
    above, start, region = excerpt.removeprefix("<|start_of_file|>\n").partition(_START)
    region, end, below = region.partition(_END)
    if not response or rest or not start or not end:
        raise InputError(
            "The prompt must have an excerpt in a fence, with <|editable_region_start|> and "
            "<|editable_region_end|> on their own lines, and end in ### Response:."
        )
    region += "\n" if region else ""
    events = ((found[1], _HEADER.sub("", found[2])) for found in _EVENT.finditer(head[-_HISTORY:]))
    below = below.removeprefix("\n")
    edit = _edit_state(path, above, region, below, "<|user_cursor_is_here|>", events)
    same = f"{_START}{region.replace('<|user_cursor_is_here|>', '').removesuffix(chr(10))}{_END}"
    return EditorPrompt(edit, lambda after: _written("zeta", edit, after, same))


def _read_tags(path: str, history: str, text: str, below: str) -> EditorPrompt:
    tags = list(_TAG.finditer(text))
    if [int(tag[1]) for tag in tags] != [*range(1, len(tags) + 1)] or len(tags) < 2:
        raise InputError("The region must be between <|marker_1|>, <|marker_2|> and so on.")
    above, region = text[: tags[0].start()], text[tags[0].end() : tags[-1].start()]
    region = _TAG.sub("", region)
    shown = region.replace("<|user_cursor|>", "")
    is_ended = shown.endswith("\n") or not shown
    if not is_ended:  # its newline is the first character below
        region, below = f"{region}\n", below.removeprefix("\n")
    edit = _edit_state(path, above, region, below, "<|user_cursor|>", _headed(history))
    blocks = [
        text[one.end() : other.start()].replace("<|user_cursor|>", "")
        for one, other in pairwise(tags)
    ]

    def answer(after: str) -> str:
        if after == window_text(edit) or _TAG.search(after):
            return ""
        new = after if is_ended else after.removesuffix("\n")
        first, last = 0, len(blocks)
        while first < last - 1 and new.startswith(blocks[first]):
            new = new.removeprefix(blocks[first])
            first += 1
        while last > first + 1 and new.endswith(blocks[last - 1]):
            new = new.removesuffix(blocks[last - 1])
            last -= 1
        return f"<|marker_{first + 1}|>{new}<|marker_{last + 1}|>{_TAGS_END}"

    return EditorPrompt(edit, answer)


def _written(name: str, edit: Edit, after: str, none: str) -> str:
    """Writes the answer in a format; ``none`` if the model wrote a mark of the format."""
    try:
        return FORMATS[name].answer(replace(edit, target=after))
    except Unwritable:
        return none


def _edit_state(
    path: str,
    above: str,
    region: str,
    below: str,
    cursor: str,
    events: Iterator[tuple[str, str]],
) -> Edit:
    """Builds the edit state with the region as its window.

    Args:
        cursor: the cursor mark in the region.
        events: paths and diffs without file names, oldest first.
    """
    if region.count(cursor) != 1:
        raise InputError(f"The region must contain {cursor} once.")
    before, _, behind = region.partition(cursor)
    text = above + before + behind + below
    top = len(lines_of(above))
    window = (top, top + len(lines_of(before + behind)))
    lines = lines_of(text)
    own = (diff for name, diff in events if name.lstrip("/") == path.lstrip("/"))
    hunks = [hunk for diff in own for hunk in _HUNK.split(diff)]
    history = [change for hunk in hunks[-_HUNKS:] for change in _changes(path, hunk, lines)]
    place = len(above) + len(before)
    return Edit("", path, text, tuple(history), window, place)


def _headed(section: str) -> Iterator[tuple[str, str]]:
    """Yields the events of a section; each starts with file names."""
    _, *parts = _HEADER.split(section[-_HISTORY:])
    return zip(parts[::2], parts[1::2], strict=True)


def _changes(path: str, hunk: str, lines: list[str]) -> Iterator[Change]:
    """Yields the changes of one hunk, located in the lines of the excerpt."""
    old, new = [], []
    for line in lines_of(hunk if hunk.endswith("\n") else f"{hunk}\n"):
        if line[0] in " -":
            old.append(line[1:])
        if line[0] in " +":
            new.append(line[1:])
    place, moved = find(lines, new, 0) if new else -1, 0
    for one in difference(old, new, most_work=1_000_000):
        added = "".join(one.new)
        at = place + one.start + moved
        if place < 0:
            at = find(lines, one.new, 0) if one.new else -1
        moved += len(one.new) - (one.end - one.start)
        where = at if at >= 0 else len(lines)
        yield Change(path, where, "".join(old[one.start : one.end]), added)
