"""What a rule against repetition says about the next token, and how it changes the logits.

A rule follows one row: it is given each token, and gives penalties before the next. Rules know
nothing of batches or frameworks; ``methods``, ``processor`` and ``vllm_processors`` apply them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

Kind = Literal["add", "scale", "multiply"]


class Penalty(NamedTuple):
    """A change of some logits z of one row.

    Attributes:
        ids: token ids, int64, each once.
        amount: ``add``: z + amount. ``multiply``: z * amount, whatever z's sign (so that an amount
            below 1 raises a negative logit; the released code of RPG does this). ``scale``:
            z * amount if z > 0, else z / amount.
        kind: which.
    """

    ids: np.ndarray
    amount: float
    kind: Kind = "add"


class Rule(Protocol):
    """One row's state."""

    def push(self, token: int) -> None:
        """Takes the next token, of the prompt or generated."""
        ...

    def penalties(self) -> Sequence[Penalty]:
        """What to change for the token that comes next."""
        ...

    def snapshot(self) -> Any:
        """The state, to go back to with :meth:`restore` after more tokens (rejected drafts)."""
        ...

    def restore(self, state: Any) -> None:
        """Goes back to an earlier state of this rule, or of one it was forked from."""
        ...

    def fork(self) -> Rule:
        """A second rule in the same state, independent of this one."""
        ...


class History:
    """Base of rules whose whole state is a list of tokens: a snapshot is its length.

    Subclasses extend :meth:`push`, and :meth:`restore` if they keep more.
    """

    def __init__(self) -> None:
        self.tokens: list[int] = []

    def push(self, token: int) -> None:
        """See :class:`Rule`."""
        self.tokens.append(token)

    def snapshot(self) -> Any:
        """See :class:`Rule`."""
        return len(self.tokens)

    def restore(self, state: Any) -> None:
        """See :class:`Rule`."""
        del self.tokens[state:]

    def fork(self) -> Any:
        """See :class:`Rule`."""
        return copy.deepcopy(self)


def push_all(rule: Rule, tokens: Iterable[int]) -> None:
    """Gives a rule several tokens."""
    for token in tokens:
        rule.push(token)


def apply(logits: torch.Tensor, by_row: Sequence[Sequence[Penalty]]) -> None:
    """Changes logits in place, those of all rows with one transfer to the device.

    Penalties of one row that name the same id are applied one after the other.

    Args:
        logits: [B, V], any float dtype. Forbidden tokens (-inf) stay forbidden.
        by_row: the penalties of each of the B rows.
    """
    waiting = [list(penalties) for penalties in by_row]
    while any(waiting):
        now: list[tuple[int, Penalty]] = []
        for row, penalties in enumerate(waiting):
            taken: set[int] = set()
            left: list[Penalty] = []
            for penalty in penalties:
                ids = penalty.ids.tolist()
                if left or not taken.isdisjoint(ids):
                    left.append(penalty)
                else:
                    taken.update(ids)
                    now.append((row, penalty))
            waiting[row] = left
        _apply_disjoint(logits, now)


def _apply_disjoint(logits: torch.Tensor, penalties: Sequence[tuple[int, Penalty]]) -> None:
    penalties = [(row, penalty) for row, penalty in penalties if len(penalty.ids)]
    if not penalties:
        return
    counts = [len(penalty.ids) for _, penalty in penalties]
    places = np.empty((2, sum(counts)), dtype=np.int64)
    places[0] = np.repeat([row for row, _ in penalties], counts)
    places[1] = np.concatenate([penalty.ids for _, penalty in penalties])
    rows, ids = torch.from_numpy(places).to(logits.device, non_blocking=True)
    old = logits[rows, ids]

    def spread(values: list[float]) -> torch.Tensor:
        numbers = torch.from_numpy(np.repeat(np.array(values, dtype=np.float32), counts))
        return numbers.to(logits.device, non_blocking=True)

    amounts = [penalty.amount if penalty.kind == "add" else 0.0 for _, penalty in penalties]
    factors = [penalty.amount if penalty.kind != "add" else 1.0 for _, penalty in penalties]
    below = [
        1 / factor if penalty.kind == "scale" else factor
        for (_, penalty), factor in zip(penalties, factors, strict=True)
    ]
    scaled = torch.where(old > 0, old * spread(factors), old * spread(below))
    logits[rows, ids] = (scaled + spread(amounts)).to(logits.dtype)
