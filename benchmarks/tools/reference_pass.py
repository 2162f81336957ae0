"""Our own reference mode with a linter set up for each check, instead of the published code.

It is measured only where PyPI's ``pylintseq`` is not installed, under the name ``own``. The search
is :func:`codegen.lintseq.reference.reference_sequence`; the linter is pylint as the published code
calls it: ``Run`` with its flags on a new temporary file, for every check.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Sequence
from typing import Any

from codegen.benchmarks.tools.programs import Program
from codegen.benchmarks.tools.published import Published
from codegen.benchmarks.tools.pylintseq_worker import WARM_UP
from codegen.benchmarks.tools.timing import measured


def reference_pass(
    programs: Sequence[Program], seed: int, warm_up: Sequence[str] = ()
) -> dict[str, Published]:
    """Returns one sequence of each program, after the warm-up; rejected programs have none."""
    from codegen.lintseq import UnsupportedProgram
    from codegen.lintseq.reference import reference_sequence
    from codegen.lintseq.text_format import format_edit

    for text in (WARM_UP, *warm_up):
        lint(text)
    results: dict[str, Published] = {}
    for program in programs:
        rng = random.Random(f"{seed} {program.id}")
        diffs = None
        with measured() as spent:
            try:
                sequence = reference_sequence(program.text, rng, lint)
                diffs = tuple(map(format_edit, sequence.edits))
            except UnsupportedProgram:
                pass
        results[program.id] = Published(spent.cpu_s, diffs)
    return results


def lint(text: str) -> list[Any]:
    """Lints one program with a new linter."""
    from codegen.benchmarks.tools.pylint_audit import heeded, run_pylint
    from codegen.lintseq.verify import LintMessage

    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        return [
            LintMessage(_line(message), message.msg_id, message.msg)
            for message in run_pylint([file.name])
            if heeded(message)
        ]


def _line(message: Any) -> int:
    """Returns the line to delete: the header's for a block without a body."""
    header = re.search(r"on line (\d+)", message.msg) if message.msg_id == "E0001" else None
    return int(header[1]) if header else message.line
