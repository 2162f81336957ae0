"""What UniCode asks a model, and how its answers are read.

Each example is a *plan*: a coroutine that yields questions and is sent their answers.
:func:`run_plans` advances many plans side by side, so that their questions go out together.

An answer that can't be used raises :class:`Unusable`, whose ``reason`` is what the data engine
counts the example as skipped by:

* ``truncated``: it reached the limit of tokens; ``content_filter``: the server withheld it;
* ``not_unicode``: it holds lone surrogates;
* ``empty_answer``: it holds no universal code; ``copied_program``: that is the program itself,
  ``executable``: it is another one, in Python;
* ``skeleton_changed``: a hybrid answer changed more than comments; ``no_comments``: it added none;
* ``low_score``, ``no_score``: the grade is below the bound, or no grade was given;
* ``no_instruction``: there is no question to answer;
* ``no_problem``: an answer to a snippet lacks one of its sections;
* ``bad_solution``: the Python program in it does not parse.
"""

from __future__ import annotations

import ast
import os
import random
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from codegen.generation.asking import Answer, Ask, Asker, RequestFailed
from codegen.generation.endpoint_settings import Endpoint
from codegen.generation.local_model import LocalModel
from codegen.records import has_lone_surrogate
from codegen.unicoder import templates
from codegen.unicoder.convert import (
    Translation,
    parse_program,
    same_program,
    to_python,
    to_unicode,
)
from codegen.unicoder.errors import UniCodeSyntaxError, UnsupportedProgram
from codegen.unicoder.objectives import Triple
from codegen.unicoder.styles import STYLES, Style

T = TypeVar("T")
Plan = Generator[Ask, Answer, T]

GRADES = (1, 5)


class Unusable(Exception):
    """A model's answer can't be used; ``reason`` is a short stable word."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


@dataclass(slots=True)
class Questioner:
    """Makes the questions of one example, each with a seed of its own, and counts their tokens."""

    rng: random.Random
    temperature: float
    max_tokens: int
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def ask(self, prompt: str) -> Plan[str]:
        """The text of the answer to a prompt, without a reasoning model's thoughts."""
        seed = self.rng.getrandbits(31)
        answer = yield Ask(
            prompt, max_tokens=self.max_tokens, temperature=self.temperature, seed=seed
        )
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        if answer.finish_reason == "length":
            raise Unusable("truncated", f"the answer has more than {self.max_tokens} tokens")
        if answer.finish_reason == "content_filter":
            raise Unusable("content_filter", "the server withheld the answer")
        if has_lone_surrogate(answer.text):  # readers of the data would refuse the whole file
            raise Unusable("not_unicode", "the answer holds lone surrogates")
        return _THOUGHTS.sub("", answer.text.replace("\r\n", "\n"), count=1)


_THOUGHTS = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def run_plans(plans: Sequence[Plan[T]], asker: Asker | None) -> list[T | Exception]:
    """What each plan returns or raises, their questions asked together, round by round.

    Raises:
        ModelUnusable: if the model can answer no question.
    """
    results: list[T | Exception | None] = [None] * len(plans)
    asks: dict[int, Ask] = {}

    def advance(number: int, answer: Answer | RequestFailed | None) -> None:
        plan = plans[number]
        try:
            if isinstance(answer, RequestFailed):
                asks[number] = plan.throw(answer)
            elif answer is None:
                asks[number] = next(plan)
            else:
                asks[number] = plan.send(answer)
        except StopIteration as end:
            results[number] = end.value
        except Exception as error:  # noqa: BLE001 - one example's; the engine counts it
            results[number] = error

    for number in range(len(plans)):
        advance(number, None)
    while asks:
        if asker is None:
            raise TypeError("a plan has a question and there is nobody to ask")
        pending = dict(asks)
        asks.clear()
        answers = asker.ask_many(list(pending.values()))
        for number, answer in zip(pending, answers, strict=True):
            advance(number, answer)
    return results  # type: ignore[return-value] # every plan has ended


def asker_of(model: Endpoint | LocalModel, cache_path: str = "", ledger_path: str = "") -> Asker:
    """The one client of this process for a model.

    Raises:
        CodegenError: if the key is not set, the model is not there or a file can't be used.
    """
    return _asker(model, cache_path, ledger_path, os.getpid())


@cache
def _asker(model: Endpoint | LocalModel, cache_path: str, ledger_path: str, _process: int) -> Asker:
    from codegen.generation.endpoint import EndpointClient
    from codegen.generation.ledger import Ledger
    from codegen.generation.local_model import LocalClient
    from codegen.generation.response_cache import ResponseCache

    answers = ResponseCache(cache_path) if cache_path else None
    ledger = Ledger(ledger_path) if ledger_path else None
    if isinstance(model, LocalModel):
        return LocalClient(model, answers, ledger)
    return EndpointClient(model, answers, ledger)


