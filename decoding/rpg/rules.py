"""The interface of rules against repetition, and how their penalties change logits.

A rule follows one row: it takes each token, and gives penalties for the next one. Rules do not
depend on batches or frameworks; ``methods``, ``processor`` and ``vllm_processors`` apply them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch

from codegen.decoding.device import upload
from codegen.kernels.logits import penalize

Kind = Literal["add", "scale", "multiply"]


class Penalty(NamedTuple):
    """A change of some logits z of one row.

    Attributes:
        ids: token ids, int64, each once.
        amount: ``add``: z + amount. ``multiply``: z * amount for any sign of z (an amount below 1
            raises a negative logit, as in RPG's released code). ``scale``: z * amount if z > 0,
            else z / amount.
        kind: how the amount is applied.
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
        """The penalties for the next token."""
        ...

    def snapshot(self) -> Any:
        """The state, for :meth:`restore` after rejected drafts."""
        ...

    def restore(self, state: Any) -> None:
        """Restores an earlier state of this rule, or of the rule it was forked from."""
        ...

    def fork(self) -> Rule:
        """A second rule in the same state, independent of this one."""
        ...


class History:
    """Base of rules whose state is a list of tokens; a snapshot is its length.

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
    """Pushes several tokens to a rule."""
    for token in tokens:
        rule.push(token)


def apply(logits: torch.Tensor, by_row: Sequence[Sequence[Penalty]]) -> None:
    """Applies penalties to logits in place, with one transfer to the device.

    Several penalties of a row for the same id are applied in order.

    Args:
        logits: [B, V], any float dtype. Forbidden tokens (-inf) stay forbidden.
        by_row: the penalties of each of the B rows.
    """
    waiting = [[p for p in penalties if len(p.ids)] for penalties in by_row]
    tables: list[torch.Tensor] = []
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
        tables += _tables(now)
    given = iter(upload(logits.device, *tables))
    for (rows, ids), numbers in zip(given, given, strict=True):
        penalize(logits, rows, ids, numbers)


def _tables(penalties: Sequence[tuple[int, Penalty]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tables of (row, penalty) pairs without repeated ids in a row.

    Returns:
        Rows and ids, int64 [2, N]; and float64 [3, N]: the factor of positive logits, the factor of
        others, and what is added.
    """
    counts = [len(penalty.ids) for _, penalty in penalties]
    rows = np.repeat([row for row, _ in penalties], counts)
    ids = np.concatenate([penalty.ids for _, penalty in penalties])
    numbers = [
        (1.0, 1.0, amount)
        if kind == "add"
        else (amount, 1 / amount if kind == "scale" else amount, 0.0)
        for _, (_, amount, kind) in penalties
    ]
    spread = np.repeat(np.array(numbers).T, counts, axis=1)
    return torch.from_numpy(np.stack([rows, ids])), torch.from_numpy(spread)
