"""Tabby's own agent, from npm, against our endpoints."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import tools
from tests.server.conftest import TOKEN, Served

pytestmark = pytest.mark.slow

TEXT = "def f(value):\n    "
URI = "file:///project/main.py"


class Agent:
    """Speaks LSP with the agent."""

    def __init__(self, script: Path, home: Path) -> None:
        self._number = 0
        environment = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        node = shutil.which("node") or "node"
        self.process = subprocess.Popen(
            [node, str(script), "--lsp", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            env=environment,
        )

    def send(self, method: str, params: Any, *, notify: bool = False) -> Any:
        """Sends a message and, unless it is a notification, returns its result."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if not notify:
            self._number += 1
            message["id"] = self._number
        self._write(message)
        return None if notify else self._result(self._number)

    def _write(self, message: Any) -> None:
        data = json.dumps(message).encode()
        assert self.process.stdin
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.process.stdin.flush()

    def _result(self, number: int) -> Any:
        while True:
            message = self._read()
            if message.get("id") == number and "method" not in message:
                assert "error" not in message, message
                return message["result"]
            if "id" in message and "method" in message:  # the agent asks something
                self._write({"jsonrpc": "2.0", "id": message["id"], "result": None})

    def _read(self) -> Any:
        stream = self.process.stdout
        assert stream
        length = 0
        while (line := stream.readline().strip()) or not length:
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            assert self.process.poll() is None
        return json.loads(stream.read(length))


def test_tabby_agent_completes(served: Served, engine: Any, tmp_path: Path) -> None:
    script = tools.tabby_agent()
    config = tmp_path / ".tabby-client" / "agent" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(
        f'[server]\nendpoint = "{served.url}"\ntoken = "{TOKEN}"\n'
        "[anonymousUsageTracking]\ndisable = true\n"
    )
    agent = Agent(script, tmp_path)
    try:
        capabilities: dict[str, Any] = {"textDocument": {"completion": {}}, "workspace": {}}
        agent.send(
            "initialize",
            {"processId": None, "rootUri": None, "capabilities": capabilities},
        )
        agent.send("initialized", {}, notify=True)
        document = {"uri": URI, "languageId": "python", "version": 1, "text": TEXT}
        agent.send("textDocument/didOpen", {"textDocument": document}, notify=True)
        params = {
            "textDocument": {"uri": URI},
            "position": {"line": 1, "character": 4},
            "context": {"triggerKind": 1},
        }
        result = agent.send("textDocument/completion", params)
    finally:
        agent.process.kill()
        agent.process.wait()
    items = result["items"] if isinstance(result, dict) else result
    assert items
    assert engine.metrics.value("completions") >= 1
    if hasattr(engine._worker, "caches"):
        assert len(engine._worker.caches._documents) == 1
