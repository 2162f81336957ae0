"""The options of the decoder ``rsd``: which model drafts, and trees of what shape. Light."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.decoding.rsd import Shape

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
        from codegen.decoding.rsd import ConstantBranching, StochasticBeam

        return StochasticBeam(*self.beam) if self.beam else ConstantBranching(self.branching)


def read_draft_model(options: Mapping[str, Any]) -> DraftModel:
    """Settings from a decoder's options: ``draft=DIR``, ``branching=2,2,1`` or ``beam=4x3``.

    Raises:
        ConfigError: without ``draft``, and for what can't be read, naming the option.
    """
    known = ("draft", "branching", "beam")
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"The decoder rsd has no option {name!r}.", f"{hint}It has: {', '.join(known)}."
            )
    draft = options.get("draft")
    if not isinstance(draft, str) or not draft:
        raise ConfigError(
            "The decoder rsd needs a model that drafts.",
            "Give one with the same tokenizer: -o draft=DIR",
        )
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
