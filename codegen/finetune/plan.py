"""Which examples each optimizer step sees, in which rows, fixed before training.

The plan is a function of the examples, the settings and the seed alone. Resuming is skipping its
first steps, with no sampler's or curriculum's state to restore; all processes have the same plan
and take their share of each step; and two runs over the same example ids, with one text each (say,
LintSeq and its baseline), see the same programs at the same steps.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from codegen.decoding.packing import best_fit
from codegen.errors import ConfigError
from codegen.finetune.batch import Isolation, Row
from codegen.finetune.curriculum import Draw, Odds, bucket_of, draw_order, grid, odds_of
from codegen.finetune.encode import Encoded

Order = Literal["fixed", "random", "default_first"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a run.

    Attributes:
        steps: for each optimizer step its micro-batches, each a list of rows.
        widths: for each step the width its rows are padded to, 0 for that of the longest.
        isolation: which examples of a row see one another.
    """

    steps: list[list[list[Row]]]
    isolation: Isolation = "example"
    widths: list[int] = field(default_factory=list)

    def numbers(self, step: int) -> list[int]:
        """The examples of a step."""
        return [number for rows in self.steps[step] for number in _numbers(rows)]

    def width(self, step: int) -> int:
        """See ``widths``."""
        return self.widths[step] if self.widths else 0


def make_plan(
    examples: Sequence[Encoded],
    *,
    steps: int,
    batch_size: int,
    micro_batch_size: int,
    seed: int,
    row_length: int = 0,
    isolation: Isolation = "example",
) -> Plan:
    """``batch_size`` examples a step.

    Each epoch is a fresh permutation; a batch may span two epochs, so no example is ever left out.
    With ``row_length``, the examples of a step are packed into rows of that many tokens at most;
    without, each has a row, and rows of like length share a micro-batch. Neither changes the step's
    gradient as long as examples are isolated.
    """
    order = _endless(examples, range(len(examples)), seed, steps * batch_size)
    batches = [order[k * batch_size : (k + 1) * batch_size] for k in range(steps)]
    chunks = [[(number,) for number in batch] for batch in batches]
    return _planned(examples, chunks, micro_batch_size, row_length, isolation)


def make_mixture(
    examples: Sequence[Encoded],
    *,
    steps: int,
    batch_size: int,
    micro_batch_size: int,
    seed: int,
    row_length: int,
    isolation: Isolation,
    balance: bool,
    order: Order,
    default: str = "",
) -> Plan:
    """Mixture-of-Instructions (arXiv 2404.18410): chunks of one example of each domain.

    Args:
        examples: of at least two domains.
        steps: of the optimizer.
        batch_size: examples a step, a multiple of the number of domains.
        micro_batch_size: rows a forward pass.
        seed: of the order.
        row_length: see :func:`make_plan`.
        isolation: ``chunk`` for the paper's mask.
        balance: each chunk has one example of each domain, and small domains repeat; otherwise
            examples come as they are, and a chunk is as many of them.
        order: of the domains in a chunk: by name, at random, or ``default`` first.
        default: the domain that has no system prompt of its own.
    """
    by_domain: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        by_domain[example.domain].append(number)
    names = sorted(by_domain)
    size = len(names)
    if size < 2 or batch_size % size:
        raise ConfigError(
            f"A mixture of {size} domains can't make steps of {batch_size} examples.",
            "Name two domains or more under data, and choose a multiple for batch_size.",
        )
    wanted = steps * batch_size // size
    if balance:
        streams = [_endless(examples, by_domain[name], seed, wanted) for name in names]
        chunks = [list(chunk) for chunk in zip(*streams, strict=True)]
    else:
        flat = _endless(examples, range(len(examples)), seed, steps * batch_size)
        chunks = [flat[k * size : (k + 1) * size] for k in range(wanted)]
    rng = random.Random(f"{seed}:chunks")
    for chunk in chunks:
        if order == "random":
            rng.shuffle(chunk)
        else:
            chunk.sort(key=lambda i: (order == "default_first" and examples[i].domain != default,
                                      examples[i].domain))  # fmt: skip
    per_step = batch_size // size
    batches = [
        [tuple(chunk) for chunk in chunks[k * per_step : (k + 1) * per_step]] for k in range(steps)
    ]
    return _planned(examples, batches, micro_batch_size, row_length, isolation)


