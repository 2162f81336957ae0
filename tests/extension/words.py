"""A task: small questions about words, read from the JSONL file beside this module."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from codegen.evals.tasks import CodeTask, Problem
from codegen.sandbox import Job

ROWS = Path(__file__).with_name("words.jsonl")


@dataclass(frozen=True)
class Question(Problem):
    """A question about a word, its test, the body of a right answer and those of wrong ones."""

    test: str
    body: str
    wrong: tuple[str, ...]


class Words(CodeTask[Question]):
    """Asks for functions of one word."""

    about = "small questions about words"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """The task over all rows of the file, or of another one."""
        lines = Path(source or ROWS).read_text(encoding="utf-8").splitlines()
        problems = [question(json.loads(line)) for line in lines]
        return cls(name, description, problems, str(source or ROWS.name))

    def reference(self, problem: Question) -> str:
        """The whole program that is right."""
        return problem.prompt + problem.body

    def buggy(self, problem: Question) -> Sequence[str]:
        """Whole programs that are wrong."""
        return [problem.prompt + body for body in problem.wrong]

    def job(self, problem: Question, program: str) -> Job:
        """What the sandbox runs to judge a program."""
        return Job(program, test=problem.test)


def question(row: dict[str, Any]) -> Question:
    """A problem of a row; the prompt is code that the model continues."""
    name = f"{row['name']}"
    prompt = f'def {name}(word):\n    """Returns {row["text"]}."""\n    '
    test = f"assert {name}({row['input']!r}) == {row['expected']!r}\n"
    return Question(f"words/{name}", prompt, test, f"{row['body']}\n", tuple(row["wrong"]))
