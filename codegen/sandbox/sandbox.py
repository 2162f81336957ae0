"""The public interface of the sandbox: a context manager that runs jobs."""

from __future__ import annotations

import queue
import sys
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Literal, TypeVar

from codegen.core.cluster import usable_cpus
from codegen.core.errors import InputError, SandboxError
from codegen.core.records import Trust

from .jobs import PYTHON, Call, Job, Limits, Outcome, ScriptJob, is_empty
from .languages import Toolchain, find, toolchains
from .languages.programs import Builds, build_job, program_of
from .packages import find_packages, with_pytest
from .pool import Done, PendingJob, Pool

Key = TypeVar("Key")

# Increase this when verdicts may change, since stored verdicts are reused within a revision.
REVISION = 16
PATIENCE_S = 5.0  # maximum wait of a job that must be rerun alone


class Sandbox:
    """Context manager that runs untrusted programs safely.

    Leaving it, or any exit of this process, stops everything that runs in it.

    Args:
        workers: number of sandbox pairs, each with a few jobs in flight; by default one per
            core that this process may use. They are started on demand.
        unsafe_local: whether to run programs without a sandbox if the machine has none.
        backend: ``auto``, or ``bwrap``, ``namespaces`` or ``unsafe_local`` to use only that
            backend; ``unsafe_local`` requires ``unsafe_local=True`` as well.
        packages: installed packages that programs and tests may import, such as ``numpy``, with
            their requirements; or directories, by names with a slash. They are mounted read-only.
        languages: languages of programs besides Python, see :mod:`.languages`; their compilers and
            interpreters are mounted read-only.
        least_trust: :attr:`Job.least_trust` for all jobs.
        hash_seed: Python's hash seed, which determines the order of sets.

    Raises:
        ConfigError: for a package that is not installed, or an unknown language.
        MissingToolchainError: for a language that is not installed.
        SandboxError: on entering, if programs cannot run safely here.
    """

    def __init__(
        self,
        workers: int | None = None,
        unsafe_local: bool = False,
        backend: Literal["auto", "bwrap", "namespaces", "unsafe_local"] = "auto",
        packages: Sequence[str] = (),
        languages: Sequence[str] = (),
        least_trust: Trust = "in_sandbox",
        hash_seed: int = 0,
    ) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"workers is {workers}; it must be at least 1.")
        if backend == "unsafe_local" and not unsafe_local:
            raise SandboxError(
                "Backend unsafe_local runs programs without a sandbox.",
                "Pass unsafe_local=True as well if you accept that.",
            )
        self._workers = workers or usable_cpus()
        self._unsafe_local = unsafe_local
        self._backend = backend
        self._packages = replace(with_pytest(find_packages(packages)), hash_seed=hash_seed)
        self._toolchains = toolchains([name for name in languages if name != PYTHON])
        self._builds = Builds()
        self._least_trust: Trust = least_trust
        self._pool: Pool | None = None
        self._description: dict[str, Any] = {}

    def __enter__(self) -> Sandbox:
        self._pool, zygote = self._open()
        identity = zygote.way.identity
        self._description = {
            "backend": zygote.way.backend,
            "job_identity": identity,
            "layers": sorted(name for name, holds in zygote.ready["layers"].items() if holds),
            "python": zygote.ready["python"],
            "revision": REVISION,
            "safe": identity != "none",
        }
        if self._least_trust != "in_sandbox":
            self._description["least_trust"] = self._least_trust
        if self._packages.hash_seed:
            self._description["hash_seed"] = self._packages.hash_seed
        if self._packages.pytest:
            self._description["pytest"] = self._packages.pytest
        if self._packages.versions:
            self._description["packages"] = dict(self._packages.versions)
        if self._toolchains:
            versions = {name: found.version for name, found in self._toolchains.items()}
            self._description["languages"] = dict(sorted(versions.items()))
        return self

    def _open(self) -> tuple[Pool, Any]:
        if sys.platform != "linux":
            raise SandboxError(
                "The sandbox needs Linux.",
                "Run codegen serve sandbox on Linux, and set CODEGEN_SANDBOX_URL to its address.",
            )
        tools = [bind for found in self._toolchains.values() for bind in found.prepared_binds()]
        packages = replace(self._packages, tools=tuple(dict.fromkeys(tools)))
        pool = Pool(self._backend, self._workers, packages)
        try:
            if self._toolchains and self._backend == "unsafe_local":
                raise SandboxError("Programs in other languages run only in a real sandbox.")
            return pool, pool.start()
        except SandboxError:
            if not self._unsafe_local or self._backend != "auto" or self._toolchains:
                raise
        pool = Pool("unsafe_local", self._workers, self._packages)
        return pool, pool.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops all sandboxes; safe to call twice."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @property
    def capacity(self) -> int:
        """Maximum number of simultaneous jobs."""
        return self._running().capacity

    @property
    def process_ids(self) -> list[int]:
        """Process ids of the programs' sandboxes; a broken sandbox is replaced."""
        return [worker.programs.process.pid for worker in self._running().workers]

    @property
    def languages(self) -> tuple[str, ...]:
        """Canonical names of the supported languages."""
        return (PYTHON, *self._toolchains)

    def describe(self) -> dict[str, Any]:
        """Returns the backend, the layers in force and the Python version, as JSON values.

        Sandboxes with equal descriptions return the same verdicts, so cache keys include the
        description.
        """
        self._running()
        return dict(self._description)

    def run(
        self,
        program: Job | ScriptJob | str,
        calls: Sequence[Call] = (),
        limits: Limits | None = None,
    ) -> Outcome:
        """Runs one program. A sandbox that is not open is opened for this call only.

            >>> outcome = Sandbox().run("def f(x): return x * 2", calls=["f(21)", ("f", ["ab"])])
            >>> outcome.values
            (42, 'abab')

        Args:
            program: a job, a script, or the source of a program.
            calls: for source, calls to evaluate after executing it; see mode ``calls`` of
                :class:`Job`. The outcome's ``results`` has an entry for each.
            limits: for source, the limits.

        Raises:
            InputError: for an unusable job (such as ``calls`` with an argument that is not plain).
            SandboxError: if the sandbox broke, or none can be opened.
        """
        if not isinstance(program, (Job, ScriptJob, str)):
            raise InputError(
                f"program must be a string, a Job or a ScriptJob, not {type(program).__name__}."
            )
        if isinstance(calls, str) or not isinstance(calls, Sequence):
            raise InputError("calls must be a list.", "For a single call, pass calls=[...].")
        if isinstance(program, str):
            job = Job(program, mode="calls", calls=tuple(calls), limits=limits or Limits())
        elif calls or limits is not None:
            raise InputError("A job includes its calls and limits; do not pass them again.")
        else:
            job = program
        if self._pool is not None:
            return self.submit(job).result()
        if job.is_foreign and not self._toolchains:
            self._toolchains = toolchains([job.language])
        with self:
            return self.submit(job).result()

    def check(self, program: str, language: str) -> Outcome:
        """Checks a program in another language for errors without running it.

        The language's own checker finds syntax errors, in compiled languages also type errors. The
        status is ``passed`` if it finds none, else ``compile_error`` with a message.

        Raises:
            ConfigError, InputError: for an unknown language, or one that the sandbox was not
            opened for. SandboxError: if the sandbox is not open, or broke.
        """
        job = build_job(program, language)
        command = program_of(job, self._toolchain(job)).check
        results: queue.SimpleQueue[Outcome | SandboxError] = queue.SimpleQueue()
        pool = self._running()
        pool.enqueue(pool.task(job, results.put, command))
        outcome = results.get()
        if isinstance(outcome, SandboxError):
            raise outcome
        return outcome

    def submit(self, job: Job | ScriptJob, owner: str = "") -> Future[Outcome]:
        """Queues one job; the future gets its outcome, or a :class:`SandboxError`.

        A job whose future is canceled before it starts does not run. Tests of different owners run
        in different processes, so that they cannot reach each other.

        Raises:
            InputError: for an unusable job. SandboxError: if the sandbox is not open.
        """
        self._running()
        future: Future[Outcome] = Future()
        if refused := refusal(job, self._least_trust):
            future.set_result(refused)
            return future

        def done(outcome: Outcome | SandboxError) -> None:
            if not future.set_running_or_notify_cancel():
                return
            if isinstance(outcome, SandboxError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        task = self._submit(job, done, owner)
        task.patience_s = PATIENCE_S

        def note_cancelled(future: Future[Outcome]) -> None:
            task.cancelled = future.cancelled()

        future.add_done_callback(note_cancelled)
        return future

    def map(
        self, items: Iterable[tuple[Key, Job | ScriptJob]]
    ) -> Generator[tuple[Key, Outcome], None, None]:
        """Runs jobs and yields their outcomes in completion order.

        The input is read a few jobs ahead; closing the iterator drops unfinished jobs.

        Raises:
            InputError: for an unusable job. SandboxError: if the sandbox is not open, or broke.
        """
        pool = self._running()
        results: queue.SimpleQueue[tuple[int, Outcome | SandboxError]] = queue.SimpleQueue()
        waiting: dict[int, tuple[Key, PendingJob]] = {}
        source = enumerate(items)
        exhausted = False
        try:
            while True:
                # Submits a few at a time, so that the pool's thread is not woken for each job.
                room = 2 * pool.capacity if len(waiting) <= 1.5 * pool.capacity else 0
                while not exhausted and len(waiting) < room:
                    item = next(source, None)
                    if item is None:
                        exhausted = True
                        break
                    number, (key, job) = item
                    if refused := refusal(job, self._least_trust):
                        yield key, refused
                        continue

                    def done(outcome: Outcome | SandboxError, number: int = number) -> None:
                        results.put((number, outcome))

                    waiting[number] = (key, self._submit(job, done))
                if not waiting:
                    return
                number, outcome = results.get()
                key, _ = waiting.pop(number)
                if isinstance(outcome, SandboxError):
                    raise outcome
                yield key, outcome
        finally:
            for _, task in waiting.values():
                task.cancelled = True

    def _submit(self, job: Job | ScriptJob, done: Done, owner: str = "") -> PendingJob:
        """Queues a job, or first the build of its program."""
        pool = self._running()
        if not job.is_foreign:
            return pool.submit(job, done, owner)
        return self._builds.submit(pool, program_of(job, self._toolchain(job)), done)

    def _toolchain(self, job: Job | ScriptJob) -> Toolchain:
        name = find(job.language).name
        if name not in self._toolchains:
            raise InputError(
                f"This sandbox was not opened for programs in {name}.",
                f"Open it with Sandbox(languages=[{name!r}]).",
            )
        return self._toolchains[name]

    def _running(self) -> Pool:
        if self._pool is None:
            raise SandboxError(
                "The sandbox is not open.", "Use it as `with Sandbox() as sandbox:`."
            )
        return self._pool


def refusal(job: Job | ScriptJob, least: Trust = "in_sandbox") -> Outcome | None:
    """Returns the outcome of a job without code or with insufficient trust, else None."""
    if not isinstance(job, Job):
        return None
    if is_empty(job):
        return Outcome("empty", job.trust, message="no code")
    if short := [each for each in (job.least_trust, least) if not job.reaches(each)]:
        found = job.blinded
        sites, named = (found.sites, found.open) if found else (0, ())
        message = f"its tests reach trust {job.trust}, but {short[0]} is required"
        return Outcome("refused", job.trust, message=message, sites=sites, open_sites=named)
    return None
