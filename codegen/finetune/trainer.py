"""transformers' Trainer with an optimizer step, not a micro-batch, as its item.

The trainer is used as it is but for four of its methods. Its data set's items are whole steps: the
plan says which micro-batches a step has, which may be more in one step than in the next, and each
process takes its share of them. ``training_step`` runs them and puts the sum of their losses over
the step's number of trained actions, in all processes together. Evaluation is the mean loss over
all held-out actions. Everything else, optimizers, schedules, clipping, mixed precision, DDP, FSDP,
checkpoints, early stopping, is the trainer's and accelerate's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from transformers import Trainer

from codegen.finetune.backends import Attention, attending
from codegen.finetune.batch import MicroBatch, collate
from codegen.finetune.encode import Encoded
from codegen.finetune.losses import Tally, negative_log_likelihood, sequence_match, tally_by_domain
from codegen.finetune.nested import sorted_likelihoods
from codegen.finetune.plan import Plan, share_of
from codegen.finetune.replay import Replay
from codegen.finetune.seqmatch import Objective
from codegen.finetune.sequences import Share, part_of

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader

# A micro-batch, and what its sum of losses is multiplied with: 0 if it only keeps step.
Weighted = tuple[MicroBatch, bool]


class Steps:
    """The plan as a map-style data set: item k is what this process runs at step k.

    Args:
        examples: of the run.
        plan: of all processes.
        pad: token id of padding.
        successors, attention: see :func:`codegen.finetune.batch.collate`.
        rank, world: which of how many processes this is.
        share: what this process has of each row, if not all.
    """

    def __init__(
        self,
        examples: Sequence[Encoded],
        plan: Plan,
        pad: int,
        *,
        successors: bool,
        attention: Attention = "dense",
        rank: int = 0,
        world: int = 1,
        share: Share | None = None,
    ) -> None:
        self.examples, self.plan, self.pad = examples, plan, pad
        self.successors = successors
        self.attention: Attention = attention
        self.share, size = share, share.size if share else 1
        self.rank, self.world = rank // size, world // size

    def __len__(self) -> int:
        return len(self.plan.steps)

    def __getitem__(self, step: int) -> tuple[list[Weighted], int]:
        """The micro-batches, and the number of actions of the whole step."""
        planned = self.plan.steps[step]
        total = sum(len(self.examples[number].targets) for number in self.plan.numbers(step))
        made = [
            (self._collate(rows, step), counts)
            for rows, counts in share_of(planned, self.rank, self.world)
        ]
        return made, total

    def examples_of(self, step: int) -> int:
        """How many examples the step has, in all processes."""
        return len(self.plan.numbers(step))

    def _collate(self, rows: Any, step: int) -> MicroBatch:
        batch = collate(
            self.examples,
            rows,
            self.pad,
            isolation=self.plan.isolation,
            width=self.plan.width(step),
            successors=self.successors,
            attention=self.attention,
            parts=self.share.size if self.share else 1,
        )
        return part_of(batch, self.share) if self.share else batch


class StepTrainer(Trainer):
    """See the module.

    Args:
        steps: the training data.
        held_out: micro-batches to evaluate on.
        objective: the SequenceMatch loss, or None for maximum likelihood.
        alpha: the objective's alpha at a step, for its ramp.
        backspace: id of the backspace token, if the vocabulary has it.
        replay: own samples to learn from, if any.
        exits: depths of the sub-models of a nested draft, which are evaluated one by one.
        trains_exits: whether all of them are trained, or the last alone.
        watch: what else is measured of the model at an evaluation.
    """

    def __init__(
        self,
        *args: Any,
        steps: Steps,
        held_out: Sequence[MicroBatch] = (),
        objective: Objective | None = None,
        alpha: Callable[[int], float] = lambda _: 0.0,
        backspace: int | None = None,
        replay: Replay | None = None,
        exits: Sequence[int] = (),
        trains_exits: bool = False,
        watch: Callable[[Any], dict[str, float]] = lambda _: {},
        **kwargs: Any,
    ) -> None:
        data: Any = steps
        super().__init__(*args, train_dataset=data, data_collator=_only, **kwargs)
        self.steps, self.held_out = steps, held_out
        self.objective, self.alpha, self.backspace = objective, alpha, backspace
        self.replay, self.watch = replay, watch
        self.exits, self.trains_exits = tuple(exits), trains_exits
        self.tally = Tally()

    def get_train_dataloader(self) -> DataLoader:
        """Not prepared by accelerate, which would deal the steps out to the processes."""
        from torch.utils.data import DataLoader

        data: Any = self.steps
        return DataLoader(data, batch_size=1, shuffle=False, collate_fn=_only)

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        return 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        """Gradients of one step; returns its loss, of which the trainer takes the mean over all
        processes.
        """
        model.train()
        micro_batches, total = inputs
        parts: list[tuple[MicroBatch, float, bool]] = [
            (batch, float(counts) / total, False) for batch, counts in micro_batches
        ]
        base = _base(self.accelerator.unwrap_model(model))
        if self.replay is not None:
            self.replay.refresh(base, self.state.global_step)
            if self.alpha(self.state.global_step) > 0:  # else they have nothing to teach
                parts += self._own_samples(self.replay, total)
        losses = []
        with attending(base, self.steps.attention, self.steps.share):
            for number, (batch, weight, own) in enumerate(parts):
                last = number == len(parts) - 1
                self.accelerator.gradient_state._set_sync_gradients(last)
                context = contextlib.nullcontext() if last else self.accelerator.no_sync(model)
                with context:
                    with self.compute_loss_context_manager():
                        moved = batch.to(self.args.device)
                        loss = self._loss(model, moved, own, weight > 0) * weight
                    self.accelerator.backward(loss * self._parts_of_mean())
                losses.append(loss.detach())
        return sum(losses[1:], losses[0]) * self.args.world_size

    def _parts_of_mean(self) -> int:
        """Of how many gradients accelerate takes the mean, where the loss is a sum: of all
        processes', but DeepSpeed adds up those of the processes that share rows.
        """
        share = self.steps.share
        together = share.size if share and self.is_deepspeed_enabled else 1
        return self.args.world_size // together

    def _loss(self, model: Any, batch: MicroBatch, own: bool, counts: bool) -> torch.Tensor:
        if self.trains_exits:
            by_exit = sorted_likelihoods(model, batch, self.exits)
            for depth, part in zip(self.exits, by_exit, strict=True):
                if counts:
                    self.tally.add(f"loss_layer_{depth}", part.sum(), len(part))
            losses = by_exit.mean(0)
        elif self.objective is None:
            losses = negative_log_likelihood(model, batch)
        else:
            objective = Objective(
                self.alpha(self.state.global_step),
                self.objective.gamma,
                self.objective.divergence,
                self.objective.terminal,
            )
            likelihood, penalty = sequence_match(model, batch, objective, self.backspace)
            name = "penalty_own" if own else "penalty"
            if counts:
                self.tally.add(name, penalty.sum(), len(penalty))
            losses = penalty if own else likelihood + penalty
            if not own and counts:
                self.tally.add("nll", likelihood.sum(), len(likelihood))
        if counts and not own:
            tally_by_domain(self.tally, batch, losses.detach())
        return losses.sum()

    def _own_samples(self, replay: Replay, total: int) -> list[tuple[MicroBatch, float, bool]]:
        """Micro-batches of own samples, which weigh as much as the step's examples do."""
        step = self.state.global_step
        wanted = self.steps.examples_of(step)
        own = replay.draw(step, wanted)
        groups = [[((k,),)] for k in range(len(own))]
        return [
            (
                collate(own, rows, self.steps.pad, successors=True, attention=self.steps.attention),
                float(counts) * wanted / len(own) / total,
                True,
            )
            for rows, counts in share_of(groups, self.steps.rank, self.steps.world)
        ]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Adds the losses by domain and part."""
        if "loss" in logs:
            logs = {**logs, **self.tally.means()}
        super().log(logs, *args, **kwargs)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Mean loss over what is held out, ``eval_loss``, and what is watched."""
        import torch

        assert self.model is not None
        self.model.eval()
        tally = Tally()
        with torch.inference_mode(), self.compute_loss_context_manager():
            self.held_out_losses(tally)
        metrics = tally.means() | self.watch(self.model)
        self.model.train()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def held_out_losses(self, tally: Tally) -> None:
        """Adds up ``eval_loss``."""
        share = self.steps.share
        base = _base(self.accelerator.unwrap_model(self.model))
        with attending(base, self.steps.attention if share else "dense", share):
            for batch in self.held_out:
                moved = (part_of(batch, share) if share else batch).to(self.args.device)
                if not self.exits:
                    losses = negative_log_likelihood(self.model, moved)
                    tally.add("eval_loss", losses.sum(), len(losses))
                    continue
                by_exit = sorted_likelihoods(self.model, moved, self.exits)
                losses = by_exit.mean(0) if self.trains_exits else by_exit[-1]
                tally.add("eval_loss", losses.sum(), len(losses))
                for depth, part in zip(self.exits, by_exit, strict=True):
                    tally.add(f"eval_loss_layer_{depth}", part.sum(), len(part))
        if share:
            tally.sum_over(share.group)


def _base(model: Any) -> Any:
    """The transformers model, with adapters in place if it has any."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _only(items: list[Any]) -> Any:
    return items[0]
