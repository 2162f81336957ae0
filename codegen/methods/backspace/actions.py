"""Sequences of actions with a backspace: their meaning, their form in a record, and their one-pass
form for a transformer.

Source: Cundy and Ermon, "SequenceMatch: Imitation Learning for Autoregressive Sequence Modeling
with Backtracking", ICLR 2024 (arXiv 2306.05426), the Markov decision process of section 3 and the
label-preserving noise. A state is the whole string of tokens: the prompt and what is kept of the
completion. A token appends itself, the backspace removes the last token, EOS ends. A backspace at
the prompt's end is illegal: a policy has to mask it.

The demonstrator's action, which is the label, is a function of the state alone. Where the state is
a prefix of the right token sequence it is the next right token; elsewhere it is the backspace. So a
wrong token is executed, and is part of later states, but is never a label. In a run of wrong tokens
the label is right only at the first, and the backspace from then on until the last is removed: m
wrong tokens give one label x[i], 2m - 1 backspace labels, then x[i] once more.

The paper turns a string of actions into inputs, labels, mask and position ids of one length. Here
the equivalent *stack-expiry* layout does (:class:`StackLayout`). Only the prompt and appended
tokens get a slot; a backspace has none. Slots are in the order in which they were made, which is a
pre-order walk of the tree of all states, so that one integer a slot gives the mask: ``end[k]``, the
first slot that no longer sees slot k. Query q sees key k if and only if ``k <= q < end[k]``.

Trainers build their tensors from these plain Python values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from codegen.errors import InputError
from codegen.methods.backspace.tokens import codec_of_text
from codegen.records import TrainingText
from codegen.terminal import visible

if TYPE_CHECKING:
    from rich.text import Text


IGNORE = -100  # the label of the prompt's tokens; torch's cross entropy leaves it out

Kind = Literal["kept", "wrong", "bkspc"]
# (position in the clean tokens, most tokens wanted) -> wrong tokens, or none. The first must not be
# the right token of that position, and none may be special.
Propose = Callable[[int, int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A prompt and the actions executed after it, with the demonstrator's action at each state.

    Attributes:
        actions: token ids; the prompt's tokens, then one for each time step, the last EOS.
        labels: as long as ``actions``. ``labels[t]`` is the right action in the state in which
            ``actions[t]`` was executed (the alignment of transformers' ``labels``), -100 in the
            prompt.
        prompt_tokens: the number of leading actions that are the prompt, at least 1.
        bkspc: id of the backspace token.
    """

    actions: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_tokens: int
    bkspc: int

    @property
    def clean(self) -> list[int]:
        """The token ids that are left in the end, including the prompt's."""
        return replay(self.actions, self.bkspc, self.prompt_tokens)


@dataclass(frozen=True, slots=True)
class Noised:
    """A trajectory with noise, and its amount.

    Attributes:
        events: runs of wrong tokens.
        wrong: wrong tokens, which is also the number of backspaces executed.
        no_candidate: positions drawn for noise without a candidate.
    """

    trajectory: Trajectory
    events: int
    wrong: int
    no_candidate: int


def replay(actions: Sequence[int], bkspc: int, prompt_tokens: int = 0) -> list[int]:
    """The tokens left after all actions, in O(len(actions)).

    Raises:
        InputError: if a backspace would remove one of the first ``prompt_tokens`` tokens.
    """
    kept: list[int] = []
    for time, action in enumerate(actions):
        if action != bkspc or time < prompt_tokens:
            kept.append(action)
        elif len(kept) > prompt_tokens:
            kept.pop()
        else:
            raise InputError(f"Action {time} is a backspace, but only the prompt is left.")
    return kept


def add_noise(
    prompt: Sequence[int],
    clean: Sequence[int],
    propose: Propose,
    rng: random.Random,
    *,
    bkspc: int,
    eta: float,
    span: int = 1,
) -> Noised:
    """Executes wrong tokens on the way to ``clean`` and takes them back.

    At each of its positions, EOS among them, with probability ``eta`` (the paper's noise rate) a
    run of wrong tokens comes first, of a length drawn evenly from 1 to ``span`` (the paper has 1).
    No position is noised twice: after the last backspace its right token is executed.
    """
    actions, labels = list(prompt), [IGNORE] * len(prompt)
    events = total = no_candidate = 0
    for at, right in enumerate(clean):
        if rng.random() < eta:
            wrong = propose(at, rng.randint(1, span))
            if wrong:
                actions += [*wrong, *[bkspc] * len(wrong)]
                labels += [right, *[bkspc] * (2 * len(wrong) - 1)]
                events += 1
                total += len(wrong)
            else:
                no_candidate += 1
        actions.append(right)
        labels.append(right)
    trajectory = Trajectory(tuple(actions), tuple(labels), len(prompt), bkspc)
    return Noised(trajectory, events, total, no_candidate)


def kinds(trajectory: Trajectory) -> list[Kind]:
    """The effect of each action after the prompt: keep a right token, write a wrong one, remove it.

    The trajectory must be sound: right tokens are never removed.
    """
    found: list[Kind] = []
    wrong = 0  # on the stack
    start = trajectory.prompt_tokens
    for action, label in zip(trajectory.actions[start:], trajectory.labels[start:], strict=True):
        if action == trajectory.bkspc:
            wrong -= 1
            found.append("bkspc")
        elif wrong or action != label:
            wrong += 1
            found.append("wrong")
        else:
            found.append("kept")
    return found


