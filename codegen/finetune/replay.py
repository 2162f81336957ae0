"""The model's own trajectories, which the mixture form of SequenceMatch learns from as well.

Every so many steps the model, as it is then, completes prompts of the data, and the oldest samples
are forgotten (algorithm 1 of arXiv 2306.05426). Prompts, random numbers and what a step draws from
the buffer depend on the seed and the step alone, and the buffer is kept with each checkpoint, so a
resumed run goes on as it would have.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codegen.decoding.loop import Backspace, decode
from codegen.decoding.loop import Row as DecodingRow
from codegen.finetune.attention import from_stack
from codegen.finetune.encode import Encoded
from codegen.finetune.sections import SequenceMatch
from codegen.methods.backspace import IGNORE, Trajectory, stack_layout
from codegen.records import write_atomic

FILE = "own_samples.json"
_AT_ONCE = 32


class Replay:
    """A buffer of own samples.

    Args:
        settings: how many, how often, how long.
        examples: whose prompts are completed, and by default how long a sample may be.
        eos: ids that end a completion.
        backspace: id of the backspace token, or None.
        seed: of all choices.
    """

    def __init__(
        self,
        settings: SequenceMatch,
        examples: Sequence[Encoded],
        eos: frozenset[int],
        backspace: int | None,
        seed: int,
    ) -> None:
        self.settings, self.eos, self.backspace, self.seed = settings, eos, backspace, seed
        self.prompts = [example.ids[: example.nodes[0] + 1] for example in examples]
        longest = max((len(example.targets) for example in examples), default=1)
        self.max_new_tokens = settings.max_new_tokens or longest
        self._kept: deque[tuple[list[int], list[int]]] = deque(maxlen=settings.buffer)

    def __len__(self) -> int:
        return len(self._kept)

    def refresh(self, model: Any, step: int) -> None:
        """Samples anew, if this step is one at which that is due."""
        if step % self.settings.sample_every:
            return
        rng = random.Random(f"{self.seed}:prompts:{step}")
        numbers = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        budget = self.max_new_tokens
        rows = [
            DecodingRow(rng.choice(self.prompts), numbers.random(budget).tolist())
            for _ in range(self.settings.samples)
        ]
        was_training = model.training
        model.eval()
        try:
            for start in range(0, len(rows), _AT_ONCE):
                decode(
                    model,
                    rows[start : start + _AT_ONCE],
                    max_new_tokens=budget,
                    temperature=self.settings.temperature,
                    top_p=1.0,
                    eos=self.eos,
                    strategy=Backspace(-1 if self.backspace is None else self.backspace),
                )
        finally:
            model.train(was_training)
        self._kept.extend((row.prompt, row.actions) for row in rows)

    def draw(self, step: int, count: int) -> list[Encoded]:
        """``count`` of the samples at random, or all there are."""
        rng = random.Random(f"{self.seed}:draw:{step}")
        chosen = rng.sample(list(self._kept), min(count, len(self._kept)))
        return [self._encoded(prompt, actions) for prompt, actions in chosen]

    def _encoded(self, prompt: list[int], actions: list[int]) -> Encoded:
        bkspc = -1 if self.backspace is None else self.backspace
        labels = (*[IGNORE] * len(prompt), *actions)
        trajectory = Trajectory((*prompt, *actions), labels, len(prompt), bkspc)
        stack = stack_layout(trajectory)
        return Encoded(
            "",
            list(stack.tokens),
            list(stack.nodes[:-1]),
            list(stack.labels),
            list(stack.nodes[1:]),
            from_stack(stack),
            final=actions[-1] in self.eos,
        )

    def save(self, folder: Path) -> None:
        """Writes the buffer into a checkpoint's folder."""
        write_atomic(folder / FILE, json.dumps(list(self._kept)))

    def load(self, folder: Path) -> None:
        """Reads what :meth:`save` wrote."""
        rows = json.loads((folder / FILE).read_text("utf-8"))
        self._kept.extend((prompt, actions) for prompt, actions in rows)
