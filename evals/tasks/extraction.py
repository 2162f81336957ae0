"""Finding the program in what a model wrote.

An answer may be bare code, code in a Markdown fence, or prose with several fences. The rules, in
order: the first fenced block that defines the function asked for; the first fenced block; a fence
never closed (the answer was cut off), to the end; the whole answer, if it defines the function or
is Python that does something. Otherwise there is no program, and the reason says so.

Limit: code in prose without a fence is not searched for.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable

from .base import Extraction

_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^`\n]*$", re.MULTILINE)


def cut_at_stop(text: str, stops: Iterable[str]) -> str:
    """``text`` up to the first stop string; unchanged if it holds none."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def find_code(answer: str, entry_point: str) -> Extraction:
    """The code in a model's answer; see the module's docstring for the rules."""
    if not answer.strip():
        return Extraction("", "the answer is empty", "empty")
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


def fenced_blocks(text: str) -> list[str]:
    """The code blocks of a text in order; the last one may not be closed."""
    closed, unclosed = _fenced(text)
    return [*closed, unclosed] if unclosed else closed


def _fenced(text: str) -> tuple[list[str], str]:
    """The closed fenced blocks and, if the last fence is not closed, the text after it."""
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
    # By pattern, not by parser: code that was cut off, or is wrong elsewhere, still counts.
    pattern = rf"^(async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(|^{re.escape(name)}[ \t]*="
    return re.search(pattern, code, re.MULTILINE) is not None


def _is_code(text: str) -> bool:
    """Whether it parses and is more than words that happen to be expressions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            body = ast.parse(text).body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return False
    return any(not isinstance(statement, ast.Expr) for statement in body)


_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import\b.*\n?", re.MULTILINE)


def with_preamble(preamble: str, code: str) -> str:
    """``preamble`` then ``code``; ``__future__`` imports come first, as they must."""
    if not preamble.strip():
        return code
    futures = [line if line.endswith("\n") else line + "\n" for line in _FUTURE.findall(code)]
    rest = _FUTURE.sub("", code) if futures else code
    return "".join([*futures, preamble.rstrip("\n"), "\n\n\n", rest.lstrip("\n")])
