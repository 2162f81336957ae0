"""A world of small functions, which a model of a few hundred thousand parameters can learn.

A function goes through a list of integers and gives one. It is made of parts, each a sentence of
the instruction, some lines of the program, and an effect, from which the expected values come: what
the program itself does is not asked. All programs of a model run in the sandbox.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.harness import save_llama
from codegen.benchmarks.tools.byte_bpe import train_byte_bpe
from codegen.decoding.loop import Backspace, Row, decode
from codegen.evals.metrics import normal_form
from codegen.evals.sandbox import Job, Limits, Sandbox
from codegen.records import Example

_CALLS = 6


@dataclass(frozen=True, slots=True)
class Function:
    """An instruction, the program that follows it, and what it must give: list -> integer."""

    instruction: str
    program: str
    cases: tuple[tuple[tuple[int, ...], int], ...]

    def example(self, number: int) -> Example:
        """As a data generator takes it."""
        return Example(f"{number}", self.instruction, self.program)

    @property
    def test(self) -> str:
        """Assertions, as the sandbox takes them."""
        return "".join(f"assert f({list(given)}) == {value}\n" for given, value in self.cases)


class _Skip(Exception):
    """The number is passed over."""


class _Stop(Exception):
    """The numbers end here."""


@dataclass(frozen=True, slots=True)
class _Part:
    """``effect`` takes a number to a number; of a fold, it takes the total too."""

    sentence: str
    lines: tuple[str, ...]
    effect: Callable[..., int]


def _condition(rng: random.Random, k: int) -> tuple[str, str, Callable[[int], bool]]:
    return rng.choice(
        [
            ("negative ones", "x < 0", lambda x: x < 0),
            ("even ones", "x % 2 == 0", lambda x: x % 2 == 0),
            ("odd ones", "x % 2 == 1", lambda x: x % 2 == 1),
            (f"those above {k}", f"x > {k}", lambda x: x > k),
            (f"those below {k}", f"x < {k}", lambda x: x < k),
            (f"multiples of {k}", f"x % {k} == 0", lambda x: x % k == 0),
        ]
    )


def _unless(met: Callable[[int], bool], error: type[Exception]) -> Callable[[int], int]:
    def effect(x: int) -> int:
        if met(x):
            raise error
        return x

    return effect


def _step(rng: random.Random) -> _Part:
    k = rng.randint(2, 9)
    kind = rng.choice(("skip", "skip", "change", "change", "stop"))
    if kind == "change":
        return rng.choice(
            [
                _Part("Double each.", ("x = x * 2",), lambda x: x * 2),
                _Part("Square each.", ("x = x * x",), lambda x: x * x),
                _Part("Negate each.", ("x = -x",), lambda x: -x),
                _Part(f"Add {k} to each.", (f"x = x + {k}",), lambda x: x + k),
                _Part(f"Take {k} from each.", (f"x = x - {k}",), lambda x: x - k),
            ]
        )
    name, test, met = _condition(rng, k)
    verb, word, error = (
        ("Skip", "continue", _Skip) if kind == "skip" else ("Stop at", "break", _Stop)
    )
    return _Part(f"{verb} {name}.", (f"if {test}:", f"    {word}"), _unless(met, error))


def _fold(rng: random.Random) -> _Part:
    return rng.choice(
        [
            _Part("Sum them.", ("total = total + x",), lambda total, x: total + x),
            _Part("Count them.", ("total = total + 1",), lambda total, _: total + 1),
            _Part("Take the largest.", ("total = max(total, x)",), max),
            _Part("Subtract them.", ("total = total - x",), lambda total, x: total - x),
        ]
    )


def _after(rng: random.Random) -> _Part:
    k = rng.randint(2, 9)
    return rng.choice(
        [
            _Part(f"At most {k}.", (f"if total > {k}:", f"    total = {k}"), lambda t: min(t, k)),
            _Part(f"At least {k}.", (f"if total < {k}:", f"    total = {k}"), lambda t: max(t, k)),
            _Part("Without sign.", ("total = abs(total)",), int.__abs__),
            _Part(f"Then add {k}.", (f"total = total + {k}",), lambda t: t + k),
            _Part("Then double.", ("total = total * 2",), lambda t: t * 2),
        ]
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a function does; ``empty`` is its value for no numbers, if that is said."""

    start: int
    empty: int | None
    steps: tuple[_Part, ...]
    fold: _Part
    after: tuple[_Part, ...]

    @property
    def sentences(self) -> list[str]:
        """The instruction."""
        first = [] if self.empty is None else [f"For none give {self.empty}."]
        parts = (*self.steps, self.fold, *self.after)
        return [*first, f"Start with {self.start}.", *(part.sentence for part in parts)]

    @property
    def lines(self) -> list[str]:
        """The program."""
        lines = ["def f(xs):"]
        if self.empty is not None:
            lines += ["    if not xs:", f"        return {self.empty}"]
        lines += [f"    total = {self.start}", "    for x in xs:"]
        lines += [f"        {line}" for part in (*self.steps, self.fold) for line in part.lines]
        lines += [f"    {line}" for part in self.after for line in part.lines]
        return [*lines, "    return total"]

    def value(self, numbers: Sequence[int]) -> int:
        """What the function gives."""
        if not numbers and self.empty is not None:
            return self.empty
        total = self.start
        try:
            for number in numbers:
                try:
                    x = number
                    for part in self.steps:
                        x = part.effect(x)
                    total = self.fold.effect(total, x)
                except _Skip:
                    pass
        except _Stop:
            pass
        for part in self.after:
            total = part.effect(total)
        return total


