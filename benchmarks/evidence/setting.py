"""Shared by the experiments: small models from scratch, cached runs, intervals."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from codegen.records import write_atomic

# Two-sided 95 % quantiles of Student's t for 1 to 9 degrees of freedom.
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def arguments(about: str, **defaults: Any) -> argparse.Namespace:
    """The options of an experiment: ``--out``, ``--seeds`` and those given with their defaults."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", required=True, type=Path, help="directory for models and results")
    parser.add_argument("--seeds", type=int, default=3)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    found = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    found.out.mkdir(parents=True, exist_ok=True)
    return found


def once(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON object in a file, which is made first if it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(make(), indent=1) + "\n")
    return json.loads(path.read_text("utf-8"))


def mean_with_interval(values: Sequence[float]) -> str:
    """The mean over seeds and its 95 % t-interval, as text."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = _T[min(len(values) - 2, len(_T) - 1)] * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.3f} ± {half:.3f}"


def table(rows: Mapping[str, Sequence[Mapping[str, float]]], columns: Sequence[str]) -> str:
    """A Markdown table with a row per condition: means over its runs, empty if it lacks them."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, runs in rows.items():
        cells = [
            mean_with_interval([run[column] for run in runs]) if column in runs[0] else ""
            for column in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def small_model(
    folder: Path, vocabulary: Sequence[str], *, hidden: int, layers: int, positions: int, seed: int
) -> Path:
    """A random Llama over single characters, saved with its tokenizer. Ids 0 and 1 are <eos> and
    <pad>.
    """
    if (folder / "config.json").exists():
        return folder
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<eos>", "<pad>", *vocabulary])}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<eos>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    save_llama(folder, len(tokenizer), hidden=hidden, layers=layers, positions=positions, seed=seed)
    tokenizer.save_pretrained(folder)
    return folder


def save_llama(
    folder: Path, vocabulary: int, *, hidden: int, layers: int, positions: int, seed: int,
    eos: int = 0, pad: int = 1,
) -> None:  # fmt: skip
    """A Llama with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(2, hidden // 32),
        num_key_value_heads=max(2, hidden // 32),
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        eos_token_id=eos,
        bos_token_id=None,
        pad_token_id=pad,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
