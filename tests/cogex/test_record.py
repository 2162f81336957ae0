"""The rules of records, each by what breaks it, and the text form to the letter."""

from __future__ import annotations

import ast
import dataclasses
from itertools import product

import pytest
from cogex_helpers import PLURAL

from codegen.cogex import CogexRecord, Invalid, check_record, parse_program, read_record, text_of
from codegen.cogex.record import emulation_prompt, split_completion, split_emulation

OUTPUT = {"ending": "es", "answer": "boxes"}
RECORD = CogexRecord("Make it plural.", "box", PLURAL, "pluralize('box')", OUTPUT)


def test_the_text_form() -> None:
    assert text_of(RECORD) == (
        f"### Instruction\nMake it plural.\n### Input\nbox\n### Code\n{PLURAL}\n\n"
        ">>> pluralize('box')\n### Output\n{'ending': 'es', 'answer': 'boxes'}"
    )
    start = f"### Instruction\nMake it plural.\n### Input\nbox\n### Code\n{PLURAL}\n\n>>>"
    assert emulation_prompt("Make it plural.", "box", PLURAL) == start
    assert text_of(RECORD).startswith(start)
    given = emulation_prompt("Make it plural.", "box", PLURAL, "pluralize('box')")
    assert text_of(RECORD) == given + RECORD.code_output


def test_a_record_survives_its_row() -> None:
    assert read_record(**RECORD.to_row()) == RECORD
    program = check_record(RECORD)
    assert program.keys == ("ending", "answer") and program.undefined == ("choose_ending",)


