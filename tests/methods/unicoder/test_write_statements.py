"""What UniCode looks like: the conventions of the paper and the rules of the writer."""

from __future__ import annotations

import ast
import io
import re
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from codegen.methods.unicoder import STYLES, Style, UntranslatableProgram, to_unicode
from codegen.methods.unicoder.words import FUNCTIONS, METHODS, words_of

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


@pytest.mark.parametrize("program", KEPT)
def test_annotations_that_can_matter_are_kept(program: str) -> None:
    kept = [n for n in ast.walk(ast.parse(program)) if getattr(n, "annotation", None)]
    written = to_unicode(program).text
    assert written.count(": ") - written.count("case: ") >= len(kept)
    assert "cast" not in program or "USE cast" in written


def test_an_import_that_something_else_uses_is_kept() -> None:
    program = "from typing import List, Any\ndef f(x: List, y: Any): return List\n"
    assert to_unicode(program).text.startswith("FROM typing USE List;\n")


def test_comments_stay_where_they_are() -> None:
    program = "# a\nx = 1  # b\nif x:  # c\n    y\n    # d\n"
    assert to_unicode(program).text == "// a\nx = 1; // b\nIF (x) { // c\n    y;\n    // d\n}\n"


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
    with pytest.raises(UntranslatableProgram) as caught:
        to_unicode(program)
    assert caught.value.reason == reason


# Whole programs: what Python's own parser finds in a program is in the text, exactly as often.

_STRING = re.compile(r'\$?[bu]?"(?:[^"\\]|\\.)*"')
_BLOCK = re.compile(r"^ *(/\*.*?\*/);?$", re.MULTILINE | re.DOTALL)
_KEYWORDS = {
    "FUNCTION": (ast.FunctionDef, ast.AsyncFunctionDef), "CLASS": ast.ClassDef,
    "RETURN": ast.Return, "RAISE": ast.Raise, "ASSERT": ast.Assert, "DELETE": ast.Delete,
    "WHILE": ast.While, "FOR": (ast.For, ast.AsyncFor, ast.comprehension),
    "BREAK": ast.Break, "CONTINUE": ast.Continue, "PASS": ast.Pass, "TRY": (ast.Try, ast.TryStar),
    "CATCH": ast.ExceptHandler, "USING": (ast.With, ast.AsyncWith), "LAMBDA": ast.Lambda,
    "YIELD": (ast.Yield, ast.YieldFrom), "GLOBAL": ast.Global, "NONLOCAL": ast.Nonlocal,
}  # fmt: skip


def in_python(tree: ast.Module) -> dict[str, Counter[Any]]:
    """Keywords, names, numbers and strings by CPython's parser and tokenizer."""
    nodes = list(ast.walk(tree))
    docs = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    loops = (ast.For, ast.AsyncFor, ast.While)
    keywords = Counter({k: sum(isinstance(n, v) for n in nodes) for k, v in _KEYWORDS.items()})
    keywords["IF"] = sum(isinstance(n, (ast.If, ast.IfExp)) for n in nodes)
    keywords["IF"] += sum(isinstance(n, loops) and bool(n.orelse) for n in nodes)
    for node in nodes:  # DO ... WHILE has neither the IF nor the BREAK
        if isinstance(node, ast.While) and is_do_while(node):
            keywords -= Counter({"IF": 1, "BREAK": 1})
    tokens = tokenize.generate_tokens(io.StringIO(ast.unparse(tree)).readline)
    names = Counter(t.string for t in tokens if t.type == tokenize.NAME)
    constants = [n for n in nodes if isinstance(n, ast.Constant) and id(n) not in docs]
    return {
        "keywords": +keywords,
        "names": names,
        "numbers": Counter(n.value for n in constants if type(n.value) is int and n.value > 2),
        "strings": Counter(n.value for n in constants if isinstance(n.value, str)),
    }


def is_do_while(node: ast.While) -> bool:
    """``while True`` with a last ``if c: break``, and nothing that continues it."""
    last = ast.unparse(node.body[-1]).splitlines()
    shape = len(node.body) > 1 and last[0].startswith("if ") and last[1:] == ["    break"]
    inner = [n for n in ast.walk(node) if isinstance(n, ast.Continue)]
    return ast.unparse(node.test) == "True" and shape and not node.orelse and not inner


def in_text(text: str) -> dict[str, Counter[Any]]:
    """The same in universal code, by regular expressions."""
    bare = _BLOCK.sub("", text)
    strings = [ast.literal_eval(s) for s in _STRING.findall(bare) if not s.startswith("b")]
    bare = re.sub(r"//.*", "", _STRING.sub(" ", bare))
    names = Counter(re.findall(r"(?<![\w])[^\W\d]\w*", bare))
    upper = Counter({k: names[k] + names[k.lower()] for k in (*_KEYWORDS, "IF")})
    upper["IF"] += names["ELSIF"] + names["elsif"]
    numbers = re.findall(r"(?<![\w.])\d+(?![\w.])", bare)
    return {
        "keywords": +upper,
        "names": names,
        "numbers": Counter(int(n) for n in numbers if int(n) > 2),
        "strings": Counter(strings),
    }


def assert_faithful(program: str, style: Style) -> None:
    tree = ast.parse(program)
    has_annotations = any(getattr(n, "annotation", None) for n in ast.walk(tree))
    if has_annotations or any(isinstance(n, ast.JoinedStr) for n in ast.walk(tree)):
        return
    written, expected = in_text(to_unicode(program, style).text), in_python(tree)
    if not style.upper:  # a variable may have the name of a keyword
        taken = {k for k in expected["keywords"] if expected["names"][k.lower()] > 0}
        taken -= {"IF", "FOR", "WHILE", "RETURN", "BREAK"}
        expected["keywords"] -= Counter(dict.fromkeys(taken, 10**6))
        written["keywords"] -= Counter(dict.fromkeys(taken, 10**6))
    for part in ("keywords", "numbers", "strings"):
        assert written[part] == expected[part], (part, program)
    special = {*FUNCTIONS, *METHODS, *map(str.lower, STYLE_WORDS)}
    for name, count in expected["names"].items():
        if name not in special and name.lower() not in special:
            assert written["names"][name] == count, (name, program)


STYLE_WORDS = words_of("""
    and as assert async await begin break by case catch class continue decorated def del delete div
    do each elif else elsif end except exclusive extends false finally for from function global
    group if import in is lambda last loop_not_broken match mod nonlocal none not null or pass
    raise return returns start step then to true try type use using while where with xor yield
""") | {word.lower() for word in (*FUNCTIONS.values(), *METHODS.values())}


def assert_all_faithful(programs: Sequence[str]) -> None:
    for number, program in enumerate(programs):
        assert_faithful(program, list(STYLES.values())[number % len(STYLES)])


def test_human_eval_is_faithful_and_covered(humaneval_rows: list[dict[str, Any]]) -> None:
    programs = [r["prompt"] + r["canonical_solution"] for r in humaneval_rows]
    assert not any(to_unicode(program).uncovered for program in programs)
    assert_all_faithful(programs)


def test_comments_of_the_library_are_kept() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    for name in ("textwrap", "queue", "shlex", "heapq", "bisect", "graphlib", "csv", "copy"):
        program = (root / f"{name}.py").read_text(encoding="utf-8")
        tokens = tokenize.generate_tokens(io.StringIO(program).readline)
        comments = [t.string[1:] for t in tokens if t.type == tokenize.COMMENT]
        written = to_unicode(program).text
        assert [c for c in comments if f"//{c}\n" not in written] == [], name
