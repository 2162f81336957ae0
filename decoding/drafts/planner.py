"""Draft lengths: only as long as drafts are expected to save more time than they cost.

A pass that verifies drafts takes longer than a plain one. By how much depends on the machine, the
model, the rows in the batch and the tokens per row (the pass's *width*). :class:`PassCosts` learns
it from regular passes; :class:`FixedCosts` has a fixed cost per token. All rows of a
pass are as wide as the widest, so one width is chosen for all: the one with the largest

    sum over rows of value * expected accepted tokens  -  pace * (cost of the pass - 1)

in units of a plain pass of these rows. ``value`` is the time that a row's token saves: an equal
part of a pass while other rows wait for a place. If none wait, the batch ends with its last row,
and a token of another row saves only that row's cost in a pass. ``pace`` is the work recently done
in the time of one plain pass, in plain passes. If no width has a gain, no tokens are drafted.

Estimates can be wrong, so an account, in plain passes, limits losses: it starts with a balance,
earns ``slack`` per pass and the drafts' net gains, and is capped at ``ceiling``. Drafts are
verified only if the account covers their whole extra cost. So decoding costs at most ``1 + slack``
times its cost without drafts, plus a constant.

Drafts are verified, so none of this changes the emitted tokens, except for the last bits of logits
computed in another shape. With fixed costs, drafts are a function of the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from codegen.decoding.drafts.protocol import Context, Draft, Drafter

_NONE = Draft()
_MARGIN = 0.02  # minimum net gain of drafts, in plain passes
_LAST = 16  # rows whose remaining tokens differ by at most this count as ending together
_COMMON = 0.5  # discount on time that the last rows share, as any may end early
_FEW, _CHEAP = 4, 1.25
_FOLLOW = 0.2  # update rate of measured times and the pace
_OUTLIER = 3.0  # limit on a measured time, relative to the known one
# Estimates for unmeasured widths: more rows may need another kernel (_JUMP), and a token costs as
# much as in a prompt, whose pass omits the head, or a whole pass before any prompt.
_JUMP = 0.5
_JUMP_OF_BATCH = 0.25
_PROMPT_FACTOR = 1.5
_TOKEN_COST = 1.0


class Costs(ABC):
    """Costs of passes. The base class learns none, and all rows cost the same."""

    @abstractmethod
    def ratio(self, rows: int, width: int) -> float | None:
        """Returns the cost of a pass over ``rows`` of ``width`` tokens, in plain passes of these
        rows; None if no plain pass was measured.
        """

    def share(self, rows: int) -> float:
        """Returns the fraction of a plain pass's time that removing one row would save."""
        return 1 / rows

    def add(self, rows: int, width: int, seconds: float) -> None:  # noqa: B027 - nothing to learn
        """Records a pass."""

    def add_prompt(self, tokens: int, seconds: float) -> None:  # noqa: B027 - as above
        """Records the encoding of prompts: their tokens, including padding."""


@dataclass(frozen=True)
class FixedCosts(Costs):
    """Fixed cost per drafted token of a row, as a fraction of a plain pass."""

    token_cost: float

    def ratio(self, rows: int, width: int) -> float:
        """Returns the fixed cost of a pass."""
        return 1 + self.token_cost * (width - 1)


