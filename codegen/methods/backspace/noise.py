"""Sources of wrong tokens: ``uniform`` and ``syntax``.

A noise is created for one target and returns wrong tokens at the sampled positions. The paper
compares uniform tokens with in-domain ones, whose gains are more consistent.

A token is wrong if it is not the next token of the text's tokenization, even if it spells the
next characters: ``foo`` is wrong where ``foo_bar`` is one token, since a model that follows the
tokenizer cannot continue to ``foo_bar``.

The noise ``syntax`` makes a programmer's mistakes in Python: another name in scope, another
attribute, another operator or constant of the same kind, an integer off by one, a line indented one
level more or less. A mistake is made in the text, and the surrounding tokens are re-encoded. It is
used only if that part of the text, encoded separately, has the same tokens as in the whole, so that
the wrong tokens agree with a tokenization of the whole. The run of wrong tokens starts where they
first differ from the correct ones and stops where they agree again. Limits: a text that Python's
tokenizer or parser rejects has no sites; names inside f-strings are sites since Python 3.12.
"""

from __future__ import annotations

import ast
import io
import keyword
import random
import tokenize
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Protocol

from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.methods.backspace.tokens import Codec, Target

_SIBLINGS = (
    ("<", "<=", ">", ">=", "==", "!="),
    ("+", "-", "*", "/", "//", "%", "**"),
    ("+=", "-=", "*=", "/=", "//=", "%="),
    ("&", "|", "^"),
    ("<<", ">>"),
    ("and", "or"),
    ("True", "False", "None"),
    ("break", "continue"),
    ("min", "max"),
    ("any", "all"),
)
_SWAPS = {word: tuple(w for w in group if w != word) for group in _SIBLINGS for word in group}
_MOST_NAMES = 16  # names tried per site, from enclosing functions and from the module
_TOKENS_BEFORE = 4  # preceding tokens that a mistake may merge with, such as line breaks
_MOST_DIGITS = 100  # Python cannot convert much longer integers
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


class Noise(Protocol):
    """Source of wrong tokens for one target."""

    def wrong_tokens(self, at: int, most: int, rng: random.Random) -> list[int]:
        """Returns up to ``most`` ordinary tokens at a clean position; the first is wrong."""
        ...


class Uniform:
    """Uniformly random ordinary tokens."""

    def __init__(self, codec: Codec, target: Target) -> None:
        self._ordinary, self._target = codec.ordinary, target

    def wrong_tokens(self, at: int, most: int, rng: random.Random) -> list[int]:
        right = self._target.clean[at]
        first = rng.choice(self._ordinary)
        while first == right:
            first = rng.choice(self._ordinary)
        return [first, *(rng.choice(self._ordinary) for _ in range(most - 1))]


@dataclass(frozen=True, slots=True)
class MistakeSite:
    """Characters [start, end) that a mistake can replace by ``swaps`` or a name.

    ``names`` is the source of names: ``scope`` at ``line``, ``attributes``, or "" for none.
    """

    start: int
    end: int
    swaps: tuple[str, ...] = ()
    names: str = ""
    line: int = 0


class Syntax:
    """Syntax-aware noise for one target; its sites are found on first use."""

    def __init__(self, codec: Codec, target: Target) -> None:
        self._codec, self._target = codec, target
        self._starts = [start for start, _ in target.offsets]
        self._ends = [end for _, end in target.offsets]

    def wrong_tokens(self, at: int, most: int, rng: random.Random) -> list[int]:
        if at >= len(self._starts):  # EOS
            return []
        mistakes = list(self._mistakes(at, rng))
        rng.shuffle(mistakes)
        for site, new in mistakes:
            if wrong := self._wrong_run(site, new, at):
                return wrong[:most]
        return []

    @cached_property
    def _sites(self) -> list[MistakeSite]:
        return find_sites(self._target.text)

    @cached_property
    def _scopes(self) -> Scopes:
        return Scopes(self._target.text)

    def _mistakes(self, at: int, rng: random.Random) -> Iterator[tuple[MistakeSite, str]]:
        start, end = self._target.offsets[at]
        first = bisect_right(self._sites, start, key=lambda site: site.end)
        last = bisect_left(self._sites, end, key=lambda site: site.start)
        for site in self._sites[first:last]:
            old = self._target.text[site.start : site.end]
            groups = self._scopes.names(site) if site.names else ()
            few = (rng.sample(group, min(len(group), _MOST_NAMES)) for group in groups)
            yield from ((site, new) for new in chain(site.swaps, *few) if new != old)

    def _wrong_run(self, site: MistakeSite, new: str, at: int) -> list[int]:
        """Returns the wrong tokens from position ``at``; empty if tokens first differ elsewhere."""
        text, clean = self._target.text, self._target.clean
        first, last = self._surroundings(site)
        start, end = self._starts[first], self._ends[last - 1]
        old = list(clean[first:last])
        if self._encode(text[start:end]) != old:
            return []
        wrong = self._encode(text[start : site.start] + new + text[site.end : end])
        before = at - first
        if wrong[:before] != old[:before] or wrong[before:][:1] == [clean[at]]:
            return []
        run, right = wrong[before:], old[before:]
        while len(run) > 1 and len(right) > 1 and run[-1] == right[-1]:  # common suffix
            run.pop()
            right.pop()
        return run

    def _surroundings(self, site: MistakeSite) -> tuple[int, int]:
        """Returns the clean tokens [first, last) around a site, without splitting a character."""
        first = max(0, bisect_right(self._ends, site.start) - _TOKENS_BEFORE)
        while first and self._starts[first] < self._ends[first - 1]:
            first -= 1
        last = min(len(self._starts), bisect_left(self._starts, site.end) + 1)
        while last < len(self._starts) and self._starts[last] < self._ends[last - 1]:
            last += 1
        return first, last

    def _encode(self, piece: str) -> list[int]:
        return self._codec.encode(piece)[0]