def _draw_parts(rng: random.Random) -> _Parts:
    start = rng.randint(0, 9)
    empty = rng.choice((None, rng.randint(0, 9)))
    steps = tuple(_step(rng) for _ in range(rng.randint(1, 3)))
    return _Parts(
        start, empty, steps, _fold(rng), tuple(_after(rng) for _ in range(rng.randint(0, 2)))
    )


def _draw(rng: random.Random) -> Function:
    parts = _draw_parts(rng)
    given = [(), *(tuple(rng.choices(range(-9, 21), k=7)) for _ in range(_CALLS - 1))]
    cases = tuple((numbers, parts.value(numbers)) for numbers in given)
    return Function(" ".join(parts.sentences), "\n".join(parts.lines) + "\n", cases)


def functions(count: int, seed: int) -> list[Function]:
    """Functions with different programs; the same first ones for any count."""
    rng = random.Random(seed)
    found: dict[str, Function] = {}
    while len(found) < count:
        function = _draw(rng)
        found.setdefault(function.program, function)
    return list(found.values())


def start_model(
    folder: Path,
    texts: Iterable[str],
    *,
    hidden: int,
    layers: int,
    seed: int,
    special: Sequence[str] = (),
) -> Path:
    """A random Llama with a byte-level BPE of the texts and some special tokens."""
    if not (folder / "config.json").exists():
        tokenizer = train_byte_bpe(texts, 400, special)
        tokenizer.save_pretrained(folder)
        save_llama(folder, len(tokenizer), hidden=hidden, layers=layers, positions=1024, seed=seed)
    return folder


def write(
    loaded: Any,
    prompts: Sequence[str],
    *,
    n: int,
    budget: int,
    seed: int,
    begun: Sequence[Sequence[int]] = (),
    backspace: int | None = None,
) -> Iterator[list[Row]]:
    """The decoded rows of each prompt, ``n`` samples at temperature 1.

    Args:
        loaded: from :func:`codegen.models.load`.
        prompts: plain texts.
        budget: most actions a sample.
        begun: for each prompt the tokens that a completion starts with.
        backspace: the token that takes the last one back.
    """
    tokenizer = loaded.tokenizer
    rng = random.Random(seed)
    rows = []
    for number, prompt in enumerate(prompts):
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        forced = list(begun[number]) if begun else []
        for _ in range(n):
            rows.append(Row(ids, [rng.random() for _ in range(budget)], tokens=list(forced)))
    decode(
        loaded.model, rows, max_new_tokens=budget, temperature=1.0, top_p=1.0,
        eos=frozenset([tokenizer.eos_token_id]), width=250,
        strategy=None if backspace is None else Backspace(backspace),
    )  # fmt: skip
    for start in range(0, len(rows), n):
        yield rows[start : start + n]


def judge(
    sandbox: Sandbox, asked: Sequence[Function], programs: Sequence[Sequence[str]]
) -> list[list[bool]]:
    """For each function and each program written for it, whether it is right."""
    jobs: dict[tuple[int, str], Job] = {}
    for number, (function, written) in enumerate(zip(asked, programs, strict=True)):
        for program in written:
            job = Job(program, test=function.test, limits=Limits(cpu_s=2))
            jobs[number, program] = job
    verdicts = {key: outcome.status == "passed" for key, outcome in sandbox.map(jobs.items())}
    return [[verdicts[i, program] for program in written] for i, written in enumerate(programs)]


def diversity(programs: Sequence[Sequence[str]]) -> float:
    """Mean number of different programs among the samples of a function, by syntax tree."""
    return fmean(len({normal_form(program) for program in written}) for written in programs)
