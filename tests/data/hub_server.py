"""A small stand-in for the hub: the routes that creating a dataset and uploading to it use."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

TOKEN = "hf_not_a_real_token_0123456789abcdef"


@dataclass
class Hub:
    """What was uploaded, and how to answer.

    Attributes:
        files: path -> content of the one repository.
        private: None until it is made.
        refuse: an HTTP status for all writes, 0 to let them.
        requests: (method, path) of each.
    """

    endpoint: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    private: bool | None = None
    refuse: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def hub() -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def allowed(self) -> bool:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer({"error": "Invalid username or password."}, 401)
                return False
            if state.refuse:
                # Some proxies echo what they were sent.
                self.answer({"error": f"refused {self.headers['Authorization']}"}, state.refuse)
                return False
            return True

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            state.requests.append(("GET", path))
            if state.private is None:
                self.answer({"error": "Repository not found"}, 404)
            elif path.startswith("/api/datasets/me/data/tree/"):
                rows = [
                    {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                    for name, data in state.files.items()
                ]
                self.answer(rows)
            elif path.startswith("/api/datasets/me/data"):
                siblings = [{"rfilename": name} for name in state.files]
                info = {"id": "me/data", "private": state.private, "sha": "1" * 40}
                self.answer({**info, "siblings": siblings, "tags": [], "downloads": 0})
            else:
                self.answer({"error": "no such route"}, 404)

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            state.requests.append(("POST", path))
            data = self.body()
            if path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif not self.allowed():
                return
            elif path == "/api/repos/create":
                url = {"url": f"{state.endpoint}/datasets/me/data"}
                if state.private is not None:
                    self.answer({**url, "error": "You already created this repo"}, 409)
                else:
                    asked = json.loads(data)  # in the newer form, or the older
                    state.private = asked.get("visibility") == "private" or bool(
                        asked.get("private")
                    )
                    self.answer(url)
            elif path == "/api/datasets/me/data/preupload/main":
                files = json.loads(data)["files"]
                mode = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
                self.answer({"files": [{"path": file["path"], **mode} for file in files]})
            elif path == "/api/datasets/me/data/commit/main":
                self.commit(data)
            else:
                self.answer({"error": "no such route"}, 404)

        def commit(self, data: bytes) -> None:
            for line in data.splitlines():
                row = json.loads(line)
                value = row["value"]
                if row["key"] == "file":
                    state.files[value["path"]] = base64.b64decode(value["content"])
                elif row["key"] == "deletedFile":
                    del state.files[value["path"]]
            url = f"{state.endpoint}/datasets/me/data/commit/{'2' * 40}"
            self.answer({"commitUrl": url, "commitOid": "2" * 40, "hookOutput": ""})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
