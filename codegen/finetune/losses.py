"""Training losses, summed over the micro-batches of an optimizer step.

The loss is the weighted mean over the step's trained actions (each has weight 1 unless the data has
weights), so the gradient does not depend on how the step is split into micro-batches, rows and
processes. Losses are subclasses of :class:`Likelihood`: at several depths of a model, an infilling
model's own loss, and :mod:`codegen.finetune.seqmatch`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from codegen.finetune.batches import MicroBatch, StepDataset

LOGITS_MB = 512  # maximum size of the logits in MB; larger ones are computed in chunks, twice


@dataclass(slots=True)
class LossSums:
    """Sums of losses and their counts by name, over any number of micro-batches.

    The sums stay on the device until the means are taken.
    """

    sums: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(int))

    def add(self, name: str, losses: Tensor, weights: Tensor | None = None) -> None:
        """Adds losses of any shape; if they are already weighted, pass their weights."""
        total = losses.detach().sum()
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        self.counts[name] += losses.numel() if weights is None else float(weights.sum())

    def means(self) -> dict[str, float]:
        """Returns the mean for each name and resets the sums."""
        means = {name: float(total) / self.counts[name] for name, total in self.sums.items()}
        self.sums.clear()
        self.counts.clear()
        return means


class Likelihood:
    """Maximum likelihood: the negative log-likelihood of each trained action, times its weight.

    Args:
        logits_mb: see :func:`negative_log_likelihood`.
    """

    def __init__(self, logits_mb: int = 0) -> None:
        self.logits_mb = logits_mb

    def losses(self, model: Any, batch: Any, step: int, sums: LossSums) -> Tensor:
        """Returns the losses whose sum is minimized: float32 [T], with gradients.

        Args:
            step: index of the optimizer step, from 0.
            sums: receives the loss components to report, by name.
        """
        losses = negative_log_likelihood(model, batch, self.logits_mb)
        add_by_domain(sums, batch, losses)
        return losses

    def evaluate(self, model: Any, batch: Any, sums: LossSums) -> None:
        """Adds ``eval_loss`` of a held-out micro-batch."""
        losses = negative_log_likelihood(model, batch, self.logits_mb)
        sums.add("eval_loss", losses, batch.weights)

    def own_batches(
        self,
        model: Any,
        step: int,
        data: StepDataset,
    ) -> list[tuple[MicroBatch, float]]:
        """Returns micro-batches sampled by the model, with weights relative to the data's."""
        return []

    def save(self, folder: Path) -> None:
        """Writes the loss's state, if any, into a checkpoint directory."""

    def load(self, folder: Path) -> None:
        """Restores the state that :meth:`save` wrote."""


class NestedLikelihood(Likelihood):
    """Sorted fine-tuning of a nested draft: the mean of the likelihoods at several depths.

    Source: Kavehzadeh et al., *S2D* (arXiv 2407.01955, section 3.2), after *Sorted LLaMA* (arXiv
    2309.08968). The draft is the first layers of a model; the sub-models of a few depths share its
    norm and head. One forward pass computes the hidden states at all depths, and the loss is the
    plain mean of their cross entropies, without weights or distillation, so that one draft serves
    several targets.

    Args:
        exits: depths of the sub-models; the last one is the whole model's.
        trains_all: whether to train all depths, or only the last; all are evaluated.
    """

    def __init__(self, exits: Sequence[int], *, trains_all: bool) -> None:
        super().__init__()
        self.exits, self.trains_all = tuple(exits), trains_all

    def losses(self, model: Any, batch: Any, step: int, sums: LossSums) -> Tensor:
        if not self.trains_all:
            return super().losses(model, batch, step, sums)
        by_exit = sorted_likelihoods(model, batch, self.exits)
        for depth, part in zip(self.exits, by_exit, strict=True):
            sums.add(f"loss_layer_{depth}", part, batch.weights)
        losses = by_exit.mean(0)
        add_by_domain(sums, batch, losses)
        return losses

    def evaluate(self, model: Any, batch: Any, sums: LossSums) -> None:
        """Adds ``eval_loss``, and ``eval_loss_layer_N`` for each depth."""
        by_exit = sorted_likelihoods(model, batch, self.exits)
        losses = by_exit.mean(0) if self.trains_all else by_exit[-1]
        sums.add("eval_loss", losses, batch.weights)
        for depth, part in zip(self.exits, by_exit, strict=True):
            sums.add(f"eval_loss_layer_{depth}", part, batch.weights)


