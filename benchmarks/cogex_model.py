"""A model fine-tuned on CoGEX records against its base model with few-shot examples.

What: the share of problems answered right, over word sorting, coin flip, large sums and arithmetic
stories (``tasks`` has them one by one), none of which was trained on. ``direct``: the untuned
model is shown two solved problems of the task and answers (the paper's baseline, without BM25).
``few_shot``: it is shown two records of the task and emulates the same program. ``tuned``: the
fine-tuned model emulates that program, nothing is shown. ``tuned_reasoner``: it writes its own
program, call and output. ``tuned_minus_few_shot`` and ``tuned_minus_direct`` are differences,
paired by problem. ``..._faithful`` is the share of the intermediate results that Python can compute
which the emulation got right, ``..._unanswered`` of the emulations that can't be read, ``..._run``
of the calls that the model wrote which give the right answer when Python runs them.

Against: the same model's own few-shot prompting.

Limits: one program a task, the family's first. Greedy answers. Without ``-o model=DIR`` there is
nothing to measure and the figures are null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import Estimate, rate
from codegen.errors import ConfigError
from codegen.records import read_rows
from codegen.runs import Journal

if TYPE_CHECKING:
    from codegen.cogex.family import Family, Item
    from codegen.generation.protocol import Backend

TASKS = ("word_sorting", "coin_flip", "large_sum", "arithmetic")
_METHODS = ("direct", "few_shot", "tuned", "tuned_reasoner")
_FIRST = 2000  # problems that a search of the default size does not use
_SHOTS = 2
_ANSWER_TOKENS = 32


class Answered(NamedTuple):
    """How one problem went; ``compared`` intermediates, of which ``faithful`` were right.

    ``run`` says whether the same call, run in the sandbox, gives the right answer.
    """

    right: bool
    failure: str
    compared: int
    faithful: int
    run: bool = False


def run(
    quick: bool = False,
    *,
    model: str = "",
    base: str = "embedded",
    items: int = 50,
    batch_size: int = 16,
    kept: str = "cogex-model.jsonl",
    methods: str = ",".join(_METHODS),
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: two problems a task.
        model: the fine-tuned model's directory.
        base: the model below it.
        items: problems a task.
        batch_size: of decoding.
        kept: where each answer is kept; run again, it continues from there.
        methods: which of them, comma-separated.
    """
    at_least(1, items=items, batch_size=batch_size)
    chosen = methods.split(",")
    if unknown := sorted(set(chosen) - set(_METHODS)):
        raise ConfigError(
            f"There is no method {unknown[0]!r}.", f"There are: {', '.join(_METHODS)}."
        )
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "peft")
    if not model:
        report.figures |= dict.fromkeys(_METHODS)
        report.install["model"] = "codegen finetune cogex; then -o model=DIR"
        return report.mapping()
    numbers = range(_FIRST, _FIRST + (2 if quick else items))
    with closing(_Kept(kept, {"model": model, "base": base})) as answers:
        for method in chosen:
            _answer(
                method, model if method.startswith("tuned") else base, numbers, batch_size, answers
            )
    _report(report, answers.rows, numbers, chosen)
    return report.mapping()


class _Kept:
    """Answers by (method, task, number), on disk."""

    def __init__(self, path: str, header: Mapping[str, str]) -> None:
        self.rows: dict[tuple[str, str, int], Answered] = {}
        self.header = json.dumps(dict(header))
        if Path(path).is_file():
            for _, row in read_rows(path):
                if row["of"] == self.header:
                    self.rows[row["method"], row["task"], row["number"]] = Answered(
                        *row["answered"]
                    )
        self._log = Journal(path)

    def add(self, method: str, task: str, number: int, answered: Answered) -> None:
        """Keeps one."""
        self.rows[method, task, number] = answered
        row = {"of": self.header, "method": method, "task": task, "number": number}
        self._log.append(json.dumps({**row, "answered": list(answered)}))

    def close(self) -> None:
        """Closes the file."""
        self._log.close()


def _answer(
    method: str, name: str, numbers: Sequence[int], batch_size: int, answers: _Kept
) -> None:
    from codegen.cogex.families import find_family

    waiting = {
        task: [n for n in numbers if (method, task, n) not in answers.rows] for task in TASKS
    }
    if not any(waiting.values()):
        return
    import torch

    from codegen.generation.transformers import TransformersBackend
    from codegen.models import load

    torch.set_num_threads(1)
    backend = TransformersBackend(load(name), batch_size)
    work = _direct if method == "direct" else partial(_emulated, method)
    for task, missing in waiting.items():
        family = find_family(task)
        for start in range(0, len(missing), batch_size):
            some = missing[start : start + batch_size]
            items = [family.item("test", number) for number in some]
            for at, answered in work(family, items, backend):
                answers.add(method, task, some[at], answered)
            say(f"{method} {task}: {start + len(some)} of {len(missing)}")


