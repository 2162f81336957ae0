"""Continuous batching: the forward passes of several requests, run together.

A request's work yields the passes that it needs one after the other (``Passes``). Each round runs
one pass of every request that decodes, in one pass of the model, so that they share the reading of
its weights. Contexts that are being encoded take up to a chunk of tokens a round between them,
those with little left first, then in turn: a decoding request waits for at most one chunk.

What the passes cost is measured on the way, for the planner of drafts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen.decoding.drafts import PassCosts
from codegen.server.jobs import Job
from codegen.server.requests import Completion

if TYPE_CHECKING:
    import torch

    from codegen.decoding.passes import Pass, Passes

_FEW = 8  # tokens of a pass that decodes, drafted ones included

Outcome = Completion | BaseException


@dataclass(eq=False)
class _Running:
    """A job, its work, the pass that it waits for, and the round in which it had the last one."""

    job: Job
    work: Passes[Completion]
    request: Pass
    served: int = 0


class Schedule:
    """The jobs that run.

    Args:
        chunk: tokens of contexts that a round encodes.

    Attributes:
        costs: of rounds, by the tokens of all passes together.
    """

    def __init__(self, chunk: int) -> None:
        self._chunk = chunk
        self.costs = PassCosts()
        self._running: list[_Running] = []
        self._round = 0

    def __len__(self) -> int:
        return len(self._running)

    def start(self, job: Job, work: Passes[Completion]) -> Outcome | None:
        """Begins a job; what came of it if it needs no pass."""
        try:
            self._running.append(_Running(job, work, next(work), self._round))
        except StopIteration as end:
            return end.value
        except Exception as error:  # noqa: BLE001 - the engine tells mistakes from bugs
            return error
        return None

    def round(self) -> list[tuple[Job, Outcome]]:
        """Runs a round; the jobs that are over, with what came of them.

        Cancelled jobs end before it, with whatever their work says to that.
        """
        unwanted = [one for one in self._running if one.job.cancel.is_set()]
        over = [self._resume(one, None) for one in unwanted]
        self._round += 1
        these = self._next()
        if these:
            began = time.thread_time()
            results = _run([one.request for one in these])
            self._measure([one.request.size for one in these], time.thread_time() - began)
            over += [self._resume(*both) for both in zip(these, results, strict=True)]
        return [one for one in over if one is not None]

    def _measure(self, sizes: Sequence[int], seconds: float) -> None:
        """Learns from a round: what passes that decode cost, or a token of a context."""
        if max(sizes) <= _FEW:
            self.costs.add(1, sum(sizes), seconds)
        elif min(sizes) > _FEW:
            self.costs.add_prompt(sum(sizes), seconds)

    def _next(self) -> list[_Running]:
        """Who has a pass in this round."""
        few = [one for one in self._running if one.request.size <= _FEW]
        many = [one for one in self._running if one.request.size > _FEW]
        rows = 0
        for one in sorted(many, key=lambda one: (one.request.size, one.served)):
            rows += one.request.size
            if rows > self._chunk and rows > one.request.size:
                break
            few.append(one)
        return few

    def _resume(
        self, one: _Running, result: torch.Tensor | Exception | None
    ) -> tuple[Job, Outcome] | None:
        """Goes on with work, or ends it if there is no result; what came of it if it is over."""
        outcome: Outcome
        try:
            if result is None:
                one.work.close()
                outcome = Cancelled()
            elif isinstance(result, Exception):
                one.request = one.work.throw(result)
                return None
            else:
                one.served = self._round
                one.request = one.work.send(result)
                return None
        except StopIteration as end:
            outcome = end.value
        except Exception as error:  # noqa: BLE001 - as above
            outcome = error
        self._running.remove(one)
        return one.job, outcome


class Cancelled(Exception):
    """Nobody wants the answer any more."""


def _run(requests: Sequence[Pass]) -> list[Any]:
    """Logits of each pass, or the error that it ends with; one's error is not the others'."""
    from codegen.decoding.editing import EditableCache

    try:
        return list(EditableCache.run_passes(requests))
    except Exception as error:  # noqa: BLE001 - it is the work's to say what it means
        if len(requests) == 1:
            return [error]
    return [result for one in requests for result in _run([one])]
