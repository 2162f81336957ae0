"""The table of architectures in docs/models.md: each entry is tried on a tiny random model.

What the table says works gives, greedily, the tokens of transformers' own ``generate``, or of a
loop over whole prefixes where ``generate`` has no counterpart. What it says is refused raises one
line.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from counted_device import CountedDevice, spread
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    LogitsProcessor,
    PreTrainedModel,
)

from codegen.core.errors import ModelError
from codegen.decoding.drafts import Context, RecyclingDrafter
from codegen.decoding.editing import EditableCache, EditPolicy
from codegen.decoding.loop import BackspaceDecoding, Batch, Row, Strategy, decode
from codegen.decoding.strategies.speculative import Speculation

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
PROMPTS = [
    [5, 9, 20, 31, 8],
    [7],
    [11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22],
    [40, 3],
    [11, 12, 13, 11, 12, 13, 11, 12],
]
NEW = 14
BKSPC = 117
TIE = 1e-3  # tokens behind so close a choice are not compared

SMALL: dict[str, Any] = {
    "vocab_size": 120, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 12,
    "attention_chunk_size": 10, "max_position_embeddings": 256, "initializer_range": 0.3,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
    # experts
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4,
    "num_local_experts": 4, "num_experts_per_tok": 2, "n_routed_experts": 4, "n_group": 1,
    "n_shared_experts": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1,
    "intermediate_size_mlp": 48,
    # latent attention
    "q_lora_rank": 16, "kv_lora_rank": 12, "qk_rope_head_dim": 8, "qk_nope_head_dim": 6,
    "v_head_dim": 10,
    # recurrent layers
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "mamba_d_state": 4, "mamba_n_heads": 4, "mamba_d_head": 16,
    "mamba_d_ssm": 64, "mamba_n_groups": 1, "mamba_chunk_size": 8, "state_size": 4,
    "num_heads": 4, "n_mamba_heads": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
    "use_mamba_kernels": False, "chunk_size": 8, "n_groups": 1, "mamba_ngroups": 1,
    "vocab_size_per_layer_input": 120,
}  # fmt: skip
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}
_GPTJ = _GPT2 | {"rotary_dim": 4}
_HEADS = {"num_key_value_heads": 4}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
_CONV = {"layer_types": ["conv", "full_attention"] * 2}
_SLIDING = {"layer_types": ["sliding_attention", "full_attention"] * 2}
OWN: dict[str, dict[str, Any]] = {
    "bailing_hybrid": _LINEAR | _HEADS,
    "bamba": {"attn_layer_indices": [1, 3]},
    "bloom": {"n_layer": 2, "n_head": 4},
    "codegen": _GPTJ,
    "deepseek_v2": _HEADS,
    "deepseek_v3": _HEADS,
    "deepseek_v32": _HEADS,
    "falcon": {"alibi": False},
    "gemma3_text": _SLIDING,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gptj": _GPTJ,
    "granitemoehybrid": _LINEAR,
    "kimi_linear": _LINEAR | _HEADS | {"linear_head_dim": 8, "linear_num_heads": 2},
    "lfm2": _CONV,
    "lfm2_moe": _CONV,
    "lfm3": {"layer_types": ["conv", "sliding_attention", "full_attention", "conv"]},
    "longcat_flash": _HEADS
    | {"num_layers": 2, "ffn_hidden_size": 48, "expert_ffn_hidden_size": 16, "moe_topk": 2},
    "mamba2": {"head_dim": 16},
    "minicpm3": _HEADS,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "qwen2": _SLIDING | {"use_sliding_window": True},
    "recurrent_gemma": {"lru_width": 32, "attention_window_size": 12},
    "rwkv": {"context_length": 256, "attention_hidden_size": 32},
    "zamba": _HEADS
    | {"num_hidden_layers": 6, "layers_block_type": ["mamba", "mamba", "hybrid"] * 2},
    "zamba2": _HEADS | {"layers_block_type": ["mamba", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}


def table() -> dict[str, dict[str, bool]]:
    """What the page says of each architecture, by column."""
    found: dict[str, dict[str, bool]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and set(cells[1:]) <= {"yes", "no"} and len(cells) == 6:
            works = dict(zip(CHECKS, (cell == "yes" for cell in cells[1:]), strict=True))
            for name in re.findall(r"`(\w+)`", cells[0]):
                assert name not in found
                found[name] = works
    return found


def made(name: str) -> PreTrainedModel:
    kind: Any = CONFIG_MAPPING[name]
    known = {field.name for field in dataclasses.fields(kind)}
    small = {key: value for key, value in SMALL.items() if key in known}
    config = kind(**small | OWN.get(name, {}))
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    torch.manual_seed(0)
    attention = "sdpa" if model._supports_sdpa else "eager"
    return model._from_config(config, attn_implementation=attention).float().eval()


@torch.inference_mode()
def prefixes(
    model: PreTrainedModel,
    prompt: list[int],
    forced: bool = False,
    process: LogitsProcessor | None = None,
) -> list[int]:
    """Tokens chosen greedily over whole prefixes, up to a close choice.

    Args:
        model: the oracle.
        prompt: token ids.
        forced: every fourth choice takes a token back, and is :data:`BKSPC` in what is returned.
        process: what transformers changes of the logits [1, V] after ids [1, N].
    """
    tokens, chosen = list(prompt), []
    for step in range(NEW):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1].float()
        if process:
            logits = process(torch.tensor([tokens]), logits[None])[0]  # type: ignore
        if forced:
            logits[BKSPC] = torch.inf if step % 4 == 3 else -torch.inf
        best, second = logits.topk(2).values.tolist()
        if best - second < TIE:
            break
        chosen.append(int(logits.argmax()))
        if chosen[-1] == BKSPC and forced:
            tokens.pop()
        else:
            tokens.append(chosen[-1])
    return chosen


def run(
    model: PreTrainedModel,
    prompts: list[list[int]],
    strategy: Strategy | None = None,
    width: int | None = None,
) -> list[Row]:
    """The decoded rows; with a width they end at different times, and others take their places."""
    rows = [Row(list(prompt), [0.5] * NEW) for prompt in prompts]

    def ends(number: int, _: int) -> bool:
        return width is not None and len(rows[number].tokens) == 4 + 4 * (number % 3)

    decode(model, rows, max_new_tokens=NEW, temperature=0, top_p=1.0, eos=frozenset(),
           strategy=strategy, width=width, on_token=ends)  # fmt: skip
    return rows


class Forced(BackspaceDecoding):
    """Every fourth choice takes a token back, no other does."""

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        for i, number in enumerate(batch.numbers):
            back = batch.made[number] % 4 == 3
            logits[i, self.backspace] = torch.inf if back else -torch.inf


def check_alone(model: PreTrainedModel) -> None:
    for prompt in PROMPTS:
        expected = prefixes(model, prompt)
        generated: Any = model.generate(  # type: ignore[operator]
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        assert generated[0, len(prompt) :].tolist()[: len(expected)] == expected
        (row,) = run(model, [prompt])
        assert row.tokens[: len(expected)] == expected


def check_batch(model: PreTrainedModel) -> None:
    together, in_turn = run(model, PROMPTS), run(model, PROMPTS, width=2)
    for prompt, row, other in zip(PROMPTS, together, in_turn, strict=True):
        expected = prefixes(model, prompt)
        assert row.tokens[: len(expected)] == expected
        assert other.tokens[: len(expected)] == expected[: len(other.tokens)]


def check_drafts(model: PreTrainedModel) -> None:
    """With trees of what was likely before, and nothing to hold them back."""
    learned: dict[int, tuple[int, ...]] = {}

    class Learned(RecyclingDrafter):
        def begin(self, prompt: Sequence[int], context: Context) -> None:
            super().begin(prompt, context)
            self._table = learned

    def drafted() -> Speculation:
        drafters = [Learned() for _ in PROMPTS]
        strategy = Speculation(drafters, limit=6)
        for prompt, row in zip(PROMPTS, run(model, PROMPTS, strategy), strict=True):
            expected = prefixes(model, prompt)
            assert row.tokens[: len(expected)] == expected
        return strategy

    drafted()
    again = drafted()
    assert again.emitted > again.passes
    assert again.drafted > again.emitted - again.passes  # some were wrong


def check_backspace(model: PreTrainedModel) -> None:
    for prompt, row in zip(PROMPTS, run(model, PROMPTS, Forced(BKSPC)), strict=True):
        expected = prefixes(model, prompt, forced=True)
        assert row.actions[: len(expected)] == expected
        assert BKSPC in row.actions


def check_edits(model: PreTrainedModel) -> None:
    policy = EditPolicy(min_span=2, tail=0, sink=0, keep_removed=0)
    cache = EditableCache(model, policy=policy)
    base = [3 + i * 7 % 50 for i in range(40)]
    edited = [*base[:20], 5, 6, 7, *base[20:]]
    cache.update(base)
    assert cache.update(edited).reused
    cache.recompute()
    with torch.inference_mode():
        wanted = model(torch.tensor([edited]), use_cache=False).logits[0, -1]
    torch.testing.assert_close(cache.logits.cpu(), wanted, rtol=1e-3, atol=1e-3)


CHECKS: dict[str, Callable[[PreTrainedModel], None]] = {
    "alone": check_alone,
    "in a batch": check_batch,
    "drafts": check_drafts,
    "backspace": check_backspace,
    "cache edits": check_edits,
}


# The families that most models are of, and a few of each kind of attention; -m long runs all.
COMMON = ("llama", "gemma3_text", "deepseek_v2", "mamba", "bloom")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [name if name in COMMON else pytest.param(name, marks=pytest.mark.long) for name in table()],
)
def test_what_the_table_says_of_an_architecture(name: str) -> None:
    model = made(name)
    for column, works in table()[name].items():
        if works:
            CHECKS[column](model)
        else:
            with pytest.raises(ModelError) as refused:
                CHECKS[column](model)
            assert "\n" not in str(refused.value)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, works in table().items() if works["in a batch"]])
def test_layers_may_be_on_two_devices(name: str) -> None:
    """No operation mixes tensors of the two, and the tokens are those over whole prefixes."""
    model = made(name)
    with torch.inference_mode(), CountedDevice() as device, spread(model):
        for column, works in table()[name].items():
            if works and column != "alone":
                CHECKS[column](model)
    assert device.crossings["across"]


def test_the_table_is_there() -> None:
    assert len(table()) > 60
    assert {tuple(works.values()) for works in table().values()} >= {(True,) * 5, (False,) * 5}
