"""A trajectory on a terminal: all at once, or step by step.

Pure functions from a trajectory and a ``decode`` (token ids -> text) to rich text. Control
characters of the data are made visible. Limit: if a mistake is between two tokens of one character,
both show as �.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from codegen.methods.backspace.actions import Trajectory, from_text, kinds
from codegen.methods.backspace.tokens import codec_of_text
from codegen.records import TrainingText
from codegen.terminal import visible

if TYPE_CHECKING:
    from rich.text import Text

Decode = Callable[[Sequence[int]], str]

_BLANKS = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥"})
_BACKSPACE = "⌫"


@dataclass(frozen=True, slots=True)
class Step:
    """A moment to show: after a wrong token, a backspace, or the token that follows them.

    Attributes:
        time: number of executed actions of the completion.
        kept: number of right tokens of the completion on the stack.
        wrong: the wrong tokens on the stack, above them.
        removed: the token that the last action removed, if it was a backspace.
        label: the right action now; None at the end.
    """

    time: int
    kept: int
    wrong: tuple[int, ...]
    removed: int | None
    label: int | None


def steps(trajectory: Trajectory) -> list[Step]:
    """The moments to step through, forward or back; the first is the prompt's end, the last EOS."""
    start = trajectory.prompt_tokens
    actions, labels = trajectory.actions[start:], (*trajectory.labels[start:], None)
    found = [Step(0, 0, (), None, labels[0])]
    kept = 0
    wrong: list[int] = []
    previous = "kept"
    for time, (action, kind) in enumerate(zip(actions, kinds(trajectory), strict=True), 1):
        removed = None
        if kind == "bkspc":
            removed = wrong.pop()
        elif kind == "wrong":
            wrong.append(action)
        else:
            kept += 1
        if kind != "kept" or previous == "bkspc" or time == len(actions):
            found.append(Step(time, kept, tuple(wrong), removed, labels[time]))
        previous = kind
    return found


def overview(trajectory: Trajectory, decode: Decode) -> Text:
    """The completion, each wrong token struck through in red with a backspace sign after it."""
    from rich.text import Text

    shown = Text()
    actions = trajectory.actions[trajectory.prompt_tokens :]
    pairs = zip(kinds(trajectory), actions, strict=True)
    for kind, run in groupby(pairs, key=lambda pair: pair[0]):
        ids = [action for _, action in run]
        if kind == "kept":
            shown.append(visible(decode(ids)))
        elif kind == "wrong":
            shown.append(_blanks(decode(ids)), "red strike")
        else:
            shown.append(_BACKSPACE * len(ids), "bold yellow")
    return shown


def render(step: Step, trajectory: Trajectory, decode: Decode) -> Text:
    """A step: what is kept, what is wrong in red, what was just removed struck, and the label."""
    from rich.text import Text

    start = trajectory.prompt_tokens
    shown = Text(visible(decode(trajectory.clean[start : start + step.kept])))
    if step.wrong:
        shown.append(_blanks(decode(step.wrong)), "bold red reverse")
    if step.removed is not None:
        shown.append(_blanks(decode([step.removed])), "red strike")
        shown.append(_BACKSPACE, "bold yellow")
    if step.label == trajectory.bkspc:
        shown.append("\n→ backspace", "bold yellow")
    elif step.label is not None:
        shown.append(f"\n→ {_blanks(decode([step.label]))}", "bold green")
    return shown


def title(step: Step, trajectory: Trajectory) -> str:
    """The step's place among the actions of the completion."""
    return f"action {step.time} of {len(trajectory.actions) - trajectory.prompt_tokens}"


def open_text(text: TrainingText) -> tuple[Trajectory, Decode]:
    """A text's trajectory, and the ``decode`` of its tokenizer.

    Raises:
        InputError: if the text holds no sound trajectory, or its tokenizer has changed.
        ConfigError: if the tokenizer cannot be loaded.
    """
    return from_text(text), codec_of_text(text).decode


def _blanks(text: str) -> str:
    """``text`` with visible blanks, since a wrong token is often nothing else."""
    return visible(text.translate(_BLANKS))
