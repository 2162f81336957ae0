"""Records shared between packages, and their JSON Lines format.

Records are frozen dataclasses, stored as one JSON object per line (UTF-8, keys in field order),
readable with ``datasets.load_dataset("json", ...)``.

Untrusted files are read with :func:`conform` or :func:`from_dict`, so that later code can rely on
the dataclasses' annotations.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from codegen.core.errors import InputError, cannot_read
from codegen.core.paths import refuse_endless, write_atomic

FinishReason = Literal["eos", "stop", "length"]
Status = Literal[
    "passed",
    "wrong",
    "error",
    "timeout",
    "memory",
    "crashed",
    "exited",
    "output_limit",
    "syntax_error",
    "compile_error",
    "empty",
    "no_answer",
    "bad_test",
    "refused",
    "infra_error",
]
# Statuses that do not reflect on the program: the sandbox or the tests are at fault.
UNJUDGED: tuple[Status, ...] = ("infra_error", "bad_test", "refused")
Trust = Literal["isolated", "blinded", "partly_blinded", "stdio", "in_sandbox"]

# Verdicts of higher rank are harder to forge.
_RANKS: Mapping[Trust, int] = {
    "in_sandbox": 0, "partly_blinded": 1, "blinded": 2, "isolated": 3, "stdio": 3,
}  # fmt: skip


def is_at_least(trust: Trust, least: Trust) -> bool:
    """Returns True if a verdict's trust is at least ``least``."""
    return _RANKS[trust] >= _RANKS[least]


class _Limits(NamedTuple):
    """Limits of a number for pydantic; the records do not enforce them."""

    low: float
    high: float | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        limits = {"ge": self.low} if self.high is None else {"ge": self.low, "le": self.high}
        return {**handler(source), **limits}


class Segment(NamedTuple):
    """A span of a training text.

    Attributes:
        train: True if its tokens enter the loss; or their loss weight from 0 to 1.
    """

    text: str
    train: bool | Annotated[float, _Limits(0, 1)]


