"""Parsing of Python programs; distinguishes broken programs from programs for a newer Python.

CPython's parser knows only its own version's syntax and reports newer syntax as an error. ruff
parses all versions and reports the version that introduced each construct: type
parameters (PEP 695), nested quotes in f-strings (PEP 701), t-strings (PEP 750), ``except`` without
parentheses (PEP 758), and later ones. If ruff reports only such constructs, the program needs a
newer Python; otherwise it is broken.

Limit: syntax newer than the installed ruff is reported as broken.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import warnings
from typing import NamedTuple

from codegen.core.errors import MachineError, SkippedExample

# ruff rules for programs that parse but do not compile.
_REFUSED = "E9,F404,F406,F62,F701,F702,F704,F706,F707,PLE0115,PLE0117,PLE0118,PLE1142"
_TIMEOUT_S = 60.0
_VERSION = re.compile(r"\(syntax was \w+ in Python 3\.(\d+)\)")
TOO_DEEP = "its blocks or expressions are nested too deeply."
# Errors of :func:`parse`; deep nesting may even raise a MemoryError.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def parse(program: str) -> ast.Module:
    """Parses a program without printing warnings about it, such as invalid escapes.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: if Python cannot parse it.
    """
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(program)


def parse_expression(text: str) -> ast.expr:
    """Parses an expression; see :func:`parse`."""
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text, mode="eval").body


def compiles(program: str) -> bool:
    """Returns True if the program compiles. It is not run."""
    with warnings.catch_warnings(action="ignore"):
        try:
            compile(program, "<program>", "exec", dont_inherit=True)
        except (*UNPARSABLE, OverflowError):
            return False
    return True


def parse_example(
    program: str, refusal: type[SkippedExample], *, compiles: bool = False
) -> ast.Module:
    """Parses an example's program.

    Args:
        refusal: the method's error class, raised with the reason ``null_bytes``, ``not_unicode``,
            ``newer_python``, ``too_deep`` or ``syntax_error``.
        compiles: also reject programs that parse but do not compile, such as ``return`` outside
            of a function.
    """
    if "\0" in program:
        raise refusal("null_bytes", "it contains null bytes.")
    try:
        tree = parse(program)
        if compiles:
            with warnings.catch_warnings(action="ignore"):
                compile(tree, "<program>", "exec", dont_inherit=True)
        return tree
    except SyntaxError as error:
        if re.match("too many (levels|nested|statically nested) ", error.msg):
            raise refusal("too_deep", TOO_DEEP) from None
        raise refusal(*syntax_fault(program, error)) from None
    except UnicodeEncodeError:
        raise refusal("not_unicode", "it contains lone surrogates.") from None
    except ValueError as error:
        raise refusal("syntax_error", f"{error}.") from None
    except (RecursionError, MemoryError):
        raise refusal("too_deep", TOO_DEEP) from None


def with_newlines(text: str) -> str:
    r"""Converts all line ends to "\n", as Python does when reading source."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def characters(line: str, column: int) -> int:
    """Converts a column of the syntax tree from UTF-8 bytes to characters."""
    return column if line.isascii() else len(line.encode()[:column].decode(errors="ignore"))


def first_line(node: ast.AST) -> int:
    """Returns the first line of a statement, including decorators."""
    decorators = getattr(node, "decorator_list", ())
    return min([getattr(node, "lineno", 0), *(item.lineno for item in decorators)])


def parameters_of(arguments: ast.arguments) -> list[ast.arg]:
    """Returns the parameters of a function or lambda, ``*args`` and ``**kwargs`` last."""
    starred = (arguments.vararg, arguments.kwarg)
    return [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *(arg for arg in starred if arg is not None),
    ]


class SyntaxFault(NamedTuple):
    """Explanation of a syntax error.

    Attributes:
        reason: ``newer_python`` or ``syntax_error``.
        detail: the problem, in a sentence.
        remedy: the next step, "" if the program must be fixed.
    """

    reason: str
    detail: str
    remedy: str = ""


def syntax_fault(program: str, error: SyntaxError) -> SyntaxFault:
    """Explains an error of :func:`ast.parse` or :func:`compile`."""
    if newer := _newer_syntax(program):
        version, detail = max(newer, key=lambda construct: construct[0])
        remedy = f"Run codegen with Python 3.{version} or newer to use this program."
        return SyntaxFault("newer_python", detail, remedy)
    where = f"line {error.lineno}: " if error.lineno else ""
    return SyntaxFault("syntax_error", f"{where}{error.msg}.")


def _newer_syntax(program: str) -> list[tuple[int, str]]:
    """Returns (minor version, sentence) of each construct that needs a newer Python.

    Empty if all are supported, or if the program is invalid in every version.
    """
    try:
        command = [find_ruff(), "check", "--isolated", "--no-cache", "--ignore-noqa", "--quiet"]
        command += ["--exit-zero", "--output-format=json", f"--select={_REFUSED}"]
        command += [f"--target-version=py3{sys.version_info.minor}", "-"]
        done = subprocess.run(
            command,
            input=program.encode("utf-8"),
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_S,
        )
    except (MachineError, OSError, subprocess.SubprocessError, UnicodeEncodeError):
        return []  # without ruff, all rejections are syntax errors
    messages = []
    for row in json.loads(done.stdout):
        match = _VERSION.search(row["message"])
        if not match or int(match[1]) <= sys.version_info.minor:
            return []
        line = (row.get("location") or {}).get("row", 0)
        messages.append((int(match[1]), f"line {line}: {row['message']}."))
    return messages


def find_ruff() -> str:
    """Returns the path of the ruff executable installed with this Python.

    Raises:
        MachineError: if it is missing.
    """
    missing = MachineError(
        "ruff, which checks Python programs, is not installed.", "Run: pip install ruff"
    )
    try:
        from ruff import find_ruff_bin
    except ImportError:
        try:
            from ruff.__main__ import find_ruff_bin
        except ImportError:
            raise missing from None
    try:
        return find_ruff_bin()
    except FileNotFoundError:
        raise missing from None
