"""Honest and hostile programs, read from the text files of ``benchmarks/suites``.

``benchmarks/suites/README.md`` describes the files. Honest programs are correct and must pass, each
by its own tests. Hostile programs are wrong or do harm; they run only inside the sandbox or in
throwaway namespaces. In a hostile program ``@PORT@`` is a listening port of the host, ``@FILE@`` a
file of the host and ``@SECRET@`` the name of an environment variable that contains a secret; the
caller fills them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from codegen.sandbox import Job, Limits, Outcome

FOLDER = Path(__file__).resolve().parents[1] / "suites"
LIMITS = Limits(cpu_s=1.0, memory_mib=256)
RIGHT = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return 41\n"


class Block(NamedTuple):
    """A block of a suite file: name, headers, program and the part after the dashes."""

    name: str
    headers: Mapping[str, str]
    program: str
    tests: str


class Honest(NamedTuple):
    """A correct program and its tests; ``suite`` is its file's name."""

    name: str
    suite: str
    program: str
    test: str


class Problem(NamedTuple):
    """The test of a hostile program, or its expected output."""

    test: str
    entry_point: str = ""
    stdout: str = ""


@dataclass(frozen=True, slots=True)
class Hostile:
    """A hostile program and the statuses that it may end with.

    Attributes:
        core: every backend must contain it; the others run on the preferred backend only.
    """

    name: str
    program: str
    problem: str
    allowed: frozenset[str]
    limits: Limits = LIMITS
    core: bool = False


def read_blocks(path: Path) -> Iterator[Block]:
    """Yields the blocks of a file."""
    _, *blocks = path.read_text(encoding="utf-8").removesuffix("\n").split("\n=== ")
    for block in blocks:
        name, _, rest = block.partition("\n")
        headers = {}
        while rest.startswith(": "):
            line, _, rest = rest[2:].partition("\n")
            key, _, headers[key] = line.partition(" ")
        program, _, tests = rest.partition("\n---\n")
        if "escaped" in headers:
            program = program.encode("ascii").decode("unicode_escape")
        else:
            program += "\n"
        yield Block(name, headers, program, f"{tests}\n")


def _honest() -> list[Honest]:
    return [
        Honest(block.name, path.stem, block.program, block.tests)
        for path in sorted((FOLDER / "honest").glob("*.txt"))
        if path.stem not in ("surroundings", "stdio")
        for block in read_blocks(path)
    ]


def _surroundings() -> dict[str, Job]:
    jobs = {
        block.name: Job(block.program, test=block.tests)
        for block in read_blocks(FOLDER / "honest" / "surroundings.txt")
    }
    for block in read_blocks(FOLDER / "honest" / "stdio.txt"):
        stdin = block.tests if "echo" in block.headers else ""
        stdout = block.tests * int(block.headers.get("repeat", 1))
        jobs[block.name] = Job(block.program, mode="stdio", stdin=stdin, expected_stdout=stdout)
    return jobs


def _problems() -> dict[str, Problem]:
    return {
        block.name: Problem("", stdout=block.program)
        if "prints" in block.headers
        else Problem(block.program, block.headers.get("entry", ""))
        for block in read_blocks(FOLDER / "hostile" / "problems.txt")
    }


def _hostile(*names: str) -> list[Hostile]:
    rows = []
    for name in names:
        for block in read_blocks(FOLDER / "hostile" / f"{name}.txt"):
            headers = block.headers
            rows.append(
                Hostile(
                    block.name,
                    block.program,
                    headers.get("problem", "add"),
                    frozenset(headers.get("ends", "").split()),
                    Limits(cpu_s=float(headers.get("cpu_s", 1.0)), memory_mib=256),
                    "core" in headers,
                )
            )
    return rows


HONEST = _honest()
SURROUNDINGS = _surroundings()
PROBLEMS = _problems()
HOSTILE = _hostile("table", "more", "printed")
# Programs that only claim to be correct. They use only the language, so a harness that runs
# programs with the caller's own rights may run them, too.
LIES, FORGERIES = _hostile("lies"), _hostile("forgeries")
CORE = frozenset(row.name.split()[0] for row in HOSTILE if row.core)


def is_believed(outcome: Outcome) -> bool:
    """Returns True for a grade at which no program can forge a verdict."""
    return outcome.trust in ("isolated", "blinded", "stdio")


def job_of(row: Hostile, program: str = "") -> Job:
    """Returns the job that runs and tests a hostile program.

    Args:
        program: the program with all placeholders filled in.
    """
    problem = PROBLEMS[row.problem]
    return Job(
        program or row.program,
        test=problem.test,
        entry_point=problem.entry_point,
        mode="stdio" if problem.stdout else "isolated",
        expected_stdout=problem.stdout,
        limits=row.limits,
    )
