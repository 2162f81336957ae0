"""A sandbox that fails in the middle of a batch: no framework scores a program 0 for it.

The service is killed once the first program has passed; the others would run until their limit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from codegen.adapters.verl import compute_score
from codegen.evals import lm_eval
from codegen.rewards import SandboxReward
from codegen.sandbox import Job, Outcome, verdicts
from codegen.sandbox.verdicts import NotScored, run_jobs, shared_sandbox
from tests.processes import wait_for
from tests.server.sandbox.test_serve import server

TEST = "assert add(1, 2) == 3\n"
PLAIN = "```python\ndef add(a, b):\n    return a + b\n```\n"
LOOP = PLAIN.replace("return a + b", "while True: pass")
Score = Callable[[str], float]


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

        def kill() -> None:
            wait_for(lambda: "jobs_passed" in httpx.get(f"{url}/metrics", headers=token).text)
            process.kill()

        killing = pool.submit(kill)
        yield
        killing.result()


def scores(score: Score) -> list[float | None]:
    """The scores of a right program and of two that do not end; None for an exception."""
    found: list[float | None] = []
    for answer in (PLAIN, LOOP, PLAIN):
        try:
            found.append(score(answer))
        except NotScored:
            found.append(None)
    return found


@pytest.mark.usefixtures("killed")
class TestKilled:
    def test_verl(self) -> None:
        truth = {"assert_case": [TEST, TEST]}
        assert scores(lambda answer: compute_score("", answer, truth)["score"]) == [1.0, None, None]

    def test_trl(self) -> None:
        reward = SandboxReward()
        answers = [PLAIN, LOOP, LOOP.replace("pass", "0")]
        assert reward(["Add."] * 3, answers, tests=[TEST] * 3) == [1.0, None, None]
        with pytest.raises(NotScored):  # a batch without any verdict stops the training
            reward(["Add."], [PLAIN.replace("+ b", "+ b + 0")], tests=[TEST])
        reward.close()

    def test_lm_eval(self, tmp_path: Path) -> None:
        pytest.importorskip("datasets")
        path = tmp_path / "one.jsonl"
        path.write_text(json.dumps({"id": "0", "prompt": "Add.", "tests": TEST}))
        document = next(iter(lm_eval.documents(f"file:{path}", "chat")["test"]))
        found = scores(lambda answer: lm_eval.process_results(document, [[answer]])["pass@1"])
        assert found == [1.0, None, None]


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
    monkeypatch.setattr(
        verdicts, "open_sandbox", lambda **_: (_ for _ in ()).throw(OSError("gone"))
    )
    verdicts.close_shared()
    with pytest.raises(NotScored, match="gone"):
        metric.compute(references=[TEST], predictions=[[right]], k=[1])
