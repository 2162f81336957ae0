"""Families of problems whose answer a short real program computes.

A family's programs are real functions of this package: a record has a function's source, and its
output is what the function returns. The source of helpers in the module is not part of the text, so
that to a reader they are the undefined helpers of CoGEX, while the answer is computed.

Problems are numbered and unlimited. They fall into two halves without a common input: one to train
on, one to search and test on.
"""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from codegen.cogex.record import CogexRecord

Half = Literal["train", "test"]
_TEST_IN = 4  # one input of this many belongs to the test half
_MOST_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """A problem: its text, its answer, and the arguments of a program that solves it."""

    input: str
    answer: str
    args: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of problem.

    Attributes:
        instructions: wordings of the task; a search uses the first.
        programs: ways to solve it, which take ``Item.args`` and return intermediate results, then
            ``answer``.
    """

    name: str
    instructions: tuple[str, ...]
    draw: Callable[[random.Random], Item]
    programs: tuple[Callable[..., Mapping[str, object]], ...]

    def item(self, half: Half, number: int) -> Item:
        """Problem ``number`` of a half."""
        rng = random.Random(f"{self.name}\x00{half}\x00{number}")
        for _ in range(_MOST_DRAWS):
            item = self.draw(rng)
            if half_of(item.input) == half:
                return item
        raise ValueError(f"{self.name} has no problems for {half}")

    def record(self, number: int) -> CogexRecord:
        """Training record ``number``, with a random wording and program."""
        item = self.item("train", number)
        rng = random.Random(f"{self.name}\x00record\x00{number}")
        return record_of(rng.choice(self.instructions), item, rng.choice(self.programs))


def record_of(
    instruction: str, item: Item, program: Callable[..., Mapping[str, object]]
) -> CogexRecord:
    """The record of a problem solved by a program."""
    return CogexRecord(
        instruction=instruction,
        input=item.input,
        program=source_of(program),
        call=call_of(program, item),
        output=program(*item.args),
    )


def call_of(program: Callable[..., object], item: Item) -> str:
    """The call that solves a problem."""
    return f"{program.__name__}({', '.join(map(repr, item.args))})"


@cache
def source_of(program: Callable[..., object]) -> str:
    """The text of a function."""
    return inspect.getsource(program).strip("\n")


def half_of(input: str) -> Half:
    """The half that an input belongs to, by a hash of its text."""
    digest = hashlib.blake2b(input.encode(), digest_size=4).digest()
    return "train" if int.from_bytes(digest, "big") % _TEST_IN else "test"