def _direct(
    family: Family, items: Sequence[Item], backend: Backend
) -> Iterator[tuple[int, Answered]]:
    from codegen.cogex.literals import normalized
    from codegen.generation.protocol import Decoder, Request, SamplingParams, samples

    shown = [family.item("train", number) for number in range(_SHOTS)]
    before = family.instructions[0] + "\n\n"
    before += "".join(f"Input: {one.input}\nAnswer: {one.answer}\n\n" for one in shown)
    requests = [
        Request(f"{before}Input: {item.input}\nAnswer:", stop=("\n",), problem_id=str(number))
        for number, item in enumerate(items)
    ]
    for sample in samples(backend, requests, SamplingParams(_ANSWER_TOKENS), Decoder()):
        number = int(sample.problem_id)
        right = normalized(sample.completion) == normalized(items[number].answer)
        yield number, Answered(right, "", 0, 0)


def _emulated(
    method: str, family: Family, items: Sequence[Item], backend: Backend
) -> Iterator[tuple[int, Answered]]:
    from codegen.cogex.family import record_of, source_of
    from codegen.cogex.model import PseudoModel, Query, TokenLimits
    from codegen.evals.sandbox import Sandbox

    instruction, program = family.instructions[0], family.programs[0]
    shots = [
        record_of(instruction, family.item("train", number), program) for number in range(_SHOTS)
    ]
    model = PseudoModel(
        backend,
        shots=shots if method == "few_shot" else (),
        batch_size=len(items),
        limits=TokenLimits(output_tokens=128),
    )
    text = "" if method == "tuned_reasoner" else source_of(program)
    queries = [Query(instruction, item.input, text) for item in items]
    ask: Callable[..., Any] = model.emulate if text else model.solve
    with Sandbox(workers=1) as sandbox:
        for number, emulation in ask(queries, 0.0):
            yield number, _judged(emulation, items[number], sandbox)


def _judged(emulation: Any, item: Item, sandbox: Any) -> Answered:
    from codegen.cogex import Invalid, parse_program
    from codegen.cogex.faithfulness import faithfulness
    from codegen.cogex.hybrid import LeafCall, run_hybrid
    from codegen.cogex.literals import normalized

    def unknown(_: LeafCall) -> Any:
        raise Invalid("no_output")

    right = not emulation.failure and normalized(emulation.answer) == normalized(item.answer)
    compared: Mapping[str, bool] = {}
    run = False
    try:
        program = parse_program(emulation.program)
        ran = run_hybrid(program, emulation.call, sandbox, unknown)
        compared = faithfulness(program, emulation.output, ran).right
        run = normalized(ran.output.get("answer", "")) == normalized(item.answer)
    except Invalid:
        pass  # a program that breaks a rule has no true intermediates
    return Answered(right, emulation.failure, len(compared), sum(compared.values()), run)


def _report(
    report: Report,
    rows: Mapping[tuple[str, str, int], Answered],
    numbers: Sequence[int],
    methods: Sequence[str],
) -> None:
    keys = [(task, number) for task in TASKS for number in numbers]
    count = len(keys)
    by_method = {m: [rows[m, task, number] for task, number in keys] for m in methods}
    for method, answered in by_method.items():
        report.set(method, rate(sum(one.right for one in answered), count), count)
        if method == "direct":
            continue
        if compared := sum(one.compared for one in answered):
            faithful = sum(one.faithful for one in answered)
            report.set(f"{method}_faithful", rate(faithful, compared), compared)
        report.set(f"{method}_run", rate(sum(one.run for one in answered), count), count)
        failed = sum(bool(one.failure) for one in answered)
        report.set(f"{method}_unanswered", rate(failed, count), count)
    for other in sorted({"few_shot", "direct"} & set(methods)) if "tuned" in methods else ():
        pairs = zip(by_method["tuned"], by_method[other], strict=True)
        differences = [int(a.right) - int(b.right) for a, b in pairs]
        report.set(f"tuned_minus_{other}", _mean(differences), count)
    report.figures["tasks"] = {
        task: {
            method: round(sum(rows[method, task, n].right for n in numbers) / len(numbers), 3)
            for method in methods
        }
        for task in TASKS
    }


def _mean(values: Sequence[int]) -> Estimate:
    """The mean with its 95 % interval (normal)."""
    count = len(values)
    mean = sum(values) / count
    if count < 2:
        return Estimate(mean, None, None)
    spread = sum((value - mean) ** 2 for value in values) / (count - 1)
    half = 1.96 * (spread / count) ** 0.5
    return Estimate(mean, mean - half, mean + half)
