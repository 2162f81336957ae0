"""Refactorings of a Python program that require a consistent next edit.

Each is a list of hunks in writing order; after the first, the others make the program consistent.
Some change the program; others remove a part of it, and the hunks restore it (``parameter``,
``field``, ``import``, ``annotation``).

- ``rename``: a local variable or parameter, at its first occurrence -> its other uses.
- ``signature``: a function's name, or the order of its last two parameters -> its calls.
- ``parameter``: a parameter in the signature -> the argument in the calls.
- ``field``: a parameter of ``__init__`` -> ``self.NAME = NAME``.
- ``import``: the only line that uses a module -> its import. ``deletion``: the line's removal ->
  the import's removal.
- ``variable``: a variable for an expression -> the variable instead of the expression.
- ``literal``: one of several equal constants -> the others.
- ``annotation``: the return type of one function -> the same type on another.
- ``docstring``: a parameter's name -> its entry in the docstring, and its uses.
- ``test``: a test next to a function, from the examples in its docstring -> tests for others.

Uncertain refactorings are skipped: each checks the syntax tree, and :func:`refactored` compiles the
program before and after. The generator runs a linter on many programs at once. Limits: attributes
and names of other files are not tracked; only names, arguments and statements on one line are
moved.
"""

from __future__ import annotations

import ast
import builtins
import copy
import doctest
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from codegen.core.python_syntax import (
    UNPARSABLE,
    characters,
    compiles,
    parameters_of,
    parse,
    parse_expression,
)
from codegen.edits.sessions import Hunk, apply, lines_of, moved

Function = ast.FunctionDef | ast.AsyncFunctionDef
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_BEFORE = ("new", "raw", "base", "current", "main", "total", "local", "parsed", "given", "next")
_BEHIND = ("value", "name", "item", "data", "info", "count", "index", "text", "path", "list")


class Piece(NamedTuple):
    """A replacement of a part of one line, by columns in characters."""

    line: int
    start: int
    end: int
    text: str


class Subject(Protocol):
    """A program that can be refactored."""

    lines: list[str]

    @property
    def refactorings(self) -> Mapping[str, Callable[[Any, random.Random], list[Hunk]]]:
        """Refactorings of the language, by kind."""
        ...

    def accepts(self, text: str) -> bool:
        """Returns True if a text is a valid program of the language."""
        ...


class Program:
    """A program, its lines and its syntax tree.

    Raises:
        SyntaxError, ValueError, RecursionError: if Python cannot parse it, or numbers its lines
            differently.
    """

    def __init__(self, text: str) -> None:
        if re.search(r"\r(?!\n)", text):
            raise ValueError("a line ends with only a carriage return")
        self.text = text
        self.lines = lines_of(text)
        self.tree = parse(text)
        self.nodes = list(ast.walk(self.tree))
        self.functions = [n for n in self.nodes if isinstance(n, Function)]
        self.names = {n.id for n in self.nodes if isinstance(n, ast.Name)} | {
            word for n in self.nodes for word in _named(n)
        }
        # Positions in f-strings are wrong before Python 3.12.
        self.in_strings = {
            id(part) for n in self.nodes if isinstance(n, ast.JoinedStr) for part in ast.walk(n)
        }

    def place(self, node: ast.expr | ast.arg | ast.stmt | ast.keyword) -> Piece | None:
        """Returns a single-line node as a piece with its own text; None if it has several lines."""
        if node.end_lineno != node.lineno or id(node) in self.in_strings:
            return None
        line = self.lines[node.lineno - 1]
        start, end = (
            characters(line, column) for column in (node.col_offset, node.end_col_offset or 0)
        )
        return Piece(node.lineno - 1, start, end, line[start:end])

    def hunks(self, pieces: Iterable[Piece]) -> list[Hunk]:
        """Returns one hunk for each line that the pieces change, from top to bottom."""
        return hunks_of(self.lines, pieces)

    @property
    def refactorings(self) -> Mapping[str, Callable[[Any, random.Random], list[Hunk]]]:
        """Refactorings of this language, by kind."""
        return REFACTORINGS

    def accepts(self, text: str) -> bool:
        """Returns True if Python compiles a text."""
        return compiles(text)

    def calls(self, name: str) -> list[ast.Call]:
        """Returns the calls of a function by its bare name."""
        return [
            n
            for n in self.nodes
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
        ]

    def uses(self, name: str) -> list[ast.Name]:
        """Returns all occurrences of a bare name."""
        return [n for n in self.nodes if isinstance(n, ast.Name) and n.id == name]


