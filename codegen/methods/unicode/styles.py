"""The surface styles of UniCode: what marks a block, and the case of the keywords.

UniCoder (Sun et al., ACL 2024) trains on a mix of formats, which beats each alone; its own example
is C-like braces with upper-case keywords, here ``braces``. The grammar is the same in all styles.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Blocks = Literal["braces", "begin_end", "indent"]


@dataclass(frozen=True, slots=True)
class Style:
    """One surface style.

    Attributes:
        name: as in :data:`STYLES`.
        blocks: ``braces`` encloses a block in ``{ }`` and ends statements with ``;``;
            ``begin_end`` encloses it in ``BEGIN`` and ``END``; ``indent`` marks it by indentation
            alone.
        upper: whether keywords and the names of built-in operations are in upper case.
    """

    name: str
    blocks: Blocks
    upper: bool = True

    @property
    def terminator(self) -> str:
        """What ends a simple statement."""
        return ";" if self.blocks == "braces" else ""


STYLES: Mapping[str, Style] = MappingProxyType(
    {
        style.name: style
        for style in (
            Style("braces", "braces"),
            Style("begin_end", "begin_end"),
            Style("indent", "indent"),
            Style("braces_lower", "braces", upper=False),
            Style("begin_end_lower", "begin_end", upper=False),
            Style("indent_lower", "indent", upper=False),
        )
    }
)

BRACES = STYLES["braces"]


def choose_style(rng: random.Random) -> Style:
    """One of :data:`STYLES`, all equally likely."""
    return rng.choice(list(STYLES.values()))
