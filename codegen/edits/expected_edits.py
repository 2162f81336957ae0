"""Detects unfinished changes in a Python file, and completes renamings by rule.

A small model is rarely confident that no edit is expected, but static analysis can often tell.
Compared with the file before the edits of the history,

- a used name is no longer or not yet defined (after a renaming, or without an import);
- a name is no longer or not yet used (an import, a parameter, a variable);
- a constant or name that was replaced by a new one remains in the function in which it was
  replaced; or an expression that a new variable replaces remains below the variable;
- a call's number of arguments does not match the called function of the module.

Limits: Python; no result if the file cannot be parsed before or after the edits, nor for names in
files with a star import.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import keyword
import re
import symtable
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.core.records import Change, Edit
from codegen.edits.formats import window_lines, window_text
from codegen.edits.sessions import difference, lines_of

_MOST_LINES = 3000
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_IMPORT = re.compile(r"^(?:import|from)\b", re.MULTILINE)
_STAR = re.compile(r"^\s*from\b.*\bimport \*", re.MULTILINE)
_ADDED = re.compile(r"\s*\w+ = (\S.*)\n")  # assignment to a variable
_NAME = re.compile(r"\w+")
_SHORTEST = 6  # minimum characters of an expression replaced by a variable


def is_predictable(edit: Edit) -> bool:
    """Returns True if a target has no new words and continues the history, in any language.

    Each word that it inserts is in the history, in the window or a Python keyword, and each of
    its hunks inserts or removes a word that the history inserted or removed.
    """
    known = {*keyword.kwlist, *_NAME.findall(window_text(edit))}
    done = set[str]()
    for change in edit.history:
        old, new = {*_NAME.findall(change.old)}, {*_NAME.findall(change.new)}
        known |= old | new
        done |= old ^ new
    lines = window_lines(edit)
    for hunk in difference(lines, lines_of(edit.target or "")):
        old = {*_NAME.findall("".join(lines[hunk.start : hunk.end]))}
        new = {*_NAME.findall("".join(hunk.new))}
        if not new - old <= known or done.isdisjoint(old ^ new):
            return False
    return True


def is_due(edit: Edit) -> bool:
    """Returns True if a change in the window is expected; False if unknown."""
    files = _files(edit)
    if files is None:
        return False
    now, was = files
    window = window_text(edit)
    words = set(re.findall(r"\w+", window))
    fresh = _fresh(edit, now, was)
    top, bottom = edit.window
    return (
        bool(fresh & words)
        or (bool(fresh) and bool(_IMPORT.search(window)))
        or any(unused.name in words for unused in now.unused - was.unused)
        or any(top <= line < bottom for line in _replaced(edit, now, was))
        or any(top <= line < bottom for line in _called_otherwise(now, was))
    )


def due_lines(edit: Edit) -> list[int]:
    """Returns the lines of the file, from 0, where an edit is expected, nearest first.

    Besides the signs of :func:`is_due`, uses of removed attributes count. For a name that was
    never defined, the edit belongs at the end of the imports. Lines in the history are excluded, so
    that the last edits are not undone.
    """
    files = _files(edit)
    if files is None:
        return []
    now, was = files
    fresh = _fresh(edit, now, was)
    lost, unused = now.attributes_lost(was), now.unused - was.unused
    found = {*_replaced(edit, now, was), *_called_otherwise(now, was)}
    for node, scope in _scoped(now.tree, ()):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            is_due = node.id in fresh & was.bound
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            is_due = node.attr in lost
        elif isinstance(node, ast.alias):
            bound = node.asname or node.name.partition(".")[0]
            is_due = _Unused((), bound) in unused or _Unused(scope, bound) in unused
        else:
            name = getattr(node, "arg", None) or getattr(node, "id", None)
            is_due = bool(name) and _Unused(scope, str(name)) in unused
        if is_due:
            found.add(getattr(node, "end_lineno", 0) - 1)
    imports = [n for n in now.tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    if fresh - was.bound and imports:
        found.add((imports[-1].end_lineno or 0) - 1)
    for change in edit.history:
        found -= {*range(change.line, change.line + len(lines_of(change.new)))}
    cursor = edit.text.count("\n", 0, edit.cursor)
    return sorted(found, key=lambda line: (abs(line - cursor), line))


def _files(edit: Edit) -> tuple[_File, _File] | None:
    """Returns the file after and before the edits; None if it cannot be analyzed."""
    old = before(edit)
    if edit.language != "python" or old is None or edit.text.count("\n") > _MOST_LINES:
        return None
    try:
        return _read(edit.text), _read(old)
    except UNPARSABLE:
        return None


@lru_cache(maxsize=2)  # one request parses the same two texts repeatedly
def _read(text: str) -> _File:
    return _File(text)


def _fresh(edit: Edit, now: _File, was: _File) -> set[str]:
    """Returns the undefined names that were defined or unused before."""
    return set() if _STAR.search(edit.text) else now.undefined - was.undefined


def before(edit: Edit) -> str | None:
    """Returns the file before the edits of the history; None if they do not apply."""
    lines = lines_of(edit.text)
    for change in sorted(edit.history, key=lambda change: -change.line):
        new = lines_of(change.new)
        if lines[change.line : change.line + len(new)] != new:
            return None
        lines[change.line : change.line + len(new)] = lines_of(change.old)
    return "".join(lines)


class _Unused(NamedTuple):
    scope: tuple[str, ...]  # names of the enclosing functions and classes
    name: str


class _File:
    """The names of a file.

    Attributes:
        bound: names that the module defines or imports.
        undefined: names that are used but not defined in the file or by Python.
        unused: the module's imports, and functions' parameters and variables, that are never used.
    """

    def __init__(self, text: str) -> None:
        self.tree = parse(text)
        top = symtable.symtable(text, "file", "exec")
        tables = [*_tables(top, ())]
        self.undefined: set[str] = set()
        self.unused: set[_Unused] = set()
        self.bound = {
            symbol.get_name()
            for table, _ in tables
            for symbol in table.get_symbols()
            if (table is top or symbol.is_declared_global())
            and (symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace())
        }
        read: set[str] = set()
        for table, scope in tables:
            for symbol in table.get_symbols():
                name = symbol.get_name()
                is_global = table is top or symbol.is_global()
                if symbol.is_referenced():
                    if is_global:
                        read.add(name)
                        is_known = name in self.bound or hasattr(builtins, name)
                        if not is_known and not name.startswith("__"):
                            self.undefined.add(name)
                elif (
                    table.get_type() == "function"
                    and symbol.is_local()
                    and not symbol.is_namespace()
                ):
                    self.unused.add(_Unused(scope, name))
        for symbol in top.get_symbols():
            if symbol.is_imported() and symbol.get_name() not in read:
                self.unused.add(_Unused((), symbol.get_name()))

    def attributes_lost(self, was: _File) -> set[str]:
        """Returns methods and attributes of ``self`` that the file no longer defines."""
        return _attributes(was.tree) - _attributes(self.tree)

    def function_at(self, line: int) -> tuple[int, int] | None:
        """Returns the lines of the innermost function around a line, from 0, end excluded."""
        found: tuple[int, int] | None = None
        for node in ast.walk(self.tree):
            if isinstance(node, _Function):
                start = min(part.lineno for part in (node, *node.decorator_list)) - 1
                if start <= line < (node.end_lineno or 0) and (not found or start >= found[0]):
                    found = start, node.end_lineno or 0
        return found


def _tables(
    table: symtable.SymbolTable, scope: tuple[str, ...]
) -> Iterator[tuple[symtable.SymbolTable, tuple[str, ...]]]:
    left = [(table, scope)]
    while left:
        table, scope = left.pop()
        yield table, scope
        left += [(child, (*scope, child.get_name())) for child in table.get_children()]


def _attributes(tree: ast.AST) -> set[str]:
    """Returns the methods, the names in class bodies, and all assigned attributes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, _Function | ast.ClassDef):
                    found.add(part.name)
                targets = part.targets if isinstance(part, ast.Assign) else [part]
                targets = [getattr(target, "target", target) for target in targets]
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def _scoped(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[ast.AST, tuple[str, ...]]]:
    """Yields the descendants of a node, with the names of enclosing functions and classes."""
    left = [(node, scope)]
    while left:
        node, scope = left.pop()
        yield node, scope
        if isinstance(node, _Function | ast.ClassDef):
            scope = (*scope, node.name)
        left += [(child, scope) for child in ast.iter_child_nodes(node)]


