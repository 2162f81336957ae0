"""Loops that models fall into: one more copy of the same structure, each with something new.

Families after the examples of Dong et al. (RPG, arXiv 2505.10402) and what else of the kind one
sees: rows, getters, ``elif`` chains, assertions, tests, cases, constants, imports, calls. Each is
written twice: ``counted``, where what is new continues by steps (``key_7``, then ``key_8``), and
``worded``, where every copy has a new word. A real program may hold any of them, a few copies long.
"""

from __future__ import annotations

# ruff: noqa: ARG005
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codegen.decoding.rpg.rules import Penalty, Rule

WORDS = ("apple", "river", "stone", "cloud", "tiger", "piano", "maple", "ocean", "candle", "rocket",
         "garden", "silver", "window", "basket", "forest", "bridge")  # fmt: skip
_LOGIT = 20.0  # added to the token that continues with a loop, where a rule multiplies
_STOPS = 4.0  # nats; the penalties below grow up to 8
_MOST = 24  # copies


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop's name, language, head, and its copies."""

    name: str
    language: str
    block: bool  # whether a copy is of several statements
    counted: bool
    head: str
    copies: tuple[str, ...]


def _loop(
    name: str, head: str, copy: Callable[[str, int], str], language: str, block: bool, counted: bool
) -> Loop:
    def word(i: int) -> str:
        return f"item_{i}" if counted else WORDS[i % len(WORDS)]

    made = tuple([copy(word(i), i if counted else i * i % 97) for i in range(1, _MOST + 2)])
    return Loop(
        f"{name}, {'counted' if counted else 'worded'}", language, block, counted, head, made
    )


# name, language, whether a copy is of several statements, head, copy
_FAMILIES: tuple[tuple[str, str, bool, str, Callable[[str, int], str]], ...] = (
    ("rows of a dict", "python", False, "TABLE = {\n", lambda w, i: f'    "{w}": {i},\n'),
    ("rows of texts", "python", False, "TABLE = {\n", lambda w, i: f'    "{w}": "the {w}",\n'),
    ("rows of a list", "python", False, "ROWS = [\n", lambda w, i: f'    ("{w}", {i}, True),\n'),
    ("rows of records", "python", False, "ROWS = [\n",
     lambda w, i: f'    {{"id": {i}, "name": "{w}"}},\n'),
    ("constants", "python", False, "class Kind(Enum):\n", lambda w, i: f"    {w.upper()} = {i}\n"),
    ("imports", "python", False, "import os\n", lambda w, i: f"from app.{w} import run_{w}\n"),
    ("assertions", "python", False, "x = 0\n", lambda w, i: f'assert f("{w}", {i}) == {i + 1}\n'),
    ("prints", "python", False, "x = 0\n", lambda w, i: f'print("{w}", {i})\n'),
    ("assignments", "python", False, "x = 0\n", lambda w, i: f'{w} = make("{w}", {i})\n'),
    ("arguments", "python", False, "p = Parser()\n",
     lambda w, i: f'p.add_argument("--{w}", type=int, default={i})\n'),
    ("insertions", "python", False, "c = connect()\n",
     lambda w, i: f"c.execute(\"INSERT INTO t VALUES ({i}, '{w}')\")\n"),
    ("getters", "python", True, "class A:\n",
     lambda w, i: f"    def get_{w}(self):\n        return self.{w}\n\n"),
    ("setters", "python", True, "class A:\n",
     lambda w, i: f"    def set_{w}(self, value):\n        self.{w} = value\n\n"),
    ("properties", "python", True, "class A:\n",
     lambda w, i: f"    @property\n    def {w}(self):\n        return self._{w}\n\n"),
    ("elif chain", "python", True, "if x == 0:\n    y = 0\n",
     lambda w, i: f'elif x == "{w}":\n    y = {i}\n'),
    ("elif chain of calls", "python", True, "def f(x):\n    if x == 0:\n        g()\n",
     lambda w, i: f'    elif x == {i}:\n        do_{w}(x)\n'),
    ("if chain", "python", True, "def f(x):\n",
     lambda w, i: f'    if x == "{w}":\n        return {i}\n'),
    ("tests", "python", True, "import pytest\n\n",
     lambda w, i: f'def test_{w}():\n    assert f("{w}") == {i}\n\n\n'),
    ("test methods", "python", True, "class TestF(TestCase):\n",
     lambda w, i: f"    def test_{w}(self):\n        r = f({i})\n        self.check(r, {i})\n\n"),
    ("cases", "python", True, "match x:\n", lambda w, i: f'    case "{w}":\n        y = {i}\n'),
    ("try blocks", "python", True, "import sys\n",
     lambda w, i: f"try:\n    run_{w}({i})\nexcept ValueError:\n    print({i})\n"),
    ("else-if chain", "javascript", True, "if (x === 0) {\n  y = 0;\n}\n",
     lambda w, i: f'else if (x === "{w}") {{\n  y = {i};\n}}\n'),
    ("rows of objects", "javascript", False, "const rows = [\n",
     lambda w, i: f'  {{id: {i}, name: "{w}"}},\n'),
    ("getters of Java", "java", True, "class A {\n",
     lambda w, i: f"  public int get{w.title()}() {{\n    return {w};\n  }}\n"),
    ("cases of Go", "go", True, "switch x {\n", lambda w, i: f'case "{w}":\n\ty = {i}\n'),
    ("rows of C++", "cpp", False, "int t[][2] = {\n", lambda w, i: f"  {{{i}, {2 * i}}},\n"),
    ("arms of Rust", "rust", False, "match x {\n", lambda w, i: f'    "{w}" => {i},\n'),
)  # fmt: skip


def loops() -> list[Loop]:
    """All of them."""
    return [
        _loop(name, head, copy, language, block, counted)
        for name, language, block, head, copy in _FAMILIES
        for counted in (True, False)
    ]


def stopped_after(
    rule: Rule, loop: Loop, encode: Callable[[str], list[int]], tokens: Sequence[bytes | None]
) -> int | None:
    """After how many copies the rule takes ``4`` nats from the beginning of the next one; None if
    it never does.
    """
    ids = encode(loop.head + "".join(loop.copies))
    ends = [len(loop.head)]
    for copy in loop.copies:
        ends.append(ends[-1] + len(copy.encode()))
    at = 0
    for token in ids:
        text = tokens[token] or b""
        first = at + len(text) - len(text.lstrip())
        copy = next((n for n, end in enumerate(ends) if end > first), len(ends)) - 1
        begun = ends[copy] if copy >= 0 else 0
        body = loop.copies[copy] if 0 <= copy < len(loop.copies) else ""
        begun += len(body) - len(body.lstrip())
        begins = text.strip() and copy > 0 and at <= begun <= first
        if begins and _taken(rule.penalties(), token) >= _STOPS:
            return copy
        rule.push(token)
        at += len(text)
    return None


def _taken(penalties: Sequence[Penalty], token: int) -> float:
    """What penalties take from a token's logit, in nats, where that is 20."""
    logit = _LOGIT
    for penalty in penalties:
        if token in penalty.ids:
            logit = logit + penalty.amount if penalty.kind == "add" else logit * penalty.amount
    return _LOGIT - logit
