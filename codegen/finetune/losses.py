r"""Training losses, summed over the micro-batches of an optimizer step.

The loss is the weighted mean over the step's trained actions (each has weight 1 unless the data has
weights), so the gradient does not depend on how the step is split into micro-batches, rows and
processes. Subclasses of :class:`Likelihood` are the likelihoods at several depths of a model, an
infilling model's own loss, and SequenceMatch: cross entropy plus a penalty that ties consecutive
state values.

Source: Cundy and Ermon, "SequenceMatch: Imitation Learning for Autoregressive Sequence Modelling
with Backtracking", ICLR 2024 (arXiv 2306.05426), sections 3 and 4; inverse soft Q-learning (Garg et
al. 2021, arXiv 2106.12142) and its mixture form (Al-Hafez et al. 2023, arXiv 2303.00599).

A model's logits are Q-values: ``Q(s, a) = l(a | s)``, ``V(s) = logsumexp_a l(a | s)``. With
``x_t = l(a_t | s_t) - gamma V(s_{t+1})`` and a concave phi, the objective to maximize is

    J = E_data[ sum_t gamma^t phi(x_t) + gamma^N / (1 - gamma) phi(x_end) ] - V(s_0)

with ``x_end = (1 - gamma) V_end`` for the absorbing state after EOS, and N actions. The
*chi-squared mixture*, the paper's choice, has ``phi(x) = x - alpha/4 x^2`` on data and the same
quadratic term on the model's own trajectories (:class:`OwnSamples`).

Since ``sum_t gamma^t x_t`` telescopes, with ``phi(x) = x - g(x)`` the loss is (:func:`terms`)

    -J = - sum_t gamma^t log p(a_t | s_t) + sum_t gamma^t g(x_t) + gamma^N / (1 - gamma) g(x_end)

exactly, for whole trajectories and, without the last term, for truncated ones. alpha = 0 and
gamma = 1 are maximum likelihood. Gradients flow through ``V(s_{t+1})``. Where noise replaced
the executed token, ``a_t`` is the label and ``s_{t+1}`` the resulting state (section 4.1).
"""

from __future__ import annotations

