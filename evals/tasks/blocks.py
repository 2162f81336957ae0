"""Answers that edit a program by blocks of search and replace, as aider's format ``diff``.

::

    <<<<<<< SEARCH
    lines of the program, exactly as they are
    =======
    lines that take their place
    >>>>>>> REPLACE

Text around the blocks is allowed, and a fence around each. The lines are searched from the end of
the previous block, then from the beginning; a block without lines to search for is appended. If the
lines are not found, they may all differ by the same leading white space, as aider allows; anything
else makes the answer malformed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .extraction import EMPTY, Extraction

BLOCKS = """\
Answer with edits, each a block of this form, in order:

```
<<<<<<< SEARCH
lines of the program, exactly as they are
=======
lines that take their place
>>>>>>> REPLACE
```"""
_HEAD = re.compile(r"^<{5,9} SEARCH[^\n]*\n?", re.MULTILINE)
_MIDDLE = re.compile(r"^={5,9}[ \t]*\n", re.MULTILINE)
_END = re.compile(r"^>{5,9} REPLACE", re.MULTILINE)


def apply_blocks(before: str, answer: str) -> Extraction:
    """The program after the edits of an answer; none, with the reason, if one can't be made."""
    if not answer.strip():
        return EMPTY
    blocks = list(_blocks(answer))
    if not blocks:
        return Extraction("", "the answer has no block of search and replace")
    if len(blocks) < len(_HEAD.findall(answer)):
        return Extraction("", "a block of search and replace has no end")
    lines, start = before.splitlines(), 0
    for number, (search, replace) in enumerate(blocks, 1):
        wanted, new = search.splitlines(), replace.splitlines()
        found = _found(lines, wanted, start) or _found(lines, wanted, 0)
        if found is None:
            return Extraction("", f"the program lacks the lines to search for of block {number}")
        place, indent = found
        new = [_shifted(line, indent) for line in new]
        lines[place : place + len(wanted)] = new
        start = place + len(new)
    return Extraction("\n".join(lines) + "\n")


def _blocks(answer: str) -> Iterator[tuple[str, str]]:
    """The lines to search for and the lines in their place, of each whole block."""
    at = 0
    while (
        (head := _HEAD.search(answer, at))
        and (middle := _MIDDLE.search(answer, head.end()))
        and (end := _END.search(answer, middle.end()))
    ):
        yield answer[head.end() : middle.start()], answer[middle.end() : end.start()]
        at = end.end()


def _found(lines: list[str], wanted: list[str], start: int) -> tuple[int, str] | None:
    """Where the lines are, and the indentation that the block lacks; None if they are missing."""
    if not any(line.strip() for line in wanted):
        return len(lines), ""
    places = range(start, len(lines) - len(wanted) + 1)
    for place in places:
        if [line.rstrip() for line in lines[place : place + len(wanted)]] == [
            line.rstrip() for line in wanted
        ]:
            return place, ""
    for place in places:
        indents = {
            _lacking(line, one)
            for line, one in zip(lines[place : place + len(wanted)], wanted, strict=True)
            if line.strip() or one.strip()
        }
        if len(indents) == 1 and (indent := indents.pop()) is not None:
            return place, indent
    return None


def _lacking(line: str, wanted: str) -> str | None:
    """The leading white space that ``wanted`` lacks compared to the line; None if more differs."""
    line, wanted = line.rstrip(), wanted.rstrip()
    if not line.endswith(wanted):
        return None
    indent = line.removesuffix(wanted)
    return indent if not indent.strip() else None


def _shifted(line: str, indent: str) -> str:
    return indent + line if line.strip() else line
