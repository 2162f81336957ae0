"""HumanEval+ and MBPP+: comparing, special oracles, expected results and their cache."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import InputError, SandboxError
from codegen.evals import tasks
from codegen.evals.tasks.evalplus import cache_file
from codegen.sandbox import Job, Outcome, Sandbox

ROW = {
    "task_id": "HumanEval/900",
    "prompt": "def f(x, y):\n",
    "entry_point": "f",
    "canonical_solution": "    return x / y\n",
    "base_input": [[1, 2], [4, 2]],
    "plus_input": [[2, 3], [1, 7]],
    "atol": 0,
}


@pytest.fixture
def plus(write_rows: Callable[[list[Any]], Path], cache: None) -> Callable[..., tasks.Task[Any]]:
    def make(name: str = "humaneval-plus", **changes: Any) -> tasks.Task[Any]:
        return tasks.load(name, str(write_rows([{**ROW, **changes}])))

    return make


def judge(task: tasks.Task[Any], sandbox: Sandbox, program: str) -> Outcome:
    task.prepare(task.problems(), sandbox)
    return sandbox.run(job_of(task, program))


def job_of(task: tasks.Task[Any], program: str = "x = 1") -> Job:
    job = task.job(task.problems()[0], program)
    assert isinstance(job, Job)
    return job


def test_a_program_must_pass_all_inputs(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox
) -> None:
    task = plus()
    assert judge(task, sandbox, task.reference(task.problems()[0])).passed
    assert judge(task, sandbox, "def f(x, y): return x * (1 / y)").passed  # rounding differs
    base_only = judge(task, sandbox, "def f(x, y): return x / y if y == 2 else 0.0")
    assert base_only.status == "wrong"
    assert "plus test 1: f(2, 3) is 0.0, expected 0.666" in base_only.message
    assert "base test 2: f(4, 2)" in judge(task, sandbox, "def f(x, y): return 0.5").message
    assert judge(task, sandbox, "def f(x, y): return 1 // 0").status == "error"


def test_a_float_result_does_not_loosen_later_tests(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox
) -> None:
    """EvalPlus 0.3.1 keeps the tolerance that a float result switched on."""
    task = plus(
        prompt="def f(x):\n",
        canonical_solution="    return 0.5 if x == 0 else x\n",
        base_input=[[0]],
        plus_input=[[10**9]],
    )
    # One more than a thousand million is within numpy's relative tolerance, but no float.
    off = judge(task, sandbox, "def f(x): return 0.5 if x == 0 else x + 1")
    assert off.status == "wrong"


def test_the_root_of_humaneval_32(plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox) -> None:
    """EvalPlus 0.3.1 fails every solution, the reference included."""
    task = plus(
        task_id="HumanEval/32",
        prompt="def f(xs):\n",
        canonical_solution="    return 1.0\n",
        base_input=[[[2, -3, 1]]],
        plus_input=[],
        atol=1e-4,
    )
    assert judge(task, sandbox, "def f(xs): return 1.0").passed
    assert judge(task, sandbox, "def f(xs): return 2.0").passed
    assert judge(task, sandbox, "def f(xs): return 1.5").status == "wrong"


def test_hostile_results_do_not_pass(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox
) -> None:
    always = (
        "class A(float):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0.0\n"
    )
    always += "    __rsub__ = __sub__\n\ndef f(x, y): return A(0)\n"
    assert judge(plus(), sandbox, always).status == "wrong"
    # Nor by calling what the tests' side uses.
    assert judge(plus(), sandbox, "def f(x, y): return EXPECTED[0]").status == "error"


def test_results_too_large_to_keep_are_judged_by_their_digest(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox
) -> None:
    task = plus(
        prompt="def f(n):\n",
        canonical_solution="    return [i / 2 for i in range(n)]\n",
        base_input=[[3]],
        plus_input=[[130_000]],
    )
    problem = task.problems()[0]
    assert judge(task, sandbox, task.reference(problem)).passed
    ints = "def f(n): return [i // 2 if i % 2 == 0 else i / 2 for i in range(n)]"
    assert judge(task, sandbox, ints).passed
    wrong = "def f(n):\n    out = [i / 2 for i in range(n)]\n    out[-1] = 0 if n > 3 else 1.0\n"
    outcome = judge(task, sandbox, wrong + "    return out\n")
    assert outcome.status == "wrong"
    assert "plus test 1" in outcome.message
    forged = "def digest_call(*a): return 'digest', 'x'\n\ndef f(n): return [0.0, 0.5, 1.0]\n"
    assert judge(task, sandbox, forged).status == "wrong"
    helper = "def digest(x): return x\n\ndef f(n): return digest([i / 2 for i in range(n)])\n"
    assert judge(task, sandbox, helper).passed  # its own names are not touched


def test_expected_results_are_computed_once(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox
) -> None:
    first = plus()
    first.prepare(first.problems(), sandbox)

    class NoSandbox:
        def describe(self) -> dict[str, Any]:
            return {}

        def map(self, items: Any) -> Iterator[Any]:
            assert list(items) == []
            return iter(())

    again = plus()
    again.prepare(again.problems(), NoSandbox())
    problem = again.problems()[0]
    assert job_of(again) == job_of(first)
    path = cache_file(problem, again.reference(problem))
    assert json.loads(path.read_text())["results"].startswith("[0.5,2.0,0.666")
    path.write_text('{"cpu_s":')  # as a killed process would not leave it, but a full disk might
    third = plus()
    third.prepare(third.problems(), sandbox)
    assert job_of(third).test == job_of(first).test
    other = plus(canonical_solution="    return y / x\n")
    assert cache_file(other.problems()[0], other.reference(other.problems()[0])) != path


def test_judging_without_preparing_says_so(plus: Callable[..., tasks.Task[Any]]) -> None:
    task = plus()
    with pytest.raises(SandboxError, match="HumanEval/900 were not prepared"):
        task.job(task.problems()[0], "x = 1")


def test_a_reference_that_fails_is_named(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox
) -> None:
    task = plus(plus_input=[[1, 0]])
    with pytest.raises(SandboxError, match="HumanEval/900 cannot be run on its inputs"):
        task.prepare(task.problems(), sandbox)


def test_slow_references_get_their_programs_more_time(
    plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = plus()
    task.prepare(task.problems(), sandbox)
    problem = task.problems()[0]
    assert job_of(task).limits.cpu_s == 6.0
    from codegen.evals.tasks import evalplus
    from codegen.evals.tasks.evalplus import ExpectedOutputs

    results = task.expected(problem).results  # type: ignore[attr-defined]
    slow = {problem.id: ExpectedOutputs(results, 5.0)}
    monkeypatch.setattr(evalplus, "expected_results", lambda *_: slow.items())
    task = plus()
    task.prepare(task.problems(), sandbox)
    assert job_of(task).limits.cpu_s == 24.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base_input": 3}, "'base_input' must be a list of argument lists"),
        ({"plus_input": [1]}, "'plus_input' must be a list of argument lists"),
        ({"atol": "x"}, "'atol' must be a number"),
        ({"prompt": None}, "'prompt' is not a string"),
        ({"entry_point": "f(x)"}, "is not a Python identifier"),
    ],
)
def test_broken_rows_are_named(
    plus: Callable[..., tasks.Task[Any]], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        plus(**changes)


@pytest.mark.parametrize(
    ("number", "written", "meant"),
    [
        (2, [[1, 2], [3]], [(1, 2), (3,)]),
        (63, [[[1, 2]]], [[(1, 2)]]),
        (75, [[[1, 2]], 3], [[(1, 2)], 3]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1], [], {}]], [[{1}, {}, {}]]),
        (124, ["1", "2j"], [1.0, 2j]),
        (250, [[1], 2], [(1,), 2]),
        (307, [[1, [2]], 3, 4], [(1, [2]), 3, 4]),
        (259, [[[1], [2]], [[3]]], [((1,), (2,)), ((3,),)]),
        (278, [[1, [2], 3]], [(1, (2,), 3)]),
        (722, [{"a": [1, 2]}, 3, 4], [{"a": (1, 2)}, 3, 4]),
        (252, ["1j"], [1j]),
        (580, [[1, [2, [3]]]], [(1, (2, (3,)))]),
        (999, [[1]], [[1]]),
    ],
)
def test_inputs_get_the_types_that_json_lost(
    plus: Callable[..., tasks.Task[Any]], number: int, written: Any, meant: Any
) -> None:
    task = plus("mbpp-plus", task_id=f"Mbpp/{number}", base_input=[written], plus_input={})
    (arguments,) = task.problems()[0].inputs
    assert list(arguments) == meant
    assert repr(list(arguments)) == repr(meant)


def test_inputs_have_the_types_of_the_written_tests(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the asserts in the same file, which are Python and have lost nothing."""
    import ast

    monkeypatch.setenv("CODEGEN_TEST_DATA", str(data_folder))
    path = data_folder / "evalplus" / "MbppPlus.jsonl.gz"
    rows = map(json.loads, gzip.decompress(path.read_bytes()).decode().splitlines())
    texts = {row["task_id"]: row["assertion"] for row in rows}
    compared, different = 0, []
    for problem in tasks.load("mbpp-plus").problems():
        called = []
        for node in ast.walk(ast.parse(texts[problem.id])):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == problem.entry_point:
                with contextlib.suppress(ValueError):  # an argument may be an expression
                    called.append([ast.literal_eval(argument) for argument in node.args])
        given = [repr(list(arguments)) for arguments in problem.inputs[: problem.base]]
        if called:
            compared += 1
            if not all(repr(arguments) in given for arguments in called):
                different.append(problem.id)
    assert compared > 350
    # In five of them the file itself has other values; in 98, 104, 140 and 145 EvalPlus passes
    # lists where the asserts have tuples, and the reference takes both.
    assert sorted(different) == sorted(
        f"Mbpp/{number}" for number in (87, 124, 252, 301, 596, 98, 104, 140, 145)
    )


