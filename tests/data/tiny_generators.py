"""Generators and sources for the engine's tests; worker processes import this module."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.core.errors import ConfigError, MachineError
from codegen.core.records import Example, Segment, TrainingText
from codegen.data import EngineOptions, RayExecutor, Rejected, Skip, open_source, run
from codegen.data.filters.decontamination import Decontamination
from codegen.data.filters.dedup import Dedup
from codegen.lintseq import LintSeq


@dataclass(frozen=True)
class Echo:
    """Texts with random numbers; words in the program make it skip, fail, hang or die."""

    copies: int = 2
    delay_s: float = 0.0
    name: str = "echo"

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        if self.delay_s:
            time.sleep(self.delay_s)
        word, _, rest = example.program.partition(" ")
        if word == "skip":
            raise Skip(rest or "unwanted", "as asked")
        if word == "raise":
            raise KeyError(rest)
        if word == "exit":
            sys.exit(3)
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if word == "hang":
            while True:
                time.sleep(0.01)
        if word == "freeze":  # in C code and with the lock held: no Python signal handler can run
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # would end the sleep
            ctypes.PyDLL(None).sleep(1000)
        if word == "wrong":
            yield TrainingText("x", "another example", self.name, ())
        if word == "config":
            raise ConfigError("It needs a thing.")
        if word == "broken" and os.environ.get("TEST_MACHINE") == "broken":
            raise MachineError("The tool fails.", "Mend it.")
        if word == "full" and os.environ.get("TEST_MACHINE") == "broken":
            raise OSError(errno.ENOSPC, "No space left on device")
        if word == "nothing":
            return
        for copy in range(self.copies):
            yield TrainingText(
                id=f"{example.id}#{copy}",
                example_id=example.id,
                generator=self.name,
                segments=(
                    Segment(example.instruction + "\n", False),
                    Segment(f"{example.program} {rng.random()}", True),
                ),
            )


@dataclass(frozen=True)
class Odd:
    """A filter that keeps odd numbers, and raises for one number."""

    fails: int = -1

    def check(self, example: Example) -> Rejected | None:
        number = int(example.id.removeprefix("e"))
        if number == self.fails:
            raise KeyError(number)
        return None if number % 2 else Rejected(example.id, "even", "", "skipped")

    def describe(self) -> dict[str, int]:
        return {"fails": self.fails}


@dataclass(frozen=True)
class BatchEcho(Echo):
    """Echo with ``generate_many``, which a bad example breaks as a whole."""

    name: str = "batch_echo"

    def generate_many(
        self, items: Sequence[tuple[Example, random.Random]]
    ) -> list[list[TrainingText] | Exception]:
        answers: list[list[TrainingText] | Exception] = []
        for example, rng in items:
            try:
                answers.append(list(self.generate(example, rng)))
            except Skip as error:
                answers.append(error)
        return answers


@dataclass(frozen=True)
class Each:
    """A function of one item as a function of a chunk."""

    function: Callable[[float], object]

    def __call__(self, items: Sequence[float]) -> Iterator[object]:
        return map(self.function, items)


@dataclass
class Counter:
    """A source of ``number`` numbered examples, some of them special."""

    number: int
    salt: str = ""

    def __iter__(self) -> Iterator[Example | Rejected]:
        for i in range(self.number):
            if i % 31 == 30:
                yield Rejected(f"row {i}", "bad_json", "made up")
            elif i % 17 == 16:
                yield Example(f"e{i}", f"do {i}", "skip odd", license="MIT")
            elif i % 23 == 22:
                yield Example(f"e{i}", f"do {i}", "raise ünïcode", license="MIT")
            else:
                yield Example(f"e{i}", f"do {i}{self.salt}", f"é = {i}\n", license="MIT")

    def describe(self) -> dict[str, object]:
        return {"kind": "counter", "number": self.number}

    def fraction(self) -> float | None:
        return None


@dataclass
class Rows:
    """A source of ``number`` small functions; every seventh is nearly one that came before."""

    number: int

    def __iter__(self) -> Iterator[Example | Rejected]:
        for i in range(self.number):
            rng = random.Random(i - 1 if i % 7 == 6 else i)
            lines = [f"    value_{k} = {rng.random()} * x_{rng.randrange(99)}" for k in range(20)]
            if i % 7 == 6:
                lines[10] = f"    value_10 = {i}"
            program = "\n".join(["def function(x):", *lines, "    return value_3\n"])
            yield Example(f"e{i}", f"do {i}", program, license="MIT")

    def describe(self) -> dict[str, object]:
        return {"kind": "rows", "number": self.number}

    def fraction(self) -> float | None:
        return None


def main(number: str, workers: str, filters: str, out: str) -> None:
    """A run in a process of its own, for the tests to kill.

    ``workers`` is a number, or ``ray=ADDRESS``; ``filters`` names a file with test problems, to run
    with both filters, or is ``none``, or ``lintseq`` for a real generator, which has a linter.
    """
    options = EngineOptions(chunk_size=3, commit_every_s=0.0, shard_bytes=4000)
    executor: dict[str, Any] = (
        {"workers": int(workers)}
        if workers.isdigit()
        else {"executor": RayExecutor(workers.removeprefix("ray="), workers=2)}
    )
    source: Any = Counter(int(number))
    generator: Any = Echo(delay_s=0.002)
    if filters == "lintseq":
        source, generator = open_source("humaneval"), LintSeq(sequences=2, audit=0.1)
        executor["limit"] = int(number)
    elif filters != "none":
        source = Rows(int(number))
        executor |= {"dedup": Dedup("near"), "filters": [Decontamination.build([filters])]}
    run(generator, source, out, seed=5, options=options, **executor)


if __name__ == "__main__":
    main(*sys.argv[1:])
