"""A trajectory with backspaces as one sequence of slots that a transformer encodes in one pass.

The paper turns a string of actions into inputs, labels, mask and position ids of one length. This
is the equivalent *stack-expiry* layout. Only the prompt and appended tokens get a slot; a backspace
has none. Slots stand in the order in which they were made, which is a pre-order walk of the tree of
all states, so that one integer a slot gives the mask: ``end[k]``, the first slot that no longer
sees slot k. Query q sees key k if and only if ``k <= q < end[k]``.

Pure Python on purpose: this is the meaning of the data, and trainers build their tensors from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from codegen.backspace.actions import Trajectory
from codegen.errors import InputError


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
            raise InputError(f"Action {start + time} is a backspace where only the prompt is left.")
        nodes.append(stack[-1])
    return StackLayout(
        tokens=tuple(tokens),
        positions=tuple(positions),
        end=tuple(len(tokens) if last is None else last for last in end),
        nodes=tuple(nodes),
        labels=trajectory.labels[start:],
        actions=actions,
    )