def hunks_of(lines: Sequence[str], pieces: Iterable[Piece]) -> list[Hunk]:
    """Returns one hunk for each line that the pieces change, from top to bottom."""
    by_line: dict[int, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_line[piece.line].append(piece)
    found = []
    for number, own in sorted(by_line.items()):
        line = lines[number]
        for piece in sorted(own, reverse=True):
            line = line[: piece.start] + piece.text + line[piece.end :]
        found.append(Hunk(number, number + 1, (line,)))
    return found


def _named(node: ast.AST) -> Iterator[str]:
    for field in ("name", "arg", "attr", "asname"):
        if isinstance(value := getattr(node, field, None), str):
            yield value


def _new_name(program: Program, name: str, rng: random.Random) -> str:
    stem = name.strip("_")
    private = "_" * (len(name) - len(name.lstrip("_")))
    words = [f"{private}{w}_{stem}" for w in _BEFORE]
    words += [f"{private}{stem}_{w}" for w in _BEHIND]
    free = [w for w in words if w not in program.names]
    return rng.choice(free) if free else f"{private}{stem}_2"


def shuffled(items: Iterable, rng: random.Random) -> list:
    """Returns the items in random order."""
    found = list(items)
    rng.shuffle(found)
    return found


def rename(program: Program, rng: random.Random) -> list[Hunk]:
    """Renames a local name of a function."""
    for function in shuffled(program.functions, rng):
        for name in shuffled(sorted(_locals(program, function)), rng):
            if pieces := _renamed(program, function, name, _new_name(program, name, rng)):
                hunks = program.hunks(pieces)
                if len(hunks) >= 2:
                    return hunks
    return []


def _locals(program: Program, function: Function) -> set[str]:
    """Returns a function's parameters and variables whose names have no other meaning."""
    inner = [n for n in ast.walk(function) if n is not function]
    if any(isinstance(n, (ast.Global, ast.Nonlocal, ast.ClassDef)) for n in inner):
        return set()
    parameters = {a.arg for a in parameters_of(function.args)}
    stored = {n.id for n in inner if isinstance(n, ast.Name) and _is_store(n)}
    nested = [part for n in inner if isinstance(n, _SCOPES) for part in ast.walk(n)]
    bound = {n.arg for n in nested if isinstance(n, ast.arg)}
    bound |= {n.id for n in nested if isinstance(n, ast.Name) and _is_store(n)}
    bound |= {
        word
        for n in inner
        if not isinstance(n, (ast.arg, ast.Attribute, ast.keyword))
        for word in _named(n)
    }
    keywords = {n.arg for n in program.nodes if isinstance(n, ast.keyword)}
    found = (parameters - keywords | stored - parameters) - bound - {"self", "cls"}
    return {name for name in found if len(name) > 1}


def _renamed(program: Program, function: Function, name: str, new: str) -> list[Piece]:
    """Returns the renamed occurrences of a local name; empty if it cannot be renamed."""
    places: list[ast.Name | ast.arg] = [a for a in parameters_of(function.args) if a.arg == name]
    places += [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name]
    found = [p for p in map(program.place, places) if p]
    pieces = [p._replace(end=p.start + len(name), text=new) for p in found]
    if len(pieces) != len(places):
        return []
    is_same = _tree(program, program.hunks(pieces)) == _dump(program.tree, {name: new}, function)
    return pieces if is_same else []


def _is_store(name: ast.Name) -> bool:
    return isinstance(name.ctx, (ast.Store, ast.Del))


def _tree(program: Program, hunks: Sequence[Hunk]) -> str:
    """Returns the dump of the tree after the hunks; "" if it does not parse."""
    try:
        return ast.dump(parse("".join(apply(program.lines, sorted(hunks)))))
    except (SyntaxError, ValueError):
        return ""


def _dump(tree: ast.AST, names: Mapping[str, str], within: ast.AST | None = None) -> str:
    """Dumps the tree with bare names and functions renamed, in one node or everywhere."""
    copied = copy.deepcopy(tree)
    if within is not None:
        pairs = zip(ast.walk(tree), ast.walk(copied), strict=True)
        within = next(other for node, other in pairs if node is within)
    renamed = _Renamed(names, is_local=within is not None)
    renamed.visit(copied if within is None else within)
    return ast.dump(copied)


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, str], is_local: bool) -> None:
        self.names, self.is_local = names, is_local

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        if self.is_local:
            node.arg = self.names.get(node.arg, node.arg)
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if not self.is_local:
            node.name = self.names.get(node.name, node.name)
        self.generic_visit(node)
        return node


