"""Converts a record for display: facts, texts, and the steps that produced it.

A record's kind follows from its keys; records of other tools are shown as JSON. The values to
filter and sort by are read once from each record (:func:`facts_of`), other values on display.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from codegen.core.errors import CodegenError
from codegen.core.records import TrainingText, from_dict
from codegen.edits.formats import FORMATS, Unreadable, find_format, read_prompt
from codegen.evals.report import diff_lines, steps_of
from codegen.evals.report.page import as_text
from codegen.lintseq import MARKER, resolve

Kind = Literal["text", "preference", "sample", "rollout", "verdict", "reject", "other"]
Lines = Sequence[tuple[str, str]]  # (keep, add, del, given or "", line)
CPU_S = "CPU s"
"""Name of the CPU seconds among a record's numbers."""

_LONGEST_VALUE, _LONGEST_ID = 60, 400  # maximum characters of a value to filter by
_MOST_LISTED = 20  # maximum values of a fact
_LARGEST = 1e15  # largest number to sort by
_MOST_STEPS, _MOST_STEP_LINES = 300, 40_000
_MOST_SHOWN = 200_000  # maximum characters of a text


@dataclass(frozen=True, slots=True)
class RecordFields:
    """Values for filtering and sorting a record."""

    label: str
    facets: Mapping[str, str]
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text of a record, as marked lines, or as spans with and without loss."""

    title: str
    lines: Lines = ()
    spans: Sequence[tuple[str, bool]] = ()
    is_open: bool = True

    @property
    def text(self) -> str:
        """Text to copy."""
        if self.spans:
            return "".join(text for text, _ in self.spans)
        return "\n".join(line for kind, line in self.lines if kind != "del")


@dataclass(frozen=True, slots=True)
class RecordPage:
    """Contents of a record's page.

    Attributes:
        status: a verdict, or empty; ``message`` explains it, ``output`` is the program's output.
        facts: short values by name.
        rewards: name -> (value, reason).
        pieces: texts of the record.
        steps: (caption, lines) of each state of the text; ``prompt`` is their common prompt.
    """

    label: str
    status: str = ""
    message: str = ""
    output: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    rewards: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    pieces: Sequence[TextBlock] = ()
    steps: Sequence[tuple[str, Lines]] = ()
    prompt: str = ""
    note: str = ""


def kind_of(row: Any) -> Kind:
    """Returns the kind of a decoded line."""
    if not isinstance(row, dict):
        return "other"
    for kind, keys in _KEYS.items():
        if all(key in row for key in keys):
            return kind
    return "other"


_KEYS: Mapping[Kind, Sequence[str]] = {
    "rollout": ("step", "problem_id", "completion", "rewards"),
    "sample": ("problem_id", "index", "completion"),
    "verdict": ("problem_id", "index", "status"),
    "text": ("id", "segments"),
    "preference": ("id", "prompt", "generator"),
    "reject": ("id", "outcome", "reason"),
}


def facts_of(row: Any) -> RecordFields:
    """Returns the facts of a decoded line; empty if it is not an object."""
    if not isinstance(row, dict):
        return RecordFields("", {}, {})
    kind = kind_of(row)
    flat = dict(row)
    if kind in ("text", "preference") and isinstance(meta := row.get("meta"), dict):
        flat = {"generator": row.get("generator"), **meta}
    elif kind == "rollout":
        suspects = row.get("suspects")
        flat["suspects"] = ", ".join(map(str, suspects)) if isinstance(suspects, list) else None
        flat["solved"] = _yes_or_no(row.get("solved"))
    elif kind == "sample" and isinstance(meta := row.get("meta"), dict):
        flat |= {key: meta[key] for key in ("style", "edits", "malformed", "try") if key in meta}
    names = _SHOWN_OF.get(kind, tuple(flat))
    facets, numbers = {}, {}
    for name in names:
        value = flat.get(name)
        if isinstance(value, bool):
            facets[name] = _yes_or_no(value)
        elif isinstance(value, (int, float)) and abs(value) < _LARGEST:
            numbers[_NAMES.get(name, name)] = float(value)
            if name == "step":
                facets[name] = str(value)
        elif isinstance(value, str):
            most = _LONGEST_ID if name == "problem_id" else _LONGEST_VALUE
            if 0 < len(value) <= most:
                facets[_NAMES.get(name, name)] = as_value(value)
    return RecordFields(label_of(row, kind), facets, numbers)


_SHOWN_OF: Mapping[Kind, Sequence[str]] = {
    "rollout": ("step", "problem_id", "status", "solved", "suspects", "trust", "reward", "tokens",
                "cpu_s", "finish_reason"),
    "sample": ("problem_id", "index", "completion_tokens", "finish_reason", "style", "edits",
               "malformed", "try"),
    "verdict": ("problem_id", "index", "status", "trust", "cpu_s"),
    "reject": ("outcome", "reason"),
}  # fmt: skip
_NAMES = {
    "problem_id": "problem",
    "completion_tokens": "tokens",
    "finish_reason": "ended by",
    "cpu_s": CPU_S,
}


def label_of(row: Mapping[str, Any], kind: Kind) -> str:
    """Returns a record's name."""
    if kind == "sample":
        return f"{row['problem_id']}, sample {row['index']}"
    if kind == "rollout":
        return f"Step {row['step']}, problem {row['problem_id']}, sample {row.get('index', 0)}"
    for key in ("id", "task_id", "name", "problem", "item"):
        if isinstance(row.get(key), (str, int)):
            return str(row[key])
    return ""


