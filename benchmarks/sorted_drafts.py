"""Sorted drafts (S2D) in miniature, trained from scratch: acceptance and tokens per pass.

A tokenizer of 2,048 tokens, a target (8 layers of width 128), a nested draft (6 layers of width 96,
exits after 2, 4 and 6) by sorted fine-tuning, and the same draft trained at its full depth alone,
all on files of the standard library; then greedy continuations of held-out files with either draft:

- ``ladder``: each drafted token exits at the first exit whose probability is above 0.5; ``ahead``
  is the variant for GPUs, where each draft has one depth, determined by the previous draft;
- ``full``: all tokens exit after 6 layers; ``skip_2``: after 2 (layer skipping);
- ``self_2``: the target's first two layers draft (self-speculation without training).

For each, with draft D in ``sorted`` and ``plain``: ``D_METHOD_tokens_per_pass`` (of the target),
``_acceptance`` (accepted over verified tokens), ``_layers`` (draft layers run per drafted token,
prompts excluded). ``same`` is the fraction of completions equal to plain decoding's, over all
methods; in float32 it must be 1. ``D_loss_2``, ``_4``, ``_6`` are held-out losses in nats per
token.

Limits: models of one or two million parameters and 300,000 tokens. The cost of a draft relative to
its target differs from real pairs', so no speed is reported. With ``-o folder=DIR`` the models are
kept there and not retrained.
"""

from __future__ import annotations

import random
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import rate, ratio_of_sums
from codegen.models.pretrained import train_byte_bpe

_VOCABULARY, _CHUNK, _PROMPT, _DRAFTED = 2048, 128, 64, 5
_EXITS = (2, 4, 6)
_FILES = 160
_LARGEST = 60_000  # maximum characters of a source file; data tables are larger
_TARGET = {"layers": 8, "width": 128, "heads": 4}
_DRAFT = {"layers": 6, "width": 96, "heads": 4}


