"""Code is found in answers of every form, or a reason is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.evals.tasks.extraction import (
    Extraction,
    apply_blocks,
    find_code,
    sanitized,
    with_preamble,
)
from tests.evals.tasks.test_polyglot import block

CODE = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"```python\n{CODE}```", CODE),
        (f"Run `f`:\n\n```python\nf(1)\n```\nwith\n~~~\n{CODE}~~~", CODE),
        ("```\npip install f\n```\n```\nx = 1\n```", "pip install f\n"),
        (f"Text\n```python\n{CODE}", CODE),
        (f"```\n```\n```python\n{CODE}```", CODE),
        ("1. So:\n   ```python\n   def f(x):\n       return x\n   ```\n", CODE),
        (f'````md\n```\n{CODE}````"', f'```\n{CODE}````"'),
        (CODE, CODE),
        ("def f(x):\n    return (", "def f(x):\n    return ("),
        ("f = lambda x: x", "f = lambda x: x"),
        ("import os\n", "import os\n"),
    ],
)
def test_code_is_found(text: str, expected: str) -> None:
    found = find_code(text, "f")
    assert found.program == expected
    assert found.reason == ""


F = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (F, F),
        (f"import re\nfrom math import *\n{F}", f"import re\nfrom math import *\n{F}"),
        (f"{F}\n\nprint(f(1))\nassert f(1) == 2\nf(3)\n", F),
        (
            f"{F}\nclass A:\n    x = 1\n\nK: int = 2\nL = 3\n",
            f"{F}class A:\n    x = 1\nK: int = 2\nL = 3\n",
        ),
        (f"@cache\n{F}", f"@cache\n{F}"),
        (f"{F}\nassert f(1) == [1, 2", F),  # cut off
        (f"{F}\nHere is how it works:\n", F),
        (f"{F}\ndef g(", F),
        ("if True:\n    pass\n", "if True:\n    pass\n"),  # nothing would be left
        ("def f(:", "def f(:"),
        (f"async {F}", f"async {F}"),
    ],
)
def test_only_definitions_are_kept(program: str, expected: str) -> None:
    assert sanitized(Extraction(program)).program == expected


@pytest.mark.parametrize("text", ["", " \n", "No.", "yes", "```python\n```", "Sorry, I can't."])
def test_no_code_has_a_reason(text: str) -> None:
    found = find_code(text, "f")
    assert found.program == ""
    assert found.reason


@given(st.text(alphabet="`~\n def(x):=f", max_size=60))
def test_any_text_gives_code_or_a_reason(text: str) -> None:
    found = find_code(text, "f")
    assert bool(found.program.strip()) != bool(found.reason)


def test_future_imports_stay_first() -> None:
    code = "from __future__ import annotations\nimport re\n\ndef f(x: T):\n    return x\n"
    program = with_preamble("import math\n\n\n", code)
    compile(program, "<test>", "exec")
    assert program.startswith("from __future__")
    assert with_preamble("\n\n", code) == code


BEFORE = "def f(x):\n    if x:\n        return 1\n    return 2\n\n\ndef g():\n    return 1\n"


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        (block("    return 2\n", "    return 3\n"), BEFORE.replace("return 2", "return 3")),
        ("Sure!\n```python\n" + block("    return 2\n", "") + "```\n",
         BEFORE.replace("    return 2\n", "")),
        # The second block is looked for behind the first one.
        (block("    return 2\n", "    return 4\n") + block("    return 1\n", "    return 5\n"),
         BEFORE.replace("return 2", "return 4").replace("():\n    return 1", "():\n    return 5")),
        # All lines lack the same indentation.
        (block("if x:\n    return 1\n", "if y:\n    return 1\n"), BEFORE.replace("if x", "if y")),
        (block("", "x = 1\n"), BEFORE + "x = 1\n"),
        (block("    return 3\n", ""), ""),
        (block("  return 2\n    return 9\n", ""), ""),
        ("<<<<<<< SEARCH\n    return 2\n=======\n", ""),
        ("def f(x): return 3\n", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_blocks(answer: str, after: str) -> None:
    found = apply_blocks(BEFORE, answer)
    assert found.program == after
    assert bool(found.reason) == (not after)
