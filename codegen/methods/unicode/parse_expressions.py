"""Tokens of UniCode -> Python's AST: expressions and patterns, by operator precedence (Pratt 1973).

Names have no context (load, store), since the trees are only printed.
"""

from __future__ import annotations

import ast

from codegen.methods.unicode.lexer import HUGE, Token, TokenCursor, number
from codegen.methods.unicode.words import (
    BINARY,
    BOOLEAN,
    COMPARE,
    EMBEDDED,
    FUNCTION_OF,
    INNER_FORMS,
    METHOD_OF,
    SINGLETONS,
    UNARY,
    Level,
    operation,
)

_TARGETS = (ast.Name, ast.Attribute, ast.Subscript)
_BINARY = {symbol: (kind, level) for kind, (symbol, level) in BINARY.items()}
_BOOLEAN = {symbol: (kind, level) for kind, (symbol, level) in BOOLEAN.items()}
_UNARY = {symbol: (kind, level) for kind, (symbol, level) in UNARY.items()}
_COMPARE = {symbol: kind for kind, symbol in COMPARE.items()}


class ExpressionParser(TokenCursor):
    """Reads expressions and patterns; the parser of statements extends it."""

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
                if symbol == "(" and self._symbol(1) == "EXCLUSIVE":
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
                while self._take(symbol):
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
        if self._at("NOT"):
            return self._symbol(1) == "IN"
        token = self._peek()
        return token.kind in ("op", "key") and token.value in _COMPARE

    def _comparison(self, left: ast.expr) -> ast.Compare:
        ops: list[ast.cmpop] = []
        operands: list[ast.expr] = []
        while self._at_comparison():
            symbol = self._advance().value
            if symbol == "NOT":
                self._expect("IN")
                symbol = "NOT IN"
            elif symbol == "IS" and self._take("NOT"):
                symbol = "IS NOT"
            ops.append(_COMPARE[symbol]())
            operands.append(self.expression(Level.BIT_OR))
        return ast.Compare(left, ops, operands)

    # The beginning of an expression

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
            return self._operator(token)
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
            if word and self._symbol(2) != "EXCLUSIVE":
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
                self._expect("THEN")
                body = self.expression()
                self._expect("ELSE")
                return ast.IfExp(test, body, self.expression())
            case "LAMBDA":
                parameters = self._in_brackets("(", ")", lambda: self.parameters(")", False))
                self._expect("->")
                return ast.Lambda(parameters, self.expression())
            case "AWAIT":
                return ast.Await(self.expression(Level.POSTFIX))
            case "YIELD":
                return self._yield()
        return self._embedded_expression()

    def _yield(self) -> ast.expr:
        if self._take("FROM"):
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

    def _operator(self, token: Token) -> ast.expr:
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
        if self._at(")"):
            return ast.Tuple([])
        first = self.expression(Level.WALRUS)
        if self._at_generator():
            return ast.GeneratorExp(first, self.clauses())
        if not self._at(","):
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
        if self._at("}"):
            return ast.Dict([], [])
        if self._take("**"):
            return self._dict(None)
        first = self.expression(Level.WALRUS)
        if self._at(":"):
            return self._dict(first)
        if self._at_generator():
            return ast.SetComp(first, self.clauses())
        rest: list[ast.expr] = []
        if self._take(","):
            rest, _ = self._items("}", self._walrus)
        return ast.Set([first, *rest])

    def _dict(self, key: ast.expr | None) -> ast.expr:
        value = self._dict_value(key)
        if key and self._at_generator():
            return ast.DictComp(key, value, self.clauses())
        items = [(key, value)]
        if self._take(","):
            items += self._items("}", self._dict_item)[0]
        return ast.Dict([key for key, _ in items], [value for _, value in items])

    def _dict_item(self) -> tuple[ast.expr | None, ast.expr]:
        key = None if self._take("**") else self.expression()
        return key, self._dict_value(key)

    def _dict_value(self, key: ast.expr | None) -> ast.expr:
        if key is None:
            return self.expression(Level.BIT_OR)
        self._expect(":")
        return self.expression()

    def clauses(self) -> list[ast.comprehension]:
        """The FOR EACH ... IN ... WHERE ... of a comprehension."""
        clauses: list[ast.comprehension] = []
        while self._at_generator():
            is_async = self._take("ASYNC")
            self._expect("FOR")
            self._expect("EACH")
            target = self.target()
            self._expect("IN")
            source = self.expression()
            tests: list[ast.expr] = []
            while self._take("WHERE"):
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

    # Calls, indices, parameters and targets

    def _at_generator(self) -> bool:
        return self._at("FOR") or (self._at("ASYNC") and self._symbol(1) == "FOR")

    def _postfix(self, left: ast.expr, symbol: str) -> ast.expr:
        if symbol == ".":
            self._advance()
            return ast.Attribute(left, self._identifier("the name of an attribute"))
        if symbol == "[":
            return ast.Subscript(left, self._in_brackets("[", "]", self._indices))
        args, keywords = self._in_brackets("(", ")", self.arguments)
        return ast.Call(left, args, keywords)

    def _operation(self, word: str) -> ast.expr:
        """A call of a built-in operation by its UniCode name."""
        token = self._advance()
        args, keywords = self._in_brackets("(", ")", self.arguments)
        if word in FUNCTION_OF:
            return ast.Call(ast.Name(FUNCTION_OF[word]), args, keywords)
        if not args or isinstance(args[0], ast.Starred):
            raise self.error(f"{word} with the object it is applied to as first argument", token)
        receiver, *rest = args
        return ast.Call(ast.Attribute(receiver, METHOD_OF[word]), rest, keywords)

    def arguments(self, closing: str = ")") -> tuple[list[ast.expr], list[ast.keyword]]:
        """Arguments of a call up to a closing bracket that is not taken."""
        args: list[ast.expr] = []
        keywords: list[ast.keyword] = []
        while not self._at(closing):
            if self._take("**"):
                keywords.append(ast.keyword(None, self.expression(Level.BIT_OR)))
            elif self._at_keyword_argument():
                name = self._identifier()
                self._advance()
                keywords.append(ast.keyword(name, self.expression()))
            else:
                value = self.expression(Level.WALRUS)
                if self._at_generator():
                    value = ast.GeneratorExp(value, self.clauses())
                args.append(value)
            if not self._take(","):
                break
        return args, keywords

    def _at_keyword_argument(self) -> bool:
        following = self._peek_after()
        return (
            self._peek().kind in ("name", "escaped")
            and following.kind == "op"
            and following.value == "="
        )

    def _indices(self) -> ast.expr:
        items, comma = self._items("]", self._index)
        if not items:
            raise self.error("an index")
        return ast.Tuple(items) if comma or len(items) > 1 else items[0]

    def _index(self) -> ast.expr:
        if self._at_sentinel("START", "TO"):
            self._advance()
            lower = None
        else:
            lower = self._position("]", ",", "TO")
        if not self._take("TO"):
            if lower is None:
                raise self.error("TO")
            return lower
        if self._at_sentinel("END", "]", ",", "STEP"):
            self._advance()
            upper = None
        else:
            upper = self._position("]", ",", "STEP")
        step = self.expression() if self._take("STEP") else None
        return ast.Slice(lower, upper, step)

    def _position(self, *followers: str) -> ast.expr:
        """An index or a bound of a slice: LAST, END - k, or any expression."""
        if self._at_sentinel("LAST", *followers):
            self._advance()
            return ast.UnaryOp(ast.USub(), ast.Constant(1))
        if self._at_sentinel("END", "-") and self._follows(3, followers):
            distance = self._peek_after(2).value
            if isinstance(distance, int):
                for _ in range(3):
                    self._advance()
                return ast.UnaryOp(ast.USub(), ast.Constant(distance))
        return self.expression(Level.WALRUS)

    def _at_sentinel(self, word: str, *followers: str) -> bool:
        token = self._peek()
        if token.kind != "name" or not (
            token.value == word or (self._lower and token.value == word.lower())
        ):
            return False
        return self._follows(1, followers)

    def _follows(self, distance: int, followers: tuple[str, ...]) -> bool:
        token = self._peek_after(distance)
        symbol = INNER_FORMS.get(token.value) if token.kind == "name" else token.value
        return token.kind in ("op", "name") and symbol in followers

    def expression_list(self) -> ast.expr:
        """An expression, or several between commas, which are a tuple."""
        first = self.expression(Level.YIELD)
        if not self._at(","):
            return first
        items = [first]
        while self._take(",") and not self._ends_expression() and not self._at("="):
            items.append(self.expression())
        return ast.Tuple(items)

    def target(self) -> ast.expr:
        """A target of an assignment, or several between commas."""
        token = self._peek()
        items = self._separated(lambda: self.expression(Level.BIT_OR))
        target = items[0] if len(items) == 1 else ast.Tuple(items)
        self.check_target(target, token)
        return target

    def check_target(self, node: ast.expr, token: Token) -> None:
        """Raises an error at ``token`` if a node cannot be assigned to."""
        if isinstance(node, (ast.Tuple, ast.List)):
            for item in node.elts:
                self.check_target(item, token)
        elif isinstance(node, ast.Starred):
            self.check_target(node.value, token)
        elif not isinstance(node, _TARGETS):
            raise self.error("something that can be assigned to", token)

    def parameters(self, closing: str, annotated: bool) -> ast.arguments:
        """Parameters up to a closing bracket that is not taken."""
        result = ast.arguments([], [], None, [], [], None, [])
        after_star = False
        while not self._at(closing):
            token = self._peek()
            if self._take("/"):
                if after_star or result.posonlyargs or not result.args:
                    raise self.error("a parameter", token)
                result.posonlyargs, result.args = result.args, []
            elif self._take("**"):
                result.kwarg = self._parameter(annotated)
            elif self._take("*"):
                if after_star:
                    raise self.error("a parameter", token)
                after_star = True
                if not self._at(",", closing):
                    result.vararg = self._parameter(annotated)
            else:
                self._plain_parameter(result, after_star, annotated)
            if not self._take(","):
                break
        return result

    def _plain_parameter(self, result: ast.arguments, keyword_only: bool, annotated: bool) -> None:
        token = self._peek()
        arg = self._parameter(annotated)
        default = self.expression() if self._take("=") else None
        if keyword_only:
            result.kwonlyargs.append(arg)
            result.kw_defaults.append(default)
            return
        result.args.append(arg)
        if default:
            result.defaults.append(default)
        elif result.defaults:
            raise self.error("a default value, as the parameter before has one", token)

    def _parameter(self, annotated: bool) -> ast.arg:
        name = self._identifier("a parameter")
        annotation = self.expression() if annotated and self._take(":") else None
        return ast.arg(name, annotation)

    # Patterns of MATCH

    def pattern(self) -> ast.pattern:
        """A whole pattern of a CASE."""
        patterns = self._separated(self._as_pattern)
        return patterns[0] if len(patterns) == 1 else ast.MatchSequence(patterns)

    def _as_pattern(self) -> ast.pattern:
        alternatives = [self._closed_pattern()]
        while self._take("|"):
            alternatives.append(self._closed_pattern())
        pattern = ast.MatchOr(alternatives) if len(alternatives) > 1 else alternatives[0]
        if self._take("AS"):
            return ast.MatchAs(pattern, self._identifier())
        return pattern

    def _closed_pattern(self) -> ast.pattern:
        token = self._peek()
        if token.kind == "key" and token.value in SINGLETONS:
            self._advance()
            return ast.MatchSingleton(SINGLETONS[token.value])
        if token.kind in ("name", "escaped"):
            return self._named_pattern()
        if token.kind in ("constant", "u_text") or self._at("-"):
            return ast.MatchValue(self.expression(Level.SUM))
        if self._at("["):
            patterns, _ = self._in_brackets("[", "]", lambda: self._items("]", self._as_pattern))
            return ast.MatchSequence(patterns)
        if self._at("("):
            return self._in_brackets("(", ")", self._group_pattern)
        if self._at("{"):
            return self._in_brackets("{", "}", self._mapping_pattern)
        if self._take("*"):
            return ast.MatchStar(_captured(self._identifier()))
        raise self.error("a pattern")

    def _group_pattern(self) -> ast.pattern:
        patterns, comma = self._items(")", self._as_pattern)
        return patterns[0] if len(patterns) == 1 and not comma else ast.MatchSequence(patterns)

    def _named_pattern(self) -> ast.pattern:
        name = self._identifier("a pattern")
        value: ast.expr = ast.Name(name)
        while self._take("."):
            value = ast.Attribute(value, self._identifier("the name of an attribute"))
        if self._at("("):
            return self._in_brackets("(", ")", lambda: self._class_pattern(value))
        if isinstance(value, ast.Attribute):
            return ast.MatchValue(value)
        return ast.MatchAs(None, _captured(name))

    def _class_pattern(self, cls: ast.expr) -> ast.pattern:
        result = ast.MatchClass(cls, [], [], [])
        while not self._at(")"):
            if self._at_keyword_argument():
                result.kwd_attrs.append(self._identifier())
                self._advance()
                result.kwd_patterns.append(self._as_pattern())
            elif result.kwd_attrs:
                raise self.error("a pattern with a name, as the one before")
            else:
                result.patterns.append(self._as_pattern())
            if not self._take(","):
                break
        return result

    def _mapping_pattern(self) -> ast.pattern:
        result = ast.MatchMapping([], [], None)
        while not self._at("}"):
            if self._take("**"):
                result.rest = self._identifier()
            else:
                result.keys.append(self.expression(Level.SUM))
                self._expect(":")
                result.patterns.append(self._as_pattern())
            if not self._take(","):
                break
        return result


def _captured(name: str) -> str | None:
    return None if name == "_" else name
