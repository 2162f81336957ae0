"""Other people's code against the service and the adapters: verl, tinker-cookbook, verifiers,
inspect_ai. Each test needs the package itself; verl's and tinker's files are loaded by path, since
their packages import a whole trainer (``pip install --no-deps verl tinker-cookbook``).
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import json
import pickle
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from codegen.adapters.verl import compute_score
from codegen.core.errors import InputError
from codegen.rewards import SandboxReward
from codegen.sandbox import Sandbox, verdicts
from tests.processes import run
from tests.server.conftest import Served
from tests.server.sandbox.conftest import TOKEN, serving

RIGHT = "Here:\n```python\na, b = map(int, input().split())\nprint(a + b)\n```\n"
STDIO = {"inputs": ["1 2\n", "5 7\n", "0 0\n"], "outputs": ["3", "12\n", "0"]}
FUNCTION = "```python\nclass Solution:\n    def plus(self, a, b):\n        return a + b\n```\n"
# Not "add": verl's wrapper imports all of operator, and finds that add first.
PLUS = "```python\ndef plus(a, b):\n    return a + b\n```\n"
PLAIN = "```python\ndef add(a, b):\n    return a + b\n```\n"
CALLS = {"inputs": ["1\n2", "[1]\n[2]"], "outputs": ["3", "[1, 2]"], "fn_name": "plus"}
ASSERTS = {"assert_case": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]}
EXITS = "```python\nimport os\nos._exit(0)\n```\n"


def module_of(package: str, path: str) -> ModuleType:
    """A file of an installed package, without what its package imports."""
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"{package} is not installed")
    file = Path(found.submodule_search_locations[0], path)
    if not file.exists():
        pytest.skip(f"this version of {package} has no {path}")
    name = f"peer_{package}"
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def guarded(sandbox: Sandbox) -> Iterator[str]:
    """The URL of a service with a token, which is all that its clients need."""
    with serving(sandbox, TOKEN) as served:
        yield f"http://any:{TOKEN}@127.0.0.1:{served.port}/run_code"


@pytest.mark.parametrize(
    ("answer", "truth", "score"),
    [
        (RIGHT, STDIO, 1.0),
        (RIGHT.replace("a + b", "a - b"), STDIO, 1 / 3),
        (RIGHT.replace("print", "1 / 0; print"), STDIO, 0.0),
        (RIGHT.replace("print", "while True: pass #"), STDIO, 0.0),
        (FUNCTION, CALLS, 1.0),
        (PLAIN, ASSERTS, 1.0),
        ("I do not know.", STDIO, 0.0),
    ],
)
def test_verl_by_changing_the_url(guarded: str, answer: str, truth: Any, score: float) -> None:
    verl = module_of("verl", "utils/reward_score/sandbox_fusion/__init__.py")
    given = (guarded, threading.Semaphore(8), 512, answer, json.dumps(truth))
    found, metadata = verl.compute_score(*given, timeout=1)
    assert found == pytest.approx(score), metadata
    assert not any("api_request_error" in row and row["api_request_error"] for row in metadata)


def test_what_verl_believes_and_what_the_adapter_believes(guarded: str) -> None:
    verl = module_of("verl", "utils/reward_score/sandbox_fusion/__init__.py")
    assert verl.compute_score(guarded, None, 512, EXITS, dict(ASSERTS), timeout=1)[0] == 1.0
    assert compute_score("mine", EXITS, dict(ASSERTS))["score"] == 0.0


def managed(answer: str, truth: Any, **options: Any) -> dict[str, Any]:
    """What our reward manager returns to verl, which loads it by its configuration."""
    import numpy as np
    import torch
    from omegaconf import OmegaConf
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager

    module = {"path": "pkg://codegen.adapters.verl"}
    manager = {"source": "importlib", "name": "CodegenRewardManager", "module": module}
    config = {"reward_manager": manager, "custom_reward_function": {"reward_kwargs": options}}
    answers = torch.tensor([[*answer.encode(), 0, 0]])
    mask = torch.cat([torch.ones(1, 9), answers > 0], 1)
    data = DataProto.from_dict(
        {"responses": answers, "attention_mask": mask},
        {"reward_model": np.array([{"ground_truth": truth}]), "data_source": np.array(["mine"])},
    )
    tokenizer = SimpleNamespace(decode=lambda ids, **_: bytes(ids.tolist()).decode())
    loaded = load_reward_manager(OmegaConf.create({"reward": config}), tokenizer)
    found = asyncio.run(loaded.run_single(data))
    assert found["reward_score"] == found["reward_extra_info"]["score"]
    return found["reward_extra_info"]


@pytest.fixture(params=["here", "service"])
def judged(
    request: pytest.FixtureRequest, service: Served, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Adapters judge in this process, and by a service."""
    monkeypatch.setenv(verdicts.URL_ENV, service.url if request.param == "service" else "")
    yield
    verdicts.close_shared()


