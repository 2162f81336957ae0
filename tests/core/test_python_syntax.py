"""Programs that need a newer Python are told from broken ones, in one way by all generators."""

from __future__ import annotations

import ast
import random
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest

from codegen.cogex.literals import Invalid
from codegen.cogex.program import parse_function
from codegen.core.errors import CodegenError
from codegen.core.python_syntax import syntax_fault
from codegen.core.records import Example
from codegen.data.sources.functions import functions_of
from codegen.lintseq import LintSeq, prepare
from codegen.lintseq.reference import random_sequence
from codegen.methods.unicoder import to_unicode

# The minor version that brought the syntax, and a program that uses it.
NEWER = {
    "type parameters of a function": (12, "def f[T](x: T) -> T:\n    return x\n"),
    "type parameters of a class": (12, "class Box[T, *Ts, **P]:\n    pass\n"),
    "type alias": (12, "type Pair = tuple[int, int]\n"),
    "bounded type parameter": (12, "def f[T: (int, str)](x: T):\n    return x\n"),
    "quotes in an f-string": (12, 'd = {"a": 1}\nprint(f"{d["a"]}")\n'),
    "backslash in an f-string": (12, "print(f\"{'\\n'.join(['a'])}\")\n"),
    "comment in an f-string": (12, 'print(f"""{\n    1  # one\n}""")\n'),
    "f-strings nested five times": (12, 'print(f"{f"{f"{f"{f"{1}"}"}"}"}")\n'),
    "default of a type parameter": (13, "class Box[T = int]:\n    pass\n"),
    "except without parentheses": (
        14,
        "try:\n    x = 1\nexcept ValueError, TypeError:\n    x = 2\n",
    ),
    "t-string": (14, "x = 1\ny = t'{x} and more'\n"),
    "older syntax beside it": (12, "match 1:\n    case 1:\n        type X = int\n"),
}
BROKEN = {
    "unclosed bracket": "x = (1,\n",
    "old print": "print 'hello'\n",
    "old except": "try:\n    pass\nexcept ValueError, error:\n    print error\n",
    "no indentation": "def f():\nreturn 1\n",
    "return outside of a function": "return 1\n",
    "newer and broken": "def f[T](x: T):\n    return (x\n",
    "newer and refused by the compiler": "type X = int\nbreak\n",
    "newer and an argument twice": "def f[T](x, x):\n    pass\n",
    "unclosed f-string": 'print(f"{1")\n',
    "a type parameter list that is none": "def f[1](x):\n    return x\n",
    "natural language": "Sure! Here is the function:\n",
}


def reason_of(program: str) -> str:
    with pytest.raises(SyntaxError) as caught:
        compile(ast.parse(program), "<program>", "exec", dont_inherit=True)
    return syntax_fault(program, caught.value).reason


@pytest.mark.parametrize("name", NEWER)
def test_newer_syntax_is_told_with_its_version(name: str) -> None:
    version, program = NEWER[name]
    if sys.version_info >= (3, version):
        pytest.skip(f"this Python knows the syntax of 3.{version}")
    with pytest.raises(SyntaxError) as caught:
        ast.parse(program)
    fault = syntax_fault(program, caught.value)
    assert fault.reason == "newer_python"
    assert fault.remedy == f"Run codegen with Python 3.{version} or newer to use this program."
    assert f"Python 3.{version}" in fault.detail


@pytest.mark.parametrize("name", BROKEN)
def test_broken_programs_stay_syntax_errors(name: str) -> None:
    assert reason_of(BROKEN[name]) == "syntax_error"


@pytest.mark.skipif(shutil.which("/usr/bin/python3.13") is None, reason="no CPython 3.13 here")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="this Python knows the syntax itself")
def test_a_newer_python_agrees() -> None:
    """CPython 3.13 itself compiles what is said to need at most 3.13, and none of the broken."""
    for version, program in NEWER.values():
        assert _compiles(program) == (version <= 13), program
    for program in BROKEN.values():
        assert not _compiles(program), program


def _compiles(program: str) -> bool:
    code = "import sys; compile(sys.stdin.read(), '<program>', 'exec')"
    command = ["/usr/bin/python3.13", "-I", "-W", "ignore", "-c", code]
    done = subprocess.run(command, input=program.encode(), capture_output=True, check=False)
    return done.returncode == 0


def _lintseq(program: str) -> None:
    prepare(program)


def _engine(program: str) -> None:
    example = Example("e", "", program)
    list(LintSeq(verify="static", audit=0.0).generate(example, random.Random(0)))


def _randseq(program: str) -> None:
    random_sequence(program, random.Random(0))


GENERATORS: dict[str, Callable[[str], object]] = {
    "lintseq": _lintseq,
    "the lintseq generator": _engine,
    "randseq": _randseq,
    "unicode": to_unicode,
    "cogex": parse_function,
}


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python knows the syntax")
@pytest.mark.parametrize("generator", GENERATORS)
def test_all_generators_say_the_same(generator: str) -> None:
    for program, reason in (
        (NEWER["type parameters of a function"][1], "newer_python"),
        (BROKEN["old print"], "syntax_error"),
    ):
        with pytest.raises((CodegenError, Invalid)) as caught:
            GENERATORS[generator](program)
        assert caught.value.reason == reason  # type: ignore[attr-defined]
        assert ("Run codegen with Python 3.12" in str(caught.value)) == (reason == "newer_python")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python knows the syntax")
def test_files_that_need_a_newer_python_are_skipped() -> None:
    source = NEWER["type parameters of a function"][1].encode()
    (item,) = functions_of(source, "m.py", False, "")
    assert (item.reason, item.outcome) == ("newer_python", "skipped")  # type: ignore[union-attr]
    (item,) = functions_of(b"print 'x'\n", "m.py", False, "")
    assert (item.reason, item.outcome) == ("syntax_error", "failed")  # type: ignore[union-attr]
