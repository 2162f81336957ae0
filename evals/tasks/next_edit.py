"""Next edit: given a file, the edits so far and the cursor, predict the next change.

Three tasks:

- ``next-edit``: real commits (rows with ``repository``, ``path``, ``commit``, ``old``, ``diff``).
  Some hunks of each file change are applied, in a random order seeded by the row's id; the answer
  is the other hunks in a window of 10 + 1 + 10 lines at the cursor, or at the next hunk if it is
  elsewhere (category ``jump``). Every fourth row also yields a state after the whole change, where
  no edit is the correct answer (``nothing``). The problems of one repository form one cluster.
- ``next-edit-refactorings``: the files of unseen repositories, refactored
  (:mod:`codegen.edits.refactorings`); the category is the refactoring.
- ``next-edit-scenarios``: sessions recorded by Copilot's and written by cursortab's authors; each
  has zero or more correct answers.

Use a style ``edit-FORMAT`` (:mod:`codegen.edits.formats`). A sample passes if the file
after its edit is the expected one except for whitespace at line ends. Other measures:

- ``parsed``: the answer is in its format;
- ``exact``, and ``exact_CATEGORY`` per category; ``exact_predictable``: for states whose edit
  has no new words and continues the history (:func:`codegen.edits.expected_edits.is_predictable`);
  ``exact_blind``: ignores all whitespace;
- ``similarity``: 1 - d(answer, expected) / d(before, expected), at least 0, with the Levenshtein
  distance d of words in the window (so that doing nothing is 0, not 0.9);
- ``location``: the first changed line is one that should change;
- ``kept``: fraction of the characters of inserted words that are in the expected text;
- ``shown``: the answer changes something where a change is expected; ``quiet``: it changes nothing
  where no change is expected; ``no_op_precision``: fraction of answers without a change that are
  correct;
- ``undoes``, ``breaks``, ``useful``: fractions of the answers with a change that revert the last
  edit, break a Python file's syntax, or have at least half of their changed lines as expected.

A source may also contain edit states: rows of :class:`codegen.core.records.Edit`, or the data
directory that ``codegen data edits --keep-moments`` wrote, for example for training with their
rewards.

Limits: a user could have continued differently, so ``exact`` is a lower bound; a model may have
seen the commits in training.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Self

from codegen.core.errors import ConfigError, InputError
from codegen.core.generation import Request, cut_at_stop
from codegen.core.records import Change, Edit, Sample, Verdict, from_dict
from codegen.edits import formats, refactorings, sessions
from codegen.edits.expected_edits import is_predictable
from codegen.edits.sessions import apply_diff, difference, lines_of
from codegen.evals.metrics import edit_distance
from codegen.evals.tasks.base import CodeTask
from codegen.evals.tasks.dataset_rows import (
    DataLocation,
    Problem,
    read_rows_of,
    text_field,
    text_fields,
)
from codegen.evals.tasks.extraction import Extraction
from codegen.evals.tasks.styles import PromptStyle, style_of

VIEW = sessions.View()
_EVERY = 4  # every fourth row also yields a state where no edit is expected
_KINDS = 2  # refactorings per file
_LATER = ("test",)  # excluded: later kinds would change the problems' random choices
_WORDS = re.compile(r"\w+|[^\S\n]+|\n|[^\w\s]")


@dataclass(frozen=True, slots=True)
class NextEditProblem(Problem):
    """One edit state; ``prompt`` is the file's text.

    Attributes:
        edit: the edit state, with its target.
        accepted: correct whole files; the first is the reference's.
    """

    edit: Edit
    accepted: tuple[str, ...]


class NextEdit(CodeTask[NextEditProblem]):
    """Edit states from real commits."""

    home = DataLocation("next_edit/commits_test.jsonl.gz")
    asks = ("edit",)
    style = "edit-blocks"
    passing = "the file after its edit is the expected one, except for whitespace at line ends"

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the edit states of all rows that every format can represent."""
        rows = read_rows_of(source, cls.home)
        edits = [edit for place, row in rows.items for edit in cls.moments(place, row)]
        problems = [problem for problem in map(cls.problem, edits) if _can_be_shown(problem.edit)]
        if not problems:
            raise InputError(f"{rows.source} has no problems.")
        if len({problem.id for problem in problems}) < len(problems):
            raise InputError(f"{rows.source} has two rows with the same id.")
        return cls(name, description, problems, rows.source)

    @classmethod
    def moments(cls, place: str, row: Mapping[str, object]) -> Iterator[Edit]:
        """Yields a row's edit states.

        Raises:
            InputError: if the row is invalid.
        """
        if (stored := _stored(place, row)) is not None:
            yield stored
            return
        session, rng, prefix = _session(place, row)
        count = len(session.hunks)
        if count > 1:
            yield from _sound(sessions.next_edit(session, rng.randrange(1, count), VIEW), prefix)
        if count and rng.randrange(_EVERY) == 0:
            yield replace(sessions.nothing(session, VIEW, rng), id=f"{prefix}/nothing")

    @classmethod
    def problem(cls, edit: Edit) -> NextEditProblem:
        """Builds the problem for an edit state."""
        return NextEditProblem(
            edit.id, edit.text, edit, (formats.with_window(edit, edit.target or ""),)
        )

    def style_for(self, vocabulary: Container[str], own: str = "") -> str:
        """Returns the model's ``own`` style if it names a format, else one for the vocabulary."""
        return f"edit-{formats.format_for(formats.AUTO, vocabulary, own).name}"

    def check_style(self, style: PromptStyle, vocabulary: Container[str]) -> None:
        """Raises ConfigError if a tokenizer lacks tokens that a style's format needs."""
        for token in _format(style).trained:
            if token not in vocabulary:
                raise ConfigError(
                    f"The style {style.name} needs the token {token}, which the model's tokenizer "
                    "lacks.",
                    f"Omit --style to use {self.style_for(vocabulary)}.",
                )

    def request(self, problem: NextEditProblem, style: PromptStyle, index: int) -> Request:
        """Returns the ``index``-th request for ``problem``."""
        if style.ask != "edit":
            raise ConfigError(
                f"The task {self.name!r} has no prompts in the style {style.name!r}.",
                f"Choose one of: {', '.join(f'edit-{name}' for name in formats.FORMATS)}.",
            )
        form = _format(style)
        return Request(
            style.render(prompt=form.prompt(problem.edit)),
            chat=style.chat,
            stop=style.stop,
            task=self.name,
            problem_id=problem.id,
            index=index,
            heal=False,
            original="".join(formats.window_lines(problem.edit)),
            marks=form.trained,
        )

    def extract(self, problem: NextEditProblem, sample: Sample) -> Extraction:
        """Returns the whole file after the edit."""
        try:
            window = _window(problem, sample)
        except formats.Unreadable as error:
            return Extraction("", str(error), "no_answer")
        return Extraction(formats.with_window(problem.edit, window))

    def job(self, problem: NextEditProblem, program: str) -> Verdict:
        """Compares the files; runs nothing."""
        is_right = any(_stripped(program) == _stripped(text) for text in problem.accepted)
        return Verdict(problem.id, 0, "passed" if is_right else "wrong")

    def reference(self, problem: NextEditProblem) -> str:
        """Returns the file after the expected edit."""
        return problem.accepted[0]

    def buggy(self, problem: NextEditProblem) -> Sequence[str]:
        """Returns the unchanged file if an edit is expected, else a changed one."""
        is_due = problem.edit.category != "nothing"
        return (problem.edit.text if is_due else f"{problem.edit.text}# more\n",)

    def measure(self, problem: NextEditProblem, sample: Sample) -> Mapping[str, float]:
        """Returns the measures that the module docstring lists."""
        try:
            window = _window(problem, sample)
        except formats.Unreadable:
            window = None
        return {"parsed": float(window is not None), **measures(problem, window)}


