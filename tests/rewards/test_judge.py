"""Rewards: tests counted one by one, hidden ones, constants, failures of the sandbox, tricks."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegen.core import plugins
from codegen.core.errors import CodegenError, ConfigError, InputError
from codegen.core.records import UNJUDGED, Change, Edit, Sample, Verdict, write_jsonl
from codegen.edits.formats import FORMATS
from codegen.evals import tasks
from codegen.evals.counted_tests import constant_programs, counted, is_hidden, results
from codegen.evals.tasks.custom import CustomTask
from codegen.rewards import Judge, SandboxReward, Scored, passed, rewards_of
from codegen.rewards.judge import TestedSample, combine, metrics_of, sample_of
from codegen.rewards.suspicious import KINDS, suspects
from codegen.sandbox import Job, Limits, Outcome, Sandbox, verdicts

CHAT = tasks.find_style("chat")
WRONG = "def f(x):\n    return x\n"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1) as opened:
        yield opened


def custom(*rows: dict[str, Any]) -> CustomTask:
    problems = [
        CustomTask.problem_of(f"rows:{n}", {"id": f"p{n}", **row}) for n, row in enumerate(rows)
    ]
    return CustomTask("custom", "", problems, "")


def sample(problem: str, completion: str, **more: Any) -> Sample:
    return sample_of("custom", problem, 0, "Write it.", completion, 9, CHAT, **more)


# --- tests one by one ----------------------------------------------------------------------------


def test_counts_are_those_of_a_plain_loop(sandbox: Sandbox) -> None:
    rng = random.Random(7)
    jobs, expected = {}, {}
    for number in range(12):
        table = {x: rng.choice([x, x * x, x + 1]) for x in rng.sample(range(-9, 10), 7)}
        program = f"def f(x):\n    return {rng.choice(['x * x', 'x + 1', '1 // (x - 1)', 'x'])}\n"
        names: dict[str, Any] = {}
        exec(program, names)
        flags = []
        for x, value in table.items():
            try:
                flags.append(names["f"](x) == value)
            except ZeroDivisionError:
                flags.append(False)
        lines = [f"assert f({x}) == {value}" for x, value in table.items()]
        kind = number % 3
        if kind == 0:
            test, entry = "\n".join(lines), ""
        elif kind == 1:
            body = "".join(f"    {line.replace('f(', 'candidate(')}\n" for line in lines)
            test, entry = f"def check(candidate):\n{body}", "f"
        else:
            test = (
                f"for x, y in {list(table.items())}:\n    got = f(x)\n    assert got == y, 'no'\n"
            )
            entry = ""
        jobs[number], expected[number] = Job(program, test=test, entry_point=entry), flags
    plain = {key: outcome.passed for key, outcome in sandbox.map(jobs.items())}
    rewritten: dict[int, Any] = {}
    for key, job in jobs.items():
        rewritten[key] = counted(job)
        assert rewritten[key]
    found = dict(sandbox.map((key, test.job) for key, test in rewritten.items()))
    for key, flags in expected.items():
        got = results(rewritten[key], found[key], 0.0)
        assert list(got.seen) == (flags if not all(flags) else [True])
        assert found[key].passed == plain[key] == all(flags)
        half = results(rewritten[key], found[key], 0.5)
        if not all(flags):
            assert list(half.seen) == flags[::2] and list(half.hidden) == flags[1::2]


@pytest.mark.parametrize(
    "program",
    [
        "import os\ndef f(x):\n    os._exit(0)\n",
        "import sys\nsys.exit(0)\n",
        "class E:\n    def __eq__(self, other):\n        return True\ndef f(x):\n    return E()\n",
        "def f(x):\n    raise AssertionError('tests 1,1,1 | ')\n",
        "_counted = [[True]] * 3\n_counted_errors = ()\ndef f(x):\n    return x\n",
        "def f(x):\n    while True:\n        pass\n",
        "print('passed')\n",
    ],
)
def test_counts_cannot_be_forged(sandbox: Sandbox, program: str) -> None:
    tests = counted(Job(program, test="assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4\n"))
    assert tests
    outcome = sandbox.run(replace(tests.job, limits=Limits(cpu_s=0.3)))
    assert not any(results(tests, outcome, 0.0).seen)


@pytest.mark.parametrize("places", [1, 3, 40])
def test_a_failure_behind_many_passed_tests_is_one(sandbox: Sandbox, places: int) -> None:
    """Notes are bounded; what does not fit must not be taken for passed."""
    last = 2000 // places
    loop = f"for i in range({last + 1}):\n    assert f(i) == i\n"
    tests = counted(Job(f"def f(x):\n    return x % {last}\n", test=loop * places))
    assert tests
    found = results(tests, sandbox.run(tests.job), 0.0)
    assert found.status == "wrong" and 0 < found.share < 1, found
    right = sandbox.run(replace(tests.job, program="def f(x):\n    return x\n"))
    assert right.passed and all(results(tests, right, 0.0).seen)


@pytest.mark.parametrize("words", ["tests 1 | x", "tests 1", "AssertionError: tests 1 | x"])
def test_what_a_program_says_is_no_note_of_tests(sandbox: Sandbox, words: str) -> None:
    """Tests may raise with a value of the program's."""
    text = "assert f(0)\nif f(1) != 2:\n    raise AssertionError(f(1))\n"
    tests = counted(Job(f"def f(x):\n    return {words!r}\n", test=text))
    assert tests
    outcome = sandbox.run(tests.job)
    assert outcome.status == "wrong" and not any(results(tests, outcome, 0.0).seen)


