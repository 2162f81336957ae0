"""The embedded model's GGUF file in llama.cpp, against the same weights in our own loop.

What: greedy completions of HumanEval's problems, as chat, by the file (Q4_1, activations in 8 bits)
and by the weights unpacked from it, in this machine's dtype. One thread each. For M in ``ours`` and
``llama`` and B in 1 and 8:

- ``M_prompt_tokens_per_s_batch_B``: tokens of prompts a CPU second, to the first token;
- ``M_tokens_per_s_batch_B``: tokens of completions a CPU second, behind the first;
- ``ours_peak_mib``, ``llama_peak_mib_batch_B``: most memory of the process; of ``llama`` with the
  mapped file, of ``ours`` with Python, PyTorch and the benchmark.

``same_rate``: completions of ``llama`` equal to those of ``ours`` (batch 1, to the last character);
``same_first_line``: equal in their first line of code; ``same_characters``: mean share of the
characters before the first difference. ``slots_same_greedy`` and ``slots_same_seed``: completions
of ``llama`` with 8 slots that equal those with one, greedy and at temperature 0.8, of some prompts.

Limits: a small model on a CPU. The wheel of xllamacpp is built for any x86-64 CPU with AVX2.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.code_requests import humaneval_requests, spread
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import rate
from codegen.benchmarks.tools.timing import tree_cpu_s
from codegen.generation import Completion, Decoder, Request, SamplingParams

_BATCHES = (1, 8)
_FIRST_TOKENS = 8  # prompts whose encoding is measured alone
_SOME = 16  # prompts that are decoded eight at once, or sampled at a temperature


def run(
    quick: bool = False, *, prompts: int = 52, max_new_tokens: int = 16, seed: int = 0
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: four prompts, 12 tokens.
        prompts: problems.
        max_new_tokens: of each completion.
        seed: of the completions at temperature 0.8.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    if quick:
        prompts, max_new_tokens = 4, 12
    import torch

    from codegen.generation.llamacpp import LlamaBackend
    from codegen.generation.transformers import TransformersBackend
    from codegen.models import load

    torch.set_num_threads(1)
    requests = humaneval_requests(prompts)["humaneval"]
    requests = [replace(one, problem_id=str(i)) for i, one in enumerate(requests)]
    greedy = SamplingParams(max_new_tokens)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers", "xllamacpp")
    loaded = load("embedded", device="cpu")
    report.set("dtype", str(loaded.model.dtype).removeprefix("torch."))
    texts: dict[str, list[str]] = {}
    for batch in _BATCHES:
        ours = partial(TransformersBackend, loaded, batch)
        some = requests if batch == 1 else spread(requests, _SOME)
        texts[f"ours_{batch}"] = _measure(report, "ours", batch, ours, some, greedy)
    report.set("ours_peak_mib", _peak_mib(os.getpid()))
    options = {"threads": 1, "context": 2048}
    for batch in _BATCHES:
        # A new server each time: it would remember the prompts.
        llama = partial(LlamaBackend.open, "embedded", batch_size=batch, options=options)
        some = requests if batch == 1 else spread(requests, _SOME)
        texts[f"llama_{batch}"] = _measure(report, "llama", batch, llama, some, greedy)
        sampled = SamplingParams(max_new_tokens, 0.8, 0.95, seed)
        texts[f"sampled_{batch}"], _ = _complete(llama(), spread(requests, _SOME), sampled)
    _same(report, "same_rate", texts["ours_1"], texts["llama_1"])
    first = {name: [_first_line(text) for text in texts[name]] for name in ("ours_1", "llama_1")}
    _same(report, "same_first_line", first["ours_1"], first["llama_1"])
    pairs = list(zip(texts["ours_1"], texts["llama_1"], strict=True))
    shares = [_common(*pair) / max(1, *map(len, pair)) for pair in pairs]
    report.set("same_characters", sum(shares) / len(shares), n=len(shares))
    _same(report, "slots_same_greedy", spread(texts["llama_1"], _SOME), texts["llama_8"])
    _same(report, "slots_same_seed", texts["sampled_1"], texts["sampled_8"])
    return report.mapping()


def _measure(
    report: Report,
    name: str,
    batch: int,
    opened: Callable[[], Any],
    requests: Sequence[Request],
    params: SamplingParams,
) -> list[str]:
    """The completions. Sets the speeds, from some runs to the first token and all to the last."""
    spent, prompts, tokens, texts = [], [], [], []
    for length, some in ((1, spread(requests, _FIRST_TOKENS)), (params.max_new_tokens, requests)):
        backend = opened()
        pid = backend.server.pid if name == "llama" else os.getpid()
        began = tree_cpu_s(pid)
        texts, made = _complete(backend, some, replace(params, max_new_tokens=length))
        spent.append(tree_cpu_s(pid) - began)
        prompts.append(sum(one.prompt_tokens for one in made))
        tokens.append(sum(one.completion_tokens for one in made) - len(made))
        peak = _peak_mib(pid)
    speed = prompts[0] / spent[0]
    report.set(f"{name}_prompt_tokens_per_s_batch_{batch}", speed, n=prompts[0])
    speed = tokens[1] / max(spent[1] - prompts[1] / speed, 0.01)
    report.set(f"{name}_tokens_per_s_batch_{batch}", speed, n=tokens[1])
    if name == "llama":
        report.set(f"llama_peak_mib_batch_{batch}", peak)
    say(f"{name}, batch {batch}: {speed:.1f} tokens per CPU second")
    return texts


def _complete(
    backend: Any, requests: Sequence[Request], params: SamplingParams
) -> tuple[list[str], list[Completion]]:
    made = sorted(backend.generate(requests, params, Decoder()), key=lambda one: one.number)
    return [one.text for one in made], made


def _same(report: Report, key: str, one: Sequence[str], other: Sequence[str]) -> None:
    same = sum(a == b for a, b in zip(one, other, strict=True))
    report.set(key, rate(same, len(one)), n=len(one))


def _common(one: str, other: str) -> int:
    """Characters before the first difference."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _first_line(text: str) -> str:
    """The first line behind an opening fence."""
    return re.sub(r"\A\s*```\w*\n", "", text).partition("\n")[0]


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0
