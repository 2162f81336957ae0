"""Which examples each optimizer step sees, fixed before training.

The plan is a function of the examples, the batch sizes and the seed alone. Resuming is skipping its
first micro-batches, with no sampler state to restore; and two runs over the same example ids, with
one text each (say, LintSeq and its baseline), see the same programs at the same steps.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from codegen.finetune.encode import Encoded


def make_plan(
    examples: Sequence[Encoded], *, steps: int, batch_size: int, micro_batch_size: int, seed: int
) -> list[list[int]]:
    """Index lists, one a micro-batch, ``steps * batch_size / micro_batch_size`` of them.

    Each epoch is a fresh permutation; a batch may span two epochs, so no example is ever left out.
    Within a step the examples are sorted by length before they are split into micro-batches, which
    cuts padding and leaves the step's gradient unchanged.
    """
    order: list[int] = []
    epoch = 0
    while len(order) < steps * batch_size:
        order.extend(_permutation(examples, seed, epoch))
        epoch += 1
    plan = []
    for step in range(steps):
        batch = order[step * batch_size : (step + 1) * batch_size]
        batch.sort(key=lambda i: (len(examples[i].ids), i))
        for start in range(0, batch_size, micro_batch_size):
            plan.append(batch[start : start + micro_batch_size])
    return plan


def _permutation(examples: Sequence[Encoded], seed: int, epoch: int) -> list[int]:
    """Sorts by a keyed hash of the example id and of which text of that example it is.

    So the texts of one program are spread over the epoch, not neighbours in one batch.
    """
    seen: Counter[str] = Counter()
    keys = []
    for example in examples:
        text = f"{seed}\x00{epoch}\x00{example.example_id}\x00{seen[example.example_id]}"
        keys.append(hashlib.blake2b(text.encode(), digest_size=8).digest())
        seen[example.example_id] += 1
    return sorted(range(len(examples)), key=lambda i: (keys[i], i))
