"""A data generator: numbered lines in a random order, to be put in order again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from codegen.core.errors import ConfigError
from codegen.core.records import Example, Segment, TrainingText
from codegen.data.generators import Skip

TASK = "The lines of this program are shuffled. Write their numbers in the right order.\n\n"


@dataclass(frozen=True)
class Scrambled:
    """Make puzzles of programs whose lines are shuffled.

    The answer is the numbers of the lines in their order, then the program.
    """

    most_lines: int = 12
    name: str = field(default="scrambled", init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.most_lines, int) or self.most_lines < 2:
            raise ConfigError(f"most_lines must be a number from 2, not {self.most_lines!r}.")

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """One text; programs without an order to find, or with too many lines, are skipped."""
        lines = example.program.strip("\n").splitlines()
        if len(set(lines)) < 2:
            raise Skip("nothing_to_order")
        if len(lines) > self.most_lines:
            raise Skip("too_many_lines", f"{len(lines)} lines")
        order = list(range(len(lines)))
        rng.shuffle(order)
        shown = [f"{number}: {lines[i]}\n" for number, i in enumerate(order)]
        answer = " ".join(str(order.index(i)) for i in range(len(lines)))
        segments = (
            Segment(f"{example.instruction}\n\n{TASK}{''.join(shown)}\n", False),
            Segment(f"{answer}\n" + "".join(f"{line}\n" for line in lines), True),
        )
        meta = {"lines": len(lines)}
        yield TrainingText(f"{example.id}#scrambled", example.id, self.name, segments, meta)
