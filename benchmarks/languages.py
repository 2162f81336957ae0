"""Languages: reference solutions judged in the sandbox, beside plain runs of the same programs.

What: for each language that is installed, the references of McEval and HumanEvalPack, as far
as their files are in the folder that ``CODEGEN_TEST_DATA`` names. Per language ``L``:

- ``L.references_total``, ``L.references_passed``: references run, those that are known to fail
  plainly too left out, and those that pass here.
- ``L.programs_per_s``, ``L.cpu_ms``: of the timed programs, each compiled, run and judged once;
  CPU time of the compiler and the program.
- ``L.compile_ms``, ``L.run_ms``: CPU time of either phase.
- ``L.exit_forged``: of so many problems with a program in the place of the solution that only ends
  itself with status 0, those that pass; by MultiPL-E's rule (exit status 0) all would.

Against (``L.plain_...``): the same files compiled and run by subprocesses in a directory of their
own, as many at a time as the sandbox has workers, by the commands that people type: no precompiled
header, no archive of classes, no limits, no sandbox.

Limits: the programs are small, so what is measured is compilers and the start of runtimes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.machine import usable_cores, versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least
from codegen.errors import ConfigError, InputError
from codegen.evals.sandbox import Job, Sandbox
from codegen.evals.sandbox.languages import HELLO, LANGUAGES, Toolchain, find, installed
from codegen.evals.sandbox.languages.programs import Program, program_of
from codegen.evals.tasks import load
from codegen.evals.tasks.check import check

TASKS = ("mceval", "humanevalpack")
# How people compile, where that is not how the sandbox does.
PLAIN: Mapping[str, Sequence[Sequence[str]]] = {
    "cpp": (("g++", "-std=c++17", "-w", "-o", "main", "main.cpp"),),
    "csharp": (("mcs", "-d:DEBUG", "-r:System.Numerics.dll", "-out:main.exe", "main.cs"),),
    "kotlin": (("kotlinc", "-nowarn", "-d", "classes.jar", "main.kt"),),
    "scala": (("scalac", "-nowarn", "main.scala"),),
    "swift": (("swiftc", "-Onone", "-suppress-warnings", "-o", "main", "main.swift"),),
    "java": (("sh", "-c", "javac -cp .:/usr/share/java/javatuples.jar *.java"),),
    "go": (
        ("sh", "-c", "GOPATH=/usr/share/gocode GO111MODULE=off GOFLAGS= go build -o main *.go"),
    ),
}
ENDS: Mapping[str, str] = {
    "bash": "exit 0",
    "c": "exit(0);",
    "cpp": "std::exit(0);",
    "csharp": "System.Environment.Exit(0);",
    "go": "os.Exit(0)",
    "java": "System.exit(0);",
    "javascript": "process.exit(0);",
    "lua": "os.exit(0)",
    "perl": "exit(0);",
    "php": "exit(0);",
    "r": "quit('no', 0)",
    "ruby": "exit!",
    "rust": "std::process::exit(0);",
    "scala": "sys.exit(0)",
    "swift": "exit(0)",
    "typescript": "process.exit(0);",
}


def run(
    quick: bool = False, *, only: str = "", programs: int = 30, every: int = 1
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: eight timed programs and a tenth of McEval's references in each language.
        only: comma-separated languages; by default all that are installed.
        programs: timed programs in each language.
        every: only every so many-th reference.
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
        if quick:
            _measure(report, found[name], TASKS[:1], 8, 10)
        else:
            _measure(report, found[name], TASKS, programs, every)
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
            except (ConfigError, InputError):  # it has no such language, or the file is not here
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
                report.notes.append(f"{task_name}:{name}: {known} references fail plainly, too.")
        report.set(f"{name}.references_total", total)
        report.set(f"{name}.references_passed", passed)
        _forge(report, sandbox, name)
        _time(report, toolchain, jobs[:programs], workers)


def _forge(report: Report, sandbox: Sandbox, name: str) -> None:
    """How many problems of MultiPL-E a program passes that ends itself."""
    try:
        task: Any = load(f"multipl_e:{name}")
    except (ConfigError, InputError):
        return
    problems = task.problems()[:10]
    task.prepare(problems, sandbox)
    jobs = [(p.id, task.job(p, f"{p.prompt}\n{ENDS[name]}\n{_closing(name)}")) for p in problems]
    outcomes = [outcome for _, outcome in sandbox.map(jobs)]
    report.set(f"{name}.exit_forged", sum(outcome.passed for outcome in outcomes), len(jobs))
    report.samples[f"{name}.isolated"] = sum(o.trust == "isolated" for o in outcomes)


def _closing(name: str) -> str:
    """What ends a function that the tests do not end."""
    if name in ("ruby", "lua"):
        return "end"
    return "}" if name in ("javascript", "typescript", "php", "perl", "r", "go") else ""


def _time(report: Report, toolchain: Toolchain, jobs: Sequence[Job], workers: int) -> None:
    if not jobs:
        return
    name = toolchain.language.name
    hello = Job(HELLO[name], mode="stdio", language=name)
    with Sandbox(workers, languages=[name]) as fresh:  # it has compiled none of them yet
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
    programs = [program_of(job, toolchain) for job in jobs]
    before, began = _children_s(), time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(_plainly, programs))
    report.set(f"{name}.plain_programs_per_s", count / (time.perf_counter() - began), count)
    report.set(f"{name}.plain_cpu_ms", 1000 * (_children_s() - before) / count)


def _plainly(program: Program) -> bool:
    """Compiles and runs a program in a directory of its own. No model wrote it."""
    language = program.toolchain.language
    built = program.build
    order = built or program.run({})
    with tempfile.TemporaryDirectory() as folder:
        for file, content in order.files.items():
            Path(folder, file).write_bytes(content)
        toolchain = program.toolchain
        here = {toolchain.tools[tool]: path for tool, path in toolchain.here.items()}
        last = program.run({}).commands[-1]
        commands = [*(PLAIN.get(language.name) or (built.commands if built else ())), last]
        for command in commands:
            where = [here.get(part, part).replace("/tmp/", f"{folder}/") for part in command]
            done = subprocess.run(
                [part.replace("/tmp:", f"{folder}:") for part in where],
                cwd=folder,
                env={**os.environ, "CODEGEN_TOKEN": "0"},
                capture_output=True,
                timeout=120,
                check=False,
            )
            if done.returncode:
                return False
    return True


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
