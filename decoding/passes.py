"""Forward passes: supported models, model calls, and running the passes.

Code that needs passes is a generator (:data:`Passes`); read its ``yield from`` like ``await``. Two
methods yield a pass, ``CachedRows.encode`` and ``EditableCache._forward``, and are resumed with its
logits by the driver of the outermost generator: :func:`run_alone`, which runs the passes one by
one, or ``Schedule.round`` of the editor's server, which runs those of several requests together.

On a GPU the passes of the loop read the cache in place: :data:`IN_PLACE` is an attention function
that is registered with transformers' ``AttentionInterface``. With a mask it calls PyTorch's
attention, or the model's own for models with soft caps or sinks. The mask may be replaced by a
table of trees (:func:`codegen.kernels.tree_attention.pack`), int64 [B, 1, W, 4], as transformers
passes on any four-dimensional mask. :data:`IN_PLACE` then calls
:func:`~codegen.kernels.tree_attention.tree_attention`, which reads each key once for all heads that
share it and builds no mask over the context.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch._dynamo.exc import TorchDynamoException
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from codegen.core.errors import MachineError, ModelError, in_one_line
from codegen.decoding.cache import KVCache, Pages, recurrences
from codegen.decoding.device import CapturedGraphs, Tensors
from codegen.kernels.backend import use_triton
from codegen.kernels.tree_attention import dense, narrow, pack, tree_attention

IN_PLACE = "codegen_tree"
OWN = {"gemma2", "gpt_oss"}  # eager-only models whose soft caps and sinks are supported

T = TypeVar("T")
Drafts = Literal["trees", "chains", "none"]
"""Drafts that a pass can encode; chains are trees without forks."""

_RECURRENT = {"linear_attention", "conv"}
_NARROW = {"sliding_attention", "chunked_attention"}
_SUPPORTED = _RECURRENT | _NARROW | {"full_attention", "attention", "hybrid", "mlp", "moe"}
_ELSEWHERE = "Try another backend (--backend vllm)."


class Pass(Protocol):
    """A forward pass that a generator requests."""

    @property
    def size(self) -> int:
        """Tokens per row."""

    @property
    def keep(self) -> int:
        """Number of last tokens per row with logits."""

    def run(self) -> torch.Tensor:
        """Runs the pass; returns its logits."""


Passes = Generator[Pass, torch.Tensor, T]
"""A generator that yields passes, is resumed with their logits by a driver, and returns a result.

