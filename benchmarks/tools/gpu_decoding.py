"""Workloads of ``codegen bench gpu``: models made from configurations, a given text, methods.

A model with random weights does not generate code, so ours is forced to write a given text by
replacing its logits after each forward pass, which adds only the cost of writing them. The text is
a file of the standard library with 2% of its tokens replaced, and the prompt is the original file.
A draft model writes the same text with a fifth of its tokens wrong; the correct one is its second
choice. Peers generate freely.
"""

from __future__ import annotations

import random
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CHANGED, WRONG = 0.02, 0.2
OURS = ("plain", "suffix", "edit", "rsd_chain", "rsd_tree")
PEERS = ("transformers", "transformers_static")
Decode = Callable[[int], object]
"""Decodes a batch for n tokens."""


@dataclass(frozen=True)
class Shape:
    """Dimensions of a model like Qwen2.5-Coder."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    tied: bool = False

    def config(self) -> Any:
        """Returns transformers' configuration."""
        from transformers import Qwen2Config

        return Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            max_position_embeddings=32_768,
            tie_word_embeddings=self.tied,
        )


SHAPES = {
    "1.5B": Shape(1536, 8960, 28, 12, 2, 151_936, tied=True),
    "7B": Shape(3584, 18944, 28, 28, 4, 152_064),
}
DRAFT = Shape(896, 4864, 24, 14, 2, 151_936, tied=True)  # 0.5B
TINY = Shape(32, 64, 2, 4, 2, 1024)


def build(shape: Shape, device: torch.device, seed: int) -> Any:
    """Returns a model with random weights, in bfloat16 on a GPU and in float32 on a CPU."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with device:
        model: Any = AutoModelForCausalLM.from_config(
            shape.config(), dtype=dtype, attn_implementation="sdpa"
        )
    model.generation_config.eos_token_id = None
    return model.eval()


@dataclass(frozen=True)
class Workload:
    """A file's tokens, and the expected completions."""

    original: list[int]
    answer: list[int]

    @classmethod
    def make(cls, tokenizer: Any, length: int, most: int, seed: int) -> Workload:
        """Builds a workload from ``length`` tokens of a file and ``most`` of its edited copy."""
        text = Path(sysconfig.get_path("stdlib"), "argparse.py").read_text(encoding="utf-8")
        ids = tokenizer.backend_tokenizer.encode(text[: 12 * length]).ids[: max(length, most)]
        draw = random.Random(seed)
        answer = [draw.choice(ids) if draw.random() < CHANGED else token for token in ids]
        return cls(ids[:length], answer[:most])

    def row(self, tokens: int) -> Any:
        """Returns a row of our loop."""
        from codegen.decoding.loop import Row

        return Row(list(self.original), [0.0] * tokens)


