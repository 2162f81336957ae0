"""Which format of next edits is learned best, at equal training.

**Small functions.** Small transformers from scratch learn to edit small functions
(:mod:`.functions`) in one of the formats of :mod:`codegen.methods.edits.formats`, at equal
optimizer steps and batches. A file is a function below a comment with its instruction, a sentence a
line. The moments:

- ``follow``: a sentence of the comment was replaced, inserted or deleted, and the program has to
  follow it (half of them);
- ``rename``: the first line of the program calls its variable otherwise, and the others have to;
- ``nothing``: the comment and the program were changed, and agree.

A row ``NAME:WEIGHT``, such as ``window:0.2``, is the format with copied lines that count so much in
the loss. The other rows' data and seeds do not depend on it.

Measured on other functions, greedily: ``exact``, the share of due edits after which the file is
right (``follow``, ``rename``: of each kind); ``quiet``, the share of moments without one at which
the file stays as it is; ``parsed``, the share of answers in the format; ``answer``, their mean
tokens; ``tokens``, those trained on, in millions.

**Real files** (``--histories DIR --held-out DIR``, data directories of ``codegen data edits
--keep-moments``). The embedded model learns by LoRA from as many changes as refactorings. Measured
on ``problems`` held-out moments of each kind. Beside the measures above: ``nats``, minus the log
of the probability of the whole right answer, in the mean. Every format has one right answer for a
moment, so that these can be compared, while the loss of a token cannot; ``location``: the share of
due edits whose first changed line is one that should change.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.functions import Variant, start_model, train_model, variants
from codegen.benchmarks.evidence.setting import arguments, once, table
from codegen.data import read_texts
from codegen.decoding.loop import Row, decode
from codegen.evals.tasks.next_edit import NextEdit, measures
from codegen.finetune import parse_recipe
from codegen.finetune.run import train
from codegen.methods.edits.formats import (
    FORMATS,
    STARCODER,
    EditFormat,
    Unreadable,
    Unwritable,
    window_text,
)
from codegen.methods.edits.generator import segments_of
from codegen.methods.edits.hunks import difference, lines_of
from codegen.methods.edits.sessions import Session, View
from codegen.models import load
from codegen.records import Edit, TrainingText, from_dict, to_json, write_atomic

COLUMNS = ("exact", "follow", "rename", "quiet", "parsed", "answer", "tokens")
_KINDS = ("changes", "refactorings")
REAL_COLUMNS = (
    *(f"{kind} {name}" for kind in _KINDS for name in ("nats", "exact", "location", "quiet")),
    "parsed",
    "answer",
    "tokens",
)
_NAMES = ("acc", "out", "result", "value", "best", "found")
_MOST = 260  # tokens of an answer
_WHOLE = View(above=99, below=99)


def _file(parts: tuple[Sequence[str], Sequence[str]]) -> str:
    sentences, lines = parts
    return "".join(f"# {one}\n" for one in sentences) + "".join(f"{one}\n" for one in lines)


def moment(number: int, variant: Variant, rng: random.Random) -> Edit:
    """A moment of one function; see the module's text."""
    before, after = variant
    kind = rng.choices(("follow", "rename", "nothing"), (50, 30, 20))[0]
    if kind == "rename":
        opened, name = _file(before), rng.choice(_NAMES)
        target = opened.replace("total", name)
        lines = lines_of(opened)
        first = next(i for i, line in enumerate(lines) if line.startswith("    total = "))
        lines[first] = lines[first].replace("total", name)
        text = "".join(lines)
    else:
        opened, target = _file(before), _file(after)
        text = target if kind == "nothing" else _file((after[0], before[1]))
    lines = lines_of(opened)
    session = Session("f.py", tuple(lines), tuple(difference(lines, lines_of(text))))
    edit = session.moment(len(session.hunks), _WHOLE)
    return replace(edit, id=f"{number}", target=target, category=kind)


def moments(count: int, seed: int) -> list[Edit]:
    """Moments of different functions."""
    rng = random.Random(seed)
    return [moment(number, variant, rng) for number, variant in enumerate(variants(count, seed))]


