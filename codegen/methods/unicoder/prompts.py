"""Prompts of UniCoder data: requests to a model, and the four training objectives.

The wording is not the paper's (Sun et al., "UniCoder", ACL 2024), which shows its own only in
figures.
From the paper: seven conventions of universal code, a few-shot example, question and answer in the
prompt, and the multi-task objectives. The Alpaca wrapper is Stanford Alpaca's, whose training code
the paper uses.

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
from typing import Literal, get_args

from codegen.core.languages import find_language
from codegen.core.records import Segment
from codegen.methods.unicoder.words import Style

UNICODE_TAG = "unicode"

DESCRIBE = "Describe the solution as universal code. Do not write executable code."
TRANSLATE = "Translate this universal code to {language}."
FIRST_UNICODE = "First write universal code, then translate it to {language}."

ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)

# The AST writer makes the example's universal code in the requested style.
EXAMPLE_QUESTION = "Return the position of a value in a sorted list, or -1 if it is not there."
EXAMPLE_ANSWER = '''\
def find(values, wanted):
    """Binary search."""
    low = 0
    high = len(values) - 1
    while low <= high:
        # Look in the middle of what is left.
        middle = (low + high) // 2
        if values[middle] == wanted:
            return middle
        # One half cannot hold the value: drop it.
        if values[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1
'''

_CONVENTIONS = """\
Universal code is pseudo-code that belongs to no programming language, yet states each step \
exactly. Its conventions:
1. Comments: // for one line, /* ... */ for several.
2. Variables: clear names, without types.
3. Input and output: simple and straightforward.
4. Conditionals: {IF}, {ELSIF}, {ELSE}, with indentation.
5. Loops: {FOR}, {WHILE}, {DO} ... {WHILE}, with the condition stated.
6. Functions and procedures: descriptive names, with their parameters.
7. Formatting: consistent indentation of 4 spaces; {blocks}."""

_BLOCKS = {
    "braces": "blocks stand in { }, and statements end with a semicolon",
    "begin_end": "blocks stand between {BEGIN} and {END}",
    "indent": "blocks are marked by their indentation alone",
}

_WRITE = """\
{conventions}

Rewrite the solution of a task as universal code. Keep its algorithm and every step of it; leave \
out what only one language needs.

Task:
{example_question}

Solution:
{example_answer}

Universal code:
{example_unicode}

Task:
{question}

Solution:
{answer}

Return only the universal code of this last solution, in one block."""

_COMMENT = """\
Below are a task and its solution in universal code. Add comments that explain the steps: lines of \
their own that begin with //, above the step that they explain and indented like it. Say what a \
step is for, not what its words already say. Change nothing else: every line of the code must stay \
exactly as it is, in the same order.

Task:
{question}

Universal code:
{unicode}

Return only the universal code with its comments, in one block."""

_SCORE = """\
Below are a task, its solution, and universal code (language-independent pseudo-code) that should \
describe the solution. Grade the universal code from 1 (useless) to 5 (excellent) by these \
questions: does it describe this solution faithfully? Is it complete? Is it independent of any \
programming language? Is it free of syntax that only one language has?

Task:
{question}

Solution:
{answer}

Universal code:
{unicode}

Answer with the grade alone: 1, 2, 3, 4 or 5."""

_SNIPPET = """\
Take the code snippet below as inspiration for one programming task with its solution in \
{language}. The task must be complete in itself: who reads it does not see the snippet. The \
solution must be correct and whole.

Snippet:
{snippet}

Write exactly two sections:
[Problem]
the task, in words
[Solution]
the program, in one block"""


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
    blocks = _BLOCKS[style.blocks]
    if style.blocks == "begin_end":
        blocks = blocks.format(**words)
    return _CONVENTIONS.format(**words, blocks=blocks)


def write_prompt(
    question: str, answer: str, language: str, style: Style, example_unicode: str
) -> str:
    """Returns the prompt for the universal code of an answer."""
    return _WRITE.format(
        conventions=conventions(style),
        example_question=EXAMPLE_QUESTION,
        example_answer=fenced(EXAMPLE_ANSWER, "python"),
        example_unicode=fenced(example_unicode, UNICODE_TAG),
        question=question.strip(),
        answer=fenced(answer, language),
    )


def comment_prompt(question: str, unicode: str) -> str:
    """Returns the prompt for comments on the steps of universal code."""
    return _COMMENT.format(question=question.strip(), unicode=fenced(unicode, UNICODE_TAG))


def score_prompt(question: str, answer: str, language: str, unicode: str) -> str:
    """Returns the prompt for a grade of universal code."""
    return _SCORE.format(
        question=question.strip(),
        answer=fenced(answer, language),
        unicode=fenced(unicode, UNICODE_TAG),
    )


def snippet_prompt(snippet: str, language: str) -> str:
    """Returns the prompt for a task inspired by code (OSS-Instruct, Wei et al. 2023)."""
    name = language_name(language)
    return _SNIPPET.format(language=name, snippet=fenced(snippet, language))


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
    """Returns an objective's instruction, from ``question``, or for ``pa`` from the code p."""
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
    prompt = ALPACA.format(instruction=asked) if template == "alpaca" else asked + "\n"
    return Segment(prompt, False), Segment(response(objective, triple), True)
