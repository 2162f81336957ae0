"""A sandbox that fails in the middle of a batch: no framework scores a program 0 for it.

The service is killed once the first program has passed; the others would run until their limit.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from eval_fakes import FakeSandbox

from codegen.adapters.verl import compute_score
from codegen.evals import lm_eval
from codegen.rewards import SandboxReward
from codegen.sandbox import Job, Outcome, verdicts
from codegen.sandbox.verdicts import NotScored, run_jobs, shared_sandbox
from tests.processes import wait_for
from tests.server.conftest import Served
from tests.server.sandbox import conftest as of_the_service
from tests.server.sandbox.test_peers import managed
from tests.server.sandbox.test_serve import server

TEST = "assert add(1, 2) == 3\n"
PLAIN = "```python\ndef add(a, b):\n    return a + b\n```\n"
LOOP = PLAIN.replace("return a + b", "while True: pass")
Score = Callable[[str], float]


chat = of_the_service.chat  # a fixture


@pytest.fixture(autouse=True)
def quick_tries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(verdicts, "PAUSE_S", 0.01)
    monkeypatch.setattr(verdicts, "PATIENCE_S", 1.0)
    yield
    verdicts.close_shared()


@pytest.fixture
def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A service that is killed once a program has passed."""
    with server(tmp_path, "--workers", "1") as (process, url), ThreadPoolExecutor(1) as pool:
        monkeypatch.setenv(verdicts.URL_ENV, url)

        token = {"authorization": f"Bearer {os.environ['CODEGEN_SANDBOX_TOKEN']}"}

        skipped = threading.Event()

        def kill() -> None:
            page = partial(httpx.get, f"{url}/metrics", headers=token)
            wait_for(lambda: skipped.is_set() or "jobs_passed" in page().text)
            process.kill()

        killing = pool.submit(kill)
        yield
        skipped.set()
        killing.result()


