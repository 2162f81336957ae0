"""Reads the rows of a recipe's ``data`` into records.

A row's type follows from its columns: ``segments`` (a training text of this toolkit), ``messages``
(a conversation) or ``prompt`` and ``completion`` (two strings, or two lists of messages). Rows are
streamed from JSON Lines, Parquet, a directory of either, or a Hugging Face dataset
(``hub:org/name[:config][:split]``); puzzles are generated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError
from codegen.core.records import Messages, Segment, TrainingText, from_dict, read_rows
from codegen.data.manifest import data_files, digests
from codegen.data.sources import file_digest
from codegen.data.sources.rows import hub_rows, sound_rows
from codegen.data.sources.synthetic import Puzzles, is_puzzles

ROLES = ("system", "developer", "user", "assistant", "tool")
_HUB = "hub:"
_COLUMNS = "segments, messages, or prompt and completion"


def read_training_rows(path: str, limit: int = 0) -> Iterator[TrainingText | Messages]:
    """Streams the rows of a path, a hub dataset or a puzzle.

    Args:
        path: data path in one of the module's forms.
        limit: maximum number of rows; 0 for all.

    Raises:
        InputError: naming a row that cannot be trained on, and the reason.
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
        InputError: naming a row that is not a pair, and the reason.
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


def source_digests(path: str) -> list[str]:
    """Returns the identity of the data: a digest of each file; for the hub, only the name."""
    if path.startswith(_HUB):
        return [path]
    if is_puzzles(path) or not any(name.suffix == ".parquet" for name in _files(path)):
        return digests(path)
    return [file_digest(file)[:16] for file in _files(path)]


def _rows(path: str) -> Iterator[tuple[str, Any]]:
    if path.startswith(_HUB):
        yield from hub_rows(path.removeprefix(_HUB))
        return
    for file in _files(path):
        yield from sound_rows(file) if file.suffix in (".parquet", ".gz") else read_rows(file)


def _files(path: str) -> list[Path]:
    folder = Path(path)
    is_exported = folder.is_dir() and not any(folder.glob("data-*.jsonl"))
    return (sorted(folder.glob("*.parquet")) if is_exported else []) or data_files(path)


def parse_row(row: Any, where: str) -> TrainingText | Messages:
    """Parses one row into a record.

    Raises:
        InputError: naming ``where`` and the error.
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
        place = f"{where}: message {number + 1}"
        message, trained = _message(given, place)
        is_answer = message["role"] == "assistant"
        if trained and not is_answer:
            raise InputError(
                f"{place} has the role {message['role']!r} and train: true.",
                "Remove train; only assistant messages are trained.",
            )
        kept.append(message)
        train.append(is_answer and number >= prompt if trained is None else trained)
    if kept[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: the conversation ends with a {kept[-1]['role']} message.",
            "End it with the assistant message that the model learns.",
        )
    if train[0]:
        raise InputError(
            f"{where}: the conversation begins with an assistant message.",
            "Put a user message first, or set train: false for that message.",
        )
    tools = _json(row.get("tools", ()), where, "tools")
    arguments = _json(row.get("chat_template_kwargs", {}), where, "chat_template_kwargs")
    if not isinstance(tools, (list, tuple)) or not isinstance(arguments, Mapping):
        raise InputError(f"{where}: tools must be a list, chat_template_kwargs a mapping.")
    return Messages(name, tuple(kept), tuple(train), tuple(tools), arguments)


def _message(given: Any, place: str) -> tuple[dict[str, Any], bool | None]:
    """Returns a message in the template's form, and its ``train`` flag or None."""
    if not isinstance(given, Mapping):
        raise InputError(f"{place} is not an object with role and content.")
    message = {key: value for key, value in given.items() if value is not None}
    trained, role = message.pop("train", None), message.get("role")
    if role not in ROLES:
        raise InputError(f"{place} has the unknown role {role!r}.", f"Roles: {', '.join(ROLES)}.")
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