def test_what_is_not_counted_is_one_test() -> None:
    for text in (
        "def test_it():\n    assert f(1) == 1\n",
        "try:\n    assert f(1)\nexcept AssertionError:\n    pass\nassert f(2)\n",
        "def same(x):\n    assert x\ntry:\n    same(f(1))\nexcept Exception:\n    pass\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        assert f(1)\n",
        "f(1)\n",
        "def check(candidate):\n    assert candidate(1)\n",  # nobody calls it
        "assert f(1) ==\n",
    ):
        assert counted(Job(WRONG, test=text)) is None
    assert counted(Job(WRONG, test="assert f(1)", mode="in_sandbox")) is None
    assert results(None, Outcome("wrong", "isolated"), 0.5).seen == (False,)


def test_hidden_tests_are_a_share_and_never_the_first() -> None:
    for share in (0.0, 0.1, 0.5, 0.75, 0.9):
        flags = [is_hidden(place, 0, share) for place in range(100)]
        assert not flags[0] and abs(sum(flags) - 100 * share) <= 1


def test_calls_and_inputs_of_rows_are_counted(sandbox: Sandbox) -> None:
    task = custom(
        {"prompt": "p", "entry_point": "f", "calls": [[1], [2], [3]], "expected": [1, 4, 9]},
        {"prompt": "p", "stdin": ["1", "2", "3"], "stdout": ["1", "4", "9"]},
    )
    programs = (WRONG, "print(int(input()))\n")
    for problem, program in zip(task.problems(), programs, strict=True):
        job = task.job(problem, program)
        assert isinstance(job, Job)
        tests = counted(job)
        assert tests
        assert results(tests, sandbox.run(tests.job), 0.0).seen == (True, False, False)


@pytest.mark.long
def test_verdicts_of_mbpp_do_not_change(data_folder: Path) -> None:
    """References, and references with another program's name, judged with and without counting."""
    task = tasks.load("mbpp", str(data_folder / "mbpp" / "mbpp.jsonl.gz"))
    problems = list(task.problems())[:400]
    jobs = {}
    for number, problem in enumerate(problems):
        other = task.reference(problems[(number + 1) % len(problems)])
        name = task.entry_point(problem)  # type: ignore[attr-defined]
        twisted = f"_right = {name}\ndef {name}(*a):\n    return _right(*a) or 0\n"
        twisted = f"{task.reference(problem)}\n{twisted}"
        for kind, program in (
            ("right", task.reference(problem)),
            ("other", other),
            ("or", twisted),
        ):
            job = task.job(problem, program)
            assert isinstance(job, Job)
            jobs[problem.id, kind] = job
    with Sandbox() as sandbox:
        plain = dict(sandbox.map(jobs.items()))
        tests = {key: found for key, job in jobs.items() if (found := counted(job))}
        assert len(tests) > 0.9 * len(jobs)
        found = dict(sandbox.map((key, test.job) for key, test in tests.items()))
    differ = {key for key, outcome in found.items() if outcome.passed != plain[key].passed}
    assert not differ
    assert 0.4 < sum(outcome.passed for outcome in found.values()) / len(found) < 0.9


