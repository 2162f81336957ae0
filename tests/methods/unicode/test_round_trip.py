"""Python -> UniCode -> Python: the AST comes back exactly, whatever the program and the style."""

from __future__ import annotations

import ast
import gzip
import io
import json
import random
import sysconfig
import time
import tokenize
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.methods.unicode import STYLES, Style, UnsupportedProgram, to_python, to_unicode

EVERY_STYLE = [pytest.param(style, id=name) for name, style in STYLES.items()]


def dump(program: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.dump(ast.parse(program))


def comments_of(program: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(program).readline)
    return sorted(token.string for token in tokens if token.type == tokenize.COMMENT)


def comes_back(program: str, style: Style) -> bool:
    written = to_unicode(program, style, annotations="all")
    return dump(to_python(written.text)) == dump(program)


@pytest.mark.parametrize("style", EVERY_STYLE)
def test_human_eval(style: Style, humaneval_rows: list[dict[str, Any]]) -> None:
    programs = [row["prompt"] + row["canonical_solution"] for row in humaneval_rows]
    assert len(programs) == 164
    assert [p for p in programs if not comes_back(p, style)] == []


@pytest.mark.slow
@pytest.mark.parametrize("style", EVERY_STYLE)
def test_mbpp(style: Style, data_folder: Path) -> None:
    with gzip.open(data_folder / "mbpp" / "mbpp.jsonl.gz", "rt", encoding="utf-8") as file:
        programs = [json.loads(line)["code"] for line in file]
    assert len(programs) == 974
    assert [p for p in programs if not comes_back(p, style)] == []


def stdlib_paths() -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)


def check_files(paths: Sequence[Path], style: Style) -> int:
    """Checks AST and comments of all files that are Python; returns how many those are."""
    count = 0
    for path in paths:
        try:
            program = path.read_bytes().decode("utf-8")
            original = dump(program)
        except (UnicodeDecodeError, SyntaxError, ValueError):
            continue  # written so, to test Python
        again = to_python(to_unicode(program, style, annotations="all").text)
        assert dump(again) == original, path
        assert comments_of(again) == comments_of(program.replace("\r", "")), path
        count += 1
    return count


@pytest.mark.slow
def test_stdlib_sample() -> None:
    rng = random.Random(0)
    paths = stdlib_paths()
    hard = [p for p in paths if p.name in ("test_fstring.py", "test_grammar.py", "test_patma.py")]
    for number, path in enumerate([*hard, *rng.sample(paths, 12)]):
        check_files([path], list(STYLES.values())[number % len(STYLES)])


@pytest.mark.long
@pytest.mark.parametrize("style", EVERY_STYLE)
def test_stdlib(style: Style) -> None:
    paths = stdlib_paths()
    assert check_files(paths, style) > 0.95 * len(paths) > 1000


