"""The patterns of MATCH: Python's AST -> UniCode."""

from __future__ import annotations

import ast

from codegen.methods.unicode.words import Level
from codegen.methods.unicode.write_expressions import ExpressionWriter, Written


class PatternWriter(ExpressionWriter):
    """Writes patterns by :meth:`expression`, too; the statements' writer extends it."""

    def _MatchValue(self, node: ast.MatchValue) -> Written:
        return self.expression(node.value, Level.SUM), Level.POSTFIX

    def _MatchSingleton(self, node: ast.MatchSingleton) -> Written:
        return self._Constant(ast.Constant(node.value))

    def _MatchSequence(self, node: ast.MatchSequence) -> Written:
        return f"[{', '.join(map(self.expression, node.patterns))}]", Level.POSTFIX

    def _MatchMapping(self, node: ast.MatchMapping) -> Written:
        items = [
            f"{self.expression(key)}: {self.expression(pattern)}"
            for key, pattern in zip(node.keys, node.patterns, strict=True)
        ]
        if node.rest:
            items.append(f"**{self.name(node.rest)}")
        return f"{{{', '.join(items)}}}", Level.POSTFIX

    def _MatchClass(self, node: ast.MatchClass) -> Written:
        items = list(map(self.expression, node.patterns))
        for name, pattern in zip(node.kwd_attrs, node.kwd_patterns, strict=True):
            items.append(f"{self.name(name)} = {self.expression(pattern)}")
        return f"{self.expression(node.cls)}({', '.join(items)})", Level.POSTFIX

    def _MatchStar(self, node: ast.MatchStar) -> Written:
        return f"*{self.name(node.name or '_')}", Level.POSTFIX

    def _MatchAs(self, node: ast.MatchAs) -> Written:
        name = self.name(node.name or "_")
        if node.pattern is None:
            return name, Level.POSTFIX
        pattern = self.expression(node.pattern, Level.BIT_OR)
        return f"{pattern} {self._words['AS']} {name}", Level.TEST

    def _MatchOr(self, node: ast.MatchOr) -> Written:
        parts = [self.expression(part, Level.BIT_AND) for part in node.patterns]
        return " | ".join(parts), Level.BIT_OR
