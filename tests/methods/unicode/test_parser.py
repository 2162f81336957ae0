"""Reading UniCode: what is taken, what is refused, and where the error is said to be."""

from __future__ import annotations

import ast

import pytest

from codegen.methods.unicode import STYLES, UniCodeSyntaxError, to_python


def test_the_look_of_the_paper() -> None:
    """C-like braces, lower-case keywords, upper-case names, no space before the brace."""
    text = (
        "FUNCTION QUICKSORT(Arr, LOW, HIGH){\n"
        "    if (LOW < HIGH) { // more than one\n"
        "        PIVOT = PARTITION(Arr, LOW, HIGH);\n"
        "        QUICKSORT(Arr, LOW, PIVOT - 1);\n"
        "    }\n"
        "}\n"
    )
    assert to_python(text) == (
        "def QUICKSORT(Arr, LOW, HIGH):\n"
        "    if LOW < HIGH:  # more than one\n"
        "        PIVOT = PARTITION(Arr, LOW, HIGH)\n"
        "        QUICKSORT(Arr, LOW, PIVOT - 1)\n"
    )


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("FOR i FROM 1 TO n {\n    f(i)\n}", "for i in range(1, n + 1): f(i)"),
        ("FOR i FROM n TO 1 STEP -1 {\n f(i)\n}", "for i in range(n, 1 - 1, -1): f(i)"),
        ("FOR i FROM 0 TO n (EXCLUSIVE) {\n f(i)\n}", "for i in range(n): f(i)"),
        ("FOR x IN y {\n f(x)\n}", "for x in y: f(x)"),
        ("IF (a) { b } ELSE IF (c) { d; e } ELSE { }",
         "if a: b\nelif c:\n  d\n  e\nelse: pass"),
        ("IF a THEN\n  b\nELSE\n  c", "if a: b\nelse: c"),
        ("IF a:\n  b\nELSE:\n  c", "if a: b\nelse: c"),
        ("IF (a) {\n b\n}\nELSE {\n c\n}", "if a: b\nelse: c"),
        ("WHILE x > 0 BEGIN\n x -= 1\nEND", "while x > 0: x -= 1"),
        ("a, b = b, a", "a, b = b, a"),
        ("RETURN a, b", "return a, b"),
        ("x = [\n    1,\n    2, // two\n]\ny", "x = [1, 2]\ny"),
        ("x = {\n    'a': 1,\n}", "x = {'a': 1}"),
        ("x = LENGTH(y)", "x = len(y)"),
        ("x = length(y)", "x = length(y)"),
        ("if (x) { length(y) }", "if x: len(y)"),
        ("if (x) { LENGTH(y) }", "if x: len(y)"),
        ("IF (x) { length(y) }", "if x: length(y)"),
        ('VERBATIM("if x:\\n    y")', "if x:\n    y"),
        ('x = VERBATIM("a[0]") + 1', "x = a[0] + 1"),
        ("", ""),
    ],
)  # fmt: skip
def test_ways_to_write(text: str, python: str) -> None:
    assert ast.dump(ast.parse(to_python(text))) == ast.dump(ast.parse(python))


def test_the_case_can_be_told() -> None:
    assert to_python("x = length(y)", STYLES["indent_lower"]) == "x = len(y)\n"
    assert to_python("x = length(y)", STYLES["indent"]) == "x = length(y)\n"


@pytest.mark.parametrize(
    ("text", "line", "column", "expected"),
    [
        ("x = 1\nIF (x {", 2, 7, "expected ')'"),
        ("x = ", 1, 5, "an expression"),
        ("RETURN 1 2", 1, 10, "the end of the statement"),
        ("IF (x) {\n    y", 2, 6, "the end of the block"),
        ("`a b` = 1", 1, 1, "an identifier"),
        ("x = def", 1, 5, "an identifier"),
        ("1 = x", 1, 1, "assigned to"),
        ("(a, f()) = x", 1, 1, "assigned to"),
        ("FUNCTION f(a = 1, b) {\n PASS\n}", 1, 19, "a default value"),
        ('x = "abc', 1, 5, "does not end"),
        ("/* abc", 1, 1, "expected */"),
        ('x\ny = $"{a', 2, 9, "expected }"),
        ('$"{a!z}"', 1, 6, "r, s or a"),
        ("USE", 1, 4, "the name of a module"),
        ("x = APPEND()", 1, 5, "as first argument"),
        ("TRY {\n x\n}", 3, 2, "CATCH or FINALLY"),
        ("DO {\n x\n}", 3, 2, "WHILE"),
        ("DO {\n IF (x) { CONTINUE }\n y\n} WHILE (z)", 1, 1, "no CONTINUE"),
        ("  x = 1", 1, 3, "not indented"),
        ("IF (x)\ny", 2, 1, "an indented block"),
        ("IF (x)\n    y\n  z", 3, 3, "not indented"),
        ("MATCH (x) {\n y\n}", 2, 2, "CASE"),
        ("x = 08", 1, 5, "bad constant"),
        ('x = "\\UFFFFFFFF"', 1, 5, "bad constant"),
        ('x = b"\u0100"', 1, 5, "bad constant"),
        ("DECORATED BY x\ny", 2, 1, "FUNCTION or CLASS"),
        ('VERBATIM("1 +")', 1, 9, "Python"),
        ("a ? b", 1, 3, "'?'"),
        ("x\n}", 2, 1, "an expression"),
        ("x\nMATCH (x) {\n CASE -y { z }\n}", 2, 1, "not a valid Python program"),
        ("f(a) = 1;", 1, 1, "assigned to"),
        ("(" * 5000, 1, None, "too deep"),
        ("IF (x) {\n" * 3000, None, None, "too deep"),
        ("-" * 5000 + "x", 1, None, "too deep"),
    ],
)
def test_errors(text: str, line: int | None, column: int | None, expected: str) -> None:
    with pytest.raises(UniCodeSyntaxError) as caught:
        to_python(text)
    assert expected in caught.value.detail
    assert line in (None, caught.value.line)
    assert column in (None, caught.value.column)
    assert f"line {caught.value.line}, column {caught.value.column}" in str(caught.value)
