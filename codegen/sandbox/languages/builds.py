"""Builds programs of compiled languages before they run, once for all jobs with the same source."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from codegen.core.errors import SandboxError
from codegen.sandbox.jobs import Outcome

from .programs import TestedProgram, build_job, built_files

if TYPE_CHECKING:
    from codegen.sandbox.pool import Done, PendingJob, Pool

_MOST_KEPT = 256 << 20  # bytes


class Builds:
    """A cache of recent builds by content, and the jobs waiting for a compiler."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, dict[str, bytes]] = OrderedDict()
        self._bytes = 0
        self._waiting: dict[str, list[tuple[TestedProgram, PendingJob]]] = {}

    def submit(self, pool: Pool, program: TestedProgram, done: Done) -> PendingJob:
        """Queues a program, or its build first; ``done`` is called once with the outcome, in the
        pool's thread.
        """
        build = program.build
        task = pool.task(program.job, done)
        with self._lock:
            files = {} if build is None else self._files.get(program.key)
            if files is None:
                waiting = self._waiting.setdefault(program.key, [])
                waiting.append((program, task))
                if len(waiting) > 1:
                    return task
            elif build is not None:
                self._files.move_to_end(program.key)
        if files is None:

            def built(outcome: Outcome | SandboxError) -> None:
                self._built(pool, program.key, outcome)

            pool.enqueue(pool.task(build_job(program.source, program.job.language), built, build))
        else:
            task.command = program.run(files)
            pool.enqueue(task)
        return task

    def _built(self, pool: Pool, key: str, outcome: Outcome | SandboxError) -> None:
        failed = files = None
        if isinstance(outcome, SandboxError):
            failed = outcome
        else:
            try:
                files = built_files(outcome.stdout) if outcome.passed else None
            except (ValueError, TypeError, RecursionError):
                outcome = replace(outcome, message="the compiler's output files are unreadable")
            failed = None if files else _not_built(outcome)
        with self._lock:
            if files:
                self._put(key, files)
            waiting = self._waiting.pop(key)
        for place, (program, task) in enumerate(waiting):
            if isinstance(failed, SandboxError):
                task.done(failed)
            elif failed is not None:
                task.done(replace(failed, trust=program.job.trust))
            else:
                assert isinstance(outcome, Outcome) and files is not None
                task.compile_s = 0.0 if place else outcome.cpu_s
                task.command = program.run(files)
                pool.enqueue(task)

    def _put(self, key: str, files: dict[str, bytes]) -> None:
        """Stores a build's files, and evicts the least recently used builds."""
        self._files[key] = files
        self._bytes += sum(map(len, files.values()))
        while self._bytes > _MOST_KEPT and len(self._files) > 1:
            _, dropped = self._files.popitem(last=False)
            self._bytes -= sum(map(len, dropped.values()))


def _not_built(outcome: Outcome) -> Outcome:
    """Returns the outcome of jobs whose compiler failed."""
    if outcome.status == "infra_error":
        return outcome
    message = outcome.message
    if outcome.status not in ("compile_error", "passed"):
        message = f"the compiler ended with {outcome.status}: {message}"
    figures = {"cpu_s": 0.0, "stdout": "", "compile_s": outcome.cpu_s}
    return replace(outcome, status="compile_error", message=message, **figures)
