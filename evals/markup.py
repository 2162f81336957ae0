"""Text made safe for an HTML or SVG page."""

from __future__ import annotations

import unicodedata
from html import escape

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def safe_text(value: object) -> str:
    """Escaped, with what can't be seen or turns text around written out by its number.

    Control characters, direction overrides and lone surrogates thus can't hide what a program says.
    """
    return escape(visible(str(value)))


def visible(text: str) -> str:
    """What can't be seen written out by its number; not escaped."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNSEEN:
        return character
    return f"\\u{ord(character):04x}"