class PassCosts(Costs):
    """Measured costs: moving averages of plain passes' time, and of wider passes' ratio to it."""

    def __init__(self) -> None:
        self._plain: dict[int, float] = {}  # rows -> seconds
        self._ratios: dict[int, dict[int, float]] = {}  # rows -> width -> ratio
        self._widths: dict[int, list[int]] = {}  # measured widths, ascending
        self._prompt_token = 0.0  # seconds

    def ratio(self, rows: int, width: int) -> float | None:
        """Interpolates between measured widths; overestimates beyond them."""
        plain = self._plain.get(rows)
        if plain is None:
            return None
        ratios, below, above = self._ratios.get(rows, {}), 1, 0
        for measured in self._widths.get(rows, ()):
            if measured <= width:
                below = measured
            else:
                above = measured
                break
        start = ratios.get(below, 1.0)
        if above:
            share = (width - below) / (above - below)
            # This width may already need the measured width's kernel.
            return ratios[above] if below == 1 < width else (
                start + share * max(0.0, ratios[above] - start))  # fmt: skip
        if below == 1 < width:
            start += _JUMP if rows == 1 else _JUMP_OF_BATCH
        token = _PROMPT_FACTOR * self._prompt_token * rows / plain or _TOKEN_COST
        return start + token * (width - below)

    def share(self, rows: int) -> float:
        """Estimates the fraction from a smaller batch, else from prompts."""
        plain = self._plain[rows]
        row = self._prompt_token
        if fewer := [count for count in self._plain if count < rows]:
            nearest = max(fewer)
            row = max(row, (plain - self._plain[nearest]) / (rows - nearest))
        return min(row / plain, 1 / rows)

    def add(self, rows: int, width: int, seconds: float) -> None:
        """Records a pass; see :class:`Costs`."""
        if width == 1:
            known = self._plain.get(rows)
            self._plain[rows] = _moved(known, seconds)
        elif plain := self._plain.get(rows):
            ratios = self._ratios.setdefault(rows, {})
            if width not in ratios:
                insort(self._widths.setdefault(rows, []), width)
            ratios[width] = _moved(ratios.get(width), max(1.0, seconds / plain))

    def add_prompt(self, tokens: int, seconds: float) -> None:
        """Records the encoding of prompts; see :class:`Costs`."""
        if tokens:
            self._prompt_token = _moved(self._prompt_token or None, seconds / tokens)


@dataclass(frozen=True)
class SharedCosts(Costs):
    """The costs of one request whose passes run with other requests' passes of any width.

    A pass's cost is its tokens' total cost, and requests divide a plain pass equally.

    Attributes:
        costs: costs by number of tokens, as if in one row, measured by the driver of the passes.
        together: returns how many requests run, including this one.
    """

    costs: PassCosts
    together: Callable[[], int]

    def ratio(self, rows: int, width: int) -> float | None:
        """Returns the cost in units of this request's part of a plain pass."""
        count = self.together()
        plain, wide = self.costs.ratio(1, count), self.costs.ratio(1, count - 1 + width)
        if plain is None or wide is None:
            return None
        return 1 + count * max(0.0, wide / plain - 1)


def _moved(known: float | None, found: float) -> float:
    if known is None:
        return found
    return known + _FOLLOW * (min(found, _OUTLIER * known) - known)


@dataclass
class DraftAccount:
    """Gains and losses of drafts, in plain passes.

    Attributes:
        slack: fraction of plain decoding's cost that failing drafts may add.
        balance: plain passes that drafts may still lose; the default is the initial loss allowed.
        ceiling: maximum balance, after drafts have saved time.
        pace: see the module; at least 1.
    """

    slack: float = 0.01
    balance: float = 0.6
    ceiling: float = 3.0
    pace: float = 1.0

    def book(self, work: float, ratio: float) -> None:
        """Records a pass with the work of ``work`` plain ones in the time of ``ratio``."""
        self.balance = min(self.balance + work - ratio + self.slack, self.ceiling)
        self.pace = max(1.0, self.pace + _FOLLOW * (work / ratio - self.pace))


