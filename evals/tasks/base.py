"""The interface between a benchmark and the runner and scorer.

:class:`Task` is that interface. :class:`CodeTask` implements it for tasks whose answer is Python
code: it builds prompts in every style and turns answers into programs. Most tasks extend it.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from codegen.core.errors import ConfigError
from codegen.core.generation import Request, cut_at_stop
from codegen.core.python_syntax import UNPARSABLE, parse
from codegen.core.records import Sample, Verdict
from codegen.evals.tasks.dataset_rows import (
    AnyProblem,
    DataLocation,
    Problem,
    make_problems,
    problem_of_columns,
    read_rows_of,
)
from codegen.evals.tasks.extraction import EMPTY, Extraction, find_code, sanitized, with_preamble
from codegen.evals.tasks.styles import Ask, PromptStyle, style_of

if TYPE_CHECKING:
    from codegen.sandbox import Job, Outcome, SandboxProtocol

Key = TypeVar("Key")


class Task(ABC, Generic[AnyProblem]):
    """A set of problems, each with a prompt for a program and a way to score it.

    Attributes:
        name: name on the command line.
        reference_exceptions: problems whose own reference is known to fail, with the reason. They
            do not stop a score from being published, and the report lists them.
        needs_preparation: whether :meth:`prepare` must be called before :meth:`job`.
        passing: the condition for a sample to pass, for tasks that do not run tests.
        style: the default prompt style; empty for the model's own.
        decoder: the decoder that the task requires; empty for any.
        languages: languages that the sandbox must run besides Python.
    """

    name: str
    description: str
    source: str = ""
    reference_exceptions: Mapping[str, str] = {}
    needs_preparation: bool = False
    passing: str = ""
    style: str = ""
    decoder: str = ""
    languages: Sequence[str] = ()

    @abstractmethod
    def problems(self) -> Sequence[AnyProblem]:
        """Returns all problems in the benchmark's order."""

    def style_for(self, vocabulary: Container[str], own: str = "") -> str:
        """Returns the default style, given the model's style ``own``; empty to use the model's."""
        return self.style

    def check_style(self, style: PromptStyle, vocabulary: Container[str]) -> None:
        """Raises ConfigError if a tokenizer lacks tokens that a style needs."""

    @abstractmethod
    def request(self, problem: AnyProblem, style: PromptStyle, index: int) -> Request:
        """Returns the ``index``-th request for a completion of ``problem``.

        Raises:
            ConfigError: if the task does not support the style; names the supported styles.
        """

    @abstractmethod
    def extract(self, problem: AnyProblem, sample: Sample) -> Extraction:
        """Extracts the whole program from a sample, by the style in ``sample.meta["style"]``.

        Raises:
            InputError: if the sample has no style.
        """

    def program(self, problem: AnyProblem, sample: Sample) -> str:
        """Returns the program from :meth:`extract`; empty if none was found."""
        return self.extract(problem, sample).program

    @abstractmethod
    def job(self, problem: AnyProblem, program: str) -> Job | Verdict:
        """Returns the sandbox job that scores ``program``, or the verdict if no job is needed."""

    def judge(
        self, programs: Iterable[tuple[Key, AnyProblem, str]], sandbox: SandboxProtocol
    ) -> Iterator[tuple[Key, Verdict | Outcome]]:
        """Scores programs by :meth:`job`; yields results with their keys in completion order.

        Args:
            programs: (key, problem, program).
        """
        judged: list[tuple[Key, Verdict]] = []

        def jobs() -> Iterator[tuple[Key, Job]]:
            for key, problem, program in programs:
                job = self.job(problem, program)
                if isinstance(job, Verdict):
                    judged.append((key, job))
                else:
                    yield key, job

        for outcome in sandbox.map(jobs()):
            yield from judged
            judged.clear()
            yield outcome
        yield from judged

    @abstractmethod
    def reference(self, problem: AnyProblem) -> str:
        """Returns a whole correct program; empty if unknown."""

    def buggy(self, problem: AnyProblem) -> Sequence[str]:
        """Returns whole programs that are known to be wrong."""
        return ()

    def prepare(self, problems: Sequence[AnyProblem], sandbox: SandboxProtocol) -> None:
        """Computes scoring inputs that the data of ``problems`` lacks, such as expected outputs."""

    def measure(self, problem: AnyProblem, sample: Sample) -> Mapping[str, float]:
        """Returns extra measures of one sample, by name; the report shows their means."""
        return {}

    def measure_verdict(self, problem: AnyProblem, verdict: Verdict) -> Mapping[str, float]:
        """Returns measures of one sample's verdict, by name; the report shows their means."""
        return {}

    def modules(self, problem: AnyProblem) -> frozenset[str]:
        """Returns the third-party modules that a solution and its tests import."""
        return frozenset()

    def labels(self, problem: AnyProblem) -> Sequence[str]:
        """Returns the problem's groups, such as its difficulty; each group gets a score."""
        return ()

    def retry(
        self, problem: AnyProblem, style: PromptStyle, sample: Sample, verdict: Verdict
    ) -> Request:
        """Returns the request for another attempt, with the failed answer and its tests' message.

        Raises:
            ConfigError: if the task or the style does not support retries.
        """
        raise ConfigError(f"The task {self.name!r} does not support second attempts.")

    def remarks(self, problems: Sequence[AnyProblem]) -> Sequence[str]:
        """Returns sentences about the scored problems, for the notes on their score."""
        return ()

    def dated(self, since: date | None, until: date | None) -> Self:
        """Returns the task limited to problems published from ``since`` to ``until``, inclusive.

        Raises:
            ConfigError: if its problems have no dates, or none are in that range.
        """
        raise ConfigError(f"The problems of the task {self.name!r} have no dates.")


