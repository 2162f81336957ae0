"""Finds the program in a model's answer.

An answer may be bare code, code in a Markdown fence, or prose with several fences. The rules, in
order: the first fenced block that defines the requested function; the first fenced block; an
unclosed fence (the answer was cut off), to the end; the whole answer, if it defines the function or
is Python with a statement. Otherwise there is no program, and the reason says so.

Limit: code in prose without a fence is not searched for.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from codegen.records import Status

_FENCE = re.compile(r"^([ \t]*)(`{3,}+|~{3,}+)[^`\n]*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The result of a search in a model's answer.

    Attributes:
        program: the program (or other text to judge); empty if none was found.
        reason: why none was found.
        status: the verdict in that case. ``no_answer``: the model wrote something without a
            program, which may be the fault of the prompt style; ``empty``: it wrote nothing.
    """

    program: str
    reason: str = ""
    status: Status = "no_answer"


EMPTY = Extraction("", "the answer is empty", "empty")


def cut_at_stop(text: str, stops: Iterable[str]) -> str:
    """``text`` up to the first stop string; unchanged if it holds none."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def find_code(answer: str, entry_point: str) -> Extraction:
    """The code in a model's answer; see the module's docstring for the rules."""
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


def fenced_blocks(text: str) -> list[str]:
    """The code blocks of a text in order, without blank ones; the last need not be closed."""
    closed, unclosed = _fenced(text)
    return [block for block in [*closed, unclosed] if block.strip()]


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
    # By pattern, not by parser, so that cut or invalid code still counts.
    pattern = rf"^(async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(|^{re.escape(name)}[ \t]*="
    return re.search(pattern, code, re.MULTILINE) is not None


def _is_code(text: str) -> bool:
    """Whether it parses and has more than expressions, which words can be."""
    tree = _parsed(text)
    return tree is not None and not all(isinstance(node, ast.Expr) for node in tree.body)


def parses(program: str) -> bool:
    """Whether a program is valid Python."""
    return _parsed(program) is not None


def _parsed(program: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(program)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            return None


_TAGGED = re.compile(r"\[ANSWER\](.*?)(?:\[/ANSWER\]|\Z)", re.DOTALL)


def tagged_answers(text: str) -> list[str]:
    """What is between ``[ANSWER]`` and ``[/ANSWER]``, in order; the last pair may be open."""
    return _TAGGED.findall(text)


def imports_at_top(code: str) -> str:
    """The lines of a program that begin with an import."""
    lines = code.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("import ", "from ")))


_FUTURE = re.compile(r"^from[ \t]+__future__[ \t]+import\b.*\n?", re.MULTILINE)


def with_preamble(preamble: str, code: str) -> str:
    """``preamble`` then ``code``; ``__future__`` imports come first, as they must."""
    if not preamble.strip():
        return code
    futures = [line if line.endswith("\n") else line + "\n" for line in _FUTURE.findall(code)]
    rest = _FUTURE.sub("", code) if futures else code
    return "".join([*futures, preamble.rstrip("\n"), "\n\n\n", rest.lstrip("\n")])
