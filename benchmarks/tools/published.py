"""The published LintSeq generator, PyPI's ``pylintseq``, as a peer in its own interpreter.

It needs Python 3.12 or newer (``NamedTemporaryFile(delete_on_close=...)``) and its own pylint, so
it runs in the interpreter that ``CODEGEN_PYLINTSEQ_PYTHON`` names or, without that variable, the
first of ``python3.14``, ``python3.13``, ``python3.12``, ``python3`` on the path that can import it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegen.benchmarks.tools.worker import call_worker
from codegen.core.errors import ConfigError

VARIABLE = "CODEGEN_PYLINTSEQ_PYTHON"
INSTALL = (
    "python3.13 -m venv ~/.venvs/pylintseq && ~/.venvs/pylintseq/bin/pip install pylintseq && "
    f"export {VARIABLE}=~/.venvs/pylintseq/bin/python"
)
_NAMES = ("python3.14", "python3.13", "python3.12", "python3")
_WORKER = "pylintseq_worker.py"


class Published(NamedTuple):
    """A sequence of the published generator: CPU time and diffs (None if it failed)."""

    cpu_s: float
    diffs: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Peer:
    """An interpreter that has the package, and the installed versions."""

    python: str
    versions: Mapping[str, str]

    def run(
        self, programs: Sequence[tuple[str, str, int]], warm_up: Sequence[str] = ()
    ) -> dict[str, Published]:
        """Returns one sequence for each (id, program, seed), after linting the warm-up texts.

        A program that crashes or times out in the package has no entry.
        """
        results: dict[str, Published] = {}
        left = list(programs)
        while left:
            done = self._run_until_it_dies(left, warm_up)
            results.update(done)
            left = left[len(done) + 1 :]  # answers are in order, so the next program crashed
        return results

    def _run_until_it_dies(
        self, programs: Sequence[tuple[str, str, int]], warm_up: Sequence[str]
    ) -> dict[str, Published]:
        jobs = [{"id": id_, "program": text, "seed": seed} for id_, text, seed in programs]
        text = "".join(json.dumps(job) + "\n" for job in [{"warm_up": list(warm_up)}, *jobs])
        done = call_worker(self.python, _WORKER, text)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
        return {
            row["id"]: Published(row["cpu_s"], row["diffs"] and tuple(row["diffs"])) for row in rows
        }


def find_peer() -> Peer | None:
    """Returns the peer, or None if no interpreter has it.

    Raises:
        ConfigError: if the variable names an interpreter that cannot import the package.
    """
    if python := os.environ.get(VARIABLE):
        try:
            versions = _versions(python)
        except OSError as error:
            raise ConfigError(f"{VARIABLE} is {python!r}: {error.strerror}.", INSTALL) from None
        if versions is None:
            raise ConfigError(f"{python!r} ({VARIABLE}) cannot import pylintseq.", INSTALL)
        return Peer(python, versions)
    for candidate in _candidates():
        if versions := _versions(candidate):
            return Peer(candidate, versions)
    return None


def _candidates() -> Iterable[str]:
    found = (shutil.which(name) for name in _NAMES)
    return dict.fromkeys(path for path in found if path)


def _versions(python: str) -> Mapping[str, str] | None:
    done = call_worker(python, _WORKER, "", "--versions")
    if done.returncode != 0:
        return None
    return json.loads(done.stdout)
