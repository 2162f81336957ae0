r"""Formats for predicting the next edit: prompt, answer and strict parser.

A format renders an edit state (:class:`codegen.core.records.Edit`) as a prompt, writes the correct
answer, and parses an answer into the new text of the window. Parsing is strict: an answer with
unknown text, a mark out of order or an invalid location raises :class:`Unreadable`. The
result of :meth:`EditFormat.answer` always parses to the target; an edit that a format cannot
express raises :class:`Unwritable`.

The formats of this toolkit share one prompt, in which each mark is one vocabulary token
(:class:`Marks`)::

    FILE path "\n"
    (OLD lines NEW lines)*                                 the history, oldest first
    WINDOW number of the first line "\n"
    (BLOCK number "\n" three lines)* BLOCK number "\n"     the lines that may change, with CURSOR
    ANSWER

and differ in the answer, which is last. In all of them NONE means no edit.

- ``blocks``: ``BLOCK i "\n"``, the new lines of blocks i to j - 1, ``BLOCK j``. Few tokens, so the
  best choice on a CPU.
- ``window``: all lines of the window. Many tokens, mostly copied; drafts make them cheap on a GPU.
- ``hunks``: (OLD lines NEW lines)*, as in the history. Old lines are replaced at their first match
  below the last hunk. The prompt's window has no BLOCK marks.

Formats of other projects, so that their models work unchanged: ``zeta`` and ``zeta2`` (Zed),
``sweep`` (Sweep Next-Edit), ``mercury`` (Inception), ``instinct`` (Continue). For any model:
``search-replace`` (as in aider) and ``udiff``, unified hunks without counts, located by their
lines. ``few-shot`` is ``search-replace`` after two solved examples, for base models.

In ``zeta2``, ``sweep``, ``mercury`` and ``instinct`` the text always ends in a newline: a file
without a final newline stays without one, and edits that add or remove it cannot be expressed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from codegen.core.errors import CodegenError, ConfigError, SkippedExample, require_known
from codegen.core.records import Change, Edit
from codegen.edits.sessions import (
    NO_NEWLINE,
    Hunk,
    anchored,
    apply,
    difference,
    find,
    lines_of,
    marked,
    unified,
)

BLOCK_LINES = 3


class Unreadable(CodegenError):
    """A model's answer is not in its format; ``reason`` is a short key for counts."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The answer is not in its format ({reason}).")


class Unwritable(SkippedExample):
    """An edit state or its next edit cannot be expressed: ``mark_in_text``, ``not_expressible``."""

    subject = "The edit cannot be written in this format"


class Continuation(NamedTuple):
    """Allowed continuations of the start of an answer.

    Attributes:
        marks: special tokens that may follow.
        copies: strings that ordinary tokens must be a prefix of; None allows any text.
        ends: True if the answer may end here.
    """

    marks: tuple[str, ...] = ()
    copies: tuple[str, ...] | None = ()
    ends: bool = False


def _nowhere(_: Edit, __: int) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class EditFormat:
    """A prompt and answer format.

    Attributes:
        render: edit state -> its prompt, independent of the target.
        express: edit state with a target -> the answer, if an edit is expected.
        parse: edit state, answer other than ``none`` -> the window's new text.
        marks: strings with a special meaning in the prompt or the answer.
        stop: stop strings of the answer.
        trained: special tokens unseen in pre-training, whose embeddings must be trained.
        none: token that is the whole answer if no edit is expected; empty if unsupported.
        begin: edit state, line of the window, from 0 -> prefix of an answer whose first change is
            there; empty if answers do not start with a location.
        follow: edit state, start of an answer -> allowed continuations that keep the answer
            applicable; None if the format does not restrict answers.
    """

    name: str
    about: str
    render: Callable[[Edit], str]
    express: Callable[[Edit], str]
    parse: Callable[[Edit, str], str]
    marks: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    none: str = ""
    begin: Callable[[Edit, int], str] = _nowhere
    follow: Callable[[Edit, str], Continuation] | None = None

    def prompt(self, edit: Edit) -> str:
        """Returns the prompt of an edit state.

        Raises:
            Unwritable: ``mark_in_text``, if the file or the history contains a mark of the format.
        """
        self.check(edit)
        return self.render(edit)

    def check(self, edit: Edit) -> None:
        """Raises an error if the edit state's prompt cannot be rendered.

        Raises:
            Unwritable: as :meth:`prompt`.
        """
        history = (part for c in edit.history for part in (c.old, c.new))
        self._refuse_marks("text", edit.path, edit.text, *history)

    def _refuse_marks(self, where: str, *texts: str) -> None:
        if found := next((m for m in self.marks for text in texts if m in text), None):
            raise Unwritable("mark_in_text", f"the {where} contains {found!r}.")

    def write(self, edit: Edit) -> str:
        """Returns the answer, without checks."""
        return self.none if self.none and not _hunks(edit) else self.express(edit)

    def read(self, edit: Edit, answer: str) -> str:
        """Parses an answer, without its end tokens, into the window's new text.

        Raises:
            Unreadable: if it is not in the format.
        """
        is_none = self.none and answer == self.none
        return window_text(edit) if is_none else self.parse(edit, answer)

    def answer(self, edit: Edit) -> str:
        """Returns the correct answer, which :meth:`read` parses to the target.

        Raises:
            Unwritable: if the target contains a mark, or the format cannot express this edit.
        """
        target = _target(edit)
        self._refuse_marks("target", target)
        answer = self.write(edit)
        given = answer
        for stop in self.stop:
            given = given.partition(stop)[0]  # as for a model's answer
        try:
            exact = self.read(edit, given) == target
        except Unreadable:
            exact = False
        if not exact:
            raise Unwritable("not_expressible", f"{self.name} cannot express the edit.")
        return answer