# --- the judge -----------------------------------------------------------------------------------

SQUARES = {"prompt": "p", "tests": [f"assert f({x}) == {x * x}" for x in (3, 4, 5, 6)]}


def test_hidden_tests_measure_and_do_not_reward() -> None:
    memorized = "def f(x):\n    return {3: 9, 5: 25}[x]\n"  # what the reward sees
    right = "def f(x):\n    return x * x\n"
    with Judge(custom(SQUARES), hidden=0.5, workers=1) as judge:
        one, two, three = judge.judge([sample("p0", text) for text in (memorized, right, WRONG)])
    assert (one.verdict.status, one.solved) == ("passed", False)
    assert (two.verdict.status, two.solved) == ("passed", True)
    assert (three.verdict.status, three.solved) == ("wrong", False)
    assert one.suspects == ("test_values",)
    totals, parts = combine([one, two, three], {"passed": 1.0})
    assert totals == [1.0, 1.0, 0.0]
    assert metrics_of([one, two, three], parts)["solved"] == pytest.approx(1 / 3)


def test_a_share_pays_no_constant() -> None:
    """Of every program that returns the same always, and of all others as the formula says."""
    tests = ["assert f(2) is True", "assert f(3) is True", "assert f(4) is False",
             "assert f(5) is True", "assert f(9) is False"]  # fmt: skip
    right = "def f(x):\n    return x in (2, 3, 5)\n"
    mostly = "def f(x):\n    return x in (2, 3, 5, 9)\n"
    row = {"prompt": "p", "tests": tests}
    with Judge(custom(row), constants=True, workers=1) as judge:
        job = judge.task.job(judge.task.problems()[0], right)
        assert isinstance(job, Job)
        constants = constant_programs(job)
        judged = judge.judge([sample("p0", text) for text in (right, mostly, *constants)])
    totals, _ = combine(judged, {"share": 1.0})
    assert totals[0] == 1.0
    assert totals[1] == pytest.approx((4 / 5 - 3 / 5) / (1 - 3 / 5))
    assert len(constants) > 8 and set(totals[2:]) == {0.0}


def test_failures_of_the_sandbox_are_tried_again_and_are_no_reward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verdicts, "PAUSE_S", 0)
    calls: list[list[str]] = []

    def failing(items: Any) -> Iterator[Any]:
        given = list(items)
        calls.append([job.program for _, job in given])
        for key, job in given:
            late = "x * x" in job.program and len(calls) > 1
            yield key, Outcome("passed" if late else "infra_error", "isolated")

    with Judge(custom(SQUARES), workers=1) as judge:
        judge.sandbox.map = failing  # type: ignore[method-assign]
        recovers, lost = judge.judge([sample("p0", "def f(x):\n    return x * x\n"),
                                      sample("p0", WRONG)])  # fmt: skip
        assert [len(programs) for programs in calls] == [2, 2, 1]
        assert judge.failures == 1
        judge.judge([lost.sample])  # is asked for again, since nothing is known of it
        assert len(calls) == 6
    totals, parts = combine([recovers, lost], {"passed": 1.0, "length": 1.0})
    assert totals == [1.0, None]  # whatever its length
    assert metrics_of([recovers, lost], parts)["infra_errors"] == 0.5


def test_equal_programs_run_once() -> None:
    with Judge(custom(SQUARES), workers=1) as judge:
        run = judge.sandbox.map
        ran: list[str] = []

        def counting(items: Any) -> Iterator[Any]:
            given = list(items)
            ran.extend(job.program for _, job in given)
            return run(given)

        judge.sandbox.map = counting  # type: ignore[method-assign, assignment]
        batches = [judge.start([sample("p0", WRONG)] * 3) for _ in range(2)]
        assert [one.verdict.status for batch in batches for one in batch.result()] == ["wrong"] * 6
    assert len(ran) == 1