def signature(program: Program, rng: random.Random) -> list[Hunk]:
    """Renames a module function, or swaps its last two parameters."""
    top = [f for f in program.tree.body if isinstance(f, ast.FunctionDef)]
    for function in shuffled(top, rng):
        name, calls = function.name, program.calls(function.name)
        uses = program.uses(name)
        header = program.lines[function.lineno - 1]
        is_only = len([f for f in program.functions if f.name == name]) == 1
        if not is_only or not calls or len(uses) != len(calls) or name.startswith("__"):
            continue
        a = function.args
        can_swap = len(a.args) >= 2 and not (a.defaults or a.vararg or a.posonlyargs)
        if can_swap and rng.random() < 0.5:
            found = _swapped(program, [a.args[-2], a.args[-1]])
            size = len(a.args)
            for call in calls:
                if len(call.args) != size or any(isinstance(x, ast.Starred) for x in call.args):
                    found = []
                    break
                found += _swapped(program, call.args[-2:])
        else:
            start = header.find(name, header.find("def"))
            new = _new_name(program, name, rng)
            found = [Piece(function.lineno - 1, start, start + len(name), new)]
            pieces = [program.place(use) for use in uses]
            found += [p._replace(text=new) for p in pieces if p]
            names = {name: new}
            if None in pieces or _tree(program, program.hunks(found)) != _dump(program.tree, names):
                continue
        hunks = program.hunks(found)
        if len(hunks) >= 2:
            first = [h for h in hunks if h.start == function.lineno - 1]
            return first + [h for h in hunks if h not in first] if first else []
    return []


def _swapped(program: Program, pair: Sequence[ast.expr | ast.arg]) -> list[Piece]:
    one, other = (program.place(node) for node in pair)
    if not one or not other or one.text == other.text:
        return []
    return [one._replace(text=other.text), other._replace(text=one.text)]


def literal(program: Program, rng: random.Random) -> list[Hunk]:
    """Changes a number or string that occurs on several lines of a function."""
    for function in shuffled(program.functions, rng):
        places: dict[tuple[type, object], list[Piece]] = defaultdict(list)
        docs = {id(n.value) for n in ast.walk(function) if isinstance(n, ast.Expr)}
        for node in ast.walk(function):
            if isinstance(node, ast.Constant) and id(node) not in docs:
                value, place = node.value, program.place(node)
                is_number = type(value) is int and abs(value) > 2
                is_text = type(value) is str and re.fullmatch(r"[A-Za-z_][\w .-]{2,20}", value)
                if place and (is_number or is_text):
                    places[type(value), value].append(place)
        for (kind, value), pieces in shuffled(sorted(places.items(), key=str), rng):
            if kind is int:
                new = str(rng.choice([value * 2, value + 1, value + 10, value * 10]))
            else:
                new = pieces[0].text.replace(str(value), rng.choice(["new_", "my_"]) + str(value))
            if len({p.text for p in pieces}) == 1 and new not in program.text:
                hunks = program.hunks(p._replace(text=new) for p in pieces)
                if len(hunks) >= 2:
                    return hunks
    return []


_SIMPLE = (ast.Name, ast.Attribute, ast.Subscript, ast.BinOp, ast.Constant, ast.operator, ast.Load)