# Each line or block is a program of its own; most are forms that a careless grammar confuses.
FORMS = r"""
f"{x:{{}}}"
f"{ {1, 2} }{ {'a': 1}['a'] }{x!r}{x!s:>{w}.{p}}{'a' 'b'}{x:%Y-%m-%d}{x:{w!r}}"
f"{{}}{'{'}}}" ; f"{x = !r:>5}{(lambda: 1)()}{(y := 5)}{x:=5}{a[1:2]}{a != b}{3.4:10}"
f"result: {value:{width:0}.{precision:1}}"
x = {}; y = {1}; z = {**a, 'b': 2}; w = {*a}; v = [*a, *b]
[a if b else c for d in (e if f else g) if (h if i else j)]
(not a).b; (-a) ** b; -a ** b; a ** -b; (a ** b) ** c; a ** b ** c; not (a and b) or c
(a or b) and c; (a == b) == c; a == (b == c); a in b not in c is not d; a < b <= c != d
(a, b)[0]; (a,); (); a[()]; a[1,]; a[1:2, ::3, ...]; a[b := 1]; a[*b]; a[-1, -2]; a[-1:]; a[:-1]
a[-0]; a[-True]; a[--1]; a[-1.0]; START = 1; a[START]; a[START:END]; a[END - 1]; a[LAST]; a[last]
a[start:end]; a[end - 1:end - 2:END - 3]; a[(END - 1) + 2]; a[TO]; a[TO:TO:STEP]; a[to:to]
LENGTH(x); length(x); append(x, 1); APPEND; f(LENGTH=1); x.LENGTH(y); x.append(*a); x.append()
x.append(k=1); x.append(y for y in z); sum(y for y in z); sum((y for y in z), 1)
IF = 1; x.IF; f(IF=2); IF.x; EXCLUSIVE = 1; f(EXCLUSIVE); f("EXCLUSIVE"); null = true
for each in range(3): pass
for each in x: pass
for EACH in range(TO, TO): pass
for i in range(0, n, 1): pass
for i in range(*a): pass
for i in range(): pass
for (a, *b), c[0] in x: pass
for x in *a, b: pass
case = 1; case(x); match(x); match = 1; end; end - 1; end(x); END = 2; use.x(); use: int = 3; do
do: int; begin; type = 3; type(x); delete[0] = 1; delete(x); function = lambda: 0; using, catch = 1
while True:
    x
    if not not y: break
while True:
    x
    if y: break
else: z
while True:
    for a in b: pass
    else: continue
    if y: break
for x in y: pass
if (LOOP_NOT_BROKEN): pass
try: pass
finally: catch(x)
(x): int = 1; x.y: int; x[0]: int = 2; x: int
a += (yield); a @= b; a ^= b; a **= b; a //= b; a %= b; a >>= b; a & b | c; div % mod; xor ^ xor
assert (a, b); assert a, b
u"abc"; u''; b"\x00\xff\"'"; "\ud800\U0010ffff\x85\u2028é"; 1e400; 1e400j; 3j; 0xffff; 10**100; .5
"with */ end"; " "; ""; "\n"; " a"; "a "; "a\n  "; "\na\n"; "tab\there"; "a\rb"; "**"; "/"; "/*"
from . import use
from .use import use as USE
from ... import a as b
async def f():
    async for x in y: pass
    return [x async for x in y], await z, -await z, (await z) ** 2, await (a or b)
@a.b(c)
@d[0]
def f(a, b=1, /, c: int = 2, *d: e, f, g=3, **h) -> i: return
def f(*, a): yield
def f(a, /): x = yield; yield from z; return *a, b
class A(B, *C, metaclass=D, **E): pass
with (a, b) as c, d as (e, f): pass
match a, b:
    case 1 | -1 | 1+2j | "a" | b"c" | None | True: pass
    case [a, b, *_]: pass
    case {"a": 1, b.c: d, **e}: pass
    case A.B(c, d=e) | f.g: pass
    case (A() as b) | c: pass
    case A(b=(c | d) as e) if (f := 1): pass
    case {}: pass
    case IF: pass
try: pass
except* A: pass
lambda *a, b=1, **c: (a, b); lambda x, /: x; lambda: (yield)
ª = 1; µ = 2; ℘ = 3; ℮ = 1; naïve = "naïve"
if True: a; b
1 .real; 1.0.real; 1j.real; True.real; "a".join(b); "".format; super().append(x)
""".strip()


@pytest.mark.parametrize("style", EVERY_STYLE)
def test_forms_that_are_easily_confused(style: Style) -> None:
    for node in ast.parse(FORMS).body:
        program = ast.unparse(node)
        assert comes_back(program, style), program
    assert comes_back(FORMS, style)


NEW_FORMS = """
def f[T: int, *Ts, **P](a: T) -> T: return a
class A[T](B): pass
type X[T] = list[T]
x = f"{f"{a}"} {'\\n'.join(b)}"
""".strip()


def test_forms_of_python_3_12() -> None:
    try:
        ast.parse(NEW_FORMS)
    except SyntaxError:
        pytest.skip("this Python can't parse type parameters")
    for style in STYLES.values():
        assert comes_back(NEW_FORMS, style)