# --- rewards -------------------------------------------------------------------------------------


def judged(completion: str, status: Any = "wrong", meta: Any = None, **more: Any) -> TestedSample:
    made = sample("p0", completion, **more)
    made = replace(made, meta={**made.meta, **(meta or {})})
    return TestedSample(made, Verdict("p0", 0, status), status == "passed")


@pytest.mark.parametrize(
    ("name", "one", "value"),
    [
        ("compiles", judged("def f(:\n", meta={"program": "def f(:\n"}), 0.0),
        ("compiles", judged("", meta={"program": ""}), 0.0),
        ("lint", judged("", meta={"program": "def f():\n    return y\n"}), 0.0),
        ("lint", judged("", meta={"program": "y = 1\ndef f():\n    return y\n"}), 1.0),
        ("format", judged("Here:\n```python\nx = 1\n```\n"), 1.0),
        ("format", judged("```\nx = 1\n```\nor\n```\nx = 2\n```\n"), 0.0),
        ("format", judged("x = 1\n"), 0.0),
        ("format", judged("```python\nx = 1\n"), 0.0),
        ("length", judged("x", settings={"max_new_tokens": 10}), -0.5),
        ("length", judged("x", settings={"max_new_tokens": 100}), 0.0),
        ("length", judged("x", finish_reason="length"), -1.0),
        ("edit_size", judged("", meta={"program": "a\nb\nX\n", "original": "a\nb\n"}), -0.5),
        ("edit_size", judged("", meta={"program": "a\n"}), None),
        ("share", judged("", meta={"tests": {"passed": 3, "total": 4, "constant": 0.5}}), 0.5),
        ("share", judged("", "infra_error"), None),
    ],
)  # fmt: skip
def test_built_in_rewards(name: str, one: TestedSample, value: float | None) -> None:
    (scored,) = rewards_of(name, [one.sample], [one.verdict])
    assert scored.value == (value if value is None else pytest.approx(value))
    assert scored.reason or value in (1.0, 0.0)


DUE = Edit(
    "due", "a.py", "def f(y):\n    z = 1\n    return x + x\n",
    (Change("a.py", 0, "def f(x):\n", "def f(y):\n"),), (0, 3), 7,
    "def f(y):\n    z = 1\n    return y + y\n", "here",
)  # fmt: skip
DONE = replace(DUE, id="done", text=str(DUE.target), category="nothing")


@pytest.mark.parametrize("name", FORMATS)
def test_rewards_of_next_edits_by_hand(name: str, tmp_path: Path) -> None:
    """Through the judge, in every format."""
    write_jsonl(tmp_path / "rows.jsonl", [DUE, DONE])
    task = tasks.load("next-edit", str(tmp_path / "rows.jsonl"))
    style, form = tasks.find_style(f"edit-{name}"), FORMATS[name]
    text, done = DUE.text, DONE.text
    cases: list[tuple[Edit, str, float]] = [
        (DUE, done, 1.0),  # exact
        (DUE, done.replace("1\n", "1  \n"), 1.0),  # but for white space at a line's end
        (DUE, text, 0.0),  # silent
        (DUE, text.replace("(y)", "(x)"), -0.5),  # the last edit taken back
        (DUE, text.replace("x + x", "(x"), -0.5),  # the file no longer parses
        (DUE, text.replace("z = 1", "z = 2"), -0.25),  # wrong: nothing kept, nothing nearer
        (DUE, done.replace("z = 1", "z = 2"), -0.25 + 0.5 / 2),  # one of two words too many
        (DUE, text.replace("x + x", "y + x"), -0.25 + 0.5 / 2),  # one of two words
        (DONE, done, 0.0),  # rightly silent
        (DONE, done.replace("z = 1", "z = 2"), -0.25),  # shown in vain
        (DONE, done.replace("1\n", "1 \n"), -0.25),  # even if it is white space only
        (DONE, done.replace("(y)", "(x)"), -0.5),
    ]
    answers = [(edit, form.answer(replace(edit, target=after))) for edit, after, _ in cases]
    wanted = [value for *_, value in cases]
    anything = ("window", "window-qwen", "zeta2", "sweep", "instinct")  # any text is an answer
    if name not in anything:
        answers.append((DUE, "I think that <this> is right.\n<|cursor|>"))
        wanted.append(-1.0)
    samples = [
        sample_of("next-edit", edit.id, n, form.prompt(edit), answer, 9, style)
        for n, (edit, answer) in enumerate(answers)
    ]
    with Judge(task, workers=1) as judge:
        found = judge.judge(samples)
    totals, parts = combine(found, {"next_edit": 1.0})
    assert totals == pytest.approx(wanted)
    assert all(scored.reason for scored in parts["next_edit"])
    assert [one.solved for one in found[:3]] == [True, True, False]
    assert not any(one.suspects for one in found)  # nothing of it is run


