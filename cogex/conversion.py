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

from codegen.cogex.literals import Invalid, normalized, parse_output
from codegen.cogex.record import CogexRecord, read_record, split_completion
from codegen.generation.plans import Conversation, Plan, Unusable

_PYTHONISE = """\
Rewrite the input and the output of a task as clean Python literals: numbers, strings, lists or
dictionaries, whichever suits best. Keep every fact, write no line ends inside strings and no "...".
Answer with one JSON object that has the keys "input" and "output", and nothing else.

TASK 1: Which of these are fruit, which are tools? | INPUT 1: pear, hammer, plum
OUTPUT TO CLEAN 1: Fruit: pear and plum. Tools: hammer.
ANSWER 1: {{"input": ["pear", "hammer", "plum"], "output": {{"fruit": ["pear", "plum"], "tools": ["hammer"]}}}}

TASK 2: Make a list of the words. | INPUT 2: red green blue
OUTPUT TO CLEAN 2: 1. red 2. green 3. blue
ANSWER 2: {{"input": "red green blue", "output": ["red", "green", "blue"]}}

TASK 3: Name three things to take on a hike. | INPUT 3: (none)
OUTPUT TO CLEAN 3: - Water\n- A map\n- Good shoes
ANSWER 3: {{"input": "", "output": ["water", "a map", "good shoes"]}}

TASK 4: {instruction} | INPUT 4: {input}
OUTPUT TO CLEAN 4: {output}
ANSWER 4:"""  # noqa: E501

_PLAN = """\
Write a plan of at most three steps by which somebody could solve the problem below. If it takes an
input, the plan must hold for other inputs too. Answer with one JSON object a line, in the form
{{"number": 1, "description": "what to do"}}, and nothing else.

Instruction: {instruction}
Input: {input}"""

_PROGRAM = """\
Write a Python function that solves the problem by the given steps, call it, and show what it
returns. Rules:
- one function with a docstring (Args, Returns); a comment "# Step 1: ..." before each step;
- it returns a dictionary literal with the intermediate results in order and "answer" last;
- it may call functions that are not defined anywhere, if their names say what they do; no imports
  and no other definitions;
- it works for other inputs: what is special about this one stands in the call alone;
- the call follows after a blank line as ">>> name(arguments)", its arguments are literals; then
  comes the line "### Output", then the dictionary that the call returns, on one line, all of it
  literals, with the given answer.

Instruction: Find words that mean the opposite.
Input: "bright"
Answer: ["dark", "dull"]
Steps:
1. Find what the word describes.
2. List words at the other end of the scale.
Code:
def find_opposites(word, count):
    \"\"\"Finds words that mean the opposite.

    Args:
        word (str): the word.
        count (int): how many to find.

    Returns:
        dict: quality, candidates and answer.
    \"\"\"
    # Step 1: Find what the word describes.
    quality = identify_quality(word)
    # Step 2: List words at the other end of the scale.
    candidates = list_words_at_other_end(word, quality)
    return {{"quality": quality, "candidates": candidates, "answer": candidates[:count]}}

>>> find_opposites('bright', 2)
### Output
{{'quality': 'light', 'candidates': ['dark', 'dull', 'dim'], 'answer': ['dark', 'dull']}}

Instruction: How much do the items cost together?
Input: {{"pen": 2, "book": 9}}
Answer: 11
Steps:
1. Take the prices.
2. Add them.
Code:
def total_cost(prices):
    \"\"\"Adds up prices.

    Args:
        prices (dict): price by item.

    Returns:
        dict: amounts and answer.
    \"\"\"
    # Step 1: Take the prices.
    amounts = list(prices.values())
    # Step 2: Add them.
    return {{"amounts": amounts, "answer": sum(amounts)}}

>>> total_cost({{'pen': 2, 'book': 9}})
### Output
{{'amounts': [2, 9], 'answer': 11}}

Instruction: {instruction}
Input: {input}
Answer: {output}
Steps:
{steps}
Code:"""


def pythonise_prompt(instruction: str, input: str, output: str) -> str:
    """The request for input and output as Python values."""
    return _PYTHONISE.format(instruction=instruction, input=input or "(none)", output=output)


def plan_prompt(instruction: str, input: str) -> str:
    """The request for at most three steps."""
    return _PLAN.format(instruction=instruction, input=input or "(none)")


def program_prompt(instruction: str, input: str, output: str, steps: Sequence[str]) -> str:
    """The request for the function, the call and the output."""
    numbered = "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
    return _PROGRAM.format(
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
