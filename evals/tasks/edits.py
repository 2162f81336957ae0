"""HumanEval by edit sequences: whether a model's edits are sound, beside whether its program is.

For samples made with a decoder whose tokens are edits (``--decoder edit_sequence``); pass@k is that
of the final program. Per sample that has edits:

- ``valid_states``: share of the states on the way that are valid Python; ``all_states_valid``.
- ``malformed``: share of the hunks that can't be read or have wrong numbers; ``mended``: mends of
  another form of diff (text after ``@@``, lines of context, ...) for each hunk.
- ``complete``: whether the sequence is ended, not cut off.
- ``round_trip``: whether the edits, written anew, lead to the sample's program.
- ``edits``, and ``tokens_per_edit`` of the model's tokens.

The reader of edits is passed in: this room knows no format of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from codegen.errors import ConfigError
from codegen.records import Sample

from .humaneval import HumanEval, HumanEvalProblem, humaneval
from .infilling import parses


@dataclass(frozen=True, slots=True)
class EditTrace:
    """What a text of edits stands for.

    Attributes:
        states: the program after each edit.
        hunks, malformed: those that were applied as they are, and those with a fault.
        complete: whether the text is ended as a sequence should be.
        rewritten: the program of the edits, written in the format anew and read again.
        mended: what was not in the form but left no doubt.
    """

    states: tuple[str, ...]
    hunks: int
    malformed: int
    complete: bool
    rewritten: str
    mended: int = 0


ReadEdits = Callable[[Sample], EditTrace]


class HumanEvalEdits(HumanEval):
    """HumanEval, with the numbers of the edits."""

    def __init__(
        self,
        name: str,
        description: str,
        problems: Sequence[HumanEvalProblem],
        source: str,
        read_edits: ReadEdits,
    ) -> None:
        super().__init__(name, description, problems, source)
        self._read_edits = read_edits

    def measure(self, problem: HumanEvalProblem, sample: Sample) -> Mapping[str, float]:
        """See the module's docstring; nothing for a sample without edits."""
        if not sample.actions:
            return {}
        trace = self._read_edits(sample)
        edits = len(trace.states)
        numbers = {
            "edits": float(edits),
            "complete": float(trace.complete),
            "round_trip": float(trace.rewritten.strip() == sample.completion.strip()),
        }
        if hunks := trace.hunks + trace.malformed:
            numbers["malformed"] = trace.malformed / hunks
            numbers["mended"] = trace.mended / hunks
        if edits:
            valid = [parses(state) for state in trace.states]
            numbers["valid_states"] = sum(valid) / edits
            numbers["all_states_valid"] = float(all(valid))
            numbers["tokens_per_edit"] = sample.completion_tokens / edits
        return numbers


def humaneval_edits(
    name: str, description: str, source: str | None = None, read_edits: ReadEdits | None = None
) -> HumanEvalEdits:
    """All problems of HumanEval."""
    if read_edits is None:
        raise ConfigError(
            f"The task {name!r} needs a reader of edits.",
            "Load it with codegen.evaluate.load_task.",
        )
    whole = humaneval(name, description, source)
    return HumanEvalEdits(name, description, whole.problems(), whole.source, read_edits)