An error of a pass is raised at its ``yield``; a driver that gives up closes the generator.
"""


def run_alone(passes: Passes[T]) -> T:
    """Drives a generator: runs its passes one by one; returns its result."""
    try:
        needed = next(passes)
        while True:
            try:
                logits = needed.run()
            except BaseException as error:  # noqa: BLE001 - the generator cleans up
                needed = passes.throw(error)
            else:
                needed = passes.send(logits)
    except StopIteration as end:
        return end.value


class StepProtocol(Protocol):
    """Interface of :class:`codegen.decoding.editing.forward.DecodeStep`."""

    def takes_rows(self, tokens: torch.Tensor, cache: KVCache) -> bool: ...

    def of_rows(self, tokens: torch.Tensor, cache: KVCache, keep: int) -> torch.Tensor: ...

    def read(self, given: Sequence[list[int]], cache: KVCache) -> bool: ...


@dataclass(frozen=True, slots=True, eq=False)
class ModelPass:
    """A pass of a transformers model over tokens that were placed in a cache.

    Attributes:
        model: loaded with ``sdpa`` or ``eager`` attention.
        tokens: int64 [B, Q].
        cache: the cache with the placed tokens.
        mask: slots that each token attends to, bool [B, 1, Q, slots].
        keep: number of last tokens per row whose logits are returned.
        replays: captures and replays the pass, if set.
        step: a faster way to encode chains, if set.
    """

    model: PreTrainedModel
    tokens: torch.Tensor
    cache: KVCache
    mask: torch.Tensor
    keep: int
    replays: CapturedGraphs | None = None
    step: StepProtocol | None = None

    @property
    def size(self) -> int:
        """Tokens per row."""
        return self.tokens.shape[1]

    def run(self) -> torch.Tensor:
        """Returns logits [B, keep, V]; the next captured pass overwrites them."""
        if self.step is not None and self.step.takes_rows(self.tokens, self.cache):
            return self.step.of_rows(self.tokens, self.cache, self.keep)
        if self.replays is None:
            return forward(self.model, self.tokens, self.cache, self.mask, self.keep, repeated=True)
        slots = self.cache.slots

        def compute(given: Tensors) -> torch.Tensor:
            slots.restore(given)
            tokens, mask = given["tokens"], given["mask"]
            return forward(self.model, tokens, self.cache, mask, self.keep, repeated=True)

        inputs = {**slots.tensors(), "tokens": self.tokens, "mask": self.mask}
        return self.replays.run(self.keep, slots.layout, inputs, compute)


def forward(
    model: PreTrainedModel,
    tokens: torch.Tensor,
    cache: KVCache,
    mask: torch.Tensor,
    keep: int,
    *,
    repeated: bool = False,
) -> torch.Tensor:
    """Encodes placed tokens [B, Q]; returns the logits [B, keep, V] of the last tokens.

    Args:
        model: see :class:`ModelPass`.
        tokens: int64 [B, Q], or embeddings [B, Q, D].
        cache: the cache with the placed tokens.
        mask: slots that each token attends to, bool [B, 1, Q, slots]; sliding windows are applied
            here.
        keep: number of last tokens per row whose logits are returned.
        repeated: True if similar passes follow. Other passes, such as over prompts, are not
            compiled, as each shape would need a separate graph.

    Raises:
        MachineError: if torch.compile was requested and cannot compile the model.
    """
    plain = model._compiled_call_impl is not None and not repeated
    run = model.forward if plain else model  # call the model itself if it has hooks
    given = "inputs_embeds" if tokens.is_floating_point() else "input_ids"
    try:
        output = run(
            position_ids=cache.slots.positions,
            attention_mask=layer_masks(model, cache, mask),
            use_cache=True,
            logits_to_keep=keep,
            **{given: tokens, cache_argument(type(model)): cache},
        )
    except TorchDynamoException as error:
        reason = in_one_line(str(error).split("\n\n")[0])  # the rest is PyTorch's advice
        raise MachineError(
            f"torch.compile cannot compile {type(model).__name__}: {reason}.",
            "Load the model without compile.",
        ) from None
    return output.logits[:, -keep:]


def layer_masks(
    model: PreTrainedModel, cache: KVCache, mask: torch.Tensor
) -> torch.Tensor | dict[str, torch.Tensor | None] | None:
    """Builds the attention mask in the form that the model expects.

    Args:
        model: the model.
        cache: the cache with the tokens placed.
        mask: bool [B, 1, Q, slots], or a table of trees int64 [B, 1, W, 4]
            (:func:`codegen.kernels.tree_attention.pack`).

    Returns:
        One mask, or one per kind of layer if some layers have a sliding window; None for a model
        without attention. Masks for ``eager`` attention are added to the scores: 0 or the dtype's
        lowest number.
    """
    config = model.config.get_text_config()
    kinds = _kinds(config)
    if kinds <= _RECURRENT:
        return None

    def given(visible: torch.Tensor) -> torch.Tensor:
        if config._attn_implementation != "eager" or visible.dtype != torch.bool:
            return visible
        hidden = torch.zeros(visible.shape, dtype=model.dtype, device=visible.device)
        return hidden.masked_fill_(~visible, torch.finfo(model.dtype).min)

    def within(window: int) -> torch.Tensor:
        if mask.dtype == torch.int64:
            return narrow(mask, window=window)
        return given(mask & cache.within(window))

    window = sliding_window(model)
    if not kinds & _NARROW:
        return given(mask) if window is None else within(window)
    masks: dict[str, torch.Tensor | None] = dict.fromkeys(kinds | {"full_attention"}, given(mask))
    if window is not None:
        masks["sliding_attention"] = within(window)
    if "chunked_attention" in kinds:
        size = config.attention_chunk_size
        if mask.dtype == torch.int64:
            masks["chunked_attention"] = narrow(mask, chunk=size)
        else:
            masks["chunked_attention"] = given(mask & cache.in_chunk(size))
    return masks | dict.fromkeys(_RECURRENT)


@functools.cache
def cache_argument(kind: type) -> str:
    """Returns the name of a model's cache argument, which differs between transformers releases."""
    names = inspect.signature(kind.forward).parameters
    return "cache" if "cache" in names else "past_key_values"


def check_architecture(model: PreTrainedModel) -> None:
    """Rejects models that do not take a mask and positions, with the reason.

    Raises:
        ModelError: for encoder-decoder models, attention other than sdpa or eager, ALiBi, layers
            that are neither attention nor recurrent, and states outside the cache.
    """
    config = model.config.get_text_config()
    name = type(model).__name__
    attention = getattr(config, "_attn_implementation", None)
    if attention not in ("sdpa", "eager", IN_PLACE):
        raise ModelError(
            f"{name} runs with {attention!r} attention; the decoding loop supports 'sdpa' and "
            "'eager'.",
            "Load it with attn_implementation='sdpa'.",
        )
    names = inspect.signature(type(model).forward).parameters
    needs_positions = not (_kinds(config) <= _RECURRENT or getattr(model, "fills_gaps", False))
    lacking = ""
    if getattr(config, "alibi", False):
        lacking = "has ALiBi position biases"
    elif needs_positions and "position_ids" not in names:
        lacking = "takes no positions"
    elif getattr(config, "is_encoder_decoder", False):
        lacking = "is an encoder-decoder model"
    elif odd := sorted(_kinds(config) - _SUPPORTED):
        lacking = f"has {odd[0]} layers"
    if lacking:
        raise ModelError(f"{name} {lacking}, which the decoding loop does not support.", _ELSEWHERE)
    if getattr(model, "_is_stateful", False) and not is_recurrent(model):
        raise _own_states(model)