def measures(problem: NextEditProblem, window: str | None) -> dict[str, float]:
    """Returns the measures of one answer.

    Args:
        problem: the edit state and its correct answers.
        window: the window's text after the edit; None if the answer is unparsable.
    """
    edit = problem.edit
    before = "".join(formats.window_lines(edit))
    is_due = edit.category != "nothing"
    measures = {"exact": 0.0, "exact_blind": 0.0, f"exact_{edit.category}": 0.0}
    predictable = ["exact_predictable"] if is_due and is_predictable(edit) else []
    measures |= dict.fromkeys(predictable, 0.0)
    if is_due:
        measures |= {"shown": 0.0, "location": 0.0, "similarity": 0.0}
    else:
        measures["quiet"] = 0.0
    if window is None:
        return measures
    after = formats.with_window(edit, window)
    exact = any(_stripped(after) == _stripped(text) for text in problem.accepted)
    bare = ["".join(text.split()) for text in (after, *problem.accepted)]
    measures |= {
        "exact": float(exact),
        f"exact_{edit.category}": float(exact),
        **dict.fromkeys(predictable, float(exact)),
        "exact_blind": float(bare[0] in bare[1:]),
    }
    changes = window != before
    if changes:
        last = [change for change in edit.history[-1:] if change.path == edit.path]
        undoes = bool(last) and _stripped(after) == _stripped(sessions.undone(last, edit.text))
        measures["undoes"] = float(undoes)
        measures["breaks"] = float(sessions.breaks(edit.text, after, edit.language))
        made, right = (_changed_lines(before, text) for text in (window, edit.target or ""))
        measures["useful"] = float(2 * (made & right).total() >= made.total())
    else:
        measures["no_op_precision"] = float(not is_due)
    if not is_due:
        return measures | {"quiet": float(not changes)}
    target = edit.target or ""
    expected = _WORDS.findall(target)
    whole = edit_distance(_WORDS.findall(before), expected)
    rest = edit_distance(_WORDS.findall(window), expected)
    measures |= {
        "shown": float(changes),
        "location": float(changes and _is_there(before, window, target)),
        "similarity": max(0.0, 1 - rest / whole) if whole else 0.0,
    }
    if changes and (kept := kept_rate(before, window, target)) is not None:
        measures["kept"] = kept
    return measures


