"""Action sequences with a backspace: their semantics, their record format, and their layout for a
single forward pass.

Source: Cundy and Ermon, "SequenceMatch: Imitation Learning for Autoregressive Sequence Modeling
with Backtracking", ICLR 2024 (arXiv 2306.05426), the Markov decision process of section 3 and the
label-preserving noise. A state is a token sequence: the prompt and the remaining completion. A
token appends itself, the backspace removes the last token, EOS stops. A backspace directly after
the prompt is illegal; a policy must mask it.

The label is the demonstrator's action, a function of the state only. If the state is a prefix of
the correct token sequence, the label is the next correct token, else the backspace. So a wrong
token is executed and is part of later states, but is never a label. In a run of wrong tokens, the
first label is the correct token; the following labels are backspaces until the last wrong token is
removed: m wrong tokens yield one label x[i], 2m - 1 backspace labels, then x[i] once more.

The paper converts an action string into inputs, labels, mask and position ids of the same length.
The equivalent *stack-expiry* layout is used here (:class:`StackLayout`). Only the prompt and
appended tokens have a slot; a backspace has none. Slots are in creation order, a pre-order walk of
the tree of all states, so one integer per slot defines the mask: ``end[k]``, the first slot that no
longer attends to slot k. Query q attends to key k if and only if ``k <= q < end[k]``.

Trainers build tensors from these plain Python values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from codegen.core.errors import InputError
from codegen.core.records import TrainingText
from codegen.core.terminal import visible
from codegen.methods.backspace.tokens import codec_of_text

if TYPE_CHECKING:
    from rich.text import Text


IGNORE = -100  # label of the prompt's tokens; torch's cross entropy ignores it

Kind = Literal["kept", "wrong", "bkspc"]
# (position in the clean tokens, maximum number of tokens) -> wrong tokens, possibly empty. The
# first must differ from the correct token at that position; special tokens are not allowed.
Propose = Callable[[int, int], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A prompt and the actions executed after it, with the demonstrator's action in each state.

    Attributes:
        actions: token ids: the prompt's tokens, then one per time step, ending with EOS.
        labels: same length as ``actions``. ``labels[t]`` is the correct action in the state in
            which ``actions[t]`` was executed (the alignment of transformers' ``labels``), -100 in
            the prompt.
        prompt_tokens: number of prompt tokens at the start of ``actions``, at least 1.
        bkspc: backspace token id.
    """

    actions: tuple[int, ...]
    labels: tuple[int, ...]
    prompt_tokens: int
    bkspc: int

    @property
    def clean(self) -> list[int]:
        """Token ids that remain at the end, including the prompt."""
        return replay(self.actions, self.bkspc, self.prompt_tokens)


@dataclass(frozen=True, slots=True)
class NoisyTrajectory:
    """A trajectory with noise, and counts of the noise.

    Attributes:
        events: number of runs of wrong tokens.
        wrong: number of wrong tokens, and of executed backspaces.
        no_candidate: number of positions sampled for noise that had no candidate.
    """

    trajectory: Trajectory
    events: int
    wrong: int
    no_candidate: int


