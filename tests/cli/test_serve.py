"""``codegen serve --upstream``: what is wrong at the start in one line, and the key nowhere."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests import processes
from tests.processes import lives, wait_for
from tests.selection import some
from tests.server.upstream_server import Script, UpstreamServer

CODEGEN = str(Path(sys.executable).with_name("codegen"))
KEY = "sk-0123456789abcdefghij"
NO_PORT = "http://127.0.0.1:9/v1"  # discard: nobody listens there


@pytest.fixture
def server() -> Iterator[UpstreamServer]:
    server = UpstreamServer(Script(models=["coder", "talker"], key=KEY))
    yield server
    server.stop()


def run(kind: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"THE_KEY": KEY, **environment}
    return processes.run(CODEGEN, "serve", kind, *options, env=environment, input="", timeout=60)


@pytest.mark.parametrize(
    ("upstream", "options", "code", "words"),
    some([
        ("localhost:8080", [], 2, "not an http or https URL"),
        ("http://user:word@127.0.0.1/v1", [], 2, "has a user"),
        (NO_PORT, [], 1, "does not respond: no connection (Connection refused)"),
        ("{url}", [], 1, "rejects the API key: HTTP 401"),
        ("{url}", ["--api-key-env", "NOT_SET"], 2, "NOT_SET is not set"),
        ("{url}", ["--api-key-env", "WRONG"], 1, "rejects the API key: HTTP 401"),
        ("{url}", ["--api-key-env", "THE_KEY"], 2, "has several models: coder, talker"),
        ("{url}", ["--api-key-env", "THE_KEY", "--model", "codr"], 1, "Did you mean 'coder'?"),
        ("{url}", ["--api-key-env", "THE_KEY", "--model", "coder", "-o", "fim=infill"], 1,
         "offers no completions with -o fim=infill"),
        ("{page}", ["--model", "coder"], 1, "is not OpenAI-compatible"),
        ("{url}/more", ["--api-key-env", "THE_KEY"], 1, "lists no models"),
        ("{url}", ["-o", "threads=3"], 2, "-o threads cannot be used with --upstream"),
        ("", ["-o", "fim=qwen"], 2, "-o fim cannot be used with a transformers model"),
    ], 3),
)  # fmt: skip
def test_bad_input_is_one_line(
    server: UpstreamServer, upstream: str, options: list[str], code: int, words: str
) -> None:
    page = f"http://127.0.0.1:{server.port}/page"
    given = ["--upstream", upstream.format(url=server.url, page=page)] if upstream else []
    done = run("http", "--port", "0", *given, *options, WRONG="sk-wrong-0123456789")
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert KEY not in done.stderr and "sk-wrong" not in done.stderr and "word@" not in done.stderr


@pytest.mark.parametrize(
    "raw",
    [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[["],
)
def test_a_server_that_speaks_something_else(raw: bytes) -> None:
    import threading

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(raw)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        done = run("http", "--upstream", f"http://127.0.0.1:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "Error" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_named_endpoint(server: UpstreamServer, tmp_path: Path) -> None:
    table = f'[here]\nurl = "{server.url}"\nmodel = "absent"\napi_key_env = "THE_KEY"\n'
    (tmp_path / "models.toml").write_text(table)
    done = run("http", "--port", "0", "--upstream", "here", CODEGEN_CONFIG=str(tmp_path))
    assert done.returncode == 1 and "has no model 'absent'" in done.stderr  # the key was right
    options = ["--upstream", "here", "--model", "talkr"]
    done = run("http", "--port", "0", *options, CODEGEN_CONFIG=str(tmp_path))
    assert done.returncode == 1 and "Did you mean 'talker'?" in done.stderr


@contextmanager
def serving(kind: str, url: str, *options: str) -> Iterator[Any]:
    """A server of ours with the key of another one, which it asks."""
    command = [CODEGEN, "serve", kind, "--upstream", url, "--api-key-env", "THE_KEY", *options]
    environment, pipe = {**os.environ, "THE_KEY": KEY}, subprocess.PIPE
    with subprocess.Popen(
        command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _message(body: Any) -> bytes:
    data = json.dumps({"jsonrpc": "2.0", **body}).encode()
    return b"Content-Length: %d\r\n\r\n" % len(data) + data


def _read(stream: Any) -> Any:
    length = 0
    while (line := stream.readline().strip()) or not length:
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return json.loads(stream.read(length))


def test_an_editor_may_be_started_before_its_upstream(tmp_path: Path) -> None:
    server = UpstreamServer(Script(llama=True, routes={"infill"}, key=KEY))
    server.stop()
    log, seen = tmp_path / "log", list[str]()

    def send(**body: Any) -> None:
        process.stdin.write(_message(body))
        process.stdin.flush()

    def wait_for(method: str, words: str) -> None:
        while True:
            message = _read(process.stdout)
            seen.append(json.dumps(message))
            if message.get("method") == method and words in seen[-1]:
                return

    capabilities = {"textDocument": {"inlineCompletion": {}}}
    with serving("lsp", server.url, "--log-file", str(log)) as process:
        params: dict[str, Any] = {"capabilities": capabilities, "rootUri": None, "processId": None}
        send(id=1, method="initialize", params=params)
        send(method="initialized", params={})
        wait_for("$/codegen/status", "does not respond")
        assert '"Warning"' in seen[-1]
        text = {"uri": "file:///a.py", "languageId": "python", "version": 1, "text": "x = \n"}
        send(method="textDocument/didOpen", params={"textDocument": text})
        asked = {"textDocument": {"uri": "file:///a.py"}, "position": {"line": 0, "character": 4}}
        context = {"context": {"triggerKind": 1}}
        send(id=2, method="textDocument/inlineCompletion", params={**asked, **context})
        server.start()  # the request that waits is answered
        while (answer := _read(process.stdout)).get("id") != 2:
            seen.append(json.dumps(answer))
        assert answer["result"]["items"][0]["insertText"] == "answer text"
        assert any("is ready" in line and '"Normal"' in line for line in seen)
        send(id=3, method="shutdown", params=None)
        send(method="exit", params=None)
        assert process.wait(timeout=30) == 0
        shown = "".join(seen) + process.stderr.read().decode()
    server.stop()
    assert log.stat().st_mode & 0o7777 and KEY not in log.read_text() and KEY not in shown
    assert not any(KEY in argument for argument in process.args)  # type: ignore[union-attr]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_a_server_cleanly(server: UpstreamServer, number: signal.Signals) -> None:
    with serving("http", server.url, "--port", "0", "--model", "coder") as process:
        lines = [process.stderr.readline() for _ in range(3)]
        assert b"Token:" in lines[-1], lines
        process.send_signal(number)
        assert process.stderr.read().strip() == b"Stopped."
        assert process.wait(timeout=30) == 0


def test_ctrl_c_ends_a_language_server_that_waits_for_its_editor(server: UpstreamServer) -> None:
    with serving("lsp", server.url, "--model", "coder") as process:
        process.stdin.write(
            _message({"id": 1, "method": "initialize", "params": {"capabilities": {}}})
        )
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"Content-")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        assert process.stderr.read().strip() == b"Stopped."


def test_a_server_over_http_with_torch_left_out(server: UpstreamServer) -> None:
    """It starts in a moment, as nothing of a local model is loaded."""
    options = ("--port", "0", "--no-token", "--model", "coder")
    with serving("http", server.url, *options) as process:
        line = process.stderr.readline().decode()
        assert "Serving coder of" in line, line
        address = line.split()[-1]
        body = json.dumps({"prompt": "x = ", "suffix": "\n", "max_tokens": 4}).encode()
        asked = urllib.request.Request(
            f"{address}/v1/completions", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found = json.loads(answer.read())
        assert found["choices"][0]["text"] == "answer text" and found["model"] == "coder"
        assert "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text()
        server.stop()
        with urllib.request.urlopen(f"{address}/health", timeout=5) as health:
            assert health.status == 200
        process.terminate()
        assert KEY not in process.stderr.read().decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_address_of_a_server_is_a_url(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.cli.serve import SocketOptions

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.socket(family).bind((host, 0))
    except OSError:
        pytest.skip("this machine has no such address")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    options = SocketOptions(host=host, port=0, no_token=True)
    with options.listening() as (token, sock):
        url = urlsplit(options.address(sock))
        assert (token, url.scheme, url.hostname) == (None, "http", host)
        assert url.port == sock.getsockname()[1]


@dataclass
class Serving:
    """A running ``codegen serve http``."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str
    token: str

    def post(self, route: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + route,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def child(self) -> int:
        pid = self.process.pid
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        (child,) = {int(word) for task in tasks for word in task.read_text().split()}
        return child


@pytest.fixture
def served(fim_gguf: Path, tmp_path: Path) -> Iterator[Serving]:
    log, token = tmp_path / "log", tmp_path / "token"
    words = ["serve", "http", "--model", fim_gguf, "--port", "0", "--token-file", token]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "codegen", *map(str, words), "-o", "threads=1"], stderr=file
        )
    with process:
        for _ in range(600):
            if "Serving" in log.read_text() or process.poll() is not None:
                break
            time.sleep(0.1)
        said = log.read_text()
        assert "Serving" in said, said
        url = next(word for word in said.split() if word.startswith("http://"))
        yield Serving(process, log, url, token.read_text().strip())
        process.kill()


