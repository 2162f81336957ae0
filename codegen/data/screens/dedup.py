"""Duplicates and near-duplicates: what a worker computes of an example.

The default settings are those of BigCode's near-deduplication of The Stack (Kocetkov et al. 2022,
arXiv 2211.15533, and its published script): MinHash over 5-grams of words, 256 permutations,
Jaccard similarity 0.7. Unlike there, a candidate is compared before it is taken out, so that the
bands may be chosen for recall; and of what is alike, the first input stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from codegen.data.screens.lexing import digest, exact_form, ngram_hashes, words
from codegen.errors import ConfigError
from codegen.records import Example

if TYPE_CHECKING:
    from datasketch import MinHash

_BATCH = 4096  # shingles hashed at once, which bounds the memory that a huge program takes


class Signature(NamedTuple):
    """What is known of an example for finding its duplicates.

    Attributes:
        exact: digest of the exact form, 16 bytes.
        minhash: the MinHash values as little-endian uint32; empty if the text is shorter than a
            shingle, or near-duplicates aren't asked for.
    """

    exact: bytes
    minhash: bytes


@dataclass(frozen=True, slots=True)
class Dedup:
    """How duplicates are found.

    Attributes:
        kind: ``exact``, or ``near`` for near-duplicates too.
        compare: ``program`` alone, or the ``pair`` of instruction and program.
        threshold: the Jaccard similarity of the sets of shingles from which on two programs are
            near-duplicates.
        num_perm: the number of MinHash values. The estimate of a similarity s has the standard
            error sqrt(s (1 - s) / num_perm): 0.03 with the defaults.
        shingle: the number of words in a shingle.
        references: sources (as on the command line) whose programs are not wanted either.
    """

    kind: Literal["exact", "near"] = "near"
    compare: Literal["program", "pair"] = "program"
    threshold: float = 0.7
    num_perm: int = 256
    shingle: int = 5
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "near"):
            raise ConfigError(f"dedup {self.kind!r} is unknown.", "There is: exact, near.")
        if self.compare not in ("program", "pair"):
            raise ConfigError(
                f"dedup can't compare {self.compare!r}.", "It compares: program, pair."
            )
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"The threshold {self.threshold} of dedup is not in (0, 1].")
        if not 16 <= self.num_perm <= 4096:
            raise ConfigError(f"num_perm is {self.num_perm}; it must be from 16 to 4096.")
        if self.shingle < 1:
            raise ConfigError(f"shingle is {self.shingle}; it must be at least 1.")

    def signature(self, example: Example) -> Signature:
        """The example's signature: a function of its texts and these settings alone."""
        pair = self.compare == "pair"
        exact = exact_form(example.program, example.language)
        instruction = " ".join(example.instruction.split()) if pair else ""
        if self.kind == "exact":
            return Signature(digest(instruction, exact), b"")
        tokens = words(example.program)
        if pair:
            tokens = words(example.instruction) + tokens
        return Signature(digest(instruction, exact), self._minhash(tokens))

    def _minhash(self, tokens: list[str]) -> bytes:
        shingles = ngram_hashes(tokens, self.shingle) >> 32  # what MinHash permutes is 32 bits wide
        if not len(shingles):
            return b""
        sketch = _empty(self.num_perm).copy()
        for start in range(0, len(shingles), _BATCH):
            sketch.update_batch(shingles[start : start + _BATCH].tolist())
        return sketch.hashvalues.astype("<u4").tobytes()

    def bands(self) -> tuple[int, int]:
        """The number of bands and the values in each, of locality-sensitive hashing."""
        return _bands(self.threshold, self.num_perm)

    def describe(self) -> Mapping[str, Any]:
        """The settings and the digests of the references, as JSON values."""
        from codegen.data.sources import open_source

        settings: dict[str, Any] = {"kind": self.kind, "compare": self.compare}
        if self.kind == "near":
            bands, rows = self.bands()
            settings |= {
                "threshold": self.threshold,
                "num_perm": self.num_perm,
                "shingle": self.shingle,
                "bands": bands,
                "rows": rows,
            }
        described = [dict(open_source(spec).describe()) for spec in self.references]
        return {**settings, "references": described}


def _identity(value: int) -> int:
    return value


@lru_cache(maxsize=8)
def _empty(num_perm: int) -> MinHash:
    from datasketch import MinHash

    return MinHash(num_perm, seed=1, hashfunc=_identity, scheme="affine32")


@lru_cache(maxsize=8)
def _bands(threshold: float, num_perm: int) -> tuple[int, int]:
    from datasketch import MinHashLSH

    # A false candidate costs one comparison, a missed one stays in the data.
    index = MinHashLSH(threshold=threshold, num_perm=num_perm, weights=(0.1, 0.9))
    return index.b, index.r