def _own_states(model: PreTrainedModel) -> ModelError:
    return ModelError(
        f"{type(model).__name__} keeps recurrent states outside the cache, which the decoding loop "
        "does not support.",
        _ELSEWHERE,
    )


def is_recurrent(model: PreTrainedModel) -> bool:
    """Returns True if some layers keep one state for all past tokens."""
    return bool(_kinds(model.config.get_text_config()) & (_RECURRENT | {"hybrid"}))


_CHECKED = (4, 5, 8)  # ends of three inputs: several tokens, then one, then several
_FAILS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError)  # from model code
_drafts: WeakKeyDictionary[PreTrainedModel, Drafts] = WeakKeyDictionary()


def drafts_of(model: PreTrainedModel) -> Drafts:
    """Returns the drafts that a model can encode in one pass.

    Attention takes trees. Recurrent layers take chains, if they can encode several tokens from a
    saved state; this is tested on a few tokens, once per model.

    Raises:
        ModelError: if a recurrent model's logits with our cache differ from those without it.
    """
    if model not in _drafts:
        _drafts[model] = _try(model) if is_recurrent(model) else "trees"
    return _drafts[model]


@torch.inference_mode()
def _try(model: PreTrainedModel) -> Drafts:
    config = model.config.get_text_config()
    ids = torch.linspace(1, config.vocab_size - 1, _CHECKED[-1], device=model.device).long()[None]

    def agrees(cache: KVCache, start: int, stop: int) -> bool:
        places = torch.arange(start, stop, device=model.device)[None]
        cache.place(places, stop)
        try:
            found = forward(model, ids[:, start:stop], cache, cache.mask(), 1)[:, -1]
        except _FAILS:
            return False
        wanted = model(ids[:, :stop], use_cache=False).logits[:, -1]
        return logits_agree(model, found, wanted)

    kinds = recurrences(config)
    cache = KVCache(kinds, _CHECKED[-1])
    first, second, third = _CHECKED
    fits = agrees(cache, 0, first)
    fits = fits and agrees(KVCache(kinds, first), 0, first - 1)  # with another text in between
    if not (fits and agrees(cache, first, second)):
        raise _own_states(model)
    return "chains" if agrees(cache, second, third) else "none"


def logits_agree(
    model: PreTrainedModel, found: torch.Tensor, wanted: torch.Tensor, *, coarse: bool = False
) -> bool:
    """Returns True if logits differ only by rounding: 0.1% of their norm, 10% in 16-bit types.

    Args:
        model: model whose dtype sets the tolerance.
        found, wanted: logits of one shape.
        coarse: True allows 10% in any dtype.
    """
    tolerance = 0.1 if coarse or model.dtype not in (torch.float32, torch.float64) else 1e-3
    found, wanted = found.float(), wanted.float()
    return bool((found - wanted).norm() <= tolerance * wanted.norm())


def exchange(model: PreTrainedModel) -> bool:
    """Switches a model to :func:`attend`; returns False if that is not possible."""
    config = model.config.get_text_config()
    known = config._attn_implementation == "sdpa" or config.model_type in OWN
    if not known or not model._can_set_attn_implementation():
        return False
    AttentionInterface.register(IN_PLACE, attend)
    AttentionMaskInterface.register(IN_PLACE, sdpa_mask)
    model.set_attn_implementation(IN_PLACE)
    return True


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, Any]:
    """Computes attention, with transformers' signature.

    Args:
        module: the layer.
        query: [B, Hq, T, D].
        key, value: [B, Hkv, S, D] and [B, Hkv, S, D'].
        attention_mask: bool [B, 1, T, S] or None, or a table int64 [B, 1, W, 4].
        scaling: factor of the scores.
        **kwargs: the model's other arguments; ``softcap`` and ``s_aux`` (sinks) are supported.

    Returns:
        Outputs [B, T, Hq, D'], and None instead of the weights.
    """
    cap, sinks = kwargs.get("softcap"), kwargs.get("s_aux")
    if attention_mask is not None and attention_mask.dtype == torch.int64:
        table = attention_mask[:, 0]
        if kwargs.get("position_bias") is None:
            by = _opaque if torch.compiler.is_compiling() else tree_attention
            return by(query.transpose(1, 2), key, value, table, scaling, cap, sinks), None
        attention_mask = dense(table, query.shape[2], key.shape[2])[:, None]
    if cap is None and sinks is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    size, slots = query.shape[2], key.shape[2]
    if attention_mask is None:  # sdpa's causal mask
        attention_mask = query.new_ones(size, slots, dtype=torch.bool).tril(slots - size)
    hidden = torch.zeros(attention_mask.shape, dtype=query.dtype, device=query.device)
    hidden = hidden.masked_fill(~attention_mask, torch.finfo(query.dtype).min)
    own = sys.modules[type(module).__module__].eager_attention_forward
    return own(module, query, key, value, hidden, scaling=scaling, **kwargs)


