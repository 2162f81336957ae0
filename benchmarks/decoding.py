"""Drafts with a model: tokens per forward pass and per CPU second, against transformers.

Completions by one model, one prompt at a time and in a batch of eight, on three sets: ``humaneval``
(chat: functions from their docstrings), ``humanevalfix`` (chat: functions with a bug to repair,
shown in the prompt) and ``repeats`` (files of the standard library to continue).

Methods: ``plain``, ``suffix`` and ``edit`` are ours (``edit`` has access to the text that is
rewritten); ``transformers`` is its generate. Unless ``--quick``, also ``lookup``: generate with
``prompt_lookup_num_tokens=10``, one prompt at a time.

``METHOD_tokens_per_s_batch_N`` is over all sets: tokens per CPU second of one thread after the
first pass, which encodes the prompts. ``worst_ratio`` is the smallest ratio of ``suffix`` or
``edit`` to ``plain`` over all sets and batches, at ``worst_ratio_at``. The first prompts, for which
the planner has no timings yet, are included.

For each set, method and batch (keys of a batch end in ``_batch_8``): ``SET_METHOD_tokens_per_pass``
(passes of the whole model), ``..._drafted_per_pass``, ``..._tokens_per_s``, ``..._ratio`` (ours
over plain decoding) and ``..._same`` (fraction of completions equal to plain decoding's).

Limits: a small model on a CPU, few prompts; a quick run uses the shortest. Completions can
differ from plain ones where two logits are nearly equal.
"""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.code_requests import humaneval_requests
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import rate, ratio_of_sums

_MODULES = ("bisect", "colorsys", "contextlib", "fnmatch", "heapq", "keyword", "shlex", "textwrap",
            "tokenize", "sched", "stat", "tabnanny", "this", "timeit", "types", "uuid")  # fmt: skip
_BATCH = 8
_BATCH_TOKENS = 48  # per completion in a batch
_QUICK_TOKENS = 32
_QUICK_SECONDS = 32.0  # a quick run starts no new part after this
# Cells of a quick run, most informative first; it stops when its time is over.
_QUICK = (("repeats", 8), ("humaneval", 1), ("repeats", 1), ("humanevalfix", 1),
          ("humaneval", 8), ("humanevalfix", 8))  # fmt: skip
_OURS = ("plain", "suffix", "edit")


@dataclass(frozen=True, slots=True)
class _Question:
    """A request and its prompt's tokens."""

    request: Any
    ids: list[int]


@dataclass(slots=True)
class _Run:
    """Completions of one batch: their tokens, passes, drafted tokens, CPU seconds after the first
    pass.
    """

    tokens: list[list[int]] = field(default_factory=list)
    passes: int = 0
    drafted: int = 0
    seconds: float = 0.0

    @property
    def made(self) -> int:
        """Tokens of all completions."""
        return sum(map(len, self.tokens))


Complete = Callable[[Sequence[_Question], int], list[list[int]]]
Cell = tuple[str, int]  # dataset and batch size


@options(quick={"max_new_tokens": _QUICK_TOKENS})
def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    prompts: int = 16,
    max_new_tokens: int = 128,
    bits: int = 0,
    seed: int = 0,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: the shortest prompt of each set, 32 tokens, for about half a minute.
        model: the decoding model.
        prompts: maximum prompts per set.
        max_new_tokens: maximum tokens per completion.
        bits: bits per weight of our methods, 8 or 4; 0 for the model's own weights.
        seed: seed of the bootstrap.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    began = time.monotonic()
    import torch

    from codegen.generation.transformers import TransformersBackend
    from codegen.models import load

    torch.set_num_threads(1)
    loaded = load(model, bits=bits)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    generator = TransformersBackend(loaded, batch_size=_BATCH)
    methods: dict[str, Complete] = {name: _ours(generator, name) for name in _OURS}
    methods["transformers"] = _theirs(generator, {})
    lookup = {"lookup": _theirs(generator, {"prompt_lookup_num_tokens": 10})}
    sets = _sets(loaded, prompts, quick)
    cells = _QUICK if quick else [(name, size) for size in (1, _BATCH) for name in sets]
    speeds: dict[Cell, dict[str, list[_Run]]] = {}
    for name, size in cells:
        if quick and speeds and time.monotonic() - began > _QUICK_SECONDS:
            report.notes.append(f"No time for {name} and the parts after it.")
            break
        used = methods | lookup if size == 1 and not quick else methods
        groups = _groups(sets[name], size, 1 if quick else prompts)
        length = min(max_new_tokens, _BATCH_TOKENS) if size > 1 else max_new_tokens
        runs = _measure(groups, used, loaded.model, length)
        speeds[name, size] = runs
        _describe(report, f"{name}_{{}}" if size == 1 else f"{name}_{{}}_batch_{size}", runs)
    _overall(report, speeds)
    return report.mapping()


