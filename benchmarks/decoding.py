"""Drafts: tokens a forward pass and tokens a second, against transformers' generate, in one run.

What: greedy completions by one model, one prompt at a time, on three sets: ``humaneval`` (functions
from their docstrings, chat), ``humanevalfix`` (functions with a bug to mend, shown in the prompt,
chat) and ``repeats`` (files of the standard library to continue from their first half). Of each
method ``SET_METHOD_tokens_per_pass``, ``SET_METHOD_tokens_per_s`` (tokens a CPU second, one thread,
prefill included) and ``SET_METHOD_same``, the share of completions equal to plain decoding's.

Methods: ``plain``, ``suffix`` and ``edit`` are ours (``edit`` knows the function that is mended);
``generate`` is transformers' greedy generate, ``lookup`` the same with
``prompt_lookup_num_tokens=10``. ``speedup_SET`` is ``suffix`` (on ``humanevalfix`` ``edit``) over
the better of transformers' two.

Limits: a small model on a CPU, where a drafted token costs a tenth of a pass and more, so gains are
smaller than on a GPU; few prompts. Completions can differ from plain ones where two logits are
equal but for the last bits.
"""

from __future__ import annotations

import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import rate, ratio_of_sums

_MODULES = ("bisect", "colorsys", "contextlib", "fnmatch", "heapq", "keyword", "shlex", "textwrap",
            "tokenize", "sched", "stat", "tabnanny", "this", "timeit", "types", "uuid")  # fmt: skip


def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    prompts: int = 12,
    max_new_tokens: int = 128,
    seed: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: two prompts of each set, 48 tokens.
        model: what decodes.
        prompts: of each set.
        max_new_tokens: of each completion.
        seed: of the bootstrap.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    if quick:
        prompts, max_new_tokens = 2, 48
    import torch

    from codegen.generation.hf import HFGenerator
    from codegen.models import load

    torch.set_num_threads(1)
    loaded = load(model)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    generator = HFGenerator(loaded)
    methods: dict[str, Callable[[Any], tuple[list[int], int]]] = {
        name: _ours(generator, name, max_new_tokens) for name in ("plain", "suffix", "edit")
    }
    methods |= {
        "generate": _theirs(generator, max_new_tokens, {}),
        "lookup": _theirs(generator, max_new_tokens, {"prompt_lookup_num_tokens": 10}),
    }
    for name, requests in _sets(prompts).items():
        speeds = _measure(report, name, requests, methods)
        best = speeds["edit" if name == "humanevalfix" else "suffix"]
        report.set(f"speedup_{name}", best / max(speeds["generate"], speeds["lookup"]))
    return report.mapping()


def _measure(
    report: Report,
    name: str,
    requests: Sequence[Any],
    methods: Mapping[str, Callable[[Any], tuple[list[int], int]]],
) -> dict[str, float]:
    """All methods in turn on each prompt."""
    found: dict[str, list[tuple[list[int], int, float]]] = {method: [] for method in methods}
    for request in requests:
        for method, complete in methods.items():
            began = time.process_time()
            tokens, passes = complete(request)
            found[method].append((tokens, passes, time.process_time() - began))
    speeds = {}
    for method, runs in found.items():
        key, made = f"{name}_{method}", [len(tokens) for tokens, _, _ in runs]
        seconds = [spent for _, _, spent in runs]
        passes = [passed for _, passed, _ in runs]
        report.set(f"{key}_tokens_per_pass", ratio_of_sums(made, passes, seed=report.seed))
        speed = ratio_of_sums(made, seconds, seed=report.seed)
        report.set(f"{key}_tokens_per_s", speed, n=sum(made))
        same = sum(a == b for (a, *_), (b, *_) in zip(runs, found["plain"], strict=True))
        report.set(f"{key}_same", rate(same, len(runs)), n=len(runs))
        speeds[method] = speed.value
        say(f"{name}, {method}: {sum(made) / sum(passes):.2f} a pass, {speed.value:.1f} a second")
    return speeds


def _ours(generator: Any, name: str, most: int) -> Callable[[Any], tuple[list[int], int]]:
    from codegen.generation import Decoder, SamplingParams

    params = SamplingParams(max_new_tokens=most)
    decoder = Decoder("sample" if name == "plain" else name)

    def complete(request: Any) -> tuple[list[int], int]:
        (sample,) = generator.generate([request], params, decoder)
        tokens = generator.loaded.tokenizer(sample.completion, add_special_tokens=False).input_ids
        # The completion's text is compared; its length is what was generated.
        made = sample.completion_tokens
        tokens = (tokens + [0] * made)[:made]
        return tokens, sample.meta.get("passes", made)

    return complete


def _theirs(
    generator: Any, most: int, options: dict[str, Any]
) -> Callable[[Any], tuple[list[int], int]]:
    import torch

    from codegen.models.chat import chat_prompt

    loaded = generator.loaded
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    def complete(request: Any) -> tuple[list[int], int]:
        nonlocal passes
        passes = 0
        tokenizer = loaded.tokenizer
        ids = chat_prompt(tokenizer, request.prompt) if request.chat else (
            tokenizer(request.prompt).input_ids)  # fmt: skip
        handle = loaded.model.register_forward_hook(count)
        try:
            with torch.inference_mode():
                output = loaded.model.generate(
                    torch.tensor([ids]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                    max_new_tokens=most,
                    do_sample=False,
                    eos_token_id=sorted(generator.eos),
                    pad_token_id=tokenizer.pad_token_id,
                    **options,
                )
        finally:
            handle.remove()
        made = [token for token in output[0, len(ids) :].tolist() if token not in generator.eos]
        text = tokenizer.decode(made, skip_special_tokens=True)
        tokens = tokenizer(text, add_special_tokens=False).input_ids
        return (tokens + [0] * len(made))[: len(made)], passes

    return complete


def _sets(count: int) -> dict[str, list[Any]]:
    from codegen.evals.tasks import load as load_task
    from codegen.generation import Request

    def spread(items: Sequence[Any]) -> list[Any]:
        return [items[number * len(items) // count] for number in range(min(count, len(items)))]

    humaneval = [
        Request(f"Complete this function.\n\n{problem.prompt}", chat=True)
        for problem in spread(load_task("humaneval").problems())
    ]
    fix = []
    for problem in spread(load_task("humaneval").problems()):
        broken = problem.prompt + problem.canonical_solution.replace("return", "return not", 1)
        text = f"Mend the bug in this function. Print the whole function.\n\n{broken}"
        fix.append(Request(text, chat=True, original=broken))
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [root / f"{name}.py" for name in _MODULES]
    texts = [path.read_text("utf-8")[:3000] for path in files if path.is_file()]
    repeats = [Request(text, heal=False) for text in texts[:count]]
    return {"humaneval": humaneval, "humanevalfix": fix, "repeats": repeats}
