"""The four objectives as texts: what is asked, what is answered, and where the loss lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.evals.tasks.extraction import find_code
from codegen.methods.unicoder import STYLES, to_unicode
from codegen.methods.unicoder.generator import block
from codegen.methods.unicoder.prompts import (
    OBJECTIVES,
    Objective,
    Triple,
    fenced,
    segments,
    write_prompt,
)
from tests.methods.unicoder.test_generator import ADD

TRIPLE = Triple(
    "Add one.\n", "def f(x):\n    return x + 1\n", "FUNCTION f(x) {\n    RETURN x + 1;\n}"
)

EXPECTED: dict[Objective, tuple[str, str]] = {
    "qa": ("Add one.\n", "```python\ndef f(x):\n    return x + 1\n```"),
    "qp": (
        "Add one.\n\nDescribe the solution as universal code. Do not write executable code.\n",
        "```unicode\nFUNCTION f(x) {\n    RETURN x + 1;\n}\n```",
    ),
    "pa": (
        "Translate this universal code to Python.\n\n"
        "```unicode\nFUNCTION f(x) {\n    RETURN x + 1;\n}\n```\n",
        "```python\ndef f(x):\n    return x + 1\n```",
    ),
    "uot": (
        "Add one.\n\nFirst write universal code, then translate it to Python.\n",
        "```unicode\nFUNCTION f(x) {\n    RETURN x + 1;\n}\n```\n\n"
        "```python\ndef f(x):\n    return x + 1\n```",
    ),
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_texts(objective: Objective) -> None:
    prompt, response = segments(objective, TRIPLE)
    assert (prompt.text, response.text) == EXPECTED[objective]
    assert (prompt.train, response.train) == (False, True)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_alpaca(objective: Objective) -> None:
    prompt, response = segments(objective, TRIPLE, "alpaca")
    asked = EXPECTED[objective][0].removesuffix("\n")
    assert prompt.text.startswith("Below is an instruction that describes a task. Write a response")
    assert prompt.text.endswith(f"\n\n### Instruction:\n{asked}\n\n### Response:\n")
    assert response.text == EXPECTED[objective][1]


@pytest.mark.parametrize("objective", ["qa", "pa", "uot"])
def test_evaluation_finds_the_program_in_a_response(objective: Objective) -> None:
    assert find_code(segments(objective, TRIPLE)[1].text, "f").program == TRIPLE.answer


def test_braces_in_a_question_are_kept() -> None:
    triple = Triple("Return {x} and {{y}}", "pass\n", "{instruction}")
    prompt, _ = segments("qp", triple, "alpaca")
    assert "Return {x} and {{y}}" in prompt.text
    assert "{instruction}" in segments("pa", triple, "alpaca")[0].text


@given(st.text(alphabet="`~ab\n {}/", max_size=60))
def test_what_is_fenced_is_found(text: str) -> None:
    assert block("Here it is:\n" + fenced(text, "unicode") + "\nBye.") == text.strip("\n").rstrip()


@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_states_the_style_in_which_its_example_is_written(style: str) -> None:
    example = to_unicode(ADD, STYLES[style]).text
    prompt = write_prompt("Do {it}.", "x = {}\n", "python", STYLES[style], example)
    assert example.rstrip() in prompt and "Do {it}." in prompt and "x = {}" in prompt
    assert ("IF, ELSIF" in prompt) is STYLES[style].upper
    assert ("semicolon" in prompt) is (STYLES[style].blocks == "braces")
