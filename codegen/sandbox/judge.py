"""Computes the verdict on a job from the reports of the two sandboxes, as a pure function.

Three sources, in order of trust: how the program's process exited (from its zygote), how the tests'
process exited (from the other zygote), and the verdict of the tests' process. Data that the program
wrote is not read here.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, get_args

from codegen.core.records import Status

from .jobs import Job, ScriptJob
from .protocol.orders import JobEnded

_CHECKER_STATUSES = frozenset(get_args(Status)) - {"no_answer"} | {"gone"}
_NEAR_LIMIT = 0.8
MAX_MESSAGE_CHARS = 2000


@dataclass(frozen=True, slots=True)
class JudgedStatus:
    """A status with its message.

    Attributes:
        wall: whether to rerun it alone before recording ``timeout``.
        again: whether to rerun it in another test process before recording it.
    """

    status: Status
    message: str = ""
    wall: bool = False
    again: bool = False


@dataclass(frozen=True, slots=True)
class TestsReport:
    """The verdict of the tests' process: status, message and the trees of returned values."""

    status: str
    message: str
    values: list[Any]


def parse_report(row: Any) -> TestsReport | None:
    """Reads a verdict decoded from JSON; returns None if it is malformed."""
    try:
        report = TestsReport(row["status"], row["message"], row["values"])
    except (KeyError, TypeError):
        return None
    kinds = (type(report.status), type(report.message), type(report.values))
    return report if kinds == (str, str, list) and report.status in _CHECKER_STATUSES else None


def judge(
    job: Job,
    program: JobEnded,
    tests: JobEnded,
    report: TestsReport | None,
    output_bytes: int = 0,
    *,
    heard: bool = False,
) -> JudgedStatus:
    """Computes the status of a job.

    Args:
        output_bytes: size of its standard output.
        heard: True if the tests' process received data from the program, which could break it.
    """
    if report is not None and report.status == "bad_test":
        return JudgedStatus("bad_test", report.message)
    if (
        report is not None
        and report.status == "passed"
        and not (job.compares_output or job.mode == "calls")
    ):
        return JudgedStatus("passed")
    if program.reason == "output" or output_bytes > job.most_output:
        return JudgedStatus("output_limit", f"more than {job.most_output} bytes of output")
    if ended := _ended_at_a_limit(job, program):
        return ended
    if report is None:
        return _no_report(tests, heard)
    if report.status == "gone" or (job.compares_output and report.status in ("passed", "wrong")):
        ended = _ended_by_itself(job, program)
        if ended is not None:
            return ended
        if report.status == "gone":
            return JudgedStatus("exited", "the program closed its channel to the tests")
    if report.status == "infra_error":
        return JudgedStatus("error", report.message)  # only the driver may report infra_error
    return JudgedStatus(report.status, report.message)  # type: ignore[arg-type]


def judge_script(script: ScriptJob, program: JobEnded, output_bytes: int) -> JudgedStatus:
    """Returns the status of a program without tests, based on its exit."""
    if program.reason == "output" or output_bytes > script.most_output:
        return JudgedStatus("output_limit", f"more than {script.most_output} bytes of output")
    if ended := _ended_at_a_limit(script, program):
        return JudgedStatus(ended.status, ended.message)
    return _ended_by_itself(script, program) or JudgedStatus("passed")


def _ended_at_a_limit(job: Job | ScriptJob, program: JobEnded) -> JudgedStatus | None:
    limits = job.limits
    by_kernel = program.signal in (signal.SIGKILL, signal.SIGXCPU) and program.reason == "exit"
    if program.reason == "cpu" or (by_kernel and program.cpu_s >= limits.cpu_s):
        return JudgedStatus("timeout", f"more than {limits.cpu_s:g} s of CPU time")
    if program.reason == "memory":
        message = f"its processes and sockets together use more than {limits.memory_mib} MiB"
        return JudgedStatus("memory", message)
    if program.reason == "wall":
        message = f"{program.wall_s:.1f} s of wall time, {program.cpu_s:.2f} s of CPU time"
        return JudgedStatus("timeout", message, wall=True)
    return None


def _ended_by_itself(job: Job | ScriptJob, program: JobEnded) -> JudgedStatus | None:
    """Returns the status of a program that exited; None if it exited normally."""
    number = program.signal
    if number and program.reason == "exit":
        if number == signal.SIGKILL and program.rss_mib >= _NEAR_LIMIT * job.limits.memory_mib:
            return JudgedStatus("memory", f"killed with {program.rss_mib:.0f} MiB resident")
        return JudgedStatus("crashed", f"signal {signal_name(number)}")
    if number:
        return JudgedStatus("exited", "the program closed its channel to the tests")
    if program.exit_code or not (job.mode == "run" or job.compares_output):
        return JudgedStatus("exited", f"exit code {program.exit_code}")
    return None


def _no_report(tests: JobEnded, heard: bool) -> JudgedStatus:
    if tests.reason == "cpu" or tests.signal in (signal.SIGXCPU, signal.SIGPROF):
        return JudgedStatus(
            "timeout", f"the tests, not the program, used {tests.cpu_s:.1f} s of CPU"
        )
    if tests.reason == "wall":
        return JudgedStatus("timeout", "the tests, not the program, ran out of time", wall=True)
    # The kernel sends SIGKILL if the machine's memory is exhausted.
    if heard and tests.signal not in (0, signal.SIGKILL):
        name = signal_name(tests.signal)
        message = f"the program's answer killed the tests' process with signal {name}"
        return JudgedStatus("crashed", message, again=True)
    cause = f"signal {signal_name(tests.signal)}" if tests.signal else f"code {tests.exit_code}"
    return JudgedStatus("infra_error", f"the tests' process exited with {cause} and no verdict")


def signal_name(number: int) -> str:
    """Returns ``SIGSEGV`` for 11; the number itself for a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
