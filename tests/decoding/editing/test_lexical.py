"""The reading of a text up to a cursor; Python's own tokenizer is the oracle for real files."""

from __future__ import annotations

import argparse
import ast
import inspect
import json.decoder
import textwrap

import pytest

from codegen.decoding.editing import LexicalState, read, reads_otherwise
from codegen.decoding.rpg import find_language


@pytest.mark.parametrize(
    ("text", "quote", "brackets"),
    [
        ("x = 1", "", ""),
        ("f(a, [b", "", "(["),
        ("f(a, [b])", "", ""),
        ("s = 'it", "'", ""),
        ("s = 'it\nx", "", ""),
        (r"s = 'it\'s", "'", ""),
        ("s = rb'", "rb'", ""),
        ("s = '''a\n'b'", "'''", ""),
        ("x  # don't (", "#", ""),
        ("x  # don't (\n", "", ""),
        ('f("(", ', "", "("),
        ("'é' + (", "", "("),
        ("x = (1,\ndef f(", "", "("),
        ("", "", ""),
    ],
)
def test_what_is_open(text: str, quote: str, brackets: str) -> None:
    assert read(text).state == LexicalState(quote, brackets)


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("a = 1\nb = 2", "b = 2"),
        ("a = 1\nfoo(b,\n    c", "foo(b,\n    c"),
        ("a = 1\nb = \\\n  2", "b = \\\n  2"),
        ("a = 1\nx = '''\n  text\n", "x = '''\n  text\n"),
        ("foo(\nreturn x", "return x"),
        ("a = 1\n", ""),
        ("a = 1  # (\nb", "b"),
    ],
)
def test_statement_of_python(text: str, statement: str) -> None:
    assert text[read(text).statement :] == statement


def test_statement_where_braces_are_blocks() -> None:
    text = "void f(int a) {\n  g(1);\n  for (i = 0; i < 3; i++) {\n    h(a,\n      b"
    found = read(text, language=find_language("c"))
    assert text[found.statement :] == "\n    h(a,\n      b"
    assert found.state.brackets == "{{("


@pytest.mark.parametrize("module", [argparse, json.decoder, textwrap, inspect])
def test_statements_of_real_files(module: object) -> None:
    """Within each simple statement of a file the reading finds where it starts."""
    text = inspect.getsource(module)  # type: ignore[arg-type]
    assert text.isascii()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    checked = 0
    for node in list(ast.walk(ast.parse(text)))[:: 7 if len(text) < 30_000 else 61]:
        if not isinstance(node, ast.Assign | ast.Return | ast.Expr | ast.Raise):
            continue
        assert node.end_lineno is not None and node.end_col_offset is not None
        end = starts[node.end_lineno - 1] + node.end_col_offset
        first = starts[node.lineno - 1]
        for place in {first + (end - first) // 2, end}:
            assert read(text, place).statement == first
        checked += 1
    assert checked > 5


def test_an_edit_that_changes_how_the_rest_reads() -> None:
    old = "a = 1\nb = 2\nc = 3\n"
    assert not reads_otherwise(old, old.replace("b = 2", "b = foo(2)"))
    assert reads_otherwise(old, old.replace("b = 2", "b = foo(2"))
    assert reads_otherwise(old, old.replace("b = 2", 'b = """'))
    assert not reads_otherwise(old, old.replace("b = 2", "b = 2  # (two"))
    assert not reads_otherwise(old, old + 'd = """')  # nothing stands behind it
