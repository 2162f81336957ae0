"""Tasks whose answer is Python code: asking in every style, and putting the program together."""

from __future__ import annotations

from collections.abc import Sequence

from codegen.errors import ConfigError
from codegen.generation.protocol import Request
from codegen.records import Sample

from .base import AnyProblem, Extraction, Task
from .extraction import cut_at_stop, find_code, with_preamble
from .styles import Ask, PromptStyle, style_of


class CodeTask(Task[AnyProblem]):
    """A task over given problems; a subclass says what is shown and what belongs to the program.

    Attributes:
        asks: the ways of asking it supports.
        whole_programs: whether a whole program is asked for, not the rest of one function; that
            decides about the stop strings.
        blank_is_code: whether a completion of nothing but white space may be right.
    """

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

    def problems(self) -> Sequence[AnyProblem]:
        """All problems in order."""
        return self._problems

    # --- what a subclass says ------------------------------------------------------------------

    def code(self, problem: AnyProblem) -> str:
        """The code shown for the model to continue."""
        return problem.prompt

    def instruction(self, problem: AnyProblem) -> str:
        """The problem in words."""
        return problem.prompt

    def few_shot(self, problem: AnyProblem) -> str:
        """The problem behind solved examples."""
        raise NotImplementedError

    def hole(self, problem: AnyProblem) -> tuple[str, str]:
        """What stands before and behind the code asked for."""
        raise NotImplementedError

    def entry_point(self, problem: AnyProblem) -> str:
        """The function that the program must define; empty if there is none."""
        return ""

    def preamble(self, problem: AnyProblem) -> str:
        """Code that an answer may take for granted: imports and helpers of the prompt."""
        return ""

    def joined(self, problem: AnyProblem, completion: str) -> str:
        """The whole program of a completion that goes on where the prompt left off."""
        return self.code(problem) + completion

    # --- asking and reading --------------------------------------------------------------------

    def request(self, problem: AnyProblem, style: PromptStyle, index: int) -> Request:
        """The ``index``-th request for ``problem``."""
        if style.ask not in self.asks:
            raise ConfigError(
                f"The task {self.name!r} can't be asked in the prompt style {style.name!r}.",
                f"It takes styles that ask by: {', '.join(self.asks)}.",
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
            prompt = style.render(prompt=show(problem))
        return Request(
            prompt,
            chat=style.chat,
            stop=self._stops(style),
            task=self.name,
            problem_id=problem.id,
            index=index,
            heal=style.heal,
        )

    def _stops(self, style: PromptStyle) -> tuple[str, ...]:
        return style.program_stop if self.whole_programs else style.stop

    def extract(self, problem: AnyProblem, sample: Sample) -> Extraction:
        """The whole program that a sample stands for."""
        style = style_of(sample)
        answer = sample.completion
        may_be_blank = self.blank_is_code and style.read == "append"
        if not answer.strip() and not may_be_blank:
            return Extraction("", "the answer is empty", "empty")
        if style.read == "find":
            found = find_code(answer, self.entry_point(problem))
            return self.placed(problem, found) if found.program else found
        answer = cut_at_stop(answer, self._stops(style))
        if not answer.strip() and not may_be_blank:
            return Extraction("", "the answer holds nothing before its stop string", "empty")
        if style.read == "append":
            return Extraction(self.joined(problem, answer))
        return Extraction(answer)

    def placed(self, problem: AnyProblem, found: Extraction) -> Extraction:
        """The program of code that was found in an answer."""
        return Extraction(with_preamble(self.preamble(problem), found.program))
