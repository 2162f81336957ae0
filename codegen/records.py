"""The records that pass between packages, and their JSON Lines form on disk.

All are frozen dataclasses; one JSON object a line, UTF-8, keys in field order, readable with
``datasets.load_dataset("json", ...)``. This module imports the standard library only.
"""

from __future__ import annotations

import gzip
import json
import os
import stat
import types
import typing
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from codegen.errors import InputError, cannot_read
from codegen.paths import open_plain, partial_name, refuse_endless, remove_partials

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
    "infra_error",
]
Trust = Literal["isolated", "objects", "stdio", "in_sandbox"]


class Segment(NamedTuple):
    """A stretch of a training text.

    Attributes:
        train: whether its tokens enter the loss; or a number from 0 to 1, how much they count.
    """

    text: str
    train: bool | float


@dataclass(frozen=True, slots=True)
class Example:
    """One (instruction, program) pair as it comes from a source."""

    id: str
    instruction: str
    program: str
    language: str = "python"
    source: str = ""
    license: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingText:
    """One text to train on. The loss mask is in the segments, never in a marker to search for.

    The leading segments with ``train=False`` are the prompt; a chat model sees them as the user's
    turn.
    """

    id: str
    example_id: str
    generator: str
    segments: tuple[Segment, ...]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """The leading untrained text."""
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
    """An edit that has been made: whole lines of a file, before and after.

    Attributes:
        line: the first of the lines, from 0, in the file as it is now.
        old, new: the lines with their ends; "" if there were none.
    """

    path: str
    line: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Edit:
    r"""A moment of editing, and the next edit. Lines end at "\n" alone; a "\r" belongs to its line.

    Attributes:
        id: names the moment.
        text: the file as it is now.
        history: the edits made so far, oldest first.
        window: the lines that may change next, start and end (not included), from 0.
        cursor: a place in ``text``, in characters from 0.
        target: what the window's lines become; the same as now if nothing is to change. None if it
            is not known, as in an editor.
        category: what kind of edit it is.
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
    """Two answers to one prompt, of which the first is preferred; TRL's columns for DPO.

    The three are texts; where the prompt was a user's turn, lists of messages.
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
        """The texts; ``train`` says whether it is an answer."""
        answers = (Segment(_text_of(answer), True) for answer in (self.chosen, self.rejected))
        return Segment(_text_of(self.prompt), False), *answers


@dataclass(frozen=True, slots=True)
class UnpairedPreference:
    """One answer to a prompt, labeled as good or bad; TRL's columns for KTO.

    Otherwise as :class:`Preference`.
    """

    id: str
    example_id: str
    generator: str
    prompt: TextOrMessages
    completion: TextOrMessages
    label: bool
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The texts; ``train`` says whether it is an answer."""
        return Segment(_text_of(self.prompt), False), Segment(_text_of(self.completion), True)


def _text_of(said: TextOrMessages) -> str:
    if isinstance(said, str):
        return said
    return "\n".join(str(message.get("content", "")) for message in said)


DataRecord = TrainingText | Preference | UnpairedPreference  # the records of data directories


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation to train on, as a chat template takes it.

    Attributes:
        id: names the conversation.
        messages: ``role``, ``content``, and where there are any ``tool_calls``, ``name`` and so on.
        train: for each message, whether its tokens enter the loss: only answers do.
        tools: JSON schemas of the functions that the model may call.
        template_arguments: further variables of the chat template.
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
    it empty. ``settings`` holds the model, the decoder's name and all sampling parameters.
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

    ``trust`` says how far the verdict can be believed: ``isolated`` and ``stdio`` keep the tests
    outside the sandbox, so the program can't forge it; ``objects`` does too, but objects of the
    program's own classes were compared with each other, which their class decides; ``in_sandbox``
    runs them beside the program.
    ``output`` is the beginning of what the program wrote to its standard output. Status
    ``bad_test`` means that the test can't be run, or passes whatever a program returns: it says
    nothing about the sample, which does not count as passed.
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

    @property
    def passed(self) -> bool:
        """Whether the sample counts as correct."""
        return self.status == "passed"


Record = TypeVar(
    "Record", Example, TrainingText, Edit, Preference, UnpairedPreference, Sample, Verdict
)


def to_json(record: Example | DataRecord | Edit | Sample | Verdict) -> str:
    """One line of JSON, without the line's end. Lone surrogates survive as JSON escapes."""
    row = to_row(record)
    text = json.dumps(row, ensure_ascii=False)
    return json.dumps(row) if has_lone_surrogate(text) else text


def to_row(record: Example | DataRecord | Edit | Sample | Verdict) -> dict[str, Any]:
    """A record as a JSON object."""
    # Not dataclasses.asdict: it deep-copies every meta value.
    row = {f.name: getattr(record, f.name) for f in fields(record)}
    # Objects, since a column of [text, flag] arrays has no one type in Arrow.
    for name in ("segments", "history"):
        if name in row:
            row[name] = [part._asdict() for part in row[name]]
    return row


