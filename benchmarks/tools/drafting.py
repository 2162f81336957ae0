"""Acceptance without a model: the target writes a given text; a drafted token is correct if it
equals the text's.

This is greedy decoding by a model that writes exactly that text. Sampling is not covered, nor
models that continue a draft's errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codegen.decoding.drafts import Context, Draft, Drafter


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt and the target's continuation."""

    prompt: Sequence[int]
    target: Sequence[int]
    context: Context = Context()


@dataclass(slots=True)
class Outcome:
    """Draft results of one or several cases.

    Attributes:
        tokens: number of emitted tokens.
        steps: forward passes of the target.
        drafted: tokens verified.
        accepted: correct drafted tokens.
        cpu_s: CPU seconds in the drafter.
    """

    tokens: int = 0
    steps: int = 0
    drafted: int = 0
    accepted: int = 0
    cpu_s: float = 0.0

    def add(self, other: Outcome) -> None:
        """Adds the results of another case."""
        self.tokens += other.tokens
        self.steps += other.steps
        self.drafted += other.drafted
        self.accepted += other.accepted
        self.cpu_s += other.cpu_s


def teacher_forced(drafter: Drafter, case: Case, limit: int) -> Outcome:
    """Drafts and verifies one case to its end."""
    outcome = Outcome(tokens=len(case.target))
    began = time.process_time()
    drafter.begin(case.prompt, case.context)
    at = 0
    while at < len(case.target):
        draft = drafter.draft(limit)
        accepted = len(draft.path(case.target[at:]))
        emitted = case.target[at : at + accepted + 1]
        drafter.accept(emitted)
        at += len(emitted)
        outcome.steps += 1
        outcome.drafted += len(draft)
        outcome.accepted += accepted
    drafter.finish()
    outcome.cpu_s = time.process_time() - began
    return outcome


def outcomes(make: Callable[[], Drafter], cases: Sequence[Case], limit: int) -> list[Outcome]:
    """Returns one drafter for each case, in order."""
    return [teacher_forced(make(), case, limit) for case in cases]


class PromptLookup:
    """Prompt lookup as ``transformers`` does it: the tokens after the first (leftmost) earlier
    occurrence of the longest n-gram at the row's end.

    Args:
        longest: maximum n-gram length.
    """

    candidates = 0

    def __init__(self, longest: int = 2) -> None:
        self.longest = longest
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Reads the prompt."""
        self._row: list[int] = []
        self._first: dict[tuple[int, ...], int] = {}  # where each n-gram first ended
        self.accept(prompt)

    def draft(self, limit: int) -> Draft:
        """Returns the tokens after the first occurrence of the row's last ones."""
        size = len(self._row)
        for length in range(min(self.longest, size - 1), 0, -1):
            end = self._first.get(tuple(self._row[size - length :]), size)
            if end < size:
                tokens = self._row[end : end + limit]
                return Draft.chain(tokens, [1.0] * len(tokens))
        return Draft()

    def accept(self, tokens: Sequence[int]) -> None:
        """Appends to the row."""
        for token in tokens:
            self._row.append(token)
            size = len(self._row)
            for length in range(1, min(self.longest, size) + 1):
                self._first.setdefault(tuple(self._row[size - length :]), size)

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Does nothing."""

    def finish(self) -> None:
        """Does nothing."""
