"""Drafts with a model: tokens a forward pass and tokens a second, against transformers' own ways.

What: greedy completions by one model, one prompt at a time. The model writes by itself in
``humaneval`` (functions from their docstrings, chat), ``humanevalfix`` (functions with a bug to
mend, shown in the prompt, chat), ``spec_bench`` (Spec-Bench's coding questions, chat, from the
folder of data sets) and ``repeats`` (files of the standard library to continue from their first
half). It is made to write a given text, by logits that are replaced behind its forward passes, in
``history`` (``-o repository=DIR``: Python files that commits of a git repository modified, written
again from where the commit changed them, the old file being prompt and original) and ``traces``
(``-o traces=DIR``: what a coding agent answered): every pass costs what it costs, but a small
model's errors are not in it.

Methods: ``plain``, ``suffix`` and ``edit`` are ours (``edit`` knows the text that is rewritten);
``generate`` is transformers' greedy generate, ``lookup`` the same with
``prompt_lookup_num_tokens=10``, ``assisted`` with a draft by its ``assistant_early_exit``, the
model's first third (not where the text is given, as the draft would be, too); ``arctic`` drafts
what plain decoding wrote with arctic-inference's suffix drafts, without a model.

Of each set and method: ``SET_METHOD_tokens_per_pass`` (passes of the whole model),
``..._drafted_per_pass``, ``..._accepted`` (share of drafted tokens that were right),
``..._tokens_per_s`` (tokens a CPU second behind the first pass, which encodes the prompt; one
thread), ``..._same`` (share of completions equal to plain decoding's), and of our chains
``..._by_DRAFTER`` (share of the accepted tokens that it drafted) and ``..._right_DRAFTER`` (share
of its drafted tokens that were accepted). ``speedup_SET`` is ``edit`` where a text is rewritten,
else ``suffix``, over the better of ``generate`` and ``lookup``.

Limits: a small model on a CPU, where a drafted token costs a tenth of a pass and more, so gains are
smaller than on a GPU; few prompts. Completions can differ from plain ones where two logits are
equal but for the last bits. Tokens of an early exit's draft are not counted as drafted.
"""

from __future__ import annotations

import gzip
import json
import os
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
_LONGEST = 1500  # tokens of a prompt whose answer is given
_LEAD = 8  # tokens before the first changed one from which a file is written again
_REWRITES = ("humanevalfix", "history")
_DRAFTED = 32  # tokens of a peer's draft without a model


@dataclass(frozen=True, slots=True)
class _Question:
    """A prompt; with ``answer`` the model is made to write these tokens."""

    request: Any
    ids: list[int]
    answer: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Run:
    """One completion: its tokens, what the model's passes took in, CPU seconds behind the first,
    and of our drafters the tokens that were verified and accepted.
    """

    tokens: list[int] = field(default_factory=list)
    passes: int = 0
    drafted: int = 0
    seconds: float = 0.0
    drafters: Mapping[str, Sequence[int]] = field(default_factory=dict)


Complete = Callable[[_Question, int], tuple[list[int], Mapping[str, Sequence[int]]]]


