"""Each status and each mode, one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from suites import suite

from codegen.benchmarks.tools.suites import SURROUNDINGS
from codegen.core.errors import ConfigError, InputError, SandboxError
from codegen.core.records import UNJUDGED, Status
from codegen.sandbox import Job, Limits, Mode, Sandbox

ADD = "def add(a, b):\n    return a + b\n"
CHECK = "def check(f):\n    assert f(1, 2) == 3\n    assert f(5, 7) == 12\n"
SHORT = Limits(cpu_s=0.5, memory_mib=256)


SUITE = suite("sandbox_statuses")
CASES: list[tuple[str, Status, str]] = SUITE["cases"]


@pytest.mark.parametrize(("program", "status", "message"), CASES, ids=lambda case: repr(case)[:40])
def test_status(sandbox: Sandbox, program: str, status: Status, message: str) -> None:
    outcome = sandbox.run(Job(program, test=CHECK, entry_point="add", limits=SHORT))
    assert outcome.status == status, outcome
    assert message in outcome.message
    assert outcome.trust == "isolated"


def test_the_cases_cover_all_statuses_a_program_can_get() -> None:
    # The others are not the program's.
    ours = set(get_args(Status)) - {"no_answer", "compile_error", *UNJUDGED}
    assert {status for _, status, _ in CASES} == ours


@pytest.mark.parametrize("test", ["def check(:\n", "import no_such_module\n"], ids=repr)
def test_a_test_that_cannot_run_is_not_the_programs_fault(sandbox: Sandbox, test: str) -> None:
    setup = test if "import" in test else ""
    outcome = sandbox.run(Job(ADD, test=CHECK if setup else test, setup=setup, entry_point="add"))
    assert outcome.status == "bad_test"
    assert "Error" in outcome.message


def test_usage_is_measured(sandbox: Sandbox) -> None:
    program = "import time\nx = bytearray(50 << 20)\nwhile time.process_time() < 0.3: pass\n" + ADD
    outcome = sandbox.run(Job(program, test=CHECK, entry_point="add"))
    assert outcome.passed
    assert 0.25 < outcome.cpu_s < 1.5
    assert outcome.wall_s >= outcome.cpu_s * 0.9
    assert 50 < outcome.memory_mib < 200


def test_cpu_time_of_child_processes_counts(sandbox: Sandbox) -> None:
    program = (
        "import os, time\ndef add(a, b):\n    for _ in range(3):\n        if os.fork() == 0:\n"
        "            while True: pass\n    time.sleep(100)\n"
    )
    outcome = sandbox.run(
        Job(program, test=CHECK, entry_point="add", limits=Limits(cpu_s=1.0, memory_mib=256))
    )
    assert outcome.status == "timeout"
    # The time of its children: it only sleeps. (On a very busy machine the clock ends them.)
    assert outcome.cpu_s > 0.1


def test_sleeping_is_ended_by_the_clock_and_tried_twice(sandbox: Sandbox) -> None:
    limits = Limits(cpu_s=0.2, memory_mib=256)
    start = time.monotonic()
    outcome = sandbox.run(Job("import time\ntime.sleep(100)\n", test=CHECK, limits=limits))
    assert outcome.status == "timeout" and "of wall time" in outcome.message
    assert 3 * limits.wall_s <= time.monotonic() - start < 100


def test_slow_tests_do_not_count_as_the_programs_time(sandbox: Sandbox) -> None:
    test = (
        "import time\ndef check(f):\n    end = time.process_time() + 1.2\n"
        "    while time.process_time() < end: pass\n    assert f(1, 2) == 3\n"
    )
    limits = Limits(cpu_s=4.0, memory_mib=256)
    outcome = sandbox.run(Job(ADD, test=test, entry_point="add", limits=limits))
    assert outcome.passed and outcome.cpu_s < 0.8


def test_wrong_and_error_are_told_apart_by_where_they_arise(sandbox: Sandbox) -> None:
    program = "def add(a, b):\n    assert False, 'mine'\n"
    assert sandbox.run(Job(program, test=CHECK, entry_point="add")).status == "error"
    test = (
        "def check(f):\n    try:\n        f(1, 2)\n    except AssertionError:\n        return\n"
        "    raise ValueError\n"
    )
    assert sandbox.run(Job(program, test=test, entry_point="add")).passed


def test_tests_cannot_catch_away_the_end_of_the_program(sandbox: Sandbox) -> None:
    test = "def check(f):\n    try:\n        f(1, 2)\n    except BaseException:\n        pass\n"
    for body, status in (("import os; os._exit(0)", "exited"), ("raise SystemExit", "exited")):
        program = f"def add(a, b):\n    {body}\n"
        assert sandbox.run(Job(program, test=test, entry_point="add")).status == status


def test_setup_helps_the_test_but_cannot_stand_in_for_the_program(sandbox: Sandbox) -> None:
    test = "def check(f):\n    assert f(double(1), 2) == 4\n"
    setup = "def double(x):\n    return 2 * x\n" + ADD
    assert sandbox.run(Job(ADD, test=test, setup=setup, entry_point="add")).passed
    for mode in ("isolated", "in_sandbox"):
        job = Job("x = 1\n", test=test, setup=setup, entry_point="add", mode=mode)
        outcome = sandbox.run(job)
        assert outcome.status == "error" and "NameError" in outcome.message


PLAIN = SUITE["plain"]


@pytest.mark.parametrize(("program", "test", "status"), PLAIN, ids=lambda case: repr(case)[:50])
def test_plain_asserts(sandbox: Sandbox, program: str, test: str, status: Status) -> None:
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.status == status, outcome


STDIO = SUITE["stdio"]


@pytest.mark.parametrize(
    ("size", "status"), [(0, "passed"), (40_000, "passed"), (1 << 20, "output_limit")]
)
def test_stdio_writes_what_is_expected_and_more(sandbox: Sandbox, size: int, status: str) -> None:
    """The limit grows with what is expected, beyond the size of a file."""
    expected = "line of the output\n" * (17 << 20 >> 4)
    program = f"import sys\nfor _ in range({len(expected) // 19}): print('line of the output')\n"
    small = Limits(output_bytes=65536, file_mib=1)
    limits = Limits(output_bytes=65536, file_mib=1, cpu_s=20)
    job = Job(
        program + f"print(' ' * {size})\n", mode="stdio", expected_stdout=expected, limits=limits
    )
    assert sandbox.run(job).passed
    expected = "x" * 200_000
    job = Job(
        f"print('x' * 200000 + ' ' * {size})", mode="stdio", expected_stdout=expected, limits=small
    )
    outcome = sandbox.run(job)
    assert outcome.status == status, outcome.message
    assert len(outcome.stdout) <= small.output_bytes


@pytest.mark.parametrize("name", [n for n, job in SURROUNDINGS.items() if job.mode == "stdio"])
def test_scripts_do_the_same_where_python_runs_them(name: str, tmp_path: Path) -> None:
    job = SURROUNDINGS[name]
    script = tmp_path / "main.py"
    script.write_text(job.program)
    (tmp_path / "input").write_text(job.stdin)
    with (tmp_path / "input").open("rb") as stdin:
        done = subprocess.run(
            [sys.executable, str(script)], stdin=stdin, capture_output=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().rstrip() == (job.expected_stdout or "").rstrip()


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_honest_programs_do(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(SURROUNDINGS[name])
    assert outcome.passed, outcome


@pytest.mark.parametrize(("program", "expected", "status"), STDIO, ids=lambda case: repr(case)[:50])
def test_stdio(sandbox: Sandbox, program: str, expected: str, status: Status) -> None:
    job = Job(program, mode="stdio", stdin="1 2\n", expected_stdout=expected, limits=SHORT)
    outcome = sandbox.run(job)
    assert outcome.status == status, outcome
    assert outcome.trust == "stdio"
    assert len(outcome.stdout.encode()) <= SHORT.output_bytes


def test_large_input_and_output_do_not_block(sandbox: Sandbox) -> None:
    data = "".join(f"line {n} \N{SNOWMAN}\n" for n in range(50_000))
    limits = Limits(output_bytes=2 << 20)
    program = "import sys\nsys.stdout.write(sys.stdin.read())\n"
    job = Job(program, mode="stdio", stdin=data, expected_stdout=data, limits=limits)
    outcome = sandbox.run(job)
    assert outcome.passed and outcome.stdout == data


def test_in_sandbox_sees_the_programs_objects(sandbox: Sandbox) -> None:
    program = "class Point:\n    def __init__(self, x):\n        self.x = x\n"
    test = "assert Point(3).x == 3\nassert isinstance(Point(1), Point)\n"
    outcome = sandbox.run(Job(program, test=test, mode="in_sandbox"))
    assert outcome.passed and outcome.trust == "in_sandbox"
    wrong = sandbox.run(Job(program, test="assert Point(3).x == 4\n", mode="in_sandbox"))
    assert wrong.status == "wrong"
    for early in ("import os\nos._exit(0)\n", "import sys\nsys.exit(0)\n"):
        ended = sandbox.run(Job(program + early, test=test, mode="in_sandbox"))
        assert ended.status == "exited"
    job = Job(ADD, test=CHECK, entry_point="add", mode="in_sandbox")
    assert sandbox.run(job).passed


def test_workers_have_a_processor_each_if_all_have_as_many() -> None:
    cores = os.sched_getaffinity(0)
    program = "import os\ndef f():\n    return sorted(os.sched_getaffinity(0))\n"
    job = Job(program, mode="calls", calls=[("f", ())])
    for workers in {len(cores), 2 * len(cores) - 1}:
        with Sandbox(workers) as sandbox:
            # So many at a time that all workers are started.
            outcomes = [o for _, o in sandbox.map((i, job) for i in range(12 * workers))]
        seen = {tuple(outcome.values[0]) for outcome in outcomes}
        assert {core for some in seen for core in some} == cores
        if workers % len(cores) == 0:
            assert all(len(some) == 1 for some in seen)
        else:
            assert seen == {tuple(sorted(cores))}
    assert os.sched_getaffinity(0) == cores


OUTPUTS = SUITE["outputs"]


@pytest.mark.parametrize(("program", "status", "output"), OUTPUTS, ids=lambda case: repr(case)[:50])
@pytest.mark.parametrize("mode", ["isolated", "in_sandbox"])
def test_what_a_program_printed_is_kept(
    sandbox: Sandbox, mode: Mode, program: str, status: Status, output: str
) -> None:
    outcome = sandbox.run(Job(program, test="assert f(1) == 1\n", mode=mode, limits=SHORT))
    assert (outcome.status, outcome.stdout) == (status, output), outcome


def test_calls_return_values(sandbox: Sandbox) -> None:
    program = "print('hello')\noutput = [1, (2, {3})]\ndef f(*a):\n    return a\n"
    job = Job(program, mode="calls", calls=[("output", None), ("f", [1, "x", {"k": b"v"}])])
    outcome = sandbox.run(job)
    assert outcome.passed
    assert outcome.values == ([1, (2, {3})], (1, "x", {"k": b"v"}))
    assert outcome.stdout == "hello\n"


def test_calls_that_fail(sandbox: Sandbox) -> None:
    program = "def f(x):\n    return 1 // x\n"
    outcome = sandbox.run(Job(program, mode="calls", calls=[("f", [1]), ("f", [0]), ("f", [1])]))
    assert outcome.status == "error" and outcome.values == (1,)
    assert "ZeroDivisionError" in outcome.message
    assert [result.ok for result in outcome.results] == [True, False, True]
    assert outcome.results[2].value == 1 and "ZeroDivisionError" in outcome.results[1].error
    outcome = sandbox.run(Job(program, mode="calls", calls=[("g", [])]))
    assert outcome.status == "error" and "NameError" in outcome.message
    big = Job("def f():\n    return 'x' * 70000\n", mode="calls", calls=[("f", [])])
    assert sandbox.run(big).status == "output_limit"
    with pytest.raises(InputError, match="object"):
        sandbox.run(Job(program, mode="calls", calls=[("f", [object()])]))


def test_a_users_own_program(sandbox: Sandbox) -> None:
    program = "N = [1]\ndef f(a, *, b=0):\n    return a + b\ndef stop():\n    raise SystemExit\n"
    calls = ["f(20) + 1", ("f", (2,)), ("f", [2], {"b": 3}), ("N", None), "f(", "f(a=N, b=[2])"]
    outcome = sandbox.run(program, calls=calls)
    assert [result.value for result in outcome.results] == [21, 2, 5, [1], None, [1, 2]]
    assert outcome.status == "error" and "SyntaxError" in outcome.results[4].error
    assert outcome.values == (21, 2, 5, [1])
    assert sandbox.run(program).passed
    ended = sandbox.run(program, calls=["f(1)", "stop()", "f(2)"])
    assert ended.status == "exited" and ended.values == (1,) and len(ended.results) == 1
    slow = sandbox.run("while True: pass", limits=Limits(cpu_s=0.3))
    assert slow.status == "timeout"
    unusable = [
        *("f(1)", 5, [5], [(1, [])], [("f", "ab")], [("f",)], [("f", [object()])]),
        *([("f", [1], 5)], [("f", [1], {2: 3})], [("f", [1], {}, 4)]),
    ]
    with pytest.raises(InputError, match="program"):
        sandbox.run(5)  # type: ignore[arg-type]
    for bad in unusable:
        with pytest.raises(InputError, match="call"):
            sandbox.run(program, calls=bad)  # type: ignore[arg-type]


def test_run_opens_a_closed_sandbox_for_one_program() -> None:
    try:
        closed = Sandbox(workers=1)
        assert closed.run("x = 6", calls=["x * 7"]).values == (42,)
        assert closed.run("x = 6", calls=["x * 8"]).values == (48,)
    except SandboxError as error:
        pytest.skip(str(error))
    with pytest.raises(SandboxError, match="not open"):
        closed.describe()


def test_objects_come_back_opaque(sandbox: Sandbox) -> None:
    program = "class C:\n    pass\ndef f():\n    return [C()]\n"
    outcome = sandbox.run(Job(program, mode="calls", calls=[("f", [])]))
    assert outcome.passed
    assert repr(outcome.values[0][0]) == "<opaque C>"


def test_jobs_share_nothing(sandbox: Sandbox) -> None:
    leave = (
        "import os, builtins, math\nbuiltins.left = math.left = 1\nopen('left', 'w').write('x')\n"
    )
    look = (
        "import os, builtins, math\n"
        "def f():\n    return os.listdir('.'), hasattr(builtins, 'left'), hasattr(math, 'left')\n"
    )
    assert sandbox.run(Job(leave, mode="calls")).passed
    outcome = sandbox.run(Job(look, mode="calls", calls=[("f", [])]))
    assert outcome.values == (([".shm"], False, False),)


def test_sets_have_the_same_order_in_every_run() -> None:
    job = Job(
        "def f():\n    return list({str(n) for n in range(20)})\n", mode="calls", calls=[("f", [])]
    )
    orders = set()
    for _ in range(2):
        try:
            with Sandbox(workers=1) as opened:
                orders.add(tuple(opened.run(job).values[0]))
        except SandboxError as error:
            pytest.skip(str(error))
    assert len(orders) == 1


def test_map_is_lazy_and_keeps_keys(sandbox: Sandbox) -> None:
    read = []

    def items() -> Iterator[tuple[int, Job]]:
        for n in range(1000):
            read.append(n)
            program = f"def f():\n    return {n}\n" if n % 5 else ""
            yield n, Job(program, mode="calls", calls=[("f", [])])

    results = sandbox.map(items())
    seen = [next(results) for _ in range(50)]
    assert len(read) < 80
    results.close()
    for key, outcome in seen:
        assert outcome.status == "empty" if key % 5 == 0 else outcome.values == (key,)
    assert len({key for key, _ in seen}) == 50
    assert sandbox.run(Job(ADD, test=CHECK, entry_point="add")).passed


def test_run_inside_map(sandbox: Sandbox) -> None:
    jobs = [(n, Job(ADD, test=CHECK, entry_point="add")) for n in range(10)]
    for _, outcome in sandbox.map(jobs):
        assert outcome.passed
        assert sandbox.run(jobs[0][1]).passed


def test_an_error_of_the_input_passes_through(sandbox: Sandbox) -> None:
    def items() -> Iterator[tuple[int, Job]]:
        yield 1, Job(ADD, test=CHECK, entry_point="add")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(sandbox.map(items()))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="cpu_s"):
        Limits(cpu_s=0)
    with pytest.raises(InputError, match="mode"):
        Job("x", mode="trusted")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="memory_mib"):
        Limits(memory_mib=300.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="test"):
        Job("x", test=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="workers"):
        Sandbox(workers=0)
    with pytest.raises(SandboxError, match="not open"):
        next(Sandbox().map([(1, Job("x"))]))
    with pytest.raises(InputError, match="do not pass them again"):
        Sandbox().run(Job("x"), calls=["x"])
    with pytest.raises(SandboxError, match="unsafe_local"):
        Sandbox(backend="unsafe_local")


def test_describe_is_stable_and_says_what_holds(sandbox: Sandbox) -> None:
    description = sandbox.describe()
    assert description == sandbox.describe()
    assert description["safe"] is True
    assert {"job_pid_namespace", "net_namespace", "no_new_privs"} <= set(description["layers"])
    assert os.fspath(description["python"]).count(".") == 2
