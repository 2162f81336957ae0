"""SandboxFusion's routes, held against its published schema and against the interpreter.

``SCHEMA`` is transcribed from the models of SandboxFusion's sources (commit 469de08): names in
order, with their defaults.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from codegen.sandbox import Job, Limits, Outcome, Sandbox
from codegen.server.sandbox import fusion

ELLIPSIS: Any = ...
SCHEMA: dict[str, dict[str, Any]] = {
    "RunCodeRequest": {
        "compile_timeout": 10, "run_timeout": 10, "memory_limit_MB": -1, "code": ELLIPSIS,
        "stdin": None, "language": ELLIPSIS, "files": {}, "fetch_files": [],
    },
    "RunCodeResponse": {
        "status": ELLIPSIS, "message": ELLIPSIS, "compile_result": None, "run_result": None,
        "executor_pod_name": None, "files": {},
    },
    "CommandRunResult": {
        "status": ELLIPSIS, "execution_time": None, "return_code": None, "stdout": None,
        "stderr": None,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMA)
def test_fields_and_defaults_are_those_of_sandboxfusion(name: str) -> None:
    model = getattr(fusion, name)
    found = {
        key: ... if field.is_required() else field.get_default(call_default_factory=True)
        for key, field in model.model_fields.items()
    }
    assert found == SCHEMA[name]


# What is run, with SandboxFusion's status, the command's, and the return code.
RUNS: dict[str, tuple[Any, ...]] = {
    "ends": ("print('a')\n", {}, "Success", "Finished", 0),
    "fails": ("import sys\nprint(1)\nsys.exit(3)\n", {}, "Failed", "Finished", 3),
    "raises": ("1 / 0\n", {}, "Failed", "Finished", 1),
    "cannot be compiled": ("x = (\n", {}, "Failed", "Finished", 1),
    "is empty": ("", {}, "Success", "Finished", 0),
    "reads": ("print(input() * 2)\n", {"stdin": "é\n"}, "Success", "Finished", 0),
    "prints much": ("print('x' * 600_000)\n", {}, "Success", "Finished", 0),
    "is killed": (
        "import os\nos.kill(os.getpid(), 9)\n", {"fetch_files": ["x"]}, "Failed", "Finished", -9,
    ),
    "sleeps": (
        "import time\nprint(1, flush=True)\ntime.sleep(99)\n", {"run_timeout": 0.3},
        "Failed", "TimeLimitExceeded", None,
    ),
    "loops": ("while True: pass\n", {"run_timeout": "0.3"}, "Failed", "TimeLimitExceeded", None),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_status_rule(post: Callable[..., httpx.Response], tmp_path: Path, name: str) -> None:
    code, options, status, command, returned = RUNS[name]
    row = post("/run_code", {"code": code, "language": "python", **options}).json()
    assert list(row) == list(SCHEMA["RunCodeResponse"])
    assert (row["status"], row["message"], row["compile_result"]) == (status, "", None)
    result = row["run_result"]
    assert list(result) == list(SCHEMA["CommandRunResult"])
    assert (result["status"], result["return_code"]) == (command, returned)
    if command == "TimeLimitExceeded":
        assert result["stdout"] == ("1\n" if name == "sleeps" else "")
        return
    wanted = subprocess.run(
        [sys.executable, "-E", "-X", "utf8", "-c", code],
        input=options.get("stdin", ""), capture_output=True, encoding="utf-8", check=False,
        cwd=tmp_path,
    )  # fmt: skip
    assert result["stdout"] == wanted.stdout
    assert bool(result["stderr"]) == bool(wanted.stderr)
    assert result["return_code"] == wanted.returncode


def test_files_go_in_and_out(post: Callable[..., httpx.Response]) -> None:
    code = "import m, os\nopen('out/r.bin', 'wb').write(m.B)\nprint(os.path.exists('n'))\n"
    files = {"m.py": _base64(b"B = bytes(range(256))\n"), "out/keep": _base64(b""), "n": None}
    files["IGNORE_THIS_FILE"] = "!"
    body = {"code": code, "language": "python", "files": files, "fetch_files": ["out/r.bin", "no"]}
    row = post("/run_code", body).json()
    assert row["files"] == {"out/r.bin": _base64(bytes(range(256)))}
    assert row["run_result"]["stdout"] == "False\n"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../x", "a/../../x", "", "a//b", "/proc/self/mem", "http://169.254.169.254/x"],
)
def test_paths_outside_are_refused_in_a_line(
    post: Callable[..., httpx.Response], path: str
) -> None:
    for field in ({"files": {path: _base64(b"x")}}, {"fetch_files": [path]}):
        response = post("/run_code", {"code": "", "language": "python", **field})
        assert response.status_code == 422
        said = response.json()["detail"]
        assert "below the working directory" in said and len(said) < 300


def test_links_lead_to_no_file_of_the_host(
    post: Callable[..., httpx.Response], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    code = f"import os\nos.symlink({str(secret)!r}, 'l')\nos.symlink('/', 'root')\n"
    fetch = ["l", f"root{secret}", "root/etc/shadow", "root/proc/1/environ"]
    row = post("/run_code", {"code": code, "language": "python", "fetch_files": fetch}).json()
    assert row["status"] == "Success"
    # What the sandbox shows in place of the host's has nothing in it.
    assert set(row["files"]) <= {"root/proc/1/environ"} and not any(row["files"].values())


BAD: list[tuple[Any, str]] = [
    ({"code": ""}, "language"),
    ({"language": "python"}, "code"),
    ({"code": 1, "language": "python"}, "code"),
    ({"code": "", "language": "cobol"}, "language 'cobol'"),
    ({"code": "", "language": "python", "run_timeout": "x"}, "run_timeout"),
    ({"code": "", "language": "python", "files": {"a": 1}}, "files"),
    ({"code": "", "language": "python", "files": {"a": "é"}}, "is not base64"),
    ({"code": "", "language": "python", "files": {"a": "x"}}, "is not base64"),
]


@pytest.mark.parametrize(("body", "words"), BAD, ids=repr)
def test_a_wrong_body_is_refused_by_name(
    post: Callable[..., httpx.Response], body: Any, words: str
) -> None:
    response = post("/run_code", body)
    assert response.status_code == 422 and words in str(response.json()["detail"])


def test_what_is_no_json_is_told_too(service: Any) -> None:
    assert httpx.get(f"{service.url}/v1/ping").json() == "pong"
    headers = {"content-type": "application/json"}
    for data in (b'{"code": ', b"\xff", b"[" * 100_000):
        response = httpx.post(f"{service.url}/run_code", content=data, headers=headers)
        assert response.status_code == 422
        assert response.json()["detail"][0]["type"] == "json_invalid"
        assert len(response.content) < 1000


def test_a_large_mistake_is_not_sent_back(post: Callable[..., httpx.Response]) -> None:
    response = post("/run_code", {"code": ["x" * 100_000], "language": "python"})
    assert response.status_code == 422 and len(response.content) < 1000


def test_what_would_take_long_to_read_or_to_refuse_is_refused_at_once(
    post: Callable[..., httpx.Response],
) -> None:
    large = post("/run_code", {"code": "", "language": "python", "fetch_files": [1] * 500_000})
    assert large.status_code == 413 and "more than 400000 values" in large.text
    many = post("/run_code", {"code": "", "language": "python", "fetch_files": [1] * 9000})
    assert many.status_code == 422 and len(many.json()["detail"]) == 20


def test_memory_and_output_are_limited_and_say_so(post: Callable[..., httpx.Response]) -> None:
    code = "x = bytearray(300 << 20)\nprint(len(x))\n"
    row = post("/run_code", {"code": code, "language": "python", "memory_limit_MB": 200}).json()
    assert row["status"] == "Failed" and "MemoryError" in row["run_result"]["stderr"]
    row = post("/run_code", {"code": code, "language": "python"}).json()
    assert row["run_result"]["stdout"] == f"{300 << 20}\n"
    code = "while True: print('x' * 999)\n"
    row = post("/run_code", {"code": code, "language": "python"}).json()
    result = row["run_result"]
    assert (row["status"], result["status"], result["return_code"]) == ("Failed", "Finished", -9)
    assert result["stdout"].endswith("\n[sandbox: the output is cut here]\n")
    assert 1 << 20 < len(result["stdout"]) < (1 << 20) + 100
    assert "[sandbox: ended, more than 1048576 bytes of output]" in result["stderr"]


class _Broken:
    """A sandbox that fails."""

    capacity = 3
    languages = ("python",)

    def submit(self, job: Any, owner: str) -> Any:
        from concurrent.futures import Future

        future: Future[Outcome] = Future()
        future.set_result(Outcome("infra_error", "in_sandbox", message="no fork"))
        return future


def test_a_fault_of_the_sandbox_is_no_verdict() -> None:
    from tests.server.sandbox.conftest import serving

    with serving(_Broken()) as served:
        body = {"code": "print(1)", "language": "python"}
        row = httpx.post(f"{served.url}/run_code", json=body).json()
        assert (row["status"], row["message"]) == ("SandboxError", "no fork")
        assert row["run_result"] is None
        job = {"program": "x = 1", "test": "assert x"}
        response = httpx.post(f"{served.url}/v1/judge", json=job)
        assert response.status_code == 503 and "retry-after" in response.headers
        response = httpx.post(f"{served.url}/v1/judge_many", json={"jobs": [job]})
        assert response.json() == {"key": "0", "error": "no fork"}


def test_the_same_program_judged_both_ways(sandbox: Sandbox, post: Any) -> None:
    """``/run_code`` believes an exit code, which is why it gives no verdict."""
    forged = "import os\nos._exit(0)\n"
    code = f"{forged}assert add(1, 2) == 3\n"
    assert post("/run_code", {"code": code, "language": "python"}).json()["status"] == "Success"
    job = Job(forged, test="assert add(1, 2) == 3\n", limits=Limits(cpu_s=1.0))
    assert sandbox.run(job).status == "exited"
