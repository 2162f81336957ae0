"""UniCode's requests to a model, and the parsing of its responses.

Each example is a plan (:mod:`codegen.generation.plans`). A response that cannot be used raises
``Unusable``; the data engine counts the skipped example by its ``reason``. In addition to the
reasons named there:

* ``empty_answer``: no universal code; ``copied_program``: the program itself; ``executable``:
  another Python program;
* ``skeleton_changed``: a hybrid answer changed more than comments; ``no_comments``: it added none;
* ``low_score``, ``no_score``: the grade is below the bound, or missing;
* ``no_instruction``: the example has no question;
* ``no_problem``: the response to a snippet lacks one of its sections;
* ``bad_solution``: the Python program in it does not parse.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

from codegen.generation.plans import Conversation, Plan, Unusable
from codegen.methods.unicode import prompts
from codegen.methods.unicode.prompts import Triple
from codegen.methods.unicode.words import STYLES, Style
from codegen.methods.unicode.write_statements import (
    Translation,
    UnsupportedProgram,
    parse_program,
    to_unicode,
)

GRADES = (1, 5)


def written(
    question: str, answer: str, language: str, style: Style, model: Conversation
) -> Plan[str]:
    """A plan for the universal code of an answer, written by the model."""
    prompt = prompts.write_prompt(question, answer, language, style, _example(style.name))
    unicode = block((yield from model.complete(prompt)))
    if not unicode.strip():
        raise Unusable("empty_answer", "the answer holds no universal code")
    if _squeezed(unicode) == _squeezed(answer):
        raise Unusable("copied_program", "the answer is the program itself")
    if is_python(unicode):
        raise Unusable("executable", "the answer is Python")
    return unicode


def commented(question: str, skeleton: Translation, model: Conversation) -> Plan[str]:
    """A plan for universal code from the AST with comments from the model."""
    unicode = block((yield from model.complete(prompts.comment_prompt(question, skeleton.text))))
    return checked_comments(skeleton, unicode)


def graded(triple: Triple, least: int, model: Conversation) -> Plan[int]:
    """A plan for a grade of at least ``least``."""
    prompt = prompts.score_prompt(triple.question, triple.answer, triple.language, triple.unicode)
    score = grade((yield from model.complete(prompt)))
    if score < least:
        raise Unusable("low_score", f"graded {score}, below {least}")
    return score


def invented(snippet: str, language: str, model: Conversation) -> Plan[tuple[str, str]]:
    """A plan for a question and its answer, inspired by a snippet."""
    return problem_and_solution(
        (yield from model.complete(prompts.snippet_prompt(snippet, language)))
    )


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
    """Whether a text is Python rather than universal code: it parses and has a keyword statement.

    ``x = 1`` and ``PRINT(x)`` are both.
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
    """Universal code that differs from a skeleton only in comment lines.

    Raises:
        Unusable: if it differs otherwise, or has no new comment.
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
    """Each line, and whether it is a comment; ``//`` inside ``/* ... */`` begins none."""
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
