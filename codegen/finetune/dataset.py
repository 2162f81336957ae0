"""The dataset of a run: rows are read, encoded, and cached in a memory-mapped Arrow file.

A row's type follows from its columns: ``segments`` (a training text of this toolkit), ``messages``
(a conversation) or ``prompt`` and ``completion`` (two strings, or two lists of messages). Rows are
streamed from JSON Lines, Parquet, a directory of either, or a Hugging Face dataset
(``hub:org/name[:config][:split]``); puzzles are generated.

A run's rows are tokenized once (:mod:`.encode`): :func:`cached` writes the examples into an Arrow
file and opens it with ``datasets``. Only the examples in use take memory, and all processes and
later runs share one copy. A cache is named by a digest of everything that determines its content;
it is written under a temporary name and renamed when complete.
"""

from __future__ import annotations

import fcntl
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from codegen.core.errors import InputError
from codegen.core.paths import new_folder, refuse_links
from codegen.core.records import Messages, Segment, TrainingText, from_dict, read_rows
from codegen.core.runs import explain_full_disk, fingerprint
from codegen.data.manifest import data_files, digests
from codegen.data.sources import file_digest
from codegen.data.sources.rows import hub_rows, sound_rows
from codegen.data.sources.synthetic import Puzzles, is_puzzles
from codegen.finetune.encode import EncodedExample, TextEncoder, causal
from codegen.finetune.recipe import Encoding, Overlong
from codegen.methods.backspace import with_backspace

ROLES = ("system", "developer", "user", "assistant", "tool")
_HUB = "hub:"
_COLUMNS = "segments, messages, or prompt and completion"
_ENCODING = 3  # increment it when encoding changes, to invalidate old caches
_TABLE, _STATS = "examples.arrow", "facts.json"


@dataclass(frozen=True, slots=True)
class Dataset:
    """The encoded texts of a run.

    Attributes:
        tokenizer: the model's tokenizer, with the backspace token if a text has backspaces.
        held_out: evaluation examples: the held-out rows without overlong ones.
        held_out_texts: held-out rows that are texts, not conversations.
        counts: examples, tokens, mask coverage, dropped and cut texts; the same for ``held_out``.
        longest_response: length of the longest trained part in tokens, for a new model.
        has_weights: whether any action has a weight.
        trained_tokens: ids of vocabulary tokens that the model has not learned yet; an adapter
            also trains their embeddings.
        backspace: backspace token id, if a text has backspaces.
        new_token: backspace token id, if the model's own tokenizer lacks it.
    """

    tokenizer: Any
    examples: Sequence[EncodedExample]
    held_out: Sequence[EncodedExample]
    held_out_texts: list[TrainingText]
    counts: dict[str, Any]
    longest_response: int
    has_weights: bool
    trained_tokens: tuple[int, ...] = ()
    backspace: int | None = None
    new_token: int | None = None


def read_dataset(
    tokenizer: Any,
    encoding: Encoding,
    sources: Sequence[tuple[str, str]],
    *,
    limit: int,
    held_out: Sequence[str],
    folder: Path,
) -> Dataset:
    """Reads rows and encodes them with a model's tokenizer, or opens their cache.

    Args:
        sources: (domain, path) pairs.
        limit: maximum number of rows per path; 0 for all.
        held_out: paths of the rows for evaluation.
        folder: directory of caches.

    Raises:
        InputError: if no usable text is left (with the counts of dropped texts), or a row does not
            fit the recipe.
    """
    kept_out = [("", row) for path in held_out for row in read_training_rows(path)]
    key = _cache_key(tokenizer, encoding, sources, limit)
    encoder = TextEncoder(
        tokenizer,
        encoding.format,
        encoding.systems,
        infilling=encoding.infilling,
        turns=encoding.turns,
    )
    stats, longest = EncodingStats(), encoding.max_length
    rows = ((domain, row) for domain, path in sources for row in read_training_rows(path, limit))
    if encoding.pieces:
        least, seed = encoding.pieces
        encoded = encode_pieces(rows, encoder, stats, least=least, most=longest, seed=seed)
    else:
        encoded = encode_rows(rows, encoder, stats, max_length=longest, overlong=encoding.overlong)
    examples = cached(folder, key, encoded, stats)
    stats = examples.stats
    _require_examples(examples, stats, [path for _, path in sources])
    if missing := {domain for domain, _ in sources if domain} - set(examples.lengths.domains()):
        raise InputError(f"No usable texts in the domain {min(missing)!r}.", "Raise max_length.")
    counts, evaluated, lost = _counts(examples, stats), [], EncodingStats()
    if kept_out:
        evaluated = list(encode_rows(kept_out, encoder, lost, max_length=longest))
        _require_examples(evaluated, lost, held_out)
        counts["held_out"] = _counts(evaluated, lost)
    backspace = new_token = None
    if stats.has_backspaces or lost.has_backspaces:
        known, (tokenizer, backspace) = tokenizer, with_backspace(tokenizer)
        new_token = None if tokenizer is known else backspace
    return Dataset(
        tokenizer,
        examples,
        evaluated,
        [row for _, row in kept_out if isinstance(row, TrainingText)],
        counts,
        int(examples.lengths.trained.max()),
        any(ExampleLengths.of(part).weights is not None for part in (examples, evaluated)),
        tuple(stats.trained_tokens),
        backspace,
        new_token,
    )


