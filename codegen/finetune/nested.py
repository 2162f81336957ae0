"""Sorted fine-tuning of a nested draft model.

Source: Kavehzadeh et al., *S2D* (arXiv 2407.01955, section 3.2), after *Sorted LLaMA* (arXiv
2309.08968). The draft is the first layers of a model; the sub-models of a few depths share its norm
and head. One forward pass gives the hidden states at all depths, and the loss is the plain mean of
their cross entropies: no weights, no distillation, so that one draft serves several targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from codegen.errors import ConfigError
from codegen.finetune.batch import MicroBatch

if TYPE_CHECKING:
    from torch import Tensor


def keep_first_layers(model: Any, layers: int) -> None:
    """Cuts a model down to its first layers, in place.

    Raises:
        ConfigError: if it has fewer.
        ModelError: if it is not built as Llama is.
    """
    from codegen.decoding.strategies.sorted import parts_of

    parts = parts_of(model)
    if layers > len(parts.layers):
        raise ConfigError(
            f"sorted.layers is {layers}, the model has {len(parts.layers)}.", "Lower it."
        )
    del parts.layers[layers:]
    config = model.config.get_text_config()
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def mark_exits(model: Any, exits: Sequence[int], loss: str) -> None:
    """Writes the depths, and the loss that trains them, into the model's configuration, where a
    drafter reads them. Without depths it takes out what an earlier training wrote.

    Raises:
        ConfigError: if the last is not the model's depth.
        ModelError: if the model can't be cut into these stages.
    """
    from codegen.decoding.strategies.sorted import Nested

    config = model.config.get_text_config()
    if not exits:
        for name in ("exit_layers", "exit_loss"):
            if hasattr(config, name):
                delattr(config, name)
        return
    if exits[-1] != config.num_hidden_layers:
        raise ConfigError(
            f"The last of sorted.exits is {exits[-1]}, the draft has {config.num_hidden_layers} "
            "layers.",
            "Everything exits behind the last layer: end with it.",
        )
    Nested(model, exits)
    config.exit_layers, config.exit_loss = list(exits), loss


def sorted_likelihoods(model: Any, batch: MicroBatch, exits: Sequence[int]) -> Tensor:
    """Negative log-likelihood of each action at each depth, in nats: float32 [exits, T].

    Args:
        model: the draft, wrapped or not.
        batch: what it is run on.
        exits: depths, the last that of the model.
    """
    import torch

    from codegen.decoding.strategies.sorted import parts_of

    output = model(**batch.inputs, use_cache=False, output_hidden_states=True)
    parts = parts_of(getattr(model, "module", model))
    found = []
    for depth in exits[:-1]:
        hidden = output.hidden_states[depth][:, batch.inputs["logits_to_keep"]]
        # Only where an action is trained; the head is most of the work.
        picked = hidden.reshape(-1, hidden.shape[-1])[batch.nodes]
        found.append(parts.head(parts.norm(picked)).float())
    logits = output.logits
    found.append(logits.reshape(-1, logits.shape[-1])[batch.nodes].float())
    return torch.stack(
        [torch.nn.functional.cross_entropy(each, batch.targets, reduction="none") for each in found]
    )
