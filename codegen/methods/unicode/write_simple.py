"""Statements of one line: Python's AST -> UniCode."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import Any

from codegen.methods.unicode.literals import block_comment
from codegen.methods.unicode.words import NAME_FOLLOWERS, OPENING_FORMS, Level
from codegen.methods.unicode.write_blocks import BlockWriter

_FIRST_WORD = re.compile(r"\w+")


class SimpleWriter(BlockWriter):
    """Writes statements of one line; the writer of compound statements extends it."""

    def _Expr(self, node: ast.Expr, _: float) -> None:
        value = node.value
        if isinstance(value, ast.Constant) and isinstance(value.value, str) and not value.kind:
            block = block_comment(value.value)
            if block is not None:
                return self._simple(node, block, terminator=False)
        # A conditional expression would be taken for an IF statement.
        level = Level.OR if isinstance(value, ast.IfExp) else Level.YIELD
        return self._simple(node, self._opened(self.expression(value, level)))

    def _Assign(self, node: ast.Assign, _: float) -> None:
        parts = [*map(self.expression, node.targets), self.expression(node.value, Level.YIELD)]
        self._simple(node, self._opened(" = ".join(parts)))

    def _AugAssign(self, node: ast.AugAssign, _: float) -> None:
        symbol, _level = self._binary[type(node.op)]
        value = self.expression(node.value, Level.YIELD)
        self._simple(node, self._opened(f"{self.expression(node.target)} {symbol}= {value}"))

    def _AnnAssign(self, node: ast.AnnAssign, _: float) -> None:
        target = self.expression(node.target)
        if isinstance(node.target, ast.Name) and not node.simple:
            target = f"({target})"
        text = f"{target}: {self.expression(node.annotation, Level.YIELD)}"
        if node.value:
            text += f" = {self.expression(node.value, Level.YIELD)}"
        self._simple(node, self._opened(text))

    @staticmethod
    def _opened(text: str) -> str:
        """A statement that begins with an expression, so that it is not taken for a keyword."""
        match = _FIRST_WORD.match(text)
        if match and match[0] in OPENING_FORMS and not _marks_a_name(text[match.end() :]):
            return f"`{match[0]}`{text[match.end() :]}"
        return text

    def _Return(self, node: ast.Return, _: float) -> None:
        value = " " + self.expression(node.value, Level.YIELD) if node.value else ""
        self._simple(node, self._words["RETURN"] + value)

    def _Raise(self, node: ast.Raise, _: float) -> None:
        w = self._words
        text = w["RAISE"]
        text += f" {self.expression(node.exc)}" if node.exc else ""
        text += f" {w['FROM']} {self.expression(node.cause)}" if node.cause else ""
        self._simple(node, text)

    def _Assert(self, node: ast.Assert, _: float) -> None:
        message = f", {self.expression(node.msg)}" if node.msg else ""
        self._simple(node, f"{self._words['ASSERT']} {self.expression(node.test)}{message}")

    def _Delete(self, node: ast.Delete, _: float) -> None:
        targets = ", ".join(map(self.expression, node.targets))
        self._simple(node, f"{self._words['DELETE']} {targets}")

    def _Import(self, node: ast.Import, _: float) -> None:
        self._simple(node, f"{self._words['USE']} {self._aliases(node.names)}")

    def _ImportFrom(self, node: ast.ImportFrom, _: float) -> None:
        w = self._words
        module = "." * node.level + self._dotted(node.module or "")
        self._simple(node, f"{w['FROM']} {module} {w['USE']} {self._aliases(node.names)}")

    def _aliases(self, names: Iterable[ast.alias]) -> str:
        parts = []
        for alias in names:
            name = f" {self._words['AS']} {self.name(alias.asname)}" if alias.asname else ""
            parts.append(("*" if alias.name == "*" else self._dotted(alias.name)) + name)
        return ", ".join(parts)

    def _dotted(self, name: str) -> str:
        return ".".join(map(self._module, name.split("."))) if name else ""

    def _module(self, name: str) -> str:
        return f"`{name}`" if OPENING_FORMS.get(name) == "USE" else self.name(name)

    def _Global(self, node: ast.Global, _: float) -> None:
        self._simple(node, f"{self._words['GLOBAL']} {', '.join(map(self.name, node.names))}")

    def _Nonlocal(self, node: ast.Nonlocal, _: float) -> None:
        self._simple(node, f"{self._words['NONLOCAL']} {', '.join(map(self.name, node.names))}")

    def _Pass(self, node: ast.Pass, _: float) -> None:
        self._simple(node, self._words["PASS"])

    def _Break(self, node: ast.Break, _: float) -> None:
        self._simple(node, self._words["BREAK"])

    def _Continue(self, node: ast.Continue, _: float) -> None:
        self._simple(node, self._words["CONTINUE"])

    def _TypeAlias(self, node: Any, _: float) -> None:
        left = self.expression(node.name) + self._type_parameters(node)
        self._simple(node, f"{self._words['TYPE']} {left} = {self.expression(node.value)}")

    def _type_parameters(self, node: ast.AST) -> str:
        parameters = list(map(self._type_parameter, getattr(node, "type_params", ())))
        return f"[{', '.join(parameters)}]" if parameters else ""

    def _type_parameter(self, node: Any) -> str:
        stars = {"TypeVarTuple": "*", "ParamSpec": "**"}.get(type(node).__name__, "")
        bound = getattr(node, "bound", None)
        default = getattr(node, "default_value", None)
        text = stars + self.name(node.name)
        text += f": {self.expression(bound)}" if bound else ""
        return text + (f" = {self.expression(default)}" if default else "")


def _marks_a_name(rest: str) -> bool:
    """Whether what follows a word shows that it is a name and no keyword."""
    return rest[:1] in (".", ":") or rest.lstrip().partition(" ")[0] in NAME_FOLLOWERS