def _cache_key(
    tokenizer: Any, encoding: Encoding, sources: Sequence[tuple[str, str]], limit: int
) -> str:
    """Returns a digest of everything that determines the tokens of a run's data."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    settings = {
        "encoding": _ENCODING,
        "data": [[domain, *source_digests([path])] for domain, path in sources],
        "limit": limit,
        "tokenizer": backend.to_str() if backend else sorted(tokenizer.get_vocab().items()),
        "special": tokenizer.special_tokens_map,
        "template": tokenizer.chat_template,
        **encoding._asdict(),
    }
    return fingerprint(settings)[:32]


def _require_examples(
    examples: Sequence[EncodedExample], stats: EncodingStats, paths: Iterable[str]
) -> None:
    if not examples:
        reasons = ", ".join(f"{n} {reason}" for reason, n in stats.dropped.items()) or "no text"
        raise InputError(
            f"No usable training text in {', '.join(paths)} ({reasons}).",
            "Raise max_length, or look at the data with: codegen data inspect.",
        )


def _counts(examples: Sequence[EncodedExample], stats: EncodingStats) -> dict[str, Any]:
    """Returns counts of examples, tokens and dropped texts, and the mask coverage."""
    lengths = ExampleLengths.of(examples)
    tokens, trained = int(lengths.slots.sum()), int(lengths.trained.sum())
    return {
        "examples": len(lengths),
        "tokens": tokens,
        "trained_tokens": trained,
        "mask_coverage": trained / tokens if tokens else 0.0,
        "dropped": dict(stats.dropped),
        "dropped_tokens": dict(stats.dropped_tokens),
        "cut": stats.cut,
        "cut_tokens": stats.cut_tokens,
    }


def read_training_rows(path: str, limit: int = 0) -> Iterator[TrainingText | Messages]:
    """Streams the rows of a path, a hub dataset or a puzzle.

    Args:
        path: data path in one of the module's forms.
        limit: maximum number of rows; 0 for all.

    Raises:
        InputError: if a row cannot be trained on; says why.
    """
    if is_puzzles(path):
        texts: Iterable[TrainingText | Messages] = Puzzles.parse(path).texts()
    else:
        texts = (parse_row(row, where) for where, row in islice(_rows(path), limit or None))
    return islice(texts, limit or None)


def read_pairs(
    path: str, limit: int = 0
) -> Iterator[tuple[str, TrainingText | Messages, TrainingText | Messages]]:
    """Streams the preference pairs of a path or a hub dataset: the row's location, and its prompt
    with the preferred and with the rejected answer.

    Raises:
        InputError: if a row is not a pair; says why.
    """
    for where, row in islice(_rows(path), limit or None):
        if not isinstance(row, Mapping) or not {"prompt", "chosen", "rejected"} <= row.keys():
            raise InputError(
                f"{where} is not a pair; it needs prompt, chosen and rejected.",
                "Make pairs with: codegen data preferences.",
            )
        prompt = {name: row.get(name) for name in ("id", "tools", "prompt")}
        chosen, rejected = (
            parse_row({**prompt, "completion": row[name]}, f"{where} ({name})")
            for name in ("chosen", "rejected")
        )
        yield where, chosen, rejected


def source_digests(paths: Iterable[str]) -> list[str]:
    """Returns a digest of each data file; for the hub, only the dataset's name."""
    identities = []
    for path in paths:
        if path.startswith(_HUB):
            identities.append(path)
        elif files := _parquet_files(path):
            identities += [file_digest(file)[:16] for file in files]
        else:
            identities += digests(path)
    return identities


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    if path.startswith(_HUB):
        yield from hub_rows(path.removeprefix(_HUB))
        return
    for file in _parquet_files(path) or data_files(path):
        yield from sound_rows(file) if file.suffix in (".parquet", ".gz") else read_rows(file)


