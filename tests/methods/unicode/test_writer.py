"""What UniCode looks like: the conventions of the paper and the rules of the writer."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from codegen.errors import ConfigError
from codegen.methods.unicode import (
    STYLES,
    UnsupportedProgram,
    choose_style,
    same_program,
    to_unicode,
)

QUICKSORT = '''\
# Sorts in place.
def quicksort(items, low, high):
    """Sorts items[low:high + 1]."""
    if low < high:
        pivot = partition(items, low, high)  # where it landed
        quicksort(items, low, pivot - 1)
        quicksort(items, pivot + 1, high)
    elif not items:
        return None
    else:
        items[-1] //= 2
'''
IN_STYLE = {
    "braces": """\
// Sorts in place.
FUNCTION quicksort(items, low, high) {
    /* Sorts items[low:high + 1]. */
    IF (low < high) {
        pivot = partition(items, low, high); // where it landed
        quicksort(items, low, pivot - 1);
        quicksort(items, pivot + 1, high);
    } ELSIF (NOT items) {
        RETURN NULL;
    } ELSE {
        items[LAST] DIV= 2;
    }
}
""",
    "begin_end": """\
// Sorts in place.
FUNCTION quicksort(items, low, high) BEGIN
    /* Sorts items[low:high + 1]. */
    IF (low < high) BEGIN
        pivot = partition(items, low, high) // where it landed
        quicksort(items, low, pivot - 1)
        quicksort(items, pivot + 1, high)
    END ELSIF (NOT items) BEGIN
        RETURN NULL
    END ELSE BEGIN
        items[LAST] DIV= 2
    END
END
""",
    "indent_lower": """\
// Sorts in place.
function quicksort(items, low, high)
    /* Sorts items[low:high + 1]. */
    if (low < high)
        pivot = partition(items, low, high) // where it landed
        quicksort(items, low, pivot - 1)
        quicksort(items, pivot + 1, high)
    elsif (not items)
        return null
    else
        items[last] div= 2
""",
}


@pytest.mark.parametrize("name", IN_STYLE)
def test_a_program_in_each_kind_of_style(name: str) -> None:
    written = to_unicode(QUICKSORT, STYLES[name])
    assert written.text == IN_STYLE[name]
    assert written.style == STYLES[name]
    assert written.uncovered == {}


@pytest.mark.parametrize(
    ("python", "unicode"),
    [
        ("for i in range(n): f(i)", "FOR i FROM 0 TO n (EXCLUSIVE) {\n    f(i);\n}"),
        ("for i in range(a, b, -1): f(i)", "FOR i FROM a TO b (EXCLUSIVE) STEP -1 {\n    f(i);\n}"),
        ("for i in range(0, n): f(i)", "FOR EACH i IN RANGE(0, n) {\n    f(i);\n}"),
        ("for a, b in zip(x, y): pass", "FOR EACH (a, b) IN ZIP(x, y) {\n    PASS;\n}"),
        (
            "for x in y: pass\nelse: z",
            "FOR EACH x IN y {\n    PASS;\n}\nIF (LOOP_NOT_BROKEN) {\n    z;\n}",
        ),
        ("while True:\n  a()\n  if x < 1: break", "DO {\n    a();\n} WHILE (NOT x < 1);"),
        ("while True:\n  a()\n  if not x: break", "DO {\n    a();\n} WHILE (x);"),
        # CONTINUE would skip the test in Python, but not in DO ... WHILE.
        (
            "while True:\n  if a: continue\n  if b: break",
            "WHILE (TRUE) {\n    IF (a) {\n        CONTINUE;\n    }\n    IF (b) {\n        BREAK;\n"
            "    }\n}",
        ),
        (
            "try: f()\nexcept (A, B) as e: raise C from e\nfinally: g()",
            "TRY {\n    f();\n} CATCH ((A, B) AS e) {\n    RAISE C FROM e;\n} FINALLY {\n"
            "    g();\n}",
        ),
        ("with open(p) as f, g: pass", "USING (open(p) AS f, g) {\n    PASS;\n}"),
        ("class A(B, metaclass=M): x = 1", "CLASS A EXTENDS B, metaclass = M {\n    x = 1;\n}"),
        ("import a.b as c", "USE a.b AS c;"),
        ("from ..a import b", "FROM ..a USE b;"),
        ("x += [1]", "x += [1];"),
        ("x = x ** 2 % 3 ^ 1", "x = x ^ 2 MOD 3 XOR 1;"),
        ("a < b < c", "a < b < c;"),
        ("x is None and y is not None", "x IS NULL AND y IS NOT NULL;"),
        ("a if b else c", "(IF b THEN a ELSE c);"),
        ("[x for x in y if x for z in x]", "[x FOR EACH x IN y WHERE x FOR EACH z IN x];"),
        ("sum(x for x in y)", "SUM(x FOR EACH x IN y);"),
        ("a[1:], a[:n], a[:], a[::2]",
         "(a[1 TO END], a[START TO n], a[START TO END], a[START TO END STEP 2]);"),
        ("a[-1], a[:-1], a[-3:]", "(a[LAST], a[START TO END - 1], a[END - 3 TO END]);"),
        ("len(a) + a.count(b)", "LENGTH(a) + COUNT(a, b);"),
        ("', '.join(a).split()", 'SPLIT(JOIN(", ", a));'),
        ("f\"{a!r:>{w}} {{}} {b['k']}\"", '$"{a!r:>{w}} {{}} {b["k"]}";'),
        ("lambda a, *b, c=1: a", "LAMBDA (a, *b, c = 1) -> a;"),
    ],
)  # fmt: skip
def test_rules(python: str, unicode: str) -> None:
    assert to_unicode(python).text == unicode + "\n"


@pytest.mark.parametrize(
    ("python", "unicode"),
    [
        # What a program calls LENGTH is not len.
        ("LENGTH(x)", "`LENGTH`(x);"),
        ("length(x)", "length(x);"),
        ("def len(x): pass\nlen(x)", "FUNCTION len(x) {\n    PASS;\n}\nlen(x);"),
        ("IF = NULL", "`IF` = `NULL`;"),
        ("a.IF", "a.IF;"),
        ("end = 1", "end = 1;"),
        ("end", "`end`;"),
        ("a[END - 1]", "a[(END - 1)];"),
        ("a[end - 1]", "a[end - 1];"),
        # A function of a module is no method.
        ("import re\nre.split(a, b)", "USE re;\nre.split(a, b);"),
        ("class A:\n  def add(s): s.x.add(1)", "CLASS A {\n    FUNCTION add(s) {\n"
         "        s.x.add(1);\n    }\n}"),
        ("self.append(x)", "self.append(x);"),
        ("f(EXCLUSIVE)", "f(`EXCLUSIVE`);"),
    ],
)  # fmt: skip
def test_names_that_could_be_mistaken(python: str, unicode: str) -> None:
    assert to_unicode(python).text == unicode + "\n"


def test_a_lower_case_text_that_does_not_show_its_case_is_in_upper_case() -> None:
    assert to_unicode("x = len(y)", STYLES["braces_lower"]).text == "x = LENGTH(y);\n"
    assert to_unicode("x = len(y)", STYLES["braces_lower"]).style == STYLES["braces"]
    assert to_unicode("if x: len(y)", STYLES["indent_lower"]).text == "if (x)\n    length(y)\n"


DROPPED = """\
from typing import Any, Dict, List
limit: int = 3
def f(a: List[int], *b: Any, c: int = 1) -> Dict[str, int]:
    d: int = 1
    self.e: int = 2
    return d
