"""Infilling of code: an insertion language model against fill-in-the-middle, from nothing.

Both kinds of network learn the same texts in the same order: functions and classes of the standard
library (and with ``--corpus installed`` of the installed packages), of each of which a part is
asked for, by lines or by characters, with what stands before and behind it in the order
prefix-suffix-middle (:mod:`codegen.methods.infilling`). The tokens are a byte-level BPE of theirs.
The insertion model writes the middle in any order, the Llama from left to right; only the middle is
trained, and in the third condition, as in the pre-training of FIM models, everything.

Measured on HumanEval-Infilling, greedily, with 95 % intervals over the problems: the share of
middles that are the missing text itself (``exact``), their similarity to it by difflib
(``similar``), ``valid`` syntax of the whole, ``pass@1``; seconds of training.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist
from typing import Any

from codegen.benchmarks.evidence.setting import arguments, once
from codegen.benchmarks.tools.byte_bpe import train_byte_bpe
from codegen.benchmarks.tools.definitions import DefinitionsSource, installed_roots
from codegen.finetune import parse_recipe
from codegen.finetune.run import train
from codegen.methods.infilling import Infilling, Unsuitable
from codegen.records import Example, TrainingText, write_jsonl

STYLE = "fim-qwen"
# Condition -> (network, what is trained).
CONDITIONS: Mapping[str, tuple[str, str]] = {
    "insertion": ("insertion", "middle"),
    "left to right": ("llama", "middle"),
    "left to right, all trained": ("llama", "all"),
}
TASKS = ("humaneval-single-line", "humaneval-random-span-light")
MEASURES = {"exact": "exact_match", "similar": "edit_similarity", "valid": "valid_syntax"}
# The paper's settings for infilling; no gap is empty.
_INFILLING = {"insist": True, "stop_threshold": 0.8}
_Z = NormalDist().inv_cdf(0.975)


def programs(corpus: str) -> list[Example]:
    """Definitions of 3 to 40 lines, in a fixed random order, each once."""
    roots = installed_roots() if corpus == "installed" else installed_roots()[:1]
    source = DefinitionsSource(roots, min_lines=3, max_lines=40)
    found = {item.program: item for item in source if isinstance(item, Example)}
    chosen = list(found.values())
    random.Random(0).shuffle(chosen)
    return chosen


def make_tokenizer(folder: Path, texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-level BPE of the texts, digits apart, with the sentinels of the style."""
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").exists():
        made = train_byte_bpe(texts, vocabulary, Infilling(style=STYLE).sentinels)
        made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def texts_of(
    examples: Sequence[Example], tokenizer: Any, *, loss: Any, longest: int, middle: int, seed: int
) -> Iterator[TrainingText]:
    """Infilling texts, two of each example, but for those with too many tokens."""
    generator = Infilling(style=STYLE, spans="line,char", loss=loss, sequences=2)
    for example in examples:
        rng = random.Random(f"{seed}:{example.id}")
        try:
            made = list(generator.generate(example, rng))
        except Unsuitable:
            continue
        for text in made:
            asked, written = (tokenizer(s.text).input_ids for s in text.segments)
            if len(asked) + len(written) <= longest and 0 < len(written) <= middle:
                yield text