class CodeTask(Task[AnyProblem]):
    """A task over given problems; subclasses define prompts and how programs are assembled.

    Attributes:
        asks: the supported prompt kinds.
        whole_programs: whether the prompt requests a whole program, not the rest of one function;
            this selects the stop strings.
        blank_is_code: whether a completion of only whitespace may be correct.
        home: default location of the data.
        problem_type, columns: class of the problems, and field -> column for names that differ;
            see :func:`.dataset_rows.problem_of_columns`.
        about: description for the list of tasks.
    """

    home: ClassVar[DataLocation]
    problem_type: ClassVar[type[Problem]]
    columns: ClassVar[Mapping[str, str]] = {}
    about: ClassVar[str] = ""
    asks: Sequence[Ask] = ("code", "instruction")
    whole_programs: bool = False
    blank_is_code: bool = False

    def __init__(
        self, name: str, description: str, problems: Sequence[AnyProblem], source: str
    ) -> None:
        self.name = name
        self.description = description
        self.source = source
        self._problems = tuple(problems)

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the task with all rows of its data.

        Raises:
            InputError: if data is missing or unreadable; names file, line and field.
        """
        rows = read_rows_of(source, cls.home)
        return cls(name, description, make_problems(rows, cls.problem_of), rows.source)

    @classmethod
    def problem_of(cls, place: str, row: Mapping[str, object]) -> AnyProblem:
        """Parses a row into a problem; ``place`` is its file and line.

        Raises:
            InputError: if the row is invalid.
        """
        return cast(AnyProblem, problem_of_columns(cls.problem_type, place, row, **cls.columns))

    @property
    def by_blocks(self) -> bool:
        """True if answers are search-and-replace blocks, that is, if the name ends in ``-diff``."""
        return self.name.endswith("-diff")

    def lacking(self, sandbox: SandboxProtocol, broken: Mapping[str, str]) -> dict[str, str]:
        """Returns reasons to skip problems: missing packages, and the reasons in ``broken``."""
        described = sandbox.describe()
        reasons = {p.id: why_not(self.modules(p), described) for p in self._problems}
        return {**{id_: reason for id_, reason in reasons.items() if reason}, **broken}

    def problems(self) -> Sequence[AnyProblem]:
        """Returns all problems in order."""
        return self._problems

    # Methods that subclasses override.

    def code(self, problem: AnyProblem) -> str:
        """Returns the code shown for the model to continue."""
        return problem.prompt

    def instruction(self, problem: AnyProblem) -> str:
        """Returns the problem in words."""
        return problem.prompt

    def few_shot(self, problem: AnyProblem) -> str:
        """Returns the problem after solved examples."""
        raise NotImplementedError

    def hole(self, problem: AnyProblem) -> tuple[str, str]:
        """Returns the code before and after the gap."""
        raise NotImplementedError

    def entry_point(self, problem: AnyProblem) -> str:
        """Returns the function that the program must define; empty if none is required."""
        return getattr(problem, "entry_point", "")

    def preamble(self, problem: AnyProblem) -> str:
        """Returns code that an answer may rely on: the prompt's imports and helpers."""
        return ""

    def joined(self, problem: AnyProblem, completion: str) -> str:
        """Returns the whole program for a completion of the prompt."""
        return self.code(problem) + completion

    def request(self, problem: AnyProblem, style: PromptStyle, index: int) -> Request:
        """Returns the ``index``-th request for ``problem``."""
        if style.ask not in self.asks:
            raise ConfigError(
                f"The task {self.name!r} has no prompts in the style {style.name!r}.",
                f"Choose a style whose ask is {' or '.join(self.asks)}.",
            )
        if style.ask == "infill":
            before, behind = self.hole(problem)
            prompt = style.render(prefix=before, suffix=behind)
        else:
            show = {
                "code": self.code,
                "instruction": self.instruction,
                "few_shot": self.few_shot,
            }[style.ask]
            shown = show(problem)
            # In a chat the code is quoted, so its outer whitespace is irrelevant.
            is_quoted = style.chat and style.ask == "code"
            prompt = style.render(prompt=shown.strip() if is_quoted else shown)
        return Request(
            prompt,
            chat=style.chat,
            prefill=style.prefill,
            stop=self._stops(style),
            task=self.name,
            problem_id=problem.id,
            index=index,
            heal=style.heal,
        )

    def retry(
        self, problem: AnyProblem, style: PromptStyle, sample: Sample, verdict: Verdict
    ) -> Request:
        """Returns the request for another attempt, for styles with instructions."""
        if style.ask != "instruction":
            raise ConfigError(
                f"Second attempts are not supported in the style {style.name!r}.",
                "Use a style with instructions, such as chat.",
            )
        asked = self.request(problem, style, sample.index)
        return replace(asked, prompt=style.render(prompt=self.again(problem, sample, verdict)))

    def again(self, problem: AnyProblem, sample: Sample, verdict: Verdict) -> str:
        """Returns the prompt for another attempt: problem, failed answer, and failure."""
        return (
            f"{self.instruction(problem)}\n\nThis answer failed:\n\n{sample.completion}\n\n"
            f"What the tests said:\n\n{verdict.status}: {verdict.message}\n\nAnswer again."
        )

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return style.program_stop if self.whole_programs else style.stop

    def extract(self, problem: AnyProblem, sample: Sample) -> Extraction:
        """Extracts the whole program from a sample."""
        style = style_of(sample)
        if sample.completion.strip() or self._may_be_blank(style):
            return self.read(problem, style, sample.completion)
        return EMPTY

    def _may_be_blank(self, style: PromptStyle) -> bool:
        return self.blank_is_code and style.read == "append"

    def read(self, problem: AnyProblem, style: PromptStyle, answer: str) -> Extraction:
        """Extracts the whole program from a non-empty answer."""
        if style.read in ("find", "sanitize"):
            extraction = find_code(answer, self.entry_point(problem))
            if style.read == "sanitize":
                extraction = sanitized(extraction)
            return self.placed(problem, extraction) if extraction.program else extraction
        answer = cut_at_stop(answer, self._stops(style))
        if not answer.strip() and not self._may_be_blank(style):
            return Extraction("", "the answer has no text before its stop string", "empty")
        if style.read == "append":
            return Extraction(self.joined(problem, answer))
        return Extraction(answer)

    def placed(self, problem: AnyProblem, extraction: Extraction) -> Extraction:
        """Returns the whole program for code found in an answer."""
        return Extraction(with_preamble(self.preamble(problem), extraction.program))

    def reference(self, problem: AnyProblem) -> str:
        """Returns the prompt with the problem's ``canonical_solution``; empty if it has none."""
        solution = getattr(problem, "canonical_solution", "")
        return problem.prompt + solution if solution else ""