def variable(program: Program, rng: random.Random) -> list[Hunk]:
    """Adds a variable for a call-free expression that occurs in several statements of a block."""
    blocks = [body for n in program.nodes for body in _bodies(n)]
    for body in shuffled(blocks, rng):
        places: dict[str, list[ast.expr]] = defaultdict(list)
        where: dict[int, int] = {}
        for number, statement in enumerate(body):
            if statement.lineno != statement.end_lineno or isinstance(statement, ast.AnnAssign):
                continue
            for node in ast.walk(statement):
                is_path = isinstance(node, (ast.Attribute, ast.Subscript, ast.BinOp))
                if is_path and all(isinstance(part, _SIMPLE) for part in ast.walk(node)):
                    places[ast.dump(node)].append(node)
                    where[id(node)] = number
        for same in shuffled([p for p in places.values() if len(p) >= 2], rng):
            pieces = [p for p in map(program.place, same) if p]
            first, last = where[id(same[0])], where[id(same[-1])]
            if len(pieces) < len(same) or len({p.line for p in pieces}) < 2:
                continue
            read = {n.id for n in ast.walk(same[0]) if isinstance(n, ast.Name)}
            if not read or len(pieces[0].text) < 6 or _changes(body[first : last + 1], read):
                continue
            name = _stem(same[0])
            name = name if name not in program.names else _new_name(program, name, rng)
            line = body[first].lineno - 1
            indent = program.lines[line][: body[first].col_offset]
            if indent.strip() or _inside(pieces):
                continue
            added = Hunk(line, line, (f"{indent}{name} = {pieces[0].text}\n",))
            return [added, *program.hunks(p._replace(text=name) for p in pieces)]
    return []


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    if isinstance(node, Function):
        yield node.body
    elif not isinstance(node, (ast.Module, ast.ClassDef)):
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list) and body and isinstance(body[0], ast.stmt):
                yield body


def _changes(statements: Sequence[ast.stmt], names: set[str]) -> bool:
    """Returns True if statements may change the value of an expression of these names."""
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, *_SCOPES)):
                return True
            if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                inner = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                if inner & names:
                    return True
    return False


def _inside(pieces: Sequence[Piece]) -> bool:
    return any(a.line == b.line and b.start < a.end for a, b in pairwise(sorted(pieces)))


def _stem(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_") or "value"
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        text = str(node.slice.value)
        return text if text.isidentifier() else "item"
    return "item" if isinstance(node, ast.Subscript) else "total"


def deletion(program: Program, rng: random.Random) -> list[Hunk]:
    """Deletes the only line that uses an import, then the import."""
    return without_import(_imports(program), rng)


def without_import(pairs: Iterable[tuple[int, int]], rng: random.Random) -> list[Hunk]:
    """Deletes a use and then its import, for one of the pairs (import line, use line)."""
    found = list(pairs)
    if not found:
        return []
    imported, use = rng.choice(found)
    return [Hunk(use, use + 1, ()), Hunk(imported, imported + 1, ())]


def _imports(program: Program) -> Iterator[tuple[int, int]]:
    """Yields the lines of an import of one name and of its only use, a separate statement."""
    counted = Counter(n.id for n in program.nodes if isinstance(n, ast.Name))
    words = Counter(re.findall(r"\w+", program.text))
    single = {
        s.lineno: s
        for n in program.nodes
        for body in _bodies(n)
        if len(body) > 1
        for s in body
        if isinstance(s, (ast.Expr, ast.Assign, ast.AugAssign)) and s.lineno == s.end_lineno
    }
    for node in program.tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) or len(node.names) != 1:
            continue
        name = node.names[0].asname or node.names[0].name
        if node.lineno != node.end_lineno or counted[name] != 1 or words[name] != 2:
            continue
        (use,) = program.uses(name)
        statement = single.get(use.lineno)
        if statement is None or program.lines[use.lineno - 1][: statement.col_offset].strip():
            continue
        # The statement's value must not be needed.
        targets = {n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and _is_store(n)}
        if all(counted[target] > 1 for target in targets) and targets:
            continue
        yield node.lineno - 1, use.lineno - 1


def without(program: Any, nodes: Sequence[Any], index: int) -> Piece | None:
    """Returns a piece that removes an element of a single-line list, with a comma."""
    places = [program.place(node) for node in nodes]
    if any(p is None or p.line != places[0].line for p in places):  # type: ignore[union-attr]
        return None
    mine = places[index]
    assert mine
    if index:
        before = places[index - 1]
        assert before
        return Piece(mine.line, before.end, mine.end, "")
    if len(places) > 1:
        behind = places[1]
        assert behind
        return Piece(mine.line, mine.start, behind.start, "")
    return mine._replace(text="")


