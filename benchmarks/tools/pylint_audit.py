"""Plain pylint on programs and their unfinished states: an oracle for LintSeq's checks.

It shares no code with :mod:`codegen.lintseq`: ``pylint.lint.Run`` as its command line runs it, with
the flags of the published generator (``--disable=C,R --unsafe-load-any-extension=y
--generated-members=cv2.*``), and the messages that it considers: all errors (E), fatal errors (F),
and the warnings W0311 (bad-indentation) and W0231 (super-init-not-called).

A state is *dirty* if it has such a message more often than the whole program.
Messages are compared by their id and text without line numbers, which differ between states.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Messages = Counter[tuple[str, str]]

_FLAGS = (
    "--rcfile=",
    "--disable=C,R",
    "--reports=n",
    "--score=n",
    "--unsafe-load-any-extension=y",
    "--generated-members=cv2.*",
)
_WARNINGS = frozenset({"W0311", "W0231"})
_BATCH = 200  # files per call: astroid keeps their trees until the next call


def messages_of(texts: Sequence[str]) -> list[Messages]:
    """Returns the messages in each program."""
    found: list[Messages] = [Counter() for _ in texts]
    for first in range(0, len(texts), _BATCH):
        numbers = range(first, min(first + _BATCH, len(texts)))
        with tempfile.TemporaryDirectory(prefix="pylint-audit-") as folder:
            paths = [Path(folder, f"state_{number}.py") for number in numbers]
            for path, number in zip(paths, numbers, strict=True):
                path.write_text(texts[number], encoding="utf-8", newline="\n")
            for message in run_pylint([str(path) for path in paths]):
                number = int(Path(message.path).stem.removeprefix("state_"))
                if heeded(message):
                    text = re.sub(r"state_\d+", "state", message.msg)
                    key = (message.msg_id, re.sub(r"\blines? \d+", "line N", text))
                    found[number][key] += 1
            _forget_trees()
    return found


def _forget_trees() -> None:
    from astroid.manager import AstroidManager

    AstroidManager().clear_cache()


def dirty_states(program: str, states: Sequence[str], known: dict[str, Messages]) -> list[int]:
    """Returns the indices of the states with a message that the program lacks.

    Such a state is relinted separately, and so is its program: in one call of pylint, each file can
    affect the inference of shared imports.

    Args:
        program: the whole program.
        states: its unfinished states.
        known: messages by text, of the program and all its states (see :func:`look_up`).
    """
    excused = known[program]
    suspects = [number for number, state in enumerate(states) if known[state] - excused]
    if suspects:
        known[program] = excused = messages_of([program])[0]
    for number in suspects:
        known[states[number]] = messages_of([states[number]])[0]
    return [number for number in suspects if known[states[number]] - excused]


def look_up(texts: Sequence[str], known: dict[str, Messages]) -> None:
    """Lints the programs that ``known`` lacks, each once, and adds their messages."""
    new = [text for text in dict.fromkeys(texts) if text not in known]
    known.update(zip(new, messages_of(new), strict=True))


def heeded(message: Any) -> bool:
    """Returns True if the published generator treats a message as an error."""
    return message.msg_id[0] in "EF" or message.msg_id in _WARNINGS


def run_pylint(paths: Sequence[str]) -> list[Any]:
    """Returns all messages about files, from a linter that is set up for this call."""
    from pylint.lint import Run
    from pylint.reporters import CollectingReporter

    reporter = CollectingReporter()
    before = list(sys.path)
    # pylint writes its own errors to both streams.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            Run([*_FLAGS, *paths], reporter=reporter, exit=False)
        finally:
            sys.path[:] = before
    return reporter.messages
