r"""The words of UniCode and its surface styles.

Each table maps Python to UniCode one to one. Words are in upper case here; the lower-case styles
write them in lower case.

Strings are in double quotes with the escapes ``\n \t \r \\ \" \xHH \uHHHH \UHHHHHHHH``; printable
characters of any script are not escaped. A multi-line string that is a statement (a docstring)
is written raw between ``/*`` and ``*/``.

A style determines the block delimiters and the case of keywords. UniCoder (Sun et al., ACL 2024)
trains on a mix of formats, which works better than each alone; the paper's example has C-like
braces and upper-case keywords, here ``braces``.
"""

from __future__ import annotations

import ast
import enum
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args


def words_of(text: str) -> frozenset[str]:
    """Returns the whitespace-separated words."""
    return frozenset(text.split())


class Level(enum.IntEnum):
    """Operator precedence; the same as Python's."""

    WALRUS = 0
    YIELD = 1
    TEST = 2  # IF ... THEN ... ELSE ..., LAMBDA
    OR = 3
    AND = 4
    NOT = 5
    COMPARE = 6
    BIT_OR = 7
    BIT_XOR = 8
    BIT_AND = 9
    SHIFT = 10
    SUM = 11
    TERM = 12
    SIGN = 13
    POWER = 14
    AWAIT = 15
    POSTFIX = 16


BINARY: dict[type[ast.operator], tuple[str, Level]] = {
    ast.BitOr: ("|", Level.BIT_OR),
    ast.BitXor: ("XOR", Level.BIT_XOR),
    ast.BitAnd: ("&", Level.BIT_AND),
    ast.LShift: ("<<", Level.SHIFT),
    ast.RShift: (">>", Level.SHIFT),
    ast.Add: ("+", Level.SUM),
    ast.Sub: ("-", Level.SUM),
    ast.Mult: ("*", Level.TERM),
    ast.Div: ("/", Level.TERM),
    ast.FloorDiv: ("DIV", Level.TERM),
    ast.Mod: ("MOD", Level.TERM),
    ast.MatMult: ("@", Level.TERM),
    ast.Pow: ("^", Level.POWER),
}
BOOLEAN: dict[type[ast.boolop], tuple[str, Level]] = {
    ast.Or: ("OR", Level.OR),
    ast.And: ("AND", Level.AND),
}
UNARY: dict[type[ast.unaryop], tuple[str, Level]] = {
    ast.Not: ("NOT", Level.NOT),
    ast.USub: ("-", Level.SIGN),
    ast.UAdd: ("+", Level.SIGN),
    ast.Invert: ("~", Level.SIGN),
}
COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "IS",
    ast.IsNot: "IS NOT",
    ast.In: "IN",
    ast.NotIn: "NOT IN",
}

# Calls of built-in functions: f(a, ...) is written WORD(a, ...).
FUNCTIONS = {
    "abs": "ABS", "all": "ALL", "any": "ANY", "bin": "TO_BINARY", "bool": "BOOLEAN",
    "chr": "CHARACTER", "dict": "DICTIONARY", "divmod": "DIVMOD", "enumerate": "ENUMERATE",
    "filter": "FILTER", "float": "REAL", "getattr": "GET_ATTRIBUTE", "hasattr": "HAS_ATTRIBUTE",
    "hex": "TO_HEXADECIMAL", "input": "READ", "int": "INTEGER", "isinstance": "IS_INSTANCE",
    "iter": "ITERATOR", "len": "LENGTH", "list": "LIST", "map": "MAP", "max": "MAX",
    "min": "MIN", "next": "NEXT", "ord": "CODE_POINT", "pow": "POWER", "print": "PRINT",
    "range": "RANGE", "reversed": "REVERSED", "round": "ROUND", "set": "SET",
    "setattr": "SET_ATTRIBUTE", "sorted": "SORTED", "str": "STRING", "sum": "SUM",
    "super": "PARENT", "tuple": "TUPLE", "type": "TYPE_OF", "zip": "ZIP",
}  # fmt: skip
# Calls of methods: x.m(a, ...) is written WORD(x, a, ...).
METHODS = {
    "add": "ADD", "append": "APPEND", "clear": "CLEAR", "copy": "COPY", "count": "COUNT",
    "endswith": "ENDS_WITH", "extend": "EXTEND", "find": "FIND", "format": "FORMAT",
    "get": "GET", "index": "INDEX_OF", "insert": "INSERT", "isalpha": "IS_ALPHABETIC",
    "isdigit": "IS_DIGIT", "islower": "IS_LOWERCASE", "isspace": "IS_SPACE",
    "isupper": "IS_UPPERCASE", "items": "ITEMS", "join": "JOIN", "keys": "KEYS",
    "lower": "LOWERCASE", "lstrip": "TRIM_LEFT", "pop": "POP", "remove": "REMOVE",
    "replace": "REPLACE", "reverse": "REVERSE", "rstrip": "TRIM_RIGHT", "sort": "SORT",
    "split": "SPLIT", "startswith": "STARTS_WITH", "strip": "TRIM", "update": "UPDATE",
    "upper": "UPPERCASE", "values": "VALUES",
}  # fmt: skip

