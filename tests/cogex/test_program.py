"""Pseudo-programs: their rules, helpers, digest and calls."""

from __future__ import annotations

import pytest
from cogex_helpers import PLURAL

from codegen.cogex import Invalid, parse_program
from codegen.cogex.generator import find_call
from tests.cogex.test_record import function


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("def f(x:\n", "syntax_error"),
        (function("return {'answer': x}", "def f(x, x):"), "syntax_error"),
        ("x = 1", "no_function"),
        ("", "no_function"),
        ("(" * 5000, "syntax_error"),
        ("x = '\0'", "syntax_error"),
        ("\ud800", "syntax_error"),
        ("x = 1\n" + function("return {'answer': x}"), "more_than_function"),
        (function("class A: pass\nreturn {'answer': x}"), "more_than_function"),
        (function("global y\nreturn {'answer': x}"), "more_than_function"),
        (function("return {'answer': x}") + "\n" + function("return 1"), "return_no_dict"),
        (function("def g(): return {'answer': 1}\ng()"), "no_return"),
        (function("return {'answer': x}") + "\n\nprint(f(1))", "more_than_function"),
        (function("pass"), "no_return"),
        (function("return x"), "return_no_dict"),
        (function("return"), "return_no_dict"),
        (function("return {**x, 'answer': 1}"), "return_no_dict"),
        (function("return {'answer': 1, 'answer': 2}"), "return_no_dict"),
        (function("out = make(x)\nreturn out"), "return_no_dict"),
        (function("out = {'answer': 1}\nout[x] = 2\nreturn out"), "return_no_dict"),
        (function("return {'answer': 1, **x}"), "return_no_dict"),
        (function("return dict(x, answer=1)"), "return_no_dict"),
        (function("return {'result': x}"), "no_answer_key"),
        ("x" * 20_001, "too_long"),
    ],
)  # fmt: skip
def test_programs_that_break_a_rule(program: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_program(program)
    assert caught.value.reason == reason


def test_imports_from_outside_the_standard_library_are_helpers() -> None:
    text = "import math, json as j\nimport nltk\nfrom spacy import load\n" + function(
        "import re\nreturn {'a': [math.sqrt(x), j.dumps(x), nltk.stem(x), load(x), re.sub(x)], "
        "'answer': guess(x)}"
    )
    assert parse_program(text).undefined == ("guess", "load", "nltk.stem")


def test_digest_looks_at_the_code_alone() -> None:
    other = PLURAL.replace("Makes a plural.", "Another docstring.").replace("Step 1", "Step 9")
    assert parse_program(other).digest == parse_program(PLURAL).digest
    changed = PLURAL.replace("word + ending", "ending + word")
    assert parse_program(changed).digest != parse_program(PLURAL).digest


def test_find_call() -> None:
    assert find_call(">>> f(1)\n2\n>>> f(3)", "f") == "f(1)"
    assert find_call("assert sorted(f((1, 2), k='a')) == [1]", "f") == "f((1, 2), k='a')"