def test_an_answer_of_another_task_is_no_next_edit() -> None:
    (scored,) = rewards_of("next_edit", [judged("x").sample], [Verdict("p0", 0, "wrong")])
    assert scored == Scored(None, "not a next edit")


def test_a_reward_without_a_value_adds_nothing() -> None:
    totals, _ = combine([judged("x", "passed")], {"passed": 2.0, "edit_size": 1.0, "length": 0.5})
    assert totals == [2.0]


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda samples, verdicts: [], "returned 0 values for the 1 samples"),
        (lambda samples, verdicts: [Scored(float("nan"))], "returned nan"),
        (lambda samples, verdicts: [1.0], "returned 1.0"),
    ],
)
def test_what_rewards_must_not_give(
    monkeypatch: pytest.MonkeyPatch, reward: Any, message: str
) -> None:
    monkeypatch.setattr(plugins, "load", lambda *_: reward)
    with pytest.raises(InputError, match=message):
        combine([judged("x")], {"mine": 1.0})


# --- for trainers of others ----------------------------------------------------------------------


def test_a_reward_function_for_trl() -> None:
    reward = pickle.loads(pickle.dumps(SandboxReward({"passed": 1.0, "format": 0.5}, cpu_s=1)))  # noqa: S301
    metrics: dict[str, float] = {}
    prompts = [[{"role": "user", "content": "Write f."}]] * 3
    texts = ["```python\ndef f(x):\n    return x * x\n```", "def f(x):\n    return x\n", "No."]
    got = reward(
        prompts=prompts,
        completions=[[{"role": "assistant", "content": text}] for text in texts],
        completion_ids=[[1, 2]] * 3,
        tests=[["assert f(3) == 9"]] * 3,
        trainer_state=None,
        log_metric=metrics.__setitem__,
    )
    assert got == [1.5, 0.0, 0.0]
    assert metrics["solved"] == pytest.approx(1 / 3)
    with pytest.raises(InputError, match="does not say how to score an answer"):
        reward(prompts=["p"], completions=["x"], other=[1])
    assert b"Judge" not in pickle.dumps(reward)  # it runs here, and stays here
    reward.close()


def test_mistakes_of_a_reward_function() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'passed'"):
        SandboxReward({"pased": 1.0})
    with pytest.raises(ConfigError, match="Unknown prompt style 'chatt'"):
        SandboxReward(style="chatt")
    reward = SandboxReward(task="file:missing.jsonl")
    with pytest.raises(CodegenError, match=r"missing.jsonl"):
        reward(prompts=["p"], completions=["x"], problem_id=["1"])


# --- suspects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "program"),
    [
        ("exit", "import sys\ndef f(x):\n    sys.exit(0)\n"),
        ("exit", "def f(x):\n    raise SystemExit\n"),
        ("equality", "class A:\n    def __eq__(self, other):\n        return True\n"),
        ("introspection", "import inspect\n"),
        ("introspection", "import sys\ndef f(x):\n    return sys._getframe(1).f_locals\n"),
        ("test_values", "def f(x):\n    if x in (31, 41):\n        return 9\n    return 1\n"),
        ("shadowing", "def check(value):\n    pass\n"),
        ("shadowing", "AssertionError = ValueError\n"),
        ("swallowing", "try:\n    f(1)\nexcept Exception:\n    pass\n"),
    ],
)  # fmt: skip
def test_tricks_are_suspected(kind: str, program: str) -> None:
    assert kind in KINDS
    assert suspects(program, "assert f(31) == 9\nassert f(41) == 16\n") == [kind]