# Embeds Python in a string where UniCode has no form.
EMBEDDED = "VERBATIM"

# Reserved in either case: a program's name with this spelling is escaped.
RESERVED = words_of("""
    AND AS ASSERT ASYNC AWAIT BREAK CLASS CONTINUE ELSE ELSIF EXCLUSIVE FALSE FINALLY FOR FROM
    GLOBAL IF IN IS LAMBDA LOOP_NOT_BROKEN NONLOCAL NOT NULL OR PASS RAISE RETURN TRUE TRY VERBATIM
    WHILE YIELD
    """)
# Keywords at the start of a statement or clause only, and not before an operator (`case = 1`).
OPENING = words_of("BEGIN CASE CATCH DECORATED DELETE DO END FUNCTION MATCH TYPE USE USING")
# Keywords after a complete expression, or between other keywords, where no name can occur.
INNER = words_of(
    "BEGIN BY DIV EACH END EXTENDS GROUP LAST MOD RETURNS START STEP THEN TO WHERE XOR"
)
# Tokens that show that an OPENING word is a name.
NAME_FOLLOWERS = words_of("= . , : += -= *= /= @= &= |= ^= <<= >>= DIV= MOD= XOR= div= mod= xor=")

WORDS = RESERVED | OPENING | INNER | set(FUNCTIONS.values()) | set(METHODS.values())
UPPER = {word: word for word in WORDS}
LOWER = {word: word.lower() for word in WORDS}

# A name that needs no escape.
NAME = re.compile(r"[^\W\d]\w*")


def in_both_cases(words: frozenset[str]) -> dict[str, str]:
    """Maps upper-case and lower-case forms to the upper-case word."""
    return {form: word for word in words for form in (word, word.lower())}


def cased(symbol: str, upper: bool) -> str:
    """Returns an operator's symbol in a style's case."""
    return symbol if upper else symbol.lower()


RESERVED_FORMS = in_both_cases(RESERVED)
OPENING_FORMS = in_both_cases(OPENING)

_OPERATIONS = {*FUNCTIONS.values(), *METHODS.values()}


def operation(word: str, lower: bool) -> str | None:
    """Returns the built-in operation's upper-case keyword for a called name, or None.

    Lower-case words count only in texts with lower-case keywords.
    """
    if word in _OPERATIONS:
        return word
    if lower and word.islower() and (upper := word.upper()) in _OPERATIONS:
        return upper
    return None


_SIMPLE = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", '"': '\\"'}
HUGE = 1 << 4096  # below CPython's limit on converting int to decimal strings


def escape(text: str) -> str:
    """Escapes a string for double quotes."""
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


def quote_bytes(value: bytes) -> str:
    """Returns a bytes literal."""
    return 'b"' + escape(value.decode("latin-1")).translate(_HIGH) + '"'


_HIGH = {code: f"\\x{code:02x}" for code in range(0x80, 0x100)}


def number(value: float | complex) -> str:
    """Returns a number literal; integers too long for decimal are hexadecimal, as in Python."""
    if isinstance(value, int):
        return str(value) if value < HUGE else hex(value)
    # A float literal is never negative; a too large one is infinite.
    return repr(value).replace("inf", "1e309")


def block_comment(text: str) -> str | None:
    """Encloses a string in ``/*`` and ``*/``; returns None if that is impossible."""
    if "*/" in text or not text.replace("\n", "").replace("\t", "").isprintable():
        return None
    before = "" if text[:1] in ("", "\n") else " "
    after = "" if not text or _ends_in_blank_line(text) else " "
    return f"/*{before}{text}{after}*/"


def _ends_in_blank_line(text: str) -> bool:
    _, newline, last = text.rpartition("\n")
    return bool(newline) and not last.strip()


Blocks = Literal["braces", "begin_end", "indent"]


@dataclass(frozen=True, slots=True)
class Style:
    """One surface style.

    Attributes:
        name: key in :data:`STYLES`.
        blocks: ``braces`` encloses a block in ``{ }`` and terminates statements with ``;``;
            ``begin_end`` encloses it in ``BEGIN`` and ``END``; ``indent`` uses only indentation.
        upper: whether keywords and the names of built-in operations are in upper case.
    """

    name: str
    blocks: Blocks
    upper: bool = True

    @property
    def terminator(self) -> str:
        """Statement terminator."""
        return ";" if self.blocks == "braces" else ""


STYLES: Mapping[str, Style] = {
    blocks + suffix: Style(blocks + suffix, blocks, upper=not suffix)
    for suffix in ("", "_lower")
    for blocks in get_args(Blocks)
}

BRACES = STYLES["braces"]


def choose_style(rng: random.Random) -> Style:
    """Returns a random style of :data:`STYLES`."""
    return rng.choice(list(STYLES.values()))
