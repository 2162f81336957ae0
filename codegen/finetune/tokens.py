"""Examples as tokens, in memory or in a cache on disk.

A run's texts are tokenized once. :class:`TokenCache` holds the result in flat files that are mapped
into memory: only the examples in use take memory, and all processes and later runs share one copy.
A cache is named by a digest of everything that decides its content; it is written under another
name and renamed when it is whole.

Files: ``ids.bin`` the tokens (uint16, or uint32 for large vocabularies), ``spans.bin`` the trained
stretches of slots (int32 pairs), ``extra.bin`` (64 bits each) the weights of these stretches if not
all are 1, or the layouts of examples that are not causal texts, ``names.bin`` the examples' ids,
``index.bin`` where each example's parts are, ``cache.json`` the domains and counts.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np

from codegen.errors import InputError
from codegen.finetune.attention import RowLayout, causal, from_stack
from codegen.methods.backspace import StackLayout
from codegen.paths import new_folder, refuse_links
from codegen.records import write_atomic
from codegen.runs import explain_full_disk

_OURS = re.compile(r"\.?[0-9a-f]{32}\b")  # the beginning of a cache's name: its key
_INDEX = np.dtype(
    [
        ("ids", "<i8"),  # the end of each part in its file; the last example's is the start
        ("spans", "<i8"),
        ("extra", "<i8"),
        ("name", "<i8"),
        ("trained", "<i4"),
        ("domain", "<u2"),
        ("final", "?"),
    ]
)
_PARTS = {"spans": np.dtype("<i4"), "extra": np.dtype("<i8"), "names": np.dtype("u1")}
_ROWS_AT_ONCE = 4096  # examples between two writes
_CARD = "cache.json"


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example of S slots and T trained actions.

    Attributes:
        example_id: the example its text was made from.
        ids: [S] the token in each slot.
        nodes: [T] the slot whose output chooses the action, ascending.
        targets: [T] the right action there.
        then: [T] the slot of the state that the executed action leads to.
        layout: which slots see which.
        domain: the name its loss is reported under; empty for none.
        final: whether the last action ends the text, so that its ``then`` is the terminal state.
        weights: [T] how much each action counts in the loss, or empty if each counts 1.
    """

    example_id: str
    ids: list[int]
    nodes: list[int]
    targets: list[int]
    then: list[int]
    layout: RowLayout
    domain: str = ""
    final: bool = True
    weights: Sequence[float] = ()

    @property
    def weight(self) -> float:
        """The sum of the actions' weights."""
        return math.fsum(self.weights) if self.weights else len(self.targets)

    @classmethod
    def of_stack(
        cls, stack: StackLayout, example_id: str = "", domain: str = "", *, final: bool = True
    ) -> EncodedExample:
        """A trajectory with backspaces."""
        return cls(
            example_id,
            list(stack.tokens),
            list(stack.nodes[:-1]),
            list(stack.labels),
            list(stack.nodes[1:]),
            from_stack(stack),
            domain,
            final,
        )

    @classmethod
    def of_runs(
        cls,
        runs: Iterable[tuple[Sequence[int], bool | Sequence[float]]],
        example_id: str,
        domain: str,
        *,
        final: bool,
    ) -> EncodedExample:
        """A text in runs of (tokens, whether they are trained, or the weight of each)."""
        ids: list[int] = []
        nodes: list[int] = []
        weights: list[float] = []
        for new, train in runs:
            if train:
                first = 0 if ids else 1  # the first token of a text cannot be predicted
                nodes.extend(range(len(ids) + first - 1, len(ids) + len(new) - 1))
                weights += [1.0] * len(new[first:]) if train is True else train[first:]
            ids.extend(new)
        then = [node + 1 for node in nodes]
        targets = [ids[slot] for slot in then]
        layout = causal(len(ids))
        weights = weights if any(weight != 1 for weight in weights) else []
        return cls(example_id, ids, nodes, targets, then, layout, domain, final, weights)

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, start: int, stop: int) -> EncodedExample:
        """The slots ``start`` to ``stop`` of a causal example, as an example of its own."""
        kept = [k for k, (a, b) in enumerate(zip(self.nodes, self.then, strict=True))
                if start <= a and b < stop]  # fmt: skip
        return EncodedExample(
            self.example_id,
            self.ids[start:stop],
            [self.nodes[k] - start for k in kept],
            [self.targets[k] for k in kept],
            [self.then[k] - start for k in kept],
            causal(min(stop, len(self)) - start),
            self.domain,
            final=self.final and stop >= len(self),
            weights=[self.weights[k] for k in kept] if self.weights else (),
        )


