"""Which references of the tasks in many languages fail by their data set's own rule, and why.

    python -m codegen.benchmarks.tools.broken_references humanevalpack:rust mceval:r

For each task: the references that do not pass as the task judges them are run as the data set's
authors do, the program and its tests as one file whose exit status decides. Those that fail then,
too, and those whose tests have not run to their end are written into
``evals/tasks/broken_references.json`` with the reason; the others are printed: they are faults of
ours. Of problems that are not run again the file keeps what it has: ``mceval:cpp/20/3`` runs every
20th problem from the fourth on.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from codegen.benchmarks.tools.notes import say
from codegen.evals import tasks
from codegen.evals.sandbox import Job, Sandbox
from codegen.evals.tasks import multilingual
from codegen.evals.tasks.multilingual import Translated, TranslatedProblem

_FILE = Path(multilingual.__file__).parent / "broken_references.json"
_LONGEST = 100
_ENDED = re.compile("the program ended before its tests did|the output has .* lines, expected")


def examine(name: str, every: int = 1, offset: int = 0) -> tuple[int, dict[str, str], list[str]]:
    """How many references ran; those that fail by the authors' rule; and those that pass by it, and
    not by ours.
    """
    task = tasks.load(name)
    assert isinstance(task, Translated)
    problems = [problem for problem in task.problems() if task.reference(problem)][offset::every]
    by_id = {problem.id: problem for problem in problems}
    language = task.language.name
    with Sandbox(languages=task.languages) as sandbox:
        task.prepare(problems, sandbox)
        jobs = [(problem.id, task.job(problem, task.reference(problem))) for problem in problems]
        ours = {id_: outcome for id_, outcome in sandbox.map(jobs) if not outcome.passed}

        def own(problem: TranslatedProblem) -> Job:
            program = f"{task.reference(problem)}\n{problem.test}"
            return Job(program, mode="stdio", expected_stdout=None, language=language)

        # These pass by an exit status alone: their tests have not run.
        ended = {id_ for id_, outcome in ours.items() if _ENDED.search(outcome.message)}
        again = dict(sandbox.map((id_, own(by_id[id_])) for id_ in ours))
    broken = {id_: _reason(o.message or o.status) for id_, o in again.items() if not o.passed}
    broken |= dict.fromkeys(ended - broken.keys(), "ends before its tests, with exit status 0")
    differ = [
        f"{name} {id_}: {ours[id_].status} {_reason(ours[id_].message)}"
        for id_ in ours.keys() - broken.keys()
    ]
    return len(problems), dict(sorted(broken.items())), sorted(differ)


def _reason(message: str) -> str:
    """The line of a complaint that says most."""
    lines = [line.strip() for line in message.removeprefix("exit code 1 ").splitlines()]
    said = [line for line in lines if re.search(r"(?:[Ee]rror|Exception|undefined).*[^:]$", line)]
    return next(iter(said or lines), "")[:_LONGEST]


def main(names: list[str]) -> None:
    """Examines tasks and writes the file."""
    found: dict[str, dict[str, str]] = json.loads(_FILE.read_text(encoding="utf-8"))
    for name in names:
        name, *numbers = name.split("/")
        count, broken, differ = examine(name, *map(int, numbers))
        task, _, code = name.partition(":")
        key = f"{task}:{tasks.load(name).languages[0]}" if code else task
        found[key] = dict(sorted({**found.get(key, {}), **broken}.items()))
        text = json.dumps({k: v for k, v in sorted(found.items()) if v}, indent=1)
        _FILE.write_text(text + "\n", encoding="utf-8")
        say(f"{name}: {count} references, {len(broken)} broken, {len(differ)} judged otherwise")
        for line in differ:
            print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