@pytest.fixture
def rows(tmp_path: Path) -> str:
    """A task with the same problem three times."""
    lines = [json.dumps({"id": str(n), "prompt": "Add.", "tests": TEST}) for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    return f"file:{tmp_path / 'rows.jsonl'}"


def scores(score: Score) -> list[float | None]:
    """The scores of a right program and of two that do not end; None for an exception."""
    found: list[float | None] = []
    for answer in (PLAIN, LOOP, PLAIN):
        try:
            found.append(score(answer))
        except (NotScored, RuntimeError):  # OpenEnv's client
            found.append(None)
    return found


@pytest.mark.usefixtures("killed")
class TestKilled:
    @pytest.mark.parametrize("manager", [False, True])
    def test_verl(self, manager: bool) -> None:
        if manager:
            pytest.importorskip("verl.experimental.reward_loop.reward_manager.base")
        score = managed if manager else partial(compute_score, "")
        assert scores(lambda a: score(a, {"assert_case": [TEST]})["score"]) == [1.0, None, None]

    def test_trl(self) -> None:
        reward = SandboxReward()
        answers = [PLAIN, LOOP, LOOP.replace("pass", "0")]
        assert reward(["Add."] * 3, answers, tests=[TEST] * 3) == [1.0, None, None]
        with pytest.raises(NotScored):  # a batch without any verdict stops the training
            reward(["Add."], [PLAIN.replace("+ b", "+ b + 0")], tests=[TEST])
        reward.close()

    def test_lm_eval(self, rows: str) -> None:
        pytest.importorskip("datasets")
        document = next(iter(lm_eval.documents(rows, "chat")["test"]))
        found = scores(lambda answer: lm_eval.process_results(document, [[answer]])["pass@1"])
        assert found == [1.0, None, None]

    def test_code_eval(self) -> None:
        pytest.importorskip("evaluate")
        from codegen.adapters.code_eval import CodeEval

        def score(answer: str) -> float:
            program = answer.strip("`python\n")
            return CodeEval().compute(references=[TEST], predictions=[[program]])[0]["pass@1"]

        assert scores(score) == [1.0, None, None]

    def test_openenv(self, rows: str) -> None:
        pytest.importorskip("openenv.core.generic_client")
        from openenv.core import GenericEnvClient

        from codegen.adapters.openenv import make_app

        served = Served(None, uvicorn.Server(uvicorn.Config(make_app(rows), log_config=None)))
        with GenericEnvClient(base_url=served.url).sync() as client:
            found = scores(lambda text: client.reset() and client.step({"answer": text}).reward)
        assert found == [1.0, None, None]
        served.stop()

    def test_inspect_ai(self, tmp_path: Path) -> None:
        pytest.importorskip("inspect_ai")
        from inspect_ai import Task, eval
        from inspect_ai.dataset import Sample
        from inspect_ai.model import ModelOutput
        from inspect_ai.solver import solver

        from codegen.adapters.inspect_ai import tests_pass

        @solver
        def replies() -> Any:
            async def solve(state: Any, generate: Any) -> Any:
                state.output = ModelOutput.from_content("mockllm", state.input_text)
                return state

            return solve

        samples = [Sample(text, target=TEST) for text in (PLAIN, LOOP, PLAIN)]
        task = Task(samples, solver=replies(), scorer=tests_pass(), fail_on_error=False)
        options = {"log_dir": str(tmp_path), "display": "none", "max_samples": 1}
        (log,) = eval(task, model="mockllm/model", **options)
        assert [bool(each.scores) for each in log.samples or []] == [True, False, False]
        assert log.results.scores[0].metrics["accuracy"].value == 1.0

    def test_verifiers(self, rows: str, tmp_path: Path, chat: tuple[str, list[str]]) -> None:
        pytest.importorskip("verifiers.v1")
        from verifiers.v1.cli.eval.runner import run_eval
        from verifiers.v1.configs.cli.eval import EvalConfig

        chat[1][:] = [PLAIN, LOOP, PLAIN]
        config = EvalConfig(
            env={"taskset": {"id": "codegen-tasks", "problems": rows}},
            client={"base_url": chat[0], "api_key_var": "NONE"},
            model="stub", max_concurrent=1, rich=None, push=False, output_dir=tmp_path / "out",
        )  # fmt: skip
        traces = [episode.traces[0] for episode in asyncio.run(run_eval(config))]
        assert [trace.ok and trace.reward for trace in traces] == [1.0, False, False]
        assert {error.type for trace in traces for error in trace.errors} == {"TaskError"}


def test_threads_share_one_sandbox_which_is_replaced_when_it_breaks() -> None:
    with ThreadPoolExecutor(8) as pool:
        opened = {pool.submit(shared_sandbox) for _ in range(8)}
    (one,) = {future.result() for future in opened}
    one.close()
    assert run_jobs({0: Job("x = 1\n", test="assert x == 1\n")})[0].passed
    assert shared_sandbox() is not one


def test_each_key_gets_three_tries() -> None:
    asked: list[Sequence[int]] = []

    def run(keys: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        asked.append(keys)
        yield keys[-1], Outcome("passed", "isolated")
        raise OSError("gone")

    found: dict[int, Outcome] = {}
    with pytest.raises(NotScored, match="gone"):
        verdicts.retried(run, range(4), found)
    assert asked == [[0, 1, 2, 3], [0, 1, 2], [0, 1]] and sorted(found) == [1, 2, 3]


def test_the_metric_of_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As lm-evaluation-harness's own task humaneval calls it, from the working directory."""
    evaluate = pytest.importorskip("evaluate")
    lm_eval.write_code_eval(tmp_path)
    monkeypatch.chdir(tmp_path)
    metric = evaluate.load("code_eval")
    wrong, exits = "def add(a, b): return a * b\n", "import os\nos._exit(0)\n"
    right = "def add(a, b): return a + b\n"
    found, results = metric.compute(
        references=[TEST] * 2, predictions=[[wrong, right], [exits, exits]], k=[1, 2, 10]
    )
    assert found == {"pass@1": 0.25, "pass@2": 0.5}
    assert [row["result"][:14] for _, row in results[0]] == ["failed: wrong:", "passed"]
    assert [number for number, _ in results[1]] == [0, 1] and not results[1][0][1]["passed"]
    # A program on which the sandbox fails is not counted, and the run goes on.
    lost = Outcome("infra_error", "isolated")
    passed = replace(lost, status="passed")
    fake = FakeSandbox(lambda job: lost if job.program == exits else passed)
    monkeypatch.setattr(verdicts, "shared_sandbox", lambda _: fake)
    found, results = metric.compute(
        references=[TEST] * 2, predictions=[[right, exits], [exits, exits]], k=[1, 2]
    )
    assert found["pass@1"] == 1.0 and math.isnan(found["pass@2"])
    assert {task: len(rows) for task, rows in results.items()} == {0: 1, 1: 0}
