"""Processes one input in a worker: filters, generator, outcome."""

from __future__ import annotations

import errno
import hashlib
import random
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, NamedTuple

from codegen.core.errors import CodegenError, ConfigError, MachineError
from codegen.core.records import DataRecord, Example, to_json
from codegen.data.filters import Filter
from codegen.data.filters.dedup import Dedup, Signature
from codegen.data.generators import TextGenerator
from codegen.data.sources import Item, Outcome, Rejected


class InputOutcome(NamedTuple):
    """One input's outcome.

    A named tuple, because the parent unpickles millions of them, which takes three times as long
    for a frozen dataclass.

    Attributes:
        data: the training texts as JSON lines, in UTF-8.
        measures: statistics of each training text.
        signature: deduplication signature; None without deduplication.
    """

    id: str
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    data: bytes = b""
    license: str = ""
    prompt_characters: int = 0
    trained_characters: int = 0
    measures: tuple[dict[str, int], ...] = ()
    signature: Signature | None = None


def example_rng(seed: int, example_id: str) -> random.Random:
    """Creates an example's random generator, from only the run's seed and the example's id."""
    key = f"{seed}\x00{example_id}".encode("utf-8", "surrogatepass")
    return random.Random(int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "big"))


@dataclass(frozen=True, slots=True)
class MapTask:
    """Filters inputs and applies a generator; each input gets one outcome, even on errors.

    ``timeout_s`` is enforced by ``SIGALRM``, which Python delivers only to the main thread and
    between bytecode instructions. Other threads have no limit, and the executor kills hangs in C
    code.
    """

    generator: TextGenerator
    seed: int
    timeout_s: float
    max_characters: int = 2**20
    filters: tuple[Filter, ...] = ()
    dedup: Dedup | None = None

    def __call__(self, items: Sequence[Item]) -> Iterator[InputOutcome]:
        """Yields the outcome of each input.

        Raises:
            ConfigError: if the generator cannot process any input.
            MachineError: if the machine cannot continue; the same call resumes the run.
        """
        filtered = [self._filter(item) for item in items]
        batch = self._batch([item for item in filtered if isinstance(item, Example)])
        for item in filtered:
            # A rejected input can have an example's id, such as the second of two rows with one id.
            outcome = batch.get(item.id) if isinstance(item, Example) else None
            yield outcome or self._one(item)

    def _filter(self, item: Item) -> Item:
        """Returns the item or its rejection."""
        if isinstance(item, Rejected):
            return item
        if (size := len(item.program)) > self.max_characters:
            detail = f"{size} characters, over {self.max_characters}"
            return Rejected(item.id, "too_large", detail, "skipped")
        if not self.filters:
            return item
        try:
            with _time_limit(self.timeout_s):
                for one in self.filters:
                    if rejected := one.check(item):
                        return rejected
                return item
        except _OutOfTimeError:
            return Rejected(item.id, "timeout", f"over {self.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - one example must not end the run
            result = _from_exception(item, error)
            return Rejected(item.id, result.reason, result.detail)

    def _batch(self, examples: list[Example]) -> dict[str, InputOutcome]:
        """Returns outcomes from ``generate_many`` by id; empty if the method is missing or fails.

        Raises:
            ConfigError: if the generator cannot process any input.
        """
        many = getattr(self.generator, "generate_many", None)
        if many is None or len(examples) < 2:
            return {}
        pairs = [(example, example_rng(self.seed, example.id)) for example in examples]
        # Most examples take far less than their limit, so twice the limit is enough for a chunk.
        # In a slower chunk each example is retried alone.
        try:
            with _time_limit(2 * self.timeout_s):
                answers = many(pairs)
                outcomes = zip(examples, answers, strict=True)
                return {example.id: self._outcome(example, answer) for example, answer in outcomes}
        except ConfigError as error:
            raise type(error)(str(error)) from None  # drops parts that cannot be pickled
        except (_OutOfTimeError, Exception, SystemExit):  # noqa: BLE001 - retried one by one
            return {}

    def _one(self, item: Item) -> InputOutcome:
        if isinstance(item, Rejected):
            return InputOutcome(item.id, item.outcome, item.reason, item.detail)
        try:
            with _time_limit(self.timeout_s):
                texts = list(self.generator.generate(item, example_rng(self.seed, item.id)))
                return self._outcome(item, texts)
        except (ConfigError, MachineError) as error:
            raise type(error)(str(error)) from None  # drops parts that cannot be pickled
        except _OutOfTimeError:
            return InputOutcome(item.id, "failed", "timeout", f"over {self.timeout_s:g} s")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any error is counted
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise MachineError(
                    f"{item.id}: {error}.", "Free some space, then run the same command again."
                ) from None
            return _from_exception(item, error)

    def _outcome(self, example: Example, answer: list[Any] | Exception) -> InputOutcome:
        if isinstance(answer, Exception):
            return _from_exception(example, answer)
        result = _result(example, answer)
        if self.dedup is None or result.outcome != "kept":
            return result
        return result._replace(signature=self.dedup.signature(example))


def _result(example: Example, texts: list[Any]) -> InputOutcome:
    if not texts:
        return InputOutcome(example.id, "skipped", "no_texts", "the generator returned no texts")
    ids = set()
    for text in texts:
        if not isinstance(text, DataRecord):
            detail = f"the generator returned a {type(text).__name__}, not a TrainingText"
            return InputOutcome(example.id, "failed", "invalid_output", detail)
        if text.example_id != example.id or text.id in ids:
            detail = f"text {text.id!r} has a wrong example_id or a repeated id"
            return InputOutcome(example.id, "failed", "invalid_output", detail)
        ids.add(text.id)
    texts = [_with_origin(text, example) for text in texts]
    prompt, trained = characters(texts)
    data = "".join(to_json(text) + "\n" for text in texts).encode("utf-8")
    measured = tuple(measures(text) for text in texts)
    return InputOutcome(
        example.id, "kept", "", "", data, example.license, prompt, trained, measured
    )


def _with_origin(text: DataRecord, example: Example) -> DataRecord:
    """Adds the example's license and source to the text's ``meta``, "" if unknown."""
    origin = {"license": example.license, "source": example.source}
    return replace(text, meta={**origin, **text.meta})


def characters(texts: Sequence[DataRecord]) -> tuple[int, int]:
    """Returns the number of characters in untrained and trained segments."""
    untrained, trained = (
        sum(len(s.text) for text in texts for s in text.segments if bool(s.train) is side)
        for side in (False, True)
    )
    return untrained, trained


LABELS = frozenset({"bkspc", "pair", "pairs", "score"})
"""Ints in ``meta`` that are not amounts but token ids, positions or scores; they are not summed."""


def measures(text: DataRecord) -> dict[str, int]:
    """Returns a text's measures: ``characters``, and the amounts (ints, not bools) in its meta."""
    amounts = {"characters": sum(len(segment.text) for segment in text.segments)}
    for name, value in text.meta.items():
        if isinstance(value, int) and not isinstance(value, bool) and name not in LABELS:
            amounts.setdefault(name, value)
    return amounts


def _from_exception(example: Example, error: BaseException) -> InputOutcome:
    reason = getattr(error, "reason", None)
    # UnicodeError's ``reason`` is a message.
    if isinstance(reason, str) and reason and not isinstance(error, UnicodeError):
        return InputOutcome(example.id, "skipped", reason, _short(str(error)))
    frames = traceback.extract_tb(error.__traceback__)
    # Show where an unexpected error was raised; a CodegenError's message is enough.
    known = not frames or isinstance(error, CodegenError)
    raised_at = "" if known else f" (in {frames[-1].name}, line {frames[-1].lineno})"
    return InputOutcome(example.id, "failed", type(error).__name__, _short(f"{error}{raised_at}"))


def _short(text: str, most: int = 500) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


class _OutOfTimeError(BaseException):
    """Not an Exception, so that a generator's ``except Exception`` does not catch it."""


def _raise_out_of_time(_signal: int, _frame: FrameType | None) -> None:
    raise _OutOfTimeError


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: Callable[..., object] | int | None = signal.signal(signal.SIGALRM, _raise_out_of_time)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
