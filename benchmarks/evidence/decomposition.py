"""Dataset Decomposition against fixed lengths, on source code, at equal tokens.

A small transformer from scratch reads the modules of the standard library (a byte-level BPE of
2,048 tokens, trained on them), in three conditions with the same number of tokens a step:

- ``fixed``: every file in pieces of 256 tokens, the rest of a file left out;
- ``uniform``: pieces of 32 to 256 tokens (Dataset Decomposition), lengths drawn evenly;
- ``grow``: the same pieces, short ones first, in four cycles (Grow-P2).

Measured: negative log-likelihood in nats a token on held-out modules, cut to 256 tokens
(``held_out``), at half and at the end of the run; and CPU seconds of training.
"""

from __future__ import annotations

import random
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.setting import arguments, once, save_llama, table
from codegen.finetune import parse_recipe
from codegen.finetune.run import train
from codegen.records import Segment, TrainingText, write_jsonl

_LONGEST = 256
CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "fixed": {"least": _LONGEST, "odds": "uniform"},
    "uniform": {"least": 32, "odds": "uniform"},
    "grow": {"least": 32, "odds": "grow_p2", "cycles": 4},
}
COLUMNS = ("held_out_half", "held_out", "cpu_s")


def modules() -> list[str]:
    """The texts of the standard library's modules, in a fixed random order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [p for p in sorted(root.rglob("*.py")) if not {"test", "tests", "site-packages",
             "idlelib", "lib2to3"} & set(p.relative_to(root).parts)]  # fmt: skip
    random.Random(0).shuffle(paths)
    texts = (path.read_text("utf-8", "replace") for path in paths)
    return [text for text in texts if 500 < len(text) < 60_000]


def model_of(folder: Path, texts: list[str], seed: int, hidden: int) -> Path:
    """A random model with a tokenizer trained on the texts."""
    if (folder / "tokenizer.json").exists():
        return folder
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    core = ByteLevelBPETokenizer()
    core.train_from_iterator(texts, 2048, special_tokens=["<eos>", "<pad>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core._tokenizer, eos_token="<eos>", pad_token="<pad>"
    )
    save_llama(folder, len(tokenizer), hidden=hidden, layers=4, positions=512, seed=seed)
    tokenizer.save_pretrained(folder)
    return folder


def run(out: Path, condition: str, seed: int, steps: int, hidden: int) -> Mapping[str, Any]:
    """One condition with one seed: its measures."""
    texts = modules()
    held, learnt = texts[:60], texts[60:]
    model = model_of(out / "models" / f"start-{seed}", learnt, seed, hidden)
    paths = {}
    for name, some in (("learnt", learnt), ("held", held)):
        paths[name] = out / "data" / f"{name}.jsonl"
        rows = [TrainingText(f"{name}{i}", f"{name}{i}", "raw", (Segment(text, True),))
                for i, text in enumerate(some)]  # fmt: skip
        write_jsonl(paths[name], rows)
    # The first tokens of the held-out modules, the same for all conditions.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    short = []
    for i, text in enumerate(held):
        ids = tokenizer(text).input_ids[: _LONGEST - 8]
        short.append(TrainingText(f"h{i}", f"h{i}", "raw", (Segment(tokenizer.decode(ids), True),)))
    write_jsonl(paths["held"], short)
    began = time.process_time()
    result = train(
        parse_recipe(
            {
                "model": str(model),
                "data": str(paths["learnt"]),
                "output": str(out / "runs" / f"{condition}-{seed}"),
                "steps": steps,
                "method": "full",
                "format": "plain",
                "max_length": _LONGEST,
                "learning_rate": 2e-3,
                "schedule": "cosine",
                "warmup": 0.05,
                "dtype": "float32",
                "seed": seed,
                "save_every": steps,
                "curriculum": {
                    "mode": "decompose",
                    "tokens_per_step": 4096,
                    "micro_batch_tokens": 4096,
                    **CONDITIONS[condition],
                },
                "evaluation": {"data": str(paths["held"]), "every": steps // 2, "keep": "last"},
            }
        )
    )
    scores = dict(result.evaluations)
    return {
        "held_out_half": scores[steps // 2],
        "held_out": scores[2 * (steps // 2)],
        "cpu_s": time.process_time() - began,
    }


def main() -> None:
    """Runs all conditions and seeds, and prints the table."""
    options = arguments(__doc__ or "", steps=200, hidden=96)
    rows: dict[str, list[dict[str, Any]]] = {}
    for condition in CONDITIONS:
        for seed in range(options.seeds):
            found = once(
                options.out / "results" / f"{condition}-{seed}.json",
                lambda c=condition, s=seed: run(options.out, c, s, options.steps, options.hidden),
            )
            rows.setdefault(condition, []).append(found)
            print(condition, seed, found, flush=True)  # noqa: T201
    print(table(rows, COLUMNS))  # noqa: T201


if __name__ == "__main__":
    main()
