"""What is minimised over the micro-batches of one optimizer step.

The loss is a sum over the step's trained actions, divided by how many there are, whatever the split
into micro-batches, rows and processes; so the gradient does not depend on the split.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from codegen.finetune.batch import MicroBatch
from codegen.finetune.seqmatch import Actions, Objective, terms

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(slots=True)
class Tally:
    """Sums of losses and their counts by name, over any number of micro-batches.

    The sums stay on the device until they are asked for.
    """

    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, total: Tensor, count: int) -> None:
        """Adds a sum over so many actions."""
        total = total.detach()
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] += count

    def sum_over(self, group: Any) -> None:
        """Adds what the other processes of a group have under the same names."""
        import torch

        for name, total in self.sums.items():
            both = torch.stack([total.double(), total.new_tensor(self.counts[name]).double()])
            torch.distributed.all_reduce(both, group=group)
            self.sums[name], self.counts[name] = both[0], round(float(both[1]))

    def means(self) -> dict[str, float]:
        """The mean of each name, and an empty tally from here on."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means


def negative_log_likelihood(model: Any, batch: MicroBatch) -> Tensor:
    """Of each action, in nats: float32 [T]."""
    import torch

    logits = _at(model(**batch.inputs, use_cache=False).logits, batch.nodes)
    return torch.nn.functional.cross_entropy(logits, batch.targets, reduction="none")


def sequence_match(
    model: Any, batch: MicroBatch, objective: Objective, backspace: int | None
) -> tuple[Tensor, Tensor]:
    """Discounted negative log-likelihood and penalty of each action; see :func:`.seqmatch.terms`.

    Args:
        model: the model.
        batch: made with ``successors``.
        objective: the loss.
        backspace: id of the backspace, which is no action where only the prompt stands.
    """
    import torch

    logits = model(**batch.inputs, use_cache=False).logits
    flat = logits.reshape(-1, logits.shape[-1])
    values = _log_sums(flat)  # of every state whose logits are at hand
    value, then = values[batch.nodes], values[batch.then]
    chosen = flat[batch.nodes, batch.targets].float()
    if backspace is not None:
        value = _without(value, flat[batch.nodes, backspace].float(), batch.start)
        starts = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        starts[batch.nodes[batch.start]] = True  # a backspace can lead back to there
        then = _without(then, flat[batch.then, backspace].float(), starts[batch.then])
    actions = Actions(chosen, value, then, batch.time, batch.trajectory, batch.ends)
    return terms(actions, objective)


def tally_by_domain(tally: Tally, batch: MicroBatch, losses: Tensor) -> None:
    """Adds losses [T] to the domains of their examples, where there are any."""
    names = sorted({name for name in batch.domains if name})
    for name in names:
        of_example = losses.new_tensor([domain == name for domain in batch.domains]).bool()
        of_action = of_example[batch.trajectory]
        if count := int(of_action.sum()):  # of a shared row the actions may be another's
            tally.add(f"loss_{name}", losses[of_action].sum(), count)


def _at(logits: Tensor, nodes: Tensor) -> Tensor:
    """Logits [T, V] in float32 at flat places of [B, C, V]."""
    flat = logits.reshape(-1, logits.shape[-1])
    # One row asked for its own columns and no others: nothing to pick, no copy.
    picked = flat if len(flat) == len(nodes) and len(logits) == 1 else flat[nodes]
    return picked.float()


def _log_sums(flat: Tensor) -> Tensor:
    return flat.float().logsumexp(-1)


def _without(log_sum: Tensor, logit: Tensor, where: torch.Tensor) -> Tensor:
    """log(exp(log_sum) - exp(logit)) where so marked: an action taken out of a logsumexp."""
    import torch

    # 1 - p(action): kept from 0, where the rest has no mass that float32 can tell.
    left = (-torch.expm1((logit - log_sum).clamp(max=-1e-6))).log()
    return torch.where(where, log_sum + left, log_sum)
