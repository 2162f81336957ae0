"""Python's AST and its comments -> Python source in the format of ``ast.unparse``.

``ast.unparse`` writes expressions, simple statements and headers; comments, blank lines and
docstrings in their own layout are added here.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.methods.unicode.parse_statements import Notes

INDENT = "    "
_BODY = "\n    pass"


class PythonPrinter:
    """Prints statements.

    Attributes:
        lines: the result.
        origins: (number of lines printed before it, statement), to find a line's statement.
    """

    def __init__(self, notes: Mapping[ast.AST, Notes]) -> None:
        self.lines: list[str] = []
        self.origins: list[tuple[int, ast.AST]] = []
        self._notes = notes
        self._depth = 0

    def module(self, tree: ast.Module, last_notes: Sequence[str | None]) -> str:
        """The whole source."""
        self._body(tree.body, documented=True)
        self._comments(last_notes)
        return "".join(line + "\n" for line in self.lines)

    def _line(self, text: str, trailing: str | None = None) -> None:
        comment = "" if trailing is None else f"  #{trailing}"
        self.lines.append(INDENT * self._depth + text + comment)

    def _comments(self, notes: Sequence[str | None]) -> None:
        for note in notes:
            if note is None:
                self.lines.append("")
            else:
                self._line("#" + note)

    def _body(self, body: Sequence[ast.stmt], documented: bool = False) -> None:
        for number, node in enumerate(body):
            notes = self._notes.get(node) or Notes(0)
            self._comments(notes.before)
            self.origins.append((len(self.lines), node))
            if documented and number == 0 and (docstring := _docstring(node)) is not None:
                self._line(docstring, notes.trailing)
            else:
                self._statement(node, notes.trailing)
            self._comments(notes.after)

    def _block(self, header: str, node: Sequence[ast.stmt], trailing: str | None = None) -> None:
        self._line(header, trailing)
        self._inside(node)

    def _inside(self, body: Sequence[ast.stmt], documented: bool = False) -> None:
        self._depth += 1
        self._body(body, documented)
        self._depth -= 1

    def _statement(self, node: Any, trailing: str | None) -> None:
        match node:
            case ast.If():
                self._if(node, trailing)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._block(_header(node), node.body, trailing)
                if node.orelse:
                    self._block("else:", node.orelse)
            case ast.With() | ast.AsyncWith():
                self._block(_header(node), node.body, trailing)
            case ast.Try() | ast.TryStar():
                self._try(node, trailing)
            case ast.Match():
                self._match(node, trailing)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                for decorator in node.decorator_list:
                    self._line("@" + unparse(decorator))
                self._line(_header(node), trailing)
                self._inside(node.body, documented=True)
            case _:
                self._line(unparse(node), trailing)

    def _if(self, node: ast.If, trailing: str | None) -> None:
        word = "if"
        while True:  # not a recursion, since branches nest in the tree
            self._block(f"{word} {unparse(node.test)}:", node.body, trailing)
            if not _is_elif(node.orelse, self._notes):
                break
            [node] = node.orelse  # type: ignore[assignment]
            notes = self._notes.get(node)
            word, trailing = "elif", notes.trailing if notes else None
        if node.orelse:
            self._block("else:", node.orelse)

    def _try(self, node: ast.Try | ast.TryStar, trailing: str | None) -> None:
        self._block("try:", node.body, trailing)
        word = "except*" if isinstance(node, ast.TryStar) else "except"
        for handler in node.handlers:
            kind = f" {unparse(handler.type)}" if handler.type else ""
            name = f" as {handler.name}" if handler.name else ""
            self._block(f"{word}{kind}{name}:", handler.body)
        if node.orelse:
            self._block("else:", node.orelse)
        if node.finalbody:
            self._block("finally:", node.finalbody)

    def _match(self, node: ast.Match, trailing: str | None) -> None:
        self._line(f"match {unparse(node.subject)}:", trailing)
        self._depth += 1
        for case in node.cases:
            notes = self._notes.get(case) or Notes(0)
            self._comments(notes.before)
            bare = ast.match_case(case.pattern, case.guard, [ast.Pass()])
            self._block(unparse(bare).strip().removesuffix(_BODY), case.body)
            self._comments(notes.after)
        self._depth -= 1


def unparse(node: Any) -> str:
    """``ast.unparse`` of a node without line numbers."""
    node.lineno = 1  # read by unparse to find type comments
    return ast.unparse(node)


def _header(node: Any) -> str:
    """The first line of a compound statement, with the colon and without decorators."""
    bare = copy.copy(node)
    bare.body = [ast.Pass()]
    bare.orelse = []
    bare.decorator_list = []
    return unparse(bare).strip().removesuffix(_BODY)


def _is_elif(orelse: Sequence[ast.stmt], notes: Mapping[ast.AST, Notes]) -> bool:
    if len(orelse) != 1 or not isinstance(orelse[0], ast.If):
        return False
    found = notes.get(orelse[0])
    return found is None or not (found.before or found.after)


def _docstring(node: ast.stmt) -> str | None:
    """A docstring in triple quotes with its own lines; None if it is none or needs escapes."""
    match node:
        case ast.Expr(value=ast.Constant(value=str(text), kind=None)):
            if "\\" in text or '"""' in text or text.endswith('"'):
                return None
            if text.replace("\n", "").replace("\t", "").isprintable():
                return f'"""{text}"""'
    return None
