"""Functions of Python files: cut out whole and self-contained, or left out with a reason."""

from __future__ import annotations

import ast
import os
import re
import sysconfig
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import cast

import pytest

from codegen.core.errors import ConfigError
from codegen.core.records import Example
from codegen.data import open_source
from codegen.data.sources.functions import functions_of
from tests.data.sources.test_rows import examples, summary
from tests.processes import run

FUNCTION = '''def {name}(a):
    """Adds one to a given number.

    More text.
    """

    b = a
    return b + 1
'''


def test_links_out_of_a_directory_bring_nothing_into_the_data(tmp_path: Path) -> None:
    private, received = tmp_path / "private.py", tmp_path / "received"
    private.write_text(FUNCTION.format(name="secret"))
    (received / "inner").mkdir(parents=True)
    (received / "own.py").write_text(FUNCTION.format(name="own"))
    for number, target in enumerate((private, "../private.py", "../../private.py", "../own.py")):
        place = received / ("inner" if number > 1 else "") / f"link{number}.py"
        place.symlink_to(target)
    assert list(summary(list(open_source(str(received), license="MIT")))) == [
        ("inner/link2.py", "link_elsewhere"),
        ("inner/link3.py::own", "ok"),
        ("link0.py", "link_elsewhere"),
        ("link1.py", "link_elsewhere"),
        ("own.py::own", "ok"),
    ]


def test_one_python_file_is_read_as_in_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "b.py"
    path.write_text(FUNCTION.format(name="one") + "\n" + FUNCTION.format(name="two"))
    alone, below = open_source(str(path)), open_source(str(tmp_path))
    assert list(alone) == [replace(cast(Example, one), source=str(path)) for one in below]
    assert len(list(alone)) == 2
    before = alone.describe()["sha256"]
    path.write_text(FUNCTION.format(name="three"))
    assert alone.describe()["sha256"] != before
    with pytest.raises(ConfigError, match="are in Python"):
        open_source(str(path), language="go")


def test_directory_of_python_files(tmp_path: Path) -> None:
    def write(name: str, content: str | bytes) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    write("b.py", FUNCTION.format(name="one") + "\n" + FUNCTION.format(name="one"))
    write("a/z.py", FUNCTION.format(name="two"))
    write("latin.py", b"# coding: latin-1\n" + FUNCTION.format(name="f").encode() + b"x = '\xe9'\n")
    write("bytes.py", b"x = '\xe9'\n")
    write("broken.py", "def f(:\n")
    write("nul.py", "x = 1\0")
    write("deep.py", "x = " + "(" * 5000 + ")" * 5000)
    write("codec.py", "# coding: no-such-codec\n")
    write("large.py", b"#" * (2 * 2**20 + 1))
    write("empty.py", "")
    for hidden in (".git/x.py", "__pycache__/x.py", "lib/site-packages/x.py", "notes.txt"):
        write(hidden, FUNCTION.format(name="hidden"))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.py").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.py")
    items = list(open_source(str(tmp_path), license="MIT"))
    found = dict(summary(items))
    deep, nul = found.pop("deep.py"), found.pop("nul.py")  # which error depends on Python
    assert {deep, nul} <= {"syntax_error", "unparsable"}
    assert list(found.items()) == [
        ("a/z.py::two", "ok"),
        ("b.py::one", "ok"),
        ("b.py::one@10", "ok"),
        ("broken.py", "syntax_error"),
        ("bytes.py", "syntax_error"),
        ("codec.py", "syntax_error"),
        ("large.py", "file_too_large"),
        ("latin.py::f", "ok"),
    ]
    example = examples(items)[0]
    assert example.instruction == (
        "Write a Python function `two(a)` to solve the following problem:\n"
        "Adds one to a given number.\n\nMore text."
    )
    assert example.program == "def two(a):\n    b = a\n    return b + 1\n"
    assert example.license == "MIT"
    assert items == list(open_source(str(tmp_path), license="MIT"))
    (kept,) = {
        e.program for e in examples(list(open_source(str(tmp_path / "a"), keep_docstring=True)))
    }
    assert kept == FUNCTION.format(name="two")