def _parquet_files(path: str) -> list[Path]:
    """Returns the Parquet files of a path; empty if the path has this toolkit's data files."""
    folder = Path(path)
    if folder.is_file():
        return [folder] if folder.suffix == ".parquet" else []
    return [] if any(folder.glob("data-*.jsonl")) else sorted(folder.glob("*.parquet"))


def parse_row(row: Any, where: str) -> TrainingText | Messages:
    """Parses one row into a record.

    Raises:
        InputError: if the row is invalid.
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}.")
    # Parquet and datasets fill missing columns with None.
    row = {name: value for name, value in row.items() if value is not None}
    if "segments" in row:
        if isinstance(row.get("meta"), str):  # as exported to Parquet
            row["meta"] = _json(row["meta"], where, "meta")
        return from_dict(TrainingText, row, where)
    name = row.get("id")
    name = str(name) if isinstance(name, (str, int)) and name != "" else where
    if "messages" in row:
        return _conversation(row, name, where, row["messages"], 0)
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        segments = (Segment(prompt, False), Segment(completion, True))
        return TrainingText(name, name, "completion", segments)
    if isinstance(prompt, (list, tuple)) and isinstance(completion, (list, tuple)):
        return _conversation(row, name, where, [*prompt, *completion], len(prompt))
    if "prompt" in row and "completion" in row:
        raise InputError(f"{where}: prompt and completion must be strings or message lists.")
    columns = ", ".join(map(repr, row)) or "none"
    remedy = "Set objective: dpo for such pairs." if "chosen" in row else f"Use {_COLUMNS}."
    raise InputError(f"{where}: no columns to train on among {columns}.", remedy)


def _conversation(
    row: Mapping[str, Any], name: str, where: str, messages: Any, prompt: int
) -> Messages:
    if not isinstance(messages, (list, tuple)) or not messages:
        raise InputError(f"{where}: messages must be a list of at least one message.")
    kept, train = [], []
    for number, given in enumerate(messages):
        at = f"{where}: message {number + 1}"
        message, trained = _message(given, at)
        is_answer = message["role"] == "assistant"
        if trained and not is_answer:
            raise InputError(
                f"{at} has the role {message['role']!r} and train: true.",
                "Remove train; only assistant messages are trained.",
            )
        kept.append(message)
        train.append(is_answer and number >= prompt if trained is None else trained)
    if kept[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: the conversation ends with a {kept[-1]['role']} message.",
            "End the conversation with the assistant message to train.",
        )
    if train[0]:
        raise InputError(
            f"{where}: the conversation begins with an assistant message.",
            "Put a user message first, or set train: false for that message.",
        )
    tools = _json(row.get("tools", ()), where, "tools")
    arguments = _json(row.get("chat_template_kwargs", {}), where, "chat_template_kwargs")
    if not isinstance(tools, (list, tuple)) or not isinstance(arguments, Mapping):
        raise InputError(f"{where}: tools must be a list and chat_template_kwargs a mapping.")
    return Messages(name, tuple(kept), tuple(train), tuple(tools), arguments)


def _message(given: Any, place: str) -> tuple[dict[str, Any], bool | None]:
    """Returns a message in the template's form, and its ``train`` flag or None."""
    if not isinstance(given, Mapping):
        raise InputError(f"{place} is not an object with role and content.")
    message = {key: value for key, value in given.items() if value is not None}
    trained, role = message.pop("train", None), message.get("role")
    if role not in ROLES:
        raise InputError(f"{place}: unknown role {role!r}.", f"Choose from: {', '.join(ROLES)}.")
    if trained is not None and not isinstance(trained, bool):
        raise InputError(f"{place}: train is {trained!r}; it must be true or false.")
    calls = message.get("tool_calls")
    content = message.setdefault("content", "" if calls else None)
    if isinstance(content, (list, tuple)):
        parts: list[Any] = [p.get("text") if isinstance(p, Mapping) else None for p in content]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None
        message["content"] = content
    if not isinstance(content, str):
        raise InputError(f"{place}: content must be a string.")
    if calls:
        message["tool_calls"] = [_call(call, place) for call in calls]
    return message, trained


