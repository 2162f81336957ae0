"""Extracts the program from a model's answer.

An answer may be bare code, code in a Markdown fence, or prose with several fences. The rules, in
order: the first fenced block that defines the requested function; the first fenced block; an
unclosed fence (the answer was cut off), to the end; the whole answer, if it defines the function or
parses as Python with a statement. Otherwise no program is found, and the reason is returned.

Limit: code in prose without a fence is not searched for.

Alternatively an answer edits a program with search-and-replace blocks, aider's format ``diff``::

    <<<<<<< SEARCH
    lines of the program, exactly as they are
    =======
    lines that take their place
    >>>>>>> REPLACE

Text around the blocks and a fence around each are allowed. The search starts at the end of the
previous block, then from the beginning; a block without lines to search for is appended. If the
lines are not found, they may all differ by the same leading whitespace, as aider allows; any other
difference makes the answer malformed.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.core.records import Status

_FENCE = re.compile(r"^([ \t]*)(`{3,}+|~{3,}+)[^`\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of extracting a program from an answer.

    Attributes:
        program: the program (or other text to score); empty if none was found.
        reason: reason that none was found.
        status: the verdict in that case. ``no_answer``: the model wrote something without a
            program, which may be the fault of the prompt style; ``empty``: it wrote nothing.
    """

    program: str
    reason: str = ""
    status: Status = "no_answer"


EMPTY = Extraction("", "the answer is empty", "empty")


def find_code(answer: str, entry_point: str) -> Extraction:
    """Extracts the code from an answer by the module docstring's rules."""
    if not answer.strip():
        return EMPTY
    closed, unclosed = _fenced(answer)
    blocks = [block for block in closed if block.strip()]
    for block in blocks:
        if _defines(block, entry_point):
            return Extraction(block)
    if blocks:
        return Extraction(blocks[0])
    if unclosed.strip():
        return Extraction(unclosed)
    if closed or unclosed:
        return Extraction("", "the code block is empty")
    if _defines(answer, entry_point) or _is_code(answer):
        return Extraction(answer)
    defines = f"neither defines {entry_point} nor is" if entry_point else "is not"
    return Extraction("", f"no code block, and the text {defines} code")


def sanitized(found: Extraction) -> Extraction:
    """Returns the imports, definitions and assignments of the longest prefix that parses.

    EvalPlus does this before running an answer (``evalplus.sanitize``), but also drops names that
    the function under test does not reach, which are kept here.
    """
    lines = found.program.splitlines()
    for end in range(len(lines), 0, -1):
        tree = _parsed("\n".join(lines[:end]))
        if tree is None or not any(isinstance(node, _KEPT) for node in tree.body):
            continue
        spans = [
            (min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))]),
             node.end_lineno)
            for node in tree.body if isinstance(node, _KEPT)
        ]  # fmt: skip
        return Extraction("\n".join("\n".join(lines[a - 1 : b]) for a, b in spans) + "\n")
    return found


_KEPT = (
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign,
    ast.AnnAssign,
)  # fmt: skip


def fenced_blocks(text: str) -> list[str]:
    """Returns a text's non-blank code blocks in order; the last may be unclosed."""
    closed, unclosed = _fenced(text)
    return [block for block in [*closed, unclosed] if block.strip()]


def _fenced(text: str) -> tuple[list[str], str]:
    """Returns the closed fenced blocks and, if the last fence is not closed, the text after it."""
    blocks: list[str] = []
    opening: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        mark = fence[2]
        if opening is None:
            opening = fence
        elif mark.startswith(opening[2]) and fence[0].strip() == mark:
            blocks.append(_unindented(text[opening.end() + 1 : fence.start()], opening[1]))
            opening = None
    if opening is None:
        return blocks, ""
    return blocks, _unindented(text[opening.end() + 1 :], opening[1])


def _unindented(block: str, indent: str) -> str:
    return textwrap.dedent(block) if indent else block