class InfillingLoss(Likelihood):
    """The mean of the model's own losses over the draws of a step."""

    def losses(self, model: Any, batch: Any, step: int, sums: LossSums) -> Tensor:
        found = model(**batch.inputs)
        for name, part in found.parts.items():
            sums.add(name, part)
        return found.losses

    def evaluate(self, model: Any, batch: Any, sums: LossSums) -> None:
        """Adds ``eval_loss``."""
        sums.add("eval_loss", model(**batch.inputs).losses)


def negative_log_likelihood(model: Any, batch: MicroBatch, logits_mb: int = 0) -> Tensor:
    """Returns the weighted negative log-likelihood of each action in nats: float32 [T].

    Args:
        logits_mb: maximum size of float32 logits in MB (2^20 bytes); 0 for no limit. Above it, the
            actions are projected in chunks, and reprojected in the backward pass, unless the model
            changes its logits after the output layer.
    """
    head = _output_layer(model) if logits_mb else None
    if head is not None:
        columns = len(batch.inputs["input_ids"]) * len(batch.inputs["logits_to_keep"])
        most = max(1, (logits_mb << 20) // (4 * head.out_features))
        if columns > most:
            losses = _in_chunks(model, batch, head, most)
            if losses is not None:
                return _weighted(losses, batch)
    logits = model(**batch.inputs, use_cache=False).logits  # [B, C, V]
    flat = logits.reshape(-1, logits.shape[-1])
    # A single row already has exactly its own columns, so no selection (a copy) is needed.
    picked = flat if len(flat) == len(batch.nodes) and len(logits) == 1 else flat[batch.nodes]
    losses = torch.nn.functional.cross_entropy(picked.float(), batch.targets, reduction="none")
    return _weighted(losses, batch)


def _weighted(losses: Tensor, batch: MicroBatch) -> Tensor:
    """Multiplies losses [..., T] by the actions' weights."""
    return losses if batch.weights is None else losses * batch.weights


def _output_layer(model: Any) -> Any:
    """Returns the model's output layer if it is linear and no later operation is known."""
    model = getattr(model, "module", model)
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    is_plain = type(head) is torch.nn.Linear and not getattr(head, "is_followed", False)
    return head if is_plain else None


def _in_chunks(model: Any, batch: MicroBatch, head: Any, size: int) -> Tensor | None:
    """Computes the losses inside the output layer, so that wrappers of the model (DDP, FSDP) work
    as usual. Returns None if the model changes the layer's output.
    """
    made: list[Tensor] = []

    def losses_of(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = torch.nn.functional.linear(hidden, head.weight, head.bias)
        return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")

    def forward(hidden: Tensor) -> Tensor:
        picked = hidden.reshape(-1, hidden.shape[-1])[batch.nodes]  # [T, H]
        chunks = zip(picked.split(size), batch.targets.split(size), strict=True)
        parts = [checkpoint(losses_of, h, t, use_reentrant=False) for h, t in chunks]
        made.append(torch.cat(parts))
        return made[0]

    head.forward = forward
    try:
        found = model(**batch.inputs, use_cache=False).logits
    finally:
        del head.forward
    if found is made[0] or (found.shape == made[0].shape and torch.equal(found, made[0])):
        return found
    head.is_followed = True  # the model scales or caps its logits, so these losses are wrong
    return None


def sorted_likelihoods(model: Any, batch: MicroBatch, exits: Sequence[int]) -> Tensor:
    """Returns the weighted negative log-likelihood of each action at each depth, in nats: float32
    [exits, T].

    Args:
        exits: depths of the sub-models; the last one is the whole model's.
    """
    from codegen.decoding.strategies.sorted import parts_of

    output = model(**batch.inputs, use_cache=False, output_hidden_states=True)
    parts = parts_of(getattr(model, "module", model))
    logits = []
    for depth in exits[:-1]:
        hidden = output.hidden_states[depth][:, batch.inputs["logits_to_keep"]]  # [B, C, H]
        # Select trained actions first, since the head is most of the work.
        picked = hidden.reshape(-1, hidden.shape[-1])[batch.nodes]
        logits.append(parts.head(parts.norm(picked)).float())
    last = output.logits
    logits.append(last.reshape(-1, last.shape[-1])[batch.nodes].float())
    losses = [
        torch.nn.functional.cross_entropy(at, batch.targets, reduction="none") for at in logits
    ]
    return _weighted(torch.stack(losses), batch)


def add_by_domain(sums: LossSums, batch: MicroBatch, losses: Tensor) -> None:
    """Adds losses [T] as ``loss_DOMAIN``, for examples that have a domain."""
    for name in sorted({name for name in batch.domains if name}):
        of_example = losses.new_tensor([domain == name for domain in batch.domains]).bool()
        of_action = of_example[batch.trajectory]
        weights = None if batch.weights is None else batch.weights[of_action]
        sums.add(f"loss_{name}", losses[of_action], weights)
