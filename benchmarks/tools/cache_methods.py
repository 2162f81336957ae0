"""Ways to follow an edit in a cache, and how well each agrees with encoding everything again.

``ours`` encodes the statement at the cursor again; doubts are not settled here.

The reference is the exact cache: all that is stale encoded again, from left to right. Its greedy
next line (to the end of the line or 24 tokens) is given to each method token by token: a method
gives the same line if and only if it finds each of its tokens the most probable one in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from codegen.benchmarks.tools.edit_cases import EditCase
from codegen.decoding.editing import EditableCache, EditPolicy

LONGEST_LINE = 24


@dataclass(frozen=True, slots=True)
class Method:
    """One way.

    Attributes:
        policy: of the cache.
        follows: whether the edit is noticed at all.
        tail: which tail to encode again, of the case's.
    """

    policy: EditPolicy
    follows: bool = True
    tail: Callable[[EditCase], int] = lambda case: case.tail


def no_tail(_: EditCase) -> int:
    """Nothing but the last token."""
    return 0


OURS = EditPolicy()
METHODS: Mapping[str, Method] = {
    "ignored": Method(OURS, follows=False),
    "conflict": Method(replace(OURS, rotate=False, sink=0), tail=no_tail),
    "pie": Method(replace(OURS, sink=0), tail=no_tail),
    "ours": Method(OURS),
}


@dataclass(frozen=True, slots=True)
class Agreement:
    """One method on one case, against the reference.

    Attributes:
        same_line: whether the greedy next line is the same.
        top1: share of the line's tokens that are the most probable ones.
        kl: mean Kullback-Leibler divergence from the reference over the line's tokens, in nats.
        margin: the least lead of a most probable token over the second one.
        first_difference: largest difference of the first token's logits.
        encoded: tokens that went through the model.
        exact: whether the cache knew its states to be exact.
        cpu_s: of the update.
    """

    same_line: bool
    top1: float
    kl: float
    margin: float
    first_difference: float
    encoded: int
    exact: bool
    cpu_s: float


def compare(
    model: Any, line_ends: frozenset[int], case: EditCase, methods: Mapping[str, Method] = METHODS
) -> dict[str, Agreement]:
    """All methods on one case, and the reference as ``full``."""
    old = EditableCache(model)
    old.update(case.before)
    exact = old.fork()
    exact.update(case.after, tail=0)
    began = time.process_time()
    exact.recompute()
    spent = time.process_time() - began
    line, reference = _greedy(exact, line_ends)
    found = {
        "full": Agreement(True, 1.0, 0.0, _margin(reference), 0.0, len(case.after), True, spent)
    }
    for name, method in methods.items():
        cache = old.fork()
        cache.policy = method.policy
        encoded, is_exact = 0, False
        began = time.process_time()
        if method.follows:
            report = cache.update(case.after, tail=method.tail(case))
            encoded, is_exact = report.encoded, report.exact
        spent = time.process_time() - began
        found[name] = _against(reference, line, _forced(cache, line), encoded, is_exact, spent)
    return found


def logits_behind(
    model: Any, case: EditCase, methods: Mapping[str, Method] = METHODS
) -> dict[str, torch.Tensor]:
    """The logits [V] behind a case's text by method, and the exact ones."""
    old = EditableCache(model)
    old.update(case.before)
    exact = old.fork()
    exact.update(case.after, tail=0)
    exact.recompute()
    found = {"full": exact.logits}
    for name, method in methods.items():
        cache = old.fork()
        cache.policy = method.policy
        if method.follows:
            cache.update(case.after, tail=method.tail(case))
        found[name] = cache.logits
    return found


def _greedy(cache: EditableCache, line_ends: frozenset[int]) -> tuple[list[int], torch.Tensor]:
    """The most probable next line, token by token, and the logits [L, V] it was chosen from."""
    length = len(cache)
    line: list[int] = []
    logits = [cache.logits]
    while len(line) < LONGEST_LINE:
        line.append(int(logits[-1].argmax()))
        if line[-1] in line_ends:
            break
        logits.append(cache.extend(line[-1:])[0])
    cache.truncate(length)
    return line, torch.stack(logits[: len(line)]).float()


def _forced(cache: EditableCache, line: Sequence[int]) -> torch.Tensor:
    """The logits [L, V] of each token of a line, given those before it."""
    length = len(cache)
    logits = cache.logits[None]
    if len(line) > 1:
        logits = torch.cat([logits, cache.extend(line[:-1])])
        cache.truncate(length)
    return logits.float()


def _against(
    reference: torch.Tensor, line: Sequence[int], logits: torch.Tensor, encoded: int, exact: bool,
    spent: float,
) -> Agreement:  # fmt: skip
    same = logits.argmax(-1) == torch.tensor(line)
    wanted, given = reference.log_softmax(-1), logits.log_softmax(-1)
    kl = (wanted.exp() * (wanted - given)).sum(-1).mean()
    difference = (reference[0] - logits[0]).abs().max()
    return Agreement(
        same_line=bool(same.all()),
        top1=float(same.float().mean()),
        kl=float(kl),
        margin=_margin(logits),
        first_difference=float(difference),
        encoded=encoded,
        exact=exact,
        cpu_s=spent,
    )


def _margin(logits: torch.Tensor) -> float:
    best = logits.topk(2).values
    return float((best[:, 0] - best[:, 1]).min())