def test_the_rows_of_the_hub(plus: Callable[..., tasks.Task[Any]], sandbox: Sandbox) -> None:
    test = (
        "import numpy as np\nfrom math import inf\n\n"
        "def assertion(out, exp, atol):\n    assert out == exp\n\n\ndef check(candidate):\n"
        "    inputs = [[1, 2], [inf, -3]]\n    results = [0.5, -inf]\n"
        "    for i, (inp, exp) in enumerate(zip(inputs, results)):\n"
        "        assertion(candidate(*inp), exp, 1e-06)\n"
    )
    row = {key: value for key, value in ROW.items() if not key.endswith("_input")}
    path = plus().source
    Path(path).write_text(json.dumps({**row, "test": test}))
    task = tasks.load("humaneval-plus", path)
    problem = task.problems()[0]
    assert (problem.inputs, problem.atol) == (([1, 2], [math.inf, -3]), 1e-6)
    assert judge(task, sandbox, task.reference(problem)).passed
    assert judge(task, sandbox, "def f(x, y): return 0.5").status == "wrong"
    mbpp = {
        "task_id": 2,
        "prompt": "Divide.",
        "code": "def f(x, y):\n    return x / y",
        "test_list": ["assert f(1, 2) == 0.5"],
        "test": test.replace("[1, 2]", "[(1, 2), 2]"),
    }
    Path(path).write_text(json.dumps(mbpp))
    problem = tasks.load("mbpp-plus", path).problems()[0]
    assert (problem.id, problem.entry_point, problem.inputs[0]) == ("Mbpp/2", "f", [(1, 2), 2])
    assert problem.prompt == '"""\nDivide.\nassert f(1, 2) == 0.5\n"""\n'
    Path(path).write_text(json.dumps({**mbpp, "test": "inputs = open('x')"}))
    with pytest.raises(InputError, match="inputs in 'test' cannot be read"):
        tasks.load("mbpp-plus", path)