_provided = functools.cache(importlib.metadata.packages_distributions)


def modules_of(*programs: str) -> frozenset[str]:
    """Returns the third-party modules that programs import.

    Imports whose failure the program catches do not count.
    """
    seen: set[str] = set()
    for program in programs:
        try:
            nodes = list(_needed(parse(program)))
        except UNPARSABLE:
            continue
        for node in nodes:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            seen.update(name.split(".")[0] for name in names)
    return frozenset(seen - sys.stdlib_module_names)


def _needed(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Try) and node.handlers and child in node.body):
            yield from _needed(child)


def installed(modules: Iterable[str]) -> list[str]:
    """Returns the modules that this environment provides, sorted."""
    provided = _provided()
    return sorted(name for name in modules if name in provided)


def why_not(modules: Collection[str], described: Mapping[str, Any]) -> str:
    """Returns a reason that names the modules a sandbox lacks; empty if it has all."""
    offered = set(described.get("packages", {}))
    if any("/" in name for name in offered):
        return ""  # packages are directories, whose content is unknown here
    provided = _provided()
    known = {_same(name) for name in offered}
    missing = sorted(
        name
        for name in modules
        if not known & {_same(distribution) for distribution in provided.get(name, [name])}
    )
    return f"needs {', '.join(missing)}, which the sandbox does not offer" if missing else ""


def _same(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")