def preview_of(row: Any) -> str:
    """Returns the beginning of a record's text, in one line."""
    if isinstance(row, dict):
        for key in ("program", "completion", "segments", "chosen", "detail", "text", "code"):
            value = row.get(key)
            if key == "segments" and isinstance(value, list):
                parts = [s for s in value if isinstance(s, dict)]
                value = "".join(str(s.get("text", "")) for s in parts if s.get("train"))
            if isinstance(value, list):
                value = "\n".join(str(m.get("content", "")) for m in value if isinstance(m, dict))
            if isinstance(value, str) and value.strip():
                return " ".join(value[:400].split())[:140]
    return " ".join(json.dumps(row)[:140].split())


def show(row: Any, verdict: Mapping[str, Any] | None = None, program: str = "") -> RecordPage:
    """Converts a decoded line for display; samples have a verdict and program, if known."""
    try:
        return _SHOW[kind_of(row)](row, verdict or {}, program)
    except (CodegenError, TypeError, ValueError, KeyError, AttributeError) as error:
        text = json.dumps(row, indent=2, ensure_ascii=False)
        note = "" if kind_of(row) == "other" else f"This record is invalid: {error}"
        label = label_of(row, "other") if isinstance(row, dict) else ""
        return RecordPage(label, pieces=[TextBlock("JSON", plain(text))], note=note)


def plain(text: str, given: int = 0) -> Lines:
    """Returns the lines of a text; the first ``given`` lines are from the prompt."""
    cut = text[:_MOST_SHOWN]
    lines = cut.removesuffix("\n").split("\n") if cut else []
    shown = [("given" if number < given else "", line) for number, line in enumerate(lines)]
    if len(text) > len(cut):
        shown.append(("none", f"… and {len(text) - len(cut):,} more characters"))
    return shown or [("none", "(empty)")]


def _text(row: dict[str, Any], _: Mapping[str, Any], __: str) -> RecordPage:
    text = from_dict(TrainingText, row)
    note, steps = "", []
    try:
        steps = list(_bounded(_steps(text)))
    except CodegenError as error:
        note = f"The steps cannot be shown: {error}"
    spans = [(segment.text[:_MOST_SHOWN], bool(segment.train)) for segment in text.segments]
    pieces = [TextBlock("Text", spans=spans, is_open=not steps)]
    facts = {name: _short(value) for name, value in text.meta.items()}
    facts = {"example": text.example_id, "generator": text.generator, **facts}
    prompt = text.segments[0].text[:_MOST_SHOWN] if text.segments else ""
    return RecordPage(text.id, "", "", "", facts, {}, pieces, steps, prompt, note)