def _whole_arguments(function: Function) -> list[ast.arg] | None:
    """Returns the parameters if each is a name with at most an annotation, else None."""
    a = function.args
    plain = not (a.posonlyargs or a.kwonlyargs or a.vararg or a.kwarg or a.defaults)
    return list(a.args) if plain and a.args else None


def parameter(program: Program, rng: random.Random) -> list[Hunk]:
    """Adds a parameter to the signature, then the argument to the calls."""
    top = [f for f in program.tree.body if isinstance(f, Function)]
    for function in shuffled(top, rng):
        arguments, calls = _whole_arguments(function), program.calls(function.name)
        if not arguments or not calls or len(program.uses(function.name)) != len(calls):
            continue
        if any(len(c.args) != len(arguments) or c.keywords for c in calls):
            continue
        index = rng.randrange(len(arguments))
        lists = [arguments, *(call.args for call in calls)]
        pieces = [without(program, nodes, index) for nodes in lists]
        hunks = program.hunks(p for p in pieces if p)
        if None not in pieces and len(hunks) >= 2 and hunks[0].start == function.lineno - 1:
            return hunks
    return []


def add_field(program: Program, rng: random.Random) -> list[Hunk]:
    """Adds a parameter to ``__init__``, then the attribute that stores it."""
    makers = [f for f in program.functions if f.name == "__init__" and len(f.body) > 1]
    for function in shuffled(makers, rng):
        arguments = _whole_arguments(function)
        for number, argument in shuffled(list(enumerate(arguments or [])), rng):
            name = argument.arg
            uses = [n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name]
            kept = [
                s
                for s in function.body
                if isinstance(s, ast.Assign)
                and s.lineno == s.end_lineno
                and ast.unparse(s) == f"self.{name} = {name}"
            ]
            piece = without(program, arguments or [], number)
            if number and piece and len(kept) == len(uses) == 1:
                line = kept[0].lineno - 1
                return [*program.hunks([piece]), Hunk(line, line + 1, ())]
    return []


def annotation(program: Program, rng: random.Random) -> list[Hunk]:
    """Adds the return type of one function, then the same type to others."""
    by_type: dict[str, list[Piece]] = defaultdict(list)
    for function in program.functions:
        place = program.place(function.returns) if function.returns else None
        if place:
            before = program.lines[place.line][: place.start]
            arrow = before.rstrip().removesuffix("->").rstrip()
            if before.rstrip().endswith("->"):
                by_type[place.text].append(place._replace(start=len(arrow), text=""))
    several = sorted(kind for kind, places in by_type.items() if len(places) > 1)
    if not several:
        return []
    places = by_type[rng.choice(several)]
    first = rng.randrange(len(places) - 1)
    return program.hunks(places[first : first + 3])


_ENTRY = r"\s*(?::param (?:\w+ )?|[*-] )?({name})(?: \([^)]*\))?\s?:.+\n"


def docstring(program: Program, rng: random.Random) -> list[Hunk]:
    """Renames a parameter, then its entry in the docstring and its uses."""
    for function in shuffled(program.functions, rng):
        first = function.body[0]
        if not ast.get_docstring(function, clean=False):
            continue
        rows = range(first.lineno, first.end_lineno or first.lineno)
        own = {a.arg for a in parameters_of(function.args)} & _locals(program, function)
        for name in shuffled(sorted(own), rng):
            entry = re.compile(_ENTRY.format(name=re.escape(name)))
            entries = [(row, m) for row in rows if (m := entry.match(program.lines[row]))]
            new = _new_name(program, name, rng)
            if len(entries) == 1 and (pieces := _renamed(program, function, name, new)):
                row, match = entries[0]
                return program.hunks([*pieces, Piece(row, match.start(1), match.end(1), new)])
    return []


_MOST_EXAMPLES = 6  # maximum docstring examples per function
_BUILTINS = {*dir(builtins)} - {"print"}