def to_meta(trajectory: Trajectory) -> dict[str, object]:
    """The trajectory in the form of a text's ``meta``: ints and lists of ints."""
    return {
        "bkspc": trajectory.bkspc,
        "prompt_tokens": trajectory.prompt_tokens,
        "actions": list(trajectory.actions),
        "labels": list(trajectory.labels),
    }


def is_trajectory(text: TrainingText) -> bool:
    """Whether a training text holds a trajectory, whose tokens are trained instead of segments."""
    return text.generator == "backspace" and "actions" in text.meta


def from_text(text: TrainingText) -> Trajectory:
    """The trajectory of a training text, checked.

    Raises:
        InputError: naming the text, if its ``meta`` holds no sound trajectory: keys or types are
            wrong, lengths differ, a backspace removes the prompt, or a label is not the
            demonstrator's action in its state.
    """
    where = f"Text {text.id!r}"
    prompt_tokens, bkspc = (_int(text.meta, key, where) for key in ("prompt_tokens", "bkspc"))
    actions, labels = (_ints(text.meta, key, where) for key in ("actions", "labels"))
    if len(actions) != len(labels) or not 0 < prompt_tokens < len(actions):
        raise InputError(
            f"{where}: {len(actions)} actions, {len(labels)} labels and {prompt_tokens} prompt "
            "tokens do not fit together.",
            "Make the data again with: codegen data backspace.",
        )
    trajectory = Trajectory(actions, labels, prompt_tokens, bkspc)
    try:
        expected = demonstrator_labels(trajectory)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for time, (label, right) in enumerate(zip(labels, expected, strict=True)):
        if label != right:
            raise InputError(f"{where}: label {time} is {label}, but {right} is the right action.")
    return trajectory


def demonstrator_labels(trajectory: Trajectory) -> list[int]:
    """The demonstrator's action before each action, from the actions alone; -100 in the prompt.

    Raises:
        InputError: if a backspace would remove a token of the prompt.
    """
    clean = trajectory.clean
    kept: list[int] = list(clean[: trajectory.prompt_tokens])
    right = len(kept)  # the length of the longest common prefix of kept and clean
    labels = [IGNORE] * len(kept)
    for action in trajectory.actions[trajectory.prompt_tokens :]:
        on_track = right == len(kept) and right < len(clean)
        labels.append(clean[right] if on_track else trajectory.bkspc)
        if action == trajectory.bkspc:
            kept.pop()
            right = min(right, len(kept))
        else:
            kept.append(action)
            right += on_track and action == clean[right]
    return labels


def _int(meta: Mapping[str, object], key: str, where: str) -> int:
    value = meta.get(key)
    if type(value) is not int:
        raise InputError(f"{where}: meta[{key!r}] must be an integer.")
    return value


def _ints(meta: Mapping[str, object], key: str, where: str) -> tuple[int, ...]:
    value = meta.get(key)
    if not isinstance(value, (list, tuple)) or any(type(item) is not int for item in value):
        raise InputError(f"{where}: meta[{key!r}] must be a list of integers.")
    return tuple(value)


# --- the one-pass form -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StackLayout:
    """S slots, and T actions after the prompt.

    Attributes:
        tokens: [S] the token in each slot.
        positions: [S] its position id, which is its depth in the stack.
        end: [S] slot k is seen by the queries k <= q < end[k]; S if it was never removed.
        nodes: [T + 1] the slot whose state action t is chosen in: its logits are the policy's, and
            their logsumexp is V(s_t). ``nodes[0]`` is the last slot of the prompt; ``nodes[T]`` is
            EOS's own slot, the terminal state.
        labels: [T] the right action at ``nodes[t]``.
        actions: [T] the action executed there, which leads to ``nodes[t + 1]``.
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    end: tuple[int, ...]
    nodes: tuple[int, ...]
    labels: tuple[int, ...]
    actions: tuple[int, ...]


def stack_layout(trajectory: Trajectory) -> StackLayout:
    """Lays a trajectory out, in O(number of actions).

    To pack or pad: add a row's offset to ``end`` and ``nodes``; a padding slot's ``end`` is its own
    index + 1, and no real slot's may go beyond the first padding slot.

    Raises:
        InputError: if a backspace would remove a token of the prompt.
    """
    start = trajectory.prompt_tokens
    actions = trajectory.actions[start:]
    tokens = list(trajectory.actions[:start])
    positions = list(range(start))
    end: list[int | None] = [None] * start
    stack = list(range(start))
    nodes = [start - 1]
    for time, action in enumerate(actions):
        if action != trajectory.bkspc:
            stack.append(len(tokens))
            positions.append(len(stack) - 1)
            tokens.append(action)
            end.append(None)
        elif len(stack) > start:
            end[stack.pop()] = len(tokens)
        else:
            raise InputError(f"Action {start + time} is a backspace, but only the prompt is left.")
        nodes.append(stack[-1])
    return StackLayout(
        tokens=tuple(tokens),
        positions=tuple(positions),
        end=tuple(len(tokens) if last is None else last for last in end),
        nodes=tuple(nodes),
        labels=trajectory.labels[start:],
        actions=actions,
    )


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