def run(out: Path, condition: str, seed: int, options: Any) -> Mapping[str, Any]:
    """One condition with one seed, trained and measured."""
    kind, loss = CONDITIONS[condition]
    examples = programs(options.corpus)
    folder = out / "tokenizer"
    tokenizer = make_tokenizer(folder, [e.program for e in examples], options.vocabulary)
    data = out / "data" / f"{loss}.jsonl"
    if not data.exists():
        limits = {"longest": options.longest, "middle": options.middle, "seed": 0}
        write_jsonl(data, list(texts_of(examples, tokenizer, loss=loss, **limits)))
    name = f"{condition.replace(', ', '-').replace(' ', '_')}-{seed}"
    draws = options.draws if kind == "insertion" else 1
    recipe: dict[str, Any] = {
        "model": "new",
        "network": {
            "kind": kind,
            "layers": options.layers,
            "width": options.width,
            "heads": options.width // 32,
            "tokenizer": str(folder),
            "draws": draws,
        },
        "data": str(data),
        "output": str(out / "runs" / name),
        "method": "full",
        "format": "plain",
        "decoder": "insertion" if kind == "insertion" else "sample",
        "steps": options.steps,
        "batch_size": 32,
        "micro_batch_size": 8,
        "max_length": options.longest + 8,
        "optimizer": "muon",
        "learning_rate": 2e-3,
        "muon_rate": 0.02,
        "schedule": "linear",
        "warmup": 0.02,
        "save_every": 250,
        "seed": seed,
    }
    if kind == "insertion":
        recipe["network"] |= {"final_norm": True, "prefix_apart": True, "mixes_neighbours": True}
    else:
        recipe |= {"packing": "best_fit"}
    result = train(parse_recipe(recipe), on_message=print)
    found: dict[str, Any] = {
        "parameters": result.trainable_parameters,
        "train_s": result.seconds,
        "loss": result.losses[-1][1],
    }
    for task in TASKS:
        found[task] = measure(task, result.model, recipe["decoder"], out / "eval" / name, options)
    return found


def measure(
    task: str, model: str, decoder: str, out: Path, options: Any
) -> dict[str, tuple[float, float]]:
    """Name -> (mean over the problems, half of its 95 % interval)."""
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.scoring import score
    from codegen.evals.tasks import load as load_task
    from codegen.evaluate import sample_task
    from codegen.generation.protocol import Decoder, SamplingParams

    loaded = load_task(task)
    began = time.process_time()
    made = sample_task(
        loaded,
        model,
        SamplingParams(max_new_tokens=options.middle * 2, temperature=0.0),
        n=1,
        out=out / task,
        style=STYLE,
        decoder=Decoder(decoder, _INFILLING if decoder == "insertion" else {}),
        limit=options.limit or None,
    )
    seconds = time.process_time() - began
    with Sandbox(workers=1) as sandbox:
        scored = score(made.path, loaded, out=out / task, sandbox=sandbox)
    passed = scored.estimates[1]
    found = {
        name: (scored.measures[key].mean, _Z * (scored.measures[key].stderr or 0.0))
        for name, key in MEASURES.items()
    }
    low, high = passed.tasks_low, passed.tasks_high
    half = (high - low) / 2 if low is not None and high is not None else 0.0
    return {**found, "pass@1": (passed.value, half), "write_cpu_s": (seconds, 0.0)}


def table(rows: Sequence[tuple[str, int, Mapping[str, Any]]]) -> str:
    """A Markdown table of all runs."""
    columns = (*MEASURES, "pass@1")
    lines = [
        "| condition | seed | task | " + " | ".join(columns) + " | parameters | training, s |",
        "|---" * (len(columns) + 5) + "|",
    ]
    for condition, seed, found in rows:
        for task in TASKS:
            cells = [f"{100 * mean:.1f} ± {100 * half:.1f}" for mean, half in
                     (found[task][name] for name in columns)]  # fmt: skip
            more = [str(found["parameters"]), f"{found['train_s']:.0f}"]
            lines.append("| " + " | ".join([condition, str(seed), task, *cells, *more]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Runs what is not there and prints the table."""
    options = arguments(
        __doc__ or "", steps=3000, width=128, layers=4, vocabulary=2048, draws=2, longest=256,
        middle=56, limit=0, corpus="library",
    )  # fmt: skip
    rows = []
    for seed in range(options.seeds):
        for condition in CONDITIONS:
            name = condition.replace(", ", "-").replace(" ", "_")
            found = once(
                options.out / "results" / f"{name}-{seed}.json",
                lambda c=condition, s=seed: run(options.out, c, s, options),
            )
            rows.append((condition, seed, found))
            print(condition, seed, found, flush=True)  # noqa: T201
    print(table(rows))  # noqa: T201


if __name__ == "__main__":
    main()