@pytest.mark.usefixtures("judged")
@pytest.mark.parametrize("manager", [False, True])
def test_the_reward_for_verl(manager: bool) -> None:
    if manager:
        pytest.importorskip("verl.experimental.reward_loop.reward_manager.base")
    equal_text = PLUS.replace("a + b", "str(a + b)")
    for answer, truth, passed, status in (
        (RIGHT, STDIO, 3, "passed"),
        (RIGHT.replace("a + b", "a - b"), STDIO, 1, "wrong"),
        (PLUS, CALLS, 2, "passed"),
        (FUNCTION, CALLS, 2, "passed"),
        (equal_text, CALLS, 0, "wrong"),  # a text is not a number
        (PLAIN, ASSERTS, 2, "passed"),
        (PLAIN.replace("a + b", "4"), ASSERTS, 1, "wrong"),
        (EXITS, ASSERTS, 0, "exited"),
        ("I do not know.", STDIO, 0, "no_answer"),
        (PLAIN, {"tests": "assert add(1, 1) == 2"}, 1, "passed"),
    ):
        tests = len(truth.get("inputs", truth.get("assert_case", [1])))
        score = managed if manager else partial(compute_score, "mine")
        assert score(answer, json.dumps(truth)) == {
            "score": passed / tests,
            "acc": passed == tests,
            "passed": passed,
            "tests": tests,
            "status": status,
        }, (answer, truth)
        whole = score(answer, truth, continuous=False, reward_router_address=None)
        assert whole["score"] == float(passed == tests)


@pytest.mark.parametrize(
    "truth",
    ["{", "[]", "{}", '{"inputs": ["1"], "outputs": []}', '{"inputs":1, "outputs":2}', "[" * 10**5],
    ids=lambda truth: truth[:30],
)
def test_a_ground_truth_that_is_none_is_told(truth: str) -> None:
    with pytest.raises(InputError, match="ground truth of mine"):
        compute_score("mine", RIGHT, truth)


def test_trl_calls_the_reward_by_a_service(service: Served) -> None:
    """As ``GRPOTrainer`` calls it: all columns as keywords, one value each."""
    reward = pickle.loads(pickle.dumps(SandboxReward(service=service.url)))  # noqa: S301 - our own
    completions: list[Any] = [PLAIN, PLAIN.replace("+", "-"), EXITS, "No."]
    for found in (completions, [[{"role": "assistant", "content": c}] for c in completions]):
        columns: dict[str, Any] = {"tests": ["assert add(1, 2) == 3\n"] * 4, "trainer_state": None}
        columns |= {"prompts": ["Write add(a, b)."] * 4, "completion_ids": [[1]] * 4}
        values = reward(completions=found, **columns)
        assert values == [1.0, 0.0, 0.0, 0.0]
    reward.close()


def test_tinker_by_changing_the_url(guarded: str) -> None:
    pytest.importorskip("aiohttp")
    tinker = module_of("tinker_cookbook", "sandbox/sandboxfusion.py")

    async def scenario() -> list[Any]:
        client = tinker.SandboxFusionClient(guarded, max_concurrency=4)
        try:
            files = {"data.txt": "é", "pkg/mod.py": "X = 1\n"}
            code = "from pkg.mod import X\nprint(open('data.txt').read(), X)\n"
            jobs = [client.run(code, files, 5) for _ in range(10)]
            jobs += [client.run("1 / 0", {}, 5), client.run("while True: pass", {}, 1)]
            return await asyncio.gather(*jobs)
        finally:
            await client.close()

    *right, failed, late = asyncio.run(scenario())
    for success, row in right:
        assert success and row["run_result"]["stdout"] == "é 1\n"
    assert not failed[0] and "ZeroDivisionError" in failed[1]["run_result"]["stderr"]
    assert not late[0] and late[1]["run_result"]["status"] == "TimeLimitExceeded"