def _groups(questions: Sequence[_Question], size: int, count: int) -> list[list[_Question]]:
    """Returns batches of questions, shortest prompts first; one batch if ``size`` is above 1."""
    ordered = sorted(questions, key=lambda question: len(question.ids))
    if size > 1:
        return [(ordered * size)[:size]]
    return [[question] for question in ordered[:count]]


def _measure(
    groups: Sequence[Sequence[_Question]], methods: Mapping[str, Complete], model: Any, length: int
) -> dict[str, list[_Run]]:
    """Runs all methods on each batch, starting with a different method each time."""
    names = list(methods)
    found: dict[str, list[_Run]] = {name: [] for name in names}
    for number, questions in enumerate(groups):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            with _watched(model, own=name in _OURS) as run:
                run.tokens = methods[name](questions, length)
            run.seconds = time.process_time() - run.seconds
            found[name].append(run)
    return found


def _describe(report: Report, form: str, found: Mapping[str, Sequence[_Run]]) -> None:
    """Adds the results of a set."""
    plain = found["plain"]
    for method, runs in found.items():
        key, made = form.format(method), [run.made for run in runs]
        rows = len(runs[0].tokens)
        passes, drafted = [run.passes * rows for run in runs], [run.drafted for run in runs]
        report.set(f"{key}_tokens_per_pass", ratio_of_sums(made, passes, seed=report.seed))
        report.set(f"{key}_drafted_per_pass", rows * sum(drafted) / sum(passes))
        speed = ratio_of_sums(made, [run.seconds for run in runs], seed=report.seed)
        report.set(f"{key}_tokens_per_s", speed, n=sum(made))
        if method in _OURS[1:]:
            report.set(f"{key}_ratio", speed.value / _speed(plain))
        pairs = [(a, b) for one, other in zip(runs, plain, strict=True)
                 for a, b in zip(one.tokens, other.tokens, strict=True)]  # fmt: skip
        report.set(f"{key}_same", rate(sum(a == b for a, b in pairs), len(pairs)), n=len(pairs))
        say(f"{key}: {sum(made) / sum(passes):.2f} per pass, {speed.value:.1f} per second")


def _speed(runs: Sequence[_Run]) -> float:
    return sum(run.made for run in runs) / sum(run.seconds for run in runs)


def _overall(report: Report, cells: Mapping[Cell, Mapping[str, Sequence[_Run]]]) -> None:
    """Adds each method's results over all sets, and our worst ratio to plain."""
    for size in (1, _BATCH):
        some = [found for (_, count), found in cells.items() if count == size]
        for method in (*_OURS, "transformers"):
            runs = [run for found in some for run in found[method]]
            key = f"{method}_tokens_per_s_batch_{size}"
            report.set(key, _speed(runs) if runs else None, n=sum(run.made for run in runs))
    ratios = {
        f"{name}, {method}, batch {size}": _speed(found[method]) / _speed(found["plain"])
        for (name, size), found in cells.items()
        for method in _OURS[1:]
    }
    where = min(ratios, key=lambda name: ratios[name])
    report.set("worst_ratio", ratios[where], n=len(ratios))
    report.set("worst_ratio_at", where)


