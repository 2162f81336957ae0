"""The harness of all experiments: cells, seeds, resume, intervals, tables.

An experiment is a short module with an :class:`Experiment`: named conditions, and a function that
makes one *cell*, a condition with one seed, and returns its measures. A cell is kept in
``OUT/results`` and made once, so the same command resumes an interrupted run. The table has a row
per condition: means over the seeds with 95% t-intervals. :func:`gains` compares conditions problem
by problem.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from codegen.core.paths import write_atomic
from codegen.evals.statistics import Count, compare
from codegen.finetune import parse_recipe
from codegen.finetune.lifecycle import TrainingResult, train

# Two-sided 95% quantiles of Student's t for 1 to 9 degrees of freedom.
_T = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Experiment:
    """An experiment: conditions, columns and cells.

    Attributes:
        about: the module's docstring, shown by ``--help``.
        conditions: names of the conditions, in table order.
        columns: measures shown in the table.
        cell: function that makes a cell: (out, condition, seed, options) -> measures, or measures
            by row for a condition with several rows.
        options: other options with their defaults.
    """

    about: str
    conditions: Sequence[str]
    columns: Sequence[str]
    cell: Callable[[Path, str, int, argparse.Namespace], Mapping[str, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def main(self) -> dict[str, list[dict[str, Any]]]:
        """Runs the missing cells, prints the table and returns the measures by row."""
        chosen = {"conditions": ";".join(self.conditions), "first_seed": 0, "most": 0}
        options = arguments(self.about, **chosen, **self.options)
        rows: dict[str, list[dict[str, Any]]] = {}
        made = 0
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for condition in options.conditions.split(";"):
                path = options.out / "results" / f"{slug(condition)}-{seed}.json"
                if not path.exists():
                    if made == (options.most or -1):
                        continue
                    made += 1
                found = once(
                    path, lambda c=condition, s=seed: self.cell(options.out, c, s, options)
                )
                several = all(isinstance(value, dict) for value in found.values())
                for name, measures in (found if several else {condition: found}).items():
                    rows.setdefault(name, []).append({"seed": seed, **measures})
                    shown = {key: measures[key] for key in self.columns if key in measures}
                    print(name, seed, shown, flush=True)  # noqa: T201
        print(table(rows, self.columns))  # noqa: T201
        return rows


def arguments(about: str, **defaults: Any) -> argparse.Namespace:
    """Parses the options ``--out``, ``--seeds``, ``--threads`` and the given defaults."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", required=True, type=Path, help="directory for models and results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    found = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(found.threads))
    import torch
    from transformers.utils import logging

    torch.set_num_threads(found.threads)
    logging.disable_progress_bar()
    found.out.mkdir(parents=True, exist_ok=True)
    return found


def slug(name: str) -> str:
    """Returns a condition's name in file names."""
    return name.replace(", ", "-").replace(" ", "-").lower()


def once(path: Path, make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the JSON object in a file, which is made first if it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(make(), indent=1) + "\n")
    return json.loads(path.read_text("utf-8"))


def mean_with_interval(values: Sequence[float]) -> str:
    """Returns the mean over seeds and its 95% t-interval."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = _T[min(len(values) - 2, len(_T) - 1)] * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.3f} ± {half:.3f}"


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]], columns: Sequence[str]) -> str:
    """Returns a Markdown table of means over the runs, a row per condition; empty without runs."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, runs in rows.items():
        cells = [
            mean_with_interval([run[column] for run in runs]) if column in runs[0] else ""
            for column in columns
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gains(
    rows: Mapping[str, Sequence[Mapping[str, Any]]], baseline: str, ks: Sequence[int]
) -> list[str]:
    """Yields the lines of a Markdown table with each condition's gain over the baseline in pass@k.

    A run's ``counts`` are problem -> [samples, passed]. Intervals are clustered by problem; over
    several seeds the t-interval of their means follows.
    """
    start = {run["seed"]: run for run in rows.get(baseline, ())}
    lines = []
    for name, every in rows.items():
        runs = [run for run in every if run["seed"] in start]
        if name == baseline or not runs:
            continue
        cells = [name, " ".join(str(run["seed"]) for run in runs)]
        for k in ks:
            before = _counts(start[run["seed"]] for run in runs)
            found = compare(before, _counts(runs), k, cluster=lambda key: key.partition(":")[2])
            if found and found.low is not None and found.high is not None:
                cell = f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"
                means = [run[f"pass@{k}"] - start[run["seed"]][f"pass@{k}"] for run in runs]
                over = f"; over seeds {mean_with_interval(means)}" if len(means) > 1 else ""
                cells.append(cell + over)
        lines.append(f"| {' | '.join(cells)} |")
    head = f"| gain over {baseline} | seeds | " + " | ".join(f"pass@{k}" for k in ks) + " |"
    return [head, "|---" * (2 + len(ks)) + "|", *lines]


def _counts(runs: Any) -> dict[str, Count]:
    return {f"{r['seed']}:{i}": Count(*count) for r in runs for i, count in r["counts"].items()}


def train_small(
    model: str | Path,
    data: Any,
    out: Path,
    *,
    steps: int,
    seed: int,
    on_step: Callable[..., None] | None = None,
    **changes: Any,
) -> TrainingResult:
    """Trains all weights of a small model; ``changes`` are recipe keys."""
    recipe: dict[str, Any] = {
        "model": str(model),
        "data": str(data) if isinstance(data, Path) else data,
        "output": str(out),
        "steps": steps,
        "seed": seed,
        "method": "full",
        "format": "plain",
        "learning_rate": 2e-3,
        "schedule": "cosine",
        "warmup": 0.05,
        "dtype": "float32",
        "save_every": steps,
    }
    if not data:
        del recipe["data"]
    return train(parse_recipe(recipe | changes), on_step=on_step)


def character_model(
    folder: Path, vocabulary: Sequence[str], *, hidden: int, layers: int, positions: int, seed: int
) -> Path:
    """Saves a random Llama over single characters with its tokenizer. Ids 0, 1: <eos>, <pad>."""
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
    folder: Path, vocabulary: int, *, hidden: int, layers: int, positions: int, seed: int
) -> None:
    """Saves a Llama with random weights."""
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
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
