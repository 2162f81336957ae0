"""Connection to a Ray cluster: an existing one, or one started on this machine for the run."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from codegen.core.errors import MachineError
from codegen.core.optional_deps import missing

_OBJECT_STORE_BYTES = 200 * 2**20
_CONNECT_S = 10.0


def usable_cpus() -> int:
    """Returns the number of CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def import_ray() -> ModuleType:
    """Imports and returns the ``ray`` module.

    Raises:
        MachineError: if it is not installed.
    """
    # Without this, under `uv run`, Ray sends the working directory to every node.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning
    try:
        import ray
    except ImportError:
        raise missing("ray", "Ray is not installed.") from None
    return ray


@contextmanager
def connected(address: str, workers: int | None) -> Iterator[tuple[ModuleType, int]]:
    """Yields the connected ``ray`` module and the number of actors to start.

    The connection is closed at the end, unless the process was already connected.

    Args:
        address: the cluster's ``host:port`` or ``ray://host:port``; ``auto`` finds a cluster
            running on this machine, ``local`` starts one here and stops it at the end. If empty,
            RAY_ADDRESS is used, else ``local``. Ignored if this process is already connected.
        workers: number of actors; None uses all CPUs of the cluster.

    Raises:
        MachineError: if Ray is not installed, or no cluster responds at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray, _actors(ray, workers)
        return
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        settings |= {
            "num_cpus": workers or usable_cpus(),
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    in_main = threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGTERM) if in_main else None
    try:
        try:
            _check_reachable(address)
            ray.init(address=address, **settings)
        except (OSError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
        if previous is not None:
            signal.signal(signal.SIGTERM, previous)  # ray.init replaces it
        yield ray, _actors(ray, workers)
    finally:
        ray.shutdown()


def last_line(error: BaseException) -> str:
    """Returns the line with a Ray error's cause, at most 300 characters."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


def _actors(ray: ModuleType, workers: int | None) -> int:
    return workers or max(1, int(ray.cluster_resources().get("CPU", 1)))


def _check_reachable(address: str) -> None:
    """Raises an OSError if no server listens at an address; Ray retries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()


def _no_cluster(address: str, error: BaseException) -> MachineError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    if address == "local":
        return MachineError(f"Ray could not start on this machine: {first}", "Remove -o ray.")
    return MachineError(
        f"Cannot connect to a Ray cluster at {address!r}: {first}",
        "Start one with `ray start --head`, or pass -o ray=local to start one here.",
    )
