"""The patterns of MATCH: tokens of UniCode -> Python's AST."""

from __future__ import annotations

import ast

from codegen.methods.unicode.parse_expressions import ExpressionParser
from codegen.methods.unicode.words import SINGLETONS, Level


class PatternParser(ExpressionParser):
    """Reads patterns; the statements' parser extends it."""

    def pattern(self) -> ast.pattern:
        """A whole pattern of a CASE."""
        first = self._as_pattern()
        if not self._at_op(","):
            return first
        patterns = [first]
        while self._take_op(","):
            patterns.append(self._as_pattern())
        return ast.MatchSequence(patterns)

    def _as_pattern(self) -> ast.pattern:
        alternatives = [self._closed_pattern()]
        while self._take_op("|"):
            alternatives.append(self._closed_pattern())
        pattern = ast.MatchOr(alternatives) if len(alternatives) > 1 else alternatives[0]
        if self._take_key("AS"):
            return ast.MatchAs(pattern, self._identifier())
        return pattern

    def _closed_pattern(self) -> ast.pattern:
        token = self._peek()
        if token.kind == "key" and token.value in SINGLETONS:
            self._advance()
            return ast.MatchSingleton(SINGLETONS[token.value])
        if token.kind in ("name", "escaped"):
            return self._named_pattern()
        if token.kind in ("constant", "u_text") or self._at_op("-"):
            return ast.MatchValue(self.expression(Level.SUM))
        if self._at_op("["):
            patterns, _ = self._in_brackets("[", "]", lambda: self._items("]", self._as_pattern))
            return ast.MatchSequence(patterns)
        if self._at_op("("):
            return self._in_brackets("(", ")", self._group_pattern)
        if self._at_op("{"):
            return self._in_brackets("{", "}", self._mapping_pattern)
        if self._take_op("*"):
            return ast.MatchStar(_captured(self._identifier()))
        raise self.error("a pattern")

    def _group_pattern(self) -> ast.pattern:
        patterns, comma = self._items(")", self._as_pattern)
        return patterns[0] if len(patterns) == 1 and not comma else ast.MatchSequence(patterns)

    def _named_pattern(self) -> ast.pattern:
        name = self._identifier("a pattern")
        value: ast.expr = ast.Name(name)
        while self._take_op("."):
            value = ast.Attribute(value, self._identifier("the name of an attribute"))
        if self._at_op("("):
            return self._in_brackets("(", ")", lambda: self._class_pattern(value))
        if isinstance(value, ast.Attribute):
            return ast.MatchValue(value)
        return ast.MatchAs(None, _captured(name))

    def _class_pattern(self, cls: ast.expr) -> ast.pattern:
        result = ast.MatchClass(cls, [], [], [])
        while not self._at_op(")"):
            if self._at_keyword_argument():
                result.kwd_attrs.append(self._identifier())
                self._advance()
                result.kwd_patterns.append(self._as_pattern())
            elif result.kwd_attrs:
                raise self.error("a pattern with a name, as the one before")
            else:
                result.patterns.append(self._as_pattern())
            if not self._take_op(","):
                break
        return result

    def _mapping_pattern(self) -> ast.pattern:
        result = ast.MatchMapping([], [], None)
        while not self._at_op("}"):
            if self._take_op("**"):
                result.rest = self._identifier()
            else:
                result.keys.append(self.expression(Level.SUM))
                self._expect_op(":")
                result.patterns.append(self._as_pattern())
            if not self._take_op(","):
                break
        return result


def _captured(name: str) -> str | None:
    return None if name == "_" else name
