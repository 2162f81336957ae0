"""Prompts for UniCoder data: requests to a model, and the four training objectives.

The wording differs from the paper (Sun et al., "UniCoder", ACL 2024), which shows its prompts only
in figures. Taken from the paper: seven conventions of universal code, a few-shot example, question
and answer in the prompt, and the multi-task objectives. The Alpaca wrapper is Stanford Alpaca's,
whose training code the paper uses.

With q the question, a the answer (a program) and p its universal code, the paper's loss is the sum,
with equal weights, of

* ``qa``  −log P(a | q): question to code;
* ``qp``  −log P(p | q): question to universal code;
* ``pa``  −log P(a | p): universal code to code;
* ``uot`` −log P(p, a | q): universal code of thought, then the code, in one response.

Each yields one text, with the loss only on the response. A trained model is prompted with ``uot``
(:func:`instruction`); the last block of its response is the program. Code is in Markdown blocks,
with the tag ``unicode`` for universal code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from codegen.core.config import read_yaml
from codegen.core.languages import find_language
from codegen.core.records import Segment
from codegen.methods.unicoder.words import Style

UNICODE_TAG = "unicode"

# The AST writer makes the example's universal code in the requested style.
_TEXTS = read_yaml(Path(__file__).with_name("prompts.yaml"))
EXAMPLE_ANSWER: str = _TEXTS["example_answer"]


def fenced(text: str, tag: str = "") -> str:
    """Returns a Markdown block whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{tag}\n{text.rstrip(chr(10))}\n{fence}"


def language_name(language: str) -> str:
    """Returns the language's display name."""
    found = find_language(language)
    return found.title if found else language[:1].upper() + language[1:]


def conventions(style: Style) -> str:
    """Returns the seven conventions of universal code, with the blocks and case of a style."""
    words = {
        word: word if style.upper else word.lower()
        for word in ("IF", "ELSIF", "ELSE", "FOR", "WHILE", "DO", "BEGIN", "END")
    }
    blocks = _TEXTS["blocks"][style.blocks]
    if style.blocks == "begin_end":
        blocks = blocks.format(**words)
    return _TEXTS["conventions"].format(**words, blocks=blocks)


def write_prompt(
    question: str, answer: str, language: str, style: Style, example_unicode: str
) -> str:
    """Returns the prompt for the universal code of an answer."""
    return _TEXTS["write"].format(
        conventions=conventions(style),
        example_question=_TEXTS["example_question"],
        example_answer=fenced(EXAMPLE_ANSWER, "python"),
        example_unicode=fenced(example_unicode, UNICODE_TAG),
        question=question.strip(),
        answer=fenced(answer, language),
    )


def comment_prompt(question: str, unicode: str) -> str:
    """Returns the prompt for comments on the steps of universal code."""
    unicode = fenced(unicode, UNICODE_TAG)
    return _TEXTS["comment"].format(question=question.strip(), unicode=unicode)


def score_prompt(question: str, answer: str, language: str, unicode: str) -> str:
    """Returns the prompt for a grade of universal code."""
    return _TEXTS["score"].format(
        question=question.strip(),
        answer=fenced(answer, language),
        unicode=fenced(unicode, UNICODE_TAG),
    )


def snippet_prompt(snippet: str, language: str) -> str:
    """Returns the prompt for a task inspired by code (OSS-Instruct, Wei et al. 2023)."""
    name = language_name(language)
    return _TEXTS["snippet"].format(language=name, snippet=fenced(snippet, language))


Objective = Literal["qa", "qp", "pa", "uot"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
Template = Literal["plain", "alpaca"]
TEMPLATES: tuple[Template, ...] = get_args(Template)


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
    """Returns an objective's instruction, from ``question``, or for ``pa`` from ``code``."""
    question = question.strip()
    name = language_name(language)
    match objective:
        case "qa":
            return question
        case "qp":
            return f"{question}\n\n{_TEXTS['describe']}"
        case "pa":
            return f"{_TEXTS['translate'].format(language=name)}\n\n{fenced(code, UNICODE_TAG)}"
        case "uot":
            return f"{question}\n\n{_TEXTS['first_unicode'].format(language=name)}"


def response(objective: Objective, triple: Triple) -> str:
    """Returns the response of an objective."""
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
    """Returns the prompt (untrained) and response (trained) of one objective.

    ``plain`` is the instruction and a newline, as in the other generators; a chat model's own
    template is added around it. ``alpaca`` wraps it as in the paper's training code.
    """
    asked = instruction(objective, triple.question, triple.language, triple.unicode)
    prompt = _TEXTS["alpaca"].format(instruction=asked) if template == "alpaca" else asked + "\n"
    return Segment(prompt, False), Segment(response(objective, triple), True)
