"""Fine-tuning: tokens per second and memory against TRL's SFTTrainer, also on a busy machine.

What: LoRA (rank 16, all linear layers) of one model on functions of the standard library with their
docstrings as prompts, texts of mixed lengths: one epoch over the same texts on both sides, 8 per
step, in each side's own order; one thread. ``tokens_per_s``: trained tokens per CPU second.
``ratio_default`` is ours over TRL with its defaults (except for the number of steps),
``ratio_best`` ours over the best TRL settings in ``TRL_BEST`` that can run here.
``peak_mb`` is the peak resident memory (10^6 bytes), ``trl_peak_mb`` TRL's at its best.

``busy_ratio``: the CPU time of a step on two cores while another process keeps one of them busy,
over the CPU time of the same step without it; with default settings and two threads. Each step's
forward and backward pass is run both ways in turn, so the two times are paired.

Ours: ``packing: best_fit`` with all rows of a step in one forward pass, or one by one, or with a
dense mask instead of blockwise attention, whichever is fastest.

Against: PyPI's ``trl``, unchanged, on the same transformers, peft and torch. On a CPU its packing
and padding-free batches are not available (they need FlashAttention); length-grouped batches are.
TRL may be in its own directory (``pip install --target DIR --no-deps trl``, ``-o
trl_path=DIR``).

Limits: one model, one dataset, a CPU. The intervals are over the steps of a run. ``--quick`` takes
two examples of at most 192 tokens per step (one in a busy step) and runs all single-thread
processes at once.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import ratio_of_sums
from codegen.core.errors import CodegenError

_WORKER = Path(__file__).parent / "tools" / "finetune_worker.py"
_KEYS = (
    *("tokens_per_s", "trl_best_tokens_per_s", "trl_default_tokens_per_s"),
    *("ratio_best", "ratio_default", "busy_ratio"),
    *("peak_mb", "trl_peak_mb"),
)
OURS: Mapping[str, dict[str, Any]] = {
    "packed, one row per pass": {"packing": "best_fit", "micro_batch_size": 1},
    "packed": {"packing": "best_fit", "micro_batch_size": 8},
    "packed, dense mask": {"packing": "best_fit", "micro_batch_size": 8, "attention": "dense"},
}
# 8 examples per step, in batches of similar lengths, without recomputing activations.
TRL_BEST: Mapping[str, dict[str, Any]] = {
    f"{size} x {8 // size}": {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": 8 // size,
        "gradient_checkpointing": False,
        "train_sampling_strategy": "group_by_length",
    }
    for size in (8, 2, 1)
}
# Two examples per step. Batches of one need no padding: the fastest setting in all trials.
_QUICK_TRL: Mapping[str, dict[str, Any]] = {
    "defaults": {"per_device_train_batch_size": 2},
    "1 x 8": TRL_BEST["1 x 8"] | {"gradient_accumulation_steps": 2},
}


@options(quick={"steps": 3, "max_length": 96})
def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    steps: int = 6,
    trl_path: str = "",
    max_length: int = 512,
    seed: int = 0,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: three steps of two short examples, one setting per side.
        model: model to fine-tune.
        steps: steps per run.
        trl_path: directory with TRL, if it is not in this environment.
        max_length: maximum tokens per example; longer ones are dropped first.
        seed: seed of the example order.
    """
    at_least(3, steps=steps)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "peft")
    report.figures |= dict.fromkeys(_KEYS)
    has_trl = bool(trl_path) or find_spec("trl") is not None
    with tempfile.TemporaryDirectory(prefix="codegen-bench-finetune-") as folder:
        data = Path(folder, "data.jsonl")
        batch_size = 2 if quick else 8
        texts, narrow = write_texts(data, model, max_length, seed, batch_size * steps, quick)
        job = {
            "model": model, "data": str(data), "batch_size": batch_size, "max_length": max_length,
            "steps": steps, "seed": seed, "path": trl_path,
        }  # fmt: skip
        jobs = {
            name: {**job, "side": "ours", "options": {**options, "dtype": narrow}}
            for name, options in list(OURS.items())[: 1 if quick else None]
        }
        if has_trl:
            for name, options in (_QUICK_TRL if quick else {"defaults": {}, **TRL_BEST}).items():
                given = {**options, "bf16": narrow == "bfloat16"}
                jobs[f"TRL, {name}"] = {**job, "side": "trl", "options": given}
        with ThreadPoolExecutor(len(jobs) if quick else 1) as pool:
            results = dict(zip(jobs, pool.map(_run, jobs.values(), jobs), strict=True))
        rates = ", ".join(f"{name} {_rate(run):.1f}" for name, run in results.items())
        ours = max((name for name in OURS if name in jobs), key=lambda name: _rate(results[name]))
        report.notes.append(f"Ours: {ours}, {narrow}; {texts} texts. Tokens per CPU-s: {rates}.")
        _set(report, "", results[ours])
        if has_trl:
            _set_trl(report, results, ours)
        else:
            report.install["trl"] = "pip install --target DIR --no-deps trl; -o trl_path=DIR"
        sizes = {"steps": 2, "batch_size": 1} if quick else {"steps": 12, "batch_size": 2}
        _set_busy(report, {**jobs[ours], **sizes})
    return report.mapping()


