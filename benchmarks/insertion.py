"""Insertion language models: accuracy on star graphs, and the cost of a training step.

What: ``star_easy``, ``star_medium``, ``star_hard`` are the fractions of held-out puzzles that the
insertion model answers exactly, ``autoregressive_...`` an unmodified Llama's of equal size,
trained on the same puzzles for the same number of steps (``steps``; ``parameters`` of the insertion
model). All models are trained from scratch with the settings of ``recipes/ilm_star_easy.yaml``, one
process, one thread; ``-o runs=DIR`` resumes an interrupted run in that directory.
``sequences_per_s``: sequences trained per CPU second, for bodies of 256 tokens, a vocabulary of
8,192 and 4 layers of width 128, forward and backward, in batches of 8; ``speedup`` over the
released code's training is null, since our reimplementation of it was removed. ``answers_per_s`` is
the number of puzzles answered per CPU second with the prefix cached, ``plain_answers_per_s`` with
all tokens recomputed for every insertion.

Against: Llama, and answers without the cached prefix.

Limits: small models on small puzzles; one seed. The whole run takes tens of minutes of CPU time.
``--quick`` trains no model: it runs 100 puzzles on each model in ``-o runs=DIR``, and reports
null for missing ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import rate

if TYPE_CHECKING:
    from codegen.decoding.insertion import InsertionLM, Text

_MODELS = {
    "star_easy": ("star-easy", "insertion"),
    "star_medium": ("star-medium", "insertion"),
    "star_hard": ("star-hard", "insertion"),
    "autoregressive_star_easy": ("star-easy", "llama"),
    "autoregressive_star_medium": ("star-medium", "llama"),
}
_KEYS = (
    *_MODELS,
    *("steps", "parameters"),
    *("speedup", "sequences_per_s", "in_place_sequences_per_s"),
    *("answers_per_s", "plain_answers_per_s"),
)
_REMEDY = "codegen bench insertion -o runs=DIR trains the model, then"
_BODY, _VOCABULARY, _ROWS, _SORTED = 256, 8192, 8, 32


@options(
    quick={"asked": 100},
    needs={
        "steps seed": ("with --quick, which does not train", lambda o: not o["quick"]),
        "asked": ("with --quick but no -o runs=DIR", lambda o: o["runs"] or not o["quick"]),
    },
)
def run(
    quick: bool = False, *, runs: str = "", steps: int = 4000, asked: int = 500, seed: int = 0
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: no training, and only 100 puzzles.
        runs: directory of the training runs, kept; default: a temporary one.
        steps: steps per training run.
        asked: number of held-out puzzles.
        seed: training seed.
    """
    import tempfile

    import torch

    at_least(1, steps=steps, asked=asked)
    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    report.figures |= dict.fromkeys(_KEYS)
    _measure_training(report, rounds=2 if quick else 10)
    with tempfile.TemporaryDirectory(prefix="codegen-bench-insertion-") as temporary:
        folder = Path(runs or temporary)
        for key, (task, kind) in _MODELS.items():
            if not quick:
                say(f"training {key}")
                _train(task, kind, folder, steps, asked, seed)
            model = folder / f"{task}-{kind}" / "model"
            if model.is_dir():
                _ask(report, key, task, model, asked)
            else:
                report.install[key] = f"{_REMEDY} --quick -o runs=DIR runs it"
        _measure_answers(report, folder / "star-easy-insertion" / "model", 40 if quick else 200)
    return report.mapping()


def _train(task: str, kind: str, folder: Path, steps: int, asked: int, seed: int) -> None:
    from codegen.benchmarks.evidence.insertion import settings
    from codegen.finetune import parse_recipe
    from codegen.finetune.lifecycle import train

    recipe = parse_recipe(settings(task, kind, folder, steps=steps, asked=asked, seed=seed))
    train(recipe)


def _ask(report: Report, key: str, task: str, model: Path, asked: int) -> None:
    import json

    import torch

    from codegen.data.sources.synthetic import Puzzles
    from codegen.finetune.recipe import parse_recipe
    from codegen.finetune.sft import exact_match
    from codegen.models import count_parameters, load

    loaded = load(str(model), dtype=torch.float32)
    texts = list(Puzzles(task, "test", asked).texts())
    recipe = parse_recipe(json.loads(json.dumps(loaded.card.recipe)))
    found = exact_match(loaded, texts, recipe.format, recipe.decoder, recipe.seed)
    report.set(key, rate(round(found["exact_match"] * asked), asked), n=asked)
    if key == "star_easy":
        report.set("steps", recipe.steps)
        report.set("parameters", count_parameters(loaded.model))
    say(f"{key}: {found['exact_match']:.3f}")


def _measure_training(report: Report, rounds: int) -> None:
    import numpy as np
    import torch

    from codegen.decoding.insertion.models import drop

    model = _language_model()
    rng = np.random.default_rng(0)
    spent = 0.0
    for number in range(rounds + 1):
        dropped = sorted((drop(_random_text(rng), rng) for _ in range(_SORTED)), key=len)

        def step(items: Any = dropped) -> None:
            for start in range(0, len(items), _ROWS):
                with torch.autocast("cpu", torch.bfloat16):
                    losses = model(**model.collate(items[start : start + _ROWS])).losses
                losses.sum().backward()

        taken = _cpu_s(step)
        spent += taken if number else 0.0  # the first warms up
    count = rounds * _SORTED
    report.set("sequences_per_s", count / spent, n=count)
    report.notes.append("speedup: the released code's training was measured until 2026-12-01.")
    say("training costs measured")


def _language_model() -> InsertionLM:
    import torch

    from codegen.decoding.insertion import InsertionConfig, InsertionLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 4, "dropout": 0.0}
    return InsertionLM(InsertionConfig(vocab_size=_VOCABULARY, **sizes)).train()


def _random_text(rng: Any) -> Text:
    from codegen.decoding.insertion import Text

    return Text([], rng.integers(5, _VOCABULARY, _BODY).tolist())


def _measure_answers(report: Report, model: Path, asked: int) -> None:
    """Measures answers per second, with the prefix cached and recomputed."""
    if not model.is_dir():
        return
    import numpy as np
    import torch

    from codegen.data.sources.synthetic import Puzzles
    from codegen.decoding.insertion import FillOptions, Text
    from codegen.models import load

    loaded = load(str(model), dtype=torch.float32)
    network = loaded.model
    texts = [
        Text(loaded.tokenizer(example.instruction, add_special_tokens=False).input_ids)
        for example in Puzzles("star-easy", "test", asked)
    ]
    options = FillOptions(max_new_tokens=16)

    def answer() -> None:
        network.fill(texts, options, [np.random.default_rng(0) for _ in texts])

    answer()
    remembering = _cpu_s(answer)
    network.remember = lambda _: None
    forgetting = _cpu_s(answer)
    report.set("answers_per_s", asked / remembering, n=asked)
    report.set("plain_answers_per_s", asked / forgetting, n=asked)


def _cpu_s(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