"""
KEPT = [
    "@dataclass\nclass A:\n    x: int = 1\n",
    "def f():\n    x: int\n    return x\n",
    "@register\ndef f(x: int): pass\n",
    "@register\nclass A:\n    def f(x: int): pass\n",
    "def f(x: print(1)): pass\n",
    "import inspect\ndef f(x: int): pass\n",
    "def f(x: int): pass\nprint(f.__annotations__)\n",
    "from pydantic import validate_call\ndef f(x: int): pass\n",
    "from typing import cast\nx = cast(int, y)\n",
]


def test_annotations_that_do_nothing_are_dropped() -> None:
    bare = "limit = 3\ndef f(a, *b, c=1):\n    d = 1\n    self.e = 2\n    return d\n"
    assert to_unicode(DROPPED).text == to_unicode(bare).text
    assert same_program(DROPPED, bare)
    assert not same_program(DROPPED, bare, annotations="all")


@pytest.mark.parametrize("program", KEPT)
def test_annotations_that_can_matter_are_kept(program: str) -> None:
    assert to_unicode(program).text == to_unicode(program, annotations="all").text


def test_an_import_that_something_else_uses_is_kept() -> None:
    program = "from typing import List, Any\ndef f(x: List, y: Any): return List\n"
    assert to_unicode(program).text.startswith("FROM typing USE List;\n")


def test_comments_can_be_left_out() -> None:
    program = "# a\nx = 1  # b\nif x:  # c\n    y\n    # d\n"
    assert to_unicode(program, comments=False).text == "x = 1;\nIF (x) {\n    y;\n}\n"
    with_comments = to_unicode(program).text
    assert with_comments == "// a\nx = 1; // b\nIF (x) { // c\n    y;\n    // d\n}\n"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def", "syntax_error"),
        ("x = '\0'", "null_bytes"),
        ("x = '\ud800'", "not_unicode"),
        ("x = " + "(" * 300 + ")" * 300, "too_deep"),
        ("x = a" + ".b()" * 3000, "too_deep"),
        ("x = " + "-" * 3000 + "a", "too_deep"),
    ],
)
def test_programs_that_cannot_be_written(program: str, reason: str) -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        to_unicode(program)
    assert caught.value.reason == reason


def test_an_unknown_choice_of_annotations() -> None:
    with pytest.raises(ConfigError, match="some"):
        to_unicode("x", annotations="some")  # type: ignore[arg-type]


def test_styles_are_drawn_alike() -> None:
    rng = random.Random(0)
    drawn = Counter(choose_style(rng).name for _ in range(6000))
    assert set(drawn) == set(STYLES)
    # Binomial with p = 1/6: the standard deviation is 29.
    assert all(abs(count - 1000) < 150 for count in drawn.values())
