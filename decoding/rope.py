"""Giraffe's rotary bases for longer contexts, as rope types of transformers.

Source: Pal et al., *Giraffe: Adventures in Expanding Context Lengths in LLMs* (arXiv 2308.10882).
With d rotating channels and f_t = base^(-2t/d), t = 0 .. d/2 - 1:

- ``giraffe_power``: f_t * (1 - t / (d/2))^k. Slow waves become slower still, fast ones stay.
- ``giraffe_truncated``: f_t where f_t >= c, a small constant rho where c/8 <= f_t < c, and 0 below,
  with c = 2 pi / T and rho = 2 pi / (16 T): only waves that complete a cycle within T tokens stay.

(Linear scaling, which the paper found the most robust, is transformers' own ``linear``.) All of
them want fine-tuning. After :func:`register`, a configuration names them::

    config.rope_parameters = {"rope_type": "giraffe_power", "rope_theta": 1e5, "exponent": 0.5}
    config.rope_parameters = {"rope_type": "giraffe_truncated", "rope_theta": 1e5, "length": 2048}

``length`` is T, by default ``max_position_embeddings``. Cache editing turns keys by whatever
frequencies a model holds, so it works with these too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from codegen.errors import ConfigError

_BOUND_TO_LENGTH = ("dynamic", "longrope")


def register() -> None:
    """Makes the rope types known to transformers, in this process."""
    ROPE_INIT_FUNCTIONS["giraffe_power"] = power
    ROPE_INIT_FUNCTIONS["giraffe_truncated"] = truncated


def power(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | None = None,  # noqa: ARG001 - as transformers calls it
    layer_type: str | None = None,
) -> tuple[torch.Tensor, float]:
    """The power basis; the parameter ``exponent`` is k, by default 0.5.

    Returns:
        float32 [d / 2] frequencies, and the factor 1 on cosines and sines.
    """
    parameters, frequencies = _plain(config, layer_type)
    exponent = parameters.get("exponent", 0.5)
    if not 0 <= exponent <= 10:
        raise ConfigError(f"The exponent of giraffe_power is {exponent}; it must lie in [0, 10].")
    share = torch.arange(len(frequencies)) / len(frequencies)
    return (frequencies * (1 - share) ** exponent).to(device), 1.0


def truncated(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | None = None,  # noqa: ARG001 - as transformers calls it
    layer_type: str | None = None,
) -> tuple[torch.Tensor, float]:
    """The truncated basis; the parameter ``length`` is T.

    Returns:
        float32 [d / 2] frequencies, and the factor 1 on cosines and sines.
    """
    parameters, frequencies = _plain(config, layer_type)
    length = parameters.get("length", config.max_position_embeddings)
    if length < 1:
        raise ConfigError(f"The length of giraffe_truncated is {length}; it must be at least 1.")
    cutoff, constant = 2 * math.pi / length, 2 * math.pi / (16 * length)
    middle = torch.full_like(frequencies, constant)
    slow = torch.where(frequencies >= cutoff / 8, middle, 0.0)
    return torch.where(frequencies >= cutoff, frequencies, slow).to(device), 1.0


def bound_to_length(config: Any) -> str:
    """The rope type of a model whose frequencies depend on the length at hand; "" for others."""
    parameters = getattr(config, "rope_parameters", None) or {}
    for each in (parameters, *(value for value in parameters.values() if isinstance(value, dict))):
        if each.get("rope_type") in _BOUND_TO_LENGTH:
            return each["rope_type"]
    return ""


def _plain(config: Any, layer_type: str | None) -> tuple[dict[str, Any], torch.Tensor]:
    """The parameters, and f_t."""
    parameters = config.rope_parameters
    if layer_type is not None:
        parameters = parameters[layer_type]
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rotary = int(width * parameters.get("partial_rotary_factor", 1.0))
    channels = torch.arange(0, rotary, 2, dtype=torch.float32)
    return parameters, 1.0 / parameters["rope_theta"] ** (channels / rotary)