def _replaced(edit: Edit, now: _File, was: _File) -> Iterator[int]:
    """Yields lines that still have a replaced constant or name."""
    constants = Counter(node.value for node in _constants(was.tree))
    constants.subtract(node.value for node in _constants(now.tree))
    gone = {value for value, count in constants.items() if count > 0}
    known = {word for change in edit.history for word in re.findall(r"\w+", change.old)}
    lines = lines_of(edit.text)
    for change in edit.history:
        function = now.function_at(change.line)
        names = {old for old, new in replaced_words(change).items() if new not in known}
        added = None if change.old else _ADDED.fullmatch(change.new)
        if function is None or not (gone or names or added):
            continue
        start, end = function
        if added and len(added[1]) >= _SHORTEST:
            for line in range(max(start, change.line + 1), end):
                if added[1] in lines[line]:
                    yield line
        for node in ast.walk(now.tree):
            line = getattr(node, "lineno", 0) - 1
            if not start <= line < end:
                continue
            is_name = isinstance(node, ast.Name) and node.id in names
            if is_name or (
                isinstance(node, ast.Constant) and _is_plain(node) and node.value in gone
            ):
                yield line


def _constants(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _is_plain(node):
            yield node


def _is_plain(node: ast.Constant) -> bool:
    """Returns True for an uncommon number or string on one line."""
    is_known = type(node.value) in (int, float, str) and node.lineno == node.end_lineno
    return is_known and node.value not in (0, 1, 2, "")


def _called_otherwise(now: _File, was: _File) -> Iterator[int]:
    """Yields lines of calls with too few or too many arguments for a changed function."""
    sizes, old = _sizes(now.tree), _sizes(was.tree)
    changed = {name: size for name, size in sizes.items() if old.get(name, size) != size}
    for node in ast.walk(now.tree) if changed else ():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in changed
            and not node.keywords
            and not any(isinstance(argument, ast.Starred) for argument in node.args)
            and len(node.args) != changed[node.func.id]
        ):
            yield node.lineno - 1


