"""Runs model-written programs safely, with tests that they cannot access.

    >>> program = "def f(x): return x + 1"
    >>> with Sandbox() as sandbox:
    ...     sandbox.run(Job(program, test="assert f(1) == 2")).status
    'passed'
    >>> Sandbox().run(program, calls=["f(1)", ("f", [2])]).values  # opened for this call only
    (2, 3)

Each program runs in its own process without network, files or other processes, under limits on
time, memory and output. Its tests run in another sandbox and get only the plain values it returns,
or run in its process without their expected values. ``ClusterSandbox`` runs on a Ray cluster.

See ``jobs`` for the modes, ``blinding`` for tests without expected values, ``isolation`` for the
protection layers, ``protocol.wire`` for returnable values, ``judge`` for the statuses.

docs/sandbox.md has the design, the measurements, and a comparison with other harnesses.

It does not protect against kernel bugs that a program can reach through the allowed system calls,
or against side channels (timing, load). A program can forge verdicts of mode ``in_sandbox``.
"""

from .cluster import ClusterSandbox
from .jobs import Call, CallResult, Job, Limits, Mode, Outcome, SandboxProtocol, ScriptJob
from .probes import Probe, probe
from .sandbox import Sandbox

__all__ = [
    "Call", "ClusterSandbox", "Job", "Limits", "Mode", "Outcome", "Probe", "CallResult", "Sandbox",
    "SandboxProtocol", "ScriptJob", "probe",
]  # fmt: skip
