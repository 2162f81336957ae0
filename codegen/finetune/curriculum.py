"""Dataset Decomposition: sequences of few lengths, batches of equal tokens, short ones first.

Source: Pouransari et al., "Dataset Decomposition: Faster LLM Training with Variable Sequence Length
Curriculum", NeurIPS 2024 (arXiv 2405.13226), sections 3.1 and 3.2 and appendix B.2. Each optimizer
step draws sequences of one length; step sizes in tokens are equal, so short lengths make large
batches. Two ways to come by them:

- ``decompose``: documents are cut into contiguous pieces whose lengths are powers of two, the
  largest first, for pre-training on raw files (:func:`decompose`);
- ``bucket``: whole examples go to the smallest length that holds them and are padded, for
  instruction data (:func:`bucket_of`).

The order of lengths is a plan made before training from the seed (:func:`draw_order`), so a resumed
run needs no state but its step, and all processes draw the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

Odds = Literal["uniform", "grow_linear", "grow_p2"]
Draw = Literal["paper", "weighted", "deterministic"]


def decompose(length: int, least: int, most: int, rng: random.Random | None = None) -> list[int]:
    """Lengths of a document's pieces in order, powers of two from ``least`` to ``most``.

    A document of l tokens gives pieces of ``most`` while it has as many, and then the binary digits
    of the rest, the largest first (section 3.1); what is left below ``least`` is lost.

    Args:
        length: tokens of the document.
        least: the shortest piece.
        most: the longest.
        rng: with one, a document that is longer than ``most`` gives pieces of all lengths, drawn
            with odds 1, 2, 4, ... from the longest to the shortest, so that each length gets as
            many tokens of it (as in the released code); without, pieces of ``most``.
    """
    sizes = [most]
    while sizes[-1] > least:
        sizes.append(sizes[-1] // 2)
    odds = [2**n for n in range(len(sizes))]
    pieces = []
    while length >= most:
        size = most if rng is None else rng.choices(sizes, odds)[0]
        pieces.append(size)
        length -= size
    for size in sizes:
        if length >= size:
            pieces.append(size)
            length -= size
    return pieces


def grid(least: int, most: int, *, finer: bool = False) -> list[int]:
    """Lengths least, 2 least, ... up to the first that is ``most`` or more.

    Args:
        least: the smallest.
        most: what must fit.
        finer: with 1.5 times each in between, so that at most a third of a row is padding.
    """
    sizes = []
    size = least
    while True:
        sizes.append(size)
        if size >= most:
            return sizes
        if finer:
            sizes.append(size * 3 // 2)
            if sizes[-1] >= most:
                return sizes
        size *= 2


def bucket_of(length: int, sizes: Sequence[int]) -> int:
    """The number of the smallest of rising sizes that holds so many tokens."""
    return next(number for number, size in enumerate(sizes) if size >= length)


def odds_of(name: Odds, buckets: int) -> list[int]:
    """The odds of each length, shortest first (table 2 of the paper)."""
    if name == "uniform":
        return [1] * buckets
    if name == "grow_linear":
        return list(range(buckets, 0, -1))
    return [2**n for n in range(buckets - 1, -1, -1)]


def units_per_cycle(available: Sequence[int], total: float, cycles: int) -> list[int]:
    """How many units (batches, or shards) of each length one cycle takes.

    The shares of the lengths are those of what is available; the longest makes up for rounding, so
    that a cycle has as many as it must or the next whole number. With the released script's shards
    this gives its example's numbers.

    Args:
        available: units at hand of each length, shortest first; units of all lengths are equal in
            tokens.
        total: units that the whole run takes; more than are at hand means repetition.
        cycles: into which it is divided.
    """
    wanted = total / cycles
    scale = wanted / sum(available)
    units = [round(count * scale) for count in available]
    while sum(units) < wanted:
        units[-1] += 1
    while sum(units) - 1 >= wanted and units[-1] > 0:
        units[-1] -= 1
    return units


def draw_order(
    counts: Sequence[int], odds: Sequence[int], cycles: int, draw: Draw, rng: random.Random
) -> list[int]:
    """Which length each step draws from; length i is drawn ``counts[i]`` times.

    In each cycle, short lengths have the larger odds and run out first, so that it ends long.

    Args:
        counts: steps of each length, shortest first.
        odds: see :func:`odds_of`.
        cycles: repetitions of the curriculum over the run.
        draw: ``paper``: odds among the lengths that are left (algorithm of appendix B.2).
            ``weighted``: odds times the steps of that length in the cycle, as in the released code;
            the same for equal counts. ``deterministic``: as in OLMo-core's data loader, each cycle
            falls into as many parts as there are lengths; part p has of length i a share that
            halves with the distance of p from i, shuffled.
        rng: decides the draws.
    """
    order: list[int] = []
    for left in _split(counts, cycles):
        if draw == "deterministic":
            order += _parts(left, rng)
            continue
        weights = [o * (n if draw == "weighted" else 1) for o, n in zip(odds, left, strict=True)]
        left = list(left)
        while sum(left):
            open_weights = [w if n else 0 for w, n in zip(weights, left, strict=True)]
            (chosen,) = rng.choices(range(len(left)), open_weights)
            left[chosen] -= 1
            order.append(chosen)
    return order


def _split(counts: Sequence[int], cycles: int) -> list[list[int]]:
    """Counts divided over cycles as evenly as whole numbers allow."""
    return [[n * (c + 1) // cycles - n * c // cycles for n in counts] for c in range(cycles)]


def _parts(left: Sequence[int], rng: random.Random) -> list[int]:
    parts: list[list[int]] = [[] for _ in left]
    for length, count in enumerate(left):
        shares = [2.0 ** -abs(part - length) for part in range(len(left))]
        given, passed = 0, 0.0
        for part, share in enumerate(shares):
            passed += share
            upto = round(count * passed / sum(shares))
            parts[part] += [length] * (upto - given)
            given = upto
    for part in parts:
        rng.shuffle(part)
    return [length for part in parts for length in part]
