"""Drafts with a model: tokens per forward pass and per second, against transformers.

What: completions by one model, one prompt at a time and in a batch of eight. The model writes by
itself in ``humaneval`` (functions from their docstrings, chat), ``sampled`` (the same at
temperature 1), ``humanevalfix`` (functions with a bug to repair, shown in the prompt, chat),
``spec_bench`` (Spec-Bench's coding questions, chat, from the folder of data sets) and ``repeats``
(files of the standard library to continue). It is made to write a given text, by logits that are
replaced behind its forward passes, in ``history`` (``-o repository=DIR``: Python files that commits
of a git repository modified, written again from where the commit changed them, the old file being
prompt and original) and ``traces`` (``-o traces=DIR``: what a coding agent answered): every pass
costs what it costs, but a small model's errors are not in it.

Methods: ``plain``, ``suffix`` and ``edit`` are ours (``edit`` knows the text that is rewritten);
``transformers`` is its generate. With one prompt at a time, unless quick: ``lookup``, the same with
``prompt_lookup_num_tokens=10``, ``assisted``, with a draft by its ``assistant_early_exit``, the
model's first third (not where the text is given, as the draft would be, too), and ``arctic``, which
drafts what plain decoding wrote with arctic-inference's suffix drafts, without a model.

``METHOD_tokens_per_s_batch_N`` is over all sets: tokens a CPU second behind the first pass, which
encodes the prompts; one thread; the methods take turns. ``worst_ratio`` is the smallest of
``suffix`` and ``edit`` over ``plain`` in any set and batch, ``worst_ratio_at`` says where. The
first units are in it: nothing is known of the machine when they begin.

Of each set, method and batch (its keys end in ``_batch_8``): ``SET_METHOD_tokens_per_pass`` (passes
of the whole model), ``..._drafted_per_pass`` (width of the passes), ``..._accepted`` (of one prompt
at a time: share of drafted tokens that were right), ``..._tokens_per_s``, ``..._ratio`` (of ours to
plain decoding), ``..._same`` (share of completions equal to plain decoding's), and of our chains
``..._by_DRAFTER`` (share of the accepted tokens that it drafted) and ``..._right_DRAFTER`` (share
of its drafted tokens that were accepted).

Limits: a small model on a CPU; few prompts; a quick run takes the shortest ones and as many sets as
it has time for. Completions can differ from plain ones where two logits are equal but for the last
bits. Tokens of an early exit's draft are not counted as drafted.
"""

from __future__ import annotations

import gzip
import json
import os
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.arctic import INSTALL, find_arctic
from codegen.benchmarks.tools.code_requests import humaneval_requests, spread
from codegen.benchmarks.tools.code_tokens import Code, trace_steps
from codegen.benchmarks.tools.drafting import Case
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import rate, ratio_of_sums

_MODULES = ("bisect", "colorsys", "contextlib", "fnmatch", "heapq", "keyword", "shlex", "textwrap",
            "tokenize", "sched", "stat", "tabnanny", "this", "timeit", "types", "uuid")  # fmt: skip
_LONGEST = 1500  # tokens of a prompt with a known answer
_LEAD = 8  # tokens before the first changed one from which a file is written again
_DRAFTED = 32  # tokens of a peer's draft without a model
_BATCH = 8
_BATCH_TOKENS = 48  # per completion in a batch
_QUICK_TOKENS = 32
_QUICK_PROMPT = 400  # characters of a file to continue
_QUICK_SECONDS = 32.0  # after which a quick run begins nothing new
# A quick run's units in order of what they say, as long as there is time.
_QUICK = (("repeats", 8), ("humaneval", 1), ("repeats", 1), ("sampled", 1), ("humanevalfix", 1),
          ("humaneval", 8), ("sampled", 8), ("humanevalfix", 8), ("spec_bench", 1))  # fmt: skip
_OURS = ("plain", "suffix", "edit")


@dataclass(frozen=True, slots=True)
class _Question:
    """A prompt; with ``answer`` the model is made to write these tokens."""

    request: Any
    ids: list[int]
    answer: list[int] = field(default_factory=list)
    temperature: float = 0.0


@dataclass(slots=True)
class _Run:
    """Completions of one batch: their tokens, what the model's passes took in, CPU seconds behind
    the first, and of our drafters the tokens that were verified and accepted.
    """

    tokens: list[list[int]] = field(default_factory=list)
    passes: int = 0
    drafted: int = 0
    seconds: float = 0.0
    drafters: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def made(self) -> int:
        """Tokens of all completions."""
        return sum(map(len, self.tokens))