@contextmanager
def _watched(model: Any, own: bool) -> Iterator[_Run]:
    """Counts the whole model's forward passes.

    ``seconds`` is the CPU time at the end of prompt encoding.

    Args:
        own: True if our loop decodes; the passes that encode prompts then count as one.
    """
    from codegen.decoding import loop
    from codegen.decoding.passes import ModelPass

    run = _Run()
    rounds, one_pass = loop.rounds, ModelPass.run

    def watched(batch: Any, strategy: Any) -> Any:
        propose = strategy.propose

        def proposing(of: Any) -> Any:
            if not run.passes:
                run.passes, run.seconds = 1, time.process_time()
            return propose(of)

        strategy.propose = proposing
        return rounds(batch, strategy)

    def passing(self: Any) -> Any:
        run.passes += 1
        run.drafted += self.tokens.shape[1] - 1
        return one_pass(self)

    def look(_module: Any, _args: Any, kwargs: Mapping[str, Any], _output: Any) -> None:
        run.passes += 1
        if run.passes == 1:
            run.seconds = time.process_time()
        else:
            run.drafted += kwargs["input_ids"].shape[1] - 1

    # A hook on the model would disable our loop's compiled pass.
    handle = None if own else model.register_forward_hook(look, with_kwargs=True)
    if own:
        loop.rounds, ModelPass.run = watched, passing  # type: ignore[method-assign]
    try:
        yield run
    finally:
        loop.rounds, ModelPass.run = rounds, one_pass  # type: ignore[method-assign]
        if handle:
            handle.remove()


def _ours(generator: Any, name: str) -> Complete:
    from codegen.generation import Decoder, SamplingParams, samples

    decoder = Decoder("sample" if name == "plain" else name, {})

    def complete(questions: Sequence[_Question], length: int) -> list[list[int]]:
        params = SamplingParams(max_new_tokens=length)
        found = samples(generator, [q.request for q in questions], params, decoder)
        return [_tokens(generator, s.completion, s.completion_tokens) for s in found]

    return complete


def _theirs(generator: Any, options: dict[str, Any]) -> Complete:
    import torch

    loaded = generator.loaded

    def complete(questions: Sequence[_Question], length: int) -> list[list[int]]:
        width = max(len(question.ids) for question in questions)
        pad = loaded.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(q.ids)) + q.ids for q in questions])
        lengths = torch.tensor([[len(question.ids)] for question in questions])
        with torch.inference_mode():
            output = loaded.model.generate(
                ids,
                attention_mask=(torch.arange(width)[None] >= width - lengths).long(),
                max_new_tokens=length,
                do_sample=False,
                eos_token_id=sorted(generator.eos),
                pad_token_id=pad,
                **options,
            )
        found = []
        for made in output[:, width:].tolist():
            end = next((i for i, token in enumerate(made) if token in generator.eos), len(made))
            text = loaded.tokenizer.decode(made[:end], skip_special_tokens=True)
            found.append(_tokens(generator, text, end))
        return found

    return complete


def _tokens(generator: Any, text: str, count: int) -> list[int]:
    """Returns a completion's tokens, cut or zero-padded to the generated number."""
    tokens = generator.loaded.tokenizer(text, add_special_tokens=False).input_ids
    return (tokens + [0] * count)[:count]


def _sets(loaded: Any, count: int, quick: bool) -> dict[str, list[_Question]]:
    from codegen.generation import Request
    from codegen.models.chat import chat_prompt

    def asked(request: Any) -> _Question:
        if request.chat:
            return _Question(request, chat_prompt(loaded.tokenizer, request.prompt))
        return _Question(request, loaded.tokenizer(request.prompt).input_ids)

    found = {
        name: [asked(request) for request in requests]
        for name, requests in humaneval_requests(count).items()
    }
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [root / f"{name}.py" for name in _MODULES]
    size = 400 if quick else 3000  # characters of a file
    texts = [path.read_text("utf-8")[:size] for path in files if path.is_file()]
    found["repeats"] = [asked(Request(text, heal=False)) for text in texts[:count]]
    return found
