"""What a user of the server ends up with after an edit, against encoding everything again.

Each edit goes through the engine: a request before it, then one after it that takes the fast
answer, one that wants it settled, and one on exact states, which are those of a new document to the
last bit. The requests ask for the rest of the line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any
from unittest.mock import patch

from codegen.benchmarks.tools.history_edits import HistoryEdit
from codegen.decoding.editing import EditableCache

LONGEST_LINE = 24  # tokens


@dataclass(frozen=True, slots=True)
class Outcome:
    """One edit in one layout.

    Attributes:
        name, kind, repository: of the edit.
        layout: of prompts.
        tokens: of the prompt after the edit.
        behind: those that a cache of prefixes would encode: from the first new one on.
        encoded: those that the update encoded.
        recomputed: those encoded again to settle a doubt.
        margin: the least lead, in logits, of a token of the fast answer.
        fast_same: whether the fast answer is that of exact states.
        same: whether the settled one is.
        fast_cpu_s, settle_cpu_s, behind_cpu_s: CPU time of the update, of settling, and of
            encoding ``behind`` tokens at the rate of the whole prompt.
    """

    name: str
    kind: str
    repository: str
    layout: str
    tokens: int
    behind: int
    encoded: int
    recomputed: int
    margin: float
    fast_same: bool
    same: bool
    fast_cpu_s: float
    settle_cpu_s: float
    behind_cpu_s: float

    @property
    def row(self) -> dict[str, Any]:
        """For a file of JSON lines."""
        return asdict(self)


async def outcome(engine: Any, edit: HistoryEdit, layout: str) -> Outcome:
    """Runs one edit through the engine, as a document of its own."""
    from codegen.server.requests import CompletionRequest, DocumentKey

    key = DocumentKey("bench", "", f"{layout} {edit.name}")
    before, after = (
        CompletionRequest(
            key, *text, language="python", max_tokens=LONGEST_LINE, multiline="never", settle=False
        )
        for text in (edit.before, edit.after)
    )
    began = time.process_time()
    first = await engine.complete(before)
    rate = (time.process_time() - began) / max(1, first.prompt_tokens)
    build = engine.model.prompter.build
    old, new = (build(engine._within_limits(one)).ids for one in (before, after))
    began = time.process_time()
    with _margins() as margins:
        fast = await engine.complete(replace(after, max_lines=11))
    fast_s = time.process_time() - began
    began = time.process_time()
    settled = await engine.complete(replace(after, settle=True, max_lines=10))
    settle_s = time.process_time() - began
    cache = engine._caches.get(key).cache
    while not cache.exact:  # the engine makes it so when it is idle
        await asyncio.sleep(0.005)
    full = await engine.complete(replace(after, max_lines=9))  # a new option: asked anew
    engine.close(key)
    behind = len(new) - _shared(old, new)
    return Outcome(
        name=edit.name,
        kind=edit.kind,
        repository=edit.repository,
        layout=layout,
        tokens=len(new),
        behind=behind,
        encoded=fast.encoded,
        recomputed=settled.recomputed,
        margin=min(margins, default=1e9),
        fast_same=fast.text == full.text,
        same=settled.text == full.text,
        fast_cpu_s=fast_s,
        settle_cpu_s=settle_s,
        behind_cpu_s=behind * rate,
    )


def outcomes(engine: Any, edits: list[HistoryEdit], layout: str) -> Iterator[Outcome]:
    """Of several edits, one after the other."""
    for edit in edits:
        yield asyncio.run(outcome(engine, edit, layout))


@contextmanager
def _margins() -> Iterator[list[float]]:
    """The lead of each token that is asked about while states are approximate."""
    found: list[float] = []
    asked = EditableCache.in_doubt

    def in_doubt(cache: EditableCache, logits: Any) -> bool:
        if not cache.exact:
            best = logits.float().topk(2).values
            found.append(float(best[0] - best[1]))
        return asked(cache, logits)

    with patch.object(EditableCache, "in_doubt", in_doubt):
        yield found


def _shared(one: list[int], other: list[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