def _preference(row: dict[str, Any], _: Mapping[str, Any], __: str) -> RecordPage:
    pieces = [TextBlock("Prompt", plain(_said(row["prompt"])), is_open=False)]
    if "chosen" in row:
        chosen, rejected = _said(row["chosen"]), _said(row["rejected"])
        difference = list(diff_lines(rejected.splitlines(), chosen.splitlines()))
        pieces += [
            TextBlock("Difference from the rejected to the chosen answer", difference),
            TextBlock("Chosen", plain(chosen), is_open=False),
            TextBlock("Rejected", plain(rejected), is_open=False),
        ]
    else:
        title = "Good answer" if row["label"] else "Bad answer"
        pieces.append(TextBlock(title, plain(_said(row["completion"]))))
    facts = {name: _short(value) for name, value in dict(row.get("meta") or {}).items()}
    return RecordPage(str(row["id"]), facts=facts, pieces=pieces)


def _sample(row: dict[str, Any], verdict: Mapping[str, Any], program: str) -> RecordPage:
    completion, actions = str(row["completion"]), str(row.get("actions") or "")
    prompt = str(row.get("prompt") or "")
    given = prompt.count("\n") if prompt and program.startswith(prompt) else 0
    pieces = [TextBlock("Program", plain(program, given))] if program else []
    if completion != program:
        title = "What the model wrote" if program or not actions else "Program"
        pieces.append(TextBlock(title, plain(completion), is_open=not program))
    if actions:
        pieces.append(TextBlock("Its actions", plain(actions), is_open=False))
    pieces.append(TextBlock("Prompt", plain(prompt), is_open=False))
    steps: Sequence[tuple[str, Lines]] = ()
    if MARKER in actions:
        states = resolve(actions, recount=True).states[:_MOST_STEPS]
        steps = list(_bounded(steps_of(states)))
    memory = verdict.get("memory_mib")
    facts = {
        "seed": row.get("seed"),
        "prompt tokens": row.get("prompt_tokens"),
        "tokens": row.get("completion_tokens"),
        "ended by": row.get("finish_reason"),
        "CPU": _cpu(verdict),
        "memory": f"{memory:.3g} MiB" if isinstance(memory, (int, float)) and memory else "",
        **{name: value for name, value in dict(row.get("meta") or {}).items() if name != "before"},
    }
    facts = {**dict(row.get("settings") or {}), **facts}
    return RecordPage(
        label_of(row, "sample"),
        status=str(verdict.get("status", "")),
        message=str(verdict.get("message", "")),
        output=str(verdict.get("output", "")),
        facts={name: _short(value) for name, value in facts.items() if value not in (None, "", {})},
        pieces=pieces,
        steps=steps,
        note=_FORGEABLE if verdict.get("trust") == "in_sandbox" else "",
    )


_FORGEABLE = "The tests ran in the program's process, which could have forged this verdict."


def _rollout(row: dict[str, Any], _: Mapping[str, Any], __: str) -> RecordPage:
    program, completion = str(row.get("program", "")), str(row["completion"])
    pieces = [
        TextBlock(f"Answer {number}, {status}", plain(str(answer)), is_open=False)
        for number, (answer, status) in enumerate(row.get("earlier") or [], 1)
    ]
    pieces.append(TextBlock("Program" if program else "No program was found", plain(program)))
    if completion != program:
        pieces.append(TextBlock("What the model wrote", plain(completion), is_open=not program))
    facts = {
        "reward": row.get("reward"),
        "solved": _yes_or_no(row.get("solved")) or "not known",
        "suspects": ", ".join(map(str, row.get("suspects") or [])),
        "tokens": row.get("tokens"),
        "ended by": row.get("finish_reason"),
        "CPU": _cpu(row),
    }
    rewards = {
        str(name): (_short(value), str(reason)) for name, (value, reason) in row["rewards"].items()
    }
    if row.get("status") == "passed" and row.get("solved") is False:
        note = "It passes the reward's tests and fails hidden ones."
    else:
        note = _FORGEABLE if row.get("trust") == "in_sandbox" else ""
    return RecordPage(
        label_of(row, "rollout"),
        status=str(row.get("status", "")),
        message=str(row.get("message", "")),
        facts={name: _short(value) for name, value in facts.items() if value not in (None, "")},
        rewards=rewards,
        pieces=pieces,
        note=note,
    )