@pytest.mark.slow
def test_an_editor_is_answered_and_a_dead_child_is_replaced(served: Serving) -> None:
    shown = served.post("/api/show", {"model": ""})
    assert shown["capabilities"] == ["completion", "insert"]
    turn = {"messages": [{"role": "user", "content": "Name a colour."}], "model": ""}
    said = served.post("/api/chat", {**turn, "options": {"num_predict": 8}, "stream": False})
    assert said["message"]["content"] and said["prompt_eval_count"] > 8
    assert 0 < said["eval_count"] <= 8  # what is sampled may end earlier
    infill = {"input_prefix": "def add(a, b):\n    re", "input_suffix": "\n", "n_predict": 4}
    made = served.post("/infill", infill)
    assert made["content"]
    first = served.child()
    os.kill(first, signal.SIGKILL)
    body = {"prompt": "def sub(a, b):\n    return", "max_tokens": 6}
    assert served.post("/v1/completions", body)["choices"][0]["text"]
    second = served.child()
    assert second != first
    log = served.log.read_text()
    assert "fim.gguf stopped: llama.cpp was killed by SIGKILL." in log and "Traceback" not in log
    served.process.kill()
    served.process.wait()
    wait_for(lambda: not lives(second))


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["--model", "none.gguf"], 1, "Cannot read none.gguf: No such file"),
        (["--model", "text.gguf"], 1, "text.gguf is not a GGUF file"),
        (["--model", "{gguf}", "-o", "precision=full"], 2, "precision cannot be used with a GGUF"),
        (["--model", "{gguf}", "-o", "fim=infill"], 1, "offers no completions with -o fim=infill"),
    ],
)
def test_mistakes_get_one_line(
    embedded_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codegen: Any,
    words: list[str],
    code: int,
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.gguf").write_text("hello")
    given = [word.format(gguf=embedded_gguf) for word in words]
    ended, _, err = codegen("serve", "http", "--port", 0, *given)
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (ended, len(lines)) == (code, 1), lines
    assert what in lines[0]


def test_a_signal_during_a_destructor_is_not_lost() -> None:
    code = (
        "import os, time, click\nfrom codegen import cli\nclass Dying:\n    def __del__(self):\n"
        "        os.kill(os.getpid(), 15)\n        sum(range(9))\n@cli.cli.command()\ndef stop():\n"
        "    Dying()\n    time.sleep(60)\ncli.main(['stop'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, text=True)
    assert done.returncode == 143 and done.stderr.startswith("\nTerminated")