@contextmanager
def writing(model: Any, workload: Workload, wrong: float, seed: int) -> Iterator[None]:
    """Makes the model write the workload's text, with a fraction of wrong tokens."""
    import torch

    text = [*workload.original, *workload.answer, *workload.answer[-1:]]
    draw = random.Random(seed)
    first = [draw.choice(text) if draw.random() < wrong else token for token in text[1:]]
    best, second = (torch.tensor(ids, device=model.device) for ids in (first, text[1:]))

    def put(_module: Any, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
        logits = output.logits
        at = kwargs["position_ids"][:, -logits.shape[1] :].clamp(max=len(first) - 1)
        logits.zero_().scatter_(2, second[at][..., None], 4.0)
        logits.scatter_(2, best[at][..., None], 8.0)

    handle = model.register_forward_hook(put, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def ours(
    method: str, model: Any, draft: Any, workload: Workload, batch: int, maker: Any
) -> tuple[Decode, Callable[[], float]]:
    """Returns one of :data:`OURS`, and a function that returns its tokens per pass and row."""
    from codegen.decoding.drafts import PassCosts, Planner
    from codegen.decoding.drafts.protocol import Context
    from codegen.decoding.loop import Strategy, decode
    from codegen.decoding.strategies.rsd import (
        ConstantBranching,
        RecursiveSpeculation,
        StochasticBeam,
    )
    from codegen.decoding.strategies.speculative import Speculation
    from codegen.generation.decoders import DRAFTERS

    planner = Planner(PassCosts())  # measures the costs of passes once
    passes: list[float] = []

    def strategy() -> Strategy:
        if method == "plain":
            return Strategy()
        if method in DRAFTERS:
            drafters = [maker.chain(DRAFTERS[method]) for _ in range(batch)]
            contexts = [Context(workload.original)] * batch
            return Speculation(drafters, contexts, planner=planner)
        shape = ConstantBranching((1,) * 4) if method == "rsd_chain" else StochasticBeam(4, 4)
        return RecursiveSpeculation(draft, shape, list(range(batch)))

    def run(tokens: int) -> None:
        chosen = strategy()
        rows = [workload.row(tokens) for _ in range(batch)]
        decode(
            model, rows, max_new_tokens=tokens, temperature=0.0, top_p=1.0, eos=frozenset(),
            strategy=chosen,
        )  # fmt: skip
        assert all(row.tokens == workload.answer[:tokens] for row in rows), "another text"
        passes[:] = [batch * tokens / sum(chosen.passes_of) if chosen.passes_of else 1.0]

    return run, lambda: passes[0]


def peer(method: str, model: Any, workload: Workload, batch: int) -> Decode:
    """Returns one of :data:`PEERS`; with a static cache, transformers compiles on a GPU."""
    import torch

    ids = torch.tensor([workload.original] * batch, device=model.device)
    options = {"cache_implementation": "static"} if method == "transformers_static" else {}
    model.set_attn_implementation("sdpa")

    def run(tokens: int) -> None:
        model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
            do_sample=False, pad_token_id=0, **options,
        )  # fmt: skip

    return run


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Returns the time of a call until the device has finished."""
    import torch

    began = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def decode_rate(decode: Decode, tokens: int, batch: int, device: torch.device) -> float | None:
    """Returns tokens per second after each row's first token, whose time is subtracted; None if
    there are too few passes to measure.

    The first decodings are a warm-up for kernels, graphs and the planner.
    """
    decode(tokens)
    decode(1)
    short = seconds(lambda: decode(1), device)
    taken = seconds(lambda: decode(tokens), device) - short
    return batch * (tokens - 1) / taken if taken > 0 else None


def edited(model: Any, workload: Workload, device: torch.device) -> dict[str, float]:
    """Returns the seconds to update a cache after one changed token, and to re-encode it."""
    from codegen.decoding.editing import EditableCache

    def filled() -> Any:
        cache = EditableCache(model)
        cache.update(workload.original)
        return cache

    cache = filled()
    whole = seconds(filled, device)
    ids = list(workload.original)
    found = []
    for step in range(4):  # the first is a warm-up
        middle = len(ids) // 2 + step
        ids[middle] = ids[middle - 7]
        found.append(seconds(lambda: cache.update(ids), device))
    return {"edit_s": sorted(found[1:])[1], "whole_s": whole}


def prepacked(model: Any, workload: Workload, device: torch.device, seed: int) -> dict[str, float]:
    """Returns the seconds for unequal prompts: packed, padded, and padded by transformers."""
    import torch

    from codegen.decoding.cache import KVCache
    from codegen.decoding.prefill import PASS_TOKENS, packed, padded

    draw = random.Random(seed)
    text, longest = workload.original, len(workload.original)
    sizes = [longest, *(max(2, int(longest * draw.random() ** 3)) for _ in range(31))]
    given: Sequence[list[int]] = [text[:size] for size in sizes]
    ids = torch.tensor([prompt + [0] * (longest - len(prompt)) for prompt in given], device=device)
    mask = torch.arange(longest, device=device) < torch.tensor(sizes, device=device)[:, None]
    layers = model.config.num_hidden_layers

    @torch.inference_mode()
    def theirs() -> None:
        model(ids, attention_mask=mask.long(), use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def own(fill: Callable[..., None], *more: int) -> None:
        fill(model, KVCache(layers, longest), given, *more)

    calls = {
        "packed_s": lambda: own(packed, PASS_TOKENS),
        "padded_s": lambda: own(padded),
        "transformers_s": theirs,
    }
    found = {"tokens": float(sum(sizes)), "with_padding": float(longest * len(sizes))}
    for name, call in calls.items():
        call()
        found[name] = min(seconds(call, device) for _ in range(3))
    return found
