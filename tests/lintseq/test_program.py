"""Hard programs: whatever Python allows, sequences round-trip and all states compile."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import ConfigError
from codegen.lintseq import (
    UnsupportedProgram,
    edit_sequence,
    format_edits,
    normalize,
    prepare,
    resolve,
    sample_edits,
)
from codegen.lintseq.program import line_weights
from codegen.lintseq.verify import check_compile

PROGRAMS = {
    "one line": "x = 1",
    "no final newline": "def f():\n    return 1",
    "blank lines around": "\n\n\nx = 1\n\n\ny = 2\n\n\n\n",
    "crlf": "def f():\r\n    return 1\r\n\r\nf()\r\n",
    "old mac": "def f():\r    return 1\rf()\r",
    "byte order mark": "\ufeffx = 1\n",
    "encoding comment": "#!/usr/bin/python\n# -*- coding: latin-1 -*-\nx = '\u00e9'\n",
    "form feeds": "x = 1\n\x0c\ndef f():\n    return 1\n\x0c\x0cdef g():\n\x0c    return 2\n",
    "tabs": "if 1:\n\tx = 1\n\tif x:\n\t\ty = 1\n\t\tz = 2\n\telse:\n\t\ty = 3\n",
    "odd indentation": "def f(a):\n  if a:\n         b = 1\n         return b\n  return 2\n",
    "odd separators in strings": "x = 'a\u2028b\x1cc\x85d\x0ce'\ny = '''\u2028\n\x1c\n'''\nz = 1\n",
    "continued lines": "x = 1 + \\\n    2\nif x and \\\n   x > 1:\n    y = 1; \\\n    z = 2\n"
    "    w = 3\n",
    "continued blank line": "def f():\n    x = 1 \\\n\n    y = 2\n    return x, y\n",
    "comment that looks continued": "x = 1  # a \\\n\ny = 2 # b \\\nif y:\n    z = 3 # \\\n"
    "    w = 4\n",
    "semicolons": "import os; import sys\nx = 1; y = 2;\ndef f(): a = 1; return a\n"
    "class A: b = 1; c = 2\n",
    "semicolon after a multi-line statement": "x = [\n  1,\n]; y = '''\n''' ; z = 3\nw = 4\n",
    "one-line compounds": "if 1: x = 1\nelif 2: x = 2\nelse: x = 3\nfor i in []: pass\n"
    "else: y = 1\n"
    "while 0: pass\ntry: a = 1\nexcept ValueError: a = 2\nexcept: a = 3\nelse: b = 1\n"
    "finally: c = 2\n"
    "with open('f') as g: pass\n",
    "mixed one-line clauses": "if 1: x = 1\nelse:\n    x = 2\n    y = 3\ntry:\n    z = 1\n"
    "    w = 1\n"
    "except ValueError: pass\nfinally: q = 1\n",
    "header continued into the body": "if 1: \\\n  x = 1\nfor i in [1]: \\\n  y = 1; z = 2\n",
    "multi-line strings": 'def f():\n    """Doc\n\n    # no comment\n    string\n"""\n    x = """\n'
    '# no comment\n"""\n    return x\n',
    "comment-like lines of a string in a header": 'if """\n# a\n\n# b""":\n    # comment\n'
    "    x = 1\n",
    "headers over many lines": "def f(\n    a,  # first\n\n    # second\n    b=1,\n):\n"
    "    # body\n    return a\n"
    "class A(\n    object,\n):\n\n    x = 1\nwith (\n    open('a') as b,\n    # c\n):\n    pass\n",
    "comments between clauses": "if 1:\n    x = 1\n    # end of if\n\n# before elif\n"
    "elif 2:\n    # first\n"
    "    x = 2\n  # odd\nelse:  # trailing\n\n    # only\n    x = 3\n    # last\n# after\n",
    "comment at a block's end": "def f():\n    x = 1\n    # end of f\n\n\ny = 2\n",
    "decorators": "import functools\n\n@functools.cache\n# between\n@(\n    functools.cache\n"
    ")\n@ \\\nfunctools.cache\n"
    "def f():\n    @functools.wraps\n    class A:\n        pass\n    return A\n",
    "nested functions": "def f(a):\n    def g(b):\n        nonlocal a\n        a = b\n"
    "        def h():\n"
    "            return a, b\n        return h\n    return g\n",
    "async": "import asyncio\nasync def f(x):\n    async with x as y:\n"
    "        async for z in y:\n            await z\n"
    "        else:\n            yield [a async for a in y]\n    await asyncio.sleep(1)\n",
    "match": "def f(x):\n    match (\n        x\n    ):\n        # first\n        case 0:\n"
    "            y = 0\n"
    "        case [a, *b] | {'k': a, **b}:\n            y = a, b\n        case (\n"
    "            int() as c\n        ) if c:\n"
    "            y = c\n        case _: y = 2\n    return y\n",
    "match with strings": "match 'a':\n    case '''\n# a\n''':\n        x = 1\n    case _:\n"
    "        x = 2\n",
    "try star": "try:\n    x = 1\nexcept* ValueError as e:\n    print(e)\n"
    "except* (TypeError,):\n    pass\nelse:\n"
    "    y = 1\nfinally:\n    z = 1\n",
    "try without handlers": "try:\n    x = 1\nfinally:\n    y = 1\n",
    "loops with else": "for i in range(3):\n    if i:\n        break\n    continue\nelse:\n"
    "    x = 1\nwhile 1:\n"
    "    break\nelse:\n    y = 1\n",
    "else and if are not elif": "if 1:\n    x = 1\nelse:\n    if 2:\n        x = 2\n"
    "    else:\n        x = 3\n",
    "global": "def f():\n    global x, y\n    x = 1\n    y = 2\n\ndef g():\n    return x + y\n",
    "class scopes": "class A:\n    x = 1\n    y = [x for _ in range(x)]\n    def f(self):\n"
    "        return self.x\n"
    "    g = property(f)\n    class B(Exception):\n        z = 2\n\n        def __init__(self):\n"
    "            super().__init__()\n            self.q = 1\n",
    "future": "from __future__ import annotations\n\ndef f(a: B) -> B:\n    return a\n\n"
    "class B:\n    c: B\n",
    "walrus": "if (n := 10) > 5:\n    print(n)\nelif (m := 3):\n"
    "    print(m, [k := 1 for _ in 'a'])\nprint(k)\n",
    "lambdas": "f = lambda x, *y, z=1, **k: (x, y, z, k)\ng = lambda: (yield)\n",
    "star imports": "from os.path import *\nprint(join('a', 'b'))\n",
    "long elif chain": "x = 1\nif x == 0:\n    y = 0\n"
    + "".join(f"elif x == {i}:\n    y = {i}\n" for i in range(1, 100)),
    "long sum": "x = " + " + ".join(["1"] * 900) + "\ny = x\n",
    "deep blocks": "".join(" " * i + "if 1:\n" for i in range(19)) + " " * 19 + "x = 1\n",
    "code like edits": "x = [\n+1,\n-1,\n@@1\n]\n".replace("@@1", "1 @ 1")
    + "# @@ -0,0 +1 @@\ny = '@@'\n",
    "syntax warnings": "x = '\\d'\ny = 1 is 1\nassert (x, 'y')\n",
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", PROGRAMS)
def test_hard_programs(name: str, strict: bool) -> None:
    program = PROGRAMS[name]
    prepared = prepare(program, strict=strict)
    assert prepared.program == normalize(program)
    for seed in range(30):
        sequence = sample_edits(prepared, random.Random(seed))
        resolution = resolve(format_edits(sequence.edits))
        assert resolution.program == sequence.program == normalize(program)
        assert resolution.edits == sequence.edits
        assert resolution.complete
        assert not resolution.malformed
        for state, findings in zip(sequence.states, check_compile(sequence.states), strict=True):
            assert not findings, f"{findings}\n{state}"


