"""The families, by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from codegen.cogex.families import coins, dates, language, numbers, stories, words
from codegen.cogex.families.base import Family, Half, Item, call_of, record_of, source_of
from codegen.errors import ConfigError

FAMILIES: Mapping[str, Family] = {
    family.name: family
    for module in (words, coins, numbers, stories, dates, language)
    for family in module.FAMILIES
}


def find_family(name: str) -> Family:
    """A family by its name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(
            f"There is no family of problems {name!r}.", f"{hint}There are: {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]


__all__ = [
    "FAMILIES",
    "Family",
    "Half",
    "Item",
    "call_of",
    "find_family",
    "record_of",
    "source_of",
]
