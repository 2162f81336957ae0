"""Which token ids would begin a given text: the critical tokens of a repetition.

A text can be begun by many tokens: for ``elif`` after two of four columns there are ``"  elif"``,
``"  el"`` and others. They are looked up in a sorted table of the vocabulary, built once for a
tokenizer; what was found is kept, since the same keywords come again and again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property

import numpy as np

_SPACES = b" \t\r\n\f\v"
_NAME_BYTES = frozenset(
    b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_$" + bytes(range(128, 256))
)
_MOST_KEPT = 1 << 14
_NO_IDS = np.empty(0, dtype=np.int64)


class CriticalTokens:
    """Look-up in a vocabulary.

    Args:
        tokens: bytes of each token id, None for special and unused ids
            (``codegen.decoding.healing.Vocabulary.tokens``).
    """

    def __init__(self, tokens: Sequence[bytes | None]) -> None:
        self.tokens = tokens
        self._found: dict[tuple[bytes, bytes | None], np.ndarray] = {}

    @cached_property
    def _tables(self) -> dict[bytes | None, tuple[list[bytes], list[int]]]:
        """Sorted bodies (tokens without the white space before) with their ids, by that space.

        Under None: all of them.
        """
        rows: dict[bytes | None, list[tuple[bytes, int]]] = {None: []}
        for index, token in enumerate(self.tokens):
            body = (token or b"").lstrip(_SPACES)
            if token and body:
                space = token[: len(token) - len(body)]
                rows.setdefault(space, []).append((body, index))
                rows[None].append((body, index))
        tables = {}
        for space, found in rows.items():
            found.sort()
            tables[space] = [body for body, _ in found], [index for _, index in found]
        return tables

    def beginning(self, text: bytes, margin: bytes | None) -> np.ndarray:
        """Ids of the tokens that begin ``margin`` and then ``text``, int64, sorted.

        A token counts if it holds the margin and either a beginning of the text or all of it; after
        a text that ends in a name's letter no other letter may follow (``print`` is not begun by
        ``printer``). Tokens of white space alone begin anything, and don't count.

        Args:
            text: what comes, not empty.
            margin: white space before it; None if any may stand there.
        """
        key = text, margin
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _MOST_KEPT:
                self._found.clear()
            found = self._found[key] = self._look_up(text, margin)
        return found

    def _look_up(self, text: bytes, margin: bytes | None) -> np.ndarray:
        if not text or margin not in self._tables:
            return _NO_IDS
        bodies, ids = self._tables[margin]
        found = []
        for length in range(1, len(text)):
            at = bisect_left(bodies, text[:length])
            if at == len(bodies) or not bodies[at].startswith(text[:length]):
                break  # no token is this long a beginning, so none is a longer one
            while at < len(bodies) and bodies[at] == text[:length]:
                found.append(ids[at])
                at += 1
        at = bisect_left(bodies, text)
        whole = text[-1] in _NAME_BYTES
        while at < len(bodies) and bodies[at].startswith(text):
            rest = bodies[at][len(text) :]
            if not (whole and rest and rest[0] in _NAME_BYTES):
                found.append(ids[at])
            at += 1
        return np.array(sorted(found), dtype=np.int64)