def find_sites(text: str) -> list[MistakeSite]:
    """Returns the sites of a Python program, sorted by start; empty if it does not parse."""
    try:
        parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text, newline="\n").readline))
    except (*UNPARSABLE, tokenize.TokenError):
        return []
    lines = _line_starts(text)
    sites: list[MistakeSite] = []
    unit = next((t.string for t in tokens if t.type == tokenize.INDENT), "    ")
    previous, begins_line = "", True
    for token in tokens:
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            begins_line = True
            continue
        if token.type in (tokenize.NL, tokenize.COMMENT, tokenize.ENDMARKER):
            continue
        if token.start[0] > len(lines):
            break
        start = lines[token.start[0] - 1] + token.start[1]
        end = start + len(token.string)
        if text[start:end] == token.string:  # else tokenize counts lines differently
            if begins_line and token.start[0] > 1:
                sites.append(_indentation(text, lines[token.start[0] - 1], start, unit))
            if site := _site(token, start, end, after_dot=previous == "."):
                sites.append(site)
        previous, begins_line = token.string, False
    return sorted(sites, key=lambda site: site.start)


def _site(
    token: tokenize.TokenInfo, start: int, end: int, *, after_dot: bool
) -> MistakeSite | None:
    word = token.string
    line = token.start[0]
    if token.type == tokenize.NAME and not keyword.iskeyword(word):
        return MistakeSite(
            start, end, _SWAPS.get(word, ()), "attributes" if after_dot else "scope", line
        )
    if token.type == tokenize.NUMBER and word.isdecimal() and len(word) <= _MOST_DIGITS:
        value = int(word)
        return MistakeSite(start, end, (str(value + 1), *([str(value - 1)] if value else [])))
    if word in _SWAPS and token.type in (tokenize.OP, tokenize.NAME):
        return MistakeSite(start, end, _SWAPS[word])
    return None


def _indentation(text: str, line: int, start: int, unit: str) -> MistakeSite:
    """Returns a site (line break, indentation, first character) to indent or dedent one level."""
    indent, first = text[line:start], text[start]
    others = [unit + indent]
    if indent.startswith(unit):
        others.append(indent.removeprefix(unit))
    return MistakeSite(
        line - 1, start + 1, tuple(text[line - 1] + other + first for other in others)
    )


def _line_starts(text: str) -> list[int]:
    starts = [0]
    starts.extend(at + 1 for at, character in enumerate(text) if character == "\n")
    return starts


class Scopes:
    """The names that a program binds, by function, and its attributes."""

    def __init__(self, text: str) -> None:
        tree = parse(text)
        self._bound_at: dict[int, list[frozenset[str]]] = {}  # line -> names per enclosing function
        self._module = sorted(self._collect(tree.body))
        self._attributes = sorted({n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)})

    def names(self, site: MistakeSite) -> tuple[list[str], ...]:
        """Returns the candidate names at a site, sorted: of enclosing functions, of the module."""
        if site.names == "attributes":
            return (self._attributes,)
        return sorted(frozenset().union(*self._bound_at.get(site.line, ()))), self._module

    def _collect(self, body: list[ast.stmt] | list[ast.expr]) -> set[str]:
        """Returns the names that nodes bind in their scope; records nested functions."""
        bound: set[str] = set()
        todo: list[ast.AST] = list(body)
        while todo:
            node = todo.pop()
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                bound.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                bound |= {(a.asname or a.name).partition(".")[0] for a in node.names} - {"*"}
            elif isinstance(node, ast.ExceptHandler) and node.name:
                bound.add(node.name)
            if isinstance(node, _FUNCTIONS):
                self._note_function(node)
            elif isinstance(node, ast.ClassDef):
                self._collect(node.body)  # class names are not in scope elsewhere
            else:
                todo.extend(ast.iter_child_nodes(node))
        return bound

    def _note_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        arguments = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        names = frozenset(arguments | self._collect(body))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            self._bound_at.setdefault(line, []).append(names)


NOISES: dict[str, Callable[[Codec, Target], Noise]] = {
    "uniform": Uniform,
    "syntax": Syntax,
}
