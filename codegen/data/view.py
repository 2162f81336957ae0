"""The output of ``codegen data inspect``: records, and steps of sequences.

Two kinds of records have steps: edit sequences, edit by edit, and programs with corrected mistakes,
from each mistake to the next correct token (:mod:`codegen.methods.backspace.actions`).

Control characters of the data are made visible before they reach a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from codegen.core.errors import CodegenError, plural
from codegen.core.records import DataRecord, Preference, TrainingText
from codegen.core.terminal import visible
from codegen.lintseq import MARKER, resolve, state_before
from codegen.methods.backspace import actions as trajectories
from codegen.methods.backspace import is_trajectory

Step = Sequence[tuple[str, bool]]
"""The state after an edit: each line, and whether the edit added it."""


def is_edit_sequence(text: TrainingText) -> bool:
    """Returns True if the trained part is a sequence of edits."""
    return text.trained.lstrip("\n").startswith(MARKER)


def steps(text: TrainingText) -> list[Step]:
    """Returns the state after each edit; malformed edits are omitted."""
    states: list[Step] = []
    base = state_before(text)
    lines = base.removesuffix("\n").split("\n") if base else []
    for edit in resolve(text.trained, base=base).edits:
        marked: list[tuple[str, bool]] = []
        done = 0
        for hunk in edit.hunks:
            marked += [(line, False) for line in lines[done : hunk.start]]
            marked += [(line, True) for line in hunk.lines]
            done = hunk.start
        marked += [(line, False) for line in lines[done:]]
        lines = [line for line, _ in marked]
        states.append(marked)
    return states


def step_name(text: TrainingText, number: int, count: int) -> str:
    """Returns the title of step ``number`` of a record.

    A record with one edit of a sequence (format ``pairs``) has its index in ``meta``; the last
    record of a sequence contains no edit.
    """
    pair, pairs = text.meta.get("pair"), text.meta.get("pairs")
    if not (isinstance(pair, int) and isinstance(pairs, int)):
        return f"edit {number + 1} of {count}"
    number, count = pair, pairs - 1
    return (
        f"edit {number + 1} of {count}" if number < count else f"end after {plural(count, 'edit')}"
    )


def print_record(console: Console, text: DataRecord, all_steps: bool) -> None:
    """Prints a record: its prompt, then its program, each step (``all_steps``) or answers."""
    console.print(Text(f"── {visible(text.id)}", style="bold cyan"))
    if not isinstance(text, TrainingText):
        _print_preference(console, text)
        return
    if is_trajectory(text):
        _print_trajectory(console, text, all_steps)
        return
    if not is_edit_sequence(text):
        console.print(Text(visible(text.prompt.rstrip("\n")), style="dim"))
        console.print(Text(visible(text.trained.rstrip("\n"))))
        return
    sequence = steps(text)
    one_edit = "pair" in text.meta  # the step already shows the state at the prompt's end
    instruction = text.segments[0].text if one_edit else text.prompt
    console.print(Text(visible(instruction.rstrip("\n")), style="dim"))
    if one_edit and not sequence:
        console.print(Text(step_name(text, 0, 0), style="bold"))
        lines = state_before(text).removesuffix("\n").split("\n")
        console.print(_state([(line, False) for line in lines]))
        return
    if not all_steps and not one_edit:
        console.print(Text(f"after {plural(len(sequence), 'edit')}:", style="bold"))
        if sequence:
            console.print(_state([(line, False) for line, _ in sequence[-1]]))
        return
    for number, step in enumerate(sequence):
        console.print(Text(step_name(text, number, len(sequence)), style="bold"))
        console.print(_state(step))


def _print_preference(console: Console, record: Preference) -> None:
    prompt, *answers = (segment.text.rstrip("\n") for segment in record.segments)
    console.print(Text(visible(prompt), style="dim"))
    titles = [("chosen", "green"), ("rejected", "red")]
    for (title, style), answer in zip(titles, answers, strict=True):
        console.print(Text(f"{title}:", style=f"bold {style}"))
        console.print(Text(visible(answer)))


def _print_trajectory(console: Console, text: TrainingText, all_steps: bool) -> None:
    console.print(Text(visible(text.prompt.rstrip("\n")), style="dim"))
    try:
        trajectory, decode = trajectories.open_text(text)
    except CodegenError as error:  # the text can be shown without its tokenizer
        console.print(Text(visible(text.trained.rstrip("\n"))))
        console.print(Text(f"The mistakes cannot be shown: {visible(str(error))}", style="yellow"))
        return
    if not all_steps:
        console.print(trajectories.overview(trajectory, decode))
        return
    for step in trajectories.steps(trajectory):
        console.print(Text(trajectories.title(step, trajectory), style="bold"))
        console.print(trajectories.render(step, trajectory, decode))


def _state(lines: Step) -> Text:
    shown = Text()
    for line, added in lines:
        mark, style = ("+ ", "green") if added else ("  ", "")
        shown.append(f"{mark}{visible(line)}\n", style)
    shown.right_crop(1)
    return shown
