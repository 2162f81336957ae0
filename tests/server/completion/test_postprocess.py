"""Brackets, stops and filters: hand-made cases as they come up while typing."""

from __future__ import annotations

import inspect
import random
import tokenize
from io import StringIO

import pytest

from codegen.server.completion.postprocess import (
    PAIRS,
    clean,
    indentation,
    rule_for,
    safe_text,
    scan,
    without_extra_closers,
)


def test_the_scanner_agrees_with_pythons_tokenizer_on_real_modules() -> None:
    import argparse
    import json.decoder
    import textwrap

    for module in (argparse, json.decoder, textwrap):
        text = inspect.getsource(module)
        lines = text.splitlines(keepends=True)
        stack: list[str] = []
        starts = {0: 0}
        for line in lines:
            starts[len(starts)] = starts[len(starts) - 1] + len(line)
        for number, token in enumerate(tokenize.generate_tokens(StringIO(text).readline)):
            if token.type == tokenize.OP and token.string in PAIRS:
                stack.append(token.string)
            elif token.type == tokenize.OP and token.string in PAIRS.values():
                stack.pop()
            if token.type == tokenize.OP and number % 5 == 0:
                at = starts[token.end[0] - 1] + token.end[1]
                assert scan(text[:at], "python").brackets == tuple(stack), text[at - 60 : at]


def test_the_statement_begins_outside_of_brackets() -> None:
    text = "x = 1\ny = f(\n    a,\n    [\n"
    assert text[scan(text, "python").statement :] == "y = f(\n    a,\n    [\n"


@pytest.mark.parametrize(
    ("text", "quote", "comment"),
    [
        ("x = 'abc", "'", False),
        ("x = 'abc\ny", "", False),
        ('"""doc\nmore', '"""', False),
        ("x  # (", "", True),
        ("x  # (\ny", "", False),
        (r"'\'' + '", "'", False),
    ],
)
def test_strings_and_comments(text: str, quote: str, comment: bool) -> None:
    found = scan(text, "python")
    assert (found.quote, found.comment, found.brackets) == (quote, comment, ())


def test_tabs_count_to_multiples_of_eight() -> None:
    assert [indentation(line) for line in ("    x", "\tx", "  \tx", "x", "")] == [4, 8, 8, 0, 0]


def ended(prefix: str, suffix: str, text: str, **options: str) -> str:
    """What is left of a text that comes character by character."""
    rule = rule_for(prefix, suffix, "python", **options)  # type: ignore[arg-type]
    for size in range(len(text) + 1):
        if (end := rule.end(text[:size])) is not None:
            return text[:end]
    return text


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "expected"),
    [
        ("x = ", "\n", "1\ny = 2\n", "1"),
        ("x = f(", ")\n", "a, b\nc", "a, b"),
        ("x = ", "\n", "f(\n    a,\n    b,\n)\ny = 2", "f(\n    a,\n    b,\n)"),
        ("x = foo(", " + 1\n", "a,\nb", "a,"),
        ("# say ", "\n", "hello\nx = 1", "hello"),
        ("def f(a):\n    ", "\n", "b = a\n    return b\n\ndef g", "b = a\n    return b"),
        ("def f(a):", "\n", "\n    return a\n\n\nx = 1", "\n    return a"),
        ("def f(a):", "\n    return a\n", " # why\n    b = 1", " # why"),
        ("if a:\n    ", "\n", "x = [\n    1,\n]\ny", "x = [\n    1,\n]"),
        ("if (a) {\n  ", "\n", "x();\n}\nelse {", "x();"),
        ("def f():\n    x = 1\n    ", "\n", "return x\n    y", "return x"),
        ("def f(a):", "\n", "\ndef g():\n", ""),
    ],
)
def test_where_a_suggestion_ends(prefix: str, suffix: str, text: str, expected: str) -> None:
    assert ended(prefix, suffix, text) == expected


def test_never_more_than_a_line_if_asked() -> None:
    assert ended("def f():\n    ", "\n", "a\n    b", multiline="never") == "a"


def test_at_most_so_many_lines() -> None:
    assert ended("def f():\n    ", "\n", "a\n    " * 30).count("\n") == 11


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "expected"),
    [
        ("f(", ")\n", "a)", "a"),
        ("f(", ")\n", "g(a)", "g(a)"),
        ("x = f(a", "\n", "))\n", ")"),
        ("x = [1, ", "]\n", "2]", "2"),
        ("", "x = 1\n", "x = 1", ""),
        ("a = 1\n", "\nreturn a\n", "return a", ""),
        ("a = 1\n", "\nb = 2\nc = 3\n", "z = 0\nb = 2\nc = 3", "z = 0"),
        ("print(", "name)\n", "'hi', name)", "'hi', "),
        ("x = ", "\n", "   \n", ""),
        ("def f():\n", "\n", "    a()\n" * 9, "    a()"),
        ("x", "\n", "\x1b[2J = \u202e1\u200b\x07", "[2J = 1"),
        ("s = '", "'\n", "a)", "a)"),
    ],
)
def test_what_is_shown(prefix: str, suffix: str, text: str, expected: str) -> None:
    assert clean(text, prefix, suffix, "python") == expected.rstrip()


@pytest.mark.parametrize("language", ["python", "javascript", ""])
def test_a_suggestion_is_cut_before_the_first_bracket_that_closes_nothing(language: str) -> None:
    """Against scanning each beginning of the text by itself."""
    rng = random.Random(0)
    pieces = [
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "'",
        '"',
        "x",
        " ",
        "\n",
        "#",
        "//",
        "/*",
        "*/",
        "\\",
        "=",
    ]
    for _ in range(3000):
        prefix, text = ("".join(rng.choices(pieces, k=rng.randrange(9))) for _ in range(2))
        before = scan(prefix, language)
        ends = [at for at, char in enumerate(text) if char in PAIRS.values()]
        counts = [len(scan(prefix + text[: at + 1], language).extra) for at in ends]
        kept = before.quote or before.comment
        cut = next((at for at, n in zip(ends, counts, strict=True) if n > len(before.extra)), None)
        expected = text if kept or cut is None else text[:cut]
        assert without_extra_closers(text, prefix, language) == expected, (prefix, text)


def test_unsafe_characters() -> None:
    assert safe_text("a\tb\r\nc\x00\x1b\x9b\u2066\U000e0041\ud800é漢😀") == "a\tb\r\ncé漢😀"