def _sizes(tree: ast.Module) -> dict[str, int]:
    """Returns parameter counts of the module's functions that have only plain parameters."""
    found = {}
    for node in tree.body:
        if isinstance(node, _Function):
            a = node.args
            if not (a.vararg or a.kwarg or a.defaults or a.kwonlyargs):
                found[node.name] = len(a.args) + len(a.posonlyargs)
    return found


_WORD = re.compile(r"\w+|\s+|[^\w\s]")


def rename(edit: Edit) -> str:
    """Returns the window with words replaced as in the history."""
    text = window_text(edit)
    words = {old: new for change in edit.history for old, new in replaced_words(change).items()}
    if not words:
        return text
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(words))) + r")\b")
    return pattern.sub(lambda found: words[found[0]], text)


def replaced_words(change: Change) -> dict[str, str]:
    """Returns the words replaced one for one; empty if the number of lines changed."""
    old, new = lines_of(change.old), lines_of(change.new)
    found: dict[str, str] = {}
    if len(old) != len(new):
        return found
    for before, after in zip(old, new, strict=True):
        a, b = _WORD.findall(before), _WORD.findall(after)
        for tag, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            if tag == "replace" and j - i == m - k == 1 and (a[i] + b[k]).isidentifier():
                found[a[i]] = b[k]
    return found
