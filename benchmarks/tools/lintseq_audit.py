"""Round trips of edit sequences, and states with pylint findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from codegen.benchmarks.tools.lintseq_pass import Pass, states_of
from codegen.benchmarks.tools.programs import Program
from codegen.benchmarks.tools.pylint_audit import Messages, dirty_states, look_up


@dataclass(slots=True)
class Audit:
    """Counts over the unfinished states of sequences; ``reasons`` by pylint's message id."""

    states: int = 0
    dirty: int = 0
    dirty_programs: set[str] = field(default_factory=set)
    reasons: dict[str, int] = field(default_factory=dict)


def audit(programs: Sequence[Program], passes: Sequence[Pass], known: dict[str, Messages]) -> Audit:
    """Lints every state of the passes' sequences, each distinct one once.

    Args:
        programs: programs of the passes.
        passes: the sequences.
        known: messages by text; updated, so that audits of the same programs share them.
    """
    sequences = [
        (program, states_of(text))
        for program in programs
        for done in passes
        for text in done.texts.get(program.id, [])
    ]
    states = (state for _, found in sequences for state in found)
    look_up([*(program.text for program in programs), *states], known)
    found = Audit()
    for program, (*unfinished, _) in sequences:
        dirty = dirty_states(program.text, unfinished, known)
        found.states += len(unfinished)
        found.dirty += len(dirty)
        if dirty:
            found.dirty_programs.add(program.id)
        for number in dirty:
            new = known[unfinished[number]] - known[program.text]
            for id_ in {id_ for id_, _ in new}:
                found.reasons[id_] = found.reasons.get(id_, 0) + 1
    return found


def round_trips(programs: Sequence[Program], passes: Sequence[Pass]) -> tuple[int, int]:
    """Returns the number of sequences that restore their program, and the total.

    The text form is parsed and applied. Programs are compared byte for byte, except for line ends
    and the final newline.
    """
    texts = {program.id: _as_read(program.text) for program in programs}
    outcomes = [
        states_of(text)[-1] == texts[id_]
        for done in passes
        for id_, sequences in done.texts.items()
        for text in sequences
    ]
    return sum(outcomes), len(outcomes)


def _as_read(text: str) -> str:
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return lines if not lines or lines.endswith("\n") else lines + "\n"
