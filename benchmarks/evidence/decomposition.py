"""Dataset Decomposition against fixed lengths, on source code, at equal tokens.

A small transformer from scratch reads the modules of the standard library (a byte-level BPE of
2,048 tokens, trained on them), in three conditions with the same number of tokens per step:

- ``fixed``: every file in chunks of 256 tokens, the rest of a file dropped;
- ``uniform``: chunks of 32 to 256 tokens (Dataset Decomposition), lengths sampled evenly;
- ``grow``: the same chunks, short ones first, in four cycles (Grow-P2).

Measured: negative log-likelihood in nats per token on held-out modules, cut to 256 tokens
(``held_out``), at half and at the end of the run; and CPU seconds of training.
"""

from __future__ import annotations

import random
import sysconfig
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.benchmarks.evidence.harness import Experiment, save_llama, train_small
from codegen.core.records import Segment, TrainingText, write_jsonl
from codegen.models.pretrained import train_byte_bpe

_LONGEST = 256
CONDITIONS: Mapping[str, Mapping[str, Any]] = {
    "fixed": {"least": _LONGEST, "odds": "uniform"},
    "uniform": {"least": 32, "odds": "uniform"},
    "grow": {"least": 32, "odds": "grow_p2", "cycles": 4},
}


def modules() -> list[str]:
    """Returns the standard library's modules, in a fixed random order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [p for p in sorted(root.rglob("*.py")) if not {"test", "tests", "site-packages",
             "idlelib", "lib2to3"} & set(p.relative_to(root).parts)]  # fmt: skip
    random.Random(0).shuffle(paths)
    texts = (path.read_text("utf-8", "replace") for path in paths)
    return [text for text in texts if 500 < len(text) < 60_000]


def run(out: Path, condition: str, seed: int, options: Any) -> Mapping[str, Any]:
    """Runs one condition with one seed and returns its measures."""
    texts = modules()
    held, learnt = texts[:60], texts[60:]
    model = out / "models" / f"start-{seed}"
    tokenizer = train_byte_bpe(learnt, 2048)
    save_llama(model, len(tokenizer), hidden=options.hidden, layers=4, positions=512, seed=seed)
    tokenizer.save_pretrained(model)
    # The first tokens of the held-out modules, the same for all conditions.
    cut = [tokenizer.decode(tokenizer(text).input_ids[: _LONGEST - 8]) for text in held]
    paths = {}
    for name, some in (("learnt", learnt), ("held", cut)):
        paths[name] = out / "data" / f"{name}.jsonl"
        rows = [TrainingText(f"{name}{i}", f"{name}{i}", "raw", (Segment(text, True),))
                for i, text in enumerate(some)]  # fmt: skip
        write_jsonl(paths[name], rows)
    half = options.steps // 2
    began = time.process_time()
    result = train_small(
        model, paths["learnt"], out / "runs" / f"{condition}-{seed}",
        steps=options.steps, seed=seed, max_length=_LONGEST,
        curriculum={
            "mode": "decompose", "tokens_per_step": 4096, "micro_batch_tokens": 4096,
            **CONDITIONS[condition],
        },
        evaluation={"data": str(paths["held"]), "every": half, "keep": "last"},
    )  # fmt: skip
    scores = dict(result.evaluations)
    return {
        "held_out_half": scores[half],
        "held_out": scores[2 * half],
        "cpu_s": time.process_time() - began,
    }


EXPERIMENT = Experiment(
    __doc__ or "",
    tuple(CONDITIONS),
    ("held_out_half", "held_out", "cpu_s"),
    run,
    {"steps": 200, "hidden": 96},
)

if __name__ == "__main__":
    EXPERIMENT.main()
