"""The UniCode generator: (question, program) to the training texts of UniCoder's objectives.

Source: Sun et al., "UniCoder: Scaling Code Large Language Model via Universal Code", ACL 2024.
GPT-4 writes the paper's universal code; here ``mode`` selects the source:

* ``ast``: :func:`codegen.methods.unicoder.to_unicode`, without a model.
* ``llm``: a model, prompted with the paper's seven conventions and an example. With ``min_score``
  it also grades each text (the paper filters by an LLM scorer, whose threshold it does not state;
  we recommend 4 of 5).
* ``hybrid``: the AST's text, to which a model adds only comments on the steps.

Limits: ``ast`` and ``hybrid`` support only Python. An ``ast`` text is about as long as the program:
it is faithful, but not more abstract than the code.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, get_args

from codegen.core.errors import ConfigError, require_known
from codegen.core.records import BatchGenerator, Example, TrainingText
from codegen.generation.request_chains import Conversation, ModelClient, Plan, Unusable, run_plans
from codegen.methods.unicoder import prompts
from codegen.methods.unicoder.prompts import (
    OBJECTIVES,
    TEMPLATES,
    Objective,
    Template,
    Triple,
    segments,
)
from codegen.methods.unicoder.words import STYLES, Style, choose_style
from codegen.methods.unicoder.write_statements import (
    Translation,
    UntranslatableProgram,
    parse_program,
    to_unicode,
)

GRADES = (1, 5)


def written(
    question: str, answer: str, language: str, style: Style, model: Conversation
) -> Plan[str]:
    """Plans the requests for universal code of an answer."""
    prompt = prompts.write_prompt(question, answer, language, style, _example(style.name))
    unicode = block((yield from model.complete(prompt)))
    if not unicode.strip():
        raise Unusable("empty_answer", "the answer contains no universal code")
    if _squeezed(unicode) == _squeezed(answer):
        raise Unusable("copied_program", "the answer is the program itself")
    if is_python(unicode):
        raise Unusable("executable", "the answer is Python")
    return unicode


def commented(question: str, skeleton: Translation, model: Conversation) -> Plan[str]:
    """Plans the requests for comments on universal code from the AST."""
    unicode = block((yield from model.complete(prompts.comment_prompt(question, skeleton.text))))
    return checked_comments(skeleton, unicode)


def graded(triple: Triple, least: int, model: Conversation) -> Plan[int]:
    """Plans the requests for a grade of at least ``least``."""
    prompt = prompts.score_prompt(triple.question, triple.answer, triple.language, triple.unicode)
    score = grade((yield from model.complete(prompt)))
    if score < least:
        raise Unusable("low_score", f"graded {score}, below {least}")
    return score


def invented(snippet: str, language: str, model: Conversation) -> Plan[tuple[str, str]]:
    """Plans the requests for a question and its answer, inspired by a snippet."""
    return problem_and_solution(
        (yield from model.complete(prompts.snippet_prompt(snippet, language)))
    )


def block(text: str) -> str:
    """Returns the first Markdown block of an answer, or the whole answer without a block."""
    fence = re.search(r"^[ \t]*(`{3,}|~{3,})[^\n`]*\n", text, re.MULTILINE)
    if not fence:
        return text.strip("\n").rstrip()
    rest = text[fence.end() :]
    end = re.search(rf"^[ \t]*{fence[1][0]}{{{len(fence[1])},}}[ \t]*$", rest, re.MULTILINE)
    return (rest[: end.start()] if end else rest).strip("\n").rstrip()


def grade(text: str) -> int:
    """Parses the grade in an answer: its only number from 1 to 5, such as "**4**", "Grade: 4/5".

    Raises:
        Unusable: if there is no grade, or there are several different ones.
    """
    lowest, highest = GRADES
    numbers = re.findall(rf"(?<![\d./])([{lowest}-{highest}])(?![\d]|\.\d)", text)
    if len(set(numbers)) != 1:
        raise Unusable("no_score", f"no grade in {text[:80]!r}")
    return int(numbers[0])


def is_python(text: str) -> bool:
    """Returns True if a text is not universal code but Python: valid, with a keyword statement.

    ``x = 1`` and ``PRINT(x)`` are valid as both.
    """
    try:
        tree = parse_program(text)
    except UntranslatableProgram:
        return False
    plain = (ast.Assign, ast.AugAssign, ast.Expr)
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.stmt))
    return not all(isinstance(node, plain) for node in statements)


def problem_and_solution(text: str) -> tuple[str, str]:
    """Parses the two sections of an answer to a snippet.

    Raises:
        Unusable: if a section is missing or empty.
    """
    mark = r"^[ \t#*]*\[{}\][ \t:*]*"
    pattern = mark.format("Problem") + r"(.*?)" + mark.format("Solution") + r"(.*)\Z"
    found = re.search(pattern, text, re.DOTALL | re.MULTILINE | re.IGNORECASE)
    problem, solution = (found[1].strip(), block(found[2])) if found else ("", "")
    if not problem or not solution.strip():
        raise Unusable("no_problem", "the answer lacks [Problem] or [Solution]")
    return problem, solution + "\n"


def checked_comments(skeleton: Translation, unicode: str) -> str:
    """Returns universal code that differs from a skeleton only in comment lines.

    Raises:
        Unusable: if other lines differ, or no comment is new.
    """
    if change := _first_change(_code_lines(skeleton.text), _code_lines(unicode)):
        raise Unusable("skeleton_changed", change)
    if not set(_comments(unicode)) - set(_comments(skeleton.text)):
        raise Unusable("no_comments", "the answer adds no comment")
    return unicode.rstrip() + "\n"


def _first_change(old: list[str], new: list[str]) -> str:
    for before, after in zip(old, new, strict=False):
        if before != after:
            return f"{before!r} became {after!r}"
    return "" if len(old) == len(new) else f"{len(old)} lines of code became {len(new)}"


def _code_lines(text: str) -> list[str]:
    return [line for line, is_comment in _lines(text) if line and not is_comment]


def _comments(text: str) -> list[str]:
    return [line.strip() for line, is_comment in _lines(text) if is_comment and line.strip("/ ")]


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yields each line, and whether it is a comment; ``//`` inside ``/* ... */`` is ignored."""
    inside = False
    for line in map(str.rstrip, text.splitlines()):
        start = line.lstrip()
        yield line, not inside and start.startswith("//")
        if inside or start.startswith("/*"):
            inside = "*/" not in line


