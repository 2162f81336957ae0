"""Supervised fine-tuning with LoRA in one flat script: copy it and change what you need.

    codegen data lintseq stdlib --out runs/data/lintseq
    python recipes/sft_loop.py data=runs/data/lintseq output=runs/sft_loop steps=200
    codegen generate --model runs/sft_loop/model --decoder edit_sequence --chat --prompt '...'

It loads a model, reads a data directory, masks the loss by the segments of each text, packs
examples into rows, trains, evaluates and saves. `codegen finetune lintseq` computes
the same losses and adds exact resuming, several processes and GPUs, and the other methods
(SequenceMatch, mixtures, curricula, sorted drafts, infilling). If interrupted, this script starts
over.

Expect: the loss of `recipes/lintseq.yaml` at each step, up to rounding, if the settings agree.
"""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from pydantic import Field

from codegen.core.config import Config, run_script
from codegen.core.errors import InputError
from codegen.finetune.batch_plan import make_plan
from codegen.finetune.batches import MicroBatch, attending, check, collate, held_out_batches
from codegen.finetune.dataset import EncodingStats, encode_rows, read_training_rows
from codegen.finetune.encode import TextEncoder
from codegen.finetune.losses import negative_log_likelihood
from codegen.models import ModelCard, load, pick_dtype, write_card


class Settings(Config):
    """Settings, set by key=value on the command line."""

    model: str = Field("embedded", description="'embedded', a directory or a hub id")
    data: str = Field(description="a data directory, or a file of texts or conversations")
    held_out: str = Field("", description="held-out data for evaluation; empty for none")
    output: str = Field("runs/sft_loop", description="directory for the model and metrics.jsonl")
    decoder: str = Field("edit_sequence", description="decoder for the outputs")
    steps: int = Field(200, ge=1, description="optimizer steps")
    batch_size: int = Field(8, ge=1, description="examples per optimizer step")
    max_length: int = Field(512, ge=8, description="maximum tokens per example and per row")
    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate")
    warmup_steps: int = Field(10, ge=0, description="linear warmup steps")
    rank: int = Field(16, ge=1, description="rank of the adapter")
    evaluate_every: int = Field(50, ge=1, description="steps between evaluations")
    seed: int = Field(0, ge=0, description="random seed of the data order and adapter weights")


def main(settings: Settings) -> list[dict[str, Any]]:
    """Trains, writes the model and ``metrics.jsonl``, and returns the metrics of each step."""
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)

    # The model in float32, with an adapter on all linear layers.
    loaded = load(settings.model, dtype=torch.float32)
    tokenizer, device = loaded.tokenizer, loaded.model.device
    attention = check(loaded.model, "auto")  # block by block where the model supports it
    torch.manual_seed(settings.seed)
    adapter = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    loaded.model.config.use_cache = False
    model = get_peft_model(loaded.model, adapter)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=0.01)

    # Each text has segments, flagged as trained or not.
    encoder, facts = TextEncoder(tokenizer, "chat"), EncodingStats()
    rows = (("", row) for row in read_training_rows(settings.data))
    examples = list(encode_rows(rows, encoder, facts, max_length=settings.max_length))
    print(f"{len(examples)} examples; dropped: {dict(facts.dropped) or 'none'}")
    if not examples:
        raise InputError(f"No text of {settings.data} can be trained on.", "Raise max_length.")
    held_out: list[MicroBatch] = []
    held_out_weight = 0.0
    if settings.held_out:
        rows = (("", row) for row in read_training_rows(settings.held_out))
        evaluated = list(encode_rows(rows, encoder, facts, max_length=settings.max_length))
        held_out = list(held_out_batches(evaluated, tokenizer.pad_token_id))
        held_out_weight = sum(example.weight for example in evaluated)

    # Order: a new permutation per epoch; each step's examples are packed into rows.
    plan = make_plan(
        examples,
        steps=settings.steps,
        batch_size=settings.batch_size,
        micro_batch_size=1,
        seed=settings.seed,
        row_length=settings.max_length,
    )

    def precision() -> contextlib.AbstractContextManager[Any]:
        is_half = pick_dtype(device.type) == torch.bfloat16
        return torch.autocast(device.type, torch.bfloat16, enabled=is_half)

    metrics: list[dict[str, Any]] = []
    for step in range(settings.steps):
        started = time.perf_counter()

        # Linear warmup, then linear decay to 0.
        rising = step / max(1, settings.warmup_steps)
        falling = (settings.steps - step) / max(1, settings.steps - settings.warmup_steps)
        rate = settings.learning_rate * min(rising if step < settings.warmup_steps else 1, falling)
        for group in optimizer.param_groups:
            group["lr"] = rate

        # The weighted mean over all trained tokens of the step, across rows.
        model.train()
        total = sum(examples[number].weight for number in plan.numbers(step))
        loss = 0.0
        with attending(loaded.model, attention):
            for rows in plan.steps[step]:
                batch = collate(examples, rows, tokenizer.pad_token_id, attention=attention)
                with precision():
                    losses = negative_log_likelihood(model, batch.to(device))
                (losses.sum() / total).backward()
                loss += float(losses.detach().sum()) / total
        norm = float(torch.nn.utils.clip_grad_norm_(trained, 1.0))
        optimizer.step()
        optimizer.zero_grad()

        row: dict[str, Any] = {"step": step + 1, "loss": loss, "rate": rate, "norm": norm}
        if held_out and (step + 1) % settings.evaluate_every == 0:
            model.eval()
            with torch.inference_mode(), precision():
                parts = [negative_log_likelihood(model, batch.to(device)) for batch in held_out]
            row["held_out"] = float(torch.cat(parts).sum()) / held_out_weight
        row["seconds"] = time.perf_counter() - started
        metrics.append(row)
        print(" ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)

    # The adapter and tokenizer, with a card that says how to prompt the model.
    folder = output / "model"
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(folder)
    base = str(Path(settings.model).resolve()) if loaded.origin == "path" else settings.model
    card = ModelCard(base, loaded.fingerprint, "chat", settings.decoder, settings.model_dump())
    write_card(folder, card)
    lines = "".join(json.dumps(row) + "\n" for row in metrics)
    (output / "metrics.jsonl").write_text(lines, encoding="utf-8")
    return metrics


if __name__ == "__main__":
    run_script(Settings, main, "sft_loop")