Complete = Callable[[Sequence[_Question], int], tuple[list[list[int]], Mapping[str, Sequence[int]]]]
Cell = tuple[str, int]  # a set, and how many prompts at a time


def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    prompts: int = 16,
    max_new_tokens: int = 128,
    repository: str = "",
    traces: str = "",
    seed: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: the shortest prompts, 32 tokens, for about half a minute.
        model: what decodes.
        prompts: of each set, at most.
        max_new_tokens: of each completion.
        repository: a git repository whose history is replayed.
        traces: a folder of SWE-agent's trajectories (.traj.gz).
        seed: of the bootstrap.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    began = time.monotonic()
    import torch

    from codegen.generation.transformers import TransformersBackend
    from codegen.models import load

    torch.set_num_threads(1)
    loaded = load(model)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    generator = TransformersBackend(loaded, batch_size=_BATCH)
    methods: dict[str, Complete] = {name: _ours(generator, name) for name in _OURS}
    methods["transformers"] = _theirs(generator, {})
    peers: dict[str, Complete] = {}
    if not quick:
        layers = loaded.model.config.get_text_config().num_hidden_layers
        peers["lookup"] = _theirs(generator, {"prompt_lookup_num_tokens": 10})
        peers["assisted"] = _theirs(generator, {"assistant_early_exit": max(1, layers // 3)})
    sets = _sets(loaded, prompts, max_new_tokens, repository, traces, quick)
    cells = [(name, size) for size in (1, _BATCH) for name in sets]
    if quick:
        cells = [cell for cell in _QUICK if cell[0] in sets]
    speeds: dict[Cell, dict[str, list[_Run]]] = {}
    for name, size in cells:
        if quick and time.monotonic() - began > _QUICK_SECONDS:
            report.notes.append(f"There was no time for {name} and what follows it.")
            break
        used = methods | peers if size == 1 else methods
        groups = _groups(sets[name], size, 1 if quick else prompts)
        length = _QUICK_TOKENS if quick else max_new_tokens
        length = min(length, _BATCH_TOKENS) if size > 1 else length
        runs = _measure(groups, used, loaded.model, length)
        speeds[name, size] = runs
        _describe(report, f"{name}_{{}}" if size == 1 else f"{name}_{{}}_batch_{size}", runs)
        if size == 1 and not quick:
            _arctic(report, name, groups, runs["plain"])
    _overall(report, speeds)
    return report.mapping()


def _groups(questions: Sequence[_Question], size: int, count: int) -> list[list[_Question]]:
    """Batches of questions, the shortest prompts first; of several at once, one batch."""
    ordered = sorted(questions, key=lambda question: len(question.ids))
    if size > 1:
        return [(ordered * size)[:size]]
    return [[question] for question in ordered[:count]]


def _measure(
    groups: Sequence[Sequence[_Question]], methods: Mapping[str, Complete], model: Any, most: int
) -> dict[str, list[_Run]]:
    """All methods in turn on each batch, another one first each time."""
    given = bool(groups[0][0].answer)
    names = [name for name in methods if not (given and name == "assisted")]
    found: dict[str, list[_Run]] = {name: [] for name in names}
    for number, questions in enumerate(groups):
        length = min(most, *(len(question.answer) for question in questions)) if given else most
        first = number % len(names)
        for name in names[first:] + names[:first]:
            with _watched(model, questions, own=name in _OURS) as run:
                run.tokens, run.drafters = methods[name](questions, length)
            run.seconds = time.process_time() - run.seconds
            found[name].append(run)
    return found


def _describe(report: Report, form: str, found: Mapping[str, Sequence[_Run]]) -> None:
    """The figures of a set."""
    plain = found["plain"]
    for method, runs in found.items():
        key, made = form.format(method), [run.made for run in runs]
        rows = len(runs[0].tokens)
        passes, drafted = [run.passes * rows for run in runs], [run.drafted for run in runs]
        report.set(f"{key}_tokens_per_pass", ratio_of_sums(made, passes, seed=report.seed))
        report.set(f"{key}_drafted_per_pass", rows * sum(drafted) / sum(passes))
        if rows == 1 and sum(drafted):
            report.set(f"{key}_accepted", max(0, sum(made) - sum(passes)) / sum(drafted))
        speed = ratio_of_sums(made, [run.seconds for run in runs], seed=report.seed)
        report.set(f"{key}_tokens_per_s", speed, n=sum(made))
        if method in _OURS[1:]:
            report.set(f"{key}_ratio", speed.value / _speed(plain))
        _by_drafter(report, key, runs)
        pairs = [(a, b) for one, other in zip(runs, plain, strict=True)
                 for a, b in zip(one.tokens, other.tokens, strict=True)]  # fmt: skip
        report.set(f"{key}_same", rate(sum(a == b for a, b in pairs), len(pairs)), n=len(pairs))
        say(f"{key}: {sum(made) / sum(passes):.2f} a pass, {speed.value:.1f} a second")


def _speed(runs: Sequence[_Run]) -> float:
    return sum(run.made for run in runs) / sum(run.seconds for run in runs)


def _overall(report: Report, cells: Mapping[Cell, Mapping[str, Sequence[_Run]]]) -> None:
    """Each method over all sets, and the worst set of ours."""
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


def _by_drafter(report: Report, key: str, runs: Sequence[_Run]) -> None:
    """Each drafter's share of what was accepted, and the share of its drafts that was right."""
    names = sorted({name for run in runs for name in run.drafters})
    counts = {name: [sum(run.drafters.get(name, (0, 0))[k] for run in runs) for k in (0, 1)]
              for name in names}  # fmt: skip
    accepted = sum(right for _, right in counts.values())
    for name, (drafted, right) in counts.items():
        report.set(f"{key}_right_{name}", right / drafted)
        if accepted:
            report.set(f"{key}_by_{name}", right / accepted)


def _arctic(
    report: Report, name: str, groups: Sequence[Sequence[_Question]], runs: Sequence[_Run]
) -> None:
    """Arctic-inference's drafts of what plain decoding wrote, if it is there."""
    peer = find_arctic()
    if peer is None:
        report.install["arctic-inference"] = INSTALL
        return
    report.versions |= {f"peer {name}": text for name, text in peer.versions.items()}
    cases = [Case(q.ids, run.tokens[0]) for (q,), run in zip(groups, runs, strict=True)]
    outcomes = peer.outcomes(cases, depth=64, factor=1.0, limit=_DRAFTED, shared=False)
    made, steps = [o.tokens for o in outcomes], [o.steps for o in outcomes]
    drafted = sum(o.drafted for o in outcomes)
    key = f"{name}_arctic"
    report.set(f"{key}_tokens_per_pass", ratio_of_sums(made, steps, seed=report.seed))
    report.set(f"{key}_drafted_per_pass", drafted / sum(steps))
    if drafted:
        report.set(f"{key}_accepted", sum(o.accepted for o in outcomes) / drafted)


@contextmanager
def _watched(model: Any, questions: Sequence[_Question], own: bool) -> Iterator[_Run]:
    """Counts the passes of the whole model, and makes it write the questions' answers if they have
    some.

    ``seconds`` is the CPU time when the prompts were encoded.

    Args:
        own: whether our loop decodes: the rows of a pass are those of its batch, and the passes
            that encode prompts, which count as one, choose nothing.
    """
    from codegen.decoding import loop

    run = _Run()
    encoding = own
    layers = model.config.get_text_config().num_hidden_layers
    texts = [[*question.ids, *question.answer] for question in questions]
    rows = list(range(len(questions)))
    rounds = loop.rounds

    def watched(batch: Any, strategy: Any) -> Any:
        propose = strategy.propose

        def proposing(of: Any) -> Any:
            nonlocal encoding
            encoding = False
            rows[:] = of.numbers
            return propose(of)

        strategy.propose = proposing
        return rounds(batch, strategy)

    def look(module: Any, _: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if module.config.get_text_config().num_hidden_layers != layers:
            return  # an early exit's draft
        if encoding:
            run.passes, run.seconds = 1, time.process_time()
            return
        if questions[0].answer:
            places = kwargs["position_ids"][:, -output.logits.shape[1] :].tolist()
            output.logits.zero_()
            for number, (row, at) in enumerate(zip(rows, places, strict=True)):
                wanted = [texts[row][min(each + 1, len(texts[row]) - 1)] for each in at]
                output.logits[number, range(len(wanted)), wanted] = 1.0
        run.passes += 1
        if run.passes == 1:
            run.seconds = time.process_time()
        else:
            run.drafted += kwargs["input_ids"].shape[1] - 1

    handle = model.register_forward_hook(look, with_kwargs=True)
    loop.rounds = watched
    try:
        yield run
    finally:
        loop.rounds = rounds
        handle.remove()


def _ours(generator: Any, name: str, **options: Any) -> Complete:
    from codegen.generation import Decoder, SamplingParams, samples

    decoder = Decoder("sample" if name == "plain" else name, options)
    endless = copy(generator)  # sampled texts differ, and must not differ in length
    endless.eos = frozenset()

    def complete(
        questions: Sequence[_Question], most: int
    ) -> tuple[list[list[int]], dict[str, Any]]:
        temperature = questions[0].temperature
        params = SamplingParams(max_new_tokens=most, temperature=temperature)
        source = endless if temperature else generator
        found = list(samples(source, [q.request for q in questions], params, decoder))
        made = [_tokens(generator, s.completion, s.completion_tokens) for s in found]
        drafters: dict[str, list[int]] = {}
        for sample in found:
            for drafter, counts in sample.meta.get("drafts", {}).items():
                total = drafters.setdefault(drafter, [0, 0])
                total[:] = [total[0] + counts[0], total[1] + counts[1]]
        return made, drafters

    return complete


def _theirs(generator: Any, options: dict[str, Any]) -> Complete:
    import torch

    loaded = generator.loaded

    def complete(
        questions: Sequence[_Question], most: int
    ) -> tuple[list[list[int]], dict[str, Any]]:
        width = max(len(question.ids) for question in questions)
        pad = loaded.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(q.ids)) + q.ids for q in questions])
        lengths = torch.tensor([[len(question.ids)] for question in questions])
        mask = (torch.arange(width)[None] >= width - lengths).long()
        temperature = questions[0].temperature
        sampling = (
            {"temperature": temperature, "top_k": 0, "min_new_tokens": most} if temperature else {}
        )
        with torch.inference_mode():
            output = loaded.model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=most,
                do_sample=bool(temperature),
                eos_token_id=sorted(generator.eos),
                pad_token_id=pad,
                **sampling,
                **options,
            )
        found = []
        for made in output[:, width:].tolist():
            end = next((i for i, token in enumerate(made) if token in generator.eos), len(made))
            text = loaded.tokenizer.decode(made[:end], skip_special_tokens=True)
            found.append(_tokens(generator, text, end))
        return found, {}

    return complete


