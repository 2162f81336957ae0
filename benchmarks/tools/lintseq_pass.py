"""One pass of our LintSeq over a corpus, timed as the data engine runs it: in chunks.

A pass runs in its own process (see :mod:`codegen.benchmarks.tools.fresh`), so that no verdict
cached by an earlier pass lowers its cost. The timing excludes, as for the peer, the imports,
the setup of a persistent linter and, with a warm-up, the library modules that pylint parses once
per run. It includes restarting ruff's process for each chunk.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.benchmarks.tools.programs import Program
from codegen.benchmarks.tools.pylintseq_worker import WARM_UP
from codegen.benchmarks.tools.timing import cpu_seconds, measured
from codegen.core.records import Example

CHUNK = 32  # the engine's default


@dataclass(slots=True)
class Pass:
    """Cost and results of a pass.

    Attributes:
        repeats: number of times each program was processed.
        cpu_s: CPU seconds of all sequences, including the checking processes.
        alone_s: CPU seconds per program without any check (``verify="static"``).
        texts: for each kept program, the training text of each of its sequences.
        refused: rejection reason per program.
    """

    repeats: int = 1
    cpu_s: float = 0.0
    alone_s: dict[str, float] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return sum(map(len, self.texts.values()))


def one_pass(
    programs: Sequence[Program],
    verify: str,
    *,
    sequences: int = 1,
    repeats: int = 1,
    seed: int = 0,
    warm_up: Sequence[str] = (),
    audit: float = 0.0,
) -> Pass:
    """Generates ``sequences`` edit sequences of each program, ``repeats`` times.

    Args:
        programs: the corpus.
        verify: check of the states.
        sequences: sequences per program, parsed once.
        repeats: rounds over the corpus, each with other random numbers. More than one fills the
            chunks if the corpus is not a multiple of their size. Use it only for checks that do not
            cache verdicts.
        seed: the random seed.
        warm_up: texts that the check, and pylint if there is an audit, process before the clock
            starts.
        audit: fraction of states that pylint also lints.
    """
    from codegen.lintseq import LintSeq
    from codegen.lintseq.verify import check_for, check_pylint

    options: dict[str, Any] = {"sequences": sequences, "verify": verify, "audit": audit}
    generator = LintSeq(**options)
    alone = LintSeq(sequences=sequences, verify="static", audit=0.0)
    for warm in (generator, alone):
        warm.generate_many([(Example("warm-up", "", WARM_UP), _rng(seed, "warm-up"))])
    for check in (check_for(generator.verify), check_pylint if audit else None):
        if check:
            check(list(warm_up))
    items = [
        (program.id, Example(f"{program.id}@{number}", "", program.text))
        for number in range(repeats)
        for program in programs
    ]
    done = Pass(repeats, alone_s={program.id: 0.0 for program in programs})
    for id_, example in items:
        began = cpu_seconds()
        alone.generate_many([(example, _rng(seed, example.id))])
        done.alone_s[id_] += cpu_seconds() - began
    answers: list[Any] = []
    with measured() as spent:
        for first in range(0, len(items), CHUNK):
            chunk = [example for _, example in items[first : first + CHUNK]]
            answers += generator.generate_many([(e, _rng(seed, e.id)) for e in chunk])
    done.cpu_s = spent.cpu_s
    for (id_, _), answer in zip(items, answers, strict=True):
        if isinstance(answer, Exception):
            done.refused[id_] = str(answer)
        else:
            done.texts.setdefault(id_, []).extend(
                "".join(part.text for part in text.segments if part.train) for text in answer
            )
    return done


def edits_by_program(
    programs: Sequence[Program], engine: str, sequences: int = 5, seed: int = 0
) -> dict[str, float]:
    """Returns each program's mean edits per sequence over some sequences of one of our engines."""
    from codegen.lintseq import LintSeq

    options: dict[str, Any] = {"engine": engine, "sequences": sequences}
    if engine == "fast":
        options["audit"] = 0.0
    generator = LintSeq(**options)
    items = [(Example(p.id, "", p.text), _rng(seed, p.id)) for p in programs]
    found: dict[str, float] = {}
    for program, answer in zip(programs, generator.generate_many(items), strict=True):
        if not isinstance(answer, Exception):
            found[program.id] = sum(text.meta["edits"] for text in answer) / len(answer)
    return found


def _rng(seed: int, id_: str) -> random.Random:
    return random.Random(f"{seed} {id_}")


def states_of(text: str) -> list[str]:
    """Returns the texts of all states of a sequence's text form, the program last."""
    from codegen.lintseq import parse_edits, states

    return list(states(parse_edits(text)))


def cost_by_program(done: Pass) -> dict[str, float]:
    """Returns the CPU seconds per sequence of each kept program, with its part of the check.

    The check processes the states of many programs at once, so its cost is split by the characters
    of the states, about proportional to a linter's work.
    """
    size = {
        id_: sum(len(state) for text in texts for state in states_of(text))
        for id_, texts in done.texts.items()
    }
    # Spreads the cost of rejected programs over the others.
    shared = max(0.0, done.cpu_s - sum(done.alone_s[id_] for id_ in size))
    whole = sum(size.values()) or 1
    return {
        id_: (done.alone_s[id_] + shared * part / whole) / len(done.texts[id_])
        for id_, part in size.items()
    }