def add_test(program: Program, rng: random.Random) -> list[Hunk]:
    """Adds a test after a function, from its docstring's examples, then tests for two others."""
    found: dict[str, Hunk] = {}
    defined = Counter(f.name for f in program.functions)
    defined.update(n.id for n in program.nodes if isinstance(n, ast.Name) and _is_store(n))
    if "__repr__" in defined:  # the displayed value may not be a literal
        return []
    for function in program.tree.body:
        if not isinstance(function, ast.FunctionDef) or not function.end_lineno:
            continue
        if function.decorator_list or defined[function.name] > 1 or not _returns(function):
            continue
        name = f"test_{function.name.lstrip('_')}"
        asserts = _asserts(function) if name not in {*program.names, *found} else []
        line = function.end_lineno
        while re.match(r"[ \t]+#", "".join(program.lines[line : line + 1])):  # skip its comments
            line += 1
        last = program.lines[line - 1]
        end = last[len(last.rstrip("\r\n")) :]
        if asserts and end:
            rows = ["", "", f"def {name}():", *(f"    {line}" for line in asserts)]
            new = tuple(row + end for row in rows)
            found[name] = Hunk(line, line, new)
    first = rng.randrange(max(1, len(found) - 1))
    return list(found.values())[first : first + 3]


def _returns(function: ast.FunctionDef) -> bool:
    """Returns True if a function returns values and prints nothing that looks like one."""
    nodes = list(ast.walk(function))
    prints = any(isinstance(n, ast.Name) and n.id in ("print", "sys") for n in nodes)
    return not prints and any(isinstance(n, ast.Return) and n.value for n in nodes)


def _asserts(function: ast.FunctionDef) -> list[str]:
    """Converts a docstring's examples to assertions; empty unless all can be converted."""
    try:
        examples = doctest.DocTestParser().get_examples(ast.get_docstring(function) or "")
        found = [_assertion(function.name, example) for example in examples]
    except (*UNPARSABLE, TypeError):
        return []
    return found if all(found) and len(found) <= _MOST_EXAMPLES else []


def _assertion(name: str, example: doctest.Example) -> str:
    """Converts an example to an assertion; empty if it is not a call with a literal value.

    The call may be inside calls of built-in functions. Values whose text depends on an order do
    not count as literals.

    Raises:
        SyntaxError, ValueError, TypeError: if it is not an expression with a literal value.
    """
    source, want = example.source.strip(), example.want.strip()
    call, value = parse_expression(source), parse_expression(want)
    names = {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}
    is_call = isinstance(call, ast.Call) and call.end_col_offset == len(source.encode())
    is_plain = is_call and "\n" not in source and not example.options
    is_ordered = not any(isinstance(part, ast.Set) for part in ast.walk(value))
    if names - _BUILTINS != {name} or not is_plain or not is_ordered:
        return ""
    if repr(ast.literal_eval(value)) != want:
        return ""
    if want in ("True", "False"):
        return f"assert {source}" if want == "True" else f"assert not {source}"
    return f"assert {source} == {want}"


REFACTORINGS: Mapping[str, Callable[[Program, random.Random], list[Hunk]]] = {
    "rename": rename,
    "signature": signature,
    "parameter": parameter,
    "field": add_field,
    "import": deletion,
    "deletion": deletion,
    "variable": variable,
    "literal": literal,
    "annotation": annotation,
    "docstring": docstring,
    "test": add_test,
}
_ADDS = ("parameter", "field", "import", "annotation")


def refactored(
    program: Subject, kind: str, rng: random.Random
) -> tuple[list[str], list[Hunk]] | None:
    """Returns a program's lines before a refactoring and its hunks; None if not applicable.

    Args:
        program: the program to change or, if a part is restored, the result.
    """
    refactor = program.refactorings.get(kind)
    hunks = refactor(program, rng) if refactor else []
    if len(hunks) < 2:
        return None
    before, after = list(program.lines), apply(program.lines, sorted(hunks))
    if kind in _ADDS:
        before, after = after, before
        hunks = _inverted(before, after, hunks)
    if not (program.accepts("".join(before)) and program.accepts("".join(after))):
        return None
    return before, hunks


def _inverted(before: Sequence[str], after: Sequence[str], hunks: Sequence[Hunk]) -> list[Hunk]:
    """Returns the hunks from ``before`` to ``after``, ordered as their inverses ``hunks``."""
    found = []
    for hunk in hunks:
        start = moved(hunk, hunks).start
        lines = tuple(after[hunk.start : hunk.end])
        found.append(Hunk(start, start + len(hunk.new), lines))
    assert apply(before, sorted(found)) == list(after)
    return found
