"""Deduplication: signatures of examples, and decisions in input order.

Follows The Stack (Kocetkov et al. 2022, arXiv 2211.15533, and its published script): MinHash over
5-grams of words, 256 permutations, Jaccard similarity 0.7. Unlike in The Stack, a candidate is
compared before it is removed, so that the bands can be chosen for recall. The first of several
similar programs is kept, and later programs are compared only with kept ones: a program that is
similar only to a removed one is kept. datasketch does the locality-sensitive hashing.

Limits: the index is in memory, about 11 KiB per kept program with ``near``: 11 GB per
million. Only the first 1000 candidates are compared; more occur only if many programs have long
common parts without being near-duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from codegen.core.errors import ConfigError
from codegen.core.records import Example
from codegen.data.filters import digest, exact_form, ngram_hashes, words
from codegen.data.sources import Rejected

if TYPE_CHECKING:
    import numpy as np
    from datasketch import LeanMinHash, MinHash
    from numpy.typing import NDArray

_PERMUTATIONS = 256  # MinHash values; standard error of a similarity s: sqrt(s (1 - s) / 256)
_SHINGLE = 5  # words
_CANDIDATES = 1000
_BATCH = 4096  # shingles hashed at once, to bound the memory for a huge program


class Signature(NamedTuple):
    """Data for finding an example's duplicates.

    Attributes:
        exact: digest of the exact form, 16 bytes.
        minhash: the MinHash values as little-endian uint32; empty for a program shorter
            than a shingle, or if only exact duplicates are dropped.
    """

    exact: bytes
    minhash: bytes


@dataclass(frozen=True, slots=True)
class Dedup:
    """Deduplication settings.

    Attributes:
        kind: ``exact``, or ``near`` to include near-duplicates.
        threshold: minimum Jaccard similarity of near-duplicates' shingle sets.
    """

    kind: Literal["exact", "near"] = "near"
    threshold: float = 0.7

    def __post_init__(self) -> None:
        if self.kind not in ("exact", "near"):
            raise ConfigError(f"Unknown dedup {self.kind!r}.", "Choose exact or near.")
        if not 0 < self.threshold <= 1:
            raise ConfigError(f"dedup threshold is {self.threshold}; it must be in (0, 1].")

    def signature(self, example: Example) -> Signature:
        """Returns the example's signature; depends only on its contents and these settings."""
        exact = digest(exact_form(example.program, example.language))
        if self.kind == "exact":
            return Signature(exact, b"")
        # MinHash takes 32-bit hashes.
        shingles = ngram_hashes(words(example.program), _SHINGLE) >> 32
        if not len(shingles):
            return Signature(exact, b"")
        sketch = _empty().copy()
        for start in range(0, len(shingles), _BATCH):
            sketch.update_batch(shingles[start : start + _BATCH].tolist())
        return Signature(exact, sketch.hashvalues.astype("<u4").tobytes())

    def describe(self) -> Mapping[str, Any]:
        """Returns the settings as JSON values."""
        settings: dict[str, object] = {"kind": self.kind}
        if self.kind == "near":
            bands, rows = _bands(self.threshold)
            settings |= {
                "threshold": self.threshold,
                "num_perm": _PERMUTATIONS,
                "shingle": _SHINGLE,
                "bands": bands,
                "rows": rows,
            }
        return settings


@cache
def _empty() -> MinHash:
    from datasketch import MinHash

    return MinHash(_PERMUTATIONS, seed=1, hashfunc=int, scheme="affine32")


@lru_cache(maxsize=8)
def _bands(threshold: float) -> tuple[int, int]:
    from datasketch import MinHashLSH

    # A false candidate costs one comparison; a missed duplicate remains in the data.
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS, weights=(0.1, 0.9))
    return index.b, index.r


class _Entry(NamedTuple):
    id: str
    minhash: NDArray[np.uint32]


class DedupIndex:
    """The signatures of the examples kept so far, indexed by digest and by datasketch's bands.

    Decisions depend only on the settings and the order of ``add``.
    """

    def __init__(self, dedup: Dedup) -> None:
        self._threshold = dedup.threshold
        self._exact: dict[bytes, str] = {}
        self._entries: list[_Entry] = []
        self._lsh: Any = None
        if dedup.kind == "near":
            from datasketch import MinHashLSH

            bands = _bands(dedup.threshold)
            # Hashed bands need a third of the memory; collisions only add candidates to compare.
            hashed: Any = hash
            self._lsh = MinHashLSH(num_perm=_PERMUTATIONS, params=bands, hashfunc=hashed)

    def add(self, id_: str, signature: Signature) -> Rejected | None:
        """Adds an example, or returns its rejection, which names the equal or closest example."""
        if (equal := self._exact.get(signature.exact)) is not None:
            return Rejected(id_, "duplicate", f"of={equal}", "skipped")
        if similar := self._most_similar(signature):
            similarity, other = similar
            # The id comes last, since it may be any string.
            detail = f"jaccard={similarity:.3f} of={other}"
            return Rejected(id_, "near_duplicate", detail, "skipped")
        self.restore(id_, signature)
        return None

    def restore(self, id_: str, signature: Signature) -> None:
        """Adds a kept example."""
        self._exact.setdefault(signature.exact, id_)
        if signature.minhash:
            lean = _lean(signature)
            self._lsh.insert(len(self._entries), lean, check_duplication=False)
            self._entries.append(_Entry(id_, lean.hashvalues))

    def _most_similar(self, signature: Signature) -> tuple[float, str] | None:
        """Returns (similarity, id) of the most similar example, the first of equals."""
        if not signature.minhash:
            return None
        import numpy as np

        lean = _lean(signature)
        best: tuple[float, str] | None = None
        for number in sorted(self._lsh.query(lean))[:_CANDIDATES]:
            other = self._entries[number]
            similarity = np.count_nonzero(lean.hashvalues == other.minhash) / len(other.minhash)
            if similarity >= self._threshold and (best is None or similarity > best[0]):
                best = float(similarity), other.id
        return best


def _lean(signature: Signature) -> LeanMinHash:
    import numpy as np
    from datasketch import LeanMinHash

    values = np.frombuffer(signature.minhash, "<u4")
    return LeanMinHash(seed=1, hashvalues=values, scheme="affine32")