@dataclass
class Planner:
    """Trims drafts to the profitable length, and keeps the account; see the module.

    Attributes:
        costs: pass costs.
        account: may be shared by several planners.
    """

    costs: Costs
    account: DraftAccount = field(default_factory=DraftAccount)
    _values: list[float] = field(init=False, default_factory=list)

    def plan(
        self, drafts: Sequence[Draft], rows: int, left: Sequence[int], waiting: bool = False
    ) -> list[Draft]:
        """Shortens the drafts of the running rows to one width.

        Args:
            drafts: one per running row; may be empty.
            rows: rows of the pass, including finished ones that have not left the batch.
            left: maximum new tokens per running row.
            waiting: True if other rows wait for a place in the batch.
        """
        most = max(map(len, drafts), default=0)
        if self.costs.ratio(rows, 1) is None:
            most = 0  # no costs are known yet
        self._values = self._worth(rows, left, waiting) if most else []
        width = self._width(drafts, rows, most) if most else 1
        return [_best(draft, width - 1) for draft in drafts]

    def is_cheap(self, rows: int) -> bool:
        """Returns True if a few drafted tokens are cheap enough to include uncertain ones."""
        ratio = self.costs.ratio(rows, _FEW)
        return ratio is not None and ratio <= _CHEAP

    def _worth(self, rows: int, left: Sequence[int], waiting: bool) -> list[float]:
        """Returns the value of one more token of each running row, in plain passes."""
        if waiting or len(left) == 1:
            return [1 / len(left)] * len(left)
        share = self.costs.share(rows)
        longest = max(left)
        last = [longest - each <= _LAST for each in left]
        common = _COMMON * (1 - share * len(left)) / sum(last)
        return [share + common * among for among in last]

    def _width(self, drafts: Sequence[Draft], rows: int, most: int) -> int:
        """Returns the width with the largest gain; 1 if no width gains."""
        gains = [0.0] * (most + 1)  # by width - 1: the expected gain of the last position
        for draft, value in zip(drafts, self._values, strict=True):
            for place, probability in enumerate(sorted(draft.probabilities, reverse=True), 1):
                gains[place] += value * probability
        best, width, expected = _MARGIN, 1, 0.0
        for drafted in range(1, most + 1):
            expected += gains[drafted]
            ratio = self.costs.ratio(rows, drafted + 1)
            if ratio is None or ratio - 1 > self.account.balance:
                break
            gain = expected - self.account.pace * (ratio - 1)
            if gain > best:
                best, width = gain, drafted + 1
        return width

    def record(
        self, rows: int, width: int, emitted: Sequence[int], seconds: float | None = None
    ) -> None:
        """Records a pass.

        Args:
            rows, width: shape of the pass.
            emitted: tokens added to each row of the last plan.
            seconds: duration of the pass; None if unknown.
        """
        if seconds is not None:
            self.costs.add(rows, width, seconds)
        work, ratio = 1.0, 1.0
        if width > 1:
            ratio = self.costs.ratio(rows, width) or 1.0
            work += sum(v * (n - 1) for v, n in zip(self._values, emitted, strict=True))
        self.account.book(work, ratio)


def _best(draft: Draft, count: int) -> Draft:
    """Returns the ``count`` most likely nodes of a draft.

    They are a tree: no child is more likely than its parent, and for equal ones the sort keeps
    the parent first.
    """
    if count >= len(draft):
        return draft
    if count < 1:
        return _NONE
    if draft.is_chain:
        return draft.first(count)
    order = sorted(range(len(draft)), key=lambda node: -draft.probabilities[node])
    kept = sorted(order[:count])
    number = {node: place for place, node in enumerate(kept)}
    return replace(
        draft,
        tokens=[draft.tokens[node] for node in kept],
        parents=[number.get(draft.parents[node], -1) for node in kept],
        probabilities=[draft.probabilities[node] for node in kept],
    )


class PlannedDrafter(Drafter):
    """A drafter with its own planner, for loops that verify each row separately.

    Args:
        drafter: drafter to plan for.
        token_cost: cost of a drafted token, in plain passes.
    """

    def __init__(self, drafter: Drafter, token_cost: float) -> None:
        self.drafter, self.token_cost = drafter, token_cost
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Begins a row, with a new account."""
        self._planner = Planner(FixedCosts(self.token_cost))
        self._drafted = 0
        self.drafter.begin(prompt, context)

    def draft(self, limit: int) -> Draft:
        """Returns the profitable part of a draft."""
        (draft,) = self._planner.plan([self.drafter.draft(limit)], 1, [limit])
        self._drafted = len(draft)
        return draft

    def accept(self, tokens: Sequence[int]) -> None:
        """Records the result of the last draft."""
        self._planner.record(1, 1 + self._drafted, [len(tokens)])
        self._drafted = 0
        self.drafter.accept(tokens)

    def finish(self) -> None:
        """Finishes the drafter's row."""
        self.drafter.finish()