def texts_of(
    form: EditFormat, edits: Sequence[Edit], copied: float = 1.0
) -> Iterator[TrainingText]:
    """Training texts of moments in one format; ``copied`` is the weight of copied lines."""
    marks = list(form.trained)
    meta = {"special_tokens": marks, "trained_tokens": marks} if marks else {}
    for edit in edits:
        segments = segments_of(form, edit, copied)
        yield TrainingText(edit.id, edit.id, "edits", segments, meta)


def expressible(edits: Sequence[Edit], names: Sequence[str]) -> list[Edit]:
    """The moments that all of the formats can express, so that all see the same."""

    def is_so(edit: Edit) -> bool:
        try:
            return all(FORMATS[name].answer(edit) for name in names)
        except Unwritable:
            return False

    return [edit for edit in edits if is_so(edit)]


def _names(options: Any) -> list[str]:
    return list(dict.fromkeys(each.partition(":")[0] for each in options.formats.split(",")))


def _written(out: Path, name: str, known: Sequence[Edit]) -> Path:
    """The training texts of moments in a format, as a file."""
    base, _, copied = name.partition(":")
    data = out / "data" / f"{name}.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    texts = texts_of(FORMATS[base], known, float(copied or 1))
    write_atomic(data, "".join(to_json(text) + "\n" for text in texts))
    return data


def run(out: Path, name: str, seed: int, options: Any) -> Mapping[str, float]:
    """The measures of one format with one seed, on small functions."""
    names = _names(options)
    drawn = expressible(moments(options.examples + options.problems, seed=0), names)
    known, asked = drawn[: -options.problems], drawn[-options.problems :]
    data = _written(out, name, known)
    some = [text.text for each in names for text in texts_of(FORMATS[each], known[:500])]
    model = start_model(
        out / "models" / f"start-{seed}", some, hidden=options.hidden, layers=3, seed=seed,
        special=STARCODER.all,
    )  # fmt: skip
    folder = out / "runs" / f"{name}-{seed}"
    result = train_model(
        model, data, folder, steps=options.steps, max_length=448, seed=seed, batch_size=8
    )
    trained = result.trained_per_s * result.seconds / 1e6
    form = FORMATS[name.partition(":")[0]]
    return {**measure(load(result.model), form, asked), "tokens": trained}


def kept_moments(folder: str) -> dict[str, list[Edit]]:
    """The moments that a data directory of ``data edits --keep-moments`` holds, of each kind."""
    found: dict[str, list[Edit]] = {kind: [] for kind in _KINDS}
    for text in read_texts(folder):
        edit = from_dict(Edit, text.meta["moment"], text.id)
        found[_KINDS[bool(text.meta.get("refactoring"))]].append(edit)
    return found


def run_real(out: Path, name: str, seed: int, options: Any) -> Mapping[str, float]:
    """The measures of one format with one seed, on real files."""
    names, form = _names(options), FORMATS[name.partition(":")[0]]
    known, asked = (
        {kind: expressible(edits, names) for kind, edits in kept_moments(folder).items()}
        for folder in (options.histories, options.held_out)
    )
    count = min(map(len, known.values()))
    both = [edit for edits in known.values() for edit in edits[:count]]
    recipe = {
        "model": "embedded",
        "data": str(_written(out, name, both)),
        "output": str(out / "runs" / f"{name}-{seed}"),
        "steps": options.steps,
        "method": "lora",
        "lora": {"rank": 16, "alpha": 32},
        "format": "plain",
        "packing": "best_fit",
        "batch_size": 8,
        "micro_batch_size": 1,
        "max_length": 512,
        "learning_rate": 1e-3,
        "schedule": "cosine",
        "warmup": 10,
        "save_every": options.steps,
        "seed": seed,
    }
    result = train(parse_recipe(recipe))
    loaded = load(result.model)
    found = {"tokens": result.trained_per_s * result.seconds / 1e6}
    parsed, sizes = [], []
    for kind in _KINDS:
        own = random.Random(0).sample(asked[kind], options.problems)
        answers = _answers(loaded, form, own)
        each = [
            measures(NextEdit.problem(edit), window)
            for edit, (window, _) in zip(own, answers, strict=True)
        ]
        parsed += [window is not None for window, _ in answers]
        sizes += [tokens for _, tokens in answers]
        is_due = [edit.category != "nothing" for edit in own]
        found[f"{kind} nats"] = fmean(nats(loaded, form, edit) for edit in own)
        for measure, due in (("exact", True), ("location", True), ("quiet", False)):
            of = [one.get(measure, 0.0) for one, d in zip(each, is_due, strict=True) if d == due]
            if of:
                found[f"{kind} {measure}"] = fmean(of)
    return {**found, "parsed": fmean(parsed), "answer": fmean(sizes)}