def replay(actions: Sequence[int], bkspc: int, prompt_tokens: int = 0) -> list[int]:
    """Returns the tokens that remain after all actions, in O(len(actions)).

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
) -> NoisyTrajectory:
    """Inserts wrong tokens and their backspaces into the actions that write ``clean``.

    Before each position, including EOS, a run of wrong tokens is inserted with probability ``eta``
    (the paper's noise rate), of uniformly random length from 1 to ``span`` (1 in the paper). No
    position is noised twice: after the last backspace its correct token is executed.
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
    return NoisyTrajectory(trajectory, events, total, no_candidate)


def kinds(trajectory: Trajectory) -> list[Kind]:
    """Returns the kind of each completion action: kept token, wrong token or backspace.

    The trajectory must be valid: correct tokens are never removed.
    """
    found: list[Kind] = []
    wrong = 0  # wrong tokens on the stack
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
    """Returns the trajectory as a text's ``meta``: ints and lists of ints."""
    return {
        "bkspc": trajectory.bkspc,
        "prompt_tokens": trajectory.prompt_tokens,
        "actions": list(trajectory.actions),
        "labels": list(trajectory.labels),
    }


def is_trajectory(text: TrainingText) -> bool:
    """Returns True if a text has a trajectory, which is trained instead of its segments."""
    return text.generator == "backspace" and "actions" in text.meta


def from_text(text: TrainingText) -> Trajectory:
    """Parses and validates the trajectory of a training text.

    Raises:
        InputError: if the text's ``meta`` has no valid trajectory: keys or types are
            wrong, lengths differ, a backspace removes the prompt, or a label is not the
            demonstrator's action in its state.
    """
    where = f"Text {text.id!r}"
    prompt_tokens, bkspc = (_int(text.meta, key, where) for key in ("prompt_tokens", "bkspc"))
    actions, labels = (_ints(text.meta, key, where) for key in ("actions", "labels"))
    if len(actions) != len(labels) or not 0 < prompt_tokens < len(actions):
        raise InputError(
            f"{where}: {len(actions)} actions, {len(labels)} labels and {prompt_tokens} prompt "
            "tokens are inconsistent.",
            "Regenerate the data with: codegen data backspace.",
        )
    trajectory = Trajectory(actions, labels, prompt_tokens, bkspc)
    try:
        expected = demonstrator_labels(trajectory)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for time, (label, right) in enumerate(zip(labels, expected, strict=True)):
        if label != right:
            raise InputError(f"{where}: label {time} is {label}, but {right} is correct.")
    return trajectory


def demonstrator_labels(trajectory: Trajectory) -> list[int]:
    """Computes the labels from the actions: the demonstrator's action in each state.

    Raises:
        InputError: if a backspace would remove a token of the prompt.
    """
    clean = trajectory.clean
    kept: list[int] = list(clean[: trajectory.prompt_tokens])
    right = len(kept)  # length of the longest common prefix of kept and clean
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


@dataclass(frozen=True, slots=True)
class StackLayout:
    """Stack-expiry layout of S slots, and T actions after the prompt.

    Attributes:
        tokens: token of each slot, [S].
        positions: position id of each slot, which is its stack depth, [S].
        end: queries k <= q < end[k] attend to slot k; S if never removed. [S]
        nodes: slot of the state before action t: its logits are the policy's, and their logsumexp
            is V(s_t). ``nodes[0]`` is the last slot of the prompt; ``nodes[T]`` is EOS's own slot,
            the terminal state. [T + 1]
        labels: correct action at ``nodes[t]``, [T].
        actions: action executed at ``nodes[t]``, which leads to ``nodes[t + 1]``, [T].
    """

    tokens: tuple[int, ...]
    positions: tuple[int, ...]
    end: tuple[int, ...]
    nodes: tuple[int, ...]
    labels: tuple[int, ...]
    actions: tuple[int, ...]


def stack_layout(trajectory: Trajectory) -> StackLayout:
    """Builds the layout of a trajectory, in O(number of actions).

    To pack or pad: add a row's offset to ``end`` and ``nodes``; a padding slot's ``end`` is its own
    index + 1, and a real slot's must not exceed the first padding slot.

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
class TrajectoryStep:
    """A state to display: after a wrong token, a backspace, or the token that follows them.

    Attributes:
        time: number of executed completion actions.
        kept: number of correct completion tokens on the stack.
        wrong: wrong tokens on the stack, above the correct ones.
        removed: token removed by the last action, if it was a backspace.
        label: next correct action; None at the end.
    """

    time: int
    kept: int
    wrong: tuple[int, ...]
    removed: int | None
    label: int | None


def steps(trajectory: Trajectory) -> list[TrajectoryStep]:
    """Returns the states to step through; the first is the prompt, the last follows EOS."""
    start = trajectory.prompt_tokens
    actions, labels = trajectory.actions[start:], (*trajectory.labels[start:], None)
    found = [TrajectoryStep(0, 0, (), None, labels[0])]
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
            found.append(TrajectoryStep(time, kept, tuple(wrong), removed, labels[time]))
        previous = kind
    return found


def overview(trajectory: Trajectory, decode: Decode) -> Text:
    """Renders the completion; wrong tokens are struck through in red, before a backspace sign."""
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


def render(step: TrajectoryStep, trajectory: Trajectory, decode: Decode) -> Text:
    """Renders a step: kept tokens, wrong tokens in red, a removed one struck out, and the label."""
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


def title(step: TrajectoryStep, trajectory: Trajectory) -> str:
    """Returns the step's number among the completion's actions."""
    return f"action {step.time} of {len(trajectory.actions) - trajectory.prompt_tokens}"


def open_text(text: TrainingText) -> tuple[Trajectory, Decode]:
    """Returns a text's trajectory, and its tokenizer's ``decode``.

    Raises:
        InputError: if the text has no valid trajectory, or its tokenizer has changed.
        ConfigError: if the tokenizer cannot be loaded.
    """
    return from_text(text), codec_of_text(text).decode


def _blanks(text: str) -> str:
    """Makes whitespace visible, since a wrong token is often only whitespace."""
    return visible(text.translate(_BLANKS))
