"""Languages: reference solutions tested in the sandbox, and their speed.

What: for each language that is installed, the references of McEval and HumanEvalPack, if their
files are in the folder that ``CODEGEN_TEST_DATA`` names. Per language ``L``:

- ``L.references_total``, ``L.references_passed``: references run, except ones known to fail even
  outside the sandbox, and the number that pass here.
- ``L.programs_per_s``, ``L.cpu_ms``: timed programs, each compiled, run and scored once; CPU time
  of the compiler and the program.
- ``L.compile_ms``, ``L.run_ms``: CPU time of each phase.

Limits: the programs are small, so mostly compilers and runtime startup are measured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.core.errors import ConfigError, InputError
from codegen.evals.tasks import load
from codegen.evals.tasks.validate import check
from codegen.sandbox import Job, Sandbox
from codegen.sandbox.languages import HELLO, LANGUAGES, Toolchain, find, installed

TASKS = ("mceval", "humanevalpack")


@options(quick={"programs": 8, "every": 15})
def run(
    quick: bool = False, *, only: str = "", programs: int = 30, every: int = 1
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: eight timed programs and a fifteenth of McEval's references in each language.
        only: comma-separated languages; by default all that are installed.
        programs: timed programs per language.
        every: run only every N-th reference.
    """
    at_least(1, programs=programs, every=every)
    report = Report()
    report.versions |= versions("codegen-toolkit")
    wanted = [find(name).name for name in only.split(",") if name] or list(LANGUAGES)
    found = {one.language.name: one for one in installed()}
    for name in wanted:
        if name not in found:
            report.install[name] = f"apt install {LANGUAGES[name].install}"
            report.set(f"{name}.references_total", None)
            continue
        say(name)
        report.versions[name] = found[name].version
        _measure(report, found[name], TASKS[: 1 if quick else None], programs, every)
        own = {key: value for key, value in report.figures.items() if key.startswith(f"{name}.")}
        say(", ".join(f"{key} {value}" for key, value in own.items()))
    return report.mapping()


def _measure(
    report: Report, toolchain: Toolchain, tasks: Sequence[str], programs: int, every: int
) -> None:
    name, workers = toolchain.language.name, usable_cores()
    jobs: list[Job] = []
    total = passed = 0
    with Sandbox(workers, languages=[name]) as sandbox:
        for task_name in tasks:
            try:
                task = load(f"{task_name}:{name}")
            except (ConfigError, InputError):  # unsupported language, or missing file
                continue
            problems = [p for p in task.problems() if task.reference(p)][::every]
            made = [task.job(p, task.reference(p)) for p in problems[:programs]]
            jobs += [job for job in made if isinstance(job, Job)]
            gate = check(task, sandbox, every=every)
            known = len(gate.exceptions)
            total += gate.references - known
            passed += gate.passed - len(gate.exceptions_passed)
            for id_, reason in gate.failures.items():
                report.notes.append(f"{task_name}:{name} {id_}: {' '.join(reason.split())[:200]}")
            if known:
                report.notes.append(f"{task_name}:{name}: {known} references fail unsandboxed.")
        report.set(f"{name}.references_total", total)
        report.set(f"{name}.references_passed", passed)
        _time(report, toolchain, jobs[:programs], workers)


def _time(report: Report, toolchain: Toolchain, jobs: Sequence[Job], workers: int) -> None:
    if not jobs:
        return
    name = toolchain.language.name
    hello = Job(HELLO[name], mode="stdio", language=name)
    with Sandbox(workers, languages=[name]) as fresh:  # a fresh sandbox has no cached builds
        list(fresh.map(enumerate([hello] * 4 * workers)))
        began = time.perf_counter()
        outcomes = [outcome for _, outcome in fresh.map(enumerate(jobs))]
        wall_s = time.perf_counter() - began
    count = len(jobs)
    compile_ms = 1000 * sum(outcome.compile_s for outcome in outcomes) / count
    run_ms = 1000 * sum(outcome.cpu_s for outcome in outcomes) / count
    report.set(f"{name}.programs_per_s", count / wall_s, count)
    report.set(f"{name}.compile_ms", compile_ms)
    report.set(f"{name}.run_ms", run_ms)
    report.set(f"{name}.cpu_ms", compile_ms + run_ms)