@options(quick={"steps": 3, "prompts": 2, "max_new_tokens": 16})
def run(
    quick: bool = False,
    *,
    steps: int = 300,
    prompts: int = 12,
    max_new_tokens: int = 40,
    folder: str = "",
    seed: int = 0,
) -> Mapping[str, object]:
    """Trains and measures.

    Args:
        quick: 3 steps, 2 prompts and 16 tokens, only to test that it runs.
        steps: steps per training run, 8 chunks of 128 tokens each.
        prompts: number of held-out files to continue.
        max_new_tokens: maximum tokens per completion.
        folder: directory for the models, reused if they exist.
        seed: seed of training, samples and bootstrap.
    """
    at_least(1, steps=steps, prompts=prompts, max_new_tokens=max_new_tokens)
    import torch

    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(folder or temporary)
        place.mkdir(parents=True, exist_ok=True)
        training, held_out = _corpus(seed, _FILES // 8 if quick else _FILES)
        if not (place / "held_out.jsonl").is_file():
            _write(place, training, held_out)
        drafts = {}
        for name, loss in (("sorted", "sorted"), ("plain", "mle")):
            drafts[name], losses = _train(place, name, _DRAFT, loss, steps, seed)
            for depth, value in losses.items():
                report.set(f"{name}_loss_{depth}", value)
        target, losses = _train(place, "target", _TARGET, "mle", steps, seed)
        report.set("target_loss", losses[_TARGET["layers"]])
        rows = _prompts(target, held_out, prompts)
        _compare(report, target, drafts, rows, max_new_tokens)
    report.samples["prompts"] = prompts
    return report.mapping()


def _compare(
    report: Report, target: Any, drafts: Mapping[str, Any], prompts: Sequence[list[int]], new: int
) -> None:
    """Measures all methods."""
    from codegen.decoding.strategies.sorted import Nested

    plain = [_decode(target, prompt, new, None)[0] for prompt in prompts]
    methods: dict[str, tuple[Nested, dict[str, Any], bool]] = {}
    for draft, loaded in drafts.items():
        nested = Nested(loaded.model, _EXITS)
        methods[f"{draft}_ladder"] = nested, {}, False
        methods[f"{draft}_ahead"] = nested, {}, True
        methods[f"{draft}_full"] = nested, {"thresholds": (1.0,)}, False
        methods[f"{draft}_skip_2"] = Nested(loaded.model, (2,)), {}, False
    methods["self_2"] = Nested(target.model, (2,)), {}, False
    same = 0
    for key, (nested, method, ahead) in methods.items():
        same += _measure(report, key, target, nested, method, ahead, prompts, new, plain)
    total = len(methods) * len(prompts)
    report.set("same", rate(same, total), n=total)


def _measure(
    report: Report,
    key: str,
    target: Any,
    nested: Any,
    options: Mapping[str, Any],
    ahead: bool,
    prompts: Sequence[list[int]],
    new: int,
    plain: Sequence[list[int]],
) -> int:
    """Sets the results of one method; returns the number of completions equal to plain ones."""
    from codegen.decoding.strategies.sorted import ExitCounts, SortedDrafter

    made: list[int] = []
    passes: list[int] = []
    equal = layers = drafted = reached = accepted = 0
    for prompt, expected in zip(prompts, plain, strict=True):
        tally = ExitCounts()
        drafter = SortedDrafter(nested, tokens=_DRAFTED, tally=tally, **options)
        tokens, taken = _decode(target, prompt, new, drafter, ahead)
        equal += tokens == expected
        made.append(len(tokens))
        passes.append(taken)
        drafted, reached = drafted + sum(tally.drafted), reached + sum(tally.reached)
        accepted += sum(tally.accepted)
        borders = zip((0, *nested.exits), nested.exits, strict=False)
        for encoded, (first, end) in zip(tally.encoded, borders, strict=True):
            layers += max(0, encoded - len(prompt)) * (end - first)
    report.set(f"{key}_tokens_per_pass", ratio_of_sums(made, passes, seed=report.seed))
    report.set(f"{key}_acceptance", rate(accepted, reached), n=reached)
    report.set(f"{key}_layers", layers / drafted, n=drafted)
    say(f"{key}: {sum(made) / sum(passes):.2f} per pass, {accepted / max(reached, 1):.1%} accepted")
    return equal


def _decode(
    loaded: Any, prompt: list[int], new: int, drafter: Any, ahead: bool = False
) -> tuple[list[int], int]:
    """Returns the greedy tokens and the number of the target's passes."""
    from codegen.decoding.loop import Row, decode
    from codegen.decoding.strategies.sorted import SortedSpeculation

    row = Row(list(prompt), [0.0] * new)
    speculation = SortedSpeculation([drafter], _DRAFTED, ahead) if drafter else None
    decode(loaded.model, [row], max_new_tokens=new, temperature=0, top_p=1, eos=frozenset(),
           strategy=speculation)  # fmt: skip
    return row.tokens, speculation.passes if speculation else len(row.tokens)


def _corpus(seed: int, files: int) -> tuple[list[str], list[str]]:
    """Returns sources of the standard library for training, and every fifth file for evaluation."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts = []
    for path in sorted(root.rglob("*.py")):
        if {"test", "tests", "site-packages", "idlelib", "lib2to3"} & set(path.parts):
            continue
        text = path.read_text("utf-8", errors="ignore")
        if 2000 < len(text) <= _LARGEST:
            texts.append(text)
    random.Random(seed).shuffle(texts)
    texts = texts[:files]
    return [text for number, text in enumerate(texts) if number % 5], texts[::5]


def _write(place: Path, training: Sequence[str], held_out: Sequence[str]) -> None:
    """Writes the tokenizer, and chunks of equal length as training texts."""
    from codegen.core.records import Segment, TrainingText, write_jsonl

    # A new model adds three special tokens.
    tokenizer = train_byte_bpe(training, _VOCABULARY - 3)
    tokenizer.save_pretrained(place / "tokenizer")
    core = tokenizer.backend_tokenizer
    for name, texts in (("train", training), ("held_out", held_out[::2])):
        rows = []
        for number, text in enumerate(texts):
            pieces = core.encode(text)
            for start in range(0, len(pieces.ids) - _CHUNK, _CHUNK):
                first, last = pieces.offsets[start][0], pieces.offsets[start + _CHUNK - 2][1]
                split = pieces.offsets[start + 3][1]
                segments = (Segment(text[first:split], False), Segment(text[split:last], True))
                at = f"{number}-{start}"
                rows.append(TrainingText(at, at, "whole", segments))
        write_jsonl(place / f"{name}.jsonl", rows if name == "train" else rows[:64])


def _train(
    place: Path, name: str, sizes: Mapping[str, int], loss: str, steps: int, seed: int
) -> tuple[Any, dict[int, float]]:
    """Trains or reloads a model in float32; also returns its held-out losses by depth."""
    import torch

    from codegen.finetune import parse_recipe
    from codegen.finetune.lifecycle import train
    from codegen.models import load

    is_draft = sizes is _DRAFT
    row: dict[str, Any] = {
        "model": "new",
        "network": {"kind": "llama", "tokenizer": str(place / "tokenizer"), **sizes},
        "data": str(place / "train.jsonl"),
        "output": str(place / name),
        "loss": loss,
        "method": "full",
        "format": "plain",
        "steps": steps,
        "batch_size": 8,
        "micro_batch_size": 8,
        "max_length": _CHUNK + 16,
        "optimizer": "muon",
        "learning_rate": 3e-3,
        "dtype": "float32",
        "save_every": 10_000,
        "seed": seed,
        "evaluation": {"data": str(place / "held_out.jsonl"), "every": steps, "keep": "last"},
    }
    if is_draft:
        row["sorted"] = {"exits": list(_EXITS)}
    result = train(parse_recipe(row))
    losses = {sizes["layers"]: result.evaluations[-1][1]}
    for depth in _EXITS if is_draft else ():
        losses[depth] = result.parts[f"eval_loss_layer_{depth}"][-1][1]
    by_depth = ", ".join(f"{loss:.2f} ({depth} layers)" for depth, loss in sorted(losses.items()))
    say(f"{name}: {result.tokens_per_s:.0f} tokens/s, held-out loss {by_depth}")
    return load(result.model, dtype=torch.float32, device="cpu"), losses


def _prompts(target: Any, texts: Sequence[str], count: int) -> list[list[int]]:
    """Returns ``_PROMPT`` tokens from the middle of each file not used in training."""
    found = []
    for text in texts[1::2]:
        middle = text.find("\n", len(text) // 2) + 1
        ids = target.tokenizer(text[middle : middle + 2000], add_special_tokens=False).input_ids
        if len(ids) >= _PROMPT:
            found.append(ids[:_PROMPT])
    return found[:count]