import json
import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from codegen.core.paths import write_atomic
from codegen.decoding.loop import BackspaceDecoding, decode
from codegen.decoding.loop import Row as DecodingRow
from codegen.finetune.batches import MicroBatch, StepDataset, collate, share_of
from codegen.finetune.dataset import ExampleLengths
from codegen.finetune.encode import EncodedExample
from codegen.finetune.recipe import SequenceMatch
from codegen.methods.backspace import IGNORE, Trajectory, stack_layout

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

    Attributes:
        own: the model's samples that are also trained on; each checkpoint contains them.
    """

    own: OwnSamples | None = None

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
    """The infilling model's losses, averaged over a step's draws."""

    def losses(self, model: Any, batch: Any, step: int, sums: LossSums) -> Tensor:
        losses = model(**batch.inputs)
        for name, part in losses.parts.items():
            sums.add(name, part)
        return losses.losses

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
        returned = model(**batch.inputs, use_cache=False).logits
    finally:
        del head.forward
    if returned is made[0] or (returned.shape == made[0].shape and torch.equal(returned, made[0])):
        return returned
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


_OWN_SAMPLES = "own_samples.json"
_SAMPLES_AT_ONCE = 32


class FlatActions(NamedTuple):
    """T concatenated actions of R trajectories.

    Attributes:
        chosen: logit of the target (or, on model trajectories, executed) action, float [T].
        value: V of the state before the action, [T].
        then: V of the state after the action, [T].
        time: index of the action in its trajectory, int64 [T].
        trajectory: index of its trajectory, int64 [T].
        ends: whether the state after the action is the absorbing one, bool [T].
    """

    chosen: Tensor
    value: Tensor
    then: Tensor
    time: Tensor
    trajectory: Tensor
    ends: Tensor


def penalty_of(x: Tensor, settings: SequenceMatch) -> Tensor:
    """Returns g(x) = x - phi(x), at least 0, in the shape of x."""
    alpha = settings.alpha
    if alpha == 0:
        return x.new_zeros(()).expand_as(x)
    if settings.divergence == "kl":  # phi(x) = (1 - exp(-alpha x)) / alpha
        # Continue linearly where the exponential would dominate everything else.
        return x + (-alpha * x).clamp(max=20.0).expm1() / alpha
    return alpha / 4 * x**2


def terms(actions: FlatActions, settings: SequenceMatch) -> tuple[Tensor, Tensor]:
    """Returns the discounted negative log-likelihood and penalty of each action, both [T].

    The action that leads to the absorbing state includes that state's penalty. The loss is the sum
    of both on data, and only the penalty on the model's own trajectories (mixture only).
    """
    gamma = settings.gamma
    discount = actions.value.new_tensor(gamma) ** actions.time
    likelihood = discount * (actions.value - actions.chosen)
    if settings.alpha == 0:
        return likelihood, likelihood.new_zeros(()).expand_as(likelihood)
    then = next_values(actions, settings)
    penalty = discount * penalty_of(actions.chosen - gamma * then, settings)
    after = gamma * discount / (1 - gamma)  # gamma^N / (1 - gamma) for the last action
    tail = after * penalty_of((1 - gamma) * then, settings)
    return likelihood, penalty + tail.where(actions.ends, tail.new_zeros(()))


def next_values(actions: FlatActions, settings: SequenceMatch) -> Tensor:
    """Returns V(s_{t+1}) of each action, [T], with the configured value of the absorbing state."""
    if settings.terminal == "eos":
        return actions.then
    return actions.then.where(~actions.ends, actions.then.new_zeros(()))


def sequence_match(
    model: Any, batch: MicroBatch, settings: SequenceMatch, backspace: int | None
) -> tuple[Tensor, Tensor]:
    """Returns the discounted negative log-likelihood and penalty of each action (:func:`terms`).

    Args:
        batch: micro-batch collated with ``successors``.
        backspace: backspace token id; it is illegal when only the prompt is left.
    """
    logits = model(**batch.inputs, use_cache=False).logits  # [B, C, V]
    flat = logits.reshape(-1, logits.shape[-1])
    values = flat.float().logsumexp(-1)  # V of every state with logits
    value, then = values[batch.nodes], values[batch.then]
    chosen = flat[batch.nodes, batch.targets].float()
    if backspace is not None:
        value = _without(value, flat[batch.nodes, backspace].float(), batch.start)
        starts = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        starts[batch.nodes[batch.start]] = True  # a backspace can return to the prompt
        then = _without(then, flat[batch.then, backspace].float(), starts[batch.then])
    actions = FlatActions(chosen, value, then, batch.time, batch.trajectory, batch.ends)
    return terms(actions, settings)


def _without(log_sum: Tensor, logit: Tensor, where: Tensor) -> Tensor:
    """Removes an action from a logsumexp where True: returns log(exp(log_sum) - exp(logit))."""
    # 1 - p(action), clamped above 0 where float32 underflows.
    left = (-torch.expm1((logit - log_sum).clamp(max=-1e-6))).log()
    return torch.where(where, log_sum + left, log_sum)


class SequenceMatchLoss(Likelihood):
    """SequenceMatch loss; alpha rises from 0 over the first fraction ``ramp`` of the steps.

    Args:
        backspace: backspace token id, or None.
        own: the model's own samples for training, or None.
    """

    def __init__(
        self, settings: SequenceMatch, steps: int, backspace: int | None, own: OwnSamples | None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.ramp = max(1, round(settings.ramp * steps))
        self.backspace, self.own = backspace, own

    def alpha(self, step: int) -> float:
        """Returns the weight of the penalty in a step."""
        return self.settings.alpha * min(1.0, step / self.ramp)

    def losses(self, model: Any, batch: Any, step: int, sums: LossSums) -> Tensor:
        settings = self.settings.model_copy(update={"alpha": self.alpha(step)})
        likelihood, penalty = sequence_match(model, batch, settings, self.backspace)
        if batch.own:
            sums.add("penalty_own", penalty)
            return penalty
        sums.add("penalty", penalty)
        sums.add("nll", likelihood)
        losses = likelihood + penalty
        add_by_domain(sums, batch, losses)
        return losses

    def own_batches(
        self, model: Any, step: int, data: StepDataset
    ) -> list[tuple[MicroBatch, float]]:
        """Returns the model's samples, weighted to equal the step's examples."""
        if self.own is None:
            return []
        self.own.refresh(model, step)
        if self.alpha(step) == 0:  # the samples would have no effect yet
            return []
        wanted = len(data.plan.numbers(step))
        samples = self.own.draw(step, wanted)
        groups = [[((k,),)] for k in range(len(samples))]
        batches = []
        for rows, counts in share_of(groups, data.rank, data.world):
            batch = collate(samples, rows, data.pad, successors=True, attention=data.attention)
            weight = float(counts) * wanted / len(samples)
            batches.append((replace(batch, own=True), weight))
        return batches


class OwnSamples:
    """A buffer of completions sampled during training (algorithm 1 of arXiv 2306.05426).

    Every ``sample_every`` steps the current model completes prompts of the data, and the oldest
    samples are dropped. Prompts, random numbers and a step's draws from the buffer depend only on
    the seed and the step, and each checkpoint contains the buffer, so a resumed run has the same
    result.

    Args:
        settings: number, interval and length of the samples.
        examples: source of the prompts; by default, their lengths limit the samples' lengths.
        eos: ids of end tokens.
        backspace: backspace token id, or None.
    """

    def __init__(
        self,
        settings: SequenceMatch,
        examples: Sequence[EncodedExample],
        eos: frozenset[int],
        backspace: int | None,
        seed: int,
    ) -> None:
        self.settings, self.eos, self.seed = settings, eos, seed
        self.backspace = -1 if backspace is None else backspace
        self.examples = examples
        self.max_new_tokens = settings.max_new_tokens or int(
            ExampleLengths.of(examples).trained.max()
        )
        self._kept: deque[tuple[list[int], list[int]]] = deque(maxlen=settings.buffer)

    def refresh(self, model: Any, step: int) -> None:
        """Adds samples every ``sample_every`` steps."""
        if step % self.settings.sample_every:
            return
        rng = random.Random(f"{self.seed}:prompts:{step}")
        numbers = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        budget = self.max_new_tokens
        rows = [
            DecodingRow(_prompt(rng.choice(self.examples)), numbers.random(budget).tolist())
            for _ in range(self.settings.samples)
        ]
        was_training = model.training
        model.eval()
        try:
            for start in range(0, len(rows), _SAMPLES_AT_ONCE):
                decode(
                    model,
                    rows[start : start + _SAMPLES_AT_ONCE],
                    max_new_tokens=budget,
                    temperature=1.0,
                    top_p=1.0,
                    eos=self.eos,
                    strategy=BackspaceDecoding(self.backspace),
                )
        finally:
            model.train(was_training)
        self._kept.extend((row.prompt, row.actions) for row in rows)

    def draw(self, step: int, count: int) -> list[EncodedExample]:
        """Returns ``count`` random samples, or all if there are fewer."""
        rng = random.Random(f"{self.seed}:draw:{step}")
        chosen = rng.sample(list(self._kept), min(count, len(self._kept)))
        return [self._encoded(prompt, actions) for prompt, actions in chosen]

    def _encoded(self, prompt: list[int], actions: list[int]) -> EncodedExample:
        labels = (*[IGNORE] * len(prompt), *actions)
        trajectory = Trajectory((*prompt, *actions), labels, len(prompt), self.backspace)
        return EncodedExample.of_stack(stack_layout(trajectory), final=actions[-1] in self.eos)

    def save(self, folder: Path) -> None:
        """Writes the buffer into a checkpoint directory."""
        write_atomic(folder / _OWN_SAMPLES, json.dumps(list(self._kept)))

    def load(self, folder: Path) -> None:
        """Reads the buffer that :meth:`save` wrote."""
        rows = json.loads((folder / _OWN_SAMPLES).read_text("utf-8"))
        self._kept.extend((prompt, actions) for prompt, actions in rows)


def _prompt(example: EncodedExample) -> list[int]:
    return example.ids[: example.nodes[0] + 1]
