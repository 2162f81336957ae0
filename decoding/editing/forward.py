"""Forward passes over some positions of an edited sequence.

:class:`DecodeStep` is a fast pass of few tokens, for models built like Llama. Between two
keystrokes a completion takes one pass of a few dozen tokens and some of one. With quantized
weights, matrix products are so fast that a model's own ``forward`` spends most of its time on other
work: attention designed for many queries, masks, sixty small operations per layer. Here a layer is
four products (queries, keys and values in one; gate and up in one), one in-place attention over the
slots, two norms, a rotation and a gate. If all products are quantized, the whole pass is one call
of :class:`codegen.kernels.cpu.CompiledPass`; otherwise the parts are computed one by one.

The tokens may belong to several sequences with separate caches. They share one read of the
weights, which takes most of such a pass's time.

The model is not changed; its own parameters are used, or quantized copies of them. Only classes
with known code are supported (:data:`KNOWN`), and before a step is used its logits are compared
with the model's (:func:`check_agreement`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from codegen.core.errors import ModelError
from codegen.decoding import passes
from codegen.decoding.cache import CacheLayer, KVCache
from codegen.decoding.editing.plan import Ledger, prefix_marks
from codegen.decoding.editing.rotation import Support
from codegen.kernels import cpu

_CHECKED = 6  # tokens to compare
_MOST_ROWS = 16  # per pass; with more, PyTorch's products are faster
_READ = 256  # prompt tokens per pass


Product = Callable[[torch.Tensor], torch.Tensor]
"""A linear layer from rows [Q, I] to [Q, O]."""

Join = Callable[[Sequence[nn.Linear]], Product]
"""Joins layers with the same inputs into one product, concatenating their outputs."""

_ANY = 1 << 30

# Causal language models built like Llama, with or without biases, and the prefix of their modules'
# class names.
KNOWN = {"LlamaForCausalLM": "Llama", "MistralForCausalLM": "Mistral", "Qwen2ForCausalLM": "Qwen2"}


@dataclass(frozen=True, slots=True)
class StepRows:
    """Tokens of one sequence that a pass encodes.

    Attributes:
        tokens: int64 [Q].
        rows: their positions, and the slot of each position of the sequence.
        kv: the sequence's cache, with the tokens placed.
        keep: number of last tokens with logits.
    """

    tokens: torch.Tensor
    rows: cpu.SequenceRows
    kv: KVCache
    keep: int


@dataclass(frozen=True)
class _Layer:
    before_attention: torch.Tensor  # the norm's weights
    states: Product  # queries, keys and values
    out: Product
    before_feed_forward: torch.Tensor
    gate_and_up: Product
    down: Product


class DecodeStep:
    """A fast forward pass of few tokens over cached states.

    Args:
        model: a model that :func:`can_step` accepts.
        join: makes the products; :func:`plain_product` for the model's own weights.
        most: maximum tokens of a pass for which the step is used; None for any number.

    Attributes:
        together: maximum tokens of several sequences in one pass. Larger passes would run other
            kernels (:class:`codegen.kernels.cpu.Product`) than each sequence alone.
    """

    def __init__(self, model: PreTrainedModel, join: Join, *, most: int | None) -> None:
        self.most = most or _ANY
        base: Any = model.model
        config = model.config
        self._embed: nn.Embedding = base.embed_tokens
        self._rotary: nn.Module = base.rotary_emb
        self._heads = config.num_attention_heads
        self._kv_heads = config.num_key_value_heads
        self._dim: int = base.layers[0].self_attn.head_dim
        self._scale: float = base.layers[0].self_attn.scaling
        self._epsilon: float = base.norm.variance_epsilon
        self._layers = [_written_out(layer, join) for layer in base.layers]
        self._norm: torch.Tensor = base.norm.weight.detach()
        self._head = join([model.lm_head])  # type: ignore[list-item]
        self._pass = self._compiled(config)
        self.together = min(self.most, self._pass.most if self._pass is not None else self.most)
        self._placed: tuple[Any, cpu.Addresses] | None = None
        # Compiled products use compiled attention, which needs slots of its dtype.
        self._in_slots = self.quantized and cpu.CompiledPass.takes(32, 32, self._dim)

    @property
    def quantized(self) -> bool:
        """True if compiled products of quantized weights are used."""
        return bool(self.bits)

    @property
    def bits(self) -> tuple[int, ...]:
        """Bits per weight in the compiled products, ascending; empty without such products."""
        parts = [part for layer in self._layers for part in vars(layer).values()]
        return tuple(sorted({part.bits for part in parts if isinstance(part, cpu.Product)}))

    def _compiled(self, config: Any) -> cpu.CompiledPass | None:
        """Returns the whole pass as one compiled call, if all products are compiled."""
        layers = [tuple(vars(layer).values()) for layer in self._layers]
        parts = [self._head, *(part for layer in layers for part in layer)]
        compiled = all(isinstance(part, (torch.Tensor, cpu.Product)) for part in parts)
        sizes = (config.hidden_size, config.intermediate_size, self._dim)
        if not (compiled and cpu.CompiledPass.takes(*sizes)):
            return None
        return cpu.CompiledPass(
            layers, self._norm, self._head, heads=self._heads, kv_heads=self._kv_heads,  # type: ignore[arg-type]
            dim=self._dim, scale=self._scale, epsilon=self._epsilon,
        )  # fmt: skip

    def __call__(self, sequences: Sequence[StepRows]) -> list[torch.Tensor]:
        """Encodes tokens; each attends to everything before it in its sequence.

        Each sequence gets the same result as alone: to the last bit with compiled products, up to
        rounding with PyTorch's.

        Returns:
            Each sequence's logits [keep, V].
        """
        tokens = torch.cat([one.tokens for one in sequences])
        places = torch.cat([one.rows.places for one in sequences])
        states, cosines, sines = self._embedded(tokens, places)
        ends = np.cumsum([len(one.tokens) for one in sequences])
        kept = np.concatenate(
            [np.arange(end - one.keep, end) for one, end in zip(sequences, ends, strict=True)]
        )
        if self._pass is not None and len(tokens) <= self._pass.most:
            slots = np.stack([self._addresses(one.kv, states) for one in sequences], axis=1)
            logits = self._pass(
                states, cosines, sines, [one.rows for one in sequences], slots,
                [one.kv.capacity for one in sequences], kept,
            )  # fmt: skip
        else:
            logits = self._by_parts(sequences, states, cosines, sines, kept)
        return list(logits.split([one.keep for one in sequences]))

    def _embedded(
        self, tokens: torch.Tensor, places: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns embeddings [Q, H] of tokens, and cosines and sines [Q, D] of their rotations."""
        states = self._embed(tokens)
        cosines, sines = self._rotary(states[None], places[None])  # [1, Q, D]
        return states, cosines[0].contiguous(), sines[0].contiguous()

    def takes_rows(self, tokens: torch.Tensor, cache: KVCache) -> bool:
        """Returns True if :meth:`of_rows` can encode these tokens."""
        return (
            self._pass is not None
            and not tokens.is_floating_point()
            and tokens.numel() <= self._pass.most
            and all(
                isinstance(layer, CacheLayer) and layer.is_initialized for layer in cache.layers
            )
        )

    def of_rows(self, tokens: torch.Tensor, cache: KVCache, keep: int) -> torch.Tensor:
        """Encodes placed chains of tokens, one per row of the decoding loop.

        Args:
            tokens: int64 [B, Q].
            cache: the cache with the placed tokens; slot s of a row has position s.
            keep: number of last tokens per row with logits.

        Returns:
            Logits [B, keep, V].
        """
        rows, size = tokens.shape
        order = torch.arange(cache.capacity)
        places = cache.slots.positions.contiguous()
        states, cosines, sines = self._embedded(tokens.flatten(), places.flatten())
        kept = np.arange(rows * size).reshape(rows, size)[:, size - keep :].ravel()
        assert self._pass is not None
        logits = self._pass(
            states, cosines, sines, [cpu.SequenceRows(places[row], order) for row in range(rows)],
            self._row_addresses(cache, rows), [cache.capacity] * rows, kept,
            cache.layers[0].states[0].dtype,  # type: ignore[attr-defined]
        )  # fmt: skip
        return logits.view(rows, keep, -1)

    def read(self, given: Sequence[list[int]], cache: KVCache) -> bool:
        """Encodes each row's tokens except the last into a new cache.

        Returns:
            False if the kernels do not support passes of many tokens; then nothing is encoded.
        """
        layers = [layer for layer in cache.layers if isinstance(layer, CacheLayer)]
        if self._pass is None or self._pass.most < _READ or len(layers) < len(cache.layers):
            return False
        longest = max(map(len, given)) - 1
        cache.place(torch.arange(longest).expand(len(given), -1), longest)
        empty = self._norm.new_empty(len(given), self._kv_heads, 0, self._dim)
        for layer in layers:
            layer.lazy_initialization(empty, empty)
        addresses, order = self._row_addresses(cache, len(given)), torch.arange(cache.capacity)
        for row, tokens in enumerate(given):
            slots = np.ascontiguousarray(addresses[:, row : row + 1])
            for start in range(0, len(tokens) - 1, _READ):
                part = torch.tensor(tokens[start : min(start + _READ, len(tokens) - 1)])
                places = torch.arange(start, start + len(part))
                self._pass(
                    *self._embedded(part, places), [cpu.SequenceRows(places, order)], slots,
                    [cache.capacity], np.zeros(1, dtype=np.int64), empty.dtype,
                )  # fmt: skip
        return True

    def _row_addresses(self, cache: KVCache, rows: int) -> cpu.Addresses:
        """Returns the addresses of the rows' states, int64 [layers, rows, 3]."""
        layout = cache.slots.layout
        if self._placed is None or self._placed[0] is not layout:
            found = np.zeros((len(cache.layers), rows, 3), dtype=np.int64)
            for number, layer in enumerate(cache.layers):
                for part, held in enumerate(layer.states):  # type: ignore[attr-defined]
                    step = held.stride(0) * held.element_size()
                    found[number, :, part] = held.data_ptr() + step * np.arange(rows)
            self._placed = layout, found
        return self._placed[1]

    def _addresses(self, kv: KVCache, states: torch.Tensor) -> cpu.Addresses:
        """Returns the addresses of a sequence's states, int64 [layers, 3]; 0 if absent."""
        found = np.zeros((len(kv.layers), 3), dtype=np.int64)
        for number, layer in enumerate(kv.layers):
            assert isinstance(layer, CacheLayer)
            if not layer.is_initialized:
                empty = states.new_empty(1, self._kv_heads, 0, self._dim)
                empty = empty.to(cpu.SLOTS[states.dtype])
                layer.lazy_initialization(empty, empty)
            parts = (*layer.states, layer.encoded)
            found[number] = [0 if part is None else part.data_ptr() for part in parts]
        return found

    def _by_parts(
        self, sequences: Sequence[StepRows], states: torch.Tensor, cosines: torch.Tensor,
        sines: torch.Tensor, kept: np.ndarray,
    ) -> torch.Tensor:  # fmt: skip
        """Returns logits [K, V] of the kept rows, computed operation by operation."""
        heads, kv_heads, count = self._heads, self._kv_heads, len(states)
        slots = [self._addresses(one.kv, states) for one in sequences] if self._in_slots else []
        for number, layer in enumerate(self._layers):
            all_heads = layer.states(self._normed(states, layer.before_attention))
            all_heads = all_heads.view(count, heads + 2 * kv_heads, -1)
            cpu.rotate_(all_heads, heads + kv_heads, cosines, sines)
            if self._in_slots:
                seen = cpu.attend(
                    all_heads, [one.rows for one in sequences],
                    np.stack([one[number] for one in slots]),
                    [one.kv.capacity for one in sequences],
                    heads=heads, kv_heads=kv_heads, scale=self._scale,
                )  # fmt: skip
            else:
                seen = self._attention(sequences, number, all_heads)
            states = states + layer.out(seen.view(count, -1))
            gate_and_up = layer.gate_and_up(self._normed(states, layer.before_feed_forward))
            states = states + layer.down(cpu.gated(gate_and_up))
        return self._head(self._normed(states[torch.from_numpy(kept)], self._norm))

    def _attention(
        self, sequences: Sequence[StepRows], layer: int, all_heads: torch.Tensor
    ) -> torch.Tensor:
        """Writes new states and attends with PyTorch, sequence by sequence."""
        found = []
        sizes = [self._heads, self._kv_heads, self._kv_heads]
        for one, part in zip(
            sequences, all_heads.split([len(one.tokens) for one in sequences]), strict=True
        ):
            queries, keys, values = part.split(sizes, dim=1)
            held = one.kv.layers[layer]
            assert isinstance(held, CacheLayer)
            held.update(keys.transpose(0, 1)[None], values.transpose(0, 1)[None])
            found.append(cpu.attention(queries, *held.states, one.rows, self._scale))
        return torch.cat(found)

    def _normed(self, states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return cpu.rms_norm(states, weights, self._epsilon)


def can_step(model: PreTrainedModel) -> bool:
    """Returns True if a model is one of :data:`KNOWN`, without extra modules."""
    prefix = KNOWN.get(type(model).__name__)
    if prefix is None or not type(model).__module__.startswith("transformers.models."):
        return False
    config, base = model.config, model.model  # type: ignore[attr-defined]
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or passes.sliding_window(model):
        return False
    parts = {"self_attn": "Attention", "mlp": "MLP", "input_layernorm": "RMSNorm",
             "post_attention_layernorm": "RMSNorm"}  # fmt: skip
    for layer in base.layers:  # type: ignore[union-attr]
        if type(layer).__name__ != f"{prefix}DecoderLayer":
            return False
        if {name: type(part).__name__ for name, part in layer.named_children()} != {
            name: prefix + part for name, part in parts.items()
        }:
            return False
        if any(type(part) is not nn.Linear for part in _products(layer)):
            return False
    return (
        config.hidden_act == "silu"
        and model.device.type == "cpu"
        and not model.training
        and type(model.lm_head) is nn.Linear
        and len(base.layers) == config.num_hidden_layers  # type: ignore[arg-type]
    )


_own: WeakKeyDictionary[PreTrainedModel, tuple[Any, DecodeStep | None]] = WeakKeyDictionary()
_joins: WeakKeyDictionary[PreTrainedModel, Join] = WeakKeyDictionary()


def decode_with(model: PreTrainedModel, join: Join) -> bool:
    """Makes the decoding loop use these products instead of the model's weights.

    Returns:
        True if supported; otherwise nothing is changed.
    """
    _joins[model] = join
    if own_step(model) is None:
        del _joins[model]
        return False
    return True


def own_step(model: PreTrainedModel) -> DecodeStep | None:
    """Returns the decoding loop's fast step on a CPU, or None if unsupported.

    It uses the model's weights or the products of :func:`decode_with`. None for a dtype without
    kernels, for other models, while the model has hooks, and if its logits differ.
    """
    fits = model.dtype in cpu.KERNELS and can_step(model)
    hooks = any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    if not fits or hooks or model._compiled_call_impl is not None:
        return None
    # A replaced weight has another address.
    where = (_joins.get(model), *(part.data_ptr() for part in model.parameters()))
    if model not in _own or _own[model][0] != where:
        step = DecodeStep(model, _joins.get(model, _own_product), most=None)
        works = step._pass is not None and (model in _joins or _agrees(model, step))
        _own[model] = where, step if works else None
    return _own[model][1]


def _own_product(layers: Sequence[nn.Linear]) -> Product:
    weights = [layer.weight.detach() for layer in layers]
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    whole = all(w.shape[0] % 16 == 0 == w.shape[1] % 32 and w.is_contiguous() for w in weights)
    wide = plain_product(layers)
    if not whole or len(biases) not in (0, len(layers)):
        return wide
    bias = torch.cat(biases) if biases else None
    return cpu.Product(layers[0].weight.dtype, weights, bias=bias, most=_MOST_ROWS, wide=wide)


@torch.inference_mode()
def _agrees(model: PreTrainedModel, step: DecodeStep) -> bool:
    """Returns True if a step computes the model's logits, for two rows of some tokens."""
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.linspace(1, vocabulary - 1, 2 * _CHECKED).long().view(2, -1)
    cache = KVCache(model.config.num_hidden_layers, _CHECKED)
    half = _CHECKED // 2
    places = torch.arange(_CHECKED).expand(2, -1)
    cache.place(places[:, :half], half)
    passes.forward(model, ids[:, :half], cache, cache.mask(), 1)
    cache.place(places[:, half:], _CHECKED)
    found = step.of_rows(ids[:, half:], cache, 1)
    wanted = model(ids, use_cache=False).logits[:, -1:]
    return passes.logits_agree(model, found, wanted)


def plain_product(layers: Sequence[nn.Linear]) -> Product:
    """Joins layers with their own weights."""
    if len(layers) == 1:
        return layers[0]
    return lambda rows: torch.cat([layer(rows) for layer in layers], dim=-1)


def _products(layer: Any) -> list[nn.Module]:
    attention, mlp = layer.self_attn, layer.mlp
    found = [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj]
    return [*found, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def _written_out(layer: Any, join: Join) -> _Layer:
    query, key, value, out, gate, up, down = _products(layer)
    return _Layer(
        layer.input_layernorm.weight.detach(),
        join([query, key, value]),  # type: ignore[list-item]
        join([out]),  # type: ignore[list-item]
        layer.post_attention_layernorm.weight.detach(),
        join([gate, up]),  # type: ignore[list-item]
        join([down]),  # type: ignore[list-item]
    )


def forward(
    model: PreTrainedModel,
    kv: KVCache,
    ledger: Ledger,
    places: NDArray[np.int64],
    keep: int,
    step: DecodeStep | None = None,
) -> torch.Tensor:
    """Encodes positions of the sequence; each attends to all positions before it.

    Args:
        model: the model.
        kv, ledger: the sequence's cache and ledger.
        places: ascending positions of the sequence, int64 [Q].
        keep: number of last positions with logits.
        step: used instead of the model for up to ``step.most`` tokens.

    Returns:
        Logits [keep, V].
    """
    device = model.device
    positions = begin(kv, ledger, places)
    if step is not None and len(places) <= step.most:
        return step([step_rows(kv, ledger, positions, keep)])[0]
    tokens = to_tensor(ledger.sequence[places], device)[None]
    with _grouped_attention(device, len(places)):
        return passes.forward(model, tokens, kv, kv.mask(), keep, repeated=True)[0]


def begin(kv: KVCache, ledger: Ledger, places: NDArray[np.int64]) -> torch.Tensor:
    """Places the next tokens in the cache; returns their positions as a tensor, int64 [Q]."""
    assert kv.slots.position_of is not None
    device = kv.slots.position_of.device
    positions = to_tensor(places, device)
    index = to_tensor(ledger.order[places], device)
    end = int(ledger.order[: places[-1] + 1].max()) + 1
    kv.place(index[None], end, positions[None])
    return positions


def step_rows(kv: KVCache, ledger: Ledger, positions: torch.Tensor, keep: int) -> StepRows:
    """Returns the step's input for the positions returned by :func:`begin`."""
    device = positions.device
    tokens = to_tensor(ledger.sequence[positions.cpu().numpy()], device)
    return StepRows(tokens, cpu.SequenceRows(positions, to_tensor(ledger.order, device)), kv, keep)


@torch.inference_mode()
def check_agreement(
    model: PreTrainedModel,
    support: Support,
    step: DecodeStep | None = None,
    sample: Sequence[int] = (),
) -> None:
    """Checks on a few tokens that a model computes the same logits with and without the cache.

    They differ if the model ignores the given mask or positions, or if the step does not compute
    the model's function.

    Args:
        sample: token ids of typical text, because quantized weights are far less accurate on tokens
            unseen in training; by default, tokens spread over the vocabulary.

    Raises:
        ModelError: if the logits differ.
    """
    vocabulary = model.config.get_text_config().vocab_size
    spread = np.linspace(1, vocabulary - 1, _CHECKED, dtype=np.int64)
    tokens = np.array(sample, dtype=np.int64) if len(sample) > 1 else spread
    number, half = len(tokens), len(tokens) // 2
    kv, ledger = KVCache(support.rotations, device=model.device), Ledger()
    kv.reserve(number)
    ledger.grow(kv.capacity)
    # Two passes, into slots in reverse order.
    ledger.arrange(np.arange(number)[::-1].copy(), tokens, prefix_marks(tokens))
    kv.slots.position_of = to_tensor(ledger.positions(), model.device)
    forward(model, kv, ledger, np.arange(half), 1, step)
    logits = forward(model, kv, ledger, np.arange(half, number), 1, step)[-1]
    wanted = model(to_tensor(tokens, model.device)[None], use_cache=False).logits[0, -1]
    coarse = step is not None and step.quantized
    if not passes.logits_agree(model, logits, wanted, coarse=coarse):
        if step is not None:
            raise ModelError(
                f"Our fast pass for {support.name} computes logits that differ from the model's; "
                "this version of transformers may have changed the model.",
                "Run the model without it (codegen serve lsp -o precision=full), and report this.",
            )
        raise ModelError(
            f"{support.name} cannot be edited in its cache: its logits change when it "
            "receives a mask and positions.",
            "Use another model, or encode the whole context each time.",
        )


def to_tensor(values: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """Converts an array to a tensor on a device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


@contextmanager
def _grouped_attention(device: torch.device, queries: int) -> Iterator[None]:
    """Keeps transformers from repeating the keys and values that several heads share.

    Repeating, which happens with a mask, takes longer on a CPU than the attention itself at four
    thousand tokens. Single queries are not affected.
    """
    name = "TRANSFORMERS_SDPA_FORCE_GQA"
    if device.type != "cpu" or queries == 1 or name in os.environ:
        yield
        return
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name, None)
