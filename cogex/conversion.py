"""An instruction with its answer to a CoGEX record, by a model that is asked three times.

Source: arXiv 2405.16337 §2.2: make input and output Python values, plan, write the program. The
model sees the right answer when it writes the program; a record whose ``answer`` is another one is
refused (``answer_differs``). Beside the rules of records (:class:`Invalid`) an answer of the model
can fail as ``bad_values`` (no object with input and output) or ``bad_plan`` (no step, or over 3).
"""

from __future__ import annotations

import json
import re
from typing import Any

from codegen.cogex import templates
from codegen.cogex.literals import Invalid, normalised, parse_output
from codegen.cogex.record import CogexRecord, read_record, split_completion
from codegen.generation.plans import Conversation, Plan, Unusable

_MOST_STEPS = 3


def converted(instruction: str, input: str, answer: str, model: Conversation) -> Plan[CogexRecord]:
    """A plan for the record of one instruction.

    Raises:
        Invalid: if what the model wrote breaks a rule of records.
        Unusable: if an answer of the model can't be used otherwise.
    """
    prompt = templates.pythonise_prompt(instruction, input, answer)
    values = _values((yield from model.ask(prompt)))
    shown = repr(values["input"]) if values["input"] else ""
    steps = _steps((yield from model.ask(templates.plan_prompt(instruction, shown))))
    prompt = templates.program_prompt(instruction, shown, repr(values["output"]), steps)
    parts = split_completion((yield from model.ask(prompt)))
    code = f"{parts.program}\n\n>>> {parts.call}" if parts.call else parts.program
    record = read_record(instruction, input, code, parts.output)
    if normalised(record.output["answer"]) != normalised(values["output"]):
        given, wanted = (repr(v)[:80] for v in (record.output["answer"], values["output"]))
        raise Unusable("answer_differs", f"{given} in place of {wanted}")
    return record


def _values(text: str) -> dict[str, Any]:
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
