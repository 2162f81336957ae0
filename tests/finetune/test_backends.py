"""The back-ends of attention against the dense mask: outputs, gradients, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM

from codegen.finetune import batches
from codegen.finetune.batches import CausalBlocks, attending, check, joined, mask_inputs, padded
from codegen.finetune.encode import causal
from codegen.finetune.recipe import Attention

# Two packed rows of one width, one of them with padding, the other with a chunk of two.
_ROWS = [
    joined([causal(3), causal(1), causal(5)], isolated=True),
    joined([causal(4), joined([causal(2), causal(4)], isolated=False)], isolated=True),
]
_CLOSED = [padded(row, 10) for row in _ROWS]


@pytest.fixture
def model(tiny_model_dir: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float64)


def gradients(model: Any, attention: Attention) -> tuple[dict[str, Any], list[Any]]:
    """What the model is called with, and the gradients of its logits' squares."""
    torch.manual_seed(1)
    inputs = mask_inputs(_ROWS, _CLOSED, attention)
    model.zero_grad()
    with attending(model, attention):
        logits = model(
            input_ids=torch.randint(3, 600, (2, 10)),
            position_ids=torch.tensor([row.positions.tolist() for row in _CLOSED]),
            **inputs,
        ).logits
        seen = torch.tensor([[slot < len(row) for slot in range(10)] for row in _ROWS])
        logits[seen].square().sum().backward()
    return inputs, [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_have_the_gradients_of_the_dense_mask(model: Any, checkpointing: bool) -> None:
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    _, dense = gradients(model, "dense")
    inputs, blocks = gradients(model, "auto")
    assert inputs["blocks"].borders == [[0, 3, 4, 9, 10], [0, 4, 10]]
    assert inputs["blocks"].calls == model.config.num_hidden_layers * (1 + checkpointing)
    assert model.config._attn_implementation == "sdpa"
    for one, other in zip(blocks, dense, strict=True):
        assert (one - other).abs().max() <= 1e-10 * (1 + other.abs().max())


def test_one_kernel_for_all_blocks_gets_the_rows_end_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The GPU's kernel, replaced by a loop over its cumulative lengths (no GPU needed)."""

    def kernel(q: Any, k: Any, v: Any, cu_q: Any, cu_k: Any, most_q: int, most_k: int,
               *, scale: float, window_size: tuple[int, int], enable_gqa: bool) -> Any:  # fmt: skip
        assert cu_q.dtype == torch.int32
        assert cu_q is cu_k
        assert (most_q, most_k, window_size) == (6, 6, (-1, 0))
        parts = []
        for start, stop in pairwise(cu_q.tolist()):
            one = [states[None, start:stop].transpose(1, 2) for states in (q, k, v)]
            parts.append(
                scaled_dot_product_attention(
                    *one, is_causal=True, scale=scale, enable_gqa=enable_gqa
                )[0].transpose(0, 1)
            )
        return torch.cat(parts)

    import torch.nn.attention.varlen as varlen

    monkeypatch.setattr(varlen, "varlen_attn", kernel)
    torch.manual_seed(0)
    q = torch.randn(2, 4, 10, 8, dtype=torch.float64)
    k, v = torch.randn(2, 2, 2, 10, 8, dtype=torch.float64)
    blocks = CausalBlocks([[0, 3, 4, 9, 10], [0, 4, 10]])
    got = batches.variable_length_attention(q, k, v, 0.3, blocks, grouped=True)
    looped, _ = batches.blockwise_attention(None, q, k, v, None, scaling=0.3, blocks=blocks)
    assert got.shape == looped.shape == (2, 10, 4, 8)
    assert (got - looped).abs().max() < 1e-12


def test_a_layer_that_drops_the_blocks_gets_dense_masks(model: Any) -> None:
    assert check(model, "auto") == "auto"
    attend = model.model.layers[1].self_attn.forward

    def deaf(*args: Any, **kwargs: Any) -> Any:
        kwargs.pop("blocks", None)
        return attend(*args, **kwargs)

    model.model.layers[1].self_attn.forward = deaf
    assert check(model, "auto") == "dense"
    assert check(model, "dense") == "dense"


def test_rows_that_are_no_blocks_get_a_mask(model: Any) -> None:
    crossing = joined([causal(2), causal(3)], isolated=False)
    held = padded(joined([crossing, causal(2)], isolated=True), 9)
    assert mask_inputs([held], [held], "auto").keys() == {"attention_mask", "blocks"}
    held.end[0] = 3  # taken back
    mask = mask_inputs([held], [held], "auto")["attention_mask"]
    assert mask.shape == (1, 1, 9, 9)