def function(body: str, head: str = "def f(x):") -> str:
    return head + "\n" + "\n".join("    " + line for line in body.splitlines())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"call": ""}, "no_call"),
        ({"call": "pluralise('box')"}, "wrong_name"),
        ({"call": "nouns.pluralize('box')"}, "wrong_name"),
        ({"call": "pluralize"}, "bad_call"),
        ({"call": "pluralize(box)"}, "bad_call"),
        ({"call": "pluralize(*['box'])"}, "bad_call"),
        ({"call": "pluralize(print('box'))"}, "bad_call"),
        ({"call": "pluralize('a', 'b')"}, "call_mismatch"),
        ({"call": "pluralize(noun='a')"}, "call_mismatch"),
        ({"output": {"answer": "boxes"}}, "keys_differ"),
        ({"output": {"answer": "boxes", "ending": "es", "more": 1}}, "keys_differ"),
        ({"output": {"ending": object(), "answer": "boxes"}}, "not_literal"),
        ({"output": {"ending": float("inf"), "answer": "boxes"}}, "not_literal"),
    ],
)
def test_records_that_break_a_rule(changes: dict, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_record(dataclasses.replace(RECORD, **changes))
    assert caught.value.reason == reason


WRITTEN = {"first": 1, "answer": 2}


CALLS = [
    "\n\n>>> f(1)",
    "\n>>> print(f(1))",
    "\n>>> x = 1\n>>> f(x)",
    "\n\n>>> output = f(x=1)\n>>> output",
    "\n\nf(1)",
    "\n\nx = 1\noutput = f(x)\nprint(output)",
    "\n>>> f(\n...     1,\n... )",
    "\n>>> f(\n    1,\n)",
]
OUTPUTS = [
    "{'first': 1, 'answer': 2}",
    "output = {'answer': 2, 'first': 1}",
    '{"first": 1, "answer": 2}',
    "```python\n{'answer': 2, 'first': 1}\n```",
]


@pytest.mark.parametrize(
    "program",
    [
        function("output = {'first': x, 'answer': 2}\nreturn output"),
        function("result: dict = {'first': x, 'answer': 2}\nreturn result"),
        function("return dict(first=x, answer=2)"),
        function("out = {}\nout['first'] = x\nout['answer'] = 2\nreturn out"),
        function("out = {'first': x}\nif x:\n    out['answer'] = 2\nreturn out"),
        function("out = dict(first=x)\nout.update(answer=2)\nreturn out"),
        function("out = dict()\nout.update({'first': x, 'answer': 2})\nreturn out"),
        function("steps = {'first': x}\nreturn {**steps, 'answer': 2}"),
        function("out = {'first': x}\nout = {**out, 'answer': 2}\nreturn out"),
        function("steps = dict(first=x)\nout = steps | {'answer': 2}\nreturn out"),
        function("if not x:\n    return None\nreturn {'first': x, 'answer': 2}"),
        function("if not x:\n    return {'answer': ''}\nreturn {'first': x, 'answer': 2}"),
        function("def inner(y):\n    return y\nreturn {'first': inner(x), 'answer': 2}"),
        function("import re\nfrom math import sqrt\nreturn {'first': sqrt(x), 'answer': 2}"),
        function("return 2 * x", "def twice(x):")
        + "\n\nimport re\n"
        + function("return {'first': twice(x), 'answer': 2}"),
        "import re\nimport nltk\n\n" + function("return {'first': x, 'answer': 2}"),
        function("'''Text.'''\nreturn {'first': x, 'answer': 2}", "def f(x: List) -> Dict:"),
    ],
)
def test_forms_of_published_records(program: str) -> None:
    for call, output in product(CALLS, OUTPUTS):
        record = read_record("i", "", program + call, output)
        assert list(record.output.items()) == list(WRITTEN.items())  # in the return's order
        assert record.program == program
        parsed = ast.dump(ast.parse(record.call))
        assert parsed in map(ast.dump, map(ast.parse, ["f(1)", "f(x=1)"]))
        assert read_record(**record.to_row()) == record


def test_json_outputs() -> None:
    program = function("return {'seen': x, 'answer': None}")
    record = read_record("i", "", program + "\n>>> f([1])", '{"seen": [true], "answer": null}')
    assert record.output == {"seen": [True], "answer": None}
    quoted = read_record(
        "i", "", program + "\n>>> f([1])", "{'seen': [true, 'true'], 'answer': null}"
    )
    assert quoted.output == {"seen": [True, "true"], "answer": None}
    with pytest.raises(Invalid, match="not a literal"):  # but no call may use JSON's names
        read_record("i", "", program + "\n>>> f(true)", "{'seen': true, 'answer': null}")
    with pytest.raises(Invalid, match="seen"):
        read_record("i", "", program + "\n>>> f([1])", '{"seen": NaN, "answer": null}')


def test_calls_by_name_and_default_and_over_lines() -> None:
    program = function("return {'answer': x}", "def f(x, y=[1, 2], *rest, key, **more):")
    for call in ("f(1, key=2)", "f(1, 2, 3, key=-4, other={'a': (1,)})", "f(\n  1,\n  key=2,\n)"):
        check_record(CogexRecord("i", "", program, call, {"answer": 1}))


@pytest.mark.parametrize(
    "text",
    [
        f"### Code\n{PLURAL}\n\n>>> pluralize('box')\n### Output\n{OUTPUT!r}",
        f"{PLURAL}\n>>> pluralize('box')\n\n### Output\noutput = {OUTPUT!r}\n",
        f"Here.\n### Code\n```python\n{PLURAL}\n```\n>>> pluralize('box')\n### Output\n{OUTPUT!r}",
        f"{PLURAL}\n\n>>> pluralize('box')\nExample Output: {OUTPUT!r}",
        f"### Code\r\n{PLURAL}\r\n\r\n>>> pluralize(\r\n    'box'\r\n)\r\n### Output\r\n{OUTPUT!r}",
    ],
)
def test_completions_are_cut(text: str) -> None:
    parts = split_completion(text)
    record = read_record("i", "", f"{parts.program}\n\n>>> {parts.call}", parts.output)
    assert record.output == OUTPUT and parse_program(record.program).name == "pluralize"


def test_what_is_missing_is_empty() -> None:
    assert split_completion("### Code\ndef f(): pass\n### Output\n{}").call == ""
    assert split_completion("def f(): pass").program == "def f(): pass"
    for text in (" f(1)\n### Output\n{'answer': 1}", ">>> f(1)\n### Output\n{'answer': 1}"):
        parts = split_emulation(text)
        assert (parts.call, parts.output) == ("f(1)", "{'answer': 1}")