def _call(call: Any, place: str) -> dict[str, Any]:
    """Parses a tool call; templates need arguments as an object, OpenAI's format has JSON text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f"{place}: a tool call needs a function with a name.")
    arguments = _json(function.get("arguments", {}), place, "arguments")
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}


def _json(value: Any, where: str, name: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {name} is not valid JSON ({error}).") from None


@dataclass
class EncodingStats:
    """Counts of encoded and dropped rows, complete after the iterator's last example.

    Attributes:
        dropped, dropped_tokens: reason -> number of dropped texts, and of their tokens.
        cut, cut_tokens: number of texts cut to the maximum length, and of the tokens lost.
        has_backspaces: whether a text has backspaces.
        trained_tokens: ids of the tokens whose embeddings need training, ascending.
    """

    dropped: Counter[str] = field(default_factory=Counter)
    dropped_tokens: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_tokens: int = 0
    has_backspaces: bool = False
    trained_tokens: list[int] = field(default_factory=list)

    def drop(self, reason: str, tokens: int) -> None:
        """Counts a dropped text."""
        self.dropped[reason] += 1
        self.dropped_tokens[reason] += tokens


Rows = Iterable[tuple[str, TrainingText | Messages]]


def encode_rows(
    rows: Rows,
    encoder: TextEncoder,
    stats: EncodingStats,
    *,
    max_length: int,
    overlong: Overlong = "drop",
) -> Iterator[EncodedExample]:
    """Yields the examples of (domain, row) pairs that can be trained on; counts the others.

    An overlong text with backspaces is always dropped.

    Args:
        stats: receives the counts.
        max_length: maximum slots of an example.
        overlong: drop longer examples, or truncate them to the first ``max_length`` tokens.
    """
    for domain, row in rows:
        for example in encoder.examples(row, domain):
            length = len(example)
            if length > max_length:
                if overlong == "drop" or not example.layout.is_causal:
                    stats.drop("too_long", length)
                    continue
                stats.cut += 1
                stats.cut_tokens += length - max_length
                example = example.first(max_length)
            if example.targets:
                yield example
            else:
                stats.drop("no_trainable_token", length)
    stats.has_backspaces = encoder.codec is not None
    stats.trained_tokens = sorted(map(encoder.tokenizer.convert_tokens_to_ids, encoder.trained))


def encode_pieces(
    rows: Rows,
    encoder: TextEncoder,
    stats: EncodingStats,
    *,
    least: int,
    most: int,
    seed: int | None,
) -> Iterator[EncodedExample]:
    """Yields the tokens of (domain, text) pairs in chunks of 2^k, each token predicted once.

    Args:
        stats: receives the number of lost tokens.
        least, most: minimum and maximum chunk length; ``most`` is rounded down to a power of two.
        seed: random seed for the lengths; None for the longest that fit (:func:`decompose`).

    Raises:
        InputError: for a conversation or a text with weights.
    """
    most = 1 << (most.bit_length() - 1)
    for domain, text in rows:
        if isinstance(text, Messages):
            raise InputError(
                f"{text.id!r} is a conversation; curriculum.mode: decompose needs texts.",
                "Set curriculum.mode: bucket.",
            )
        ids = encoder.tokens(text)
        rng = random.Random(f"{seed}:{text.id}") if seed is not None else None
        sizes = decompose(len(ids) - 1, least, most, rng)
        if rest := len(ids) - 1 - sum(sizes):
            stats.drop("below_least", rest)
        for size, at in zip(sizes, accumulate(sizes, initial=0), strict=False):
            slots = list(range(size))
            name, targets = f"{text.example_id}@{at}", ids[at + 1 : at + size + 1]
            yield EncodedExample(
                name, ids[at : at + size], slots, targets, slots, causal(size), domain, final=False
            )


def decompose(length: int, least: int, most: int, rng: random.Random | None = None) -> list[int]:
    """Returns the lengths of a document's chunks in order, powers of two in [least, most].

    Source: Dataset Decomposition (arXiv 2405.13226), section 3.1. A document is split into chunks
    of ``most`` while enough tokens are left, then by the binary digits of the remainder, the
    largest first; a remainder below ``least`` is lost.

    Args:
        length: document length in tokens.
        rng: if given, a document longer than ``most`` is split into random lengths with odds
            1, 2, 4, ... from the longest to the shortest, so each length gets equally many of its
            tokens (as in the released code); if None, into chunks of ``most``.
    """
    sizes = [most]
    while sizes[-1] > least:
        sizes.append(sizes[-1] // 2)
    odds = [2**n for n in range(len(sizes))]
    pieces = []
    while length >= most:
        size = most if rng is None else rng.choices(sizes, odds)[0]
        pieces.append(size)
        length -= size
    for size in sizes:
        if length >= size:
            pieces.append(size)
            length -= size
    return pieces


@dataclass(frozen=True, slots=True)
class ExampleLengths:
    """Lengths, ids and domains of N examples, without their tokens.

    Attributes:
        slots, trained: number of slots and of trained actions, int64 [N].
        weights: sum of the action weights of each example, float64 [N]; None if all weights are 1.
        all_causal: whether no example has backspaces.
        names: returns the source example id of each example.
        domains: returns the domain of each example.
    """

    slots: np.ndarray
    trained: np.ndarray
    weights: np.ndarray | None
    all_causal: bool
    names: Callable[[], list[str]]
    domains: Callable[[], list[str]]

    @classmethod
    def of(cls, examples: Sequence[EncodedExample]) -> ExampleLengths:
        """Returns the lengths of examples in memory or in a cache."""
        if isinstance(examples, CachedExamples):
            return examples.lengths
        weighted = any(example.weights for example in examples)
        return cls(
            np.array([len(example) for example in examples], np.int64),
            np.array([len(example.targets) for example in examples], np.int64),
            np.array([example.weight for example in examples]) if weighted else None,
            all(example.layout.is_causal for example in examples),
            lambda: [example.example_id for example in examples],
            lambda: [example.domain for example in examples],
        )

    def __len__(self) -> int:
        return len(self.slots)


class CachedExamples(Sequence[EncodedExample]):
    """The examples of a cache directory, read on access.

    Attributes:
        lengths: see :class:`ExampleLengths`.
        stats: see :class:`EncodingStats`.
    """

    def __init__(self, folder: Path) -> None:
        from datasets import Dataset as Table
        from pyarrow import compute

        kernels: Any = compute  # its functions are created at import, so type checkers miss them

        refuse_links(folder)
        try:
            stored = json.loads((folder / _STATS).read_bytes())
            self.stats = EncodingStats(**stored["encoded"])
            self._table: Any = Table.from_file(str(folder / _TABLE))
            table = self._table.data
            if len(self._table) != stored["examples"]:
                raise ValueError("it is truncated")
            self.lengths = ExampleLengths(
                np.asarray(kernels.list_value_length(table["ids"]), np.int64),
                np.asarray(kernels.list_value_length(table["then"]), np.int64),
                np.asarray(table["weight"]) if stored["has_weights"] else None,
                not stored["has_layouts"],
                table["example_id"].to_pylist,
                table["domain"].to_pylist,
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"The token cache {folder} is corrupt ({type(error).__name__}: {error}).",
                "Delete it.",
            ) from None

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, index: int) -> EncodedExample: ...
    @overload
    def __getitem__(self, index: slice) -> list[EncodedExample]: ...
    def __getitem__(self, index: int | slice) -> EncodedExample | list[EncodedExample]:
        """Returns one example, or a list for a slice."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return EncodedExample.from_row(self._table[range(len(self))[index]])


