"""Tests are code too, and those of a service's client or of a received data set may be hostile:
they spoil no other job, no other owner's tests and never the driver.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Mode, Outcome, Sandbox
from codegen.sandbox.pool import Pool

VERDICT = {"status": "passed", "message": "", "values": [], "objects": False}
PASSED = json.dumps({"again": True, "cpu_s": 0.0, "verdict": VERDICT})
TEST = "import math\nassert math.isclose(f(1), 3)\n"
RIGHT, WRONG = Job("def f(x): return 3\n", test=TEST), Job("def f(x): return 41\n", test=TEST)

# Tests that import these run with the program, not in a process of tests.
MODULES = """\
import random
os = random._os
socket = getattr(os.sys, "modules")["socket"]
"""
# What a process of tests can send to the driver, which has the other end of descriptor 3.
NONSENSE = {
    "no JSON": "os.write(3, b'nonsense')",
    "deep": "os.write(3, b'[' * 60000)",
    "no object": "os.write(3, b'7')",
    "no verdict": "os.write(3, b'{}')",
    "wrong types": 'os.write(3, b\'{"verdict": [1], "again": [], "cpu_s": {}}\')',
    "huge number": f"os.write(3, b'{PASSED}'.replace(b'0.0', b'9' * 4000))",
    "a pipe": f"socket.send_fds(socket.socket(fileno=3), [b'{PASSED}'], [os.pipe()[0]])",
    "a device": f"socket.send_fds(socket.socket(fileno=3), [b'{PASSED}'], "
    "[os.open('/dev/zero', os.O_RDONLY)])",
    "much": f"[os.write(3, b'{PASSED}') for _ in range(50)]",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as opened:
        yield opened


@pytest.mark.parametrize("what", NONSENSE)
def test_what_tests_tell_the_driver_harms_no_other_job(sandbox: Sandbox, what: str) -> None:
    test = f"{MODULES}{NONSENSE[what]}\nassert f(1) == 3\n"
    beside = [sandbox.submit(job) for job in (RIGHT, WRONG)]
    sandbox.run(Job(RIGHT.program, test=test))
    assert [future.result().status for future in beside] == ["passed", "wrong"]
    assert [sandbox.run(job).status for job in (WRONG, RIGHT)] == ["wrong", "passed"]


def test_tests_of_one_owner_do_not_judge_those_of_another(sandbox: Sandbox) -> None:
    """A process of tests that has said that it takes another job, and believes every program."""
    test = f"""\
{MODULES}
driver = socket.socket(fileno=3)
driver.send({PASSED!r}.encode())
while driver.recvmsg(65536, 64)[0]:
    driver.send({PASSED!r}.encode())
"""
    assert sandbox.submit(Job(RIGHT.program, test=test), "hostile").result().passed
    assert sandbox.submit(WRONG, "hostile").result().passed  # it fools itself alone
    for owner in ("honest", "", "hostil", "hostile "):
        assert sandbox.submit(WRONG, owner).result().status == "wrong"
        assert sandbox.submit(RIGHT, owner).result().status == "passed"


def test_tests_beside_a_program_leave_nothing_in_the_process_of_others(sandbox: Sandbox) -> None:
    assert sandbox.run(RIGHT).passed
    patch = "import math\nmath.isclose = lambda *_, **__: True\nassert f(1) == 3\n"
    assert sandbox.run(Job(RIGHT.program, test=patch, mode="in_sandbox")).passed
    idle = Job(
        RIGHT.program, test=f"{patch}math.pi = 3\nassert (f(1), 'idle')\n", mode="in_sandbox"
    )
    assert sandbox.run(
        Job(idle.program, test="assert (f(1), 'x')\n", mode="in_sandbox")
    ).status == ("bad_test")
    assert sandbox.run(idle).passed
    assert sandbox.run(WRONG).status == "wrong"


def test_a_sandbox_that_has_ended_takes_no_jobs() -> None:
    pool, outcomes = Pool("auto", 1), list[Outcome | SandboxError]()
    pool.start()
    pool.close()
    pool.submit(RIGHT, outcomes.append)
    assert isinstance(outcomes[0], SandboxError) and "closed" in outcomes[0].message


CRASH = MODULES + (
    "load = getattr(getattr(os.sys, 'modules')['builtins'], '__import__')\n"
    "{}load('ctypes').string_at(0)\n"
)


def test_who_is_to_blame_for_the_end_of_the_process_of_tests(sandbox: Sandbox) -> None:
    program = "def add(a, b): return a + b\n"
    before = sandbox.run(Job(program, CRASH.format("") + "assert add(1, 2) == 3\n"))
    assert before.status == "infra_error", before
    after = sandbox.run(Job(program, CRASH.format("assert add(1, 2) == 3\n")))
    assert after.status == "crashed" and "SIGSEGV" in after.message, after


@pytest.mark.parametrize("base", ["StopIteration", "StopAsyncIteration", "OSError", "SystemExit"])
@pytest.mark.parametrize("mode", ["isolated", "blinded"])
def test_an_exception_of_the_program_fails_it(sandbox: Sandbox, base: str, mode: Mode) -> None:
    program = f"class S({base}): pass\ndef add(a, b): raise S()\n"
    test = "for case in [(1, 2)]:\n    assert add(*case) == 3\n"
    assert sandbox.run(Job(program, test, mode=mode)).status in ("error", "exited", "wrong")


@pytest.mark.parametrize("end", ["raise SystemExit", "import sys; sys.exit(0)", "exit()"])
def test_a_program_that_exits_in_the_process_of_its_tests_fails(sandbox: Sandbox, end: str) -> None:
    """Tests may exit with code 0; a program may not, although nothing else tells them apart."""
    tests = "x = add(1, 2)\nassert x == 3\n"
    job = Job(f"def add(a, b):\n    {end}\n", tests, mode="in_sandbox")
    assert sandbox.run(job).status == "exited"
    right = "def add(a, b): return a + b\n"
    assert sandbox.run(Job(right, f"{tests}exit(0)\n", mode="in_sandbox")).status == "passed"
