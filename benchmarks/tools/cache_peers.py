"""Tokens that a cache encodes by workload, and llama.cpp's server on the same contexts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.editor_workloads import LAYOUTS, Context, lay_out, workloads
from codegen.benchmarks.tools.llama import Llama, one_layer
from codegen.decoding.editing import EditableCache

REUSE = (0, 8, 64, 256)  # llama.cpp's --cache-reuse

Table = dict[str, dict[str, dict[str, int | None]]]


def tokens_encoded(tokenizer: Any, llama: Llama | None, reuse: Sequence[int]) -> Table:
    """By layout, workload and cache the tokens encoded after the first state.

    Counts do not depend on weights, so both are given small models.

    Args:
        tokenizer: of the embedded model.
        llama: the peer, if there is one.
        reuse: the peer's settings that are counted; those of :data:`REUSE` left out give None.
    """
    model = small_model(len(tokenizer))
    states = workloads()
    table: Table = {}
    with tempfile.TemporaryDirectory() as folder:
        small = str(Path(folder) / "one-layer.gguf")
        if llama:
            one_layer(llama.model, small)
        for layout in LAYOUTS:
            contexts = {
                name: [lay_out(tokenizer, state, layout) for state in found]
                for name, found in states.items()
            }
            table[layout] = {name: {"ours": encoded(model, c)} for name, c in contexts.items()}
            for setting in REUSE:
                counts: dict[str, int | None] = dict.fromkeys(contexts)
                if llama and setting in reuse:
                    prompts = [[c.tokens for c in found] for found in contexts.values()]
                    answers = llama.answers(prompts, reuse=setting, model=small, fresh=True)
                    sums = (sum(answer.encoded for answer in row[1:]) for row in answers)
                    counts = dict(zip(contexts, sums, strict=True))
                for name, count in counts.items():
                    table[layout][name][f"llama_{setting}"] = count
    return table


def encoded(model: Any, contexts: Sequence[Context]) -> int:
    """Tokens that the cache encodes after the first context."""
    cache = EditableCache(model)
    reports = [
        cache.update(context.tokens, tail=context.tail, statement=context.statement)
        for context in contexts
    ]
    return sum(report.encoded for report in reports[1:])


def small_model(vocabulary: int) -> Any:
    """A random model of one layer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()
