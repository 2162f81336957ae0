"""Python to UniCode and back.

A program keeps its AST, so that it runs as before; its comments, which move out of expressions to
the line before; and single blank lines. It loses its layout, the notation of constants (quotes,
bases, implicit concatenation), and by default annotations without effect
(:mod:`codegen.methods.unicode.source`).
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from codegen.errors import ConfigError, SkippedExample
from codegen.methods.unicode.lexer import UniCodeSyntaxError, location, writes_lower_case
from codegen.methods.unicode.parse_statements import Parser
from codegen.methods.unicode.print_python import PythonPrinter
from codegen.methods.unicode.source import Comment, Facts, drop_annotations, gather, read_comments
from codegen.methods.unicode.words import BRACES, STYLES, Style
from codegen.methods.unicode.write_statements import StatementWriter
from codegen.python_syntax import TOO_DEEP, parse_example, with_newlines

Annotations = Literal["needed", "all"]


class UnsupportedProgram(SkippedExample):
    """A program cannot be written as UniCode; the reason is ``syntax_error``, ``newer_python``,
    ``null_bytes``, ``not_unicode``, ``too_deep`` or ``not_python``.
    """

    subject = "The program can't be written as UniCode"


@dataclass(frozen=True, slots=True)
class Translation:
    """A program written as UniCode.

    Attributes:
        nodes: number of AST nodes of the program.
        uncovered: AST node type -> number of nodes embedded as Python, since UniCode has no form
            for the type; they are exactly invertible too.
    """

    text: str
    style: Style
    nodes: int
    uncovered: Mapping[str, int] = field(default_factory=dict)


def to_unicode(
    program: str,
    style: Style = BRACES,
    *,
    annotations: Annotations = "needed",
    comments: bool = True,
) -> Translation:
    """Writes a Python program as UniCode.

    In a lower-case style, a text without any keyword is written in upper case, since a reader could
    not know the case.

    Args:
        annotations: ``all`` keeps every type annotation; ``needed`` the ones with an effect.

    Raises:
        UnsupportedProgram: with the reason.
        ConfigError: for an unknown value of ``annotations``.
    """
    source = _normalized(program)
    tree = parse_program(source, annotations)
    try:
        facts = gather(tree)
        kept = read_comments(source) if comments else []
        return _written(tree, facts, kept, style)
    except RecursionError:
        raise UnsupportedProgram("too_deep", TOO_DEEP) from None


def to_python(text: str, style: Style | None = None) -> str:
    """Reads UniCode of any style back to Python.

    Args:
        style: its style, if known. Only the case matters; by default the first keyword decides it.

    Raises:
        UniCodeSyntaxError: with line and column.
    """
    parser = None
    text = with_newlines(text)
    try:
        parser = Parser(text, None if style is None else not style.upper)
        tree = parser.module()
        printer = PythonPrinter(parser.notes)
        program = printer.module(tree, parser.last_notes)
    except RecursionError:
        offset = parser.offset if parser else 0
        raise UniCodeSyntaxError(*location(text, offset), "it nests too deep.") from None
    _check_python(program, text, parser, printer)
    return program


def same_program(one: str, other: str, *, annotations: Annotations = "needed") -> bool:
    """Whether two Python programs have the same AST, except for annotations that are not kept.

    Raises:
        UnsupportedProgram: if one of them is not valid Python.
    """
    return _equal(parse_program(one, annotations), parse_program(other, annotations))


def _equal(one: ast.AST, other: ast.AST) -> bool:
    """Whether two trees are equal; ``ast.dump`` fails for deep trees and huge integers."""
    waiting: list[tuple[Any, Any]] = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, ast.AST):
            waiting += ((getattr(left, f, None), getattr(right, f, None)) for f in left._fields)
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            waiting += zip(left, right, strict=True)
        elif left != right:
            return False
    return True


def parse_program(program: str, annotations: Annotations = "all") -> ast.Module:
    """The AST of a program, without the annotations that are not kept.

    Raises:
        UnsupportedProgram: with the reason.
        ConfigError: for an unknown value of ``annotations``.
    """
    if annotations not in ("needed", "all"):
        raise ConfigError(f"annotations is {annotations!r}.", "Choose needed or all.")
    tree = parse_example(_normalized(program), UnsupportedProgram)
    return drop_annotations(tree) if annotations == "needed" else tree


def _normalized(program: str) -> str:
    """A program without byte order mark, with the line ends that Python itself reads."""
    return with_newlines(program.removeprefix("\ufeff"))


def _written(tree: ast.Module, facts: Facts, comments: list[Comment], style: Style) -> Translation:
    writer = StatementWriter(style, facts, comments)
    writer.module(tree)
    text = "".join(line + "\n" for line in writer.lines)
    if not style.upper and not writes_lower_case(text):
        return _written(tree, facts, comments, STYLES[style.blocks])
    return Translation(text, style, facts.nodes, dict(writer.uncovered))


def _check_python(program: str, text: str, parser: Parser, printer: PythonPrinter) -> None:
    """Refuses text that the parser accepts but Python does not, such as two equal parameters."""
    try:
        parse_example(program, UnsupportedProgram)
    except UnsupportedProgram as error:
        line = re.match(r"line (\d+)", error.detail)
        origins = printer.origins
        number = bisect_right(origins, int(line[1]) - 1, key=lambda o: o[0]) - 1 if line else 0
        node = origins[max(number, 0)][1] if origins else None
        notes = parser.notes.get(node) if node else None
        place = location(text, notes.start if notes else 0)
        raise UniCodeSyntaxError(
            *place, f"it is not a valid Python program: {error.detail}"
        ) from None