def _reject(row: dict[str, Any], _: Mapping[str, Any], __: str) -> RecordPage:
    facts = {name: _short(value) for name, value in row.items() if name not in ("id", "detail")}
    detail = str(row.get("detail", ""))
    pieces = [TextBlock("Detail", plain(detail))] if detail else []
    return RecordPage(str(row["id"]), facts=facts, pieces=pieces)


def _other(row: Any, _: Mapping[str, Any], __: str) -> RecordPage:
    text = json.dumps(row, indent=2, ensure_ascii=False)
    pieces = [TextBlock("JSON", plain(text))]
    if not isinstance(row, dict):
        return RecordPage("", pieces=pieces)
    if isinstance(messages := row.get("messages"), list):
        pieces = [
            TextBlock(str(m.get("role", "message")).capitalize(), plain(_said([m])))
            for m in messages
            if isinstance(m, dict)
        ]
    else:
        found = [TextBlock(key, plain(value)) for key, value in row.items() if _is_long(value)]
        rest = {key: value for key, value in row.items() if not _is_long(value)}
        if found and rest:
            text = json.dumps(rest, indent=2, ensure_ascii=False)
            pieces = [*found, TextBlock("Other fields", plain(text), is_open=False)]
    return RecordPage(label_of(row, "other"), pieces=pieces)


_SHOW: Mapping[Kind, Callable[[Any, Mapping[str, Any], str], RecordPage]] = {
    "text": _text,
    "preference": _preference,
    "sample": _sample,
    "rollout": _rollout,
    "reject": _reject,
    "verdict": _other,
    "other": _other,
}


def as_value(text: str) -> str:
    """Escapes a string for a page, so that a form returns the same string."""
    return text if text.isprintable() else as_text(text)


def _yes_or_no(value: Any) -> str:
    return "yes" if value is True else "no" if value is False else ""


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and ("\n" in value or len(value) > _LONGEST_VALUE)


def _said(said: Any) -> str:
    if isinstance(said, list):
        return "\n".join(str(m.get("content", "")) for m in said if isinstance(m, dict))
    return str(said)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list) and len(value) > _MOST_LISTED:
        return f"{len(value):,} values"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:199] + "…"


def shown_seconds(seconds: float) -> str:
    """Formats CPU seconds for tables; more digits would be noise."""
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.2g}"


def _cpu(row: Mapping[str, Any]) -> str:
    seconds = row.get("cpu_s")
    if isinstance(seconds, (int, float)) and seconds:
        return f"{shown_seconds(seconds)} s"
    return ""


def _bounded(steps: Iterable[tuple[str, Lines]]) -> Iterator[tuple[str, Lines]]:
    """Yields steps up to a page's limits."""
    count = 0
    for caption, lines in steps:
        count += len(lines)
        if count > _MOST_STEP_LINES:
            return
        yield caption, lines


def _steps(text: TrainingText) -> Iterator[tuple[str, Lines]]:
    """Yields a training record's states: edit by edit, or the edits of a history.

    Raises:
        CodegenError: if they cannot be determined.
    """
    from codegen.data import view

    if view.is_edit_sequence(text):
        found = view.steps(text)
        for number, step in enumerate(found[:_MOST_STEPS]):
            lines = [("add" if added else "keep", line) for line, added in step]
            yield view.step_name(text, number, len(found)).capitalize(), lines
    elif text.generator == "edits" and text.meta.get("format") in FORMATS:
        yield from _next_edit(text)


def _next_edit(text: TrainingText) -> Iterator[tuple[str, Lines]]:
    """Yields the edits of the history, then the next edit."""
    found = read_prompt(str(text.meta["format"]), text.prompt)
    if found is None:
        return
    edit, first = found
    for number, change in enumerate(edit.history, 1):
        lines = diff_lines(change.old.splitlines(), change.new.splitlines())
        yield f"Earlier edit {number} of {len(edit.history)}, {change.path}", list(lines)
    try:
        after = find_format(str(text.meta["format"])).read(edit, text.trained)
    except Unreadable as error:
        raise CodegenError(f"the answer is not in its format ({error.reason}).") from None
    lines = list(diff_lines(edit.text.splitlines(), after.splitlines()))
    yield f"The next edit, at line {first} of {edit.path}", lines
