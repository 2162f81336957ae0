"""The native routes: verdicts over HTTP are those of the sandbox itself."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest

from codegen.core.errors import ConfigError, InputError, SandboxError
from codegen.sandbox import Job, Limits, Outcome, Sandbox, ScriptJob
from codegen.sandbox.client import AsyncSandboxClient, SandboxClient
from codegen.sandbox.languages import HELLO, installed
from tests.server.conftest import Served
from tests.server.sandbox.conftest import TOKEN, serving

ADD = "def add(a, b):\n    return a + b\n"
CHECK = "def check(f):\n    assert f(1, 2) == 3\n"
PLAIN = "assert add(1, 2) == 3\n"
SHORT = Limits(cpu_s=0.3, memory_mib=256)
JOBS = {
    "right": Job(ADD, test=CHECK, entry_point="add"),
    "wrong": Job(ADD.replace("+", "-"), test=CHECK, entry_point="add"),
    "raises": Job(ADD.replace("a + b", "1 / 0"), test=CHECK, entry_point="add"),
    "not Python": Job("def add(", test=CHECK, entry_point="add"),
    "empty": Job("# nothing\n", test=CHECK, entry_point="add"),
    "exits": Job("import os\nos._exit(0)\n", test=CHECK, entry_point="add"),
    "crashes": Job("import ctypes\nctypes.string_at(0)\n", test=CHECK),
    "never ends": Job(f"{ADD}while True: pass\n", test=CHECK, entry_point="add", limits=SHORT),
    "takes memory": Job("x = bytearray(1 << 40)\n", test=CHECK, limits=SHORT),
    "has a bad test": Job(ADD, test="add(1, 2) == 3\n"),
    "with a setup": Job(ADD, setup="n = 2\n", test="assert add(1, n) == 3\n"),
    "prints": Job("print(input()[::-1])\n", mode="stdio", stdin="ab", expected_stdout="ba"),
    "prints wrongly": Job("print(1)\n", mode="stdio", expected_stdout="2"),
    "beside its tests": Job(ADD, test=PLAIN, mode="in_sandbox"),
    "could be forged": Job(ADD, test=PLAIN, mode="in_sandbox", least_trust="blinded"),
    "é \N{SNAKE}": Job("def f(): return 'é\N{SNAKE}'\n", test="assert f() == 'é🐍'\n"),
}
VALUES = [
    "1", "1.5", "-0.0", "float('inf')", "2 ** 80", "True", "None", "'é\\ud800'", "b'a'", "[1, [2]]",
    "(1, (2,))", "{1, 2}", "{'a': [1]}", "{1: 'a', (2,): 3}", "range(3)", "1 + 2j",
    "[(1,), {'a': {1}}]",
]  # fmt: skip


def same(one: Outcome, other: Outcome) -> bool:
    """Whether two outcomes differ in what they took alone."""
    names = ("status", "trust", "message", "stdout", "values")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("name", JOBS)
def test_a_verdict_is_that_of_the_sandbox(
    sandbox: Sandbox, client: SandboxClient, name: str
) -> None:
    ours, theirs = client.run(JOBS[name]), sandbox.run(JOBS[name])
    if name == "never ends":  # the message says how long
        assert (ours.status, ours.trust) == (theirs.status, theirs.trust) == ("timeout", "isolated")
        return
    assert same(ours, theirs), (ours, theirs)
    assert (ours.cpu_s > 0) == (theirs.cpu_s > 0)


def test_a_client_asks_for_trust(service: Served, client: SandboxClient) -> None:
    job = JOBS["beside its tests"]
    with SandboxClient(service.url, least_trust="blinded") as asking:
        assert (client.run(job).status, asking.run(job).status) == ("passed", "refused")
        assert asking.run(JOBS["right"]).passed and asking.run(JOBS["prints"]).passed


def test_many_verdicts_come_with_their_keys(sandbox: Sandbox, client: SandboxClient) -> None:
    jobs = {name: job for name, job in JOBS.items() if name != "never ends"}
    found = list(client.map((f"{name}/{n}", job) for n in range(5) for name, job in jobs.items()))
    assert len(found) == 5 * len(jobs)
    wanted = dict(sandbox.map(jobs.items()))
    for key, outcome in found:
        assert same(outcome, wanted[key.rpartition("/")[0]]), (key, outcome)
    assert len({key for key, _ in found}) == len(found)


def test_values_of_calls_come_back_as_they_are(sandbox: Sandbox, client: SandboxClient) -> None:
    job = Job("x = 0\ndef f(y, z=0): return [y, z]\n", mode="calls", calls=VALUES)
    ours, theirs = client.run(job), sandbox.run(job)
    assert len(ours.values) == len(VALUES)
    assert repr(ours.values) == repr(theirs.values)
    calls = [("f", [1.0, "a"]), ("f", [[None]], {"z": {"b": 1, "a": 2}}), ("x", None), "f(1/0)"]
    job = Job(job.program, mode="calls", calls=calls)
    ours, theirs = client.run(job), sandbox.run(job)
    assert ours.results == theirs.results
    assert [result.ok for result in ours.results] == [True, True, True, False]
    with pytest.raises(InputError, match="as an expression"):
        client.run(Job(job.program, mode="calls", calls=[("f", [(1, 2)])]))


def test_equal_jobs_run_once(post: Callable[..., httpx.Response]) -> None:
    job = {"program": "import os\nx = os.urandom(8).hex()\n", "mode": "calls", "calls": ["x"]}
    first, second = post("/v1/judge", job).json(), post("/v1/judge", job).json()
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["results"] == second["results"]
    fresh = post("/v1/judge", {**job, "cache": False}).json()
    assert not fresh["cached"] and fresh["results"] != first["results"]
    # Whatever could decide the verdict is in the key: also the type and the order of arguments.
    program = "def f(x): return repr(x)\n"
    seen = set()
    for value in (1, 1.0, True, "1", [1], {"a": 1, "b": 2}, {"b": 2, "a": 1}, None):
        job = {"program": program, "mode": "calls", "calls": [["f", [value]]]}
        row = post("/v1/judge", job).json()
        assert row["results"][0]["value"] == repr(value) and not row["cached"]
        seen.add(row["results"][0]["value"])
    assert len(seen) == 8


def test_limits_are_those_of_the_server_at_most(post: Callable[..., httpx.Response]) -> None:
    program = "x = bytearray(600 << 20)\n"
    job = {"program": program, "mode": "calls", "calls": ["1"], "limits": {"memory_mib": 99999}}
    assert post("/v1/judge", job).json()["status"] == "memory"
    job["limits"] = {"memory_mib": 1}
    response = post("/v1/judge", job)
    assert response.status_code == 400 and "memory_mib" in response.json()["error"]["message"]


BAD: list[tuple[str, Any, int, str]] = [
    ("/v1/judge", {}, 400, "program is required"),
    ("/v1/judge", {"program": 1}, 400, "program is 1"),
    ("/v1/judge", {"program": "", "tset": "x"}, 400, "tset"),
    ("/v1/judge", {"program": "", "mode": "exec"}, 400, "mode"),
    ("/v1/judge", {"program": "x=1", "limits": {"cpu_s": "x"}}, 400, "limits.cpu_s"),
    ("/v1/judge", {"program": "x=1", "language": "cobol"}, 422, "choose from python"),
    ("/v1/judge", {"program": "x=1", "mode": "calls", "calls": [5]}, 400, "call"),
    ("/v1/judge", [], 400, "must be a JSON object"),
    ("/v1/judge_many", {"jobs": []}, 400, "jobs must be a list"),
    ("/v1/judge_many", {"jobs": [{"program": ""}, {}]}, 400, "jobs.1: program is required"),
    ("/v1/judge_many", {"jobs": ["x"]}, 400, "jobs.0"),
    ("/v1/judge_many", {"jobs": [{}] * 5000}, 413, "the limit is 4096"),
    ("/v1/judge_many", {"jobs": [{}] * 500_000}, 413, "more than 400000 values"),
    ("/v1/judge", {"program": "", "calls": [[]] * 500_000}, 413, "more than 400000 values"),
    ("/v1/judge", {"program": "", "mode": "calls", "calls": [["f", [{}] * 10**6]]}, 413, "values"),
    ("/v1/nothing", {}, 404, "No route POST /v1/nothing"),
]


@pytest.mark.parametrize(("path", "body", "status", "words"), BAD, ids=lambda case: repr(case)[:40])
def test_a_mistake_is_one_line(
    post: Callable[..., httpx.Response], path: str, body: Any, status: int, words: str
) -> None:
    response = post(path, body)
    message = response.json()["error"]["message"]
    assert response.status_code == status and words in message
    assert "\n" not in message and len(message) < 400


def test_the_token_is_needed_and_may_stand_in_the_url(sandbox: Sandbox, monkeypatch: Any) -> None:
    job = {"program": ADD, "test": CHECK, "entry_point": "add"}
    with serving(sandbox, TOKEN) as served:
        url = f"{served.url}/v1/judge"
        assert httpx.post(url, json=job).status_code == 401
        assert httpx.get(f"{served.url}/health").status_code == 200
        assert httpx.get(f"{served.url}/metrics").status_code == 401
        for auth in (("any", "wrong-token-of-the-tests"), ("any", ""), (TOKEN, "")):
            assert httpx.post(url, json=job, auth=auth).status_code == 401
        with_token = url.replace("http://", f"http://any:{TOKEN}@")
        assert httpx.post(with_token, json=job).json()["passed"]
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert httpx.post(url, json=job, headers=bearer).json()["passed"]
        assert httpx.post(url, json=job, headers={"authorization": "Basic !"}).status_code == 401
        pages = {**bearer, "origin": "http://evil.example"}
        assert httpx.post(url, json=job, headers=pages).status_code == 403
        hosts = {**bearer, "host": "evil.example"}
        assert httpx.post(url, json=job, headers=hosts).status_code == 421


def test_values_inside_of_texts_do_not_count(post: Callable[..., httpx.Response]) -> None:
    text = '[1,{"a":"\\",' * 100_000
    body = {"program": "print(len(input()))", "stdin": text, "expected_stdout": str(len(text))}
    assert post("/v1/judge", {**body, "mode": "stdio"}).json()["passed"]


def test_large_and_slow_requests_are_refused(service: Served, client: SandboxClient) -> None:
    head = f"POST /v1/judge HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n"
    head += "Content-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"{head}Content-Length: {100 << 20}\r\n\r\n".encode() + b"x" * 100)
        assert b" 413 " in connection.recv(4096)
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"100000\r\n" + b"x" * (1 << 20) + b"\r\n"
        with suppress(OSError):  # it stops to listen
            for _ in range(9):
                connection.sendall(chunk)
        assert b" 413 " in connection.recv(4096)
    # Many that never finish what they began keep nobody out.
    with ExitStack() as slow:
        for _ in range(60):
            connection = slow.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            connection.sendall(f"{head}Content-Length: 5000\r\n\r\n".encode() + b'{"pro')
        began = time.monotonic()
        assert client.run(JOBS["right"]).passed
        assert time.monotonic() - began < 10


def test_scripts_through_the_client(sandbox: Sandbox, client: SandboxClient) -> None:
    code = "import sys\nprint(open('in').read(), file=sys.stderr)\nprint(input())\n"
    code += "open('out', 'wb').write(b'\\xff')\nsys.exit(3)\n"
    script = ScriptJob(code, "é", {"in": b"given"}, ["out", "none"])
    ours, theirs = client.run(script), sandbox.run(script)
    for name in ("status", "trust", "stdout", "stderr", "exit_code", "files"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.files == {"out": b"\xff"}


def test_info_and_metrics_tell_what_happened(
    sandbox: Sandbox, post: Callable[..., httpx.Response], service: Served, client: SandboxClient
) -> None:
    assert client.describe() == json.loads(json.dumps(sandbox.describe()))
    before = _counter(service, "codegen_jobs_wrong_total")
    post("/v1/judge", {"program": ADD, "test": "assert add(1, 1) == 3\n", "cache": False})
    assert _counter(service, "codegen_jobs_wrong_total") == before + 1
    assert _counter(service, "codegen_running") == 0 == _counter(service, "codegen_waiting")


def _counter(service: Served, name: str) -> float:
    lines = httpx.get(f"{service.url}/metrics").text.splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


def test_the_token_stays_in_the_environment(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("def f(): return 1\n", test="assert f() == 1\n")
    with serving(sandbox, TOKEN) as served, SandboxClient(served.url) as client:
        with pytest.raises(ConfigError, match="CODEGEN_SANDBOX_TOKEN"):
            client.run(job)
        client.close()
        monkeypatch.setenv("CODEGEN_SANDBOX_TOKEN", TOKEN)
        assert client.run(job).passed
        data = pickle.dumps(client)
        assert TOKEN.encode() not in data
        with pickle.loads(data) as copy:  # noqa: S301 - our own
            assert copy.run(job).passed
    with pytest.raises(ConfigError, match="must not contain its token") as error:
        SandboxClient(f"http://any:{TOKEN}@127.0.0.1:8080")
    assert TOKEN not in str(error.value)
    for url in ("", "127.0.0.1:8080", "ftp://x", "http://", []):
        with pytest.raises(ConfigError):
            SandboxClient(url)  # type: ignore[arg-type]


def test_a_client_serves_several_threads_and_loops(service: Served, client: SandboxClient) -> None:
    job = Job("def f(): return 1\n", test="assert f() == 1\n")
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: client.run(job).passed, range(40)))
    other = AsyncSandboxClient(service.url)
    for _ in range(2):
        assert asyncio.run(other.run(job)).passed
    asyncio.run(other.close())


def test_an_iterator_that_is_dropped_ends_its_requests(client: SandboxClient) -> None:
    found = client.map((n, Job(f"x = {n}\n", test="assert x\n")) for n in range(1, 10_000))
    assert next(found)[1].passed
    found.close()
    assert client.run(Job("x = 5\n", test="assert x == 5\n")).passed


HERE = tuple(found.language.name for found in installed())
PICKED = tuple(name for name in ("bash", "perl", "javascript", "cpp") if name in HERE)
# Of a program that reads a number n from standard input: prints n + 1, a word on standard error,
# leaves a file, and ends with exit code 3.
PROGRAMS = {
    "bash": "read n; echo $((n + 1)); echo no >&2; echo left > out; exit 3\n",
    "perl": "my $n = <STDIN>; print $n + 1, qq(\\n); print STDERR qq(no\\n); "
    "open(F, '>', 'out'); print F qq(left\\n); close(F); exit 3;\n",
    "javascript": "const fs = require('fs'); const n = Number(fs.readFileSync(0, 'utf8'));\n"
    "console.log(n + 1); console.error('no'); fs.writeFileSync('out', 'left\\n');\n"
    "process.exit(3);\n",
    "cpp": "#include <fstream>\n#include <iostream>\nint main() { int n; std::cin >> n;\n"
    'std::cout << n + 1 << "\\n"; std::cerr << "no\\n"; std::ofstream("out") << "left\\n";\n'
    "return 3; }\n",
}
BROKEN = {"cpp": "int main() { return x; }\n"}


@pytest.fixture(scope="module")
def many() -> Iterator[Served]:
    if not PICKED:
        pytest.skip("no compiler or interpreter of another language is installed")
    try:
        with Sandbox(workers=1, languages=PICKED) as sandbox, serving(sandbox) as served:
            yield served
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PICKED)
def test_run_code(many: Served, name: str) -> None:
    body = {"code": PROGRAMS[name], "language": name, "stdin": "41\n", "fetch_files": ["out"]}
    if name == "javascript":
        body["language"] = "nodejs"  # as SandboxFusion calls it
    row = httpx.post(f"{many.url}/run_code", json=body, timeout=60).json()
    assert row["status"] == "Failed"
    result = row["run_result"]
    assert (result["return_code"], result["stdout"], result["stderr"]) == (3, "42\n", "no\n")
    assert row["files"] == {"out": "bGVmdAo="}
    compiled = row["compile_result"]
    assert (compiled is not None and compiled["return_code"] == 0) == (name == "cpp")


@pytest.mark.parametrize("name", [name for name in PICKED if name in BROKEN])
def test_what_cannot_be_compiled(many: Served, name: str) -> None:
    body = {"code": BROKEN[name], "language": name}
    row = httpx.post(f"{many.url}/run_code", json=body, timeout=60).json()
    assert (row["status"], row["run_result"], row["message"]) == ("Failed", None, "")
    compiled = row["compile_result"]
    assert (compiled["status"], compiled["return_code"]) == ("Finished", 1)
    assert "x" in compiled["stderr"]
    with SandboxClient(many.url) as client:
        assert client.run(ScriptJob(BROKEN[name], language=name)).status == "compile_error"


@pytest.mark.parametrize("name", PICKED)
def test_verdicts(many: Served, name: str) -> None:
    with SandboxClient(many.url) as client:
        for expected, status in (("hello", "passed"), ("other", "wrong")):
            job = Job(HELLO[name], mode="stdio", expected_stdout=expected, language=name)
            outcome = client.run(job)
            assert (outcome.status, outcome.trust) == (status, "stdio")
        assert name in client.describe()["languages"]


def test_a_language_that_is_not_served_is_refused(many: Served) -> None:
    for name in ("cobol", "haskell", "sql"):
        response = httpx.post(f"{many.url}/run_code", json={"code": "", "language": name})
        assert response.status_code == 422
        assert "python" in response.json()["detail"]
        response = httpx.post(f"{many.url}/v1/judge", json={"program": "x", "language": name})
        assert response.status_code == 422
        assert PICKED[0] in response.json()["error"]["message"]