def _changed_lines(before: str, after: str) -> Counter[tuple[str, str]]:
    """Returns the removed and the inserted lines."""
    lines = lines_of(before)
    hunks = difference(lines, lines_of(after))
    removed = (("-", line) for hunk in hunks for line in lines[hunk.start : hunk.end])
    return Counter([*removed, *(("+", line) for hunk in hunks for line in hunk.new)])


def _is_there(before: str, after: str, target: str) -> bool:
    """Returns True if the first change begins in or next to an expected change."""
    lines = lines_of(before)
    first = difference(lines, lines_of(after))[0]
    return any(
        hunk.start <= first.start <= max(hunk.end - 1, hunk.start)
        for hunk in difference(lines, lines_of(target))
    )


def kept_rate(before: str, after: str, final: str) -> float | None:
    """Returns the fraction of inserted words, by characters, that are in the ``final`` text.

    None without insertions. Words are matched in longest common blocks (difflib).
    """
    old, new, end = (_WORDS.findall(text) for text in (before, after, final))
    inserted: set[int] = set()
    for tag, _, _, first, last in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("insert", "replace"):
            inserted.update(i for i in range(first, last) if new[i].strip())
    size = sum(len(new[i]) for i in inserted)
    kept = 0
    for block in SequenceMatcher(None, new, end, autojunk=False).get_matching_blocks():
        same = range(block.a, block.a + block.size)
        kept += sum(len(new[i]) for i in same if i in inserted)
    return kept / size if size else None