def _squeezed(text: str) -> str:
    return "".join(text.split())


@cache
def _example(style: str) -> str:
    return to_unicode(prompts.EXAMPLE_ANSWER, STYLES[style]).text


Mode = Literal["ast", "llm", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
MIX = "mix"


@dataclass(frozen=True, slots=True)
class UniCode(BatchGenerator):
    """Pseudo-code between a question and its program (UniCoder).

    Attributes:
        mode: source of the universal code: ``ast``, ``llm`` or ``hybrid``.
        objectives: objectives of the texts made from each example.
        styles: names of :data:`codegen.methods.unicoder.STYLES`, or ``mix`` for all; each example
            uses a random one.
        template: instruction template, ``plain`` or ``alpaca``.
        llm: model for ``llm`` and ``hybrid``.
        min_score: minimum grade of universal code, 1 to 5; 0 disables grading.
        snippets: in mode ``llm``, use each program as a snippet that inspires a question and an
            answer, as the paper does with raw code; the example's instruction is ignored.

    A text's ``meta`` has ``style`` and ``objective``; with a model also ``llm_model``, with grading
    ``score``. Only an example's first text has counts, so that sums over texts are correct: with
    the AST ``nodes`` and ``uncovered`` (all nodes, and those embedded as Python); with a
    model ``llm_prompt_tokens``, ``llm_completion_tokens`` and ``llm_cost_micros`` (millionths of
    the prices' currency).
    """

    mode: Mode = "ast"
    objectives: tuple[Objective, ...] = OBJECTIVES
    styles: tuple[str, ...] = (MIX,)
    template: Template = "plain"
    llm: ModelClient | None = None
    min_score: int = 0
    snippets: bool = False
    name: str = field(default="unicode", init=False)

    def __post_init__(self) -> None:
        _check_choices("mode", (self.mode,), MODES)
        _check_choices("objective", self.objectives, OBJECTIVES)
        _check_choices("style", self.styles, (MIX, *STYLES))
        _check_choices("template", (self.template,), TEMPLATES)
        if (self.mode == "ast") != (self.llm is None):
            raise ConfigError(
                f"Mode {self.mode!r} {'takes no' if self.llm else 'needs a'} model.",
                "Use mode llm or hybrid with --endpoint and --model, or with --llm.",
            )
        if self.mode != "llm" and (self.min_score or self.snippets):
            raise ConfigError("Grades and snippets need mode 'llm'.")
        if self.min_score not in (0, *range(GRADES[0], GRADES[1] + 1)):
            raise ConfigError(f"min_score is {self.min_score}; it must be 0 (off) or 1 to 5.")

    def config(self) -> dict[str, object]:
        """Returns the settings that determine the texts, without the model's address and cache."""
        config: dict[str, object] = {
            name: getattr(self, name)
            for name in ("name", "mode", "objectives", "styles", "template")
        }
        if self.llm is not None:
            config |= self.llm.config()
            config |= {"min_score": self.min_score, "snippets": self.snippets}
        return config

    def generate_many(self, items):
        """Returns the texts of each item, or its error; requests are sent together.

        Errors are :class:`UntranslatableProgram` if the program cannot be written as universal
        code, :class:`Unusable` if a response cannot be used, and the backend's errors.
        """
        plans = [self._plan(example, rng) for example, rng in items]
        return self.llm.run(plans) if self.llm else run_plans(plans)

    def _plan(self, example: Example, rng: random.Random) -> Plan[list[TrainingText]]:
        style = _draw(self.styles, rng)
        model = Conversation(rng, self.llm.max_tokens if self.llm else 0)
        question, answer, language = example.instruction, example.program, example.language
        if not self.snippets and not question.strip() and self.objectives != ("pa",):
            raise Unusable("no_instruction", "all objectives except pa need a question")
        if self.snippets:
            question, answer = yield from invented(answer, language, model)
            _check_invented(answer, language)
        meta: dict[str, object] = {"style": style.name}
        once: dict[str, int] = {}
        if self.mode == "llm":
            unicode = yield from written(question, answer, language, style, model)
        else:
            skeleton = translated(example, style)
            unicode = skeleton.text
            meta = {"style": skeleton.style.name}
            once = {"nodes": skeleton.nodes, "uncovered": sum(skeleton.uncovered.values())}
            if self.mode == "hybrid":
                unicode = yield from commented(question, skeleton, model)
        triple = Triple(question, answer, unicode, language)
        if self.min_score:
            meta["score"] = yield from graded(triple, self.min_score, model)
        if self.llm is not None:
            meta["llm_model"] = self.llm.spec.model
            once |= self.llm.cost(model)
        return [
            TrainingText(
                id=f"{example.id}#unicode-{objective}",
                example_id=example.id,
                generator=self.name,
                segments=segments(objective, triple, self.template),
                meta={"objective": objective, **meta, **({} if number else once)},
            )
            for number, objective in enumerate(self.objectives)
        ]


def translated(example: Example, style: Style) -> Translation:
    """Returns an example's universal code from its AST.

    Raises:
        UntranslatableProgram: if the program cannot be written as universal code.
    """
    if example.language != "python":
        raise UntranslatableProgram("not_python", f"it is written in {example.language!r}")
    return to_unicode(example.program, style)


def _draw(styles: Sequence[str], rng: random.Random) -> Style:
    name = rng.choice(list(styles))
    return choose_style(rng) if name == MIX else STYLES[name]


def _check_invented(answer: str, language: str) -> None:
    """Raises Unusable for a Python solution that does not parse."""
    if language != "python":
        return
    try:
        parse_program(answer)
    except UntranslatableProgram as error:
        raise Unusable("bad_solution", f"the solution is not Python: {error.detail}") from None


def _check_choices(what: str, values: Sequence[str], known: Sequence[str]) -> None:
    if isinstance(values, str) or not values:
        raise ConfigError(
            f"{what}s must be a sequence of names.", f"Choose from: {', '.join(known)}."
        )
    for value in values:
        require_known(what, value, known)
    if len(set(values)) < len(values):
        raise ConfigError(f"Each {what} must be given once: {', '.join(values)}.")