def window_lines(edit: Edit) -> list[str]:
    """Returns the lines that may change."""
    return lines_of(edit.text)[slice(*edit.window)]


def window_text(edit: Edit) -> str:
    """Returns the lines that may change, as one string."""
    return "".join(window_lines(edit))


def around(edit: Edit) -> tuple[str, str]:
    """Returns the text above and below the window."""
    lines = lines_of(edit.text)
    return "".join(lines[: edit.window[0]]), "".join(lines[edit.window[1] :])


def with_window(edit: Edit, window: str) -> str:
    """Returns the file with new text in the window."""
    above, below = around(edit)
    return above + window + below


def _target(edit: Edit) -> str:
    if edit.target is None:
        raise ValueError(f"The edit state {edit.id!r} has no target.")
    return edit.target


def _hunks(edit: Edit) -> list[Hunk]:
    return difference(window_lines(edit), lines_of(_target(edit)))


def _cursor_line(edit: Edit) -> tuple[int, int]:
    """Returns the cursor's line in the window, from 0, and its column, clamped to the window."""
    above, below = around(edit)
    place = min(max(edit.cursor, len(above)), len(edit.text) - len(below)) - len(above)
    before = window_text(edit)[:place]
    return before.count("\n"), len(before) - (before.rfind("\n") + 1)


def _shown_lines(edit: Edit, cursor: str) -> list[str]:
    """Returns the window's lines with a mark at the cursor."""
    lines = window_lines(edit)
    row, column = _cursor_line(edit)
    if row == len(lines):
        return [*lines, cursor]
    lines[row] = lines[row][:column] + cursor + lines[row][column:]
    return lines


def _shown(edit: Edit, cursor: str) -> str:
    return _ended("".join(_shown_lines(edit, cursor)))


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _as_was(edit: Edit, text: str) -> str:
    """Removes the final newline if the original window has none."""
    window = window_text(edit)
    return text.removesuffix("\n") if window and not window.endswith("\n") else text


def _diffs(edit: Edit) -> list[str]:
    return [unified(c.path, c.line, c.old, c.new) for c in edit.history]


@dataclass(frozen=True, slots=True)
class Marks:
    """Special tokens of a model family for the parts of the prompt."""

    file: str
    old: str
    new: str
    window: str
    block: str
    cursor: str
    answer: str
    none: str

    @property
    def all(self) -> tuple[str, ...]:
        """All marks."""
        return tuple(getattr(self, name) for name in self.__slots__)

    def in_text(self, text: str) -> bool:
        """Returns True if a text contains a mark."""
        return any(mark in text for mark in self.all)


# Vocabulary tokens reused as marks; only `file` occurs in pre-training.
STARCODER = Marks(
    "<filename>", "<issue_start>", "<issue_comment>", "<jupyter_start>", "<jupyter_text>",
    "<jupyter_code>", "<jupyter_output>", "<empty_output>",
)  # fmt: skip
QWEN = Marks(
    "<|file_sep|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|object_ref_start|>",
    "<|object_ref_end|>", "<|quad_end|>", "<|vision_pad|>",
)  # fmt: skip


