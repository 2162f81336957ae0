"""Converts an instruction with its answer to a CoGEX record, by three requests to a model.

Source: arXiv 2405.16337 §2.2 and appendix: make input and output Python values, plan, write the
program. The prompts are modelled on the paper's, with other words and demonstrations. The model
sees the right answer when it writes the program; a record with another ``answer`` is refused
(``answer_differs``). A completion can also break a rule of records (:class:`Invalid`), or fail as
``bad_values`` (no object with input and output) or ``bad_plan`` (no step, or over 3).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from codegen.cogex.literals import Invalid, normalized, parse_output
from codegen.cogex.record import CogexRecord, read_record, split_completion
from codegen.config import read_yaml
from codegen.generation.plans import Conversation, Plan, Unusable


@cache
def _prompts() -> dict[str, str]:
    return read_yaml(Path(__file__).with_name("prompts.yaml"))


def pythonise_prompt(instruction: str, input: str, output: str) -> str:
    """The request for input and output as Python values."""
    return _prompts()["pythonise"].format(
        instruction=instruction, input=input or "(none)", output=output
    )


def plan_prompt(instruction: str, input: str) -> str:
    """The request for at most three steps."""
    return _prompts()["plan"].format(instruction=instruction, input=input or "(none)")


def program_prompt(instruction: str, input: str, output: str, steps: Sequence[str]) -> str:
    """The request for the function, the call and the output."""
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    return _prompts()["program"].format(
        instruction=instruction, input=input or "(none)", output=output, steps=numbered
    )


_MOST_STEPS = 3


def converted(instruction: str, input: str, answer: str, model: Conversation) -> Plan[CogexRecord]:
    """The requests, as a plan, that lead to the record of an instruction.

    Raises:
        Invalid: if the record breaks a rule.
        Unusable: if a completion can't be used for another reason.
    """
    prompt = pythonise_prompt(instruction, input, answer)
    values = _values((yield from model.complete(prompt)))
    shown = repr(values["input"]) if values["input"] else ""
    steps = _steps((yield from model.complete(plan_prompt(instruction, shown))))
    prompt = program_prompt(instruction, shown, repr(values["output"]), steps)
    parts = split_completion((yield from model.complete(prompt)))
    code = f"{parts.program}\n\n>>> {parts.call}" if parts.call else parts.program
    record = read_record(instruction, input, code, parts.output)
    if normalized(record.output["answer"]) != normalized(values["output"]):
        given, wanted = (repr(v)[:80] for v in (record.output["answer"], values["output"]))
        raise Unusable("answer_differs", f"{given} in place of {wanted}")
    return record


def _values(text: str) -> dict[str, object]:
    start = text.find("{")
    try:
        values, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
    except (ValueError, RecursionError):
        try:
            values = parse_output(text)  # a Python literal in place of JSON
        except Invalid as error:
            raise Unusable("bad_values", error.detail) from None
    if not isinstance(values, dict) or not {"input", "output"} <= set(values):
        raise Unusable("bad_values", f"no object with input and output in {text[:80]!r}")
    return values


def _steps(text: str) -> list[str]:
    steps = []
    for line in text.splitlines():
        if not (found := re.search(r"\{.*\}", line)):
            continue
        try:
            step = json.loads(found.group())
        except (ValueError, RecursionError):
            continue
        if isinstance(step, dict) and isinstance(step.get("description"), str):
            steps.append(" ".join(step["description"].split()))
    if not 1 <= len(steps) <= _MOST_STEPS:
        raise Unusable("bad_plan", f"{len(steps)} steps in {text[:80]!r}")
    return steps
