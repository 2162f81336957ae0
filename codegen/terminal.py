"""Text from outside on a terminal."""

from __future__ import annotations

import re

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""``text`` with control and direction characters, except tab and newline, as ``\x1b``."""
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)
