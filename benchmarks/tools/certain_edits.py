"""Answers of the server after an edit, compared with re-encoding everything.

Each edit goes through the engine: a request before it, then one for the fast answer, one for the
certain answer, and one on exact states, which are bitwise equal to a new document's. The requests
complete the rest of the line.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import fmean
from typing import Any

from codegen.benchmarks.tools.history_edits import HistoryEdit
from codegen.benchmarks.tools.notes import say

LONGEST_LINE = 24  # tokens
# The sentinels of a forced order are unused special tokens: this measures the effect of the order
# on a cache, not the model's infilling quality.
LAYOUTS = {"prefix": "", "psm": "<gh_stars>{prefix}<issue_start>{suffix}<issue_comment>"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One edit in one layout.

    Attributes:
        name, kind, repository: attributes of the edit.
        layout: prompt layout.
        tokens: prompt tokens after the edit.
        behind: tokens that a prefix cache would encode, from the first changed one.
        encoded: tokens that the update encoded.
        recomputed: tokens re-encoded because the first answer was in doubt.
        fast_same: True if the fast answer equals the exact states' answer.
        same: True if the certain answer equals it.
        fast_cpu_s: CPU time to the fast answer.
        certain_cpu_s: CPU time from there to the certain answer; milliseconds unless in doubt.
    """

    name: str
    kind: str
    repository: str
    layout: str
    tokens: int
    behind: int
    encoded: int
    recomputed: int
    fast_same: bool
    same: bool
    fast_cpu_s: float
    certain_cpu_s: float


def served_model(layout: str, context: int = 1024) -> Any:
    """Opens the embedded model as served, in one of :data:`LAYOUTS`."""
    from codegen.models import load
    from codegen.server.completion.model_worker import ServedModel
    from codegen.server.completion.prompts import FimFamily, Prompter
    from codegen.server.completion.requests import ServerLimits

    model = ServedModel(load("embedded"), limits=ServerLimits(context_tokens=context))
    model.family = FimFamily(f"forced-{layout}", LAYOUTS[layout]) if LAYOUTS[layout] else None
    model.prompter = Prompter(model.tokenizer, model.family, model.vocabulary, model.limit)
    return model


async def outcome(engine: Any, edit: HistoryEdit, layout: str) -> Outcome | None:
    """Runs one edit through the engine, as its own document; None if the edit is not in the
    prompt's window.
    """
    from codegen.generation import SamplingParams
    from codegen.server.completion.requests import CompletionRequest, DocumentKey

    key = DocumentKey("bench", "", f"{layout} {edit.name}")
    options: dict[str, Any] = {
        "language": "python", "params": SamplingParams(LONGEST_LINE), "multiline": "never",
    }  # fmt: skip
    before, after = (CompletionRequest(key, *text, **options) for text in (edit.before, edit.after))
    build = engine.source.prompter.build
    old, new = (build(engine.within_limits(one)).ids for one in (before, after))
    if old == new:
        return None
    await engine.complete(before)
    began = time.process_time()
    fast = await engine.complete(replace(after, certain=False))
    fast_s = time.process_time() - began
    began = time.process_time()
    # Uses a different option in each later request, so that earlier suggestions are not reused.
    certain = await engine.complete(replace(after, max_lines=11))
    certain_s = time.process_time() - began
    cache = engine.worker.caches.get(key).cache
    while not cache.exact:  # the idle engine makes the cache exact
        await asyncio.sleep(0.005)
    full = await engine.complete(replace(after, max_lines=10))
    engine.close(key)
    return Outcome(
        name=edit.name,
        kind=edit.kind,
        repository=edit.repository,
        layout=layout,
        tokens=len(new),
        behind=len(new) - _shared(old, new),
        encoded=fast.encoded,
        recomputed=certain.recomputed,
        fast_same=fast.text == full.text,
        same=certain.text == full.text,
        fast_cpu_s=fast_s,
        certain_cpu_s=certain_s,
    )


def outcomes(
    edits: Sequence[HistoryEdit], layouts: Sequence[str], a_kind: int, context: int
) -> list[Outcome]:
    """Returns the outcomes of the first edits of each kind that are in the window, in every layout.

    Args:
        edits: edits in order of preference, more than needed; kinds take turns.
        layouts: some of :data:`LAYOUTS`.
        a_kind: edits per kind and layout.
        context: tokens in a prompt's window.
    """
    from codegen.server.completion.engine import CompletionEngine

    found: list[Outcome] = []
    for layout in layouts:
        engine = CompletionEngine(served_model(layout, context))
        wanted = Counter({edit.kind: a_kind for edit in edits})
        try:
            for edit in _in_turn(edits):
                if not wanted[edit.kind]:
                    continue
                say(f"{layout}: {edit.name}")
                if one := asyncio.run(outcome(engine, edit, layout)):
                    found.append(one)
                    wanted[edit.kind] -= 1
        finally:
            engine.stop()
    return found


def table(found: Sequence[Outcome]) -> dict[str, float]:
    """Returns fractions and means of some outcomes.

    Returns: ``edits``; fractions ``same``, ``fast_same``, ``in_doubt``; mean tokens ``encoded``,
        ``recomputed`` and ``behind``; ``cost``, the ratio of their sums (``encoded`` over
        ``behind``); mean CPU seconds to the fast and the certain answer.
    """
    spent = sum(one.encoded + one.recomputed for one in found)
    return {
        "edits": len(found),
        "same": fmean(one.same for one in found),
        "fast_same": fmean(one.fast_same for one in found),
        "in_doubt": fmean(one.recomputed > 0 for one in found),
        "encoded": fmean(one.encoded for one in found),
        "recomputed": fmean(one.recomputed for one in found),
        "behind": fmean(one.behind for one in found),
        "cost": spent / max(1, sum(one.behind for one in found)),
        "fast_cpu_s": fmean(one.fast_cpu_s for one in found),
        "certain_cpu_s": fmean(
            one.fast_cpu_s + one.certain_cpu_s * (one.recomputed > 0) for one in found
        ),
    }


def _in_turn(edits: Sequence[HistoryEdit]) -> Iterator[HistoryEdit]:
    """Interleaves the kinds."""
    by_kind: dict[str, list[HistoryEdit]] = {}
    for edit in edits:
        by_kind.setdefault(edit.kind, []).append(edit)
    return (edit for row in zip_longest(*by_kind.values()) for edit in row if edit is not None)


def _shared(one: list[int], other: list[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
