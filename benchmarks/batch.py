"""Batches of unequal prompts: drafts in one batch against batch size 1, in fp32.

Greedy completions of HumanEval's prompts by one model, all in one batch with suffix drafts of at
most five tokens. ``exact_rate_fp32`` is the fraction of completions that equal
batch 1's without drafts; ``tokens_per_s`` counts tokens per CPU second on one thread, including
prompt encoding; ``plain_tokens_per_s`` is without drafts, ``ratio`` the first over the second.

Limit: a small model on a CPU, where the cost of a pass grows with its tokens. The published methods
that realign rows (EQSPEC, EXSPEC) were measured until 2026-12-01; see docs/measurements.md.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import rate

_DRAFT_TOKENS = 5


@options(quick={"prompts": 4, "max_new_tokens": 16})
def run(
    *, model: str = "embedded", prompts: int = 8, max_new_tokens: int = 48
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        model: the decoding model.
        prompts: number of prompts in the batch.
        max_new_tokens: maximum tokens per completion.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens)
    import torch

    from codegen.evals.tasks import load as load_task
    from codegen.models import load

    torch.set_num_threads(1)
    loaded = load(model, dtype=torch.float32, device="cpu")
    report = Report()
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    problems = list(load_task("humaneval").problems())
    chosen = [problems[number * len(problems) // prompts] for number in range(prompts)]
    given = [loaded.tokenizer(problem.prompt).input_ids for problem in chosen]
    alone = [decoded(loaded, [prompt], max_new_tokens)[0][0] for prompt in given]
    say("batch 1 is done")
    speeds: dict[str, float] = {}
    for prefix, drafted in (("plain_", 0), ("", _DRAFT_TOKENS)):
        found, spent = decoded(loaded, given, max_new_tokens, drafted)
        made = sum(map(len, found))
        same = sum(a == b for a, b in zip(found, alone, strict=True))
        speeds[prefix] = made / spent
        report.set(f"{prefix}exact_rate_fp32", rate(same, len(given)), n=len(given))
        report.set(f"{prefix}tokens_per_s", made / spent, n=made)
    report.set("ratio", speeds[""] / speeds["plain_"])
    return report.mapping()


def decoded(
    loaded: Any, prompts: Sequence[list[int]], tokens: int, draft_tokens: int = 0
) -> tuple[list[list[int]], float]:
    """Returns a batch's greedy completions, with drafts if allowed, and the CPU seconds."""
    from codegen.decoding.drafts import SuffixDrafter
    from codegen.decoding.loop import Row, decode
    from codegen.decoding.strategies.speculative import Speculation
    from codegen.generation.transformers import TransformersBackend

    rows = [Row(list(prompt), [0.0] * tokens) for prompt in prompts]
    speculation = None
    if draft_tokens:
        speculation = Speculation([SuffixDrafter() for _ in rows], limit=draft_tokens)
    began = time.process_time()
    decode(
        loaded.model, rows, max_new_tokens=tokens, temperature=0, top_p=1,
        eos=TransformersBackend(loaded).eos, strategy=speculation,
    )  # fmt: skip
    return [row.tokens for row in rows], time.process_time() - began
