"""A real HTTP server on loopback that offers what a test says, llama.cpp's routes or others."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_SENTINEL = r"<\|\w+\|>|<[\w-]+>|\[[A-Z]+\]|<｜[^｜]*｜>"


@dataclass
class Script:
    """What the server does.

    Attributes:
        models: of ``/v1/models``; None: there is no such route.
        llama: whether ``/props`` is llama.cpp's.
        routes: of infill, text, fim, chat: those that answer.
        suffix: whether a suffix of text completions is read.
        sentinels: whether sentinels are one token each.
        template: tokens that are put around a prompt of text completions.
        key: that is required, if any.
        slots: of llama.cpp, which it shows if there are any.
        cached: whether it says that it had the prompt.
        fault: what ``/v1/models`` answers instead.
        pieces: of the answer to a body.
        wait: seconds before each piece.
        replies: that come first, one a completion request; a number of pieces cuts the stream off
            after so many.
    """

    models: list[str] | None = field(default_factory=lambda: ["coder"])
    llama: bool = False
    routes: set[str] = field(default_factory=lambda: {"text"})
    suffix: bool = False
    sentinels: bool = False
    template: int = 0
    key: str = ""
    slots: int = 0
    cached: bool = False
    fault: Response | None = None
    pieces: Callable[[dict[str, Any]], list[str]] = lambda body: ["answer", " text"]
    wait: float = 0.0
    replies: list[Response | int] = field(default_factory=list)


class UpstreamServer:
    """Runs a script in a thread, on a port that stays the same.

    Attributes:
        asked: (path, body) of each completion request.
        seen: paths of all requests.
        sent: pieces that went out.
        left: requests whose client left before their end.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.seen: list[str] = []
        self.sent = 0
        self.left = 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._routes = [
            Route("/props", self._props),
            Route("/slots", self._slots),
            Route("/v1/models", self._models),
            Route("/infill", self._completion("infill"), methods=["POST"]),
            Route("/completion", self._completion("native"), methods=["POST"]),
            Route("/v1/completions", self._completion("text"), methods=["POST"]),
            Route("/v1/fim/completions", self._completion("fim"), methods=["POST"]),
            Route("/v1/chat/completions", self._completion("chat"), methods=["POST"]),
            Route("/page/{rest:path}", lambda _: HTMLResponse("<html>hello</html>")),
        ]
        self.start()

    def start(self) -> None:
        """Starts it, or starts it again."""
        config = uvicorn.Config(
            Starlette(routes=self._routes), port=self.port, log_config=None, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve()), daemon=True
        )
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            threading.Event().wait(0.005)

    def stop(self) -> None:
        """Ends it at once, its connections with it."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(timeout=10)

    def bodies(self, key: str = "stream") -> list[dict[str, Any]]:
        """Of the requests that stream: those of the engine, not of the probe."""
        return [body for _, body in self.asked if body.get(key)]

    def _refusal(self, request: Request) -> Response | None:
        self.seen.append(request.url.path)
        key = self.script.key
        if key and request.headers.get("authorization") != f"Bearer {key}":
            given = request.headers.get("authorization", "")
            return error(401, f"Wrong key {given}", "invalid_api_key")
        return None

    async def _props(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if not self.script.llama:
            return error(404, "no such route")
        settings = {"default_generation_settings": {"n_ctx": 2048}, "total_slots": 4}
        return JSONResponse(settings)

    async def _slots(self, request: Request) -> Response:
        if not self.script.slots:
            return error(501, "no such route")
        tasks = {body.get("id_slot"): task for task, (_, body) in enumerate(self.asked, 1)}
        rows = [{"id": n, "is_processing": False} for n in range(self.script.slots)]
        return JSONResponse([row | {"id_task": tasks.get(row["id"], 0)} for row in rows])

    async def _models(self, request: Request) -> Response:
        if refusal := self._refusal(request):
            return refusal
        if self.script.fault:
            return self.script.fault
        if self.script.models is None:
            return error(404, "no such route")
        rows = [{"id": name, "object": "model"} for name in self.script.models]
        return JSONResponse({"object": "list", "data": rows})

    def _completion(self, kind: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if refusal := self._refusal(request):
                return refusal
            body = await request.json()
            self.asked.append((request.url.path, body))
            needed = "text" if kind == "native" else kind
            if needed not in self.script.routes or (kind == "native" and not self.script.llama):
                return error(501 if kind == "infill" else 404, "not supported")
            tokens = self._tokens(body)
            if not body.get("stream"):
                return JSONResponse(_row(kind, "x", True, tokens))
            reply = self.script.replies.pop(0) if self.script.replies else None
            if isinstance(reply, Response):
                return reply
            parts = self._parts(request, kind, body, tokens, reply)
            return StreamingResponse(parts, media_type="text/event-stream")

        return answer

    def _tokens(self, body: dict[str, Any]) -> int:
        """As a tokenizer of words and signs counts."""
        pattern = r"\w+|[^\w\s]"
        if self.script.sentinels:
            pattern = rf"{_SENTINEL}|{pattern}"
        text = str(body.get("prompt") or body.get("input_prefix", ""))
        if self.script.suffix:
            text += body.get("suffix", "")
        return len(re.findall(pattern, text)) + self.script.template

    async def _parts(
        self, request: Request, kind: str, body: dict[str, Any], tokens: int, cut: int | None
    ) -> AsyncIterator[str]:
        over = False
        try:
            for number, piece in enumerate(self.script.pieces(body)):
                if number == cut:
                    over = True
                    raise ConnectionError("cut off, as the test wants it")
                await asyncio.sleep(self.script.wait)
                self.sent += 1
                yield _event(_row(kind, piece, False, tokens, self.script.cached))
            yield _event(_row(kind, "", True, tokens, self.script.cached))
            yield "data: [DONE]\n\n"
            over = True
        finally:
            self.left += not over


def _row(kind: str, text: str, over: bool, tokens: int, cached: bool = False) -> dict[str, Any]:
    if kind in ("infill", "native"):
        timings = {"prompt_n": 1, "cache_n": tokens} if cached else {"prompt_n": tokens}
        return {"content": text, "stop": over, "stop_type": "eos", "timings": timings}
    inner: dict[str, Any] = {"text": text}
    if kind in ("chat", "fim"):
        inner = {"delta": {"content": text}, "message": {"content": text}}
    choice = {"index": 0, "finish_reason": "stop" if over else None, **inner}
    usage = {"usage": {"prompt_tokens": tokens}} if over else {}
    return {"choices": [choice], **usage}


def _event(row: dict[str, Any]) -> str:
    return f"data: {json.dumps(row)}\n\n"


def error(status: int, message: str, code: str = "some_error", **headers: str) -> JSONResponse:
    body = {"error": {"message": message, "type": code}}
    return JSONResponse(body, status, headers={k.replace("_", "-"): v for k, v in headers.items()})