def has_lone_surrogate(text: str) -> bool:
    """Whether ``text`` has no UTF-8 form, as after the JSON escape of half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def from_dict(kind: type[Record], row: Any, where: str = "record") -> Record:
    """Builds a record from a decoded JSON object, checking names and types.

    Raises:
        InputError: naming ``where`` and the field that is unknown, missing or of a wrong type.
    """
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(row).__name__}.")
    row = current_names(row)
    hints = _hints(kind)
    if unknown := sorted(set(row) - set(hints)):
        raise InputError(
            f"{where}: unknown field {unknown[0]!r} for {kind.__name__}.",
            f"Fields are: {', '.join(hints)}.",
        )
    required = [f.name for f in fields(kind) if _is_required(f)]
    if missing := [name for name in required if name not in row]:
        raise InputError(f"{where}: field {missing[0]!r} of {kind.__name__} is missing.")
    if kind is TrainingText:
        row = dict(row, segments=_segments(row["segments"], where))
    if kind is Edit:
        row = dict(row, **_moment(row, where))
    for name, value in row.items():
        if not _matches(value, hints[name]):
            raise InputError(
                f"{where}: field {name!r} of {kind.__name__} has a wrong value {_short(value)}."
            )
    return kind(**row)


def current_names(row: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with the names that older versions wrote replaced by the current ones."""
    old = {"licence": "license", "licences": "licenses"}
    return {old.get(name, name): value for name, value in row.items()} if old.keys() & row else row


def from_json(kind: type[Record], line: str, where: str = "record") -> Record:
    """Parses one line of JSON into a record; errors name ``where``."""
    return from_dict(kind, _decode(line, where), where)


def read_jsonl(kind: type[Record], path: str | os.PathLike[str]) -> Iterator[Record]:
    """Streams records of one kind from a JSONL file.

    Raises:
        InputError: naming the file and the line.
    """
    for where, row in read_rows(path):
        yield from_dict(kind, row, where)


MOST_LINE = 256 * 2**20
"""Bytes of a line in a JSONL file: a few megabytes of gzip can hold gigabytes."""


def read_rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, Any]]:
    """Streams a JSONL file's decoded lines, each with its place, "file:line"; blank ones left out.

    The file may be packed with gzip.

    Raises:
        InputError: naming the file and the line.
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
                        "Split the record, or leave it out.",
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
            raise InputError(f"{path} is damaged: {error}.", remedy) from None


def write_jsonl(
    path: str | os.PathLike[str],
    records: Iterable[Example | DataRecord | Edit | Sample | Verdict],
    *,
    replace: bool = True,
) -> int:
    """Writes records to ``path`` all at once or not at all, and returns their number.

    Args:
        replace: whether to write over a file with other content; else see :func:`write_new`.
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
    """Writes a file that the user named, as :func:`write_atomic`; one that is there is kept.

    Raises:
        InputError: if the file exists and holds anything else.
    """
    path = Path(path)
    data = "".join(content).encode("utf-8")
    if path.is_file() and path.read_bytes() != data:
        raise InputError(f"{path} exists and holds something else.", "Name a new file, or move it.")
    write_atomic(path, data)


def write_atomic(
    path: str | os.PathLike[str],
    content: str | bytes | Iterable[str] | Iterable[bytes],
    mode: int = 0o666,
) -> None:
    """Writes a file so that a reader, or a crash, sees the old file or the whole new one.

    Text is written as UTF-8. The file is made under a random name beside its place and moved there,
    both in the same open directory; a symbolic link at ``path`` is replaced, never followed.
    ``mode`` is that of a new file before the umask.

    Raises:
        InputError: if a device, pipe or socket is at ``path``; it would be gone.
    """
    path = Path(path)
    with suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
            raise InputError(
                f"Cannot write {path}: it is not a regular file.", "Name another file."
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        remove_partials(path, directory)
        partial = partial_name(path.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(open_plain(partial, flags, mode, dir_fd=directory), "wb") as file:
                parts = [content] if isinstance(content, (str, bytes)) else content
                file.writelines(p.encode("utf-8") if isinstance(p, str) else p for p in parts)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            error.filename, error.filename2 = os.fspath(path), None  # not the partial's
            raise
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=directory)
    finally:
        os.close(directory)


def _decode(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error}).") from None


def _segments(value: Any, where: str) -> tuple[Segment, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{where}: segments must be a list of objects with text and train.")
    for item in value:
        ok = isinstance(item, dict) and item.keys() == {"text", "train"}
        if not (ok and isinstance(item["text"], str)):
            raise InputError(
                f'{where}: a segment must be {{"text": ..., "train": ...}}, got {_short(item)}.'
            )
        train = item["train"]
        if not (isinstance(train, (bool, int, float)) and 0 <= train <= 1):
            raise InputError(
                f"{where}: train is {_short(train)} in a segment.",
                "It must be true, false, or a number from 0 to 1: how much the tokens count.",
            )
    return tuple(Segment(item["text"], item["train"]) for item in value)


def _moment(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The history and the window of an :class:`Edit`."""
    history: list[Change] = []
    given = row.get("history", ())
    if not isinstance(given, (list, tuple)):
        raise InputError(f"{where}: history must be a list of edits, got {_short(given)}.")
    for item in given:
        if not isinstance(item, dict) or item.keys() != set(Change._fields):
            raise InputError(f"{where}: an edit of the history must have path, line, old and new.")
        change = Change(**item)
        kinds = {name: type(value) for name, value in item.items()}
        if kinds != {"path": str, "line": int, "old": str, "new": str} or change.line < 0:
            raise InputError(f"{where}: an edit of the history has a wrong value {_short(item)}.")
        history.append(change)
    window = row.get("window", (0, 0))
    if (
        not isinstance(window, (list, tuple))
        or [type(line) for line in window] != [int, int]
        or not 0 <= window[0] <= window[1] <= str(row.get("text", "")).count("\n") + 1
    ):
        raise InputError(f"{where}: window must be two lines of the text, got {_short(window)}.")
    return {"history": tuple(history), "window": tuple(window)}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_required(f: Any) -> bool:
    return f.default is MISSING and f.default_factory is MISSING


def _matches(value: Any, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, arm) for arm in typing.get_args(hint))
    if origin is not None:
        return isinstance(value, origin)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
