"""Tests that use pytest are run by pytest, out of the program's reach."""

from __future__ import annotations

import pytest

from codegen.evals.sandbox import Job, Sandbox

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


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def f(n):\n    import pytest\n    pytest.skip('no')\n", "    assert f(1) == 3\n"),
        ("def f(n):\n    import pytest\n    pytest.exit('no', 0)\n", "    assert f(1) == 3\n"),
        ("import unittest\ndef f(n):\n    raise unittest.SkipTest\n", "    assert f(1) == 3\n"),
        (
            "def f(n):\n    raise KeyboardInterrupt\n",
            "    try:\n        assert f(1) == 3\n    except KeyboardInterrupt:\n        raise\n",
        ),
        (
            "class E:\n    __eq__ = __le__ = lambda s, o: True\n"
            "    __sub__ = __rsub__ = lambda s, o: 0.0\n    __abs__ = __float__ = lambda s: 3.0\n"
            "def f(n):\n    return E()\n",
            "    assert f(1) == pytest.approx(3.0)\n    assert pytest.approx(3.0) == f(1)\n",
        ),
        (
            "class M(type):\n    __subclasscheck__ = __instancecheck__ = lambda c, k: True\n"
            "class Err(Exception, metaclass=M):\n    pass\ndef f(n):\n    return 0\n",
            "    with pytest.raises(Err):\n        assert f(1) == 3\n",
        ),
        (
            "import os\ndef f(n):\n    os.environ['PYTEST_ADDOPTS'] = '--collect-only'\n"
            "    return n\n",
            "    os.environ['A'] = '1'\n    assert f(3) == 3\n    assert f(1) == 3\n",
        ),
        (
            "import pytest\npytestmark = pytest.mark.skip\n__test__ = False\n"
            "@pytest.fixture(autouse=True)\ndef skips():\n    pytest.skip('no')\n"
            "def pytest_generate_tests(metafunc):\n    pytest.skip('no')\n"
            "def f(n):\n    return n\n",
            "    assert f(1) == 3\n",
        ),
    ],
    ids=["skip", "exit", "SkipTest", "interrupt", "approx", "raises", "options", "fixtures"],
)
def test_a_program_cannot_end_or_pass_the_tests(sandbox: Sandbox, program: str, test: str) -> None:
    job = Job(program, test=f"import os\nimport pytest\ndef test_f():\n{test}")
    outcome = sandbox.run(job)
    assert outcome.status in ("wrong", "error"), outcome


def test_a_class_of_tests_that_derives_from_the_program_is_not_believed(sandbox: Sandbox) -> None:
    program = "class B:\n    def __init__(self):\n        pass\ndef f(n):\n    return 0\n"
    test = "import pytest\nclass TestF(B):\n    def test_f(self):\n        assert f(1) == 3\n"
    outcome = sandbox.run(Job(program, test=test))
    assert outcome.trust == "in_sandbox" and len(outcome.open_sites) == 1


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("def test_f(mocker):\n    assert f(1) == 2\n", "knows no fixture 'mocker'"),
        (
            "import pytest\n@pytest.mark.parametrize('n', [1])\ndef test_f():\n    f(1)\n",
            "can't collect",
        ),
        ("import pytest\ndef test_f():\n    pytest.skip()\n    assert f(1) == 2\n", "test nothing"),
    ],
)
def test_tests_that_cannot_run_are_bad(sandbox: Sandbox, test: str, said: str) -> None:
    outcome = sandbox.run(Job(RIGHT, test=test))
    assert outcome.status == "bad_test" and said in outcome.message


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("def test_f(capsys):\n    assert f(1) == 3\n", "line 2: assert f(1) == 3"),
        (
            "import pytest\ndef test_f():\n    with pytest.raises(ValueError):\n        f(1)\n",
            "DID NOT RAISE",
        ),
        (
            "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_f():\n    assert f(1) == 2\n",
            "XPASS",
        ),
    ],
)
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
    monkeypatch.setattr("codegen.evals.sandbox.packages.PYTEST", "no-such-package")
    with Sandbox(1) as bare:
        outcome = bare.run(Job(RIGHT, test="def test_f(capsys):\n    assert f(1) == 2\n"))
    assert outcome.status == "bad_test" and "pip install pytest" in outcome.message