def written(
    question: str, answer: str, language: str, style: Style, asked: Questioner
) -> Plan[str]:
    """A plan for the universal code of an answer, written by the model."""
    prompt = templates.write_prompt(question, answer, language, style, _example(style.name))
    unicode = block((yield from asked.ask(prompt)))
    if not unicode.strip():
        raise Unusable("empty_answer", "the answer holds no universal code")
    if _squeezed(unicode) == _squeezed(answer):
        raise Unusable("copied_program", "the answer is the program itself")
    if is_python(unicode):
        raise Unusable("executable", "the answer is Python")
    return unicode


def commented(question: str, skeleton: Translation, asked: Questioner) -> Plan[str]:
    """A plan for universal code from the AST with comments from the model."""
    unicode = block((yield from asked.ask(templates.comment_prompt(question, skeleton.text))))
    return checked_comments(skeleton, unicode)


def graded(triple: Triple, least: int, asked: Questioner) -> Plan[int]:
    """A plan for a grade of at least ``least``."""
    prompt = templates.score_prompt(triple.question, triple.answer, triple.language, triple.unicode)
    score = grade((yield from asked.ask(prompt)))
    if score < least:
        raise Unusable("low_score", f"graded {score}, below {least}")
    return score


def invented(snippet: str, language: str, asked: Questioner) -> Plan[tuple[str, str]]:
    """A plan for a question and its answer, inspired by a snippet."""
    return problem_and_solution((yield from asked.ask(templates.snippet_prompt(snippet, language))))


def block(text: str) -> str:
    """The first Markdown block of an answer, or all of it if there is none; without outer lines."""
    fence = re.search(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n", text, re.MULTILINE)
    if not fence:
        return text.strip("\n").rstrip()
    rest = text[fence.end() :]
    end = re.search(rf"^[ \t]*{fence[1][0]}{{{len(fence[1])},}}[ \t]*$", rest, re.MULTILINE)
    return (rest[: end.start()] if end else rest).strip("\n").rstrip()


def grade(text: str) -> int:
    """The grade in an answer: its only number from 1 to 5, "4", "**4**", "Grade: 4/5".

    Raises:
        Unusable: if there is none, or several that differ.
    """
    lowest, highest = GRADES
    numbers = re.findall(rf"(?<![\d./])([{lowest}-{highest}])(?![\d]|\.\d)", text)
    if len(set(numbers)) != 1:
        raise Unusable("no_score", f"no grade in {text[:80]!r}")
    return int(numbers[0])


def is_python(text: str) -> bool:
    """Whether a text is Python by more than chance: it parses and has a statement with a keyword.

    ``x = 1`` and ``PRINT(x)`` are universal code as well.
    """
    try:
        tree = parse_program(text)
    except UnsupportedProgram:
        return False
    plain = (ast.Assign, ast.AugAssign, ast.Expr)
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    return not all(isinstance(node, plain) for node in statements)


def problem_and_solution(text: str) -> tuple[str, str]:
    """The two sections of an answer to a snippet.

    Raises:
        Unusable: if one of them is missing or empty.
    """
    mark = r"^[ \t#*]*\[{}\][ \t:*]*"
    pattern = mark.format("Problem") + r"(.*?)" + mark.format("Solution") + r"(.*)\Z"
    found = re.search(pattern, text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    problem, solution = (found[1].strip(), block(found[2])) if found else ("", "")
    if not problem or not solution.strip():
        raise Unusable("no_problem", "the answer lacks [Problem] or [Solution]")
    return problem, solution + "\n"


def checked_comments(skeleton: Translation, unicode: str) -> str:
    """Universal code that differs from a skeleton in comment lines alone.

    Raises:
        Unusable: if it does not, or has no new comment.
    """
    if change := _first_change(_code_lines(skeleton.text), _code_lines(unicode)):
        raise Unusable("skeleton_changed", change)
    if not set(_comments(unicode)) - set(_comments(skeleton.text)):
        raise Unusable("no_comments", "the answer adds no comment")
    # A line with // within a string is no comment, which only the parser knows.
    try:
        old, new = (to_python(text, skeleton.style) for text in (skeleton.text, unicode))
        same = same_program(old, new)
    except (UniCodeSyntaxError, UnsupportedProgram) as error:
        raise Unusable("skeleton_changed", f"it can't be read: {error}") from None
    if not same:
        raise Unusable("skeleton_changed", "it stands for another program")
    return unicode.rstrip() + "\n"


def _first_change(old: list[str], new: list[str]) -> str:
    for before, after in zip(old, new, strict=False):
        if before != after:
            return f"{before!r} became {after!r}"
    return "" if len(old) == len(new) else f"{len(old)} lines of code became {len(new)}"


def _code_lines(text: str) -> list[str]:
    lines = (line.rstrip() for line in text.splitlines())
    return [line for line in lines if line and not line.lstrip().startswith("//")]


def _comments(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line.startswith("//") and line.strip("/ ")]


def _squeezed(text: str) -> str:
    return "".join(text.split())


@cache
def _example(style: str) -> str:
    return to_unicode(templates.EXAMPLE_ANSWER, STYLES[style]).text
