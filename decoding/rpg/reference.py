"""RPG as its released code behaves, including its quirks: the mode ``reference``.

Written from the behavior of LYC127/RPG at 66e32c2, ``greedy_search.py``; no code is copied. Every
step reads the whole text again, so the cost per token grows with the text: for comparisons only.
Its behavior, and how that differs from the paper:

- No grammar and no automaton. Tokens become types one by one: a token with ``[`` opens a LIST up
  to one with ``]``; quotes, triple quotes and ``#`` do the same for STRING and COMMENT; name tokens
  are joined, digit tokens too; keywords and everything else, also indentation, represent
  themselves.
- Structure: the types are split into lines, and each newline is a separate item. The relevant block
  is the smallest one that the text ends in twice AND whose length divides the number of all
  items, so detection comes and goes as the text grows. The target is the first token of the last
  copy; its exponent is always 1, since each step starts a new count.
- Content: the smallest L >= 1 with X[-L:] = X[-2L:-L]; the target is X[-L], which continues the
  cycle at any place of it; the exponent is the number of copies after the last.
- The target's raw logit is multiplied by 0.9^exponent: a negative one is raised.
- If the (last) target is a statement keyword, a comment mark, a triple quote or a newline, the
  logit of the end of the sequence is divided by 0.8^exponent. The paper does not mention this.

Differences from the released code: where it would fail (a blank line before the last copy), no
penalty applies; tokens are compared as strings with ``▁`` for a leading space, as in CodeLlama's
tokenizer, so that other tokenizers work too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

from codegen.decoding.rpg.penalties import History, Penalty

_KEYWORDS = frozenset(
    ["continue", "await", "as", "try", "or", "else", "assert", "True", "except", "test", "raise",
     "return", "break", "while", "nonlocal", "if", "async", "pass", "global", "finally", "elif",
     "and", "import", "not", "from", "is", "lambda", "yield", "for", "with", "None", "False",
     "class", "del", "in", "def", "print"]
)  # fmt: skip
_MAY_END = frozenset(
    ["assert", "if", "elif", "else", "print", "def", "#", "try", "while", "import", "from", "for",
     "class", "'''", '"""', "\n"]
)  # fmt: skip
_PLAIN = re.compile(r"▁?[a-zA-Z_0-9]+")
_NAME = re.compile(r"▁?[a-zA-Z_][a-zA-Z_0-9]*")
_MORE = re.compile(r"[a-zA-Z_0-9]+")
_DIGITS = re.compile(r"[0-9]+")
_END_DECAY = 0.8

# A type, and the index of the last token that belongs to it.
Typed = tuple[str, int]


class ReferenceRule(History):
    """The rule of one row (:class:`codegen.decoding.rpg.penalties.Rule`).

    Args:
        tokens: bytes of each token id, None for special ones.
        eos: ids that end the sequence.
        decay: the paper's lambda.
    """

    def __init__(
        self, tokens: Sequence[bytes | None], eos: Iterable[int] = (), decay: float = 0.9
    ) -> None:
        super().__init__()
        self._vocabulary = tokens
        self._eos = np.array(sorted(eos), dtype=np.int64)
        self._decay = decay
        self._pieces: list[str] = []

    def push(self, token: int) -> None:
        """Appends the next token."""
        super().push(token)
        self._pieces.append(self._piece(token))

    def restore(self, state: int) -> None:
        """Restores the state at a length."""
        super().restore(state)
        del self._pieces[state:]

    def fork(self) -> ReferenceRule:
        """Returns a second rule in this state."""
        other = ReferenceRule(self._vocabulary, self._eos.tolist(), self._decay)
        other.tokens, other._pieces = self.tokens.copy(), self._pieces.copy()
        return other

    def penalties(self) -> list[Penalty]:
        """Returns the logit changes for the next token."""
        targets: dict[int, int] = {}
        if cycle := content_cycle(self.tokens):
            length, copies = cycle
            targets[self.tokens[-length]] = copies
        if (place := structure_target(typed(self._pieces))) is not None:
            target = self.tokens[place]
            targets[target] = 1
        if not targets:
            return []
        found = [
            Penalty(np.array([target]), self._decay**exponent, "multiply")
            for target, exponent in targets.items()
        ]
        last, exponent = list(targets.items())[-1]
        if self._piece(last).removeprefix("▁") in _MAY_END and len(self._eos):
            found.append(Penalty(self._eos, _END_DECAY**-exponent, "multiply"))
        return found

    def _piece(self, token: int) -> str:
        data = self._vocabulary[token] if token < len(self._vocabulary) else None
        if data is None:
            return "<special>"
        return data.decode("utf-8", "replace").replace(" ", "▁")


