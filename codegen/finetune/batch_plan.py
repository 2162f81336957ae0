"""Plans the examples of each optimizer step and their rows before training.

The plan depends only on the examples, the settings and the seed. So resuming only skips steps,
without sampler or curriculum state; all processes have the same plan and run their part of each
step; and two runs over the same example ids with one text each (such as LintSeq and its baseline)
train on the same programs at the same steps.

Plans are permutations of all examples (:func:`make_plan`), chunks with one example per domain
(:func:`make_mixture`), or steps of one length each, short ones first (:func:`make_curriculum`).
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from codegen.core.errors import ConfigError, plural
from codegen.decoding.prefill import best_fit
from codegen.finetune.dataset import ExampleLengths
from codegen.finetune.encode import EncodedExample
from codegen.finetune.recipe import Curriculum, Isolation, Mixture, Odds

# A row: chunks of example numbers.
Row = tuple[tuple[int, ...], ...]


def numbers_of(row: Row) -> list[int]:
    """Returns the example numbers of a row."""
    return list(chain.from_iterable(row))


class LazySteps(Sequence[list[list[Row]]]):
    """The micro-batches of each step (lists of rows), built on access to save memory."""

    def __init__(self, count: int, make: Callable[[int], list[list[Row]]]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """Returns the micro-batches of one step."""
        return self._make(range(self._count)[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """The steps of a run.

    Attributes:
        steps: micro-batches of each optimizer step, each a list of rows.
        isolation: which examples of a row attend to each other.
        widths: minimum row width of each step; empty to pad to the longest row.
    """

    steps: Sequence[list[list[Row]]]
    isolation: Isolation = "example"
    widths: list[int] = field(default_factory=list)

    def numbers(self, step: int) -> list[int]:
        """Returns the example numbers of a step."""
        return [number for rows in self.steps[step] for row in rows for number in numbers_of(row)]

    def width(self, step: int) -> int:
        """Returns the minimum row width of a step."""
        return self.widths[step] if self.widths else 0

    def micro_batches(self) -> Iterator[tuple[list[Row], int]]:
        """Yields each micro-batch of the run and its minimum row width."""
        for number in range(len(self.steps)):
            yield from ((rows, self.width(number)) for rows in self.steps[number])


def make_plan(
    examples: Sequence[EncodedExample],
    *,
    steps: int,
    batch_size: int,
    micro_batch_size: int,
    seed: int,
    row_length: int = 0,
    isolation: Isolation = "example",
    shares: Mapping[str, float] = {},
) -> StepPlan:
    """Plans steps of ``batch_size`` examples.

    Each epoch is a new permutation; a batch may span two epochs, so no example is skipped. With
    ``row_length``, a step's examples are packed into rows of at most that many tokens; otherwise
    each has its own row, and rows of similar length share a micro-batch. Neither layout changes the
    step's gradient if examples are isolated. With ``shares``, each domain has its own permutations,
    and its number of examples so far is always within 1 of the exact value.
    """
    lengths = ExampleLengths.of(examples)
    if shares:
        order = _by_shares(lengths, shares, seed, steps * batch_size)
    else:
        order = _endless(lengths, range(len(lengths)), seed, steps * batch_size)

    def step(number: int) -> list[list[Row]]:
        batch = order[number * batch_size : (number + 1) * batch_size].tolist()
        return _rows(lengths.slots, [(k,) for k in batch], micro_batch_size, row_length)

    return StepPlan(LazySteps(steps, step), isolation)


def _by_shares(
    lengths: ExampleLengths, shares: Mapping[str, float], seed: int, wanted: int
) -> np.ndarray:
    names, total = sorted(shares), sum(shares.values())
    rates = np.array([shares[name] / total for name in names])
    counts = np.zeros(len(names), np.int64)
    chosen = np.empty(wanted, np.int64)
    for position in range(wanted):  # take the domain with the largest deficit
        chosen[position] = turn = int(np.argmax(rates * (position + 1) - counts))
        counts[turn] += 1
    domains = lengths.domains()
    order = np.empty(wanted, np.int64)
    for turn, name in enumerate(names):
        numbers = [number for number, domain in enumerate(domains) if domain == name]
        order[chosen == turn] = _endless(lengths, numbers, seed, int(counts[turn]))
    return order


def make_mixture(
    examples: Sequence[EncodedExample],
    mixture: Mixture,
    *,
    steps: int,
    batch_size: int,
    micro_batch_size: int,
    seed: int,
    row_length: int = 0,
    isolation: Isolation = "example",
) -> StepPlan:
    """Plans chunks as large as the number of domains: Mixture-of-Instructions (arXiv 2404.18410).

    With ``mixture.balance`` each chunk has one example per domain, and small domains repeat;
    otherwise examples keep their order. ``mixture.order`` sorts a chunk by domain name, shuffles
    it, or puts the first domain without a system prompt first. The paper's mask is
    ``isolation: chunk``.

    Raises:
        ConfigError: if ``batch_size`` is not a multiple of the number of domains with examples.
    """
    by_domain: dict[str, list[int]] = defaultdict(list)
    lengths = ExampleLengths.of(examples)
    domains = lengths.domains()
    for number, domain in enumerate(domains):
        by_domain[domain].append(number)
    size = len(by_domain)
    if size < 2 or batch_size % size:
        raise ConfigError(
            f"A mixture of {size} domains cannot fill batches of {batch_size}.",
            "Set at least two domains in data, and batch_size to a multiple of their number.",
        )
    wanted = steps * batch_size // size
    if mixture.balance:
        streams = [
            _endless(lengths, by_domain[name], seed, wanted).tolist() for name in sorted(by_domain)
        ]
        chunks = [list(chunk) for chunk in zip(*streams, strict=True)]
    else:
        numbers = range(len(lengths))
        flat = _endless(lengths, numbers, seed, steps * batch_size).tolist()
        chunks = [flat[k * size : (k + 1) * size] for k in range(wanted)]
    rng = random.Random(f"{seed}:chunks")
    first = next((d for d in sorted(by_domain) if d not in mixture.systems), "")
    puts_first = mixture.order == "default_first"
    for chunk in chunks:
        if mixture.order == "random":
            rng.shuffle(chunk)
        else:
            chunk.sort(key=lambda i: (puts_first and domains[i] != first, domains[i]))
    per_step = batch_size // size

    def step(number: int) -> list[list[Row]]:
        batch = [tuple(c) for c in chunks[number * per_step : (number + 1) * per_step]]
        return _rows(lengths.slots, batch, micro_batch_size, row_length)

    return StepPlan(LazySteps(steps, step), isolation)


def make_curriculum(
    examples: Sequence[EncodedExample], curriculum: Curriculum, *, steps: int, seed: int
) -> StepPlan:
    """Plans steps with equal token counts and one length each, short lengths first.

    Source: Pouransari et al., "Dataset Decomposition: Faster LLM Training with Variable Sequence
    Length Curriculum", NeurIPS 2024 (arXiv 2405.13226), section 3.2 and appendix B.2.

    Each step has rows of one length, ``tokens_per_step`` slots in total (at least one row); an
    example gets the smallest length that fits. Steps are divided among lengths in proportion to
    their tokens. The first step has the longest length, so out-of-memory errors appear at once.

    Args:
        examples: chunks of texts (mode ``decompose``) or whole texts (``bucket``).
        curriculum: lengths, odds and cycles.
    """
    lengths = ExampleLengths.of(examples)
    sizes = grid(curriculum.least, int(lengths.slots.max()))
    held: list[list[int]] = [[] for _ in sizes]
    for number, length in enumerate(lengths.slots.tolist()):
        held[bucket_of(length, sizes)].append(number)
    tokens = [len(numbers) * size for numbers, size in zip(held, sizes, strict=True)]
    counts = apportion(steps, tokens)
    rng = random.Random(f"{seed}:curriculum")
    odds = odds_of(curriculum.odds, len(sizes))
    order = draw_order(counts, odds, curriculum.cycles, rng)
    longest = max(order)
    order.insert(0, order.pop(order.index(longest)))
    batch = [max(1, curriculum.tokens_per_step // size) for size in sizes]
    streams = [
        iter(_endless(lengths, numbers, seed, count * rows).tolist())
        for numbers, count, rows in zip(held, counts, batch, strict=True)
    ]
    planned = []
    for bucket in order:
        rows: list[Row] = [((next(streams[bucket]),),) for _ in range(batch[bucket])]
        planned.append(_grouped(rows, max(1, curriculum.micro_batch_tokens // sizes[bucket])))
    return StepPlan(planned, widths=[sizes[bucket] for bucket in order])


def grid(least: int, longest: int) -> list[int]:
    """Returns ``least``, 2 ``least``, ... up to the first length that is at least ``longest``."""
    sizes = [least]
    while sizes[-1] < longest:
        sizes.append(2 * sizes[-1])
    return sizes


def bucket_of(length: int, sizes: Sequence[int]) -> int:
    """Returns the index of the first of the ascending sizes that is at least ``length``."""
    return next(number for number, size in enumerate(sizes) if size >= length)


def odds_of(name: Odds, buckets: int) -> list[int]:
    """Returns the odds of each length, shortest first (table 2 of the paper)."""
    if name == "uniform":
        return [1] * buckets
    if name == "grow_linear":
        return list(range(buckets, 0, -1))
    return [2**n for n in range(buckets - 1, -1, -1)]


def draw_order(
    counts: Sequence[int], odds: Sequence[int], cycles: int, rng: random.Random
) -> list[int]:
    """Returns the length index of each step; index i occurs ``counts[i]`` times.

    Short lengths have larger odds and run out first, so each cycle ends with long ones (algorithm
    in appendix B.2).

    Args:
        counts: number of steps of each length, shortest first.
        odds: see :func:`odds_of`.
        cycles: repetitions of the curriculum over the run.
    """
    order: list[int] = []
    for left in _split(counts, cycles):
        while sum(left):
            weights = [odd if n else 0 for odd, n in zip(odds, left, strict=True)]
            (chosen,) = rng.choices(range(len(left)), weights)
            left[chosen] -= 1
            order.append(chosen)
    return order


def _split(counts: Sequence[int], cycles: int) -> list[list[int]]:
    """Divides counts over cycles as evenly as integers allow."""
    return [[n * (c + 1) // cycles - n * c // cycles for n in counts] for c in range(cycles)]


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """Divides ``total`` into integers in proportion to weights (largest-remainder method)."""
    shares = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def statistics(examples: Sequence[EncodedExample], plan: StepPlan) -> dict[str, Any]:
    """Returns the slots, padding, trained tokens, rows and micro-batches of a plan."""
    slots = padding = rows = micro_batches = 0
    lengths = ExampleLengths.of(examples)
    used = np.zeros(len(lengths), np.int64)
    for micro_batch, least in plan.micro_batches():
        numbers = list(map(numbers_of, micro_batch))
        filled = [int(lengths.slots[row].sum()) for row in numbers]
        width = max(least, *filled)
        slots += width * len(micro_batch)
        padding += width * len(micro_batch) - sum(filled)
        rows += len(micro_batch)
        micro_batches += 1
        for row in numbers:
            used[row] += 1  # an example occurs once per row
    trained = int((used * lengths.trained).sum())
    return {
        "slots": slots,
        "padding": padding / slots if slots else 0.0,
        "trained_slots": trained / slots if slots else 0.0,
        "rows": rows,
        "micro_batches": micro_batches,
        "examples_seen": int((used > 0).sum()),
        "epochs": int(used.sum()) / len(examples) if examples else 0.0,
    }


def describe(counts: dict[str, Any]) -> str:
    """Formats the counts of a dataset and its plan as one line."""
    lost = counts["dropped_tokens"]
    parts = [f"{n} dropped ({why}, {lost[why]} tokens)" for why, n in counts["dropped"].items()]
    if counts["cut"]:
        parts.append(f"{counts['cut']} truncated ({counts['cut_tokens']} tokens lost)")
    parts.append(f"{counts['epochs']:.1f} epochs, {counts['padding']:.0%} padding")
    text = (
        f"{plural(counts['examples'], 'example')}, {plural(counts['tokens'], 'token')}, "
        f"{counts['mask_coverage']:.0%} of them trained"
    )
    return "; ".join([text, *parts])


def _rows(
    slots: np.ndarray,
    chunks: Sequence[tuple[int, ...]],
    micro_batch_size: int,
    row_length: int,
) -> list[list[Row]]:
    """Returns a step's micro-batches, sorted by length; chunks are packed if ``row_length``."""

    def length(chunk: tuple[int, ...]) -> int:
        return sum(int(slots[number]) for number in chunk)

    rows: list[Row] = [(chunk,) for chunk in chunks]
    if row_length:
        packed = best_fit([length(chunk) for chunk in chunks], row_length)
        rows = [tuple(chunks[k] for k in sorted(row)) for row in packed]
    rows.sort(key=lambda row: (sum(map(length, row)), row))
    return _grouped(rows, micro_batch_size)


