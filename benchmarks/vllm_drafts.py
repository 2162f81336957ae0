"""Our drafts in vLLM: equality of greedy text, tokens per step, acceptance.

What: greedy completions by vLLM in float32, all prompts of a set together, on ``humaneval``
(functions from their docstrings, chat) and ``humanevalfix`` (functions with a bug to fix, shown in
the prompt, chat). Of each method and set: ``SET_METHOD_same``, the share of completions that are
those of vLLM without drafts; ``SET_METHOD_tokens_per_step``, what a request grew by in a step that
it took part in; ``SET_METHOD_acceptance``, accepted over drafted tokens, as vLLM counts them.

Methods: ``suffix`` drafts from the request's own text; ``edit``, on ``humanevalfix``, first from
the function that is repaired.

It runs in a Python that has vLLM (docs/vllm.md); without it all figures are null.

Limits: a small model and few tokens; nothing here is a speed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.benchmarks.tools.code_requests import humaneval_requests
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import rate, ratio_of_sums

_METHODS = {"humaneval": ("suffix",), "humanevalfix": ("suffix", "edit")}
_KEYS = ("same", "tokens_per_step", "acceptance")
_INSTALL = "See docs/vllm.md, and run this with the Python that has vLLM."


def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    prompts: int = 40,
    max_new_tokens: int = 64,
    memory: float = 0.4,
    seed: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: four prompts of each set, 24 tokens.
        model: what decodes.
        prompts: of each set, evenly spaced.
        max_new_tokens: of each completion.
        memory: the share of the machine's memory that vLLM may take.
        seed: of the bootstrap.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    if quick:
        prompts, max_new_tokens = 4, 24
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    if importlib.util.find_spec("vllm") is None:
        for name, methods in _METHODS.items():
            for method in methods:
                for key in _KEYS:
                    report.set(f"{name}_{method}_{key}", None)
        return {**report.mapping(), "install": _INSTALL}
    from codegen.generation.vllm import VllmBackend, import_vllm

    report.versions["vllm"] = import_vllm().__version__
    options: dict[str, Any] = {
        "dtype": "float32",
        "max_model_len": 1024,
        "disable_log_stats": False,
        "gpu_memory_utilization": memory,
    }
    generator = VllmBackend(model, options=options)
    sets = humaneval_requests(prompts)
    plain = {
        name: _complete(generator, "sample", requests, max_new_tokens)
        for name, requests in sets.items()
    }
    say("without drafts: done")
    for name, requests in sets.items():
        for method in _METHODS[name]:
            before = _counted(generator)
            found = _complete(generator, method, requests, max_new_tokens)
            drafted, accepted = (a - b for a, b in zip(_counted(generator), before, strict=True))
            key = f"{name}_{method}"
            pairs = zip(found, plain[name], strict=True)
            same = sum(one.completion == other.completion for one, other in pairs)
            report.set(f"{key}_same", rate(same, len(found)), n=len(found))
            steps = [sample.meta["passes"] for sample in found]
            made = [sample.completion_tokens for sample in found]
            report.set(f"{key}_tokens_per_step", ratio_of_sums(made, steps, seed=seed), n=sum(made))
            report.set(f"{key}_acceptance", rate(accepted, drafted), n=drafted)
            say(f"{key}: {same} of {len(found)} the same, {sum(made)} tokens in {sum(steps)} steps,"
                f" {accepted} of {drafted} drafted tokens accepted")  # fmt: skip
    generator.close()
    return report.mapping()


def _complete(generator: Any, decoder: str, requests: Sequence[Any], most: int) -> list[Any]:
    from codegen.generation import Decoder, SamplingParams, samples

    params = SamplingParams(max_new_tokens=most)
    made = samples(generator, requests, params, Decoder(decoder))
    return sorted(made, key=lambda sample: sample.index)


def _counted(generator: Any) -> tuple[int, int]:
    return generator.engine("drafts").drafted()
