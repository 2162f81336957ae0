"""Hub names, and what is said where the hub cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from codegen.core.errors import InputError
from codegen.core.hub import parse_hub


class _NoSuchDataset(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize("reachable", [True, False])
def test_a_mistyped_hub_name_fails_at_once(tmp_path: Path, reachable: bool) -> None:
    """datasets alone tries for 26 s; in a process of its own, which reads the hub's address."""
    server = HTTPServer(("127.0.0.1", 0), _NoSuchDataset)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    if not reachable:
        server.shutdown()
        server.server_close()
    script = (
        "import time; from codegen.data import open_source\n"
        "from codegen.core.errors import InputError\n"
        "import datasets\n"
        "began = time.monotonic()\n"
        "try: list(open_source('hub:org/nmae'))\n"
        "except InputError as error: print(error)\n"
        "print(time.monotonic() - began)\n"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HOME": str(tmp_path),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        timeout=120,
    )
    if reachable:
        server.shutdown()
        server.server_close()
    message, seconds = done.stdout.splitlines()
    assert message.startswith("Cannot open hub:org/nmae:train: ")
    assert "HF_TOKEN" in message
    assert float(seconds) < 60
    assert "Retrying" not in done.stderr


def test_hub_names() -> None:
    assert parse_hub("a/b") == ("a/b", "", "train")
    assert parse_hub("a/b:test") == ("a/b", "", "test")
    assert parse_hub("a/b:main") == ("a/b", "main", "train")
    assert parse_hub("a/b:main:test") == ("a/b", "main", "test")
    assert parse_hub("a/b::test") == ("a/b", "", "test")
    for bad in ("", ":x", "a:b:c:d"):
        with pytest.raises(InputError, match="not of the form"):
            parse_hub(bad)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("o/n", ("o/n", "", "test")),
        ("o/n:train", ("o/n", "", "train")),
        ("o/n:python", ("o/n", "python", "test")),
        ("o/n:python:validation", ("o/n", "python", "validation")),
    ],
)
def test_hub_specs(spec: str, parts: tuple[str, str, str]) -> None:
    assert parse_hub(spec, "test") == parts


@pytest.mark.parametrize("spec", ["", ":x", "a:b:c:d"])
def test_hub_specs_that_are_none(spec: str) -> None:
    with pytest.raises(InputError, match="is not of the form"):
        parse_hub(spec)
