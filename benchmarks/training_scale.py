"""Fine-tuning at scale: memory of the token cache, and `codegen finetune --plan` against real runs.

What: a token cache is made of ``texts`` texts (prompt and completion, some 23 tokens) and of a
tenth of them, each in a process of its own that also plans three epochs and reads 1,000 examples.
``cache_mb`` and ``cache_tenth_mb`` are the peaks of anonymous memory (10^6 bytes) over what the
process had before; ``cache_tokens_per_s`` is per CPU second. Then the embedded model is trained for
two steps with each of the settings ``SETTINGS``; ``measured_NAME_gb`` is the peak of anonymous
memory during the steps over that before the model was loaded, ``planned_NAME_gb`` what the plan
says, and ``ratio_NAME`` planned over measured. ``planned_7b_NAME_gb`` is what the plan says of a
Llama of 7 billion weights (one row of about 2,600 tokens a pass, bfloat16) with each of the
settings ``SEVEN_BILLION``; its weights are not needed.

Against: the plan against the measurement. glibc is told to return large blocks at once
(``MALLOC_MMAP_THRESHOLD_``), so that resident memory is that of the tensors.

Limits: a CPU, one thread, one process. ``--quick`` takes 2,000 texts and one setting.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.errors import CodegenError

SETTINGS: Mapping[str, dict[str, Any]] = {
    "lora": {},
    "lora_recomputed": {"gradient_checkpointing": True},
    "lora_chunks": {"logits_mb": 32},
    "full": {"method": "full", "batch_size": 2},
}
_RECOMPUTED = {"gradient_checkpointing": True}
SEVEN_BILLION: Mapping[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "full_recomputed_8bit": {"method": "full", "optimizer": "adamw_8bit", **_RECOMPUTED},
    "lora_float32": {"base_dtype": "float32"},
    "lora": {},
    "lora_recomputed": _RECOMPUTED,
    "qlora_recomputed": {"method": "qlora", **_RECOMPUTED},
}
_ROWS = 1000  # examples that are read from a cache at random


def run(
    quick: bool = False, *, texts: int = 1_000_000, model: str = "embedded"
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: small.
        texts: in the large cache.
        model: whose tokenizer and weights are used.
    """
    at_least(10, texts=texts)
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "peft")
    texts = 2000 if quick else texts
    for key, count in (("cache_tenth_mb", texts // 10), ("cache_mb", texts)):
        found = _in_process({"work": "cache", "texts": count, "model": model})
        report.set(key, found["peak_mb"], n=count)
        report.set("cache_tokens_per_s", found["tokens"] / found["cpu_s"], n=found["tokens"])
        say(f"{count} texts: {found}")
    for name, options in list(SETTINGS.items())[: 1 if quick else None]:
        found = _in_process({"work": "train", "options": options, "model": model})
        for kind in ("planned", "measured"):
            report.set(f"{kind}_{name}_gb", found[kind] / 1e9)
        report.set(f"ratio_{name}", found["planned"] / found["measured"])
        say(f"{name}: {found}")
    for name, options in list(SEVEN_BILLION.items())[: 0 if quick else None]:
        found = _in_process({"work": "plan", "options": options, "model": model})
        report.set(f"planned_7b_{name}_gb", found["peak"] / 1e9)
        say(f"7B, {name}: {found}")
    return report.mapping()


def _in_process(job: dict[str, Any]) -> dict[str, Any]:
    settings = {
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "MALLOC_MMAP_THRESHOLD_": "65536",
    }
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **settings},
    )
    if done.returncode:
        raise CodegenError(f"{job['work']} failed: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _anonymous() -> int:
    """Bytes of this process's memory that no file holds."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class _Peak:
    """The largest anonymous memory inside the block, sampled every 2 ms."""

    def __enter__(self) -> _Peak:
        self.largest, self._stop = _anonymous(), threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def _sample(self) -> None:
        while not self._stop.wait(0.002):
            self.largest = max(self.largest, _anonymous())

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _recipe(job: dict[str, Any], folder: str, rows: Callable[[Any], None], **options: Any) -> Any:
    from codegen.finetune import parse_recipe

    data = Path(folder, "data.jsonl")
    with data.open("w", encoding="utf-8") as file:
        rows(file)
    values = {"model": job["model"], "data": str(data), "output": str(Path(folder, "out"))}
    return parse_recipe({**values, **options})


def _cache(job: dict[str, Any], folder: str) -> dict[str, Any]:
    import random

    from codegen.finetune.dataset import read_dataset
    from codegen.finetune.plan import plan_of, statistics, steps_of
    from codegen.models import load_tokenizer

    def rows(file: Any) -> None:
        for n in range(job["texts"]):
            row = {"prompt": f"Add {n}.", "completion": f"def f(x):\n    return x + {n}\n"}
            file.write(json.dumps(row) + "\n")

    recipe = _recipe(job, folder, rows, epochs=3, format="plain", batch_size=64)
    load_tokenizer(job["model"])  # its own memory does not count
    before, began = _anonymous(), time.process_time()
    with _Peak() as peak:
        dataset = read_dataset(recipe)
        cpu_s = time.process_time() - began
        recipe = recipe.model_copy(update={"steps": steps_of(recipe, len(dataset.examples))})
        plan = plan_of(recipe, dataset.examples)
        counts = dataset.counts | statistics(dataset.examples, plan)
        rng = random.Random(0)
        for _ in range(_ROWS):
            dataset.examples[rng.randrange(len(dataset.examples))]
    assert counts["examples"] == job["texts"]
    return {"peak_mb": (peak.largest - before) / 1e6, "tokens": counts["tokens"], "cpu_s": cpu_s}


def _train(job: dict[str, Any], folder: str) -> dict[str, Any]:
    import torch

    from codegen.finetune import held_out, trainer  # noqa: F401 - loaded before memory is read
    from codegen.finetune.estimate import estimate
    from codegen.finetune.run import train

    def rows(file: Any) -> None:
        for n in range(16):
            text = "".join(f"value_{k} = {n} + {k}\n" for k in range(20 + n))
            file.write(json.dumps({"prompt": f"Write {n}.", "completion": text}) + "\n")

    torch.set_num_threads(1)
    options: dict[str, Any] = {
        "steps": 2,
        "batch_size": 4,
        "micro_batch_size": 2,
        "max_length": 1024,
    }
    options |= {"dtype": "float32", **job["options"]}
    recipe = _recipe(job, folder, rows, **options)
    planned = estimate(recipe).peak
    before = _anonymous()
    peaks: list[int] = []
    original = trainer.StepTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, num: Any = None) -> Any:
        with _Peak() as peak:
            found = original(self, model, inputs, num)
        peaks.append(peak.largest - before)
        return found

    trainer.StepTrainer.training_step = training_step  # type: ignore[method-assign]
    train(recipe)
    return {"planned": planned, "measured": max(peaks)}


def _plan(job: dict[str, Any], folder: str) -> dict[str, Any]:
    from transformers import LlamaConfig

    from codegen.finetune.estimate import estimate
    from codegen.models import load_tokenizer

    tokenizer = load_tokenizer(job["model"])
    LlamaConfig(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    def rows(file: Any) -> None:
        for _ in range(8):
            file.write(json.dumps({"prompt": "Write.", "completion": "x = 1\n" * 510}) + "\n")

    sizes = {"steps": 100, "batch_size": 8, "micro_batch_size": 1, "max_length": 4096}
    job = {**job, "model": folder}
    recipe = _recipe(job, folder, rows, dtype="bfloat16", **sizes, **job["options"])
    return estimate(recipe, 2e14).to_json()


def _main() -> None:
    job = json.load(sys.stdin)
    work = {"cache": _cache, "train": _train, "plan": _plan}[job["work"]]
    with tempfile.TemporaryDirectory(prefix="codegen-bench-scale-") as folder:
        found = work(job, folder)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main()
