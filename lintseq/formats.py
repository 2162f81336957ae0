r"""The training texts of an edit sequence, in four formats.

- ``diff``: the published form (Piterbarg, Pinto and Fergus, ICLR 2025; see
  :mod:`codegen.lintseq.text_format`): the instruction, then all edits in one text.
- ``anchored``: the same, with the lines above a hunk in place of line numbers and counts.
- ``chat``: the same segments, and in ``meta["messages"]`` the instruction as the user's turn and
  the edits as the assistant's, as chat templates and TRL read a column ``messages``.
- ``pairs``: one text per edit, to learn single steps from any state. Three segments: the
  instruction and "\n"; the state as plain text, "" at first; and, trained, ``<|diff|>`` and the
  next diff. The last text trains the end mark, two empty diffs, after the whole program. The
  trained parts, joined by "\n", are the text of ``diff``.

``meta`` holds the numbers of ``edits``, ``hunks`` and ``lines`` in a text. With ``pairs`` it has
the text's place in its sequence, ``pair`` from 0, and their number, ``pairs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from codegen.errors import InputError
from codegen.lintseq.edits import Edit, EditSequence
from codegen.lintseq.text_format import MARKER, format_edit, format_edits, resolve
from codegen.records import Example, Segment, TrainingText

Format = Literal["diff", "anchored", "chat", "pairs"]
FORMATS: tuple[Format, ...] = get_args(Format)


def training_texts(
    example: Example,
    number: int,
    sequence: EditSequence,
    format: Format = "diff",
    notes: Mapping[str, object] | None = None,
) -> list[TrainingText]:
    """The texts of one sequence of an example.

    Args:
        example: gives the instruction and the id: ``ID#lintseq-NUMBER``, of a pair
            ``ID#lintseq-NUMBER.PAIR``.
        number: of the sequence, from 0.
        sequence: writes the example's program.
        notes: added to ``meta``; with ``pairs`` to the first text's.

    Raises:
        UnsupportedProgram: ``contains_marker``, if a line holds the marker.
        InputError: if a line holds a line end.
    """
    text = format_edits(sequence.edits, anchored=format == "anchored")
    if format == "pairs":
        return _pairs(example, number, sequence, notes or {})
    meta = {**_sizes(sequence.edits), **(notes or {})}
    if format == "chat":
        meta["messages"] = [
            {"role": "user", "content": example.instruction},
            {"role": "assistant", "content": text},
        ]
    segments = (Segment(example.instruction + "\n", False), Segment(text, True))
    name = f"{example.id}#lintseq-{number}"
    return [TrainingText(name, example.id, "lintseq", segments, meta)]


def _pairs(
    example: Example,
    number: int,
    sequence: EditSequence,
    notes: Mapping[str, object],
) -> list[TrainingText]:
    states = ["", *sequence.states]
    diffs = [*(MARKER + format_edit(edit) for edit in sequence.edits), f"{MARKER}\n{MARKER}"]
    edits: list[Sequence[Edit]] = [*((edit,) for edit in sequence.edits), ()]
    return [
        TrainingText(
            id=f"{example.id}#lintseq-{number}.{pair}",
            example_id=example.id,
            generator="lintseq",
            segments=(
                Segment(example.instruction + "\n", False),
                Segment(state, False),
                Segment(diff, True),
            ),
            meta={
                **_sizes(edit),
                "pair": pair,
                "pairs": len(diffs),
                **(notes if pair == 0 else {}),
            },
        )
        for pair, (state, diff, edit) in enumerate(zip(states, diffs, edits, strict=True))
    ]


def _sizes(edits: Sequence[Edit]) -> dict[str, object]:
    hunks = [hunk for edit in edits for hunk in edit.hunks]
    return {
        "edits": len(edits),
        "hunks": len(hunks),
        "lines": sum(len(hunk.lines) for hunk in hunks),
    }


def state_before(text: TrainingText) -> str:
    """The state that a text's first edit changes: "" unless it is one of ``pairs``."""
    return text.segments[1].text if "pair" in text.meta else ""


def program_of(texts: Sequence[TrainingText]) -> str:
    """The program that the texts of one sequence write.

    Args:
        texts: all of :func:`training_texts`, in any order.

    Raises:
        InputError: naming the text that is malformed, or missing.
    """
    texts = sorted(texts, key=lambda text: text.meta.get("pair", 0))
    state = ""
    for number, text in enumerate(texts):
        if text.meta.get("pair", 0) != number or state_before(text) != state:
            raise InputError(
                f"{text.id}: the text before it in its sequence is missing or differs."
            )
        resolution = resolve(text.trained, base=state)
        if resolution.malformed or resolution.stray_lines:
            raise InputError(f"{text.id}: its edits are malformed.")
        state = resolution.program
        if number == len(texts) - 1 and not resolution.complete:
            raise InputError(f"{text.id}: the end of its sequence is missing.")
    return state