def cached(
    folder: Path, key: str, examples: Iterable[EncodedExample], stats: EncodingStats
) -> CachedExamples:
    """Opens the cache with this key; if absent, one process writes the cache.

    Args:
        folder: directory of caches.
        key: digest of everything that determines the content.
        examples: examples to write; not consumed if the cache exists.
        stats: stored after the last example.

    Raises:
        MachineError: if the disk becomes full.
    """
    target = folder / key
    with explain_full_disk(folder):
        if not (target / _STATS).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with _locked(folder / f"{key}.lock"):
                if not (target / _STATS).is_file():
                    _write(target, examples, stats)
    return CachedExamples(target)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(place: Path, examples: Iterable[EncodedExample], stats: EncodingStats) -> None:
    from datasets import Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    lists = {"ids": "int32", "then": "int32", "nodes": "int32", "targets": "int32",
             "end": "int64", "positions": "int64", "weights": "float64"}  # fmt: skip
    values = {"example_id": "string", "domain": "string", "weight": "float64", "final": "bool"}
    features = Features(
        {name: List(Value(kind)) for name, kind in lists.items()}
        | {name: Value(kind) for name, kind in values.items()}
    )
    has_layouts = has_weights = False
    partial = new_folder(place)
    try:
        with ArrowWriter(features=features, path=str(partial / _TABLE)) as writer:
            for example in examples:
                row = example.to_row()
                has_layouts |= bool(row["end"])
                has_weights |= bool(row["weights"])
                writer.write(row)
            count, _ = writer.finalize()
        table = {"examples": count, "has_layouts": has_layouts, "has_weights": has_weights}
        content = json.dumps({**table, "encoded": vars(stats)}, indent=1) + "\n"
        (partial / _STATS).write_text(content, "utf-8")
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
