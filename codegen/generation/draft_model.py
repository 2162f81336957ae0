"""The options of the decoders ``rsd`` and ``sorted``: which model drafts, and how. Light."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.decoding.strategies.rsd import Shape
    from codegen.decoding.strategies.sorted import Nested

_MOST_NODES = 128


@dataclass(frozen=True, slots=True)
class DraftModel:
    """Settings of recursive speculative decoding.

    Attributes:
        draft: name, directory or hub id of a model with the same tokenizer.
        branching: children of each node, level by level (RSD-C).
        beam: width and depth of a stochastic beam instead (RSD-S).
    """

    draft: str
    branching: tuple[int, ...] = (2, 2, 1, 1)
    beam: tuple[int, int] | None = None

    def shape(self) -> Shape:
        """How its trees grow. Imports torch."""
        from codegen.decoding.strategies.rsd import ConstantBranching, StochasticBeam

        return StochasticBeam(*self.beam) if self.beam else ConstantBranching(self.branching)


def read_draft_model(options: Mapping[str, Any]) -> DraftModel:
    """Settings from a decoder's options: ``draft=DIR``, ``branching=2,2,1`` or ``beam=4x3``.

    Raises:
        ConfigError: without ``draft``, and for what can't be read, naming the option.
    """
    draft = _draft("rsd", options, ("draft", "branching", "beam"))
    if "branching" in options and "beam" in options:
        raise ConfigError("The decoder rsd takes branching or beam, not both.")
    found = DraftModel(draft)
    if "branching" in options:
        numbers = _numbers("branching", options["branching"], r"[,x ]", "2,2,1")
        found = DraftModel(draft, numbers)
    elif "beam" in options:
        numbers = _numbers("beam", options["beam"], r"[x,]", "4x3")
        if len(numbers) != 2:
            raise ConfigError(
                f"The option beam is {options['beam']!r}; it has a width and a depth.",
                "Give for instance beam=4x3.",
            )
        found = DraftModel(draft, beam=(numbers[0], numbers[1]))
    nodes = found.beam[0] * found.beam[1] if found.beam else _nodes(found.branching)
    if nodes > _MOST_NODES:
        raise ConfigError(
            f"A tree of {nodes} nodes is more than a forward pass pays for.",
            f"Choose one of {_MOST_NODES} at most.",
        )
    return found


@dataclass(frozen=True, slots=True)
class SortedDraft:
    """Settings of sorted drafts (``codegen.decoding.strategies.sorted``).

    Attributes:
        draft: name, directory or hub id of a nested model with the same tokenizer.
        exits: depths to exit at, by default those that the model was trained for.
        thresholds: probabilities above which an exit is taken, one for all but the last exit.
        tokens: most tokens of a draft.
        least: a draft ends with the token at which the product of its probabilities falls to this.
    """

    draft: str
    exits: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = (0.5,)
    tokens: int = 5
    least: float = 0.0

    def check(self, nested: Nested) -> None:
        """Compares the thresholds with a model's exits.

        Raises:
            ConfigError: if there are too many or too few.
        """
        shallow = len(nested.exits) - 1
        if len(self.thresholds) not in (1, shallow):
            raise ConfigError(
                f"There are {len(self.thresholds)} thresholds; the draft exits after "
                f"{', '.join(map(str, nested.exits))} layers.",
                f"Give {shallow}, or one for all exits but the last.",
            )


def read_sorted_draft(options: Mapping[str, Any]) -> SortedDraft:
    """Settings from a decoder's options: ``draft=DIR``, ``exits=2,4,6``, ``thresholds=0.5,0.4``,
    ``tokens=5``, ``least=0.1``.

    Raises:
        ConfigError: without ``draft``, and for what can't be read, naming the option.
    """
    draft = _draft("sorted", options, ("draft", "exits", "thresholds", "tokens", "least"))
    found: dict[str, Any] = {}
    if "exits" in options:
        found["exits"] = _numbers("exits", options["exits"], r"[,x ]", "2,4,6")
        if list(found["exits"]) != sorted(set(found["exits"])):
            raise ConfigError(
                f"The option exits is {options['exits']!r}; depths must ascend.",
                "Give for instance exits=2,4,6.",
            )
    if "thresholds" in options:
        found["thresholds"] = _probabilities("thresholds", options["thresholds"], "0.5,0.4")
    if "least" in options:
        found["least"] = _probabilities("least", options["least"], "0.1")[0]
    if "tokens" in options:
        (found["tokens"], *more) = _numbers("tokens", options["tokens"], r",", "5")
        if more or found["tokens"] > _MOST_NODES:
            raise ConfigError(
                f"The option tokens is {options['tokens']!r}; it must be one whole number, at most "
                f"{_MOST_NODES}.",
                "Give for instance tokens=5.",
            )
    return SortedDraft(draft, **found)


def _draft(decoder: str, options: Mapping[str, Any], known: tuple[str, ...]) -> str:
    """The option ``draft``, once all options are known ones."""
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"The decoder {decoder} has no option {name!r}.",
                f"{hint}It has: {', '.join(known)}.",
            )
    draft = options.get("draft")
    if not isinstance(draft, str) or not draft:
        raise ConfigError(
            f"The decoder {decoder} needs a model that drafts.",
            "Give one with the same tokenizer: -o draft=DIR",
        )
    return draft


def _probabilities(name: str, value: Any, example: str) -> tuple[float, ...]:
    parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(0 <= number <= 1 for number in numbers):
        raise ConfigError(
            f"The option {name} is {value!r}; it must be numbers from 0 to 1.",
            f"Give for instance {name}={example}.",
        )
    return numbers


def _nodes(branching: tuple[int, ...]) -> int:
    total, width = 0, 1
    for branch in branching:
        width *= branch
        total += width
    return total


def _numbers(name: str, value: Any, between: str, example: str) -> tuple[int, ...]:
    parts = [str(part) for part in value] if isinstance(value, (list, tuple)) else None
    parts = parts or re.split(between, str(value).strip())
    try:
        numbers = tuple(int(part) for part in parts)
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ConfigError(
            f"The option {name} is {value!r}; it must be whole numbers above 0.",
            f"Give for instance {name}={example}.",
        )
    return numbers