@pytest.mark.parametrize("style", EVERY_STYLE)
@pytest.mark.parametrize(
    "program",
    [
        "",
        "# only a comment",
        "\ufeffx = 1",
        "if a:\r\n    x\r\nelse:\r    y\r",
        "\x0cx = 1\n\x0c\nclass A:\n\x0c    y\n",
        "if a:\n\tx\n\ty\n",
        "x = 1 + \\\n  2 # c",
        "x = 1" + "0" * 4200,
        "if a: x\n" + "".join(f"elif b{i}: y\n" for i in range(300)),
        "x = " + " + ".join(["a"] * 200),
    ],
)
def test_unusual_sources(program: str, style: Style) -> None:
    plain = program.removeprefix("\ufeff")
    written = to_unicode(program, style, annotations="all")
    assert ast.unparse(ast.parse(to_python(written.text))) == ast.unparse(ast.parse(plain))


def test_an_integer_too_long_for_decimal() -> None:
    program = "x = 0x1" + "f" * 5000 + "\n"
    again = to_python(to_unicode(program).text)
    assert eval(again[4:]) == eval(program[4:])  # noqa: S307 - a literal of this test


def test_comments_and_docstrings_come_back_in_place() -> None:
    program = '''\
# head
import a  # why


def f(x):
    """First.

    More.
    """
    # before
    if x:  # trailing
        y = 1
        # tail
    else:
        z = 2

    # end of f
# foot
'''
    for style in STYLES.values():
        again = to_python(to_unicode(program, style).text)
        assert again == program.replace("\n\n\ndef", "\n\ndef")


def test_it_is_deterministic(humaneval_rows: list[dict[str, Any]]) -> None:
    program = humaneval_rows[0]["prompt"] + humaneval_rows[0]["canonical_solution"]
    assert len({to_unicode(program).text for _ in range(3)}) == 1


WORDS = (
    "a b x LENGTH length append end END last START start to TO step IF null case match use each "
    "EXCLUSIVE sum len div é"
)
NAMES = st.sampled_from(WORDS.split())
CONSTANTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=0),
    st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.binary(max_size=4),
    st.just(...),
)


def nested(inner: st.SearchStrategy[ast.expr]) -> st.SearchStrategy[ast.expr]:
    some = st.lists(inner, max_size=3)
    load = ast.Load()
    binary = st.sampled_from([kind() for kind in ast.operator.__subclasses__()])
    compare = st.sampled_from([kind() for kind in ast.cmpop.__subclasses__()])
    boolean = st.sampled_from([ast.And(), ast.Or()])
    unary = st.sampled_from([kind() for kind in ast.unaryop.__subclasses__()])
    bound = st.none() | inner
    clause = st.builds(
        ast.comprehension, NAMES.map(lambda n: ast.Name(n, ast.Store())), inner, some, st.just(0)
    )
    return st.one_of(
        st.builds(ast.BinOp, inner, binary, inner),
        st.builds(ast.BoolOp, boolean, st.lists(inner, min_size=2, max_size=3)),
        st.builds(ast.UnaryOp, unary, inner),
        st.builds(lambda a, op, b: ast.Compare(a, [op, op], [b, a]), inner, compare, inner),
        st.builds(ast.IfExp, inner, inner, inner),
        st.builds(lambda f, a, n: ast.Call(f, a, [ast.keyword(n, f)]), inner, some, NAMES),
        st.builds(lambda f, a: ast.Call(f, a, []), inner, some),
        st.builds(lambda v, n: ast.Attribute(v, n, load), inner, NAMES),
        st.builds(lambda v, n, a: ast.Call(ast.Attribute(v, n, load), a, []), inner,
                  st.sampled_from(["append", "join", "count", "LENGTH"]), some),
        st.builds(lambda v, i: ast.Subscript(v, i, load), inner, inner),
        st.builds(lambda v, a, b, c: ast.Subscript(v, ast.Slice(a, b, c), load),
                  inner, bound, bound, bound),
        st.builds(lambda items: ast.Tuple(items, load), some),
        st.builds(lambda items: ast.List(items, load), some),
        st.builds(lambda items: ast.Set(items), st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda items: ast.Dict([*items, None], [*items, ast.Name("d", load)]), some),
        st.builds(lambda e, c: ast.ListComp(e, [c]), inner, clause),
        st.builds(lambda e, c: ast.GeneratorExp(e, [c, c]), inner, clause),
        st.builds(lambda e, n: ast.NamedExpr(ast.Name(n, ast.Store()), e), inner, NAMES),
        st.builds(lambda e, n: ast.Lambda(
            ast.arguments([], [ast.arg(n)], None, [], [], None, [e]), e), inner, NAMES),
        st.builds(ast.Await, inner),
        st.builds(ast.Yield, bound),
    )  # fmt: skip


