"""A task that is one YAML file: ``codegen eval run file:my.yaml``.

    about: sums in words
    problems: sums.jsonl          # next to this file; or hub:org/name[:config][:split]; or rows
    id: number                    # a column, unchanged ...
    prompt: |                     # ... or a Jinja2 template over the columns
      Write a Python function {{ name }}(values) that returns {{ text }}.
    entry_point: name
    tests: |
      assert {{ name }}([1, 2]) == {{ expected }}
    solution: code
    style: plain                  # the prompt style, unless the run sets one

``prompt`` and a scoring method (``tests``; ``calls`` and ``expected``; ``stdin`` and ``stdout``;
``answer``) form a row of :mod:`codegen.evals.tasks.custom`. All of its columns can be keys here;
data columns that already have such a name are used directly. ``instruction`` is the prompt
of instruction styles, if it differs. ``program`` is a template that builds the program from the
columns and ``completion``, the code found in the answer.

Templates compute text from a row's columns and access nothing else (:mod:`codegen.core.templates`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from codegen.core.config import Config, read_config, setting
from codegen.core.errors import InputError
from codegen.core.generation import cut_at_stop
from codegen.core.paths import plain_name
from codegen.core.templates import Templates
from codegen.evals.tasks.custom import JUDGED_BY, CustomProblem, CustomTask
from codegen.evals.tasks.dataset_rows import (
    FILE,
    DataLocation,
    DatasetRows,
    make_problems,
    read_rows_of,
)
from codegen.evals.tasks.extraction import EMPTY, Extraction, find_code
from codegen.evals.tasks.styles import PromptStyle, find_style


class TaskFile(Config):
    """The keys of a task file. Values are column names, or Jinja2 templates over the columns."""

    problems: str | list[dict[str, Any]] = setting(
        ..., "file of rows next to this one, hub:org/name[:config][:split], or the rows"
    )
    about: str = setting("", "one-line description of the task")
    style: str = setting("", "prompt style, unless the run sets one")
    stop: tuple[str, ...] | None = setting(
        None, "strings that end an answer, instead of the style's"
    )
    prompt: str = setting("prompt", "the prompt")
    instruction: str = setting("", "prompt of instruction styles, if it differs")
    program: str = setting("", "program, built from the columns and completion")
    id: str | None = setting(None, "problem id; by default the line number")
    entry_point: str | None = setting(None, "function that tests call")
    setup: str | None = setting(None, "code before the tests")
    tests: str | list[str] | None = setting(None, "Python statements that test the program")
    calls: str | None = setting(None, "function calls, whose results are in expected")
    expected: str | None = setting(None, "results of the calls")
    stdin: str | None = setting(None, "standard input, a string or a list")
    stdout: str | None = setting(None, "expected standard output")
    answer: str | None = setting(None, "expected answer, if the model answers with a string")
    solution: str | None = setting(None, "correct program")
    buggy: str | list[str] | None = setting(None, "incorrect programs")
    mode: str | None = setting(None, "test mode: isolated or in_sandbox")
    cpu_s: float | None = setting(None, "maximum CPU seconds per program")
    memory_mib: int | None = setting(None, "maximum MiB of memory per program")


# Keys that are columns of ``custom``; the others describe the task.
_COLUMNS = tuple(
    name
    for name in TaskFile.model_fields
    if name not in ("problems", "about", "style", "stop", "instruction", "program")
)


@dataclass(frozen=True, slots=True)
class YamlProblem(CustomProblem):
    """A problem with its instruction and data row."""

    instruction: str = ""
    row: Mapping[str, Any] = field(default_factory=dict, compare=False)


class YamlTask(CustomTask):
    """The task that a YAML file defines."""

    def __init__(
        self,
        name: str,
        description: str,
        problems: Sequence[YamlProblem],
        source: str,
        file: TaskFile,
        templates: Templates,
    ) -> None:
        super().__init__(name, description, problems, source)
        self._file, self._templates = file, templates
        self.style = file.style

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the task ``file:PATH``; ``source`` replaces the file's problems if given.

        Raises:
            ConfigError: for an unknown or wrong key, or an invalid template.
            InputError: for unreadable or unusable rows; names the line.
        """
        path = Path(name.removeprefix(FILE))
        file = read_config(TaskFile, path, what="task")
        if file.style:
            find_style(file.style)
        rows, fill = _rows(file, path, source), Templates()
        problems = make_problems(rows, lambda place, row: _problem(file, place, row, fill))
        about = file.about or description
        return cls(f"{FILE}{path.name}", about, problems, rows.source, file, fill)

    def instruction(self, problem: CustomProblem) -> str:
        """Returns the file's instruction, else the prompt."""
        return (isinstance(problem, YamlProblem) and problem.instruction) or problem.prompt

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return super()._stops(style) if self._file.stop is None else self._file.stop

    def read(self, problem: CustomProblem, style: PromptStyle, answer: str) -> Extraction:
        """Builds the program with the file's template, if it has one."""
        if not self._file.program or not isinstance(problem, YamlProblem):
            return super().read(problem, style, answer)
        if style.read == "find":
            extraction = find_code(answer, problem.entry_point)
        else:
            extraction = Extraction(cut_at_stop(answer, self._stops(style)))
        if not extraction.program.strip():
            return extraction if extraction.reason else EMPTY
        where = f"problem {problem.id}"
        columns = {**problem.row, "completion": extraction.program}
        return Extraction(
            str(_value(self._file.program, columns, "program", where, self._templates))
        )


def _rows(file: TaskFile, path: Path, source: str | None) -> DatasetRows:
    if isinstance(file.problems, list) and source is None:
        places = (f"{path}:{number}" for number in range(1, len(file.problems) + 1))
        return DatasetRows(zip(places, file.problems, strict=True), path.name)
    named = source or str(file.problems)
    if source is None and not named.startswith("hub:"):
        named = str(path.parent / plain_name(named, str(path)))
    rows = read_rows_of(named, DataLocation(named))
    # Settings and reports must not contain a machine's paths.
    return DatasetRows(rows.items, named if named.startswith("hub:") else Path(named).name)


def _problem(
    file: TaskFile, place: str, row: Mapping[str, object], templates: Templates
) -> YamlProblem:
    texts = {name: value for name in _COLUMNS if (value := getattr(file, name)) is not None}
    if file.prompt == "prompt" and "prompt" not in row:
        del texts["prompt"]  # so the error reports the missing prompt
    made = {name: _value(value, row, name, place, templates) for name, value in texts.items()}
    columns = dict(row)
    if any(kind in made for kind in JUDGED_BY):  # drop columns of other methods
        columns = {name: value for name, value in row.items() if name not in JUDGED_BY}
    problem = CustomTask.problem_of(place, {**columns, **made})
    fields = {name: getattr(problem, name) for name in CustomProblem.__dataclass_fields__}
    asked = file.instruction and _value(file.instruction, row, "instruction", place, templates)
    return YamlProblem(**fields, instruction=str(asked), row=dict(row))


def _value(
    text: object, row: Mapping[str, object], key: str, place: str, templates: Templates
) -> object:
    """Returns a column's value, or renders a template; maps over lists and keeps numbers."""
    if isinstance(text, (list, tuple)):
        return [_value(item, row, key, place, templates) for item in text]
    if not isinstance(text, str):
        return text
    if text in row:
        return row[text]
    if text.isidentifier() and "{" not in text and key != "mode":
        raise InputError(
            f"{place}: unknown column {text!r} in {key}.",
            f"The row has: {', '.join(map(str, row))}. For a literal, write {{{{ '{text}' }}}}.",
        )
    return templates.fill(text, row, key, place)
