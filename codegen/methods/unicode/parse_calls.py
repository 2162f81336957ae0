"""Argument lists, indices, parameters and targets: what is around expressions."""

from __future__ import annotations

import abc
import ast

from codegen.methods.unicode.cursor import TokenCursor
from codegen.methods.unicode.lexer import Token
from codegen.methods.unicode.words import FUNCTION_OF, INNER_FORMS, METHOD_OF, Level

_TARGETS = (ast.Name, ast.Attribute, ast.Subscript)


class CallParser(TokenCursor, abc.ABC):
    """Reads what is around expressions; the expressions' parser extends it."""

    @abc.abstractmethod
    def expression(self, level: Level = Level.TEST) -> ast.expr:
        """An expression whose operators bind at least as tightly as ``level``."""

    @abc.abstractmethod
    def clauses(self) -> list[ast.comprehension]:
        """The FOR EACH ... IN ... WHERE ... of a comprehension."""

    def _at_generator(self) -> bool:
        return self._at_key("FOR") or (self._at_key("ASYNC") and self._key_follows("FOR"))

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
        while not self._at_op(closing):
            if self._take_op("**"):
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
            if not self._take_op(","):
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
        if not self._take_inner("TO"):
            if lower is None:
                raise self.error("TO")
            return lower
        if self._at_sentinel("END", "]", ",", "STEP"):
            self._advance()
            upper = None
        else:
            upper = self._position("]", ",", "STEP")
        step = self.expression() if self._take_inner("STEP") else None
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
        if not self._at_op(","):
            return first
        items = [first]
        while self._take_op(",") and not self._ends_expression() and not self._at_op("="):
            items.append(self.expression())
        return ast.Tuple(items)

    def target(self) -> ast.expr:
        """What can be assigned to, or several between commas."""
        token = self._peek()
        target = self.expression(Level.BIT_OR)
        if self._at_op(","):
            items = [target]
            while self._take_op(","):
                items.append(self.expression(Level.BIT_OR))
            target = ast.Tuple(items)
        self.check_target(target, token)
        return target

    def check_target(self, node: ast.expr, token: Token) -> None:
        """Fails at ``token`` if a node can't be assigned to."""
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
        while not self._at_op(closing):
            token = self._peek()
            if self._take_op("/"):
                if after_star or result.posonlyargs or not result.args:
                    raise self.error("a parameter", token)
                result.posonlyargs, result.args = result.args, []
            elif self._take_op("**"):
                result.kwarg = self._parameter(annotated)
            elif self._take_op("*"):
                if after_star:
                    raise self.error("a parameter", token)
                after_star = True
                if not self._at_op(",", closing):
                    result.vararg = self._parameter(annotated)
            else:
                self._plain_parameter(result, after_star, annotated)
            if not self._take_op(","):
                break
        return result

    def _plain_parameter(self, result: ast.arguments, keyword_only: bool, annotated: bool) -> None:
        token = self._peek()
        arg = self._parameter(annotated)
        default = self.expression() if self._take_op("=") else None
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
        annotation = self.expression() if annotated and self._take_op(":") else None
        return ast.arg(name, annotation)
