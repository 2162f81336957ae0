"""The edit cursor and the drafts of diffs: how many tokens a step, and that the thread is found."""

from __future__ import annotations

import difflib
import random
from typing import Any

import pytest

from codegen.benchmarks.tools.code_tokens import random_edits
from codegen.benchmarks.tools.drafting import Case, Outcome, outcomes, teacher_forced
from codegen.decoding.drafts import Context, CursorDrafter, DiffDrafter, DrafterChain, SuffixDrafter


def rewritten(drafter: Any, before: list[int], after: list[int], limit: int = 64) -> Outcome:
    return teacher_forced(drafter, Case(before, after, Context(original=before)), limit)


@pytest.mark.parametrize(("rate", "least"), [(0.02, 13), (0.005, 45)])
@pytest.mark.parametrize("kind", ["chain", "tree", "gated"])
def test_tokens_a_step_at_random_edits(
    words: Any, sources: list[str], rate: float, least: float, kind: str
) -> None:
    rng = random.Random(11)
    texts = [words.encode(source)[:4000] for source in sources]

    def make() -> Any:
        cursor = CursorDrafter(words.line_ends, tree=kind == "tree")
        return (
            DrafterChain({"cursor": cursor, "suffix": SuffixDrafter()})
            if kind == "gated"
            else cursor
        )

    cases = [Case(t, random_edits(t, rate, rng), Context(original=t)) for t in texts]
    found = outcomes(make, cases, 64)
    assert sum(o.tokens for o in found) / sum(o.steps for o in found) >= least


@pytest.mark.parametrize("seed", range(5))
def test_whole_lines_come_and_go(words: Any, sources: list[str], seed: int) -> None:
    """Blocks of lines deleted, inserted from elsewhere, and replaced: few steps are lost."""
    rng = random.Random(seed)
    lines = sources[seed].splitlines(keepends=True)[:400]
    strange = sources[(seed + 1) % len(sources)].splitlines(keepends=True)
    after: list[str] = []
    at = new = blocks = 0
    while at < len(lines):
        keep = rng.randrange(20, 60)
        after += lines[at : at + keep]
        at += keep
        kind = rng.randrange(3)
        if kind != 0:
            insert = strange[rng.randrange(len(strange) - 10) :][: rng.randrange(1, 9)]
            after += insert
            new += len(words.encode("".join(insert)))
        if kind != 1:
            at += rng.randrange(1, 30)
        blocks += 1
    before = words.encode("".join(lines))
    target = words.encode("".join(after))
    outcome = rewritten(CursorDrafter(words.line_ends), before, target)
    # Full drafts where nothing changed, a step for each new token, a handful for each block.
    assert outcome.steps <= (len(target) - new) / 64 + new + 6 * blocks


def test_drafts_shrink_while_the_row_goes_its_own_way() -> None:
    drafter = CursorDrafter()
    drafter.begin([], Context(original=list(range(500))))
    assert len(drafter.draft(64)) == 64
    drafter.accept(list(range(100)))
    for token in range(1000, 1040):
        drafter.accept([token])
    assert len(drafter.draft(64)) == 8
    drafter.accept([100, 101, 102, 103])
    assert drafter.at == 104 and len(drafter.draft(64)) == 64
    empty = CursorDrafter()
    empty.begin([1, 2], Context())
    empty.accept([5, 6])
    assert len(empty.draft(64)) == 0


def changed(source: str, seed: int) -> str:
    """The source with some lines changed, inserted and deleted."""
    rng = random.Random(seed)
    after = []
    for line in source.splitlines(keepends=True):
        kind = rng.random()
        if kind < 0.02:
            after.append(line.replace("self", "this") if "self" in line else "    # " + line)
        elif kind < 0.03:
            after += [line, "    x_new = 1\n"]
        elif kind > 0.01 + 0.02:
            after.append(line)
    return "".join(after)


@pytest.mark.parametrize("seed", range(3))
def test_unified_diffs(words: Any, sources: list[str], seed: int) -> None:
    before = "".join(sources[seed].splitlines(keepends=True)[:300])
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), changed(before, seed).splitlines(keepends=True), "a", "b"
    )
    target = words.encode("".join(lines))
    words.encode("".join(f" {line}" for line in before.splitlines(keepends=True)))
    make = lambda: DiffDrafter(words.encode, words.decode, words.line_ends)  # noqa: E731
    outcome = teacher_forced(make(), Case([], target, Context(source=before)), 64)
    assert outcome.tokens / outcome.steps >= 3.5  # a header's dozen tokens come one by one
    without = teacher_forced(make(), Case([], target, Context()), 64)
    assert without.steps > 0.85 * len(target)  # headers alone


@pytest.mark.parametrize("seed", range(3))
def test_search_and_replace_blocks(words: Any, sources: list[str], seed: int) -> None:
    before = sources[seed].splitlines()[:300]
    after = changed("\n".join(before) + "\n", seed).splitlines()
    blocks = []
    for group in difflib.SequenceMatcher(None, before, after, False).get_grouped_opcodes(3):
        old = before[group[0][1] : group[-1][2]]
        new = after[group[0][3] : group[-1][4]]
        blocks += ["<<<<<<< SEARCH", *old, "=======", *new, ">>>>>>> REPLACE", ""]
    target = words.encode("\n".join(blocks))
    drafter = DiffDrafter(words.encode, words.decode, words.line_ends)
    outcome = teacher_forced(drafter, Case([], target, Context(source="\n".join(before))), 64)
    assert outcome.tokens / outcome.steps >= 2.5
