"""What a model is asked, to the letter, and what becomes of each thing that it may write."""

from __future__ import annotations

import pytest
from cogex_helpers import PLURAL, Scripted

from codegen.cogex import text_of
from codegen.cogex.builtin_families import FAMILIES
from codegen.cogex.model import ModelQuery, PseudoModel
from codegen.cogex.search import shot_records
from codegen.core.errors import ConfigError
from codegen.core.generation import Request

RECORD = FAMILIES["word_sorting"].record(1)
GOOD = " pluralize('box')\n### Output\n{'ending': 'es', 'answer': 'boxes'}"


def ask(program: str = PLURAL, call: str = "", key: str = "k", input: str = "box") -> ModelQuery:
    return ModelQuery("Make it plural.", input, program, call, key)


def test_the_emulators_prompt_and_answer() -> None:
    back = Scripted(lambda _: GOOD + "\n\n### Instruction\nNext")
    ((number, emulation),) = PseudoModel(back, seed=5).emulate([ask()], 0.05)
    assert number == 0 and emulation.answer == "boxes"
    assert emulation.call == "pluralize('box')" and emulation.output["ending"] == "es"
    (request,) = back.requests
    assert request.prompt == (
        f"### Instruction\nMake it plural.\n### Input\nbox\n### Code\n{PLURAL}\n\n>>>"
    )
    assert not request.heal and not request.chat
    assert (back.params[0].temperature, back.params[0].seed) == (0.05, 5)


def test_records_are_shown_and_chats_are_asked() -> None:
    back = Scripted(lambda _: GOOD)
    shots = shot_records(2, avoid=("plural",))
    list(PseudoModel(back, shots=shots, chat=True).emulate([ask()], 0.0))
    (request,) = back.requests
    assert request.chat
    shown = "".join(text_of(shot) + "\n\n" for shot in shots)
    assert request.prompt.endswith(f"{shown}### Instruction\nMake it plural.\n### Input\nbox\n"
                                   f"### Code\n{PLURAL}\n\n>>>")  # fmt: skip
    with pytest.raises(ConfigError):
        shot_records(20)


def test_the_reasoner_writes_all() -> None:
    text = "### Code\n" + RECORD.code_prompt + "\n### Output\n" + RECORD.code_output
    back = Scripted(lambda _: text)
    ((_, emulation),) = PseudoModel(back).solve([ask(program="")], 0.7)
    assert emulation.program == RECORD.program and emulation.call == RECORD.call
    assert emulation.answer == RECORD.output["answer"]
    assert back.requests[0].prompt == "### Instruction\nMake it plural.\n### Input\nbox\n"


def test_a_programs_text_ends_before_the_call() -> None:
    text = f"### Code\n{PLURAL}\n\n>>> pluralize('box')\n### Output\n{{}}"
    ((_, program, failure),) = PseudoModel(Scripted(lambda _: text)).write([ask("")], 0.7)
    assert (program, failure) == (PLURAL, "")
    ((_, program, failure),) = PseudoModel(Scripted(lambda _: text, cut=True)).write([ask("")], 0.7)
    assert failure == "truncated"
    ((_, program, failure),) = PseudoModel(Scripted(lambda _: "\n")).write([ask("")], 0.7)
    assert (program, failure) == ("", "no_function")


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("", "no_output"),
        (" pluralize('box')", "no_output"),
        (" pluralize('box')\n### Output\n{'ending': 'es'}", "no_answer"),
        (" pluralize('box')\n### Output\n{'answer': 'boxes'", "unbalanced"),
        (" pluralize('box')\n### Output\n{'answer': word + ending}", "not_literal"),
        (" pluralize('box')\n### Output\nboxes", "no_output"),
    ],
)
def test_emulations_without_an_answer(text: str, failure: str) -> None:
    ((_, emulation),) = PseudoModel(Scripted(lambda _: text)).emulate([ask()], 0.0)
    assert (emulation.failure, emulation.answer, emulation.text) == (failure, None, text)


def test_a_cut_answer_counts_if_it_is_whole() -> None:
    ((_, emulation),) = PseudoModel(Scripted(lambda _: GOOD, cut=True)).emulate([ask()], 0.0)
    assert emulation.answer == "boxes"
    half = GOOD[:-3]
    ((_, emulation),) = PseudoModel(Scripted(lambda _: half, cut=True)).emulate([ask()], 0.0)
    assert emulation.failure == "truncated"


def test_a_refused_question_is_its_own_failure_alone() -> None:
    def answer(request: Request) -> str | None:
        return None if "too long" in request.prompt else GOOD

    asks = [ask(key=str(n), input="too long" if n in (2, 5) else f"w{n}") for n in range(8)]
    model = PseudoModel(Scripted(answer), batch_size=3)
    found = dict(model.emulate(asks, 0.0))
    assert sorted(found) == list(range(8))
    assert {n for n, e in found.items() if e.failure} == {2, 5}
    assert found[2].failure.startswith("not_asked: The prompt is too long")


def test_a_given_call_is_only_emulated() -> None:
    back = Scripted(lambda _: "{'ending': 'es', 'answer': 'boxes'}")
    ((_, emulation),) = PseudoModel(back).emulate([ask(call="pluralize('box')")], 0.0)
    assert back.requests[0].prompt.endswith("\n\n>>> pluralize('box')\n### Output\n")
    assert (emulation.call, emulation.answer) == ("pluralize('box')", "boxes")
