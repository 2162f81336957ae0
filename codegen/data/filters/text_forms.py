r"""The forms in which filters compare texts: words, n-grams, exact form, and syntax form.

*Words* are runs of letters, digits and underscores in lower case, as in datatrove and open-r1:
layout, punctuation and case don't count. An *n-gram* of words is a 64-bit hash, the same on every
machine and in every process. The *exact form* of a program is finer: its tokens in order without
comments, blank lines and spacing, but with the block structure. None of this fails on text that is
not a program, and all of it takes linear time.

The *syntax form* of a Python program is equal for programs that differ in names and layout alone.
Names that a function (or a whole program) binds are numbered in the order of their first use. Parts
without an effect on the result are dropped: comments, docstrings and other bare strings,
annotations, imports at the top level. Names bound elsewhere (builtins, modules) and attributes
stay, because they say what is computed.

Limits of the syntax form: a solution cut into two functions, or a loop written as a comprehension,
has another form. In a program with more than 300,000 nodes, not every function is compared.
"""

from __future__ import annotations

import ast
import hashlib
import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from codegen.python_syntax import UNPARSABLE, parse

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")

# An unclosed string ends with its line, or with the text, so that the search never backtracks.
_STRING = (
    r"[rRbBuUfFtT]{0,2}(?:\"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)|'''(?:[^\\]|\\.)*?(?:'''|\Z)"
    r"|\"(?:[^\"\\\n]|\\.)*+\"?|'(?:[^'\\\n]|\\.)*+'?)"
)
# A skipped backslash before a line's end continues the line.
_TOKEN = re.compile(
    rf"(?P<skip>\#[^\n]*|\\\n|[^\S\n]+)|(?P<newline>\n[^\S\n]*)|{_STRING}|\w+|\S", re.DOTALL
)
_LINE_ENDS = re.compile(r"\r\n?")
_INDENT, _DEDENT = "\x01", "\x02"


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def digest(*parts: str) -> bytes:
    """A 16-byte hash of some texts."""
    # The lengths mark where each part ends.
    text = "".join((",".join(str(len(part)) for part in parts), ":", *parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def exact_form(program: str, language: str = "python") -> str:
    """A program in the form in which exact duplicates are equal.

    Python programs lose comments, blank lines, spaces between tokens, the width of indentation and
    line ends within brackets; other languages lose blank lines and spaces at the ends of lines.
    """
    text = _LINE_ENDS.sub("\n", program)
    if language != "python":
        return "\n".join(line.strip() for line in text.split("\n") if line.strip())
    return "\n".join(_tokens(text))


def _tokens(text: str) -> list[str]:
    """Python's tokens, with marks for line ends and for blocks that begin and end."""
    found: list[str] = []
    widths = [0]  # indentation of each open block
    depth = 0  # number of open brackets
    line: str | None = "\n"  # a line end and indentation that no token has followed yet
    for match in _TOKEN.finditer("\n" + text):
        token = match.group()
        kind = match.lastgroup
        if kind == "skip":
            continue
        if kind == "newline":
            line = token if depth == 0 else line
            continue
        if line is not None:
            width = len(line.expandtabs(8)) - 1
            if width > widths[-1]:
                widths.append(width)
                found.append(_INDENT)
            while width < widths[-1]:
                widths.pop()
                found.append(_DEDENT)
            found.append("")
            line = None
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(0, depth - 1)
        found.append(token)
    return found


@lru_cache(maxsize=1 << 16)
def _word_hash(word: str) -> int:
    data = word.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def ngram_hashes(tokens: list[str], n: int) -> NDArray[np.uint64]:
    """The distinct hashes of all n-grams, sorted; none if there are fewer than n tokens.

    Shape: [distinct n-grams].
    """
    import numpy as np

    count = len(tokens) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    hashes = np.fromiter(map(_word_hash, tokens), np.uint64, len(tokens))
    # A polynomial in an odd constant modulo 2^64, then mixed so that all bits are good.
    mixed = hashes[:count].copy()
    for place in range(1, n):
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed += hashes[place : place + count]
    return np.unique(_mix(mixed))


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014), a bijection on 64 bits."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# --- the syntax form ---------------------------------------------------------------------------

MAX_CHARACTERS = 1_000_000
"""A longer program is not parsed: its tree would take a gigabyte."""

_MAX_VISITS = 300_000  # visits of nodes; nodes of nested functions are visited several times

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef)
_SKIPPED_FIELDS = frozenset({"ctx", "type_comment", "kind", "annotation", "returns"})
_NAME_FIELDS = frozenset({
    (ast.Name, "id"), (ast.arg, "arg"), (ast.ExceptHandler, "name"), (ast.ClassDef, "name"),
    *((scope, "name") for scope in _SCOPES),
})  # fmt: skip


