"""The batched decoding loop: prompts in, tokens out, on unmodified transformers models.

Each row is a prompt with its own cursor, random numbers and end. Rows leave the batch when they
finish and the rest is compacted. There is one transfer from the device to the host a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import RowCache
from codegen.decoding.healing import Vocabulary
from codegen.decoding.sampling import choose
from codegen.errors import ModelError

# Compacting copies the cache, so it waits until a quarter of the rows have finished.
_COMPACT_BELOW = 0.75
# Rows of one prefill pass hold at most this many tokens, to bound activation memory.
_PREFILL_TOKENS = 8192

Finish = Literal["eos", "stop", "length"]


@dataclass
class Row:
    """One sequence being decoded.

    Attributes:
        prompt: token ids, at least one.
        uniforms: the random numbers of its tokens in order, one for each of ``max_new_tokens``.
        rest: bytes that the first tokens must spell (token healing).
        tokens: the generated ids that stand, without the end-of-sequence token; what is there at
            the beginning is gone on from.
        actions: with a backspace token, all ids that were chosen, the end-of-sequence token too.
        finish: why it ended, None while it runs.
    """

    prompt: list[int]
    uniforms: Sequence[float]
    rest: bytes = b""
    tokens: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    finish: Finish | None = None


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    eos: frozenset[int],
    vocabulary: Vocabulary | None = None,
    on_token: Callable[[int, int], bool] | None = None,
    adjust: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None = None,
    backspace: int | None = None,
) -> None:
    """Decodes all rows in one batch, in place.

    Args:
        eos: token ids that end a row.
        backspace: the token that takes the last one back (SequenceMatch, arXiv 2306.05426). The
            row's cursor goes back with it, so what was taken back costs no room; ``max_new_tokens``
            bounds the actions, of which a loop of right and wrong could have any number. It is
            never chosen where only the prompt is left.
        vocabulary: needed if a row has ``rest``.
        on_token: called with (row number, token id) after each token; true stops that row.
        adjust: called at each step with the logits [B, V] and the row numbers of the batch, of
            which some may have finished; returns the logits to choose from (penalties).

    Raises:
        ModelError: if the model can't hold the sequence or its architecture is not supported.
    """
    given = [row.prompt + row.tokens for row in rows]
    longest = max(map(len, given))
    check_supported(model, longest + max_new_tokens)
    cache = RowCache(model.config.get_text_config().num_hidden_layers, longest + max_new_tokens)
    _prefill(model, cache, given)

    batch = list(range(len(rows)))  # the rows in the cache; finished ones ride along for a while
    pending = [tokens[-1] for tokens in given]  # what each row feeds next, not yet in the cache
    cursors = torch.tensor([len(tokens) - 1 for tokens in given], device=model.device)
    for step in range(max_new_tokens):
        cache.place(cursors[:, None], longest + step)
        logits = _forward(model, torch.tensor(pending, device=model.device)[:, None], cache)
        if adjust:
            logits = adjust(logits, batch)
        for i, number in enumerate(batch):
            if vocabulary and rows[number].rest and not rows[number].finish:
                logits[i] = _only(logits[i], vocabulary.allowed(rows[number].rest))
            if backspace is not None and not rows[number].tokens:
                logits[i, backspace] = -torch.inf
        uniforms = [float(rows[number].uniforms[step]) for number in batch]
        drawn = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)
        chosen = choose(logits, drawn, temperature, top_p).tolist()
        moves = [1] * len(batch)
        for i, (number, token) in enumerate(zip(batch, chosen, strict=True)):
            row = rows[number]
            if row.finish:
                continue
            if backspace is not None:
                row.actions.append(token)
            if token in eos:
                row.finish = "eos"
                continue
            if token == backspace:  # the token before the one taken back is fed once more
                row.tokens.pop()
                moves[i] = -1
            else:
                row.tokens.append(token)
            pending[i] = row.tokens[-1] if row.tokens else row.prompt[-1]
            if vocabulary and row.rest:
                row.rest = vocabulary.after(row.rest, token)
            if on_token and on_token(number, token):
                row.finish = "stop"
            elif step == max_new_tokens - 1:
                row.finish = "length"
        cursors = cursors + torch.tensor(moves, device=cursors.device)
        running = [i for i, number in enumerate(batch) if not rows[number].finish]
        if not running:
            return
        if len(running) <= _COMPACT_BELOW * len(batch):
            kept = torch.tensor(running, device=model.device)
            cache.select(kept)
            cursors = cursors.index_select(0, kept)
            batch = [batch[i] for i in running]
            pending = [pending[i] for i in running]


def check_supported(model: PreTrainedModel, length: int) -> None:
    """Refuses what the loop would compute wrongly, with the reason.

    Raises:
        ModelError: for encoder-decoder models, other attention than sdpa, ALiBi, recurrent or
            chunked layers, sequences beyond the position range, and beyond the window of
            sliding-window attention.
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
    limit = getattr(config, "max_position_embeddings", None)
    if limit and length > limit:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens, {name} holds {limit}.",
            "Shorten the prompt or lower max_new_tokens.",
        )
    window = getattr(config, "sliding_window", None)
    if not getattr(config, "use_sliding_window", True):
        window = None
    if window and "sliding_attention" not in kinds and getattr(config, "layer_types", None):
        window = None
    if window and length > window:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens, more than the attention window of "
            f"{name} ({window}), where the loop would not be exact.",
            "Shorten the prompt or lower max_new_tokens.",
        )


def _prefill(model: PreTrainedModel, cache: RowCache, given: Sequence[list[int]]) -> None:
    """Encodes each row's tokens but for the last.

    Short rows are padded on the right. The padding's states land in slots that the row overwrites
    before any of its queries may see them.
    """
    width = max(map(len, given)) - 1
    if width == 0:
        return
    # Columns are encoded in blocks, which is exact under a causal mask and bounds the activations.
    block = max(1, _PREFILL_TOKENS // len(given))
    pad = given[0][0]
    ids = [tokens[:-1] + [pad] * (width - len(tokens) + 1) for tokens in given]
    tokens = torch.tensor(ids, device=model.device)
    for start in range(0, width, block):
        part = tokens[:, start : start + block]
        stop = start + part.shape[1]
        positions = torch.arange(start, stop, device=model.device).expand(len(given), -1)
        cache.place(positions, stop)
        _forward(model, part, cache)


def _forward(model: PreTrainedModel, tokens: torch.Tensor, cache: RowCache) -> torch.Tensor:
    """Logits [B, V] of the last of the placed tokens [B, Q]."""
    output = model(
        input_ids=tokens,
        position_ids=cache.slots.index,
        attention_mask=cache.mask(),
        use_cache=True,
        logits_to_keep=1,
        **{_cache_argument(type(model)): cache},
    )
    return output.logits[:, -1]


def _cache_argument(kind: type) -> str:
    """transformers renamed ``past_key_values`` to ``cache``; the signature says which it is."""
    names = inspect.signature(kind.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def _only(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Logits with every token but ``ids`` forbidden; unchanged if there are none."""
    if not ids:
        return logits
    masked = torch.full_like(logits, -torch.inf)
    masked[ids] = logits[ids]
    return masked