MODULE = '''
from __future__ import annotations
import os, sys as system
import os.path
import a.b
import a.c
from m import p as q, r
from . import sibling
try:
    import fast
except ImportError:
    fast = None
import maybe
maybe = maybe or 1
LIMIT = 3

def uses_imports(x: r) -> list[q]:
    """Has a docstring of some length."""
    y = os.path.join(x, a.b.c)
    y = [z for z in y if z]
    return y + len(y)

def uses_constant(x):
    """Has a docstring of some length."""
    y = x
    return y + LIMIT

def uses_function(x):
    """Has a docstring of some length."""
    y = x
    return uses_constant(y)

def recurses(x):
    """Has a docstring of some length."""
    y = x
    return recurses(y)

def uses_sibling(x):
    """Has a docstring of some length."""
    y = x
    return sibling.f(y)

def uses_fast(x):
    """Has a docstring of some length."""
    y = x
    return fast(y)

def uses_maybe(x):
    """Has a docstring of some length."""
    y = x
    return maybe(y)

def keeps_state(x):
    """Has a docstring of some length."""
    global counter
    counter = x

@system.cache
def decorated(
    x: int,  # a comment
    *rest: str,
    y={":": [1, 2]},
) -> dict[str, int]:
    """Has a docstring of some length."""

    def inner(): return x
    return inner
def one_line(x): "Has a docstring of some length."; y = x; return y
def only_docstring(x):
    """Has a docstring of some length."""
def short(x):
    """Has a docstring of some length."""
    return x
def terse(x):
    """Adds one."""
    y = x
    return y
async def waits(x):
    """Has a docstring of some length."""
    y = x
    return y
class C:
    def method(self):
        """Has a docstring of some length."""
        y = self
        return y
'''


def test_functions_are_cut_out_self_contained() -> None:
    items = list(functions_of(MODULE.encode(), "m.py", False, "here"))
    assert summary(items) == [
        ("m.py::uses_imports", "ok"),
        ("m.py::uses_constant", "not_self_contained"),
        ("m.py::uses_function", "not_self_contained"),
        ("m.py::recurses", "ok"),
        ("m.py::uses_sibling", "relative_import"),
        ("m.py::uses_fast", "not_self_contained"),
        ("m.py::uses_maybe", "not_self_contained"),
        ("m.py::keeps_state", "module_state"),
        ("m.py::decorated", "ok"),
        ("m.py::one_line", "unusual_layout"),
        ("m.py::only_docstring", "empty_body"),
        ("m.py::short", "too_short"),
        ("m.py::terse", "short_docstring"),
        ("m.py::waits", "async_function"),
    ]
    uses_imports, _, decorated = examples(items)
    assert uses_imports.program.split("\n\n\n")[0] == (
        "import os\nimport os.path\nimport a.b\nimport a.c\nfrom m import p as q, r"
    )
    assert decorated.program.startswith("import sys as system\n\n\n@system.cache\ndef decorated(\n")
    assert decorated.instruction.splitlines()[0] == (
        'Write a Python function `decorated(x: int, *rest: str, y={":": [1, 2]},) '
        "-> dict[str, int]` to solve the following problem:"
    )


def ruff(programs: list[str], folder: Path, rules: str) -> str:
    folder.mkdir()
    for number, program in enumerate(programs):
        (folder / f"p{number}.py").write_text(program, encoding="utf-8")
    command = ["ruff", "check", "--isolated", "--no-cache", "--output-format", "concise"]
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"]
    done = run(*command, "--select", rules, folder, env={"PATH": path})
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def test_standard_library(tmp_path: Path) -> None:
    items = list(open_source("stdlib"))
    found = examples(items)
    assert len(found) >= 300
    assert len({item.id for item in items}) == len(items)
    assert not [i for i in items if "/test/" in i.id or "site-packages" in i.id]
    assert {e.license for e in found} == {"PSF-2.0"}
    for example in found:
        compile(example.program, example.id, "exec")
    # ruff is the oracle: no undefined name, no import that is not used.
    programs = [e.program for e in found]
    assert "All checks passed!" in ruff(programs, tmp_path / "names", "F821")
    for finding in re.findall(r"p(\d+)\.py:(\d+):", ruff(programs, tmp_path / "used", "F401")):
        number, row = map(int, finding)
        # The function's own; an import that we put in front is not indented.
        assert programs[number].splitlines()[row - 1].startswith(" ")
    root = Path(sysconfig.get_path("stdlib"))
    for example in found:
        check_by_ast(example, root / str(example.meta["path"]).removeprefix("stdlib/"))


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def check_by_ast(example: Example, path: Path) -> None:
    """The oracle: the same function, its docstring deleted from the syntax tree."""
    module = syntax_tree(path)
    (original,) = [
        n
        for n in module.body
        if isinstance(n, ast.FunctionDef) and n.lineno == example.meta["line"]
    ]
    docstring = ast.get_docstring(original)
    original.body.pop(0)
    cut = ast.parse(example.program).body[-1]
    assert ast.dump(cut) == ast.dump(original), example.id
    header, _, rest = example.instruction.partition("` to solve the following problem:\n")
    signature = header.removeprefix("Write a Python function `")
    parsed = ast.parse(f"def {signature}: pass").body[0]
    assert isinstance(parsed, ast.FunctionDef)
    assert ast.dump(parsed.args) == ast.dump(original.args)
    assert ast.unparse(parsed.returns or ast.Constant(0)) == ast.unparse(
        original.returns or ast.Constant(0)
    )
    assert rest == (docstring or "").strip()
