"""Batches of unequal rows: cursors per row against realignment (EQSPEC, EXSPEC), in fp32.

What: greedy completions of HumanEval's prompts by one model, all in one batch (EXSPEC: in batches
of half as many, out of a pool of all). All methods verify suffix drafts of at most ``draft_tokens``
(K) tokens. For M in ``ours``, ``eqspec``, ``exspec`` and ``plain`` (ours without drafts):

- ``M_exact_rate``: completions equal to those of batch 1, greedy, without drafts;
- ``M_tokens_per_s``: tokens a CPU second, prompts' encoding included; one thread;
- ``M_passes``, ``M_fed_per_token``: passes that verify; tokens fed in them for an emitted one;
- ``M_realigned_per_token``: tokens whose states were moved to another column, for an emitted one;
- ``M_padded_per_token``: columns read that hold nothing of their row, for an emitted one (left
  padding of theirs, slots behind a short row's end of ours).

``exspec_grouped``: the share of EXSPEC's passes without padding. ``exact_rate_fp32``,
``tokens_per_s``, ``plain_tokens_per_s`` and ``ratio`` are ours, as the other benchmarks name them.

Limits: a small model on a CPU, where passes cost by their tokens and moving states is cheap beside
them; on a GPU with long contexts moves weigh more (the paper: 39 to 47 % of the time at 8 to 16
rows). EQSPEC and EXSPEC are our code after the paper, with its released code's defects repaired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.benchmarks.tools.statistics import rate

if TYPE_CHECKING:
    from codegen.benchmarks.tools.realign import Limits, Tally


def run(
    quick: bool = False,
    *,
    model: str = "embedded",
    prompts: int = 8,
    max_new_tokens: int = 48,
    draft_tokens: int = 5,
    seed: int = 0,
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: four prompts, 16 tokens.
        model: what decodes.
        prompts: in the batch.
        max_new_tokens: of each completion.
        draft_tokens: most of a draft.
        seed: of nothing; figures are of one run.
    """
    at_least(1, prompts=prompts, max_new_tokens=max_new_tokens, draft_tokens=draft_tokens)
    if quick:
        prompts, max_new_tokens = 4, 16
    import torch

    from codegen.benchmarks.tools.realign import Limits, eqspec, exspec
    from codegen.decoding.drafts import SuffixDrafter
    from codegen.generation.transformers import TransformersBackend
    from codegen.models import load

    torch.set_num_threads(1)
    loaded = load(model, dtype=torch.float32, device="cpu")
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    given = _prompts(loaded, prompts)
    limits = Limits(max_new_tokens, draft_tokens, TransformersBackend(loaded).eos)

    def drafters() -> list[Any]:
        return [SuffixDrafter() for _ in given]

    half = max(1, prompts // 2)
    methods: dict[str, Callable[[], tuple[list[list[int]], Tally]]] = {
        "plain": lambda: ours(loaded.model, given, Limits(max_new_tokens, 0, limits.eos)),
        "ours": lambda: ours(loaded.model, given, limits),
        "eqspec": lambda: eqspec(loaded.model, given, drafters(), limits),
        "exspec": lambda: exspec(
            loaded.model, given, drafters(), limits, batch=half, window=len(given)
        ),
    }
    alone = [ours(loaded.model, [p], Limits(max_new_tokens, 0, limits.eos))[0][0] for p in given]
    say("batch 1 is done")
    speeds: dict[str, float] = {}
    for name, method in methods.items():
        began = time.process_time()
        found, tally = method()
        spent = time.process_time() - began
        made = sum(map(len, found))
        same = sum(a == b for a, b in zip(found, alone, strict=True))
        speeds[name] = made / spent
        report.set(f"{name}_exact_rate", rate(same, len(given)), n=len(given))
        report.set(f"{name}_tokens_per_s", made / spent, n=made)
        report.set(f"{name}_cpu_s", spent)
        report.set(f"{name}_passes", tally.passes)
        for key in ("fed", "realigned", "padded"):
            report.set(f"{name}_{key}_per_token", getattr(tally, key) / made)
        if name == "exspec":
            report.set("exspec_grouped", rate(tally.grouped, tally.passes), n=tally.passes)
        say(f"{name}: {made / spent:.1f} tokens/s, {same} of {len(given)} as batch 1")
    report.set("exact_rate_fp32", report.figures["ours_exact_rate"])
    report.set("tokens_per_s", speeds["ours"])
    report.set("plain_tokens_per_s", speeds["plain"])
    report.set("ratio", speeds["ours"] / speeds["plain"])
    return report.mapping()


def ours(model: Any, prompts: Sequence[list[int]], limits: Limits) -> tuple[list[list[int]], Tally]:
    """The decoding loop on one batch, with suffix drafts if they may have tokens; what it took."""
    from codegen.decoding.drafts import SuffixDrafter
    from codegen.decoding.loop import Row, decode
    from codegen.decoding.strategies.speculative import Speculation

    rows = [Row(list(prompt), [0.0] * limits.max_new_tokens) for prompt in prompts]
    speculation = None
    if limits.draft_tokens:
        speculation = Speculation([SuffixDrafter() for _ in rows], limit=limits.draft_tokens)
    with _counted() as tally:
        decode(
            model, rows, max_new_tokens=limits.max_new_tokens, temperature=0, top_p=1,
            eos=limits.eos, strategy=speculation,
        )  # fmt: skip
    return [row.tokens for row in rows], tally


@contextmanager
def _counted() -> Iterator[Tally]:
    """Counts what the loop's passes feed and read in vain; prompts' encoding left out."""
    from codegen.benchmarks.tools.realign import Tally
    from codegen.decoding.rows import CachedRows

    tally, place = Tally(), CachedRows.place

    def counted(self: Any, trees: Any, first: int = 0) -> Any:
        tally.passes += 1
        tally.fed += trees.width * len(self.cursors)
        tally.padded += sum(max(self.cursors) - cursor for cursor in self.cursors)
        return place(self, trees, first)

    CachedRows.place = counted  # type: ignore[method-assign]
    try:
        yield tally
    finally:
        CachedRows.place = place  # type: ignore[method-assign]


def _prompts(loaded: Any, count: int) -> list[list[int]]:
    from codegen.evals.tasks import load as load_task

    problems = list(load_task("humaneval").problems())
    chosen = [problems[number * len(problems) // count] for number in range(count)]
    return [loaded.tokenizer(problem.prompt).input_ids for problem in chosen]
