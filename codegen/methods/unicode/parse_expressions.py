"""Expressions: tokens of UniCode -> Python's AST, by operator precedence (Pratt 1973).

Names are given no context (load, store): the trees are made to be printed.
"""

from __future__ import annotations

import ast

from codegen.methods.unicode.lexer import Token
from codegen.methods.unicode.literals import HUGE, number
from codegen.methods.unicode.parse_calls import CallParser
from codegen.methods.unicode.words import (
    BINARY,
    BOOLEAN,
    COMPARE,
    EMBEDDED,
    INNER_FORMS,
    SINGLETONS,
    UNARY,
    Level,
    operation,
)

_BINARY = {symbol: (kind, level) for kind, (symbol, level) in BINARY.items()}
_BOOLEAN = {symbol: (kind, level) for kind, (symbol, level) in BOOLEAN.items()}
_UNARY = {symbol: (kind, level) for kind, (symbol, level) in UNARY.items()}
_COMPARE = {symbol: kind for kind, symbol in COMPARE.items()}


class ExpressionParser(CallParser):
    """Reads expressions; the parsers of patterns and statements extend it."""

    def expression(self, level: Level = Level.TEST) -> ast.expr:
        """An expression whose operators bind at least as tightly as ``level``."""
        left = self._prefix()
        while True:
            token = self._peek()
            if token.kind in ("op", "key"):
                symbol = token.value
            elif token.kind == "name":
                symbol = INNER_FORMS.get(token.value)
            else:
                return left
            if symbol in ("(", "[", "."):
                if symbol == "(" and self._key_follows("EXCLUSIVE"):
                    return left
                left = self._postfix(left, symbol)
            elif symbol in _BINARY:
                kind, own = _BINARY[symbol]
                if own < level:
                    return left
                self._advance()
                right = Level.SIGN if own == Level.POWER else Level(own + 1)
                left = ast.BinOp(left, kind(), self.expression(right))
            elif symbol in _BOOLEAN:
                kind, own = _BOOLEAN[symbol]
                if own < level:
                    return left
                values = [left]
                while self._take_key(symbol):
                    values.append(self.expression(Level(own + 1)))
                left = ast.BoolOp(kind(), values)
            elif symbol in _COMPARE or symbol == "NOT":
                if level > Level.COMPARE or not self._at_comparison():
                    return left
                left = self._comparison(left)
            elif symbol == ":=" and level == Level.WALRUS and isinstance(left, ast.Name):
                self._advance()
                left = ast.NamedExpr(left, self.expression())
            else:
                return left

    def _at_comparison(self) -> bool:
        if self._at_key("NOT"):
            return self._key_follows("IN")
        token = self._peek()
        return token.kind in ("op", "key") and token.value in _COMPARE

    def _comparison(self, left: ast.expr) -> ast.Compare:
        ops: list[ast.cmpop] = []
        operands: list[ast.expr] = []
        while self._at_comparison():
            symbol = self._advance().value
            if symbol == "NOT":
                self._expect_key("IN")
                symbol = "NOT IN"
            elif symbol == "IS" and self._take_key("NOT"):
                symbol = "IS NOT"
            ops.append(_COMPARE[symbol]())
            operands.append(self.expression(Level.BIT_OR))
        return ast.Compare(left, ops, operands)

    # What begins an expression

    def _prefix(self) -> ast.expr:
        token = self._peek()
        if token.kind in ("name", "escaped"):
            return self._named(token)
        if token.kind in ("constant", "u_text"):
            return self._constant(token)
        if token.kind == "key":
            return self._keyword(token)
        if token.kind == "template":
            return self._template()
        if token.kind == "op":
            return self._symbol(token)
        raise self.error("an expression")

    def _constant(self, token: Token) -> ast.expr:
        self._advance()
        value = token.value
        if isinstance(value, int) and value >= HUGE:
            return ast.Name(f"({number(value)})")  # ast.unparse can write it in decimal only
        return ast.Constant(value, kind="u" if token.kind == "u_text" else None)

    def _named(self, token: Token) -> ast.expr:
        called = self._peek_after()
        if token.kind == "name" and called.kind == "op" and called.value == "(":
            word = operation(token.value, self._lower)
            if word and not self._key_follows("EXCLUSIVE", 2):
                return self._operation(word)
        return ast.Name(self._identifier("an expression"))

    def _keyword(self, token: Token) -> ast.expr:
        word = token.value
        if word in SINGLETONS:
            self._advance()
            return ast.Constant(SINGLETONS[word])
        if word in _UNARY:
            return self._unary(word)
        if word not in ("IF", "LAMBDA", "AWAIT", "YIELD", EMBEDDED):
            raise self.error("an expression")
        self._advance()
        match word:
            case "IF":
                test = self.expression()
                self._expect_inner("THEN")
                body = self.expression()
                self._expect_key("ELSE")
                return ast.IfExp(test, body, self.expression())
            case "LAMBDA":
                parameters = self._in_brackets("(", ")", lambda: self.parameters(")", False))
                self._expect_op("->")
                return ast.Lambda(parameters, self.expression())
            case "AWAIT":
                return ast.Await(self.expression(Level.POSTFIX))
            case "YIELD":
                return self._yield()
        return self._embedded_expression()

    def _yield(self) -> ast.expr:
        if self._take_key("FROM"):
            return ast.YieldFrom(self.expression())
        if self._ends_expression():
            return ast.Yield(None)
        return ast.Yield(self.expression_list())

    def _unary(self, symbol: str) -> ast.expr:
        kind, level = _UNARY[symbol]
        self._advance()
        return ast.UnaryOp(kind(), self.expression(level))

    def _embedded_expression(self) -> ast.expr:
        token = self._peek()
        source = self._embedded_source()
        try:
            return ast.parse(source, mode="eval").body
        except (SyntaxError, ValueError):
            raise self.error(f"{EMBEDDED} with an expression of Python", token) from None

    def _embedded_source(self) -> str:
        token = self._peek_after()
        self._in_brackets("(", ")", self._advance)
        if not isinstance(token.value, str):
            raise self.error(f"{EMBEDDED} with a text", token)
        return token.value

    def _symbol(self, token: Token) -> ast.expr:
        symbol = token.value
        if symbol in _UNARY:
            return self._unary(symbol)
        if symbol == "(":
            return self._in_brackets("(", ")", self._group)
        if symbol == "[":
            return self._in_brackets("[", "]", self._list)
        if symbol == "{":
            return self._in_brackets("{", "}", self._set_or_dict)
        if symbol == "...":
            self._advance()
            return ast.Constant(...)
        if symbol == "*":
            self._advance()
            return ast.Starred(self.expression(Level.BIT_OR))
        raise self.error("an expression")

    def _group(self) -> ast.expr:
        """A tuple, a generator, or an expression in parentheses."""
        if self._at_op(")"):
            return ast.Tuple([])
        first = self.expression(Level.WALRUS)
        if self._at_generator():
            return ast.GeneratorExp(first, self.clauses())
        if not self._at_op(","):
            return first
        self._advance()
        rest, _ = self._items(")", self._walrus)
        return ast.Tuple([first, *rest])

    def _walrus(self) -> ast.expr:
        return self.expression(Level.WALRUS)

    def _list(self) -> ast.expr:
        items, comma = self._items("]", self._walrus)
        if len(items) == 1 and not comma and self._at_generator():
            return ast.ListComp(items[0], self.clauses())
        return ast.List(items)

    def _set_or_dict(self) -> ast.expr:
        if self._at_op("}"):
            return ast.Dict([], [])
        if self._take_op("**"):
            return self._dict(None)
        first = self.expression(Level.WALRUS)
        if self._at_op(":"):
            return self._dict(first)
        if self._at_generator():
            return ast.SetComp(first, self.clauses())
        rest: list[ast.expr] = []
        if self._take_op(","):
            rest, _ = self._items("}", self._walrus)
        return ast.Set([first, *rest])

    def _dict(self, key: ast.expr | None) -> ast.expr:
        value = self._dict_value(key)
        if key and self._at_generator():
            return ast.DictComp(key, value, self.clauses())
        items = [(key, value)]
        if self._take_op(","):
            items += self._items("}", self._dict_item)[0]
        return ast.Dict([key for key, _ in items], [value for _, value in items])

    def _dict_item(self) -> tuple[ast.expr | None, ast.expr]:
        key = None if self._take_op("**") else self.expression()
        return key, self._dict_value(key)

    def _dict_value(self, key: ast.expr | None) -> ast.expr:
        if key is None:
            return self.expression(Level.BIT_OR)
        self._expect_op(":")
        return self.expression()

    def clauses(self) -> list[ast.comprehension]:
        """The FOR EACH ... IN ... WHERE ... of a comprehension."""
        clauses: list[ast.comprehension] = []
        while self._at_generator():
            is_async = self._take_key("ASYNC")
            self._expect_key("FOR")
            self._expect_inner("EACH")
            target = self.target()
            self._expect_key("IN")
            source = self.expression()
            tests: list[ast.expr] = []
            while self._take_inner("WHERE"):
                tests.append(self.expression())
            clauses.append(ast.comprehension(target, source, tests, int(is_async)))
        return clauses

    def _template(self) -> ast.JoinedStr:
        self._advance()
        values = self._template_parts("template_end")
        self._advance()
        return ast.JoinedStr(values)

    def _template_parts(self, end: str) -> list[ast.expr]:
        values: list[ast.expr] = []
        while self._peek().kind != end:
            token = self._advance()
            if token.kind != "template_text":
                values.append(self._field())
            elif end == "field_end" and ("{" in token.value or "}" in token.value):
                # Python has no notation for braces in a format spec but a nested field.
                values.append(ast.FormattedValue(ast.Constant(token.value), -1, None))
            else:
                values.append(ast.Constant(token.value))
        return values

    def _field(self) -> ast.FormattedValue:
        value = self.expression()
        conversion = -1
        if self._peek().kind == "conversion":
            conversion = ord(self._advance().value)
        spec: ast.JoinedStr | None = None
        if self._peek().kind == "spec":
            self._advance()
            spec = ast.JoinedStr(self._template_parts("field_end"))
        if self._peek().kind != "field_end":
            raise self.error("the end of the field, '}'")
        self._advance()
        return ast.FormattedValue(value, conversion, spec)