def _grouped(rows: Sequence[Row], size: int) -> list[list[Row]]:
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def _endless(lengths: ExampleLengths, numbers: Sequence[int], seed: int, wanted: int) -> np.ndarray:
    """Returns ``wanted`` example numbers, int64, from consecutive permutations."""
    order = np.empty(wanted, np.int64)
    if not wanted:
        return order
    names = lengths.names()
    which = _which_text([names[number] for number in numbers])
    for epoch, start in enumerate(range(0, wanted, len(numbers))):
        # A keyed hash of the example id and the text's index in that example spreads one program's
        # texts over the epoch.
        keys = _hashes(
            f"{seed}\x00{epoch}\x00{names[number]}\x00{which[at]}".encode()
            for at, number in enumerate(numbers)
        )
        part = order[start : start + len(numbers)]
        part[:] = np.array(numbers)[np.argsort(keys, kind="stable")][: len(part)]
    return order


def _which_text(names: Sequence[str]) -> list[int]:
    """Returns the index of each text among the texts of its example."""
    seen: Counter[str] = Counter()
    indices = []
    for name in names:
        indices.append(seen[name])
        seen[name] += 1
    return indices


def _hashes(texts: Iterable[bytes]) -> np.ndarray:
    """Returns a 64-bit hash of each text, uint64."""
    digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64)
