"""Makes the drafters of a row, for whatever loop verifies them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from codegen.decoding.drafts.chain import DrafterChain
from codegen.decoding.drafts.cursor import CursorDrafter
from codegen.decoding.drafts.diff import DiffDrafter
from codegen.decoding.drafts.protocol import Context, Drafter
from codegen.decoding.drafts.recycling import RecyclingDrafter
from codegen.decoding.drafts.suffix import SuffixDrafter
from codegen.decoding.suffix import SuffixStore


@dataclass(frozen=True)
class DrafterMaker:
    """Makes drafters that speak one model's tokens.

    Attributes:
        encode: text to token ids, without special tokens.
        decode: token ids to text.
        line_ends: ids of the tokens that hold a line break.
    """

    encode: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    line_ends: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Any, tokens: Sequence[bytes | None]) -> DrafterMaker:
        """For a transformers tokenizer and the bytes of its tokens
        (:class:`codegen.decoding.healing.Vocabulary`).
        """

        def encode(text: str) -> list[int]:
            return tokenizer(text, add_special_tokens=False).input_ids if text else []

        def decode(ids: Sequence[int]) -> str:
            return tokenizer.decode(list(ids))

        ends = frozenset(i for i, token in enumerate(tokens) if b"\n" in (token or b""))
        return cls(encode, decode, ends)

    def context(self, original: str, tenant: Hashable = None) -> Context:
        """What drafters need to know of a row that rewrites a file, or changes it by a diff."""
        return Context(self.encode(original), original, tenant)

    def chain(
        self,
        names: Sequence[str],
        *,
        store: SuffixStore | None = None,
        factor: float = 2.0,
        min_probability: float = 0.1,
    ) -> DrafterChain:
        """The drafters of one row.

        Args:
            names: of ``cursor``, ``diff``, ``suffix`` and ``recycling``, in order of preference.
            store: past responses that the suffix drafter may draft from.
            factor, min_probability: see :class:`SuffixDrafter`.
        """
        makers: dict[str, Callable[[], Drafter]] = {
            "cursor": lambda: CursorDrafter(self.line_ends),
            "diff": lambda: DiffDrafter(self.encode, self.decode, self.line_ends),
            "suffix": lambda: SuffixDrafter(store, factor=factor, min_probability=min_probability),
            "recycling": RecyclingDrafter,
        }
        return DrafterChain({name: makers[name]() for name in names})
