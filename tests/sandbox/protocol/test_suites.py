"""Tests that use pytest are run by pytest, out of the program's reach."""

from __future__ import annotations

import pytest
from suites import suite

from codegen.sandbox import Job, Sandbox

SUITE = suite("pytest_tests")
RIGHT = "def f(x):\n    return x + 1\n"
# A program that returns what it finds in its surroundings, if that is among the expected values.
SPY = """\
import os, re, sys
def f(n):
    seen = [dict(os.environ), os.getcwd(), sys.argv, *os.walk("/tmp")]
    return next((int(m) for m in re.findall(r"[0-9]{4,}", repr(seen)) if m in "97319 44417"), 0)
"""


def test_parameters_are_not_in_what_the_program_sees(sandbox: Sandbox) -> None:
    test = (
        "import pytest\n@pytest.mark.parametrize('n, want', [(1, 97319), (2, 44417)])\n"
        "def test_f(n, want, tmp_path, monkeypatch, capsys):\n"
        "    monkeypatch.setenv('X', '1')\n    monkeypatch.chdir(tmp_path)\n"
        "    assert f(n) == want\n"
    )
    assert sandbox.run(Job(SPY, test=test)).status == "wrong"


@pytest.mark.parametrize(("program", "test"), SUITE["programs"].values(), ids=SUITE["programs"])
def test_a_program_cannot_end_or_pass_the_tests(sandbox: Sandbox, program: str, test: str) -> None:
    job = Job(program, test=f"import os\nimport pytest\ndef test_f():\n{test}")
    outcome = sandbox.run(job)
    assert outcome.status in ("wrong", "error"), outcome


def test_a_class_of_tests_that_derives_from_the_program_is_not_believed(sandbox: Sandbox) -> None:
    program = "class B:\n    def __init__(self):\n        pass\ndef f(n):\n    return 0\n"
    test = "import pytest\nclass TestF(B):\n    def test_f(self):\n        assert f(1) == 3\n"
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.trust == "in_sandbox" and len(outcome.open_sites) == 1


@pytest.mark.parametrize(("test", "said"), SUITE["bad"])
def test_tests_that_cannot_run_are_bad(sandbox: Sandbox, test: str, said: str) -> None:
    outcome = sandbox.run(Job(RIGHT, test=test))
    assert outcome.status == "bad_test" and said in outcome.message


@pytest.mark.parametrize(("test", "said"), SUITE["failures"])
def test_a_failure_says_where(sandbox: Sandbox, test: str, said: str) -> None:
    outcome = sandbox.run(Job(RIGHT, test=test))
    assert outcome.status == "wrong" and said in outcome.message


def test_coroutines_run(sandbox: Sandbox) -> None:
    program = "async def f(x):\n    return x + 1\n"
    test = "import pytest\n@pytest.mark.asyncio\nasync def test_f():\n    assert await f(1) == {}\n"
    assert sandbox.run(Job(program, test=test.format(2))).passed
    assert sandbox.run(Job(program, test=test.format(3))).status == "wrong"


@pytest.mark.parametrize("mode", ["isolated", "in_sandbox"])
def test_fixtures_beside_the_program(sandbox: Sandbox, mode: str) -> None:
    test = (
        "import pytest\n@pytest.fixture(params=[1, 2])\ndef n(request):\n    yield request.param\n"
        "def test_f(n, capsys):\n    assert f(n) == {}\n"
    )
    right = Job(RIGHT, test=test.format("n + 1"), mode=mode)  # type: ignore[arg-type]
    wrong = Job(RIGHT, test=test.format("2"), mode=mode)  # type: ignore[arg-type]
    assert sandbox.run(right).passed
    assert sandbox.run(wrong).status == "wrong"


def test_without_pytest_fixtures_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("codegen.sandbox.packages.PYTEST", "no-such-package")
    with Sandbox(1) as bare:
        outcome = bare.run(Job(RIGHT, test="def test_f(capsys):\n    assert f(1) == 2\n"))
    assert outcome.status == "bad_test" and "pip install pytest" in outcome.message
