"""Fine-tuning: trained tokens a second, memory and overhead, against TRL's SFTTrainer in one run.

What: LoRA (rank 16, all linear layers) of one model on functions of the standard library with their
docstrings as prompts, texts of mixed lengths: one epoch over the same texts on either side, 8 a
step, in each side's own order; one thread. ``trained_per_s`` counts tokens that the loss is taken
over, a CPU second.
``ratio_defaults`` is ours over TRL with its defaults (but for the number of steps), ``ratio_best``
ours over the best of the settings of TRL in ``TRL_BEST`` that can run here. ``peak_mib`` is the
peak of resident memory. ``overhead`` is the share of our steps' CPU time outside the model, its
gradients and the optimizer.

Ours: ``packing: best_fit`` with all rows of a step in one forward pass, or one by one, or with a
dense mask in place of attention by blocks, whichever is quickest.

Against: PyPI's ``trl``, unchanged, on the same transformers, peft and torch. On a CPU its packing
and padding-free batches are not to be had (they need FlashAttention); batches of like lengths are.
It may lie in a directory of its own (``pip install --target DIR --no-deps trl``, ``-o
trl_path=DIR``).

Limits: one model, one data set, a CPU. The intervals are over the steps of a run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.errors import CodegenError, ConfigError

_WORKER = Path(__file__).parent / "tools" / "finetune_worker.py"
_KEYS = (
    *("trained_per_s", "trl_default_per_s", "trl_best_per_s", "ratio_defaults", "ratio_best"),
    *("peak_mib", "trl_default_peak_mib", "trl_best_peak_mib", "overhead"),
)
OURS: Mapping[str, dict[str, Any]] = {
    "packed": {"packing": "best_fit", "micro_batch_size": 8},
    "packed, a row a pass": {"packing": "best_fit", "micro_batch_size": 1},
    "packed, dense mask": {"packing": "best_fit", "micro_batch_size": 8, "attention": "dense"},
}
# Of 8 examples a step. Batches of like lengths, without recomputing activations.
TRL_BEST: Mapping[str, dict[str, Any]] = {
    f"{size} x {8 // size}": {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": 8 // size,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "group_by_length",
    }
    for size in (8, 2, 1)
}


def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    steps: int = 6,
    trl_path: str = "",
    dtype: str = "auto",
    max_length: int = 512,
    seed: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: three steps, one setting a side.
        model: to fine-tune.
        steps: of each run.
        trl_path: a directory that TRL is installed in, if it is not beside this package.
        dtype: auto, float32 or bfloat16, on either side.
        max_length: of a text; longer ones are left out before.
        seed: of the order.
    """
    at_least(3, steps=steps)
    if dtype not in ("auto", "float32", "bfloat16"):
        raise ConfigError(f"dtype is {dtype!r}.", "Choose auto, float32 or bfloat16.")
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "peft")
    report.figures |= dict.fromkeys(_KEYS)
    has_trl = bool(trl_path) or find_spec("trl") is not None
    with tempfile.TemporaryDirectory(prefix="codegen-bench-finetuning-") as folder:
        data = Path(folder, "data.jsonl")
        steps = 3 if quick else steps
        texts, narrow = _write_texts(data, model, max_length, seed, dtype, 8 * steps)
        job = {
            "model": model, "data": str(data), "batch_size": 8, "max_length": max_length,
            "steps": steps, "seed": seed, "path": trl_path,
        }  # fmt: skip
        ours = {
            name: _run({**job, "side": "ours", "options": {**options, "dtype": narrow}}, name)
            for name, options in OURS.items()
            if not quick or name != "packed, a row a pass"
        }
        best = max(ours, key=lambda name: _rate(ours[name]))
        _set(report, "", ours[best])
        report.set("overhead", _overhead(ours[best]))
        rates = ", ".join(f"{name} {_rate(run):.1f}" for name, run in ours.items())
        report.notes.append(f"Ours: {best}, {narrow}; {texts} texts. Tokens a CPU second: {rates}.")
        if not has_trl:
            report.install["trl"] = "pip install --target DIR --no-deps trl; -o trl_path=DIR"
            return report.mapping()
        bf16 = {"bf16": narrow == "bfloat16"}
        default = _run({**job, "side": "trl", "options": bf16}, "TRL, defaults")
        _set(report, "trl_default_", default)
        _compare(report, "ratio_defaults", ours[best], default)
        settings = list(TRL_BEST.items())[: 1 if quick else None]
        theirs = {
            name: _run({**job, "side": "trl", "options": {**options, **bf16}}, f"TRL, {name}")
            for name, options in settings
        }
        chosen = max(theirs, key=lambda name: _rate(theirs[name]))
        _set(report, "trl_best_", theirs[chosen])
        _compare(report, "ratio_best", ours[best], theirs[chosen])
        report.notes.append(f"TRL at its best: {chosen}, of {', '.join(theirs)}.")
    return report.mapping()


def _write_texts(
    path: Path, model: str, max_length: int, seed: int, dtype: str, count: int
) -> tuple[int, str]:
    """``count`` texts that fit, in the file; how many, and the type to compute in."""
    import torch

    from codegen.data.sources import open_source
    from codegen.finetune.encode import Encoder
    from codegen.models import load_tokenizer, pick_dtype
    from codegen.records import Example, Segment, TrainingText, write_jsonl

    encoder = Encoder(load_tokenizer(model), "chat")
    texts = []
    for example in open_source("stdlib"):
        if not isinstance(example, Example):
            continue  # one that the source left out
        segments = (Segment(example.instruction + "\n", False), Segment(example.program, True))
        text = TrainingText(example.id, example.id, "whole", segments)
        # With room for what another chat template's end adds.
        if len(encoder.encode(text)) <= max_length - 8:
            texts.append(text)
    random.Random(seed).shuffle(texts)
    texts = texts[:count]
    write_jsonl(path, texts)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    narrow = pick_dtype(device) == torch.bfloat16 if dtype == "auto" else dtype == "bfloat16"
    return len(texts), "bfloat16" if narrow else "float32"


def _run(job: dict[str, Any], name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="codegen-bench-finetuning-") as output:
        done = subprocess.run(
            [sys.executable, str(_WORKER)],
            input=json.dumps({**job, "output": str(Path(output, "out"))}),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"},
        )
    if done.returncode:
        raise CodegenError(f"Fine-tuning ({name}) failed: {done.stderr.strip()[-400:]}")
    result = json.loads(done.stdout)
    say(f"{name}: {_rate(result):.1f} trained tokens a CPU second")
    return result


def _steps(result: Mapping[str, Any]) -> tuple[list[float], list[int]]:
    """CPU seconds and trained tokens of each step."""
    seconds = [after - before for before, after in pairwise(result["cpu_s"])]
    return seconds, result["trained"]


def _rate(result: Mapping[str, Any]) -> float:
    seconds, trained = _steps(result)
    return sum(trained) / sum(seconds)


def _set(report: Report, prefix: str, result: Mapping[str, Any]) -> None:
    seconds, trained = _steps(result)
    key = f"{prefix}per_s" if prefix else "trained_per_s"
    report.set(key, ratio_of_sums(trained, seconds, seed=report.seed), n=sum(trained))
    report.set(f"{prefix}peak_mib", result["peak_mib"])


def _compare(report: Report, key: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Ratio of the rates. The sides have other examples in a step, so steps are not paired."""
    report.set(key, _rate(ours) / _rate(theirs))


def _overhead(result: Mapping[str, Any]) -> float:
    seconds, _ = _steps(result)
    inside = result["inside_s"]
    return 1 - (inside[-1] - inside[0]) / sum(seconds)
