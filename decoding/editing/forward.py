"""A forward pass over some places of a sequence that is edited in its cache.

:func:`deviations` measures how far cached states are from fresh ones, in an early layer.
CacheBlend (Yao et al., EuroSys 2025, arXiv 2405.16444) encodes the tokens whose keys and values
deviate most again, and finds them in one of the first layers: states that deviate there also
deviate in deeper layers. The forward pass ends in that layer, so with L layers a token costs 2 / L
of a pass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from codegen.decoding import passes
from codegen.decoding.cache import CacheLayer, KVCache
from codegen.decoding.editing.plan import Ledger, prefix_marks
from codegen.decoding.editing.rotation import Support
from codegen.decoding.editing.step import DecodeStep, StepRows
from codegen.errors import ModelError
from codegen.kernels.cpu import SequenceRows

_CHECKED = 6  # tokens
_LAYER = 1  # the first layer whose states depend on the context


def forward(
    model: PreTrainedModel,
    kv: KVCache,
    ledger: Ledger,
    places: NDArray[np.int64],
    keep: int,
    step: DecodeStep | None = None,
) -> torch.Tensor:
    """Encodes places of the sequence; each sees all places before it.

    Args:
        model: the model.
        kv, ledger: the sequence.
        places: of the sequence, ascending, int64 [Q].
        keep: how many of the last places get logits.
        step: used in place of the model for up to ``step.most`` tokens.

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
    """Places the next tokens in the cache; returns their places as a tensor, int64 [Q]."""
    assert kv.slots.position_of is not None
    device = kv.slots.position_of.device
    positions = to_tensor(places, device)
    index = to_tensor(ledger.order[places], device)
    end = int(ledger.order[: places[-1] + 1].max()) + 1
    kv.place(index[None], end, positions[None])
    return positions


def step_rows(kv: KVCache, ledger: Ledger, positions: torch.Tensor, keep: int) -> StepRows:
    """The step's input for the places returned by :func:`begin`."""
    device = positions.device
    tokens = to_tensor(ledger.sequence[positions.cpu().numpy()], device)
    return StepRows(tokens, SequenceRows(positions, to_tensor(ledger.order, device)), kv, keep)


@torch.inference_mode()
def check_agreement(
    model: PreTrainedModel, support: Support, step: DecodeStep | None = None
) -> None:
    """Checks on a few tokens that a model computes the same logits with the cache as without.

    They differ if the model ignores the given mask or positions, or if the step is not the model's
    own computation.

    Raises:
        ModelError: if the logits differ.
    """
    vocabulary = model.config.get_text_config().vocab_size
    tokens = np.linspace(1, vocabulary - 1, _CHECKED, dtype=np.int64)
    kv, ledger = KVCache(support.rotations, device=model.device), Ledger()
    kv.reserve(_CHECKED)
    ledger.grow(kv.capacity)
    # Two passes, into slots in reverse order.
    ledger.arrange(np.arange(_CHECKED)[::-1].copy(), tokens, prefix_marks(tokens))
    kv.slots.position_of = to_tensor(ledger.positions(), model.device)
    half = _CHECKED // 2
    forward(model, kv, ledger, np.arange(half), 1, step)
    logits = forward(model, kv, ledger, np.arange(half, _CHECKED), 1, step)[-1]
    wanted = model(to_tensor(tokens, model.device)[None], use_cache=False).logits[0, -1]
    coarse = step is not None and step.quantized
    if not passes.logits_agree(model, logits, wanted, coarse=coarse):
        if step is not None:
            raise ModelError(
                f"Our fast pass for {support.name} computes logits that differ from the model's; "
                "this version of transformers may have changed the model.",
                "Run the model without it (codegen serve --precision full), and report this.",
            )
        raise ModelError(
            f"{support.name} can't be edited in its cache: its logits change when it is "
            "given a mask and positions.",
            "Use another model, or encode the whole context each time.",
        )


def to_tensor(values: NDArray[np.int64], device: torch.device) -> torch.Tensor:
    """An array as a tensor on a device."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device)


@contextmanager
def _grouped_attention(device: torch.device, queries: int) -> Iterator[None]:
    """Makes transformers not repeat keys and values that heads share, by its own switch.

    With a mask it repeats them, which takes longer on a CPU than the attention itself at four
    thousand tokens. Single queries need no switch.
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


class _Measured(Exception):
    """Ends the forward pass."""


def deviations(kv: KVCache, fresh: torch.Tensor, forward: Callable[[], object]) -> torch.Tensor:
    """Squared distances of the placed tokens' new states from the cached ones, float32 [Q].

    Writes only the first layer's states of tokens that have none.

    Args:
        kv: with the tokens placed.
        fresh: which tokens have no states yet, bool [Q].
        forward: runs the model over the tokens.
    """
    found: list[torch.Tensor] = []

    def probe(
        layer: CacheLayer, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not layer.is_initialized:
            layer.lazy_initialization(keys, values)
        index = kv.slots.on(keys.device)[1][0]
        if layer is kv.layers[_LAYER]:
            for now, old in zip((keys, values), layer.states, strict=True):
                found.append((now - old.index_select(2, index)).float().square().sum((0, 1, 3)))
            raise _Measured
        new = fresh.to(keys.device)
        layer.write(index[new], keys[:, :, new], values[:, :, new])
        held_keys, held_values = layer.states
        return held_keys[:, :, : kv.slots.end], held_values[:, :, : kv.slots.end]

    if len(kv.layers) <= _LAYER:
        return torch.zeros(len(fresh), device=fresh.device)
    kv.slots.probe = probe
    try:
        forward()
    except _Measured:
        pass
    finally:
        kv.slots.probe = None
    return found[0] + found[1]
