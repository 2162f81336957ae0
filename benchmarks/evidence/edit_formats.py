"""Which format of next edits is learned best, at equal training.

Small transformers from scratch learn to edit small functions (:mod:`.functions`) in one of the
formats of :mod:`codegen.methods.edits.formats`, at equal optimizer steps and batches. A file is a
function below a comment with its instruction, a sentence a line. The moments:

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
from codegen.decoding.loop import Row, decode
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
from codegen.records import Edit, TrainingText, to_json, write_atomic

COLUMNS = ("exact", "follow", "rename", "quiet", "parsed", "answer", "tokens")
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
    for edit in edits:
        meta = {"special_tokens": list(form.trained)}
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


def run(out: Path, name: str, seed: int, options: Any) -> Mapping[str, float]:
    """The measures of one format with one seed."""
    base, _, copied = name.partition(":")
    form = FORMATS[base]
    names = list(dict.fromkeys(each.partition(":")[0] for each in options.formats.split(",")))
    drawn = expressible(moments(options.examples + options.problems, seed=0), names)
    known, asked = drawn[: -options.problems], drawn[-options.problems :]
    data = out / "data" / f"{name}.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(
        data, "".join(to_json(text) + "\n" for text in texts_of(form, known, float(copied or 1)))
    )
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
    return {**measure(load(result.model), form, asked), "tokens": trained}


def measure(loaded: Any, form: EditFormat, asked: Sequence[Edit]) -> dict[str, float]:
    """The measures of a trained model."""
    tokenizer = loaded.tokenizer
    stops = frozenset([tokenizer.eos_token_id])
    prompts = [tokenizer(form.prompt(edit), add_special_tokens=False).input_ids for edit in asked]
    rows = [Row(prompt, [0.0] * _MOST) for prompt in prompts]
    decode(
        loaded.model, rows, max_new_tokens=_MOST, temperature=0.0, top_p=1.0, eos=stops, width=100
    )
    right: dict[str, list[bool]] = {"follow": [], "rename": [], "nothing": []}
    parsed = []
    for edit, row in zip(asked, rows, strict=True):
        answer = tokenizer.decode([token for token in row.tokens if token not in stops])
        for stop in form.stop:
            answer = answer.partition(stop)[0]
        try:
            found = form.read(edit, answer)
        except Unreadable:
            found = None
        parsed.append(found is not None)
        # An answer that cannot be read changes nothing.
        right[edit.category].append((window_text(edit) if found is None else found) == edit.target)
    return {
        "exact": fmean([*right["follow"], *right["rename"]]),
        "follow": fmean(right["follow"]),
        "rename": fmean(right["rename"]),
        "quiet": fmean(right["nothing"]),
        "parsed": fmean(parsed),
        "answer": fmean(len(row.tokens) for row in rows),
    }


def main() -> None:
    """Runs all formats and seeds, and prints the table."""
    options = arguments(
        __doc__ or "",
        steps=1600,
        examples=4000,
        problems=200,
        hidden=96,
        formats="blocks,rows,window,search-replace,udiff",
    )
    rows: dict[str, list[Mapping[str, float]]] = {}
    for seed in range(options.seeds):
        for name in options.formats.split(","):
            path = options.out / "results" / f"{name}-{seed}.json"
            found = once(path, lambda n=name, s=seed: run(options.out, n, s, options))
            rows.setdefault(name, []).append(found)
            print(name, seed, found, flush=True)  # noqa: T201
    print(table(rows, COLUMNS))  # noqa: T201


if __name__ == "__main__":
    main()
