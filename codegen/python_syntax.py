"""Syntax trees of programs, and why Python rejects one: it is broken, or needs a newer Python.

CPython's parser knows the syntax of its own version only, and calls everything newer a syntax
error. ruff parses all versions, and says of each construct which version brought it: type
parameters (PEP 695), nested quotes in f-strings (PEP 701), t-strings (PEP 750), ``except`` without
parentheses (PEP 758), and what comes after them. If these are ruff's only
complaints, the program needs a newer Python; otherwise it is broken.

Limit: the installed ruff decides which future syntax is known.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import warnings
from typing import NamedTuple

from codegen.errors import MachineError, SkippedExample

# What Python's compiler refuses in a program that parses.
_REFUSED = "E9,F404,F406,F62,F701,F702,F704,F706,F707,PLE0115,PLE0117,PLE0118,PLE1142"
_TIMEOUT_S = 60.0
_VERSION = re.compile(r"\(syntax was \w+ in Python 3\.(\d+)\)")
TOO_DEEP = "its blocks or expressions nest too deep."
# What :func:`parse` raises; Python may even run out of memory for a program that nests too deep.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def parse(program: str) -> ast.Module:
    """The syntax tree, without Python's warnings about the program, such as invalid escapes.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: if Python cannot parse it.
    """
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(program)


def parse_expression(text: str) -> ast.expr:
    """As :func:`parse`, for an expression."""
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text, mode="eval").body


def compiles(program: str) -> bool:
    """Whether Python accepts the text as a program. It is not run."""
    with warnings.catch_warnings(action="ignore"):
        try:
            compile(program, "<program>", "exec", dont_inherit=True)
        except (*UNPARSABLE, OverflowError):
            return False
    return True


def parse_example(
    program: str, refusal: type[SkippedExample], *, compiles: bool = False
) -> ast.Module:
    """The syntax tree of an example's program.

    Args:
        refusal: the error of a method, raised with the reason ``null_bytes``, ``not_unicode``,
            ``newer_python``, ``too_deep`` or ``syntax_error``.
        compiles: also refuse what parses but does not compile, such as ``return`` outside of a
            function.
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
    r"""A text with the line ends "\n" alone, as Python itself reads source."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def characters(line: str, column: int) -> int:
    """A column of the syntax tree, which counts bytes of UTF-8, in characters."""
    return column if line.isascii() else len(line.encode()[:column].decode(errors="ignore"))


def first_line(node: ast.AST) -> int:
    """The line on which a statement begins, decorators included."""
    decorators = getattr(node, "decorator_list", ())
    return min([getattr(node, "lineno", 0), *(item.lineno for item in decorators)])


def parameters_of(arguments: ast.arguments) -> list[ast.arg]:
    """The parameters of a function or lambda, those with stars last."""
    starred = (arguments.vararg, arguments.kwarg)
    return [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *(arg for arg in starred if arg is not None),
    ]


class SyntaxFault(NamedTuple):
    """Why a program is rejected.

    Attributes:
        reason: ``newer_python`` or ``syntax_error``.
        detail: what is wrong, in a sentence.
        remedy: what to do, "" if nothing but to repair the program.
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
    """The constructs that need a newer Python, each with its minor version and a sentence.

    Empty if there are none, or the program has errors that no version accepts.
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
        return []  # without ruff, every rejected program is a syntax error
    found = []
    for row in json.loads(done.stdout):
        match = _VERSION.search(row["message"])
        if not match or int(match[1]) <= sys.version_info.minor:
            return []
        line = (row.get("location") or {}).get("row", 0)
        found.append((int(match[1]), f"line {line}: {row['message']}."))
    return found


def find_ruff() -> str:
    """The path of the ruff executable that is installed beside this Python.

    Raises:
        MachineError: if there is none.
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
