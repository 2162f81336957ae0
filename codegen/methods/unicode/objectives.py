"""The four training objectives of UniCoder as prompt and response.

With q the question, a the answer (a program) and p its universal code, the paper's loss is the sum,
with equal weights, of

* ``qa``  −log P(a | q): question to code;
* ``qp``  −log P(p | q): question to universal code;
* ``pa``  −log P(a | p): universal code to code;
* ``uot`` −log P(p, a | q): universal code of thought, then the code, in one response.

One text for each, with the loss on the response alone. A trained model is asked with ``uot``
(:func:`instruction`); of its response the last block is the program. Code stands in Markdown
blocks, those of universal code tagged ``unicode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from codegen.methods.unicode.templates import (
    ALPACA,
    DESCRIBE,
    FIRST_UNICODE,
    TRANSLATE,
    UNICODE_TAG,
    fenced,
    language_name,
)
from codegen.records import Segment

Objective = Literal["qa", "qp", "pa", "uot"]
OBJECTIVES: tuple[Objective, ...] = ("qa", "qp", "pa", "uot")
Template = Literal["plain", "alpaca"]
TEMPLATES: tuple[Template, ...] = ("plain", "alpaca")


@dataclass(frozen=True, slots=True)
class Triple:
    """A question, its answer in a language, and the answer's universal code."""

    question: str
    answer: str
    unicode: str
    language: str = "python"


def instruction(
    objective: Objective, question: str = "", language: str = "", code: str = ""
) -> str:
    """What the model is asked: ``question`` for all but ``pa``, for which ``code`` is p."""
    question = question.strip()
    name = language_name(language)
    match objective:
        case "qa":
            return question
        case "qp":
            return f"{question}\n\n{DESCRIBE}"
        case "pa":
            return f"{TRANSLATE.format(language=name)}\n\n{fenced(code, UNICODE_TAG)}"
        case "uot":
            return f"{question}\n\n{FIRST_UNICODE.format(language=name)}"


def response(objective: Objective, triple: Triple) -> str:
    """What the model answers."""
    unicode = fenced(triple.unicode, UNICODE_TAG)
    answer = fenced(triple.answer, triple.language)
    match objective:
        case "qa" | "pa":
            return answer
        case "qp":
            return unicode
        case "uot":
            return f"{unicode}\n\n{answer}"


def segments(
    objective: Objective, triple: Triple, template: Template = "plain"
) -> tuple[Segment, Segment]:
    """Prompt (untrained) and response (trained) of one objective.

    ``plain`` is the instruction and a line's end, for chat models, whose own template goes around
    it, and as the other generators have it. ``alpaca`` wraps it as the paper's training code does.
    """
    asked = instruction(objective, triple.question, triple.language, triple.unicode)
    prompt = ALPACA.format(instruction=asked) if template == "alpaca" else asked + "\n"
    return Segment(prompt, False), Segment(response(objective, triple), True)
