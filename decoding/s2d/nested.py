"""A decoder-only model as a stack of stages, each a few layers, with an exit behind each.

The sub-model of depth d is the embedding, the first d layers, and the model's own final norm and
head (arXiv 2407.01955, section 3). A stage is the model's own body with some of its layers and no
norm, so it runs whatever the architecture does around its layers.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from codegen.decoding.cache import RowCache
from codegen.decoding.passes import cache_argument, check_architecture
from codegen.errors import ModelError

_CHECKED = 5  # tokens


class Parts(NamedTuple):
    """What sub-models share and what they are cut from.

    Attributes:
        body: the model without its head.
        layers: of the body.
        norm: behind the last layer.
        head: from hidden states [..., D] to logits [..., V].
    """

    body: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    head: nn.Module


def parts_of(model: PreTrainedModel) -> Parts:
    """The parts of a model that is built as Llama is.

    Raises:
        ModelError: if it is not.
    """
    body: Any = model.base_model
    layers, norm = getattr(body, "layers", None), getattr(body, "norm", None)
    head: Any = model.get_output_embeddings()
    if not isinstance(layers, nn.ModuleList) or norm is None or head is None:
        raise ModelError(
            f"{type(model).__name__} can't be cut into sub-models: it is not made of layers, one "
            "norm and a head, as Llama is.",
            "Use a model of the Llama, Mistral or Qwen family.",
        )
    return Parts(body, layers, norm, head)


def default_exits(model: PreTrainedModel) -> tuple[int, ...]:
    """The depths that a model was trained to exit at, else its full depth alone."""
    config = model.config.get_text_config()
    given = getattr(config, "exit_layers", None) or [config.num_hidden_layers]
    return tuple(given)


class Nested:
    """A model with exits; shared by all rows.

    Args:
        model: loaded with ``sdpa`` attention.
        exits: depths, ascending; the last is where everything exits, by default
            :func:`default_exits`.

    Attributes:
        exits: see above.
        limit: most tokens that it holds, None for any number.

    Raises:
        ModelError: for exits that the model does not have, and for a model whose stages do not
            compute what it computes in one piece (tried on a few tokens).
    """

    def __init__(self, model: PreTrainedModel, exits: Sequence[int] | None = None) -> None:
        check_architecture(model)
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if len(kinds) > 1:
            raise ModelError(
                f"{type(model).__name__} can't be cut into sub-models: its layers are of several "
                f"kinds ({', '.join(sorted(kinds))})."
            )
        parts = parts_of(model)
        depth = len(parts.layers)
        self.exits = tuple(exits or default_exits(model))
        if list(self.exits) != sorted(set(self.exits)) or not 0 < self.exits[0] <= depth or (
            self.exits[-1] > depth):  # fmt: skip
            raise ModelError(
                f"The draft has {depth} layers; it can't exit after {list(self.exits)}.",
                "Give ascending depths within them.",
            )
        self.layers, self.device = depth, model.device
        self._norm, self._head = parts.norm, parts.head
        self._cache_argument = cache_argument(type(parts.body))
        borders = zip((0, *self.exits), self.exits, strict=False)
        self._stages = [_stage(parts, first, end) for first, end in borders]
        limits = [getattr(config, "max_position_embeddings", None)]
        if getattr(config, "use_sliding_window", True):
            limits.append(getattr(config, "sliding_window", None))
        self.limit: int | None = min((limit for limit in limits if limit), default=None)
        self._check(model)

    def embed(self, tokens: Sequence[int]) -> torch.Tensor:
        """Token ids as what the first stage takes: int64 [1, N]."""
        return torch.tensor([list(tokens)], dtype=torch.long, device=self.device)

    def run(self, stage: int, given: torch.Tensor, cache: RowCache, start: int) -> torch.Tensor:
        """Takes a row's tokens through a stage, whose layers' states go into the cache.

        Args:
            stage: its number.
            given: int64 [1, N] ids for the first stage, hidden states [1, N, D] for the others.
            cache: of the row; the stage's layers hold its first ``start`` tokens.
            start: the position of the first given token.

        Returns:
            Hidden states [1, N, D] behind the stage's last layer.
        """
        count = given.shape[1]
        positions = torch.arange(start, start + count, device=self.device)[None]
        cache.place(positions, start + count)
        options: dict[str, Any] = {self._cache_argument: cache}
        options["inputs_embeds" if stage else "input_ids"] = given
        body = self._stages[stage]
        return body(
            position_ids=positions, attention_mask=cache.mask(), use_cache=True, **options
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits [..., V] of hidden states [..., D], at any exit."""
        return self._head(self._norm(hidden))

    @torch.inference_mode()
    def _check(self, model: PreTrainedModel) -> None:
        """Compares the stages with the whole: scaled embeddings or logits would come out wrong."""
        if self.exits[-1] != self.layers:
            return
        size = model.config.get_text_config().vocab_size
        tokens = torch.linspace(1, size - 1, _CHECKED).long().tolist()
        hidden, cache = self.embed(tokens), RowCache(self.layers, _CHECKED)
        for stage in range(len(self.exits)):
            hidden = self.run(stage, hidden, cache, 0)
        found = self.logits(hidden).float()
        wanted = model(self.embed(tokens), use_cache=False).logits.float()
        tolerance = 1e-3 if model.dtype in (torch.float32, torch.float64) else 0.1
        if not (found - wanted).norm() <= tolerance * wanted.norm():
            raise ModelError(
                f"{type(model).__name__} can't be cut into sub-models: its layers one after another"
                " do not give its logits (scaled embeddings or logits?)."
            )


def _stage(parts: Parts, first: int, end: int) -> nn.Module:
    """The body with layers first .. end - 1 and no norm; weights are shared."""
    stage = copy.copy(parts.body)
    stage._modules = dict(parts.body._modules)
    stage._modules["layers"] = nn.ModuleList(parts.layers[first:end])
    stage._modules["norm"] = nn.Identity()
    return stage