def content_cycle(tokens: Sequence[int]) -> tuple[int, int] | None:
    """Returns the length of the smallest cycle at the text's end, and its copies - 1."""
    size = len(tokens)
    last = tokens[-1] if size else -1
    for length in range(1, size // 2):
        if tokens[-1 - length] != last or tokens[-length:] != tokens[-2 * length : -length]:
            continue
        copies = 1
        while tokens[-length:] == tokens[-(2 + copies) * length : -(1 + copies) * length]:
            copies += 1
        return length, copies
    return None


def structure_target(types: Sequence[Typed]) -> int | None:
    """Returns the index of the first token of a repeated block's last copy."""
    items: list[Hashable] = []
    ends: list[list[int]] = []  # indices of each item's tokens
    line: list[Typed] = []
    for one in types:
        if one[0] != "\n":
            line.append(one)
            continue
        for item in (line, [one]):
            items.append(tuple(kind for kind, _ in item))
            ends.append([end for _, end in item])
        line = []
    if line:
        items.append(tuple(kind for kind, _ in line))
        ends.append([end for _, end in line])
    size = len(items)
    for length in range(1, size // 2 + 1):
        if size % length == 0 and items[size - length :] == items[size - 2 * length : -length]:
            before = ends[size - length - 1]
            return before[-1] + 1 if before else None
    return None


def typed(pieces: Sequence[str]) -> list[Typed]:
    """Returns the types of a text's tokens."""
    found: list[Typed] = []
    at, size = 0, len(pieces)

    def until(begin: int, closes: Sequence[str]) -> int:
        end = begin
        while end < size and not any(mark in pieces[end] for mark in closes):
            end += 1
        return end

    while at < size:
        piece = pieces[at]
        after = pieces[at + 1] if at + 1 < size else ""
        if '"""' in piece or ('""' in piece and '"' in after) or ('"' in piece and '""' in after):
            end = at + 1 if '"""' in piece else at + 2
            while end < size and not (
                '"""' in pieces[end]
                or ('""' in pieces[end - 1] and '"' in pieces[end])
                or ('"' in pieces[end - 1] and '""' in pieces[end])
            ):
                end += 1
            at = _close(found, "COMMENT", end, size)
        elif "'''" in piece:
            at = _close(found, "COMMENT", until(at + 1, ["'''"]), size)
        elif "#" in piece:
            end = until(at + 1, ["\n"])
            found.append(("COMMENT", end - 1))
            if end < size:
                found.append((pieces[end], end))
            at = end + 1
        elif "[" in piece:
            at = _bracketed(found, pieces, at, until)
        elif "'" in piece or '"' in piece:
            mark = "'" if "'" in piece else '"'
            if piece.count(mark) == 2:
                found.append(("STRING", at))
                at += 1
            else:
                at = _close(found, "STRING", until(at + 1, [mark]), size)
        else:
            at = _word(found, pieces, at)
    return found


def _close(found: list[Typed], kind: str, end: int, size: int) -> int:
    """Adds a type that ends with the token ``end`` or with the text; returns the next index."""
    found.append((kind, min(end, size - 1)))
    return end + 1


def _bracketed(
    found: list[Typed], pieces: Sequence[str], at: int, until: Callable[[int, Sequence[str]], int]
) -> int:
    piece, size = pieces[at], len(pieces)
    if "]" in piece:
        found.append(("LIST", at))
        return at + 1
    single, double, bracket = piece.find("'"), piece.find('"'), piece.find("[")
    plain = single == -1 and double == -1
    if plain or (single != -1 and bracket < single) or (double != -1 and bracket < double):
        return _close(found, "LIST", until(at + 1, ["]"]), size)
    mark = "'" if single != -1 and bracket > single else '"'
    return _close(found, "STRING", until(at + 1, [mark]), size)


def _word(found: list[Typed], pieces: Sequence[str], at: int) -> int:
    piece, size = pieces[at], len(pieces)
    if not _PLAIN.fullmatch(piece):
        found.append((piece, at))
        return at + 1
    keyword = piece.replace("▁", "") in _KEYWORDS
    if keyword or _NAME.fullmatch(piece):
        end = at + 1
        while end < size and _MORE.fullmatch(pieces[end]):
            end += 1
        alone = keyword and end == at + 1
        found.append((piece if alone else "NAME", end - 1))
        return end
    end = at + 1
    while end < size and _DIGITS.fullmatch(pieces[end]):
        end += 1
    found.append(("NUMBER", end - 1))
    return end
