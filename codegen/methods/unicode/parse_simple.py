"""Statements of one line: tokens of UniCode -> Python's AST."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from codegen.methods.unicode.lexer import Token
from codegen.methods.unicode.parse_blocks import BlockParser
from codegen.methods.unicode.words import BINARY, EMBEDDED, Level, cased

_AUGMENTED = {
    f"{cased(symbol, upper)}=": kind
    for kind, (symbol, _) in BINARY.items()
    for upper in (True, False)
}


class SimpleParser(BlockParser):
    """Reads statements of one line; the parser of compound statements extends it."""

    def __init__(self, text: str, lower: bool | None = None) -> None:
        super().__init__(text, lower)
        self._simple: dict[str, Callable[[], ast.stmt]] = {
            "RETURN": self._return,
            "RAISE": self._raise,
            "ASSERT": self._assert,
            "GLOBAL": lambda: ast.Global(self._names()),
            "NONLOCAL": lambda: ast.Nonlocal(self._names()),
            "PASS": ast.Pass,
            "BREAK": ast.Break,
            "CONTINUE": ast.Continue,
            "FROM": self._import_from,
            "USE": lambda: ast.Import(self._aliases()),
            "DELETE": self._delete,
            "TYPE": self._type_alias,
        }

    def _expression_statement(self) -> ast.stmt:
        token = self._peek()
        if token.kind == "block":
            self._advance()
            return ast.Expr(ast.Constant(token.value))
        first = self.expression_list()
        if self._at_op(":"):
            return self._annotated(first, token)
        if self._peek().kind == "op" and self._peek().value in _AUGMENTED:
            self._check_single(first, token)
            operator = _AUGMENTED[self._advance().value]
            return ast.AugAssign(first, operator(), self.expression_list())  # type: ignore[arg-type]
        parts = [first]
        while self._at_op("="):
            self.check_target(parts[-1], token)
            self._advance()
            parts.append(self.expression_list())
        return ast.Assign(parts[:-1], parts[-1]) if len(parts) > 1 else ast.Expr(first)

    def _check_single(self, node: ast.expr, token: Token) -> None:
        if not isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)):
            raise self.error("one variable, attribute or item to assign to", token)

    def _annotated(self, target: ast.expr, token: Token) -> ast.stmt:
        self._check_single(target, token)
        self._advance()
        annotation = self.expression(Level.YIELD)
        value = self.expression_list() if self._take_op("=") else None
        simple = isinstance(target, ast.Name) and token.value != "("
        return ast.AnnAssign(target, annotation, value, int(simple))  # type: ignore[arg-type]

    def _is_embedded_statement(self) -> bool:
        following = self._peek_after(4)
        return following.kind in ("break", "end") or following.value in (";", "}")

    def _embedded_statements(self) -> list[ast.stmt]:
        self._advance()
        token = self._peek()
        try:
            return ast.parse(self._embedded_source()).body
        except (SyntaxError, ValueError):
            raise self.error(f"{EMBEDDED} with Python", token) from None

    # Statements of one line; their keyword is taken already

    def _names(self) -> list[str]:
        names = [self._identifier()]
        while self._take_op(","):
            names.append(self._identifier())
        return names

    def _return(self) -> ast.stmt:
        return ast.Return(None if self._ends_expression() else self.expression_list())

    def _raise(self) -> ast.stmt:
        if self._ends_expression():
            return ast.Raise(None, None)
        error = self.expression()
        return ast.Raise(error, self.expression() if self._take_key("FROM") else None)

    def _assert(self) -> ast.stmt:
        test = self.expression()
        return ast.Assert(test, self.expression() if self._take_op(",") else None)

    def _delete(self) -> ast.stmt:
        token = self._peek()
        targets = [self.expression()]
        while self._take_op(","):
            targets.append(self.expression())
        for target in targets:
            self.check_target(target, token)
        return ast.Delete(targets)

    def _aliases(self) -> list[ast.alias]:
        aliases = [self._alias()]
        while self._take_op(","):
            aliases.append(self._alias())
        return aliases

    def _alias(self) -> ast.alias:
        name = self._dotted()
        return ast.alias(name, self._identifier() if self._take_key("AS") else None)

    def _dotted(self) -> str:
        parts = [self._identifier("the name of a module")]
        while self._take_op("."):
            parts.append(self._identifier("the name of a module"))
        return ".".join(parts)

    def _import_from(self) -> ast.stmt:
        level = 0
        while self._at_op(".", "..."):
            level += len(self._advance().value)
        bare = level > 0 and self._opening() == "USE"
        module = None if bare else self._dotted()
        if self._opening() != "USE":
            raise self.error("USE")
        self._advance()
        names = [ast.alias("*")] if self._take_op("*") else self._aliases()
        return ast.ImportFrom(module, names, level)

    def _type_alias(self) -> ast.stmt:
        make = self._of_new_python("TypeAlias")
        name = ast.Name(self._identifier())
        parameters = self._type_parameters()
        self._expect_op("=")
        return make(name, parameters, self.expression())

    def _of_new_python(self, name: str) -> Callable[..., Any]:
        if not hasattr(ast, name):
            raise self.error("no type parameters, which this version of Python can't read")
        return getattr(ast, name)

    def _type_parameters(self) -> list[Any]:
        if not self._at_op("["):
            return []
        return self._in_brackets("[", "]", lambda: self._items("]", self._type_parameter))[0]

    def _type_parameter(self) -> Any:
        stars = self._advance().value if self._at_op("*", "**") else ""
        kind = {"": "TypeVar", "*": "TypeVarTuple", "**": "ParamSpec"}[stars]
        node = self._of_new_python(kind)(self._identifier())
        if not stars:
            node.bound = self.expression() if self._take_op(":") else None
        if self._take_op("="):
            node.default_value = self.expression()
        return node