class Unit(NamedTuple):
    """A function, or the whole program.

    Attributes:
        digest: of the form without names, 16 bytes.
        named_digest: of the form with the names, 16 bytes.
        nodes: the number of syntax nodes.
    """

    digest: bytes
    named_digest: bytes
    nodes: int


def syntax_units(program: str) -> list[Unit] | None:
    """Each function, then the whole program if it is more than one function.

    None if the program can't be parsed or is too long.
    """
    if len(program) > MAX_CHARACTERS:
        return None
    try:
        tree = parse(program)
    except UNPARSABLE:
        return None
    tree.body = _kept(tree.body, tree)
    scopes: list[ast.AST] = [node for node in ast.walk(tree) if isinstance(node, _SCOPES)]
    if len(tree.body) != 1 or not isinstance(tree.body[0], _SCOPES):
        scopes.append(tree)
    units: list[Unit] = []
    visits = 0
    for scope in scopes:
        if visits > _MAX_VISITS:
            break
        units.append(_unit(scope))
        visits += units[-1].nodes
    return units


def _unit(scope: ast.AST) -> Unit:
    parts: list[str] = []  # in the order of the source
    names: list[tuple[int, str]] = []  # positions in parts of names that may be bound here
    bound: set[str] = set()
    nodes = 0
    stack: list[object] = [scope]  # not recursive: a long sum is a deep tree
    while stack:
        item = stack.pop()
        if isinstance(item, _MaybeBound):
            names.append((len(parts), item))
            parts.append(item)
        elif isinstance(item, ast.AST):
            nodes += 1
            kind = type(item)
            parts.append("Assign" if kind is ast.AnnAssign else kind.__name__)
            children: list[Any] = []
            for name, is_name in _fields(kind):
                value = getattr(item, name, None)
                if isinstance(value, list):
                    kept = _kept(value, item)
                    children.append(f"{name}[{len(kept)}")
                    children += kept
                elif is_name and value is not None:
                    children.append(_MaybeBound(value))
                    if not (isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)):
                        bound.add(value)
                elif kind is ast.AnnAssign and name == "target":  # as the plain assignment
                    children += ["targets[1", value]
                else:
                    children.append(value)
            stack.extend(reversed(children))
        else:
            parts.append(_constant(item))
    numbers: dict[str, str] = {}
    for place, name in names:
        if name in bound:
            parts[place] = numbers.setdefault(name, f"${len(numbers)}")
    form = digest(*parts)
    return Unit(form, digest(form.hex(), *numbers), nodes)


class _MaybeBound(str):
    """A name that the unit may bind elsewhere."""

    __slots__ = ()


@cache
def _fields(kind: type[ast.AST]) -> tuple[tuple[str, bool], ...]:
    """The fields that count, and whether they hold a name that may be bound."""
    dropped = {"simple"} if kind is ast.AnnAssign else set()
    return tuple(
        (name, (kind, name) in _NAME_FIELDS)
        for name in kind._fields
        if name not in _SKIPPED_FIELDS and name not in dropped
    )


def _constant(value: object) -> str:
    """A leaf of the tree, distinct for each type of value."""
    if type(value) is int:
        return f"{value:#x}"  # Python refuses to write a very long one in decimal
    return repr(value)


def _kept(children: list[Any], parent: ast.AST) -> list[Any]:
    return [child for child in children if not _is_dropped(child, parent)]


def _is_dropped(child: object, parent: ast.AST) -> bool:
    if isinstance(child, ast.Expr):
        return isinstance(child.value, ast.Constant) and isinstance(child.value.value, str)
    if isinstance(child, (ast.Import, ast.ImportFrom)):
        return isinstance(parent, ast.Module)
    return isinstance(child, ast.AnnAssign) and child.value is None
