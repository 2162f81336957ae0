"""The sandbox on every CPU of a Ray cluster, for runs of thousands of programs.

Each CPU has a Ray actor with a one-worker sandbox; Ray restarts dead actors and resends their jobs.
Only this package's records pass between processes, with a program's results as plain values.

Verdicts must not depend on the node, so the sandboxes of all nodes must have equal descriptions.

Limits: all outcomes pass through the process that calls :meth:`ClusterSandbox.map`. Every node
needs the same versions of this package and Python, and a sandbox backend.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from codegen.core.cluster import connected, last_line
from codegen.core.errors import InputError, SandboxError

from .jobs import Job, Outcome, pack_calls
from .sandbox import Sandbox, refusal

Key = TypeVar("Key")

BATCH = 16
BATCHES_AHEAD = 3  # per actor, so that none waits for the driver
TRIES = 3


class ClusterSandbox:
    """A :class:`Sandbox` on the actors of a Ray cluster; a context manager.

    Args:
        address: cluster address, see :func:`codegen.core.cluster.connected`.
        workers: number of actors with one CPU each; None uses all CPUs of the cluster.
        unsafe_local, packages, languages: see :class:`Sandbox`.

    Raises:
        MachineError: on entering, if Ray is not installed or not reachable.
        SandboxError: on entering, if a node cannot run programs safely, or nodes differ.
    """

    def __init__(
        self,
        address: str = "",
        workers: int | None = None,
        unsafe_local: bool = False,
        packages: Sequence[str] = (),
        languages: Sequence[str] = (),
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers is {workers}; it must be at least 1.")
        self._address = address
        self._workers = workers
        self._unsafe_local = unsafe_local
        self._packages = tuple(packages)
        self._languages = tuple(languages)
        self._ray: ModuleType | None = None
        self._connection = ExitStack()
        self._actors: list[Any] = []
        self._description: dict[str, object] = {}

    def __enter__(self) -> ClusterSandbox:
        ray, count = self._connection.enter_context(connected(self._address, self._workers))
        self._ray = ray
        try:
            # Two threads: while one waits for its last job, the other starts the next batch.
            kind = ray.remote(
                num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1, max_concurrency=2
            )(_Worker)
            settings = (sys.path, self._unsafe_local, self._packages, self._languages)
            self._actors = [kind.remote(*settings) for _ in range(count)]
            descriptions = ray.get([actor.describe.remote() for actor in self._actors])
        except ray.exceptions.RayError as error:
            self.close()
            raise SandboxError(f"Ray's workers cannot open a sandbox: {last_line(error)}") from None
        except BaseException:
            self.close()
            raise
        self._description = descriptions[0]
        if any(other != self._description for other in descriptions):
            self.close()
            raise SandboxError(
                "The sandboxes of the cluster's nodes differ, so verdicts would too.",
                "Install the same Python and backend on all nodes (`codegen doctor` on each).",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the actors and their sandboxes; safe to call twice."""
        ray, self._ray = self._ray, None
        if ray is None:
            return
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._connection.close()

    def describe(self) -> dict[str, Any]:
        """Returns :meth:`Sandbox.describe`; the same on every node."""
        self._running()
        return dict(self._description)

    def map(self, items: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Outcome], None, None]:
        """Runs jobs and yields their outcomes in completion order.

        The input is read a few batches ahead.

        Raises:
            InputError: for an unusable job. SandboxError: if the sandbox is not open.
        """
        ray = self._running()
        source = iter(items)
        idle = self._actors * BATCHES_AHEAD
        running: dict[object, tuple[object, list[tuple[Key, Job]]]] = {}
        try:
            while True:
                while idle and (batch := list(islice(source, BATCH))):
                    runnable = []
                    for key, job in batch:
                        if refused := refusal(job):
                            yield key, refused
                        else:
                            pack_calls(job)
                            runnable.append((key, job))
                    if runnable:
                        actor = idle.pop()
                        task = actor.run.remote([job for _, job in runnable])
                        running[task] = actor, runnable
                if not running:
                    return
                (task,), _ = ray.wait(list(running), num_returns=1)
                actor, batch = running.pop(task)
                idle.append(actor)
                outcomes = self._outcomes(ray, task, [job for _, job in batch])
                yield from zip([key for key, _ in batch], outcomes, strict=True)
        finally:
            for task in running:
                ray.cancel(task, force=False)

    def _outcomes(self, ray: ModuleType, task: object, jobs: Sequence[Job]) -> Sequence[Outcome]:
        try:
            return ray.get(task)
        except ray.exceptions.RayError as error:
            reason = f"the cluster's worker failed {TRIES} times: {last_line(error)}"
            return [Outcome("infra_error", job.trust, message=reason) for job in jobs]

    def _running(self) -> ModuleType:
        if self._ray is None:
            raise SandboxError(
                "The sandbox is not open.", "Use it as `with ClusterSandbox() as sandbox:`."
            )
        return self._ray


class _Worker:
    """Ray actor with an open sandbox."""

    def __init__(
        self,
        path: Sequence[str],
        unsafe_local: bool,
        packages: Sequence[str] = (),
        languages: Sequence[str] = (),
    ) -> None:
        sys.path.extend(folder for folder in path if folder not in sys.path)
        sandbox = Sandbox(
            workers=1, unsafe_local=unsafe_local, packages=packages, languages=languages
        )
        self._sandbox = sandbox.__enter__()

    def describe(self) -> dict[str, Any]:
        """Returns :meth:`Sandbox.describe`."""
        return self._sandbox.describe()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Returns the outcomes of a batch, in job order."""
        done = dict(self._sandbox.map(enumerate(jobs)))
        return [done[number] for number in range(len(jobs))]