def _prompt(m: Marks, in_blocks: bool, edit: Edit) -> str:
    lines = _shown_lines(edit, m.cursor)
    parts = [m.file, edit.path, "\n"]
    for change in edit.history:
        parts += [m.old, change.old, m.new, change.new]
    parts += [m.window, str(edit.window[0] + 1), "\n"]
    if not in_blocks:
        return "".join([*parts, *lines, m.answer])
    count = len(window_lines(edit))
    for number, start in enumerate(range(0, count, BLOCK_LINES), 1):
        block = lines[start : start + BLOCK_LINES]
        parts += [m.block, str(number), "\n", *block]
    # A cursor after the last newline has its own line, which belongs to no block.
    parts += [m.block, str(_blocks(count) + 1), "\n", *lines[count:], m.answer]
    return "".join(parts)


def _blocks(lines: int) -> int:
    return -(-lines // BLOCK_LINES)


def _write_blocks(m: Marks, edit: Edit) -> str:
    lines, hunks = window_lines(edit), _hunks(edit)
    start, end = hunks[0].start, hunks[-1].end
    first = _blocks(len(lines)) if start == len(lines) else start // BLOCK_LINES
    last = max(first, _blocks(end))
    top, bottom = min(first * BLOCK_LINES, len(lines)), min(last * BLOCK_LINES, len(lines))
    cut = [hunk._replace(start=hunk.start - top, end=hunk.end - top) for hunk in hunks]
    text = "".join(apply(lines[top:bottom], cut))
    return f"{m.block}{first + 1}\n{text}{m.block}{last + 1}"


def _read_blocks(m: Marks, edit: Edit, answer: str) -> str:
    lines = window_lines(edit)
    mark = re.escape(m.block)
    match = re.fullmatch(rf"{mark}(\d{{1,4}})\n(.*){mark}(\d{{1,4}})", answer, re.DOTALL)
    if not match or m.in_text(match[2]):
        raise Unreadable("form")
    first, last = int(match[1]) - 1, int(match[3]) - 1
    if not 0 <= first <= last <= _blocks(len(lines)):
        raise Unreadable("place")
    top, bottom = first * BLOCK_LINES, last * BLOCK_LINES
    return _joined(edit, [*lines[:top], match[2], *lines[bottom:]])


def _joined(edit: Edit, parts: Sequence[str]) -> str:
    """Joins parts to the window's text; only the file's last line may lack a newline."""
    parts = [part for part in parts if part]
    below = around(edit)[1]
    if any(not part.endswith("\n") for part in (parts if below else parts[:-1])):
        raise Unreadable("line_end")
    return "".join(parts)


def _read_window(m: Marks, edit: Edit, answer: str) -> str:
    if m.in_text(answer):
        raise Unreadable("form")
    return _joined(edit, [answer])


def _write_hunks(m: Marks, edit: Edit) -> str:
    return "".join(
        f"{m.old}{''.join(lines)}{m.new}{''.join(apply(lines, hunks))}"
        for lines, hunks in _ranges(edit)
    )


def _read_hunks(m: Marks, edit: Edit, answer: str) -> str:
    lines = window_lines(edit)
    head, *parts = answer.split(m.old)
    hunks: list[Hunk] = []
    floor = 0
    for part in parts:
        old, mark, new = part.partition(m.new)
        if not mark or m.in_text(old + new):
            raise Unreadable("form")
        wanted = lines_of(old)
        place = find(lines, wanted, floor) if wanted or not lines else -1
        if place < 0:
            raise Unreadable("not_found")
        floor = place + len(wanted)
        hunks.append(Hunk(place, floor, (new,)))
    if head or not hunks:
        raise Unreadable("form")
    return _joined(edit, apply(lines, hunks))


def _follow_hunks(m: Marks, edit: Edit, answer: str) -> Continuation:
    lines, below = window_lines(edit), around(edit)[1]
    if not answer or answer == m.none:
        return Continuation(() if answer else (m.old, m.none), (), bool(answer))
    floor = end = 0
    mark = old = new = ""
    for part in answer.split(m.old)[1:]:
        old, mark, new = part.partition(m.new)
        floor, end = end, find(lines, lines_of(old), end) + len(lines_of(old))
    if not mark:
        rests = ("".join(lines[start:]) for start in range(floor, len(lines)))
        copies = {rest[len(old) :] for rest in rests if rest.startswith(old)}
        is_whole = find(lines, lines_of(old), floor) >= 0 if old else not lines
        return Continuation((m.new,) if is_whole else (), tuple(copies - {""}))
    is_last = end == len(lines)
    if new and not new.endswith("\n"):
        return Continuation((), None, is_last and not below)
    return Continuation(() if is_last else (m.old,), None, ends=True)


def _hunk_at(m: Marks, edit: Edit, line: int) -> str:
    lines = window_lines(edit)
    start, end = anchored(lines, Hunk(line, line + 1, ()), 0)
    return m.old + "".join(lines[start:end])


def _block_at(m: Marks, _: Edit, line: int) -> str:
    # Without the newline, which may be merged with the following spaces into one token.
    return f"{m.block}{line // BLOCK_LINES + 1}"


def _ours(m: Marks, family: str, models: str) -> Iterator[EditFormat]:
    for name, about, write, read, begin in (
        ("blocks", "the changed blocks of three lines", _write_blocks, _read_blocks, _block_at),
        ("window", "the whole window", lambda _, edit: _target(edit), _read_window, None),
        ("hunks", "the changed lines, old before new", _write_hunks, _read_hunks, _hunk_at),
    ):
        yield EditFormat(
            name + family,
            f"next edit as {about}{models}",
            partial(_prompt, m, name != "hunks"),
            partial(write, m),
            partial(read, m),
            marks=m.all,
            trained=m.all,
            none=m.none,
            begin=partial(begin, m) if begin else _nowhere,
            follow=partial(_follow_hunks, m) if name == "hunks" else None,
        )


_ZETA_START, _ZETA_END = "<|editable_region_start|>", "<|editable_region_end|>"
_ZETA_CURSOR, _ZETA_FILE_START = "<|user_cursor_is_here|>", "<|start_of_file|>"
_REGION = (_ZETA_START, _ZETA_END, _ZETA_CURSOR)
_ZETA_CONTEXT = 600  # characters of context on each side, some 150 tokens


def _zeta_prompt(edit: Edit) -> str:
    above, below = around(edit)
    events = [
        f'User edited "{c.path}":\n```diff\n{unified(c.path, c.line, c.old, c.new)}```'
        for c in edit.history
    ]
    before, behind = _tail(above, _ZETA_CONTEXT), _head(below, _ZETA_CONTEXT)
    start = f"{_ZETA_FILE_START}\n" if before == above else ""
    excerpt = f"{start}{before}{_ZETA_START}\n{_shown(edit, _ZETA_CURSOR)}{_ZETA_END}"
    return (
        "### Instruction:\nYou are a code completion assistant and your task is to analyze user "
        "edits and then rewrite an excerpt that the user provides, suggesting the appropriate "
        "edits within the excerpt, taking into account the cursor location.\n\n### User Edits:\n\n"
        + "\n\n".join(events)
        + f"\n\n### User Excerpt:\n\n```{edit.path}\n{excerpt}\n{behind}```\n\n### Response:\n"
    )


def _tail(text: str, most: int) -> str:
    """Returns the last whole lines of a text that fit in ``most`` characters."""
    return text if len(text) <= most else text[-most:].partition("\n")[2]


def _head(text: str, most: int) -> str:
    """Returns the first whole lines of a text that fit in ``most`` characters."""
    return text if len(text) <= most else text[:most].rpartition("\n")[0] + "\n"


def _zeta_write(edit: Edit) -> str:
    target = _target(edit)
    if not target:
        return f"{_ZETA_START}\n{_ZETA_END}"
    if window_text(edit).endswith("\n"):
        target = target.removesuffix("\n")
    return f"{_ZETA_START}\n{target}\n{_ZETA_END}"


def _zeta_read(edit: Edit, answer: str) -> str:
    answer = answer.replace(_ZETA_CURSOR, "")
    if answer.count(_ZETA_START) != 1 or answer.count(_ZETA_END) > 1:
        raise Unreadable("marks")
    body, _, _ = answer.partition(_ZETA_START)[2].partition(_ZETA_END)
    if not body or (body == "\n" and _ZETA_END in answer):
        return ""
    if not body.startswith("\n"):
        raise Unreadable("form")
    text = body[1:] if _ZETA_END not in answer else body[1:].removesuffix("\n")
    text += "\n" if window_text(edit).endswith("\n") else ""
    return _joined(edit, [text])


_ZETA2_CURSOR, _ZETA2_END, _ZETA2_NONE = "<|user_cursor|>", ">>>>>>> UPDATED", "NO_EDITS\n"
_ZETA2_CONTEXT = 600


def _zeta2_prompt(edit: Edit) -> str:
    above, below = around(edit)
    events = "".join(_diffs(edit)[-6:])
    history = f"<filename>edit_history\n{events}\n" if events else ""
    before, behind = _tail(above, _ZETA2_CONTEXT), _head(below, _ZETA2_CONTEXT)
    return (
        f"<[fim-suffix]>{_ended(behind) or chr(10)}<[fim-prefix]>{history}"
        f"<filename>{edit.path}\n{before}"
        f"<<<<<<< CURRENT\n{_shown(edit, _ZETA2_CURSOR)}=======\n<[fim-middle]>"
    )


def _zeta2_write(edit: Edit) -> str:
    text = _ended(_target(edit)) if _hunks(edit) else _ZETA2_NONE
    return f"{text}{_ZETA2_END}\n"


def _zeta2_read(edit: Edit, answer: str) -> str:
    text, _, rest = answer.replace(_ZETA2_CURSOR, "").partition(_ZETA2_END)
    if rest.strip():
        raise Unreadable("marks")
    if text.strip() == _ZETA2_NONE.strip():
        return window_text(edit)
    if text and not text.endswith("\n"):
        raise Unreadable("line_end")
    return _as_was(edit, text)


_SWEEP_SEP, _SWEEP_END, _CURSOR = "<|file_sep|>", "<|endoftext|>", "<|cursor|>"


def _sweep_prompt(edit: Edit) -> str:
    first, last = edit.window[0] + 1, edit.window[0] + len(window_lines(edit))
    place = f"{edit.path}:{first}:{last}"
    done = [
        f"{_SWEEP_SEP}{c.path}:{c.line + 1}:{c.line + max(1, c.new.count(chr(10)))}\n"
        f"original:\n{_ended(c.old)}updated:\n{_ended(c.new)}"
        for c in edit.history[-6:]
    ]
    return (
        f"{_SWEEP_SEP}{edit.path}\n{_ended(edit.text)}{''.join(done)}"
        f"{_SWEEP_SEP}original/{place}\n{_ended(_reverted(edit))}"
        f"{_SWEEP_SEP}current/{place}\n{_shown(edit, _CURSOR)}"
        f"{_SWEEP_SEP}updated/{place}\n"
    )


def _reverted(edit: Edit) -> str:
    """Returns the window before the edits of the history."""
    lines, (top, bottom) = lines_of(edit.text), edit.window
    hunks: list[Hunk] = []
    own = [c for c in edit.history if c.path == edit.path]
    for change in sorted(own, key=lambda c: c.line):
        new = lines_of(change.new)
        start, end = change.line, change.line + len(new)
        is_there = lines[start:end] == new and top <= start and end <= bottom
        if is_there and (not hunks or start - top >= hunks[-1].end):
            hunks.append(Hunk(start - top, end - top, tuple(lines_of(change.old))))
    return "".join(apply(window_lines(edit), hunks))


def _sweep_read(edit: Edit, answer: str) -> str:
    text = answer.replace(_CURSOR, "")
    if _SWEEP_SEP in text or _SWEEP_END in text:
        raise Unreadable("marks")
    return _as_was(edit, _ended(text))


_MERCURY = tuple(
    f"<|{end}{part}|>"
    for part in ("code_to_edit", "edit_diff_history", "current_file_content",
                 "recently_viewed_code_snippets")
    for end in ("", "/")
)  # fmt: skip


def _mercury_prompt(edit: Edit) -> str:
    above, below = around(edit)
    return (
        "<|recently_viewed_code_snippets|>\n<|/recently_viewed_code_snippets|>\n\n"
        f"<|current_file_content|>\ncurrent_file_path: {edit.path}\n{above}<|code_to_edit|>\n"
        f"{_shown(edit, _CURSOR)}<|/code_to_edit|>\n{_ended(below)}"
        f"<|/current_file_content|>\n\n<|edit_diff_history|>\n{''.join(_diffs(edit))}"
        "<|/edit_diff_history|>\n"
    )


def _mercury_read(edit: Edit, answer: str) -> str:
    match = re.fullmatch(r"```\w*\n((?:.*\n)?)```\s*", answer.replace(_CURSOR, ""), re.DOTALL)
    if not match:
        raise Unreadable("fence")
    return _as_was(edit, match[1])


_INSTINCT_LINES, _INSTINCT_CONTEXT = 25, 5  # lines around the cursor and around a change


@cache
def _instinct_system() -> str:
    """Returns the system prompt of Instinct's training (Continue, Apache-2.0)."""
    return Path(__file__).with_name("instinct.txt").read_text(encoding="utf-8")


def _instinct_prompt(edit: Edit) -> str:
    """Renders the training prompt (continuedev/instinct, utils/datautils.py, Qwen's template)."""
    edits = [
        f'User edited file "{c.path}"\n\n```diff\n{_instinct_diff(edit, c)}```\n\n'
        for c in reversed(edit.history)
    ]
    lines, (top, bottom) = lines_of(edit.text), edit.window
    row = top + _cursor_line(edit)[0]
    above = lines[max(0, min(top, row - _INSTINCT_LINES)) : top]
    below = lines[bottom : max(bottom, row + _INSTINCT_LINES + 1)]
    region = f"{_ZETA_START}\n{_shown(edit, _ZETA_CURSOR)}{_ZETA_END}\n"
    excerpt = f"{''.join(above)}{region}{''.join(below)}"
    return (
        f"<|im_start|>system\n{_instinct_system()}<|im_end|>\n<|im_start|>user\n"
        "Reference the user excerpt, user edits, and the snippets to understand the developer's "
        "intent. Update the editable region of the user excerpt by predicting and completing the "
        "changes they would have made next. This may be a deletion, addition, or modification of "
        f"code.\n\n### Context:\n\n\n\n\n### User Edits:\n\n{''.join(edits)}### User Excerpt:\n"
        f'"{edit.path}"\n\n{excerpt.removesuffix(chr(10))}<|im_end|>\n<|im_start|>assistant\n'
    )


def _instinct_diff(edit: Edit, change: Change) -> str:
    """Returns a change with surrounding lines from the prompt's file."""
    lines = lines_of(edit.text) if change.path == edit.path else []
    start, end = change.line, change.line + len(lines_of(change.new))
    above = lines[max(0, start - _INSTINCT_CONTEXT) : start]
    below = lines[end : end + _INSTINCT_CONTEXT]
    old, new = lines_of(_ended(change.old)), lines_of(_ended(change.new))
    first, same = start - len(above) + 1, len(above) + len(below)
    return (
        f"@@ -{first},{same + len(old)} +{first},{same + len(new)} @@\n"
        f"{marked(' ', above)}{marked('-', old)}{marked('+', new)}"
        f"{''.join(' ' + _ended(line) for line in below)}"
    )


def _instinct_write(edit: Edit) -> str:
    """Writes the lines without the last newline; a lone blank line keeps its newline."""
    target = _ended(_target(edit))
    return target.removesuffix("\n") if target != "\n" else f"{target}{_ZETA_END}"


def _instinct_read(edit: Edit, answer: str) -> str:
    text, end, rest = answer.replace(_ZETA_CURSOR, "").partition(_ZETA_END)
    if rest.strip() or _ZETA_START in text or "<|im_" in text:
        raise Unreadable("marks")
    if not end:
        text += "\n" if text else ""
    elif text and not text.endswith("\n"):
        raise Unreadable("line_end")
    return _as_was(edit, text)


_NO_EDIT = "NO EDIT\n"
_SEARCH, _MIDDLE, _REPLACE = "<<<<<<< SEARCH\n", "=======\n", ">>>>>>> REPLACE\n"
_SEARCH_MARKS = (_SEARCH, _REPLACE, _CURSOR)
_HUNK = "@@ ... @@\n"
_FORM = re.compile(rf"{_SEARCH}((?:.*\n)*?){_MIDDLE}((?:.*\n)*?){_REPLACE}")


def _plain_prompt(edit: Edit) -> str:
    first, last = edit.window[0] + 1, edit.window[0] + len(window_lines(edit))
    return (
        f"# Edits so far\n{''.join(_diffs(edit))}# {edit.path}, lines {first} to {last}\n"
        f"{_shown(edit, _CURSOR)}# Next edit\n"
    )


def _ranges(edit: Edit) -> list[tuple[list[str], list[Hunk]]]:
    """Returns unambiguous line ranges, each with its hunks, numbered within the range."""
    lines = window_lines(edit)
    ended = [_ended(line) for line in lines]  # normalized for searching
    found: list[tuple[int, int, list[Hunk]]] = []
    floor = 0
    for hunk in _hunks(edit):
        start, end = anchored(ended, hunk, floor)
        inside = [hunk]
        if start == end and found:  # no line locates it: join the previous range
            start, _, before = found.pop()
            inside = [*before, hunk]
        found.append((start, end, inside))
        floor = end
    return [
        (lines[start:end], [h._replace(start=h.start - start, end=h.end - start) for h in inside])
        for start, end, inside in found
    ]


def _search_write(edit: Edit) -> str:
    parts = [
        f"{_SEARCH}{marked('', lines)}{_MIDDLE}{marked('', apply(lines, hunks))}{_REPLACE}"
        for lines, hunks in _ranges(edit)
    ]
    return "".join(parts) or _NO_EDIT


def _search_read(edit: Edit, answer: str) -> str:
    answer = _ended(answer)
    if answer == _NO_EDIT:
        return window_text(edit)
    pairs, done = [], 0
    while done < len(answer):
        match = _FORM.match(answer, done)
        if not match:
            raise Unreadable("form")
        pairs.append((match[1], match[2]))
        done = match.end()
    return _replaced(edit, pairs)


def _replaced(edit: Edit, pairs: Sequence[tuple[str, str]]) -> str:
    """Applies replacements from top to bottom, each at its first match."""
    lines = window_lines(edit)
    ended = [_ended(line) for line in lines]
    hunks: list[Hunk] = []
    floor = 0
    for search, replace in pairs:
        wanted, new = lines_of(search), lines_of(replace)
        is_noted = NO_NEWLINE in wanted
        wanted, new = _without_notes(wanted), _without_notes(new)
        if not wanted and lines:
            raise Unreadable("empty_search")
        place = find(ended, [_ended(line) for line in wanted], floor)
        if place < 0:
            raise Unreadable("not_found")
        end = place + len(wanted)
        at_end = end == len(lines) and bool(lines) and not lines[-1].endswith("\n")
        if at_end and not is_noted and new:  # the last line stays without a newline
            new[-1] = new[-1].removesuffix("\n")
        hunks.append(Hunk(place, end, tuple(new)))
        floor = end
    return _joined(edit, apply(lines, hunks))


def _without_notes(lines: Sequence[str]) -> list[str]:
    found: list[str] = []
    for line in lines:
        if line == NO_NEWLINE and found:
            found[-1] = found[-1].removesuffix("\n")
        else:
            found.append(line)
    return found


def _udiff_write(edit: Edit) -> str:
    parts = []
    for lines, hunks in _ranges(edit):
        parts.append(_HUNK)
        done = 0
        for hunk in hunks:
            parts.append(marked(" ", lines[done : hunk.start]))
            parts.append(marked("-", lines[hunk.start : hunk.end]) + marked("+", hunk.new))
            done = hunk.end
        parts.append(marked(" ", lines[done:]))
    return "".join(parts) or _NO_EDIT


def _udiff_read(edit: Edit, answer: str) -> str:
    answer = _ended(answer)
    if answer == _NO_EDIT:
        return window_text(edit)
    pairs: list[tuple[str, str]] = []
    last = " "
    for line in lines_of(answer):
        if line == _HUNK:
            pairs.append(("", ""))
            last = " "
            continue
        if not pairs or line[0] not in " -+\\\n":
            raise Unreadable("form")
        before, after = pairs[-1]
        mark = " " if line == "\n" else line[0]
        text = line if line == "\n" or mark == "\\" else line[1:]
        last = last if mark == "\\" else mark
        pairs[-1] = (
            before + text if last in " -" else before,
            after + text if last in " +" else after,
        )
    return _replaced(edit, pairs)


def _examples() -> Iterator[Edit]:
    """Yields a renaming, and an edit state without a next edit."""
    area = "def area(width, height):\n    return {} * height\n\n\nprint(area(2, 3))\n"
    greet = 'def greet(name):\n    return f"Hello, {name}!"\n'
    for path, text, cursor, target in (
        ("area.py", area.format("w"), 14, area.format("width")),
        ("greet.py", greet, 44, greet),
    ):
        yield Edit("", path, text, (), (0, text.count("\n")), cursor, target)


def _few_shot_prompt(edit: Edit) -> str:
    solved = [f"{_plain_prompt(e)}{_search_write(e)}# Done\n\n" for e in _examples()]
    return "".join(solved) + _plain_prompt(edit)


FORMATS: Mapping[str, EditFormat] = {
    f.name: f
    for f in (
        *_ours(STARCODER, "", " (the embedded model, StarCoder)"),
        *_ours(QWEN, "-qwen", " (Qwen2.5-Coder)"),
        EditFormat(
            "zeta", "next edit for Zed's Zeta", _zeta_prompt, _zeta_write, _zeta_read,
            (*_REGION, _ZETA_FILE_START), (f"\n{_ZETA_END}",),
        ),
        EditFormat(
            "zeta2", "next edit for Zed's Zeta 2", _zeta2_prompt, _zeta2_write, _zeta2_read,
            (_ZETA2_CURSOR, _ZETA2_END, "<<<<<<< CURRENT\n", "<[fim-"), (_ZETA2_END,),
        ),
        EditFormat(
            "sweep", "next edit for Sweep Next-Edit", _sweep_prompt,
            lambda edit: _ended(_target(edit)), _sweep_read,
            (_SWEEP_SEP, _CURSOR, _SWEEP_END), (_SWEEP_SEP, _SWEEP_END),
        ),
        EditFormat(
            "mercury", "next edit for Mercury Edit", _mercury_prompt,
            lambda edit: f"```\n{_ended(_target(edit))}```", _mercury_read, (*_MERCURY, _CURSOR),
        ),
        EditFormat(
            "instinct", "next edit for Instinct", _instinct_prompt, _instinct_write,
            _instinct_read, (*_REGION, "<|im_start|>", "<|im_end|>"), ("<|im_end|>",),
        ),
        EditFormat(
            "search-replace", "next edit as search and replace, for any model", _plain_prompt,
            _search_write, _search_read, _SEARCH_MARKS,
        ),
        EditFormat(
            "udiff", "next edit as a diff without line numbers, for any model", _plain_prompt,
            _udiff_write, _udiff_read, (_CURSOR,),
        ),
        EditFormat(
            "few-shot", "search and replace after two solved examples, for base models",
            _few_shot_prompt, _search_write, _search_read, _SEARCH_MARKS, ("# Done",),
        ),
    )
}  # fmt: skip
"""The formats by name."""


def find_format(name: str) -> EditFormat:
    """Returns a format by name.

    Raises:
        ConfigError: for an unknown or removed name.
    """
    if error := removed(name):
        raise error
    require_known("format", name, FORMATS)
    return FORMATS[name]


def removed(name: object) -> ConfigError | None:
    """Returns the error for a format of earlier versions; None for other names."""
    if name not in ("rows", "rows-qwen"):
        return None
    return ConfigError(
        f"The format {name} was removed.",
        "Regenerate the data with --format hunks, and train on it.",
    )


AUTO = "auto"
"""Name that selects the format for a tokenizer: blocks, with the marks of one of these formats."""
FAMILIES = ("blocks", "blocks-qwen")


def format_for(name: str, vocabulary: Container[str], style: str = "") -> EditFormat:
    """Returns a format that a tokenizer supports.

    Args:
        name: format name; :data:`AUTO` selects the format of ``style``, else blocks, or
            search-replace if the tokens are missing.
        vocabulary: the tokenizer's tokens.
        style: the prompt style on the model's card.

    Raises:
        ConfigError: for an unknown format, or missing tokens; lists the supported formats.
    """
    lacking = {
        form.name: [mark for mark in form.trained if mark not in vocabulary]
        for form in FORMATS.values()
    }
    if name == AUTO and style.startswith("edit-"):
        name = style.removeprefix("edit-")
    if name == AUTO:
        name = next((one for one in FAMILIES if not lacking[one]), "search-replace")
    form = find_format(name)
    if tokens := lacking[name]:
        raise ConfigError(
            f"The format {name} needs the token {tokens[0]}, which the model's tokenizer lacks.",
            f"Choose from: {AUTO}, {', '.join(one for one in lacking if not lacking[one])}.",
        )
    return form


def read_prompt(name: str, prompt: str) -> tuple[Edit, int] | None:
    """Parses a prompt of this toolkit's formats, to display it; None for other formats.

    Returns:
        The edit state, whose file is only the window; the window's first line in the file, from 1.
    """
    marks = next((m for m in (STARCODER, QWEN) if m.all == FORMATS[name].marks), None)
    if marks is None or not prompt.startswith(marks.file) or not prompt.endswith(marks.answer):
        return None
    body = prompt.removeprefix(marks.file).removesuffix(marks.answer)
    path, _, rest = body.partition("\n")
    before, _, window = rest.rpartition(marks.window)
    parts = (part.partition(marks.new) for part in before.split(marks.old)[1:])
    history = tuple(Change(path, 0, old, new) for old, _, new in parts)
    first, _, blocks = window.partition("\n")
    text = re.sub(rf"{re.escape(marks.block)}\d+\n", "", blocks).replace(marks.cursor, "")
    edit = Edit("", path, text, history, (0, len(lines_of(text))))
    return edit, int(first) if first.isdecimal() else 1