def _tokens(generator: Any, text: str, count: int) -> list[int]:
    """A completion's text as tokens, to compare; its length is that of what was generated."""
    tokens = generator.loaded.tokenizer(text, add_special_tokens=False).input_ids
    return (tokens + [0] * count)[:count]


def _sets(
    loaded: Any, count: int, most: int, repository: str, traces: str, quick: bool
) -> dict[str, list[_Question]]:
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
    found["sampled"] = [replace(question, temperature=1.0) for question in found["humaneval"]]
    if questions := _spec_bench():
        found["spec_bench"] = [asked(Request(text, chat=True)) for text in spread(questions, count)]
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [root / f"{name}.py" for name in _MODULES]
    size = _QUICK_PROMPT if quick else 3000
    texts = [path.read_text("utf-8")[:size] for path in files if path.is_file()]
    found["repeats"] = [asked(Request(text, heal=False)) for text in texts[:count]]
    code = Code()
    if repository:
        found["history"] = list(_history(code, repository, count, most))
    if traces:
        found["traces"] = spread(list(_traces(code, Path(traces), most)), count)
    return found


def _spec_bench() -> list[str]:
    """Spec-Bench's coding questions, their first turns."""
    folder = os.environ.get("CODEGEN_TEST_DATA", "")
    path = Path(folder, "spec_bench", "question.jsonl.gz")
    if not folder or not path.is_file():
        say(f"There is no {path.name} in CODEGEN_TEST_DATA: spec_bench is left out.")
        return []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["turns"][0] for row in rows if row["category"] == "coding"]


def _history(code: Code, repository: str, count: int, most: int) -> Iterator[_Question]:
    """Files written again around the first tokens that their commits changed."""
    from codegen.generation import Request

    for rewrite in code.history(repository, count, _LONGEST):
        old, new = rewrite.before, rewrite.after
        shared = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
        start = max(0, shared - _LEAD)
        prompt = code.decode([*old, *new[:start]])
        request = Request(prompt, heal=False, original=code.decode(old))
        yield _Question(request, code.encode(prompt), new[start : start + most])


def _traces(code: Code, folder: Path, most: int) -> Iterator[_Question]:
    """An agent's answers after what it saw last."""
    from codegen.generation import Request

    for steps in trace_steps(folder).values():
        row = ""
        for seen, answer in steps:
            row += seen
            written = code.encode(answer)
            prompt = code.decode(code.encode(row)[-_LONGEST:])
            if row and written:
                request = Request(prompt, heal=False)
                yield _Question(request, code.encode(prompt), written[:most])
            row += answer