@dataclass(frozen=True, slots=True)
class Outline:
    """The lengths, ids and domains of N examples, without their tokens.

    Attributes:
        lengths, trained: int64 [N], slots and trained actions.
        all_causal: whether every example is a plain text.
        name, domain: number of an example -> id of the example it was made from, its domain.
        weight: number of an example -> the sum of its actions' weights; None if each action of
            all examples counts 1.
    """

    lengths: np.ndarray
    trained: np.ndarray
    all_causal: bool
    name: Callable[[int], str]
    domain: Callable[[int], str]
    weight: Callable[[int], float] | None = None

    @classmethod
    def of(cls, examples: Sequence[EncodedExample]) -> Outline:
        """The outline of examples in memory or in a cache."""
        if isinstance(examples, TokenCache):
            return examples.outline
        return cls(
            np.array([len(example) for example in examples], np.int64),
            np.array([len(example.targets) for example in examples], np.int64),
            all(example.layout.is_causal for example in examples),
            lambda number: examples[number].example_id,
            lambda number: examples[number].domain,
            (lambda number: examples[number].weight)
            if any(example.weights for example in examples)
            else None,
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def total(self, numbers: Sequence[int]) -> float:
        """The sum of the weights of all actions of some examples."""
        if self.weight is None:
            return int(self.trained[numbers].sum())
        return math.fsum(map(self.weight, numbers))


class TokenCache(Sequence[EncodedExample]):
    """The examples of a cache directory; each is read when it is used.

    Attributes:
        outline: see :class:`Outline`.
        facts: JSON values that the writer stored.
    """

    def __init__(self, folder: Path) -> None:
        refuse_links(folder)
        try:
            self._open(folder)
        except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(
                f"The token cache {folder} is damaged ({reason}).", "Delete it."
            ) from None

    def _open(self, folder: Path) -> None:
        self.facts: dict[str, Any] = json.loads((folder / _CARD).read_bytes())
        self._domains: list[str] = self.facts["domains"]
        self._index = _mapped(folder / "index.bin", _INDEX)
        self._ids = _mapped(folder / "ids.bin", np.dtype(self.facts["dtype"]))
        self._spans, self._extra, self._names = (
            _mapped(folder / f"{name}.bin", dtype) for name, dtype in _PARTS.items()
        )
        for name, values in (
            ("ids", self._ids), ("spans", self._spans), ("extra", self._extra),
            ("name", self._names),
        ):  # fmt: skip
            ends, least = self._index[name], int(name == "ids")  # an example has a token
            if (np.diff(ends, prepend=0) < least).any() or ends[-1:].sum() != len(values):
                raise ValueError(f"the index does not fit {name}")
        if (self._index["domain"] >= len(self._domains)).any():
            raise ValueError("the index names a missing domain")
        self.outline = Outline(
            np.diff(self._index["ids"], prepend=0),
            self._index["trained"].astype(np.int64),
            not self.facts["has_layouts"],
            self._name,
            self._domain,
            self._weight if self.facts.get("has_weights") else None,
        )

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, index: int) -> EncodedExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedExample]: ...
    def __getitem__(self, index: int | slice) -> EncodedExample | list[EncodedExample]:
        """One example, or some."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        ids = self._part("ids", self._ids, number).tolist()
        name, domain = self._name(number), self._domain(number)
        final = bool(self._index[number]["final"])
        extra = self._part("extra", self._extra, number)
        spans = self._part("spans", self._spans, number).reshape(-1, 2)
        if len(extra) and not len(spans):
            count = int(self._index[number]["trained"])
            nodes, targets, then = (extra[k * count : (k + 1) * count].tolist() for k in range(3))
            end, positions = extra[3 * count :].reshape(2, -1)
            layout = RowLayout(np.array(end), np.array(positions))
            return EncodedExample(name, ids, nodes, targets, then, layout, domain, final)
        then = [slot for start, stop in spans.tolist() for slot in range(start, stop)]
        nodes, targets = [slot - 1 for slot in then], [ids[slot] for slot in then]
        layout = causal(len(ids))
        weights: Sequence[float] = ()
        if len(extra):
            weights = np.repeat(extra.view(np.float64), spans[:, 1] - spans[:, 0]).tolist()
        return EncodedExample(name, ids, nodes, targets, then, layout, domain, final, weights)

    def _weight(self, number: int) -> float:
        spans = self._part("spans", self._spans, number).reshape(-1, 2)
        extra = self._part("extra", self._extra, number)
        if len(extra) and len(spans):
            return float((spans[:, 1] - spans[:, 0]) @ extra.view(np.float64))
        return float(self._index[number]["trained"])

    def _name(self, number: int) -> str:
        return self._part("name", self._names, number).tobytes().decode()

    def _domain(self, number: int) -> str:
        return self._domains[self._index[number]["domain"]]

    def _part(self, name: str, values: np.ndarray, number: int) -> np.ndarray:
        start = self._index[number - 1][name] if number else 0
        return values[start : self._index[number][name]]


def _mapped(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    if not path.stat().st_size:  # an empty file cannot be mapped
        return np.empty(0, dtype)
    return np.memmap(path, dtype, "r")


def write_cache(
    folder: Path, examples: Iterable[EncodedExample], vocabulary: int
) -> dict[str, Any]:
    """Writes examples into a new directory; returns the facts to store beside them.

    Args:
        folder: empty.
        examples: consumed one by one.
        vocabulary: more than the largest token id.
    """
    dtype = np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4")
    domains: dict[str, int] = {}
    ends = dict.fromkeys(("ids", "spans", "extra", "name"), 0)
    has_layouts = has_weights = False
    files: dict[str, BinaryIO] = {}
    try:
        for name in ("ids", "index", *_PARTS):
            files[name] = (folder / f"{name}.bin").open("wb")
        rows = []
        for example in examples:
            spans, extra = _compact(example)
            has_layouts |= not example.layout.is_causal
            has_weights |= bool(example.weights)
            name = example.example_id.encode("utf-8", "replace")
            files["ids"].write(np.array(example.ids, dtype).tobytes())
            files["spans"].write(spans.tobytes())
            files["extra"].write(extra.tobytes())
            files["names"].write(name)
            added = (len(example), spans.size, extra.size, len(name))
            ends = {part: end + new for (part, end), new in zip(ends.items(), added, strict=True)}
            domain = domains.setdefault(example.domain, len(domains))
            rows.append((*ends.values(), len(example.targets), domain, example.final))
            if len(rows) == _ROWS_AT_ONCE:
                files["index"].write(np.array(rows, _INDEX).tobytes())
                rows.clear()
        files["index"].write(np.array(rows, _INDEX).tobytes())
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()
    facts = {"domains": list(domains), "dtype": dtype.str, "has_layouts": has_layouts}
    return facts | {"has_weights": True} if has_weights else facts


def _compact(example: EncodedExample) -> tuple[np.ndarray, np.ndarray]:
    """The trained stretches of a causal text, and their weights if there are any; for other
    examples, all but the ids.
    """
    then = np.array(example.then, np.int64)
    is_text = (
        example.layout.is_causal
        and (np.array(example.nodes, np.int64) == then - 1).all()
        and (not len(then) or then[-1] < len(example))
        and [example.ids[slot] for slot in example.then] == example.targets
    )
    if not is_text:
        extra = [example.nodes, example.targets, then, example.layout.end, example.layout.positions]
        return np.empty(0, np.int32), np.concatenate(extra, dtype=np.int64)
    is_border, weights = np.diff(then) != 1, np.array(example.weights, np.float64)
    if example.weights:
        is_border |= np.diff(weights) != 0
    breaks = np.flatnonzero(is_border) + 1
    borders = [0, *breaks.tolist(), len(then)] if len(then) else [0]
    spans = [(then[a], then[b - 1] + 1) for a, b in pairwise(borders)]
    of_spans = weights[borders[:-1]] if example.weights else weights
    return np.array(spans, np.int32).reshape(-1), of_spans.view(np.int64)


def open_cache(folder: Path, key: str, write: Callable[[Path], Mapping[str, Any]]) -> TokenCache:
    """Opens the cache with this key; if it is missing, one process makes it.

    Args:
        folder: holds caches.
        key: a digest of everything that decides the content.
        write: writes the files into a new directory (:func:`write_cache`) and returns its facts.

    Raises:
        MachineError: if the disk becomes full.
    """
    place = folder / key
    with explain_full_disk(folder):
        if not (place / _CARD).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f"{key}.lock"):
                if not (place / _CARD).is_file():
                    partial = new_folder(place)
                    try:
                        facts = write(partial)
                        write_atomic(partial / _CARD, json.dumps(facts, indent=1) + "\n")
                        shutil.rmtree(place, ignore_errors=True)
                        partial.rename(place)
                    finally:
                        shutil.rmtree(partial, ignore_errors=True)
    return TokenCache(place)


def holds_only_caches(folder: Path) -> bool:
    """Whether a directory is missing, or has only names of caches, finished or begun."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return all(_OURS.match(name) for name in names)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