@pytest.mark.usefixtures("judged")
def test_inspect_ai(tmp_path: Path) -> None:
    pytest.importorskip("inspect_ai")
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput
    from inspect_ai.solver import solver
    from inspect_ai.util import sandbox

    from codegen.adapters import inspect_ai as adapter

    seen: dict[str, Any] = {}

    @solver
    def tries() -> Any:
        async def solve(state: Any, generate: Any) -> Any:
            box = sandbox()
            for name, call in (
                ("late", box.exec(["sh", "-c", "echo x > left; sleep 9"], timeout=1)),
                ("missing", box.exec(["no-such-command"])),
                ("outside", box.write_file("/usr/bin/x", "")),
                ("user", box.exec(["true"], user="root")),
            ):
                try:
                    seen[name] = (await call).returncode
                except Exception as error:  # noqa: BLE001 - its name is looked at
                    seen[name] = type(error).__name__
            seen["left"] = await box.read_file("left")
            # Asking the mock model would count tokens, with data from the network.
            state.output = ModelOutput.from_content("mockllm", replies[state.sample_id])
            return state

        return solve

    row = {"tests": "assert add(1, 2) == 3\n"}
    samples = [Sample("Write add(a, b).", id=n, metadata=row) for n in range(3)]
    replies = (PLAIN, EXITS, "No.")
    log = eval(
        Task(samples, solver=tries(), scorer=adapter.tests_pass(), sandbox="codegen"),
        model="mockllm/model",
        log_dir=str(tmp_path), display="none", max_samples=1,
    )[0]  # fmt: skip
    assert log.status == "success", log.error
    assert [each.scores["tests_pass"].value for each in log.samples or []] == ["C", "I", "N"]
    assert (log.samples or [])[0].scores["tests_pass"].metadata["trust"] == "isolated"
    assert seen == {
        "late": "SandboxTimeoutError", "missing": 127, "outside": "OSError",
        "user": "SandboxUserUnsupportedError", "left": "x\n",
    }  # fmt: skip


def test_openenv_by_http_and_its_own_validation() -> None:
    pytest.importorskip("openenv.core.env_server")
    import httpx2
    import uvicorn
    from openenv.cli._validation import validate_running_environment

    from codegen.adapters.openenv import make_app

    served = Served(None, uvicorn.Server(uvicorn.Config(make_app("humaneval"), log_config=None)))
    with httpx2.Client(base_url=served.url) as client:
        asked = {"split": "test", "start": 3, "stop": 4}
        (task,) = client.post("/codegen/task_range", json=asked).json()["tasks"]
        now = client.post("/reset", json={"split": "test", "index": 3}).json()["observation"]
        assert now["problem"] == task["id"]
        for body, reward in (("0", 0.0), ("any(sum(x[:n]) < 0 for n in range(99))", 1.0)):
            action = {"problem": task["id"], "answer": f"```\nbelow_zero = lambda x: {body}\n```"}
            assert client.post("/step", json={"action": action}).json()["reward"] == reward
    assert validate_running_environment(served.url)["passed"]
    served.stop()


