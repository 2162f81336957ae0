"""A real HTTP server on loopback that speaks OpenAI's protocol, and misbehaves when told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """One response: JSON unless ``raw``, after ``delay_s``; ``cut`` closes the connection at once.

    ``promise`` more bytes are announced than sent.
    """

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay_s: float = 0.0
    cut: bool = False
    promise: int = 0


def completion(text: Any, finish_reason: str = "stop", chat: bool = True, **extra: Any) -> Reply:
    content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    choice = {"index": 0, "finish_reason": finish_reason, **content, **extra}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    return Reply({"object": "chat.completion", "choices": [choice], "usage": usage})


def sse(pieces: list[str], finish_reason: str = "stop") -> Reply:
    """The parts of a stream that suit chat and plain completions alike, then the usage."""
    rows: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": piece}, "text": piece}]} for piece in pieces
    ]
    rows.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    rows.append({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}})
    lines = [f"data: {json.dumps(row)}\n\n" for row in rows] + ["data: [DONE]\n\n"]
    return Reply(raw="".join(lines).encode(), headers={"Content-Type": "text/event-stream"})


def error(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    body = {"error": {"message": message, "type": "some_error", "code": code}}
    return Reply(body, status, {name.replace("_", "-"): value for name, value in headers.items()})


class Model:
    """What the server does: scripted replies first, then ``answer`` of each body."""

    def __init__(self, answer: Callable[[dict[str, Any]], Reply]) -> None:
        self.answer = answer
        self.script: list[Reply] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.url = ""
        self.listing: Reply | None = Reply({"data": [{"id": "m"}, {"id": "other"}]})

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]

    def handle(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.times.append(time.monotonic())
            self.paths.append(path)
            self.headers.append(headers)
            self.bodies.append(body)
            reply = self.script.pop(0) if self.script else None
        try:
            reply = reply or self.answer(body)
            time.sleep(reply.delay_s)
            return reply
        finally:
            with self.lock:
                self.in_flight -= 1


def echo(body: dict[str, Any]) -> Reply:
    """Answers with the prompt's end and the seed."""
    if "messages" in body:
        return completion(f"{body['messages'][-1]['content'][-200:]}|{body.get('seed')}")
    return completion(f"{body['prompt'][-200:]}|{body.get('seed')}", chat=False)


class _Handler(BaseHTTPRequestHandler):
    model: Model

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        body = json.loads(self.rfile.read(length))
        headers = {name.title(): value for name, value in self.headers.items()}
        reply = self.model.handle(self.path, headers, body)
        with suppress(BrokenPipeError, ConnectionResetError):  # the client gave up waiting
            self.send(reply)

    def do_GET(self) -> None:
        known = self.path.endswith("/models") and self.model.listing
        self.send(known or Reply(raw=b"404 page not found", status=404))

    def send(self, reply: Reply) -> None:
        if reply.cut:
            self.close_connection = True
            return
        raw = reply.raw if reply.raw is not None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Type" not in reply.headers:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw) + reply.promise))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Reply] = echo) -> Iterator[Model]:
    model = Model(answer)
    handler = type("Handler", (_Handler,), {"model": model})
    with _Server(("127.0.0.1", 0), handler) as server:
        model.url = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield model
        finally:
            server.shutdown()
            thread.join()
