"""The verdict as a function of what the two sandboxes report."""

from __future__ import annotations

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.sandbox import Job, Limits, Mode
from codegen.sandbox.judge import TestsReport, judge, parse_report
from codegen.sandbox.protocol.orders import JobEnded

JOB = Job("x = 1\n", limits=Limits(cpu_s=2.0, memory_mib=512))


def end(
    reason: str = "exit", status: int = 0, cpu_s: float = 0.1, rss_mib: float = 20.0
) -> JobEnded:
    return JobEnded(0, reason, status, cpu_s, 0.2, rss_mib)  # type: ignore[arg-type]


def report(status: str, message: str = "") -> TestsReport:
    return TestsReport(status, message, [])


KILLED = signal.SIGKILL
ORDERED = end("order", KILLED)


@pytest.mark.parametrize(
    ("program", "tests", "verdict", "status"),
    [
        (ORDERED, end(), report("passed"), "passed"),
        (ORDERED, end(), report("wrong"), "wrong"),
        (end("exit", KILLED, 2.1), end(), report("gone"), "timeout"),
        (end("exit", signal.SIGXCPU, 2.1), end(), report("gone"), "timeout"),
        (end("cpu", KILLED, 2.1), end(), report("gone"), "timeout"),
        (end("cpu", KILLED, 2.1), end(), report("error"), "timeout"),
        (end("wall", KILLED), end(), report("gone"), "timeout"),
        (end("exit", KILLED, 0.1, 500), end(), report("gone"), "memory"),
        (end("exit", KILLED), end(), report("gone"), "crashed"),
        (end("exit", signal.SIGSEGV), end(), report("gone"), "crashed"),
        (end("exit", 3 << 8), end(), report("gone"), "exited"),
        (end("exit", 0), end(), report("gone"), "exited"),
        (ORDERED, end(), report("gone"), "exited"),
        (ORDERED, end("cpu", KILLED), None, "timeout"),
        (ORDERED, end("exit", signal.SIGXCPU), None, "timeout"),
        (ORDERED, end("exit", signal.SIGSEGV), None, "infra_error"),
        (ORDERED, end("exit", 125 << 8), None, "infra_error"),
        (ORDERED, end(), report("bad_test"), "bad_test"),
        (ORDERED, end(), report("infra_error"), "error"),
    ],
    ids=str,
)
def test_isolated(
    program: JobEnded, tests: JobEnded, verdict: TestsReport | None, status: str
) -> None:
    assert judge(JOB, program, tests, verdict).status == status


@pytest.mark.parametrize("mode", ["isolated", "in_sandbox", "stdio", "calls"])
@pytest.mark.parametrize(
    ("how", "heard", "status"),
    [
        (signal.SIGSEGV, True, "crashed"),
        (signal.SIGABRT, True, "crashed"),
        (signal.SIGSEGV, False, "infra_error"),  # the tests' own doing
        (KILLED, True, "infra_error"),  # the machine's memory is exhausted
        (1 << 8, True, "infra_error"),
    ],
)
def test_a_program_that_breaks_the_process_of_its_tests_has_failed(
    mode: Mode, how: int, heard: bool, status: str
) -> None:
    calls = [("x", None)] if mode == "calls" else ()
    job = Job("x = 1\n", mode=mode, calls=calls, limits=JOB.limits)
    found = judge(job, ORDERED, end("exit", how), None, heard=heard)
    assert (found.status, found.again) == (status, status == "crashed")


def test_only_the_clock_asks_for_another_run() -> None:
    assert judge(JOB, end("wall", KILLED), end(), report("gone")).wall
    assert not judge(JOB, end("cpu", KILLED), end(), report("gone")).wall


@pytest.mark.parametrize(
    ("program", "verdict", "size", "status"),
    [
        (end(), "passed", 10, "passed"),
        (end(), "wrong", 10, "wrong"),
        (end("exit", 1 << 8), "passed", 10, "exited"),
        (end("exit", signal.SIGABRT), "passed", 10, "crashed"),
        (ORDERED, "passed", 10, "exited"),
        (end("cpu", KILLED), "passed", 10, "timeout"),
        (end(), "passed", 65537, "output_limit"),
        (end("exit", 1 << 8), "error", 10, "error"),
    ],
    ids=str,
)
def test_stdio(program: JobEnded, verdict: str, size: int, status: str) -> None:
    job = Job("x = 1\n", mode="stdio", limits=JOB.limits)
    assert judge(job, program, end(), report(verdict), size).status == status


ROWS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.sampled_from(["status", "message", "values"]) | st.text(), inner)
    ),
)


@given(ROWS)
def test_a_report_is_read_or_refused(row: object) -> None:
    assert parse_report(row) is None or isinstance(row, dict)


@pytest.mark.parametrize(
    "row",
    [
        [],
        {},
        {"status": "won", "message": "", "values": []},
        {"status": "passed", "message": 1, "values": []},
        {"status": "passed", "message": "", "values": {}},
        {"status": ["passed"], "message": "", "values": []},
    ],
    ids=str,
)
def test_malformed_reports_are_refused(row: object) -> None:
    assert parse_report(row) is None


def test_a_report_is_read() -> None:
    row = {"status": "wrong", "message": "m", "values": [1]}
    assert parse_report(row) == TestsReport("wrong", "m", [1])
