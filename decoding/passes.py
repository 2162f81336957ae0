"""Forward passes: which models the loop is right for, how they are called, and who runs them.

Work that needs passes is a generator (:data:`Passes`): it yields each pass, is sent its logits, and
returns a result. :func:`run_alone` runs the passes one after the other; the editor's server runs
those of several requests together (``codegen.server.schedule``).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache
from codegen.errors import ModelError

T = TypeVar("T")


class Pass(Protocol):
    """A forward pass that work needs next."""

    @property
    def size(self) -> int:
        """Tokens a row that it encodes."""
        ...

    def run(self) -> torch.Tensor:
        """Runs it; its logits."""
        ...


Passes = Generator[Pass, torch.Tensor, T]
"""Work that yields the passes it needs, is sent their logits, and returns a result."""


def run_alone(passes: Passes[T]) -> T:
    """The result of work whose passes are run one after the other."""
    try:
        needed = next(passes)
        while True:
            try:
                logits = needed.run()
            except BaseException as error:  # noqa: BLE001 - the work has to know
                needed = passes.throw(error)
            else:
                needed = passes.send(logits)
    except StopIteration as end:
        return end.value


@dataclass(frozen=True, slots=True, eq=False)
class ModelPass:
    """A pass of a transformers model over tokens that were placed in a cache.

    Attributes:
        model: loaded with ``sdpa`` attention.
        tokens: int64 [B, Q].
        cache: where they are placed.
        mask: who sees whom, bool [B, 1, Q, slots].
        keep: for how many of a row's last tokens logits are wanted.
    """

    model: PreTrainedModel
    tokens: torch.Tensor
    cache: KVCache
    mask: torch.Tensor
    keep: int

    @property
    def size(self) -> int:
        """Tokens a row."""
        return self.tokens.shape[1]

    def run(self) -> torch.Tensor:
        """Logits [B, keep, V]."""
        return forward(self.model, self.tokens, self.cache, self.mask, self.keep)


def forward(
    model: PreTrainedModel, tokens: torch.Tensor, cache: KVCache, mask: torch.Tensor, keep: int
) -> torch.Tensor:
    """Logits [B, keep, V] of the last of the placed tokens [B, Q]."""
    output = model(
        input_ids=tokens,
        position_ids=cache.slots.positions,
        attention_mask=mask,
        use_cache=True,
        logits_to_keep=keep,
        **{cache_argument(type(model)): cache},
    )
    return output.logits[:, -keep:]


@functools.cache
def cache_argument(kind: type) -> str:
    """The name of a model's argument for the cache: transformers renamed ``past_key_values``."""
    names = inspect.signature(kind.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def check_architecture(model: PreTrainedModel) -> None:
    """Refuses models to which a mask and positions can't be given, with the reason.

    Raises:
        ModelError: for encoder-decoder models, other attention than sdpa, ALiBi, recurrent or
            chunked layers.
    """
    config = model.config.get_text_config()
    name = type(model).__name__
    attention = getattr(config, "_attn_implementation", None)
    if attention != "sdpa":
        raise ModelError(
            f"{name} runs with {attention!r} attention; the loop's mask is made for 'sdpa'.",
            "Load it with attn_implementation='sdpa'.",
        )
    if getattr(config, "alibi", False):
        raise ModelError(f"{name} has ALiBi position biases, which the loop does not support.")
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"{name} is an encoder-decoder model; the loop needs a decoder-only one.")
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if odd := sorted(kinds - {"full_attention", "sliding_attention", "attention"}):
        raise ModelError(f"{name} has {odd[0]} layers, which the decoding loop does not support.")


def check_supported(model: PreTrainedModel, length: int) -> None:
    """Refuses what the loop would compute wrongly, with the reason.

    Raises:
        ModelError: as :func:`check_architecture`, for sequences beyond the position range, and
            beyond the window of sliding-window attention.
    """
    check_architecture(model)
    config = model.config.get_text_config()
    name = type(model).__name__
    limit = getattr(config, "max_position_embeddings", None)
    if limit and length > limit:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens, {name} holds {limit}.",
            "Shorten the prompt or lower max_new_tokens.",
        )
    window = sliding_window(model)
    if window and length > window:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens, more than the attention window of "
            f"{name} ({window}), where the loop would not be exact.",
            "Shorten the prompt or lower max_new_tokens.",
        )


def sliding_window(model: PreTrainedModel) -> int | None:
    """The width of a model's sliding window, None if no layer has one."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True):
        return None
    kinds = getattr(config, "layer_types", None)
    return window if not kinds or "sliding_attention" in kinds else None
