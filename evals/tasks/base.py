"""What a benchmark is to the runner and the scorer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from codegen.generation.protocol import Request
from codegen.records import Sample, Status, Verdict

from .styles import PromptStyle

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job, Outcome


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; tasks add the fields they need."""

    id: str
    prompt: str


AnyProblem = TypeVar("AnyProblem", bound=Problem)


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was found in a model's answer.

    Attributes:
        program: the program (or other text to judge); empty if none was found.
        reason: then why, in words.
        status: then the verdict. ``no_answer`` says that the model wrote something in which nothing
            was found, which may be the fault of the prompt style; ``empty``, that it wrote nothing.
    """

    program: str
    reason: str = ""
    status: Status = "no_answer"


class Runs(Protocol):
    """What tasks need of a sandbox; see :class:`codegen.evals.sandbox.Sandbox`."""

    def map(self, items: Iterable[tuple[Any, Job]]) -> Iterator[tuple[Any, Outcome]]:
        """Runs jobs; yields outcomes as they finish."""
        ...


class Task(ABC, Generic[AnyProblem]):
    """A set of problems, each with a way to ask for a program and to judge it.

    Attributes:
        name: as on the command line.
        description: one line.
        source: where the data came from.
        reference_exceptions: problems whose own reference is known to fail, with the reason. They
            don't stop a score from being published, and the report lists them.
        needs_preparation: whether :meth:`prepare` has to be called before :meth:`job`.
        passing: what it means that a sample passed, where that isn't that its tests did.
    """

    name: str
    description: str
    source: str = ""
    reference_exceptions: Mapping[str, str] = {}
    needs_preparation: bool = False
    passing: str = ""

    @abstractmethod
    def problems(self) -> Sequence[AnyProblem]:
        """All problems in the benchmark's order."""

    @abstractmethod
    def request(self, problem: AnyProblem, style: PromptStyle, index: int) -> Request:
        """The ``index``-th request for a completion of ``problem``.

        Raises:
            ConfigError: if the task can't be asked in this style; names those that it can.
        """

    @abstractmethod
    def extract(self, problem: AnyProblem, sample: Sample) -> Extraction:
        """Finds the whole program in a sample, by the style in ``sample.meta["style"]``.

        Raises:
            InputError: if the sample does not say its style.
        """

    def program(self, problem: AnyProblem, sample: Sample) -> str:
        """The program of :meth:`extract`; empty if none was found."""
        return self.extract(problem, sample).program

    @abstractmethod
    def job(self, problem: AnyProblem, program: str) -> Job | Verdict:
        """The sandbox job that judges ``program``; or the verdict, where nothing has to run."""

    @abstractmethod
    def reference(self, problem: AnyProblem) -> str:
        """The whole program that is known to be right; empty if there is none."""

    def buggy(self, problem: AnyProblem) -> Sequence[str]:
        """Whole programs that are known to be wrong."""
        return ()

    def prepare(self, problems: Sequence[AnyProblem], sandbox: Runs) -> None:
        """Makes what judging ``problems`` needs and the data lacks (expected outputs)."""

    def measure(self, problem: AnyProblem, sample: Sample) -> Mapping[str, float]:
        """Numbers about one sample beside its verdict, by name; their means are reported."""
        return {}