def _stripped(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _format(style: PromptStyle) -> formats.EditFormat:
    return formats.FORMATS[style.read.removeprefix("edit-")]


def _window(problem: NextEditProblem, sample: Sample) -> str:
    style = style_of(sample)
    if not style.read.startswith("edit-"):
        raise InputError(
            f"Sample {sample.index} of {sample.problem_id} has the prompt style {style.name!r}.",
            "This task supports only the styles edit-FORMAT.",
        )
    return _format(style).read(problem.edit, cut_at_stop(sample.completion, style.stop))


def _can_be_shown(edit: Edit) -> bool:
    try:
        for form in formats.FORMATS.values():
            form.check(edit)
    except formats.Unwritable:
        return False
    return True


def _sound(edit: Edit, id_: str) -> Iterator[Edit]:
    """Yields the edit state with its id, if it changes more than whitespace at line ends."""
    if _stripped(formats.with_window(edit, edit.target or "")) != _stripped(edit.text):
        yield replace(edit, id=id_)


def _stored(place: str, row: Mapping[str, object]) -> Edit | None:
    """Reads the edit state that a row contains; None for other rows.

    Raises:
        InputError: if the edit state is invalid.
    """
    meta = row.get("meta")
    moment = meta.get("moment") if isinstance(meta, Mapping) else row
    if moment is None:
        raise InputError(
            f"{place}: the training example has no edit state.",
            "Make the data with: codegen data edits --keep-moments.",
        )
    if not isinstance(moment, Mapping) or "window" not in moment:
        return None
    edit = from_dict(Edit, dict(moment), place)
    if edit.target is None:
        raise InputError(f"{place}: the edit state {edit.id!r} has no target.", "Add a target.")
    if not edit.category:
        is_due = edit.target != "".join(formats.window_lines(edit))
        edit = replace(edit, category="edit" if is_due else "nothing")
    return edit


def _session(place: str, row: Mapping[str, object]) -> tuple[sessions.Session, random.Random, str]:
    names = ("repository", "path", "commit", "old", "diff")
    repository, path, commit, old, diff = text_fields(place, row, names)
    prefix = f"NextEdit/{repository}/{commit[:10]}/{path}"
    rng = random.Random(prefix)
    try:
        new = apply_diff(old, diff)
    except InputError as error:
        raise InputError(f"{place}: {error.message}") from None
    return sessions.ordered(path, old, new, rng), rng, prefix


class Refactorings(NextEdit):
    """Refactorings of files from unseen repositories."""

    @classmethod
    def moments(cls, place: str, row: Mapping[str, object]) -> Iterator[Edit]:
        """Yields up to two refactorings of a row's old file, and sometimes the state after one."""
        if row.get("split", "test_repository") != "test_repository":
            return
        session, rng, prefix = _session(place, row)
        try:
            program = refactorings.Program("".join(session.lines))
        except (SyntaxError, ValueError, RecursionError):
            return
        kinds = [kind for kind in refactorings.REFACTORINGS if kind not in _LATER]
        rng.shuffle(kinds)
        made = 0
        for kind in kinds:
            states = refactorings.refactored(program, kind, rng) if made < _KINDS else None
            if not states:
                continue
            made += 1
            session = sessions.Session(session.path, tuple(states[0]), tuple(states[1]))
            done = rng.randrange(1, len(session.hunks))
            edit = replace(sessions.next_edit(session, done, VIEW), category=kind)
            yield from _sound(edit, f"{prefix}/{kind}")
            if rng.randrange(_EVERY) == 0:
                edit = sessions.nothing(session, VIEW, rng)
                yield replace(edit, id=f"{prefix}/{kind}/nothing")


class Scenarios(NextEdit):
    """Sessions written or recorded by the authors of other systems."""

    home = DataLocation("next_edit/cursortab_scenarios.jsonl.gz")

    @classmethod
    def load(cls, name: str, description: str, source: str | None = None) -> Self:
        """Loads the scenarios of a file; by default cursortab's and Copilot's."""
        first = super().load(name, description, source)
        if source:
            return first
        other = DataLocation("next_edit/copilot_nes_scenarios.jsonl.gz")
        more = super().load(name, description, other.source())
        problems = [*first.problems(), *more.problems()]
        return cls(name, description, problems, f"{first.source}, {other.file}")

    @classmethod
    def problem(cls, edit: Edit) -> NextEditProblem:
        """Builds the problem for an edit state; NULs separate alternatives in the target."""
        first, *more = (edit.target or "").split("\0")
        edit = replace(edit, target=first)
        return NextEditProblem(
            edit.id,
            edit.text,
            edit,
            tuple(formats.with_window(edit, one) for one in (first, *more)),
        )

    @classmethod
    def moments(cls, place: str, row: Mapping[str, object]) -> Iterator[Edit]:
        """Yields the scenario's edit state; its window covers the cursor and the whole change."""
        id_ = f"NextEdit/{text_field(place, row, 'id')}"
        try:
            recorded = _recorded(row) if "log" in row else _written(row)
            if recorded is not None:
                yield _edit_state(id_, *recorded)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{place}: not a scenario ({type(error).__name__}: {error})."
            ) from None


