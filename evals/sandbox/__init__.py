"""Runs model-written programs where they can do no harm and judges them out of their reach.

    >>> program = "def f(x): return x + 1"
    >>> with Sandbox() as sandbox:
    ...     sandbox.run(Job(program, test="assert f(1) == 2")).status
    'passed'
    >>> Sandbox().run(program, calls=["f(1)", ("f", [2])]).values  # opened for this call alone
    (2, 3)

Each program runs in a process of its own without network, files or neighbors, under limits of
time, memory and output. Its tests run in another sandbox and see only the plain values it returns,
or in its process without the values that they expect.
``ClusterSandbox`` is the same over a Ray cluster.

See ``jobs`` for the modes, ``blinding`` for tests without expected values, ``inner.confine`` for
the layers, ``inner.wire`` for what can be
returned, ``judge`` for the statuses.

docs/sandbox.md has the design, the measurements, and other harnesses beside it.

What it does not protect against: faults of the kernel that a program can reach through the system
calls left to it, and side channels (timing, load). Verdicts of mode ``in_sandbox`` can be forged by
the program.
"""

from .cluster import ClusterSandbox
from .jobs import Call, Job, Limits, Mode, Outcome, Result, SandboxProtocol, Script
from .probes import Probe, probe
from .sandbox import Sandbox

__all__ = [
    "Call", "ClusterSandbox", "Job", "Limits", "Mode", "Outcome", "Probe", "Result", "Sandbox",
    "SandboxProtocol", "Script", "probe",
]  # fmt: skip
