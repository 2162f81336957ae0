"""The sandbox on every CPU of a Ray cluster, for runs of many thousand programs.

One Ray actor per CPU has a sandbox of one worker; Ray restarts an actor that dies and sends its
jobs again. Only our own records pass between processes; what a program returns is in them as plain
values.

A verdict must not depend on the node, so the sandboxes of all nodes must have equal descriptions.

Limits: all outcomes pass through the process that calls :meth:`ClusterSandbox.map`. Every node
needs this package and Python in the same versions, and a backend of the sandbox.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from codegen.cluster import connected, last_line
from codegen.errors import InputError, SandboxError

from .jobs import Job, Outcome, pack_calls
from .sandbox import Sandbox, refusal

Key = TypeVar("Key")

BATCH = 16
BATCHES_AHEAD = 3  # for each actor, so that none waits for the driver
TRIES = 3


class ClusterSandbox:
    """As :class:`Sandbox`, over the actors of a Ray cluster. A context manager.

    Args:
        address: of the cluster, see :func:`codegen.cluster.connected`.
        workers: the number of actors, of one CPU each; None takes all CPUs of the cluster.
        unsafe_local, packages, languages: see :class:`Sandbox`.

    Raises:
        MachineError: on entering, if Ray is not installed or not reached.
        SandboxError: on entering, if a node has no safe way to run programs, or nodes differ in it.
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
            raise InputError(f"The sandbox got {workers} workers; it needs at least 1.")
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
            # Two threads: while one waits for its last job, the other has begun the next batch.
            kind = ray.remote(
                num_cpus=1, max_restarts=-1, max_task_retries=TRIES - 1, max_concurrency=2
            )(_Worker)
            settings = (sys.path, self._unsafe_local, self._packages, self._languages)
            self._actors = [kind.remote(*settings) for _ in range(count)]
            descriptions = ray.get([actor.describe.remote() for actor in self._actors])
        except ray.exceptions.RayError as error:
            self.close()
            raise SandboxError(f"Ray's workers can't open a sandbox: {last_line(error)}") from None
        except BaseException:
            self.close()
            raise
        self._description = descriptions[0]
        if any(other != self._description for other in descriptions):
            self.close()
            raise SandboxError(
                "The sandboxes of the cluster's nodes differ, so verdicts would too.",
                "Give all nodes the same Python and the same backend (`codegen doctor` on each).",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the actors, and with them their sandboxes; safe to call twice."""
        ray, self._ray = self._ray, None
        if ray is None:
            return
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []
        self._connection.close()

    def describe(self) -> dict[str, Any]:
        """As :meth:`Sandbox.describe`; the same on every node."""
        self._running()
        return dict(self._description)

    def map(self, items: Iterable[tuple[Key, Job]]) -> Generator[tuple[Key, Outcome], None, None]:
        """Runs jobs and yields their outcomes as they finish, in no fixed order.

        The input is read some batches ahead.

        Raises:
            InputError: if a job can't be used. SandboxError: if the sandbox is not open.
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
            reason = f"the worker of the cluster failed {TRIES} times: {last_line(error)}"
            return [Outcome("infra_error", job.trust, message=reason) for job in jobs]

    def _running(self) -> ModuleType:
        if self._ray is None:
            raise SandboxError(
                "The sandbox is not open.", "Use it as `with ClusterSandbox() as sandbox:`."
            )
        return self._ray


class _Worker:
    """An actor: an open sandbox."""

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
        """See :meth:`Sandbox.describe`."""
        return self._sandbox.describe()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """The outcomes of a batch, in its order."""
        done = dict(self._sandbox.map(enumerate(jobs)))
        return [done[number] for number in range(len(jobs))]