def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    prompts: int = 12,
    max_new_tokens: int = 128,
    repository: str = "",
    traces: str = "",
    seed: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: two prompts of each set, 48 tokens.
        model: what decodes.
        prompts: of each set, at most.
        max_new_tokens: of each completion.
        repository: a git repository whose history is replayed.
        traces: a folder of SWE-agent's trajectories (.traj.gz).
        seed: of the bootstrap.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    if quick:
        prompts, max_new_tokens = min(prompts, 2), min(max_new_tokens, 48)
    import torch

    from codegen.generation.hf import HFGenerator
    from codegen.models import load

    torch.set_num_threads(1)
    loaded = load(model)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    generator = HFGenerator(loaded)
    methods: dict[str, Complete] = {
        name: _ours(generator, name) for name in ("plain", "suffix", "edit")
    }
    layers = loaded.model.config.get_text_config().num_hidden_layers
    methods |= {
        "generate": _theirs(generator, {}),
        "lookup": _theirs(generator, {"prompt_lookup_num_tokens": 10}),
        "assisted": _theirs(generator, {"assistant_early_exit": max(1, layers // 3)}),
    }
    peer = find_arctic()
    if peer is None:
        report.install["arctic-inference"] = INSTALL
    else:
        report.versions |= {f"peer {name}": text for name, text in peer.versions.items()}
    for name, questions in _sets(loaded, prompts, max_new_tokens, repository, traces).items():
        runs = _measure(report, name, questions, methods, loaded.model, max_new_tokens)
        if peer is not None:
            cases = [Case(q.ids, r.tokens) for q, r in zip(questions, runs, strict=True)]
            _peer(report, f"{name}_arctic", peer, cases)
    return report.mapping()


def _measure(
    report: Report,
    name: str,
    questions: Sequence[_Question],
    methods: Mapping[str, Complete],
    model: Any,
    most: int,
) -> list[_Run]:
    """All methods in turn on each prompt; what plain decoding did."""
    given = bool(questions[0].answer)
    used = {key: how for key, how in methods.items() if not (given and key == "assisted")}
    found: dict[str, list[_Run]] = {method: [] for method in used}
    for question in questions:
        length = min(most, len(question.answer)) if given else most
        for method, complete in used.items():
            with _watched(model, question) as run:
                run.tokens, run.drafters = complete(question, length)
            run.seconds = time.process_time() - run.seconds
            found[method].append(run)
    speeds = {}
    for method, runs in found.items():
        key, made = f"{name}_{method}", [len(run.tokens) for run in runs]
        passes, drafted = [run.passes for run in runs], [run.drafted for run in runs]
        per_pass = ratio_of_sums(made, passes, seed=report.seed)
        report.set(f"{key}_tokens_per_pass", per_pass)
        report.set(f"{key}_drafted_per_pass", sum(drafted) / sum(passes))
        if sum(drafted):
            report.set(f"{key}_accepted", max(0, sum(made) - sum(passes)) / sum(drafted))
        speed = ratio_of_sums(made, [run.seconds for run in runs], seed=report.seed)
        report.set(f"{key}_tokens_per_s", speed, n=sum(made))
        _by_drafter(report, key, runs)
        same = sum(a.tokens == b.tokens for a, b in zip(runs, found["plain"], strict=True))
        report.set(f"{key}_same", rate(same, len(runs)), n=len(runs))
        speeds[method] = speed.value
        say(f"{name}, {method}: {per_pass.value:.2f} a pass, {speed.value:.1f} a second")
    best = speeds["edit" if name in _REWRITES else "suffix"]
    report.set(f"speedup_{name}", best / max(speeds["generate"], speeds["lookup"]))
    return found["plain"]


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


def _peer(report: Report, key: str, peer: Any, cases: Sequence[Case]) -> None:
    outcomes = peer.outcomes(cases, depth=64, factor=1.0, limit=_DRAFTED, shared=False)
    made, steps = [o.tokens for o in outcomes], [o.steps for o in outcomes]
    drafted = sum(o.drafted for o in outcomes)
    report.set(f"{key}_tokens_per_pass", ratio_of_sums(made, steps, seed=report.seed))
    report.set(f"{key}_drafted_per_pass", drafted / sum(steps))
    if drafted:
        report.set(f"{key}_accepted", sum(o.accepted for o in outcomes) / drafted)


@contextmanager
def _watched(model: Any, question: _Question) -> Iterator[_Run]:
    """Counts the passes of the whole model, and makes it write the question's answer if it has one.

    ``seconds`` is the CPU time at the end of the first pass.
    """
    run = _Run()
    layers = model.config.get_text_config().num_hidden_layers
    text = [*question.ids, *question.answer]

    def look(module: Any, _: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if module.config.get_text_config().num_hidden_layers != layers:
            return  # an early exit's draft
        if question.answer:
            places = kwargs["position_ids"][0, -output.logits.shape[1] :]
            wanted = [text[min(place + 1, len(text) - 1)] for place in places.tolist()]
            output.logits.zero_()
            output.logits[0, range(len(wanted)), wanted] = 1.0
        run.passes += 1
        if run.passes == 1:
            run.seconds = time.process_time()
        else:
            run.drafted += kwargs["input_ids"].shape[1] - 1

    handle = model.register_forward_hook(look, with_kwargs=True)
    try:
        yield run
    finally:
        handle.remove()


def _ours(generator: Any, name: str) -> Complete:
    from codegen.generation import Decoder, SamplingParams

    decoder = Decoder("sample" if name == "plain" else name)

    def complete(question: _Question, most: int) -> tuple[list[int], dict[str, Any]]:
        params = SamplingParams(max_new_tokens=most)
        (sample,) = generator.generate([question.request], params, decoder)
        made = _tokens(generator, sample.completion, sample.completion_tokens)
        return made, sample.meta.get("drafts", {})

    return complete


def _theirs(generator: Any, options: dict[str, Any]) -> Complete:
    import torch

    loaded = generator.loaded

    def complete(question: _Question, most: int) -> tuple[list[int], dict[str, Any]]:
        with torch.inference_mode():
            output = loaded.model.generate(
                torch.tensor([question.ids]),
                attention_mask=torch.ones(1, len(question.ids), dtype=torch.long),
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=sorted(generator.eos),
                pad_token_id=loaded.tokenizer.pad_token_id,
                **options,
            )
        made = output[0, len(question.ids) :].tolist()
        made = [token for token in made if token not in generator.eos]
        text = loaded.tokenizer.decode(made, skip_special_tokens=True)
        return _tokens(generator, text, len(made)), {}

    return complete


def _tokens(generator: Any, text: str, count: int) -> list[int]:
    """A completion's text as tokens, to compare; its length is that of what was generated."""
    tokens = generator.loaded.tokenizer(text, add_special_tokens=False).input_ids
    return (tokens + [0] * count)[:count]


def _sets(
    loaded: Any, count: int, most: int, repository: str, traces: str
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
    if questions := _spec_bench():
        found["spec_bench"] = [asked(Request(text, chat=True)) for text in spread(questions, count)]
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [root / f"{name}.py" for name in _MODULES]
    texts = [path.read_text("utf-8")[:3000] for path in files if path.is_file()]
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