EXPRESSIONS = st.recursive(
    st.one_of(NAMES.map(lambda n: ast.Name(n, ast.Load())), CONSTANTS.map(ast.Constant)),
    nested,
    max_leaves=12,
)


@given(EXPRESSIONS, EXPRESSIONS, st.sampled_from(list(STYLES.values())))
def test_any_expressions(one: ast.expr, other: ast.expr, style: Style) -> None:
    program = "\n".join(
        [
            ast.unparse(ast.Expr(one)),
            f"if {ast.unparse(other)}:",
            f"    v = {ast.unparse(one)}",
            "while True:",
            f"    {ast.unparse(ast.Expr(other))}",
            f"    if {ast.unparse(one)}: break",
            f"for i in range({ast.unparse(ast.Tuple([one, other], ast.Load()))[1:-1]}): pass",
        ]
    )
    try:
        ast.parse(program)
    except (SyntaxError, ValueError):
        return  # such as an assignment within a comprehension's source
    assert comes_back(program, style), to_unicode(program, style).text


@given(st.text(alphabet="abIF(){}[]\n \t.,:;=+-*/\"'`$@!1EACHINLTO<>\\", max_size=60))
def test_any_text_is_python_or_a_syntax_error(text: str) -> None:
    from codegen.methods.unicode import UniCodeSyntaxError

    try:
        program = to_python(text)
    except UniCodeSyntaxError as error:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)
        assert 1 <= error.column <= len(lines[error.line - 1]) + 1
    else:
        ast.parse(program)


@given(st.text(max_size=40))
def test_any_docstring_and_comment(text: str) -> None:
    note = "".join(c for c in text if c.isprintable())
    program = f"def f():\n    {text!r}\n    return 1  # {note}\n"
    try:
        ast.parse(program)
    except (SyntaxError, ValueError):
        return
    again = to_python(to_unicode(program).text)
    assert dump(again) == dump(program)
    assert comments_of(again) == comments_of(program)


@pytest.mark.long
def test_time_is_linear_in_the_length() -> None:
    """A file of 20,000 lines costs about eight times one of 2,500; by the square it would be 64."""

    def seconds(lines: int) -> float:
        one = (
            "def f{}(a, b=1):\n    # note\n    c = [x for x in a if x > b]\n    return g(c)[-1]\n\n"
        )
        program = "".join(one.format(number) for number in range(lines // 5))
        start = time.process_time()
        to_python(to_unicode(program).text)
        return time.process_time() - start

    small, large = (min(seconds(lines) for _ in range(2)) for lines in (2500, 20000))
    assert large < 32 * small


def test_a_failure_is_an_error_of_the_hierarchy() -> None:
    with pytest.raises(UnsupportedProgram, match="syntax_error"):
        to_unicode("def")


def test_a_brace_in_a_format_spec() -> None:
    """The one form whose AST differs: Python's own printer has no notation for it."""

    class Echo:
        def __format__(self, spec: str) -> str:
            return spec

    program = "f'{a:x\\x7d{b}\\x7b}'"
    again = to_python(to_unicode(program).text)
    names = {"a": Echo(), "b": 1}
    assert eval(again, names) == eval(program, names) == "x}1{"  # noqa: S307 - literals above
