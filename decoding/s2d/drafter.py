"""The confidence ladder as a drafter of the decoding loop, one row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from codegen.decoding.drafts.protocol import Context, Draft
from codegen.decoding.s2d.ladder import Ladder
from codegen.decoding.s2d.nested import Nested

DEFAULT_THRESHOLD = 0.5  # the published script's, of all exits but the last


@dataclass(slots=True)
class Tally:
    """What came of a drafter's rows, by exit.

    Attributes:
        drafted: tokens that left there.
        reached: of these, tokens that the target came to judge: those before them were accepted.
        accepted: of these, the accepted ones.
        encoded: tokens that the stage before the exit encoded, prompts included.
    """

    drafted: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    encoded: list[int] = field(default_factory=list)


class SortedDrafter:
    """Drafts chains with a nested model of the same tokenizer, whatever the target is.

    Each row runs the draft on its own, so in a batch its forward passes are not shared. Nothing is
    drafted beyond the length that the draft model holds.

    Args:
        nested: the draft model.
        tokens: most tokens of a draft.
        thresholds: of the exits but the last, or one for all of them; see
            :class:`~codegen.decoding.s2d.ladder.Ladder`. At 1 all tokens go to the last exit.
        least: a draft ends with the token at which the product of its probabilities falls to this.
        tally: counts by exit, over any number of rows.
    """

    candidates = 0

    def __init__(
        self,
        nested: Nested,
        *,
        tokens: int = 5,
        thresholds: Sequence[float] = (DEFAULT_THRESHOLD,),
        least: float = 0.0,
        tally: Tally | None = None,
    ) -> None:
        shallow = len(nested.exits) - 1
        if len(thresholds) not in (1, shallow):
            raise ValueError(f"{len(nested.exits)} exits have {shallow} thresholds, or one for all")
        self.nested, self.tokens, self.least = nested, tokens, least
        self.thresholds = tuple(thresholds) * shallow if len(thresholds) == 1 else tuple(thresholds)
        self.tally = tally or Tally()
        for counts in (self.tally.drafted, self.tally.reached, self.tally.accepted,
                       self.tally.encoded):  # fmt: skip
            counts.extend([0] * (len(nested.exits) - len(counts)))
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Starts anew; the prompt is encoded by the first draft."""
        self._row = list(prompt)
        self._ladder = Ladder(self.nested, self.thresholds)
        self._draft: list[tuple[int, int]] = []  # tokens with their exits

    def draft(self, limit: int) -> Draft:
        """A chain; each token is the most probable one at the first exit that is sure of it."""
        self._draft = []
        if not self._row:
            return Draft()
        ladder = self._ladder
        ladder.cut(min(_common(ladder.tokens, self._row), len(self._row) - 1))
        ladder.extend(self._row[len(ladder.tokens) :])
        most = min(limit, self.tokens)
        if self.nested.limit is not None:
            most = min(most, self.nested.limit - len(self._row) + 1)
        tokens: list[int] = []
        probabilities: list[float] = []
        together = 1.0
        before = list(ladder.ran)
        while len(tokens) < most:
            if tokens:
                ladder.extend(tokens[-1:])
            step = ladder.next()
            together *= step.probability
            tokens.append(step.token)
            probabilities.append(together)
            self._draft.append((step.token, step.exit))
            self.tally.drafted[step.exit] += 1
            if together <= self.least:
                break
        for stage, (now, then) in enumerate(zip(ladder.ran, before, strict=True)):
            self.tally.encoded[stage] += now - then
        return Draft.chain(tokens, probabilities)

    def accept(self, tokens: Sequence[int]) -> None:
        """The row grows; the next draft begins by cutting off what was not accepted."""
        for (drafted, exit_), token in zip(self._draft, tokens, strict=False):
            self.tally.reached[exit_] += 1
            if drafted != token:
                break
            self.tally.accepted[exit_] += 1
        self._draft = []
        self._row += tokens

    def observe(self, tokens: Sequence[int], successors: Sequence[Sequence[int]]) -> None:
        """Nothing to learn."""

    def finish(self) -> None:
        """Nothing to keep."""


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    for number, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return number
    return min(len(one), len(other))