def nats(loaded: Any, form: EditFormat, edit: Edit) -> float:
    """Minus the log of the probability of the right answer and its end."""
    import torch

    prompt, answer = (
        loaded.tokenizer(text, add_special_tokens=False).input_ids
        for text in (form.prompt(edit), form.answer(edit))
    )
    answer = [*answer, loaded.tokenizer.eos_token_id]
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(
            logits.float(), torch.tensor(answer), reduction="sum"
        )
    return float(loss)


def _answers(loaded: Any, form: EditFormat, asked: Sequence[Edit]) -> list[tuple[str | None, int]]:
    """The window after each greedy answer, None if it is not in the format, and its tokens."""
    tokenizer = loaded.tokenizer
    stops = frozenset([tokenizer.eos_token_id])
    prompts = [tokenizer(form.prompt(edit), add_special_tokens=False).input_ids for edit in asked]
    rows = [Row(prompt, [0.0] * _MOST) for prompt in prompts]
    decode(
        loaded.model, rows, max_new_tokens=_MOST, temperature=0.0, top_p=1.0, eos=stops, width=100
    )
    found: list[tuple[str | None, int]] = []
    for edit, row in zip(asked, rows, strict=True):
        answer = tokenizer.decode([token for token in row.tokens if token not in stops])
        for stop in form.stop:
            answer = answer.partition(stop)[0]
        try:
            window = form.read(edit, answer)
        except Unreadable:
            window = None
        found.append((window, len(row.tokens)))
    return found


def measure(loaded: Any, form: EditFormat, asked: Sequence[Edit]) -> dict[str, float]:
    """The measures of a trained model on small functions."""
    right: dict[str, list[bool]] = {"follow": [], "rename": [], "nothing": []}
    answers = _answers(loaded, form, asked)
    for edit, (window, _) in zip(asked, answers, strict=True):
        # An answer that cannot be read changes nothing.
        after = window_text(edit) if window is None else window
        right[edit.category].append(after == edit.target)
    return {
        "exact": fmean([*right["follow"], *right["rename"]]),
        "follow": fmean(right["follow"]),
        "rename": fmean(right["rename"]),
        "quiet": fmean(right["nothing"]),
        "parsed": fmean(window is not None for window, _ in answers),
        "answer": fmean(tokens for _, tokens in answers),
    }


def main() -> None:
    """Runs all formats and seeds on one of the two, and prints the table."""
    options = arguments(
        __doc__ or "",
        steps=1600,
        examples=4000,
        problems=200,
        hidden=96,
        formats="blocks,rows,window,search-replace,udiff",
        histories="",
        held_out="",
    )
    one, columns = (run_real, REAL_COLUMNS) if options.histories else (run, COLUMNS)
    rows: dict[str, list[Mapping[str, float]]] = {}
    for seed in range(options.seeds):
        for name in options.formats.split(","):
            path = options.out / "results" / f"{name}-{seed}.json"
            found = once(path, lambda n=name, s=seed: one(options.out, n, s, options))
            rows.setdefault(name, []).append(found)
            print(name, seed, found, flush=True)  # noqa: T201
    print(table(rows, columns))  # noqa: T201


if __name__ == "__main__":
    main()
