"""Measures in some seconds what the stages of the main job take on this machine.

Wall time, with whatever else runs on the machine: that is what the user waits for. Everything is
done by the code that the stages run, on their own inputs, a little of each.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from codegen.quickstart.plan import Rates

if TYPE_CHECKING:
    from codegen.finetune.recipe import Recipe
    from codegen.models import LoadedModel
    from codegen.records import Example

_READ_S = 1.0
_MOST_EXAMPLES = 48
_FEW, _MANY, _STEPS = 4, 24, 5  # rows decoded together, and steps of each
_ROW = 256  # tokens of a training row
_UNKNOWN = 4.0  # times what was read of a source that does not say how long it is


def measure(model: str, source: str, recipe: Recipe, prompts: Sequence[str]) -> Rates:
    """Measures.

    Args:
        prompts: of the problems, each the user's turn of a chat.

    Raises:
        CodegenError: if the model or the source can't be read.
    """
    began = time.perf_counter()
    data, example_tokens = _data(model, source, recipe.max_length)
    _prepare(model)
    load, loaded = _timed(lambda: _load(model))
    rates = decoding(loaded, prompts)
    train_token = _training(loaded, recipe)
    del loaded
    gc.collect()
    return replace(
        rates,
        measuring=time.perf_counter() - began,
        data=data,
        load=load,
        example_tokens=example_tokens,
        train_token=train_token,
    )


def decoding(loaded: LoadedModel, prompts: Sequence[str]) -> Rates:
    """The rates of making samples; the others are 0."""
    from codegen.decoding.loop import Row, decode
    from codegen.models.chat import chat_prompt

    encoded = [chat_prompt(loaded.tokenizer, prompt) for prompt in prompts]
    long = sorted(encoded, key=len)[len(encoded) // 2]

    def run(rows: int, prompt: list[int]) -> tuple[float, float]:
        """Seconds to the first token, and of a later step."""
        times = [time.perf_counter()]

        def on_token(row: int, _: int) -> bool:
            if row == 0:
                times.append(time.perf_counter())
            return False

        decode(
            loaded.model,
            [Row(list(prompt), [0.5] * (_STEPS + 1)) for _ in range(rows)],
            max_new_tokens=_STEPS + 1,
            temperature=0.8,
            top_p=0.95,
            eos=frozenset(),
            on_token=on_token,
        )
        steps = [after - before for before, after in pairwise(times[1:])]
        return times[1] - times[0], median(steps)

    run(1, long[:4])  # the first pass of a process is slower
    first, few = run(_FEW, long)
    _, many = run(_MANY, long[:8])
    step_row = max(0.0, (many - few) / (_MANY - _FEW))
    return Rates(
        measuring=0.0,
        data=0.0,
        load=0.0,
        example_tokens=0.0,
        train_token=0.0,
        prompt_tokens=fmean(map(len, encoded)),
        prompt_token=max(first - few, 0.0) / (_FEW * len(long)),
        step=max(few - _FEW * step_row, 0.0),
        step_row=step_row,
    )


def _timed(do: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = do()
    return time.perf_counter() - began, result


def _prepare(model: str) -> None:
    """Fetches the model and imports the libraries, which is done once and is not part of a rate."""
    import peft  # noqa: F401
    from transformers import AutoModelForCausalLM  # noqa: F401

    from codegen.models import fingerprint_of

    fingerprint_of(model)


def _load(model: str) -> LoadedModel:
    from codegen.models import load

    return load(model)


def _data(model: str, spec: str, max_length: int) -> tuple[float, float]:
    """Seconds of both data runs over the whole source, and the mean tokens of a text that fits."""
    from codegen.data import make, open_source, read_texts, run
    from codegen.data.sources import MemorySource
    from codegen.finetune.encode import Encoder, encode_all
    from codegen.models import load_tokenizer

    read_s, examples, share = _read(open_source(spec))
    if not examples:
        return 2 * read_s / share, float(max_length)  # the first stage will say what is wrong
    encoder = Encoder(load_tokenizer(model), "chat")
    made_s, tokens = 0.0, []
    with tempfile.TemporaryDirectory(prefix="codegen-quickstart-") as folder:
        for generator in (make("lintseq", verify="ruff"), make("whole")):
            out = Path(folder, generator.name)
            seconds, _ = _timed(
                lambda g=generator, o=out: run(g, MemorySource(tuple(examples)), o, workers=1)
            )
            made_s += seconds
            pairs = (("", text) for text in read_texts(out))
            encoding = encode_all(pairs, encoder, max_length=max_length)
            tokens += [len(example) for example in encoding.examples]
    return (2 * read_s + made_s) / share, fmean(tokens) if tokens else float(max_length)


def _read(source: Any) -> tuple[float, list[Example], float]:
    """Seconds that the beginning of a source took, its examples, and its share of the source."""
    from codegen.records import Example

    began = time.perf_counter()
    examples: list[Example] = []
    for item in source:
        if isinstance(item, Example):
            examples.append(item)
        if len(examples) == _MOST_EXAMPLES or time.perf_counter() - began > _READ_S:
            share = source.fraction() or 1 / _UNKNOWN
            return time.perf_counter() - began, examples, min(1.0, max(share, 1e-3))
    return time.perf_counter() - began, examples, 1.0


def _training(loaded: LoadedModel, recipe: Recipe) -> float:
    """Seconds a token of a forward and backward pass of the model with the recipe's adapter."""
    import torch
    from peft import LoraConfig, get_peft_model

    from codegen.models import load, pick_dtype

    device = loaded.model.device.type
    narrow = pick_dtype(device) == torch.bfloat16
    if loaded.model.dtype != torch.float32:
        loaded = load(loaded.name, dtype=torch.float32)
    lora = LoraConfig(
        r=recipe.lora.rank,
        lora_alpha=recipe.lora.alpha,
        target_modules=recipe.lora.targets
        if isinstance(recipe.lora.targets, str)
        else list(recipe.lora.targets),
    )
    model: Any = get_peft_model(loaded.model, lora).train()

    def step(tokens: int) -> None:
        ids = torch.arange(tokens, device=model.device)[None] % model.config.vocab_size
        with torch.autocast(device, torch.bfloat16, enabled=narrow):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        loss.item()  # of a GPU, waits for it

    tokens = min(_ROW, recipe.max_length)
    step(max(tokens // 4, 2))
    seconds, _ = _timed(lambda: step(tokens))
    return seconds / tokens
