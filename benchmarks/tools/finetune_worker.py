"""Fine-tunes one model on given texts with one side's trainer, and reports the cost of each step.

Runs in a separate process for each run. It reads one JSON object: ``side`` (``ours``, ``trl``, or
``busy``), ``threads``, ``model``, ``data`` (a JSONL file of training texts), ``output``, ``steps``,
``batch_size``, ``options`` (of that side) and ``path`` (a directory that contains TRL, or empty).
It prints another: CPU seconds when training begins and at the end of each step; the trained tokens
of each step; and the peak of resident memory in MB. With ``wall`` in the job, the seconds are wall
time after the GPU has finished the step, and the peak is of the GPU's memory.

``busy`` is ours on two cores: each step's forward and backward pass is run twice, once while
another process of ours keeps one core busy. It prints ``pairs`` of CPU seconds (quiet, busy); the
first step warms up and is omitted.

Both sides make chat texts of prompt and response, train on the response only, with adapters of the
same shape (LoRA, rank 16, all linear layers, alpha 32), with AdamW, and use the same number of
examples per step.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


class Clock:
    """CPU seconds of this process at each step's end.

    Args:
        wall: use wall time instead, after synchronizing the GPU.
    """

    def __init__(self, wall: bool = False) -> None:
        self.wall = wall
        self.steps: list[float] = []
        self.trained: list[int] = []

    def tick(self) -> None:
        """Records the start of training or the end of a step."""
        self.steps.append(_settled() if self.wall else time.process_time())


def _settled() -> float:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_mb(wall: bool) -> float:
    import torch

    if wall and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _ours(job: dict[str, Any], clock: Clock) -> None:
    import torch

    from codegen.finetune import parse_recipe
    from codegen.finetune import sft as trainers
    from codegen.finetune.lifecycle import train

    original = trainers.StepTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, num: Any = None) -> Any:
        if not clock.trained:
            clock.tick()
        clock.trained.append(inputs[1])
        return original(self, model, inputs, num)

    trainers.StepTrainer.training_step = training_step  # type: ignore[method-assign]
    recipe = {
        "model": job["model"],
        "data": job["data"],
        "output": job["output"],
        "steps": job["steps"],
        "batch_size": job["batch_size"],
        "max_length": job["max_length"],
        "save_every": 10_000,
        "seed": job["seed"],
        **job["options"],
    }
    torch.set_num_threads(job["threads"])
    train(parse_recipe(recipe), on_step=lambda *_: clock.tick())


def _busy(job: dict[str, Any], pairs: list[tuple[float, float]]) -> None:
    from codegen.finetune import sft as trainers

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job["threads"]])
    original = trainers.StepTrainer.training_step
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])

    def training_step(self: Any, model: Any, inputs: Any, num: Any = None) -> Any:
        seconds, loss = {}, None
        for busy in (False, True) if len(pairs) % 2 else (True, False):
            other.send_signal(signal.SIGCONT if busy else signal.SIGSTOP)
            began = time.process_time()
            loss = original(self, model, inputs, num)
            seconds[busy] = time.process_time() - began
        pairs.append((seconds[False], seconds[True]))
        return loss

    trainers.StepTrainer.training_step = training_step  # type: ignore[method-assign]
    try:
        _ours(job, Clock())
    finally:
        other.kill()
        other.wait()
    del pairs[0]


def _trl(job: dict[str, Any], clock: Clock) -> None:
    import torch

    if job["path"]:
        sys.path.insert(0, job["path"])
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from codegen.core.records import TrainingText, read_jsonl
    from codegen.models import load

    torch.set_num_threads(job["threads"])
    loaded = load(job["model"], dtype=torch.float32)
    loaded.tokenizer.padding_side = "right"
    rows = [
        {
            "prompt": [{"role": "user", "content": text.prompt.strip()}],
            "completion": [{"role": "assistant", "content": text.trained}],
        }
        for text in read_jsonl(TrainingText, Path(job["data"]))
    ]
    options = dict(job["options"])
    config = SFTConfig(
        output_dir=job["output"],
        max_steps=job["steps"],
        max_length=job["max_length"],
        learning_rate=3e-4,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=loaded.model.device.type == "cpu",
        dataloader_pin_memory=False,
        seed=job["seed"],
        **options,
    )

    class Tick(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.tick()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    trainer = SFTTrainer(
        model=loaded.model,
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=loaded.tokenizer,
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
        callbacks=[Tick()],
    )
    collate = trainer.data_collator
    counted: list[int] = []

    def counting(features: Any) -> Any:
        batch = collate(features)
        counted.append(int((batch["labels"] != -100).sum()))
        return batch

    trainer.data_collator = counting
    trainer.train()
    size = config.gradient_accumulation_steps
    clock.trained = [sum(counted[k * size : (k + 1) * size]) for k in range(job["steps"])]


def _main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    job = json.loads(sys.stdin.read())
    clock = Clock(bool(job.get("wall")))
    pairs: list[tuple[float, float]] = []
    if job["side"] == "busy":
        _busy(job, pairs)
    else:
        (_ours if job["side"] == "ours" else _trl)(job, clock)
    peak = _peak_mb(clock.wall)
    out.write(
        json.dumps(
            {"cpu_s": clock.steps, "trained": clock.trained, "peak_mb": peak, "pairs": pairs}
        )
        + "\n"
    )


if __name__ == "__main__":
    _main()