def test_nemo_gym(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nemo_gym")
    from fastapi.testclient import TestClient
    from nemo_gym.base_resources_server import BaseResourcesServerConfig
    from nemo_gym.server_utils import ServerClient

    from codegen.adapters.nemo_gym import CodegenServer

    address = {"host": "127.0.0.1", "port": 0, "entrypoint": "app.py", "name": "code_gen"}
    config = BaseResourcesServerConfig(**address, domain="coding")
    server = CodegenServer(config=config, server_client=ServerClient.model_construct())
    app = TestClient(server.setup_webserver())

    def verify(answer: str, tests: Any) -> tuple[float, bool, str | None]:
        content = [{"type": "output_text", "text": answer, "annotations": []}]
        message = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
        response = {"id": "r", "created_at": 0, "model": "m", "object": "response", "tools": []}
        response |= {"parallel_tool_calls": False, "tool_choice": "auto"}
        found = app.post("/verify", json={
            "responses_create_params": {"input": [{"role": "user", "content": "Add."}]},
            "response": response | {"output": [message | {"content": content}]},
            "verifier_metadata": {"unit_tests": tests},
        }).json()  # fmt: skip
        return found["reward"], found["mask_sample"], found["failure_kind"]

    packed = {"packed": base64.b64encode(zlib.compress(json.dumps(CALLS).encode())).decode()}
    equal = "class E(int):\n    def __eq__(self, other): return True\ndef plus(a, b): return E(4)\n"
    for answer, tests, reward in (
        (RIGHT, STDIO, 1.0), (RIGHT.replace("+", "-"), STDIO, 0.0), ("", STDIO, 0.0),
        (PLUS, packed, 1.0), (FUNCTION, packed, 1.0), (f"```python\n{equal}```", packed, 0.0),
    ):  # fmt: skip
        assert verify(answer, tests) == (reward, False, None)
    monkeypatch.setenv(verdicts.URL_ENV, "http://127.0.0.1:9")
    monkeypatch.setattr(verdicts, "PATIENCE_S", 0.1)
    assert verify(RIGHT, STDIO) == (0.0, True, "judge_failed")


def test_inspect_ais_own_checks_of_a_provider() -> None:
    checks = pytest.importorskip("inspect_ai.util._sandbox.self_check")
    from codegen.adapters.inspect_ai import CodegenSandbox

    for name, check in vars(checks).items():
        # There is one user. The others of the 44 checks pass.
        if name.startswith("test_") and name != "test_exec_as_user":
            asyncio.run(check(CodegenSandbox()))


@pytest.mark.usefixtures("judged")
def test_verifiers(tmp_path: Path, chat: tuple[str, list[str]]) -> None:
    """Its commands load our tasks by their id, with neither a container nor the network."""
    pytest.importorskip("verifiers.v1")
    solutions = (PLAIN, PLAIN.replace("+", "-"), "")
    rows = [
        {"prompt": "Add.", "tests": "assert add(1, 2) == 3", "solution": text.strip("`python\n")}
        for text in solutions
    ]
    (tmp_path / "add.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def command(name: str, problems: str, *more: str) -> Path:
        options = ("--no-rich", "-o", name, problems, "file:add.jsonl", *more)
        done = run(Path(sys.executable).with_name(name), "codegen-tasks", *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return next((tmp_path / name).iterdir())

    made = command("vf-validate", "--taskset.problems", "--runtime.type", "subprocess")
    checks = json.loads((made / "summary.json").read_text())["checks"]
    gold = {"valid": 1, "invalid": 1, "unchecked": 1, "error": 0, "timeout": 0, "missing": 0}
    assert (checks["gold"], checks["noop"]["valid"]) == (gold, 3)

    chat[1][:] = [PLAIN, EXITS, "No."]
    model = ("--model", "stub", "--client.base-url", chat[0], "--client.api-key-var", "NONE")
    made = command("vf-eval", "--env.taskset.problems", *model, "--no-push", "-c", "1")
    traces = [json.loads(line)["traces"][0] for line in (made / "traces.jsonl").open()]
    assert [trace["rewards"]["passed"]["score"] for trace in traces] == [1.0, 0.0, 0.0]
    assert [trace["task"]["key"] for trace in traces] == [f"file:add.jsonl/{n}" for n in "123"]


@pytest.mark.usefixtures("judged")
def test_harbor(tmp_path: Path) -> None:
    """The verifier as harbor loads it; the container is a directory, in which the tests are not."""
    factory = pytest.importorskip("harbor.verifier.factory").VerifierFactory
    (tmp_path / "problem.json").write_text(json.dumps({"tests": "assert add(1, 2) == 3"}))
    answer = tmp_path / "answer"

    async def execute(command: str) -> Any:
        return SimpleNamespace(return_code=run("sh", "-c", command).returncode, stderr="")

    async def download_file(source: str, target: Path) -> None:
        target.write_bytes(Path(source).read_bytes())

    verifier = factory.create_verifier_from_import_path(
        "codegen.adapters.harbor:CodegenVerifier", trial_paths=None, answer=str(answer),
        environment=SimpleNamespace(exec=execute, download_file=download_file),
        task=SimpleNamespace(paths=SimpleNamespace(tests_dir=tmp_path)),
    )  # fmt: skip
    rewards = [asyncio.run(verifier.verify()).rewards["reward"]]
    for reply in (PLAIN, PLAIN.replace("+", "-"), EXITS, ""):
        answer.write_text(reply.strip("`python\n"))
        rewards.append(asyncio.run(verifier.verify()).rewards["reward"])
    assert rewards == [0.0, 1.0, 0.0, 0.0, 0.0]
