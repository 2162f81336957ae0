"""Rows cut among processes: the parts, the exchange, and what is refused. Whole runs of two
processes are in ``test_methods.py``.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from codegen.errors import ConfigError
from codegen.finetune import attention
from codegen.finetune.attention import (
    Blocks,
    RowShare,
    _of_some_heads,
    causal,
    dense_mask,
    exchanging,
    joined,
    padded,
    share_of_launch,
    share_rows_ourselves,
)
from codegen.finetune.batches import collate, part_of
from codegen.finetune.dataset import EncodedExample
from codegen.finetune.losses import negative_log_likelihood

VOCABULARY = 50


def example(number: int, length: int, trained_from: int) -> EncodedExample:
    ids = np.random.default_rng(number).integers(3, VOCABULARY, length).tolist()
    nodes = list(range(trained_from - 1, length - 1))
    then = [node + 1 for node in nodes]
    targets = [ids[node] for node in then]
    return EncodedExample(f"e{number}", ids, nodes, targets, then, causal(length))


EXAMPLES = [example(0, 9, 6), example(1, 5, 2), example(2, 13, 11)]


def model(heads: int = 4, groups: int = 2) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=groups, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_each_action_is_in_one_part_with_its_logits(size: int) -> None:
    rows = [((0,),), ((1,), (2,))]
    whole = collate(EXAMPLES, rows, 0, attention="dense")
    cut = collate(EXAMPLES, rows, 0, attention="dense", parts=size)
    width = cut.inputs["input_ids"].shape[1]
    assert width % size == 0 and 0 <= width - whole.inputs["input_ids"].shape[1] < size
    parts = [part_of(cut, RowShare(rank, size)) for rank in range(size)]
    assert sum(len(part.targets) for part in parts) == len(whole.targets)
    # A model that computes slot by slot: the logits are the token's own row of a table.
    table = torch.randn(VOCABULARY, VOCABULARY)

    class Slotwise:
        def __call__(self, input_ids: Any, logits_to_keep: Any, **_: Any) -> Any:
            self.logits = table[input_ids][:, logits_to_keep]
            return self

    losses = torch.cat([negative_log_likelihood(Slotwise(), part) for part in parts])
    expected = negative_log_likelihood(Slotwise(), whole)
    torch.testing.assert_close(losses.sort().values, expected.sort().values)
    assert all(
        len(part.inputs["logits_to_keep"]) for part in parts
    )  # also where nothing is trained
    assert torch.equal(
        torch.cat([part.inputs["position_ids"] for part in parts], 1), cut.inputs["position_ids"]
    )


@pytest.mark.parametrize(("heads", "groups"), [(8, 4), (8, 2), (4, 4)])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_by_parts_is_that_of_whole_rows(
    heads: int, groups: int, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four threads exchange as processes would, also with fewer heads of keys than threads."""
    size, slots = 4, 16
    layout = joined([causal(5), causal(9)], isolated=True)
    end = torch.from_numpy(padded(layout, slots).end)[None].expand(2, -1)
    torch.manual_seed(1)
    query = torch.randn(2, heads, slots, 8)
    key, value = torch.randn(2, 2, groups, slots, 8)
    expected = scaled_dot_product_attention(
        query, key, value, attn_mask=dense_mask(end), enable_gqa=True
    )
    barrier, sent = threading.Barrier(size), [torch.empty(0)] * size
    found: list[torch.Tensor] = [torch.empty(0)] * size

    def exchange(rank: int) -> Any:
        def exchanged(parts: torch.Tensor) -> torch.Tensor:
            sent[rank] = parts.contiguous()
            barrier.wait()
            got = torch.stack([sent[other][rank] for other in range(size)])
            barrier.wait()
            return got

        return exchanged

    monkeypatch.setattr(attention, "_exchange", exchange)

    def attend(rank: int) -> None:
        attended = exchanging(_of_some_heads, RowShare(rank, size, rank))
        own = slice(rank * slots // size, (rank + 1) * slots // size)
        given = (states[:, :, own] for states in (query, key, value))
        if masked:
            found[rank], _ = attended(None, *given, dense_mask(end))
        else:
            found[rank], _ = attended(None, *given, None, blocks=Blocks([[0, 5, 14, 16]] * 2))

    threads = [threading.Thread(target=attend, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    real = end[0] > torch.arange(slots)
    real[14:] = False  # padding sees itself, whichever way
    together = torch.cat(found, 1).transpose(1, 2)
    torch.testing.assert_close(together[:, :, real], expected[:, :, real])


def test_what_cannot_be_dealt_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_of_launch(model(), 0, 4) is None
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    monkeypatch.setenv("PARALLELISM_CONFIG_SP_SIZE", "3")
    with pytest.raises(ConfigError, match="4 processes cannot form groups of 3"):
        share_of_launch(model(), 0, 4)
    with pytest.raises(ConfigError, match=r"4 attention heads, 2 of keys, .* among 3"):
        share_of_launch(model(), 0, 6)


def test_others_attention_is_put_back_after_preparing() -> None:
    """DeepSpeed's, which knows no masks, would serve evaluation and decoding too."""
    before = ALL_ATTENTION_FUNCTIONS["sdpa"]

    class Preparing:
        def prepare(self, *given: Any) -> Any:
            ALL_ATTENTION_FUNCTIONS["sdpa"] = lambda *_, **__: None
            return given

    accelerator: Any = Preparing()
    try:
        share_rows_ourselves(accelerator)
        assert accelerator.prepare(1, 2) == (1, 2)
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before
        assert accelerator.deepspeed_ulysses_dl_adapter([3], None) == [3]
    finally:
        ALL_ATTENTION_FUNCTIONS["sdpa"] = before
