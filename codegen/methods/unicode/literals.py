r"""Constants and comments as UniCode writes them, and back.

Text is in double quotes with the escapes ``\n \t \r \\ \" \xHH \uHHHH \UHHHHHHHH``; printable
characters of any script stand for themselves. A multi-line text that is a statement (a docstring)
is written raw between ``/*`` and ``*/``.
"""

from __future__ import annotations

import re

_SIMPLE = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", '"': '\\"'}
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|(.))", re.DOTALL
)
_UNSIMPLE = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "\n": "",
}
HUGE = 1 << 4096  # below CPython's limit on converting int to decimal text


def escape(text: str) -> str:
    """Escapes a text for double quotes."""
    if text.isprintable():
        return text.replace("\\", "\\\\").replace('"', '\\"')
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character in _SIMPLE:
        return _SIMPLE[character]
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unescape(text: str) -> str:
    """Resolves escapes as Python does; an unknown one stands for itself.

    Raises:
        ValueError: for a code point beyond Unicode.
    """
    return _ESCAPE.sub(_unescape_match, text) if "\\" in text else text


def _unescape_match(match: re.Match[str]) -> str:
    two, four, eight, octal, other = match.groups()
    if digits := two or four or eight:
        return chr(int(digits, 16))
    return chr(int(octal, 8)) if octal else _UNSIMPLE.get(other, "\\" + other)


def quote_bytes(value: bytes) -> str:
    """A bytes literal."""
    return 'b"' + escape(value.decode("latin-1")).translate(_HIGH) + '"'


_HIGH = {code: f"\\x{code:02x}" for code in range(0x80, 0x100)}


def number(value: float | complex) -> str:
    """A number literal; an integer too long for decimal is in hexadecimal, as Python needs it."""
    if isinstance(value, int):
        return str(value) if value < HUGE else hex(value)
    # A float from source is never negative; one too large to hold is infinite.
    return repr(value).replace("inf", "1e309")


def read_number(text: str) -> float | complex:
    """The value of a number literal.

    Raises:
        ValueError: if it is none.
    """
    digits = text.lower()
    if digits.startswith(("0x", "0o", "0b")) or not any(mark in digits for mark in ".ej"):
        return int(digits, 0)
    return complex(0.0, float(digits[:-1])) if digits.endswith("j") else float(digits)


def block_comment(text: str) -> str | None:
    """A text between ``/*`` and ``*/``, or None if it would not come back the same."""
    if "*/" in text or not text.replace("\n", "").replace("\t", "").isprintable():
        return None
    before = "" if text[:1] in ("", "\n") else " "
    after = "" if not text or _ends_in_blank_line(text) else " "
    return f"/*{before}{text}{after}*/"


def read_block_comment(block: str) -> str:
    """The text of a block comment."""
    text = block[2:-2].removeprefix(" ")
    return text if _ends_in_blank_line(text) else text.removesuffix(" ")


def _ends_in_blank_line(text: str) -> bool:
    _, newline, last = text.rpartition("\n")
    return bool(newline) and not last.strip()