def _set_trl(report: Report, results: Mapping[str, dict[str, Any]], ours: str) -> None:
    tried = [name for name in results if name not in OURS and name != "TRL, defaults"]
    best = max(tried, key=lambda name: _rate(results[name]))
    _set(report, "trl_default_", results["TRL, defaults"])
    _set(report, "trl_best_", results[best])
    report.figures["trl_peak_mb"] = report.figures.pop("trl_best_peak_mb")
    del report.figures["trl_default_peak_mb"]
    # The two sides' steps contain different examples, so steps are not paired.
    report.set("ratio_default", _rate(results[ours]) / _rate(results["TRL, defaults"]))
    report.set("ratio_best", _rate(results[ours]) / _rate(results[best]))
    report.notes.append(f"TRL at its best: {best.removeprefix('TRL, ')}, of {len(tried)} settings.")


def _set_busy(report: Report, job: dict[str, Any]) -> None:
    if usable_cores() < 2:
        report.notes.append("busy_ratio needs two cores.")
        return
    quiet, busy = zip(*_run({**job, "side": "busy"}, "busy_ratio", threads=2)["pairs"], strict=True)
    report.set("busy_ratio", ratio_of_sums(busy, quiet, seed=report.seed), n=len(quiet))


def write_texts(
    path: Path, model: str, max_length: int, seed: int, count: int, quick: bool
) -> tuple[int, str]:
    """Writes ``count`` texts that fit; returns their number and the compute dtype."""
    import torch

    from codegen.core.records import Example, Segment, TrainingText, write_jsonl
    from codegen.data.sources import open_source
    from codegen.finetune.encode import TextEncoder
    from codegen.models import load_tokenizer, pick_dtype

    encoder = TextEncoder(load_tokenizer(model), "chat")
    texts = []
    for example in open_source("stdlib"):
        if not isinstance(example, Example):
            continue  # a program that the source skips
        if quick and len(texts) == 4 * count:
            break
        segments = (Segment(example.instruction + "\n", False), Segment(example.program, True))
        text = TrainingText(example.id, example.id, "whole", segments)
        # Leaves room for the end tokens of another chat template.
        if len(encoder.encode(text)) <= max_length - 8:
            texts.append(text)
    random.Random(seed).shuffle(texts)
    texts = texts[:count]
    write_jsonl(path, texts)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    narrow = pick_dtype(device) == torch.bfloat16
    return len(texts), "bfloat16" if narrow else "float32"


def _run(job: dict[str, Any], name: str, threads: int = 1) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="codegen-bench-finetune-") as output:
        job = {**job, "output": str(Path(output, "out")), "threads": threads}
        done = subprocess.run(
            [sys.executable, str(_WORKER)],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONSAFEPATH": "1"},
        )
    if done.returncode:
        raise CodegenError(f"Fine-tuning ({name}) failed: {done.stderr.strip()[-400:]}")
    result = json.loads(done.stdout)
    if result["cpu_s"]:
        say(f"{name}: {_rate(result):.1f} trained tokens per CPU second")
    return result


def _steps(result: Mapping[str, Any]) -> tuple[list[float], list[int]]:
    """Returns the CPU seconds and trained tokens of each step."""
    seconds = [after - before for before, after in pairwise(result["cpu_s"])]
    return seconds, result["trained"]


def _rate(result: Mapping[str, Any]) -> float:
    seconds, trained = _steps(result)
    return sum(trained) / sum(seconds)


def _set(report: Report, prefix: str, result: Mapping[str, Any]) -> None:
    seconds, trained = _steps(result)
    rate = ratio_of_sums(trained, seconds, seed=report.seed)
    report.set(f"{prefix}tokens_per_s", rate, n=sum(trained))
    report.set(f"{prefix}peak_mb", result["peak_mb"])