_Moment = tuple[str, str, list[Change], int, list[str]]


def _edit_state(
    id_: str, path: str, text: str, history: list[Change], cursor: int, accepted: list[str]
) -> Edit:
    lines = lines_of(text)
    line = text.count("\n", 0, cursor)
    top, bottom = VIEW.window(line, len(lines))
    ends = [difference(lines, lines_of(one)) for one in accepted]
    for hunks in ends:
        if hunks:
            top, bottom = min(top, hunks[0].start), max(bottom, hunks[-1].end)
    edit = Edit(id_, path, text, VIEW.history(history), (top, bottom), cursor)
    above, below = formats.around(edit)
    windows = [one[len(above) : len(one) - len(below)] for one in accepted]
    category = "scenario" if all(ends) else "nothing"
    return replace(edit, target="\0".join(windows), category=category)


def _written(row: Mapping[str, Any]) -> _Moment:
    text = row["buffer"]
    lines = lines_of(text)
    history = []
    for change in row["history"]:
        start = text.find(change["new"]) if change["file"] == row["file"] else -1
        line = text.count("\n", 0, max(start, 0))
        history.append(Change(change["file"], line, change["old"], change["new"]))
    cursor = len("".join(lines[: row["row"] - 1])) + row["col"]
    accepted = [text if row["expected"] is None else row["expected"]]
    return row["file"], text, history, min(cursor, len(text)), accepted


def _recorded(row: Mapping[str, Any]) -> _Moment | None:
    """Returns the state at the end of a log; None if the next edit is in another file."""
    texts: dict[int, str] = {}
    paths: dict[int, str] = {}
    first: dict[int, str] = {}
    last, cursor = -1, 0
    for event in row["log"]:
        id_ = event.get("id", -1)
        if event["kind"] == "documentEncountered":
            paths[id_] = event["relativePath"].replace("\\", "/")
        elif event["kind"] == "setContent":
            texts[id_] = first[id_] = event["content"]
        elif event["kind"] == "changed" and event["edit"]:
            texts[id_] = _edited(texts[id_], event["edit"])
            last, (start, _, new) = id_, event["edit"][-1]
            shift = sum(len(_units(e[2])) - (e[1] - e[0]) for e in event["edit"][:-1])
            cursor = len(_text(_units(texts[id_])[: start + shift + len(_units(new))]))
    right = [e["edit"] for e in row["rated_edits"] if e["category"] == "nextEdit" and e["edit"]]
    if last < 0 or not right or Path(row["rated_edits"][0]["file"]).name not in paths[last]:
        return None
    text = texts[last]
    accepted = list(dict.fromkeys(_edited(text, edit) for edit in right))
    old = lines_of(first[last])
    history, shift = [], 0
    for hunk in difference(old, lines_of(text)):
        before = "".join(old[hunk.start : hunk.end])
        history.append(Change(paths[last], hunk.start + shift, before, "".join(hunk.new)))
        shift += len(hunk.new) - (hunk.end - hunk.start)
    return paths[last], text, history, cursor, accepted


def _units(text: str) -> list[bytes]:
    """Returns a text's UTF-16 code units."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [data[i : i + 2] for i in range(0, len(data), 2)]


def _text(units: Sequence[bytes]) -> str:
    return b"".join(units).decode("utf-16-le", "surrogatepass")


def _edited(text: str, edit: Sequence[Sequence[Any]]) -> str:
    """Applies replacements [start, end, text], in UTF-16 units of the original text."""
    units = _units(text)
    for start, end, new in sorted(edit, key=lambda e: e[0], reverse=True):
        units[start:end] = _units(new)
    return _text(units)