@torch.library.custom_op("codegen::tree_attention", mutates_args=())
def _opaque(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    scale: float | None,
    cap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Runs ``tree_attention`` as one operation that ``torch.compile`` does not trace."""
    return tree_attention(q, keys, values, table, scale, cap, sinks).contiguous()


@_opaque.register_fake
def _(q: torch.Tensor, _keys: torch.Tensor, values: torch.Tensor, *_: object) -> torch.Tensor:
    return q.new_empty(*q.shape[:3], values.shape[3])


_unlike: WeakSet[PreTrainedModel] = WeakSet()


def read_in_place(model: PreTrainedModel) -> bool:
    """Returns True if attention reads the cache in place and accepts tables (:data:`IN_PLACE`).

    A model on a GPU with Triton is switched to that attention if it computes the same logits
    with a table as with a mask; this is tested on a few tokens, once per model.
    """
    config = model.config.get_text_config()
    before: Any = config._attn_implementation
    if before == IN_PLACE:
        return True
    if model in _unlike or not _has_kernels(model) or not exchange(model):
        return False
    if not tables_agree(model):
        model.set_attn_implementation(before)
        _unlike.add(model)
        return False
    return True


def _has_kernels(model: PreTrainedModel) -> bool:
    return model.device.type == "cuda" and use_triton(next(model.parameters()))


@torch.inference_mode()
def tables_agree(model: PreTrainedModel) -> bool:
    """Returns True if a model computes the same logits with a table as with its own masks."""
    config = model.config.get_text_config()
    size = _CHECKED[-1]
    ids = torch.linspace(1, config.vocab_size - 1, size, device=model.device).long()[None]
    places = torch.arange(size, device=model.device)[None]
    found = []
    causal = places <= places.T
    for by_table in (False, True):
        cache = KVCache(recurrences(config), size)
        if by_table and not cache.recurrent:
            cache = KVCache(cache.kinds, pages=Pages(size, model.device))
            cache.admit([size])
        cache.place(places, None if by_table else size)
        if by_table:
            mask = pack(places[:, 0], causal[None], cache.starts)[:, None]
        else:
            mask = cache.mask()
        try:
            found.append(forward(model, ids, cache, mask, size))
        except _FAILS:
            return False
    by_mask, by_table = found
    return logits_agree(model, by_table, by_mask)


def check_attention_only(model: PreTrainedModel, purpose: str) -> None:
    """Rejects a model with recurrent layers for a purpose that needs attention.

    Args:
        model: the model.
        purpose: a plural noun, for the message.

    Raises:
        ModelError: if the model has recurrent layers.
    """
    if is_recurrent(model):
        raise ModelError(
            f"{type(model).__name__} has recurrent layers, which do not support {purpose}.",
            "Use a model with attention in all layers, or disable this option.",
        )


def _kinds(config: Any) -> set[str]:
    return set(getattr(config, "layer_types", None) or ["full_attention"])


def check_supported(model: PreTrainedModel, length: int) -> None:
    """Rejects models and lengths that the loop would compute wrongly.

    Raises:
        ModelError: see :func:`check_architecture`; also for sequences beyond the position range.
    """
    check_architecture(model)
    config = model.config.get_text_config()
    name = type(model).__name__
    limit = getattr(config, "max_position_embeddings", None)
    if limit and length > limit:
        raise ModelError(
            f"Prompt and completion take up to {length} tokens; the limit of {name} is {limit}.",
            "Shorten the prompt or lower max_new_tokens.",
        )


def sliding_window(model: PreTrainedModel) -> int | None:
    """Returns the width of a model's sliding window; None if no layer has one."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    if not window or not getattr(config, "use_sliding_window", True):
        return None
    kinds = getattr(config, "layer_types", None)
    return window if not kinds or "sliding_attention" in kinds else None