def make_curriculum(
    examples: Sequence[Encoded],
    *,
    steps: int,
    tokens_per_step: int,
    micro_batch_tokens: int,
    seed: int,
    least: int,
    most: int,
    finer: bool = False,
    odds: Odds = "grow_p2",
    draw: Draw = "paper",
    cycles: int = 1,
) -> Plan:
    """Dataset Decomposition: see :mod:`codegen.finetune.curriculum`.

    Each step has rows of one length, ``tokens_per_step`` tokens of them (at least one row). How
    many steps a length gets is its share of the tokens. The first step is of the longest length, so
    that what does not fit into memory fails at once.

    Args:
        examples: each goes to the smallest length that holds it.
        steps: of the optimizer.
        tokens_per_step: slots, padding among them.
        micro_batch_tokens: slots of a forward pass.
        seed: of the order.
        least: the shortest length.
        most: the longest that must fit.
        finer: whether there are lengths between the powers of two.
        odds: of lengths.
        draw: how they are used.
        cycles: repetitions of the curriculum.
    """
    sizes = grid(least, most, finer=finer)
    held: list[list[int]] = [[] for _ in sizes]
    for number, example in enumerate(examples):
        held[bucket_of(len(example), sizes)].append(number)
    tokens = [len(numbers) * size for numbers, size in zip(held, sizes, strict=True)]
    counts = apportion(steps, tokens)
    rng = random.Random(f"{seed}:curriculum")
    order = draw_order(counts, odds_of(odds, len(sizes)), cycles, draw, rng)
    longest = max(order)
    order.insert(0, order.pop(order.index(longest)))
    batch = [max(1, tokens_per_step // size) for size in sizes]
    streams = [
        iter(_endless(examples, numbers, seed, count * rows))
        for numbers, count, rows in zip(held, counts, batch, strict=True)
    ]
    planned = []
    for bucket in order:
        rows: list[Row] = [((next(streams[bucket]),),) for _ in range(batch[bucket])]
        planned.append(_grouped(rows, max(1, micro_batch_tokens // sizes[bucket])))
    return Plan(planned, widths=[sizes[bucket] for bucket in order])


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """``total`` whole things by weights: rounded down, the rest to the largest remainders."""
    shares = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: (counts[i] - shares[i], i))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def share_of(micro_batches: Sequence[Any], rank: int, world: int) -> list[tuple[Any, bool]]:
    """The micro-batches of a step that one of ``world`` processes runs, and whether each counts.

    All run equally many, so that processes never wait for one another's: the last ones run a
    micro-batch again for nothing where there are too few.
    """
    rounds = -(-len(micro_batches) // world)
    found = []
    for turn in range(rounds):
        number = turn * world + rank
        counts = number < len(micro_batches)
        found.append((micro_batches[number if counts else 0], counts))
    return found


def statistics(examples: Sequence[Encoded], plan: Plan) -> dict[str, Any]:
    """What the plan shows the model: slots, padding, trained tokens, rows, micro-batches."""
    slots = padding = trained = rows = micro_batches = 0
    used: Counter[int] = Counter()
    for step, planned in enumerate(plan.steps):
        for micro_batch in planned:
            lengths = [sum(len(examples[i]) for i in _numbers([row])) for row in micro_batch]
            width = max(plan.width(step), *lengths)
            slots += width * len(micro_batch)
            padding += width * len(micro_batch) - sum(lengths)
            rows += len(micro_batch)
            micro_batches += 1
            used.update(_numbers(micro_batch))
    trained = sum(count * len(examples[i].targets) for i, count in used.items())
    return {
        "slots": slots,
        "padding": padding / slots if slots else 0.0,
        "trained_slots": trained / slots if slots else 0.0,
        "rows": rows,
        "micro_batches": micro_batches,
        "examples_seen": len(used),
        "epochs": sum(used.values()) / len(examples) if examples else 0.0,
    }


def _planned(
    examples: Sequence[Encoded],
    batches: Iterable[Sequence[tuple[int, ...]]],
    micro_batch_size: int,
    row_length: int,
    isolation: Isolation,
) -> Plan:
    def length(chunk: tuple[int, ...]) -> int:
        return sum(len(examples[number]) for number in chunk)

    steps = []
    for chunks in batches:
        rows: list[Row] = [(chunk,) for chunk in chunks]
        if row_length:
            packed = best_fit([length(chunk) for chunk in chunks], row_length)
            rows = [tuple(chunks[k] for k in sorted(row)) for row in packed]
        rows.sort(key=lambda row: (sum(map(length, row)), row))
        steps.append(_grouped(rows, micro_batch_size))
    return Plan(steps, isolation)


def _grouped(rows: Sequence[Row], size: int) -> list[list[Row]]:
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def _numbers(rows: Iterable[Row]) -> Iterable[int]:
    return (number for row in rows for chunk in row for number in chunk)


def _endless(
    examples: Sequence[Encoded], numbers: Sequence[int], seed: int, wanted: int
) -> list[int]:
    """So many example numbers, one permutation after another."""
    order: list[int] = []
    epoch = 0
    while len(order) < wanted:
        order.extend(_permutation(examples, numbers, seed, epoch))
        epoch += 1
    return order[:wanted]


def _permutation(
    examples: Sequence[Encoded], numbers: Iterable[int], seed: int, epoch: int
) -> list[int]:
    """Sorts by a keyed hash of the example id and of which text of that example it is.

    So the texts of one program are spread over the epoch, not neighbours in one batch.
    """
    seen: Counter[str] = Counter()
    keyed = []
    for number in numbers:
        name = examples[number].example_id
        text = f"{seed}\x00{epoch}\x00{name}\x00{seen[name]}"
        keyed.append((hashlib.blake2b(text.encode(), digest_size=8).digest(), number))
        seen[name] += 1
    return [number for _, number in sorted(keyed)]
