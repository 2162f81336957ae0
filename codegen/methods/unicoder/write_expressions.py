"""Python's AST -> UniCode: expressions and patterns."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from codegen.methods.unicoder import words
from codegen.methods.unicoder.source import ProgramNames, count_nodes
from codegen.methods.unicoder.words import Level, Style

# Index forms with a special meaning; an expression that looks like one is put in parentheses.
# Lower-case forms count in lower-case texts only.
_SENTINEL = re.compile(r"(?:START|END|LAST)(?: - \d+)?")
_SENTINEL_LOWER = re.compile(r"(?:START|END|LAST|start|end|last)(?: - \d+)?")

# Escapes of braces in a template's text and in format specs.
_DOUBLED = str.maketrans({"{": "{{", "}": "}}"})
_ESCAPED = str.maketrans({"{": "\\x7b", "}": "\\x7d"})

Written = tuple[str, Level]


class ExpressionWriter:
    """Writes expressions; each method ``_<node type>`` returns the text and its precedence.

    Attributes:
        uncovered: AST node type -> number of nodes embedded as Python because of that type.
    """

    def __init__(self, style: Style, facts: ProgramNames) -> None:
        self.style = style
        self.uncovered: Counter[str] = Counter()
        self._facts = facts
        self._words = words.UPPER if style.upper else words.LOWER
        self._sentinel = _SENTINEL if style.upper else _SENTINEL_LOWER
        self._binary = {
            kind: (words.cased(symbol, style.upper), level)
            for kind, (symbol, level) in words.BINARY.items()
        }
        self._compare = {
            kind: words.cased(symbol, style.upper) for kind, symbol in words.COMPARE.items()
        }
        self._writers: dict[type[ast.AST], Callable[..., Written]] = {
            kind: getattr(self, f"_{kind.__name__}")
            for kind in (*ast.expr.__subclasses__(), *ast.pattern.__subclasses__())
            if hasattr(self, f"_{kind.__name__}")
        }

    def expression(self, node: ast.AST, level: Level = Level.TEST) -> str:
        """Writes an expression or pattern, parenthesized if it binds weaker than ``level``."""
        text, own = self._writers.get(type(node), self._embedded)(node)
        return f"({text})" if own < level else text

    def name(self, name: str) -> str:
        """Writes a name, escaped if it could be parsed as a keyword."""
        if name in words.RESERVED_FORMS or not words.NAME.fullmatch(name):
            return f"`{name}`"
        return name

    def parameters(self, arguments: ast.arguments) -> str:
        """Writes the parameters of a function, without parentheses."""
        items: list[str] = []
        positional = [*arguments.posonlyargs, *arguments.args]
        without = len(positional) - len(arguments.defaults)
        for place, arg in enumerate(positional):
            default = arguments.defaults[place - without] if place >= without else None
            items.append(self._parameter(arg, default))
            if place + 1 == len(arguments.posonlyargs):
                items.append("/")
        if arguments.vararg:
            items.append("*" + self._parameter(arguments.vararg))
        elif arguments.kwonlyargs:
            items.append("*")
        items += map(self._parameter, arguments.kwonlyargs, arguments.kw_defaults)
        if arguments.kwarg:
            items.append("**" + self._parameter(arguments.kwarg))
        return ", ".join(items)

    def arguments(self, args: Iterable[ast.expr], keywords: Iterable[ast.keyword]) -> str:
        """Writes the arguments of a call or the bases of a class, without parentheses."""
        items = list(map(self.expression, args))
        for keyword in keywords:
            if keyword.arg is None:
                items.append("**" + self.expression(keyword.value, Level.BIT_OR))
            else:
                items.append(f"{self.name(keyword.arg)} = {self.expression(keyword.value)}")
        return ", ".join(items)

    def is_builtin(self, node: ast.expr, name: str) -> bool:
        """Returns True if an expression is a builtin's name that the program does not redefine."""
        return isinstance(node, ast.Name) and node.id == name and name not in self._facts.bound

    def _parameter(self, arg: ast.arg, default: ast.expr | None = None) -> str:
        text = self.name(arg.arg)
        if arg.annotation:
            text += ": " + self.expression(arg.annotation)
        return f"{text} = {self.expression(default)}" if default else text

    def _embedded(self, node: ast.expr) -> Written:
        self.uncovered[type(node).__name__] += count_nodes(node)
        return f'{self._words[words.EMBEDDED]}("{words.escape(ast.unparse(node))}")', Level.POSTFIX

    # Names and constants

    def _Name(self, node: ast.Name) -> Written:
        return self.name(node.id), Level.POSTFIX

    def _Constant(self, node: ast.Constant) -> Written:
        value = node.value
        if isinstance(value, str):
            return f'{node.kind or ""}"{words.escape(value)}"', Level.POSTFIX
        if value is None or isinstance(value, bool):
            return self._words[str(value).upper() if value is not None else "NULL"], Level.POSTFIX
        if isinstance(value, bytes):
            return words.quote_bytes(value), Level.POSTFIX
        if value is ...:
            return "...", Level.POSTFIX
        return words.number(value), Level.POSTFIX

    def _JoinedStr(self, node: ast.JoinedStr) -> Written:
        return f'$"{self._template(node, _DOUBLED)}"', Level.POSTFIX

    def _template(self, node: ast.JoinedStr, braces: Mapping[int, str]) -> str:
        """Writes the parts of a template or a format spec; ``braces`` escapes braces."""
        return "".join(
            words.escape(str(part.value)).translate(braces)
            if isinstance(part, ast.Constant)
            else self._field(part)
            for part in node.values
        )

    def _field(self, part: ast.expr) -> str:
        if not isinstance(part, ast.FormattedValue):
            raise TypeError(f"unexpected part of a template: {type(part).__name__}")
        text = self.expression(part.value)
        if text.startswith("{"):
            text = " " + text  # not an escaped brace
        if part.conversion >= 0:
            text += "!" + chr(part.conversion)
        if isinstance(part.format_spec, ast.JoinedStr):
            text += ":" + self._template(part.format_spec, _ESCAPED)
        return f"{{{text}}}"

    # Operators

    def _BinOp(self, node: ast.BinOp) -> Written:
        symbol, level = self._binary[type(node.op)]
        if isinstance(node.op, ast.Pow):
            left = self.expression(node.left, Level.AWAIT)
            return f"{left} {symbol} {self.expression(node.right, Level.SIGN)}", level
        # A loop: the tree of a long sum is too deep for recursion.
        parts: list[str] = []
        first: ast.expr = node
        while isinstance(first, ast.BinOp) and self._binary[type(first.op)][1] == level:
            parts.append(self.expression(first.right, Level(level + 1)))
            parts.append(self._binary[type(first.op)][0])
            first = first.left
        parts.append(self.expression(first, level))
        return " ".join(reversed(parts)), level

    def _BoolOp(self, node: ast.BoolOp) -> Written:
        word, level = words.BOOLEAN[type(node.op)]
        operands = [self.expression(value, Level(level + 1)) for value in node.values]
        return f" {self._words[word]} ".join(operands), level

    def _UnaryOp(self, node: ast.UnaryOp) -> Written:
        symbol, level = words.UNARY[type(node.op)]
        operand = self.expression(node.operand, level)
        if symbol == "NOT":
            return f"{self._words[symbol]} {operand}", level
        return symbol + operand, level

    def _Compare(self, node: ast.Compare) -> Written:
        parts = [self.expression(node.left, Level.BIT_OR)]
        for op, operand in zip(node.ops, node.comparators, strict=True):
            parts += self._compare[type(op)], self.expression(operand, Level.BIT_OR)
        return " ".join(parts), Level.COMPARE

    def _IfExp(self, node: ast.IfExp) -> Written:
        test, then = (self.expression(part, Level.OR) for part in (node.test, node.body))
        other = self.expression(node.orelse)
        w = self._words
        return f"{w['IF']} {test} {w['THEN']} {then} {w['ELSE']} {other}", Level.TEST

    def _Lambda(self, node: ast.Lambda) -> Written:
        parameters = self.parameters(node.args)
        return f"{self._words['LAMBDA']} ({parameters}) -> {self.expression(node.body)}", Level.TEST

    def _NamedExpr(self, node: ast.NamedExpr) -> Written:
        return f"{self.expression(node.target)} := {self.expression(node.value)}", Level.WALRUS

    def _Starred(self, node: ast.Starred) -> Written:
        return "*" + self.expression(node.value, Level.BIT_OR), Level.POSTFIX

    def _Await(self, node: ast.Await) -> Written:
        return f"{self._words['AWAIT']} {self.expression(node.value, Level.POSTFIX)}", Level.AWAIT

    def _Yield(self, node: ast.Yield) -> Written:
        value = " " + self.expression(node.value) if node.value else ""
        return self._words["YIELD"] + value, Level.YIELD

    def _YieldFrom(self, node: ast.YieldFrom) -> Written:
        w = self._words
        return f"{w['YIELD']} {w['FROM']} {self.expression(node.value)}", Level.YIELD

    # Calls, attributes, indices

    def _Call(self, node: ast.Call) -> Written:
        function = node.func
        lone_generator = (
            len(node.args) == 1 and not node.keywords and isinstance(node.args[0], ast.GeneratorExp)
        )
        if lone_generator:
            arguments = self._generator(node.args[0])
        else:
            arguments = self.arguments(node.args, node.keywords)
        if isinstance(function, ast.Attribute) and self._is_method(function):
            receiver = self.expression(function.value)
            if lone_generator:
                arguments = f"({arguments})"
            both = f"{receiver}, {arguments}" if arguments else receiver
            return f"{self._words[words.METHODS[function.attr]]}({both})", Level.POSTFIX
        return f"{self._called(function)}({arguments})", Level.POSTFIX

    def _called(self, function: ast.expr) -> str:
        if not isinstance(function, ast.Name):
            return self.expression(function, Level.POSTFIX)
        name = function.id
        if name in words.FUNCTIONS and name not in self._facts.bound:
            return self._words[words.FUNCTIONS[name]]
        word = words.operation(name, lower=not self.style.upper)
        if word is None or words.FUNCTIONS.get(name) == word:
            return self.name(name)
        return f"`{name}`"

    def _is_method(self, function: ast.Attribute) -> bool:
        """Returns True if a method call may be written with its receiver as first argument."""
        if function.attr not in words.METHODS or function.attr in self._facts.functions:
            return False
        receiver = function.value
        if isinstance(receiver, ast.Name) and receiver.id in ("self", "cls"):
            return False
        if isinstance(receiver, ast.Call) and self.is_builtin(receiver.func, "super"):
            return False
        while isinstance(receiver, ast.Attribute):
            receiver = receiver.value
        return not (isinstance(receiver, ast.Name) and receiver.id in self._facts.imported)

    def _Attribute(self, node: ast.Attribute) -> Written:
        value = self.expression(node.value, Level.POSTFIX)
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, (int, float)):
            value = f"({value})"  # 1.real would be read as the number 1.
        return f"{value}.{node.attr}", Level.POSTFIX

    def _Subscript(self, node: ast.Subscript) -> Written:
        value = self.expression(node.value, Level.POSTFIX)
        index = node.slice
        if isinstance(index, ast.Tuple) and index.elts:
            items = ", ".join(map(self._index, index.elts))
            return f"{value}[{items}{',' if len(index.elts) == 1 else ''}]", Level.POSTFIX
        return f"{value}[{self._index(index)}]", Level.POSTFIX

    def _index(self, node: ast.expr) -> str:
        w = self._words
        if not isinstance(node, ast.Slice):
            text = self._position(node)
            return w["LAST"] if text == f"{w['END']} - 1" else text
        lower = self._position(node.lower) if node.lower else w["START"]
        upper = self._position(node.upper) if node.upper else w["END"]
        step = f" {w['STEP']} {self.expression(node.step)}" if node.step else ""
        return f"{lower} {w['TO']} {upper}{step}"

    def _position(self, node: ast.expr) -> str:
        match node:
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(k))) if k >= 1:
                if not isinstance(k, bool):
                    return f"{self._words['END']} - {words.number(k)}"
        text = self.expression(node)
        return f"({text})" if self._sentinel.fullmatch(text) else text

    # Displays and comprehensions

    def _Tuple(self, node: ast.Tuple) -> Written:
        comma = "," if len(node.elts) == 1 else ""
        return f"({', '.join(map(self.expression, node.elts))}{comma})", Level.POSTFIX

    def _List(self, node: ast.List) -> Written:
        return f"[{', '.join(map(self.expression, node.elts))}]", Level.POSTFIX

    def _Set(self, node: ast.Set) -> Written:
        return f"{{{', '.join(map(self.expression, node.elts))}}}", Level.POSTFIX

    def _Dict(self, node: ast.Dict) -> Written:
        items = [
            f"{self.expression(key)}: {self.expression(value)}"
            if key
            else "**" + self.expression(value, Level.BIT_OR)
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        return f"{{{', '.join(items)}}}", Level.POSTFIX

    def _ListComp(self, node: ast.ListComp) -> Written:
        return f"[{self._generator(node)}]", Level.POSTFIX

    def _SetComp(self, node: ast.SetComp) -> Written:
        return f"{{{self._generator(node)}}}", Level.POSTFIX

    def _GeneratorExp(self, node: ast.GeneratorExp) -> Written:
        return f"({self._generator(node)})", Level.POSTFIX

    def _DictComp(self, node: ast.DictComp) -> Written:
        item = f"{self.expression(node.key)}: {self.expression(node.value)}"
        return f"{{{item} {self._clauses(node.generators)}}}", Level.POSTFIX

    def _generator(self, node: ast.expr) -> str:
        assert isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp))
        return f"{self.expression(node.elt)} {self._clauses(node.generators)}"

    def _clauses(self, generators: Iterable[ast.comprehension]) -> str:
        w = self._words
        parts: list[str] = []
        for clause in generators:
            if clause.is_async:
                parts.append(w["ASYNC"])
            target = self.expression(clause.target)
            source = self.expression(clause.iter, Level.OR)
            parts.append(f"{w['FOR']} {w['EACH']} {target} {w['IN']} {source}")
            parts += [f"{w['WHERE']} {self.expression(test, Level.OR)}" for test in clause.ifs]
        return " ".join(parts)

    # Patterns of MATCH

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
