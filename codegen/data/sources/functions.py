"""Functions with docstrings, extracted from Python files as self-contained examples.

A source is a Python file, a directory tree, or the running Python's standard library. The
instruction is made from the signature and the docstring; the program is the function without its
docstring, after the module's import statements that it uses. Files are parsed, never imported.

Limits: module-level ``def`` statements only, not methods, nested or async functions. A function
that uses any other name of its module (a constant, a helper, a class) is skipped as not
self-contained.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import io
import os
import platform
import symtable
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.core.errors import ConfigError, InputError
from codegen.core.generation import function_instruction
from codegen.core.python_syntax import first_line, parse, syntax_fault
from codegen.core.records import Example, has_lone_surrogate
from codegen.data.sources import Item, MeasuredSource, Rejected, SourceOptions, file_digest

MAX_FILE_BYTES = 2 * 2**20
_NOT_SOURCE = frozenset({"__pycache__", "site-packages", "node_modules"})
_NOT_STDLIB = frozenset({"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo"})
_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__doc__"}


# Limits on functions. Docstrings do not count as lines.
MIN_LINES, MAX_LINES, MIN_WORDS = 3, 60, 4


@dataclass(slots=True)
class PythonFilesSource(MeasuredSource):
    """The module-level functions with docstrings of a Python file or directory tree.

    Files are read in path order. Hidden directories, caches and installed packages are ignored,
    links to directories are not followed, and links to files elsewhere are skipped.
    """

    root: Path
    spec: str
    keep_docstring: bool = False
    license: str = ""
    kind: str = "python_files"
    prefix: str = ""
    skip: frozenset[str] = _NOT_SOURCE
    version: str = ""

    def describe(self) -> Mapping[str, Any]:
        """Returns the path as given, the rules, the files' digest and any version."""
        return {
            "kind": self.kind,
            "spec": self.spec,
            "min_lines": MIN_LINES,
            "max_lines": MAX_LINES,
            "min_words": MIN_WORDS,
            "keep_docstring": self.keep_docstring,
            "license": self.license,
            "sha256": self._digest(),
            **({"version": self.version} if self.version else {}),
        }

    def __iter__(self) -> Iterator[Item]:
        """Streams the functions, file by file."""
        paths = sorted(_python_files(self.root, self.skip))
        for number, relative in enumerate(paths):
            self._fraction = number / len(paths)
            yield from self._functions(relative)
        self._fraction = 1.0

    def _digest(self) -> str:
        """Returns a hash of the names and contents of all files."""
        whole = hashlib.sha256()
        for relative in sorted(_python_files(self.root, self.skip)):
            try:
                digest = file_digest(self.root / relative)
            except InputError:
                digest = "unreadable"  # the file is rejected later
            whole.update(f"{relative}\x00{digest}\x00".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()

    def _functions(self, relative: str) -> Iterator[Item]:
        name = self.prefix + relative
        if has_lone_surrogate(name):  # a file name that is not UTF-8
            name = name.encode("utf-8", "backslashreplace").decode()
        path = self.root / relative
        is_link = self.kind == "python_files" and path.is_symlink()
        if is_link and not path.resolve().is_relative_to(self.root.resolve()):
            # A downloaded directory must not add the user's other files to the data.
            yield Rejected(name, "link_elsewhere", "it links to a file elsewhere", "skipped")
            return
        try:
            if (size := path.stat().st_size) > MAX_FILE_BYTES:
                yield Rejected(name, "file_too_large", f"{size} bytes", "skipped")
                return
            content = path.read_bytes()
        except OSError as error:
            yield Rejected(name, "unreadable", error.strerror or str(error))
            return
        yield from functions_of(content, name, self.keep_docstring, self.spec, self.license)


def _python_files(root: Path, skip: frozenset[str]) -> Iterator[str]:
    """Yields paths relative to ``root``; the empty path if ``root`` is a file."""
    if root.is_file():
        yield ""
        return

    def fail(error: OSError) -> None:
        raise InputError(f"Cannot read the directory {error.filename}: {error.strerror}.")

    for folder, subfolders, files in os.walk(root, onerror=fail):
        subfolders[:] = [d for d in subfolders if d not in skip and not d.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") and path.is_file():  # not a pipe or a dangling link
                yield path.relative_to(root).as_posix()


def python_files(spec: str, options: SourceOptions) -> PythonFilesSource:
    """Opens the functions of a Python file or directory tree as a source."""
    path = Path(spec)
    prefix = path.name if path.is_file() else ""
    return PythonFilesSource(path, spec, options.keep_docstring, options.license, prefix=prefix)


def stdlib(argument: str, options: SourceOptions) -> PythonFilesSource:
    """Opens the running Python's standard library, without its tests, IDLE, lib2to3 and demos.

    Raises:
        ConfigError: if ``argument`` is not empty.
    """
    if argument:
        raise ConfigError(f"Unknown source 'stdlib:{argument}'.", "Write only: stdlib")
    return PythonFilesSource(
        root=Path(sysconfig.get_paths()["stdlib"]),
        spec="stdlib",
        keep_docstring=options.keep_docstring,
        license="PSF-2.0",
        kind="stdlib",
        prefix="stdlib/",
        skip=_NOT_SOURCE | _NOT_STDLIB,
        version=platform.python_version(),
    )


class _Unusable(Exception):
    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def functions_of(
    source: bytes, path: str, keep_docstring: bool, origin: str, license: str = ""
) -> Iterator[Item]:
    """Yields the module-level functions of one file as examples, or rejections with a reason.

    Args:
        source: the file's bytes, in any encoding that Python accepts.
        path: the file's path for the ids, ``path::function``.
    """
    try:
        text = _decode(source)
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        yield Rejected(path, "syntax_error", str(error))
        return
    try:
        tree = parse(text)
    except SyntaxError as error:
        reason, detail, remedy = syntax_fault(text, error)
        outcome = "skipped" if reason == "newer_python" else "failed"
        yield Rejected(path, reason, f"{detail} {remedy}".strip(), outcome)
        return
    except (ValueError, RecursionError, MemoryError) as error:
        yield Rejected(path, "unparsable", f"{type(error).__name__}: {error}")
        return
    lines = text.splitlines(keepends=True)
    imports = _imports(tree)
    seen: set[str] = set()
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        id_ = f"{path}::{node.name}"
        if id_ in seen:  # redefined later
            id_ = f"{id_}@{node.lineno}"
        seen.add(id_)
        try:
            instruction, program = _extract(node, lines, imports, keep_docstring)
        except _Unusable as unusable:
            yield Rejected(id_, unusable.reason, str(unusable), "skipped")
            continue
        meta = {"path": path, "line": node.lineno, "function": node.name}
        yield Example(id_, instruction, program, "python", origin, license, meta)


def _decode(source: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    # Universal newlines, as Python reads source: "\f" and "\x1c" must not end a line.
    return io.TextIOWrapper(io.BytesIO(source), encoding).read()


def _extract(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
    lines: list[str],
    imports: Mapping[str, tuple[int, ast.stmt]],
    keep_docstring: bool,
) -> tuple[str, str]:
    if isinstance(node, ast.AsyncFunctionDef):
        raise _Unusable("async_function")
    docstring = ast.get_docstring(node)
    if not docstring:
        raise _Unusable("no_docstring")
    if len(docstring.split()) < MIN_WORDS:
        raise _Unusable("short_docstring", docstring)
    bare = without_docstring(node, lines)
    count = bare.count("\n")
    if count < MIN_LINES:
        raise _Unusable("too_short", f"{count} lines")
    if count > MAX_LINES:
        raise _Unusable("too_long", f"{count} lines")
    body = _source(node, lines) if keep_docstring else bare
    header = needed_imports(free_names(bare) - {node.name}, imports)
    program = f"{header}\n\n{body}" if header else body
    return function_instruction(signature_of(node, lines), docstring), program


def _source(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    block = lines[first_line(node) - 1 : node.end_lineno]
    return "".join(block).rstrip() + "\n"


def without_docstring(
    node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str], index: int = 0
) -> str:
    """Returns a module-level function's source without its docstring and following blank lines.

    Args:
        index: the docstring's index among the statements of the body.

    Raises:
        _Unusable: if no statement follows the docstring, or it shares a line with other code.
    """
    if len(node.body) < index + 2:
        raise _Unusable("empty_body")
    doc, following = node.body[index], node.body[index + 1]
    start, end = doc.lineno - 1, doc.end_lineno or doc.lineno
    before = lines[start].encode()[: doc.col_offset]
    after = lines[end - 1].encode()[doc.end_col_offset :].strip()
    if before.strip() or after.startswith(b";") or following.lineno <= end:
        raise _Unusable("unusual_layout", "the docstring shares a line with other code")
    while end < following.lineno - 1 and not lines[end].strip():
        end += 1
    block = lines[first_line(node) - 1 : start] + lines[end : node.end_lineno]
    return "".join(block).rstrip() + "\n"


def signature_of(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """Returns the header ``name(args) -> type`` as written, on one line, without comments."""
    text = "".join(lines[node.lineno - 1 : node.end_lineno])
    depth = 0
    parts: list[str] = []
    previous_end: tuple[int, int] | None = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT):
            continue
        if token.string in "([{" and token.type == tokenize.OP:
            depth += 1
        elif token.string in ")]}" and token.type == tokenize.OP:
            depth -= 1
        if token.string == ":" and token.type == tokenize.OP and depth == 0:
            break
        if previous_end is not None:
            same_line = previous_end[0] == token.start[0]
            gap = token.start[1] - previous_end[1] if same_line else 1
            at_bracket = parts[-1] in "([{" or token.string in ")]}"
            if not same_line and at_bracket:
                gap = 0
            parts.append(" " * gap)
        parts.append(token.string)
        previous_end = token.end
    return "".join(parts).removeprefix("def").strip()


def free_names(program: str) -> set[str]:
    """Returns names that a program reads that are neither bound at module level nor built in.

    Raises:
        _Unusable: if a function assigns a global, which is module state.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = symtable.symtable(program, "<program>", "exec")
    bound = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    names: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables.extend(table.get_children())
        for symbol in table.get_symbols():
            if table is not top and symbol.is_declared_global():
                raise _Unusable("module_state", symbol.get_name())
            if symbol.is_referenced() and (symbol.is_global() or table is top):
                names.add(symbol.get_name())
    return names - bound - _BUILTINS


def _imports(tree: ast.Module) -> dict[str, tuple[int, ast.stmt]]:
    """Maps names bound only by top-level imports to (position, import statement).

    ``import a.b`` and ``import a`` both bind ``a``; the statements are merged into one.
    """
    statements: dict[str, tuple[int, ast.stmt]] = {}
    rebound = _other_bindings(tree)
    for position, node in enumerate(tree.body):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            if alias.name == "*" or name in rebound:
                continue
            if isinstance(node, ast.ImportFrom):
                statement: ast.stmt = ast.ImportFrom(node.module, [alias], node.level)
            else:
                earlier = statements.get(name, (0, None))[1]
                merge = isinstance(earlier, ast.Import) and not alias.asname
                names = [*(earlier.names if merge else []), alias]
                statement = ast.Import(names)
            statements[name] = (position, statement)
    return statements


def _other_bindings(tree: ast.Module) -> set[str]:
    """Returns names that the module binds other than by a plain top-level import."""
    names: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(statement.name)
            continue
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                names.add(node.id)
            elif isinstance(node, ast.alias):
                names.add(node.asname or node.name.split(".")[0])
    return names


def needed_imports(names: set[str], imports: Mapping[str, tuple[int, ast.stmt]]) -> str:
    """Returns the import statements that bind ``names``, in module order.

    Raises:
        _Unusable: if a name has no import (the module defines it), or a relative one.
    """
    if own := sorted(names - imports.keys()):
        raise _Unusable("not_self_contained", f"uses {', '.join(own)}")
    statements: dict[tuple[int, str], list[ast.alias]] = {}
    for name in sorted(names):  # set order differs between processes
        position, statement = imports[name]
        if isinstance(statement, ast.ImportFrom):
            if statement.level or not statement.module:
                raise _Unusable("relative_import", name)
            key = (position, statement.module)
        else:
            key = (position, "")
        statements.setdefault(key, []).extend(statement.names)  # type: ignore[attr-defined]
    rendered = []
    for (_, module), aliases in sorted(statements.items(), key=lambda item: item[0]):
        unique = {(a.name, a.asname): a for a in aliases}
        ordered = [unique[key] for key in sorted(unique, key=lambda k: (k[0], k[1] or ""))]
        if module:
            rendered.append(ast.unparse(ast.ImportFrom(module, ordered, 0)))
        else:
            rendered.extend(ast.unparse(ast.Import([alias])) for alias in ordered)
    return "".join(f"{line}\n" for line in rendered)
