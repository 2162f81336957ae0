"""Classical compressors to compare programs with: gzip, bz2, lzma, and order-k models.

An order-k model predicts each byte from the k before it, blended with the shorter contexts as in
Witten-Bell smoothing, and learns as it goes. :func:`order_k_bits` is the length that arithmetic
coding with it takes; :func:`order_k_encode` and :func:`order_k_decode` do the coding, about a
thousand times slower, as the proof that the length is one.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from codegen.errors import InputError

from .arithmetic import MOST_WEIGHT, Decoder, Encoder

COMPRESSORS: Mapping[str, Callable[[bytes], int]] = {
    "gzip": lambda data: len(gzip.compress(data, mtime=0)),
    "bz2": lambda data: len(bz2.compress(data)),
    "lzma": lambda data: len(lzma.compress(data)),
    "order-0": lambda data: math.ceil(order_k_bits(data, 0) / 8),
    "order-2": lambda data: math.ceil(order_k_bits(data, 2) / 8),
    "order-3": lambda data: math.ceil(order_k_bits(data, 3) / 8),
}


class OrderK:
    """The counts of an order-k model."""

    def __init__(self, k: int) -> None:
        self.k = k
        # For each order: context -> [total, counts]; the number of distinct bytes is len(counts).
        self._seen: list[dict[bytes, dict[int, int]]] = [{} for _ in range(k + 1)]
        self._totals: list[dict[bytes, int]] = [{} for _ in range(k + 1)]

    def _contexts(self, before: bytes) -> list[tuple[dict[int, int], int]]:
        """Counts and totals of the contexts that were seen, the shortest first."""
        found = []
        for order in range(min(self.k, len(before)) + 1):
            context = before[len(before) - order :]
            counts = self._seen[order].get(context)
            if counts is None:
                break
            found.append((counts, self._totals[order][context]))
        return found

    def probability(self, before: bytes, byte: int) -> float:
        """Of ``byte`` behind ``before``."""
        chance = 1 / 256
        for counts, total in self._contexts(before):
            novel = len(counts)
            chance = (counts.get(byte, 0) + novel * chance) / (total + novel)
        return chance

    def weights(self, before: bytes) -> list[int]:
        """Whole-number weights of all bytes, for the coder."""
        chances = [1 / 256] * 256
        for counts, total in self._contexts(before):
            novel = len(counts)
            chances = [novel * chance for chance in chances]
            for byte, count in counts.items():
                chances[byte] += count
            chances = [chance / (total + novel) for chance in chances]
        return [1 + int(chance * (MOST_WEIGHT - 512)) for chance in chances]

    def learn(self, before: bytes, byte: int) -> None:
        """Counts ``byte`` behind ``before``."""
        for order in range(min(self.k, len(before)) + 1):
            context = before[len(before) - order :]
            counts = self._seen[order].setdefault(context, {})
            counts[byte] = counts.get(byte, 0) + 1
            self._totals[order][context] = self._totals[order].get(context, 0) + 1


def order_k_bits(data: bytes, k: int) -> float:
    """The bits that arithmetic coding with an order-k model takes, the length not included."""
    model, bits = OrderK(k), 0.0
    for place, byte in enumerate(data):
        before = data[max(0, place - k) : place]
        bits -= math.log2(model.probability(before, byte))
        model.learn(before, byte)
    return bits


def order_k_encode(data: bytes, k: int) -> str:
    """The data as a text of ``0`` and ``1``."""
    model, encoder = OrderK(k), Encoder()
    for place, byte in enumerate(data):
        before = data[max(0, place - k) : place]
        encoder.choose(model.weights(before), byte)
        model.learn(before, byte)
    return encoder.finish()


def order_k_decode(bits: str, k: int, length: int) -> bytes:
    """The ``length`` bytes that :func:`order_k_encode` made the bits of."""
    model, decoder, data = OrderK(k), Decoder(bits), bytearray()
    for _ in range(length):
        before = bytes(data[max(0, len(data) - k) :])
        byte = decoder.choose(model.weights(before), None)
        data.append(byte)
        model.learn(before, byte)
    return bytes(data)


def rates(data: bytes, compressors: Iterable[str] = tuple(COMPRESSORS)) -> dict[str, float]:
    """Compressed size / size of the whole, by compressor.

    Raises:
        InputError: if there is nothing to compress.
    """
    if not data:
        raise InputError("There are no bytes to compress.")
    return {name: COMPRESSORS[name](data) / len(data) for name in compressors}


def rate_of_items(items: Sequence[bytes], compressor: str = "gzip") -> float:
    """The same with each item compressed by itself."""
    compress = COMPRESSORS[compressor]
    return sum(compress(item) for item in items) / sum(map(len, items))