def _defines(code: str, name: str) -> bool:
    if not name:
        return False
    # A regex instead of a parser, so that truncated or invalid code still counts.
    pattern = rf"^(async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(|^{re.escape(name)}[ \t]*="
    return re.search(pattern, code, re.MULTILINE) is not None


def _is_code(text: str) -> bool:
    """Returns True if the text parses and has a statement; prose may parse as an expression."""
    tree = _parsed(text)
    return tree is not None and not all(isinstance(node, ast.Expr) for node in tree.body)


def parses(program: str) -> bool:
    """Returns True if a program is valid Python."""
    return _parsed(program) is not None


def _parsed(program: str) -> ast.Module | None:
    try:
        return parse(program)
    except UNPARSABLE:
        return None


_TAGGED = re.compile(r"\[ANSWER\](.*?)(?:\[/ANSWER\]|\Z)", re.DOTALL)


def tagged_answers(text: str) -> list[str]:
    """Returns strings between ``[ANSWER]`` and ``[/ANSWER]`` in order; the last may be unclosed."""
    return _TAGGED.findall(text)


def imports_at_top(code: str) -> str:
    """Returns the lines of a program that begin with an import."""
    lines = code.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("import ", "from ")))


_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import\b.*\n?", re.MULTILINE)


def with_preamble(preamble: str, code: str) -> str:
    """Returns ``preamble`` then ``code``, with ``__future__`` imports first, as Python requires."""
    if not preamble.strip():
        return code
    futures = [line if line.endswith("\n") else line + "\n" for line in _FUTURE.findall(code)]
    rest = _FUTURE.sub("", code) if futures else code
    return "".join([*futures, preamble.rstrip("\n"), "\n\n\n", rest.lstrip("\n")])


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
    """Returns the program after an answer's edits, or the reason why one cannot be applied."""
    if not answer.strip():
        return EMPTY
    blocks = list(_blocks(answer))
    if not blocks:
        return Extraction("", "the answer has no search-and-replace block")
    if len(blocks) < len(_HEAD.findall(answer)):
        return Extraction("", "a search-and-replace block has no end")
    lines, start = before.splitlines(), 0
    for number, (search, replace) in enumerate(blocks, 1):
        wanted, new = search.splitlines(), replace.splitlines()
        match = _found(lines, wanted, start) or _found(lines, wanted, 0)
        if match is None:
            return Extraction("", f"the program lacks the search lines of block {number}")
        place, indent = match
        new = [_shifted(line, indent) for line in new]
        lines[place : place + len(wanted)] = new
        start = place + len(new)
    return Extraction("\n".join(lines) + "\n")


def _blocks(answer: str) -> Iterator[tuple[str, str]]:
    """Yields the search lines and the replacement lines of each whole block."""
    at = 0
    while (
        (head := _HEAD.search(answer, at))
        and (middle := _MIDDLE.search(answer, head.end()))
        and (end := _END.search(answer, middle.end()))
    ):
        yield answer[head.end() : middle.start()], answer[middle.end() : end.start()]
        at = end.end()


def _found(lines: list[str], wanted: list[str], start: int) -> tuple[int, str] | None:
    """Returns the lines' index and the indentation that the block lacks; None if not found."""
    if not any(line.strip() for line in wanted):
        return len(lines), ""
    places = range(start, len(lines) - len(wanted) + 1)
    stripped = [line.rstrip() for line in wanted]
    for place in places:
        if [line.rstrip() for line in lines[place : place + len(wanted)]] == stripped:
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
    """Returns the leading whitespace that ``wanted`` lacks; None if the lines differ otherwise."""
    line, wanted = line.rstrip(), wanted.rstrip()
    if not line.endswith(wanted):
        return None
    indent = line.removesuffix(wanted)
    return indent if not indent.strip() else None


def _shifted(line: str, indent: str) -> str:
    return indent + line if line.strip() else line
