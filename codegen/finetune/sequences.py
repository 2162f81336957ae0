"""Rows cut among processes: sequence parallelism as DeepSpeed-Ulysses does it (arXiv 2309.14509).

Each of P processes holds a P-th of every row's slots, so a row may be about P times as long as one
of them has memory for. (A dense mask, where the layout needs one, is that of the whole row.) Two
all-to-all exchanges around attention give each process all slots for a P-th of the heads and back;
there the blocks and masks of :mod:`.backends` hold as in one process. All else of a model is done
slot by slot. A process's loss is that of the actions chosen in its own slots, so the sum over
processes is the loss of the whole rows.

accelerate's own configuration asks for it (``parallelism_config_sp_size``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from codegen.errors import ConfigError
from codegen.finetune.processes import processes_a_row

if TYPE_CHECKING:
    import torch

    from codegen.finetune.batch import MicroBatch

Attend = Callable[..., "tuple[torch.Tensor, None]"]


@dataclass(frozen=True, slots=True)
class Share:
    """What a process has of each row: part ``rank`` of ``size``; ``group`` holds the others."""

    rank: int
    size: int
    group: Any = None


def share_of_launch(model: Any, rank: int, world: int) -> Share | None:
    """What a process has of each row; None if it is all.

    Raises:
        ConfigError: if the processes or the model's heads can't be dealt out evenly.
    """
    size = processes_a_row()
    if size == 1:
        return None
    if world % size:
        raise ConfigError(
            f"{size} processes shall share a row, and {world} can't be grouped so.",
            "Set num_processes to a multiple of parallelism_config_sp_size.",
        )
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    if heads % size or (groups % size and size % groups):
        raise ConfigError(
            f"{heads} heads, {groups} of keys, can't be dealt out to {size} processes.",
            "Set parallelism_config_sp_size to a number that divides both.",
        )
    import torch.distributed

    group, _ = torch.distributed.new_subgroups(size)
    return Share(rank % size, size, group)


def share_rows_ourselves(accelerator: Any) -> None:
    """Keeps accelerate from having DeepSpeed cut the data, and put its attention, which knows no
    masks, in the place of transformers' own for the whole process.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    prepare = accelerator.prepare

    def prepared(*given: Any, **options: Any) -> Any:
        before = {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}
        try:
            return prepare(*given, **options)
        finally:
            for name, attend in before.items():
                ALL_ATTENTION_FUNCTIONS[name] = attend

    accelerator.prepare = prepared
    accelerator.deepspeed_ulysses_dl_adapter = lambda data, _: data


def part_of(batch: MicroBatch, share: Share) -> MicroBatch:
    """The part of a micro-batch that a process computes; its width is a multiple of the size.

    Where nothing is trained in a part, the logits of its first slot stand for the model's.
    """
    import torch

    inputs, columns = dict(batch.inputs), batch.inputs["logits_to_keep"]
    width = inputs["input_ids"].shape[1] // share.size
    first = share.rank * width
    for name in ("input_ids", "position_ids"):
        inputs[name] = inputs[name][:, first : first + width]
    own = (columns >= first) & (columns < first + width)
    kept = columns[own] - first
    inputs["logits_to_keep"] = kept if len(kept) else torch.zeros_like(columns[:1])
    row, column = batch.nodes // len(columns), batch.nodes % len(columns)
    here = own[column]
    place = own.cumsum(0) - 1  # of a column among those that are kept
    nodes = row * max(1, len(kept)) + place[column]
    by_action = ("targets", "then", "time", "trajectory", "ends", "start")
    return replace(
        batch,
        inputs=inputs,
        nodes=nodes[here],
        **{name: getattr(batch, name)[here] for name in by_action},
    )


def exchanging(attend: Attend, share: Share) -> Attend:
    """Attention over whole rows in a model that holds a part of them.

    Args:
        attend: as transformers calls it: query [B, H, S, D], keys and values [B, H / G, S, D];
            gives [B, S, H, D].
        share: this process's.
    """
    size, exchange = share.size, _exchange(share.group)

    def gathered(states: torch.Tensor) -> torch.Tensor:
        """[B, H, S / P, D] of all heads to [B, H / P, S, D] of all slots."""
        rows, heads, slots, width = states.shape
        parts = states.view(rows, size, heads // size, slots, width).transpose(0, 1)
        return exchange(parts).permute(1, 2, 0, 3, 4).flatten(2, 3)

    def dealt(states: torch.Tensor) -> torch.Tensor:
        """[B, S, H / P, D] back to [B, S / P, H, D]."""
        rows, slots, heads, width = states.shape
        parts = states.reshape(rows, size, slots // size, heads, width).transpose(0, 1)
        return exchange(parts).permute(1, 2, 0, 3, 4).flatten(2, 3)

    def attended(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        *given: Any,
        **options: Any,
    ) -> tuple[torch.Tensor, None]:
        if key.shape[1] % size:  # fewer heads than processes: some have the same
            times = size // key.shape[1]
            key, value = (states.repeat_interleave(times, 1) for states in (key, value))
        whole = (gathered(states) for states in (query, key, value))
        found, _ = attend(module, *whole, *given, **options)
        return dealt(found), None

    return attended


def _exchange(group: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Part p of a tensor [P, ...] to process p, which gets that of each; with gradients."""
    import torch
    from torch.distributed import all_to_all_single

    def exchanged(parts: torch.Tensor) -> torch.Tensor:
        parts = parts.contiguous()
        found = torch.empty_like(parts)
        all_to_all_single(found, parts, group=group)
        return found

    class Exchange(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, parts: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
            return exchanged(parts)

        @staticmethod
        def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
            return exchanged(grads[0])

    return Exchange.apply