def test_normal_form() -> None:
    assert normalize("\ufeffa\r\nb\rc") == "a\nb\nc\n"
    assert normalize("a\n\n\n") == "a\n\n\n"
    assert normalize("") == ""


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("# only a comment\n", "comments_only"),
        ("x = (", "syntax_error"),
        ("return 1", "syntax_error"),
        ("def f():\n  x\n   y", "syntax_error"),
        ("x = " + "9" * 10_000, "syntax_error"),
        ("x = '<|diff|>'", "contains_marker"),
        ("x = 1\0", "null_bytes"),
        ("x = '\ud800'", "not_unicode"),
        ("x = " + "(" * 250 + "1" + ")" * 250, "too_deep"),
        ("x = " + "-" * 20_000 + "1", "too_deep"),
        ("".join(" " * i + "if 1:\n" for i in range(101)) + " " * 101 + "x", "too_deep"),
    ],
)
def test_reasons_to_skip(program: str, reason: str) -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        edit_sequence(program, random.Random(0))
    assert caught.value.reason == reason


def test_unknown_options() -> None:
    with pytest.raises(ConfigError, match="granularity"):
        prepare("x = 1", granularity="token")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="check"):
        edit_sequence("x = 1", random.Random(0), verify="mypy")  # type: ignore[arg-type]


def plain_weights(lines: list[str]) -> list[float]:
    """The rule, case by case and line by line, without starts of pieces."""
    indent = []
    previous = 0
    for line in lines:
        visible = line.replace(" ", "")
        if len(visible) > 1:
            previous = 0
            for character in line:
                if character != " ":
                    break
                previous += 1
        indent.append(previous)
    positive = [value for value in indent if value > 0]
    weights = []
    skip_to = None
    for line, depth in zip(lines, indent, strict=True):
        text = line.strip(" ")
        if skip_to is not None:
            weights.append(0.0)
            if text.endswith(skip_to):
                skip_to = None
            continue
        if "=" in text and text.split("=")[0].replace(" ", "").isupper() and text[-1] in "([":
            skip_to = ")" if text[-1] == "(" else "]"
        if text == "" or text[0] == "#":
            weights.append(0.0)
        elif depth == 0:
            weights.append(1.0)
        else:
            weights.append(depth / positive[0])
    return weights


pieces = st.sampled_from(
    [
        "x = 1",
        ")",
        "]",
        "",
        "#",
        "# c",
        "def f():",
        "NAME = [",
        "A_B = (",
        "A: int = [",
        "a = [",
        "N=[",
        "A]",
    ]
)
lines = st.lists(st.builds(lambda depth, text: " " * depth + text, st.integers(0, 9), pieces))


@given(lines)
def test_as_the_plain_loop(lines: list[str]) -> None:
    assert line_weights(lines) == plain_weights(lines)


@pytest.mark.parametrize(
    ("line", "weight"),
    [("x = 1", 1), ("  x = 1", 1), ("    x = 1", 2), ("      x = 1", 3), ("   x = 1", 1.5)],
)
def test_deeper_lines_weigh_more(line: str, weight: float) -> None:
    assert line_weights(["class A:", "  y = 0", line])[2] == weight


def test_a_global_definition_ends_where_the_next_piece_starts() -> None:
    program = ["NAME = (", "    1,", ")  # a comment hides the bracket", "x = 1", "y = 2"]
    assert line_weights(program) == [1, 0, 0, 0, 0]
    assert line_weights(program, {0, 3, 4}) == [1, 0, 0, 1, 1]
