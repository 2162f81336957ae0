"""What a benchmark is to the runner and the scorer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from codegen.generation.protocol import Request
from codegen.records import Sample

from .styles import PromptStyle

if TYPE_CHECKING:
    from codegen.evals.sandbox import Job


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem; tasks add the fields they need."""

    id: str
    prompt: str


AnyProblem = TypeVar("AnyProblem", bound=Problem)


@dataclass(frozen=True, slots=True)
class Extraction:
    """The program found in a model's answer, or an empty one with the reason in words."""

    program: str
    reason: str = ""


class Task(ABC, Generic[AnyProblem]):
    """A set of problems, each with a way to ask for a program and to judge it.

    Attributes:
        name: as on the command line.
        description: one line.
        source: where the data came from.
        reference_exceptions: problems whose own reference is known to fail, with the reason. They
            don't stop a score from being published, and the report lists them.
    """

    name: str
    description: str
    source: str = ""
    reference_exceptions: Mapping[str, str] = {}

    @abstractmethod
    def problems(self) -> Sequence[AnyProblem]:
        """All problems in the benchmark's order."""

    @abstractmethod
    def request(self, problem: AnyProblem, style: PromptStyle, index: int) -> Request:
        """The ``index``-th request for a completion of ``problem``."""

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
    def job(self, problem: AnyProblem, program: str) -> Job:
        """The sandbox job that judges ``program``."""

    @abstractmethod
    def reference(self, problem: AnyProblem) -> str:
        """The whole program that is known to be right."""
