"""Program forms: whole, in edits, in random edits, or with pseudo-code.

Small transformers from scratch learn the same small functions (:mod:`.functions`) at equal
optimizer steps and batches, in four forms:

- ``whole``: the program;
- ``edits``: LintSeq's edit sequences, five per program;
- ``random edits``: RandSeq's, the ablation without a linter, five per program;
- ``pseudo-code``: UniCoder's four tasks (question to program, to pseudo-code, from pseudo-code to
  the program, both), prompted for only the program and, in a separate row, for both.

A step has the same number of texts in each form, so forms with longer texts train on more tokens
(``tokens``, in millions). Measured on functions that were not trained on, ``n`` samples each at
temperature 1, run in the sandbox: ``pass@1``, ``pass@10``; ``distinct`` programs among ten;
``valid``, the fraction of states between edits that parse; ``sound``, the fraction of samples whose
edits are complete and valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.functions import diversity, judge, start_model, write
from codegen.benchmarks.evidence.harness import Experiment, slug, train_small
from codegen.core.python_syntax import compiles
from codegen.data import read_texts
from codegen.data import run as make_data
from codegen.data.generators import Whole
from codegen.data.sources import MemorySource
from codegen.data.sources.small_functions import SmallFunction, functions
from codegen.evals.statistics import pass_at_k
from codegen.lintseq import LintSeq, resolve
from codegen.methods.unicoder import UniCode, instruction
from codegen.models import load
from codegen.sandbox import Sandbox

_FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Form:
    """A program form.

    Attributes:
        generator: generator of the training texts.
        ask: functions from instruction to prompt, one for each prompt form.
        edits: True if the model writes edits.
    """

    generator: Any
    ask: Mapping[str, Callable[[str], str]]
    edits: bool = False


def _plain(text: str) -> str:
    return text + "\n"


FORMS: Mapping[str, Form] = {
    "whole": Form(Whole(), {"whole": _plain}),
    # Whole statements, as in the runs that the docs quote.
    "edits": Form(
        LintSeq(sequences=5, audit=0.0, granularity="statement", strict=True),
        {"edits": _plain},
        edits=True,
    ),
    "anchored edits": Form(
        LintSeq(sequences=5, audit=0.0, granularity="statement", strict=True, format="anchored"),
        {"anchored edits": _plain},
        edits=True,
    ),
    "random edits": Form(
        LintSeq(engine="random", sequences=5), {"random edits": _plain}, edits=True
    ),
    "pseudo-code": Form(
        UniCode(styles=("indent",)),
        {
            "pseudo-code, program asked for": _plain,
            "pseudo-code, both asked for": lambda text: _plain(instruction("uot", text)),
        },
    ),
}


def data_of(form: Form, known: Sequence[SmallFunction], folder: Path) -> Path:
    """Returns a data directory of the form's texts."""
    source = MemorySource(tuple(f.example(number) for number, f in enumerate(known)))
    make_data(form.generator, source, folder, workers=1)
    return folder


def run(out: Path, name: str, seed: int, options: Any) -> Mapping[str, Mapping[str, float]]:
    """Runs one form with one seed and returns the measures of each prompt form."""
    form = FORMS[name]
    drawn = functions(options.functions + options.problems, seed=0)
    known, asked = drawn[: options.functions], drawn[options.functions :]
    data = {each: data_of(f, known, out / "data" / slug(each)) for each, f in FORMS.items()}
    # One tokenizer for all forms, trained on all of them.
    some = [text.text for folder in data.values() for text in islice(read_texts(folder), 500)]
    model = start_model(
        out / "models" / f"start-{seed}", some, hidden=options.hidden, layers=3, seed=seed
    )
    result = train_small(
        model, data[name], out / "runs" / f"{slug(name)}-{seed}", steps=options.steps, seed=seed,
        batch_size=32, micro_batch_size=8, max_length=512, packing="best_fit",
    )  # fmt: skip
    trained = result.trained_per_s * result.seconds / 1e6
    loaded = load(result.model)
    return {
        way: {**measure(loaded, form, ask, asked, options.n, seed), "tokens": trained}
        for way, ask in form.ask.items()
    }


def measure(
    loaded: Any,
    form: Form,
    ask: Callable[[str], str],
    asked: Sequence[SmallFunction],
    n: int,
    seed: int,
) -> dict[str, float]:
    """Measures a trained model with one prompt form."""
    prompts = [ask(function.instruction) for function in asked]
    programs, valid, sound = [], [], []
    for rows in write(loaded, prompts, n=n, budget=480, seed=seed):
        written = []
        for row in rows:
            text = loaded.tokenizer.decode(row.tokens, skip_special_tokens=True)
            if form.edits:
                strict = resolve(text)
                mended = resolve(text, recount=True)
                valid += [compiles(state) for state in mended.states]
                sound.append(strict.complete and not strict.malformed)
                text = mended.program
            elif fenced := _FENCED.search(text):
                text = fenced[1]
            written.append(text)
        programs.append(written)
    with Sandbox(workers=1) as sandbox:
        verdicts = judge(sandbox, asked, programs)
    return {
        **{f"pass@{k}": fmean(pass_at_k(n, sum(v), k) for v in verdicts) for k in (1, n)},
        "distinct": diversity(programs),
        **({"valid": fmean(valid or [0]), "sound": fmean(sound)} if form.edits else {}),
    }


EXPERIMENT = Experiment(
    __doc__ or "",
    tuple(FORMS),
    ("pass@1", "pass@10", "distinct", "valid", "sound", "tokens"),
    run,
    {"steps": 800, "functions": 4000, "problems": 100, "n": 10, "hidden": 96},
)

if __name__ == "__main__":
    EXPERIMENT.main()