@dataclass(frozen=True, slots=True)
class Example:
    """One (instruction, program) pair from a source."""

    id: str
    instruction: str
    program: str
    language: str = "python"
    source: str = ""
    license: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingText:
    """One training document. The segments define the loss mask, so no markers are needed.

    The leading segments with ``train=False`` are the prompt; for a chat model, the user's turn.
    """

    id: str
    example_id: str
    generator: str
    segments: tuple[Segment, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The leading untrained segments, joined."""
        parts = []
        for segment in self.segments:
            if segment.train:
                break
            parts.append(segment.text)
        return "".join(parts)

    @property
    def trained(self) -> str:
        """The segments that are trained on, joined."""
        return "".join(segment.text for segment in self.segments if segment.train)

    @property
    def text(self) -> str:
        """All segments joined."""
        return "".join(segment.text for segment in self.segments)


class Change(NamedTuple):
    """A completed edit: whole lines of a file, before and after.

    Attributes:
        line: the first line's number in the current file, from 0.
        old, new: the lines with their line ends; "" for no lines.
    """

    path: str
    line: Annotated[int, _Limits(0)]
    old: str
    new: str


class BatchGenerator:
    """Base class of generators that are faster with many examples at once.

    Adds ``generate`` of :class:`codegen.data.generators.TextGenerator`. It is defined here because
    packages below :mod:`codegen.data` derive their generators from it.
    """

    __slots__ = ()

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """Yields the training texts of one example.

        Raises:
            Exception: the exception that :meth:`generate_many` returns for it.
        """
        (texts,) = self.generate_many([(example, rng)])
        if isinstance(texts, Exception):
            raise texts
        yield from texts

    def generate_many(
        self, items: Sequence[tuple[Example, random.Random]]
    ) -> Sequence[list[TrainingText] | Exception]:
        """Returns each item's training texts, or the exception if there are none."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Edit:
    r"""An edit state and the next edit. Lines end only at "\n"; a "\r" belongs to its line.

    Attributes:
        id: ID of the edit state.
        text: the current file.
        history: the edits made so far, oldest first.
        window: the lines that may change next, start and end (not included), from 0.
        cursor: character offset in ``text``, from 0.
        target: the window's lines after the edit; unchanged if no edit is expected. None if
            unknown, as in an editor.
        category: kind of edit.
        language, source, license: as in :class:`Example`.
    """

    id: str
    path: str
    text: str
    history: tuple[Change, ...] = ()
    window: tuple[int, int] = (0, 0)
    cursor: int = 0
    target: str | None = None
    category: str = ""
    language: str = "python"
    source: str = ""
    license: str = ""


TextOrMessages = str | list[dict[str, str]]  # messages have a role and a content


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, the first one preferred; TRL's columns for DPO.

    All three are strings, or lists of messages if the prompt is a user's turn.
    """

    id: str
    example_id: str
    generator: str
    prompt: TextOrMessages
    chosen: TextOrMessages
    rejected: TextOrMessages
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Prompt and answers; ``train`` is True for answers."""
        answers = (Segment(_text_of(answer), True) for answer in (self.chosen, self.rejected))
        return Segment(_text_of(self.prompt), False), *answers


def _text_of(said: TextOrMessages) -> str:
    if isinstance(said, str):
        return said
    return "\n".join(str(message.get("content", "")) for message in said)


DataRecord = TrainingText | Preference  # the records of data directories


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation to train on, in chat template format.

    Attributes:
        id: ID of the conversation.
        messages: ``role``, ``content``, and optionally ``tool_calls``, ``name`` and so on.
        train: for each message, True if its tokens enter the loss: only for answers.
        tools: JSON schemas of the functions that the model may call.
        template_arguments: extra variables of the chat template.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...]
    train: tuple[bool, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    template_arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion of one problem.

    ``completion`` is the program text that the decoder reads. A decoder whose tokens are actions
    (edits, insertions, backspaces) puts the text the model emitted into ``actions``; others leave
    it empty. ``settings`` has the model, the decoder's name and all sampling parameters.
    """

    task: str
    problem_id: str
    index: int
    prompt: str
    completion: str
    finish_reason: FinishReason
    settings: Mapping[str, Any]
    seed: int
    prompt_tokens: int
    completion_tokens: int
    actions: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of running one sample against its problem's tests; times in s, memory in MiB.

    ``trust`` is the grade of the verdict. ``isolated`` and ``stdio``: the program saw
    neither the tests nor the expected values. ``blinded``: the tests ran in its process without the
    expected values. ``partly_blinded``: so did ``sites`` minus ``open_sites`` assertions; the
    program could forge the open ones. ``in_sandbox``: it could forge all. ``seen`` has digests of
    the values that open assertions read, to compare with a reference solution's digests.
    ``output`` is the beginning of the program's standard output. Status ``bad_test`` means that the
    test cannot run, or passes regardless of the program; ``refused`` means that it did not run,
    because its grade is below the required one. Neither is evidence about the sample, which does
    not count as passed.
    """

    problem_id: str
    index: int
    status: Status
    trust: Trust = "isolated"
    cpu_s: float = 0.0
    wall_s: float = 0.0
    memory_mib: float = 0.0
    message: str = ""
    output: str = ""
    sites: int = 0
    open_sites: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()

    @property
    def grade(self) -> str:
        """The trust as printed in reports, with the number of closed and of all assertions."""
        if self.trust != "partly_blinded":
            return self.trust
        return f"blinded ({self.sites - len(self.open_sites)} of {self.sites})"

    @property
    def passed(self) -> bool:
        """True if the sample counts as correct."""
        return self.status == "passed"


Record = TypeVar("Record", Example, TrainingText, Edit, Preference, Sample, Verdict)


def to_json(record: Example | DataRecord | Edit | Sample | Verdict) -> str:
    """Returns a JSON line without the line end. Lone surrogates survive as JSON escapes."""
    row = to_row(record)
    text = json.dumps(row, ensure_ascii=False)
    return json.dumps(row) if has_lone_surrogate(text) else text


def to_row(record: Example | DataRecord | Edit | Sample | Verdict) -> dict[str, Any]:
    """Converts a record to a JSON object."""
    # Not dataclasses.asdict: it deep-copies every meta value.
    row = {f.name: getattr(record, f.name) for f in fields(record)}
    # Objects, since a column of [text, flag] arrays has no single type in Arrow.
    for name in ("segments", "history"):
        if name in row:
            row[name] = [part._asdict() for part in row[name]]
    return row


def has_lone_surrogate(text: str) -> bool:
    """Returns True if ``text`` cannot be encoded as UTF-8 (a lone surrogate)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


T = TypeVar("T")


def conform(kind: type[T], value: Any, place: str = "") -> T:
    """Converts decoded JSON to a ``kind``: a dataclass, a typed dictionary, a list of them, ...

    Names and types are checked at any depth. The only conversions are lists to tuples, objects to
    dataclasses, and strings to the integer keys of a mapping. Integers have at most 64 bits, floats
    are finite. Missing fields get their defaults.

    Raises:
        ValueError: if the value does not fit; names the field, such as ``problems[3].n``.
    """
    from pydantic_core import ValidationError

    try:
        return _validator(kind).validate_python(value)
    except ValidationError as error:
        raise ValueError(_first_mistake(error, value, place)) from None
    except RecursionError:
        raise ValueError(f"{place or 'it'} is nested too deeply") from None


def from_dict(kind: type[Record], row: Any, where: str = "record") -> Record:
    """Builds a record from a decoded JSON object.

    Raises:
        InputError: if the object does not fit; names ``where`` and the field.
    """
    try:
        record = conform(kind, row)
        if isinstance(record, Edit):
            first, last = record.window
            if not 0 <= first <= last <= record.text.count("\n") + 1:
                raise ValueError(
                    f"window is {record.window}; both must be line numbers of the text"
                )
    except ValueError as error:
        raise InputError(f"{where}: {error} ({kind.__name__}).") from None
    return record


@cache
def _validator(kind: Any) -> Any:
    """Returns pydantic's validator, strict about scalars and unknown fields; lists are tuples."""
    from pydantic import TypeAdapter
    from pydantic_core import SchemaValidator

    # Dataclasses have no pydantic configuration, and strict=True would also reject JSON's lists.
    return SchemaValidator(_strict(TypeAdapter(kind).core_schema))


_STRICT: Mapping[str, Mapping[str, Any]] = {
    "str": {"strict": True},
    "bool": {"strict": True},
    "int": {"strict": True, "ge": -(2**64) + 1, "le": 2**64 - 1},
    "float": {"strict": True, "allow_inf_nan": False},
    "dataclass": {"revalidate_instances": "always"},
    "dataclass-args": {"extra_behavior": "forbid"},
    "typed-dict": {"extra_behavior": "forbid"},
}


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    strict = {**(_STRICT.get(kind, {}) if isinstance(kind, str) else {})}
    strict |= {key: _strict(value) for key, value in schema.items()}
    if kind == "dict" and strict.get("keys_schema", {}).get("type") == "int":
        strict["keys_schema"] = {**strict["keys_schema"], "strict": False}
    return strict


def _first_mistake(error: Any, value: Any, place: str) -> str:
    """Returns the first error of pydantic in one line; unknown fields come first."""
    errors = error.errors(include_url=False, include_context=False)
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    first = next((one for one in errors if one["type"] in unknown), errors[0])
    of_union = [one for one in errors if one["loc"][:1] == first["loc"][:1]]
    first = first if first["type"] in unknown else max(of_union, key=lambda one: len(one["loc"]))
    is_missing = first["type"] in ("missing", "missing_argument")
    for part in first["loc"]:  # includes union branches, which are not in the value
        if isinstance(value, dict) and (part in value or is_missing):
            place = f"{place}.{part}" if place else str(part)
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            place, value = f"{place}[{part}]", value[part]
    if is_missing:
        return f"{place} is missing"
    if first["type"] in unknown:
        return f"{_short(place)} is an unknown field"
    if first["type"] == "dataclass_type":
        return f"{place or 'the value'} is {_short(value)}; it must be a JSON object"
    reason = first["msg"].removeprefix("Input should be ")
    return f"{place or 'the value'} is {_short(value)}; it must be {reason}"


def read_json(path: Path, most_bytes: int) -> Any:
    """Returns a file's JSON value.

    Raises:
        InputError: if it is a pipe or a device.
        OSError: if it cannot be read.
        ValueError: if it is larger than ``most_bytes``, or not JSON in UTF-8.
    """
    refuse_endless(path)
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise ValueError(f"it is larger than {most_bytes:,} bytes")
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def from_json(kind: type[Record], line: str, where: str = "record") -> Record:
    """Parses one line of JSON into a record; errors name ``where``."""
    return from_dict(kind, _decode(line, where), where)


def read_jsonl(kind: type[Record], path: str | os.PathLike[str]) -> Iterator[Record]:
    """Streams records of one kind from a JSONL file.

    Raises:
        InputError: if a line is invalid; names the file and the line.
    """
    for where, row in read_rows(path):
        yield from_dict(kind, row, where)


MOST_LINE = 256 * 2**20
"""Maximum bytes per line of a JSONL file: a few megabytes of gzip can expand to gigabytes."""


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Streams a JSONL file's decoded lines, each with its location "file:line"; skips blank lines.

    The file may be compressed with gzip.

    Raises:
        InputError: if a line is invalid; names the file and the line.
    """
    path = Path(path)
    try:
        refuse_endless(path)
        file = path.open("rb")
    except OSError as error:
        raise cannot_read(path, error) from None
    with file:
        is_packed = file.peek(2)[:2] == b"\x1f\x8b"
        try:
            stream = gzip.GzipFile(fileobj=file) if is_packed else file
            for number, raw in enumerate(iter(lambda: stream.readline(MOST_LINE + 1), b""), 1):
                where = f"{path}:{number}"
                if len(raw) > MOST_LINE:
                    raise InputError(
                        f"{where}: the line is longer than {MOST_LINE >> 20} MiB.",
                        "Split or remove the record.",
                    )
                try:
                    line = raw.decode("utf-8")
                except UnicodeDecodeError:
                    remedy = "Save the file as UTF-8."
                    raise InputError(f"{where}: not valid UTF-8.", remedy) from None
                if line.strip():
                    yield where, _decode(line, where)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            remedy = "Copy or download it again."
            raise InputError(f"{path} is corrupt: {error}.", remedy) from None


def write_jsonl(
    path: str | os.PathLike[str],
    records: Iterable[Example | DataRecord | Edit | Sample | Verdict],
    *,
    replace: bool = True,
) -> int:
    """Writes records to ``path`` all at once or not at all, and returns their number.

    Args:
        replace: True overwrites a file with other content; else see :func:`write_new`.
    """
    count = 0

    def lines() -> Iterator[str]:
        nonlocal count
        for record in records:
            count += 1
            yield to_json(record) + "\n"

    (write_atomic if replace else write_new)(path, lines())
    return count


def write_new(path: str | os.PathLike[str], content: str | Iterable[str]) -> None:
    """Writes a file that the user named, as :func:`write_atomic`; keeps an existing one.

    Raises:
        InputError: if the file exists with other content.
    """
    path = Path(path)
    data = "".join(content).encode("utf-8")
    if path.is_file() and path.read_bytes() != data:
        raise InputError(f"{path} exists and has other content.", "Pass a new file, or move it.")
    write_atomic(path, data)


def _decode(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error}).") from None


def _short(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."