def test_honest_programs_are_not_suspected() -> None:
    for program in (
        "def f(x):\n    return x * x\n",
        "class V:\n    def __eq__(self, other):\n        return self.x == other.x\n",
        "def f(x):\n    try:\n        return int(x)\n    except ValueError:\n        return 0\n",
        "def f(x):\n    if x == 0:\n        return 1\n    return f(x - 1)\n",
        "def f(:\n",
    ):
        assert suspects(program, "assert f(0) == 1\nassert f(1) == 2\n") == []


@pytest.mark.parametrize(
    "deep",
    ["x" + ".a" * 900 + "()", "raise " + "+".join("a" * 900), "{" + "-" * 900 + "3: 1}",
     "if x == [1, " + "+".join("a" * 900) + "]:\n    def f(): return 2"],
)  # fmt: skip
def test_nesting_ends_no_judging(deep: str) -> None:
    """What a model writes may be nested deeper than Python's own tools can follow."""
    test = f"assert f(31) == {'+'.join('1' * 900)}\nassert f(41) == 16\n"
    assert suspects(f"import sys\nsys.exit(0)\n{deep}\n", test)[:1] == ["exit"]
    assert counted(Job(deep, test=test)) is None
    assert constant_programs(Job(deep, test=test))


@pytest.mark.slow
def test_few_honest_solutions_are_suspected(data_folder: Path) -> None:
    task = tasks.load("mbpp", str(data_folder / "mbpp" / "mbpp.jsonl.gz"))
    found = []
    for problem in task.problems():
        job = task.job(problem, "")
        found.append(suspects(task.reference(problem), getattr(job, "test", "")))
    assert sum(map(bool, found)) / len(found) < 0.03


def test_passed_is_none_for_failures() -> None:
    verdicts = [Verdict("p", 0, status) for status in ("passed", "wrong", "infra_error")]
    samples = [sample("p", "x")] * 3
    assert [one.value for one in passed(samples, verdicts)] == [1.0, 0.0, None]


@pytest.mark.parametrize("status", UNJUDGED)
def test_what_was_not_judged_gives_no_reward(status: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "PAUSE_S", 0)
    one = TestedSample(sample("p0", "x"), Verdict("p0", 0, status), None)
    totals, parts = combine([one], {"passed": 1.0, "share": 1.0})
    assert totals == [None] and parts["passed"][0].value is parts["share"][0].value is None
    with pytest.raises(verdicts.NotScored, match=status):
        verdicts.scored(lambda keys: [(key, one.verdict) for key in keys], ["p0"])


@pytest.mark.parametrize("trust", ["blinded", "in_sandbox"])
def test_tests_that_could_be_forged_give_no_reward(trust: Any) -> None:
    """Each grade is asked of the same program: one of objects, open tests, and plain tests."""
    rows = [
        {"prompt": "p", "tests": ["c = C()\nassert c.f(2) == c.f(c.f(2))"]},
        {"prompt": "p", "tests": ["assert C().f(1) == 1"]},
        {"prompt": "p", "tests": ["assert f(1) == 1"]},
    ]
    task = custom(*rows)
    program = "class C:\n    f = lambda self, x: x\nf = C().f\n"
    with Judge(task, trust=trust, workers=1) as judge:
        samples = [sample(f"p{n}", f"```python\n{program}```") for n in range(3)]
        found = judge.judge(samples)
        refused = [judge.refuses(problem) for problem in task.problems()]
    open_one = found[0].verdict
    assert [one.verdict.passed for one in found] == [trust == "in_sandbox", True, True]
    assert refused == [trust == "blinded", False, False]
    if trust == "blinded":
        assert (open_one.status, found[0].solved) == ("refused", None)
        assert "in_sandbox" in open_one.message and len(open_one.open_sites) == open_one.sites == 1
        assert metrics_of(found, {})["refused"] == pytest.approx(1 / 3)
