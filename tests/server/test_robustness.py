"""Fuzzing of both protocols, memory over many edits, processes that are killed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from lsprotocol.types import Position

from codegen.server.context.document import units
from codegen.server.editor.lsp import MalformedMessage, read_message
from tests.server.conftest import TOKEN, Served, change

CODEGEN = str(Path(sys.executable).with_name("codegen"))
URIS = ["file:///p/a.py", "file:///p/b.py", "untitled:c", "file:///p/.env"]
# Every line end, what Python takes for one, wide characters, NUL, a lone surrogate.
PIECES = ["a", "(", ")", "\n", "\r\n", "\r", "\x0c", "\u2028", "\x85", "\x00", "é", "漢", "😀",
          "\ud800", "def f():\n    ", "'", '"""', "# ", "return x"]  # fmt: skip


class Wire:
    """The language server in this process, its answers in a list."""

    def __init__(self, engine: Any) -> None:
        from pygls.lsp.server import LanguageServer

        from codegen.server.editor.lsp import Protocol, add_features
        from codegen.server.editor.session import EditorSession

        self.session = EditorSession(engine.limits, engine=engine)
        server = LanguageServer("codegen", "0", protocol_cls=Protocol)
        self.protocol: Any = server.protocol
        self.protocol.set_writer(self, include_headers=False)
        self.sent: list[Any] = []
        add_features(server, self.session)

    def write(self, data: bytes) -> None:
        self.sent.append(json.loads(data))

    def close(self) -> None:
        pass

    async def send(self, method: str, params: Any, number: Any = None) -> None:
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        if number is not None:
            message["id"] = number
        await self.protocol.take(json.dumps(message).encode())

    async def start(self, encoding: str = "utf-16", inline: bool = True) -> None:
        general = {"positionEncodings": [encoding]}
        document = {"inlineCompletion": {}} if inline else {}
        capabilities = {"general": general, "textDocument": document}
        params = {"capabilities": capabilities, "processId": None, "rootUri": "file:///p"}
        await self.send("initialize", params, 0)
        await self.send("initialized", {})

    async def answer(self, number: Any) -> Any:
        for _ in range(4000):
            for message in self.sent:
                if message.get("id") == number and "method" not in message:
                    return message
            await asyncio.sleep(0.005)
        raise AssertionError(f"no answer to {number}")


def random_text(rng: random.Random, most: int = 12) -> str:
    return "".join(rng.choice(PIECES) for _ in range(rng.randrange(most)))


def place(text: str, at: int, encoding: Any) -> dict[str, int]:
    """The position of a character, by the protocol's line ends alone."""
    starts = [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", text))]
    line = max(n for n, start in enumerate(starts) if start <= at)
    return {"line": line, "character": units(text[starts[line] : at], encoding)}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
async def test_random_editing_keeps_text_and_cache_right(engine: Any, encoding: str) -> None:
    """After each change the document is the editor's text, after each request the cache holds the
    tokens of the text around the cursor, and nothing that comes out is of another document.
    """
    rng = random.Random(encoding)

    wire = Wire(engine)
    await wire.start(encoding)
    wire.session.configure({"maxTokens": 4, "candidates": 1})
    texts: dict[str, str] = {}
    for step in range(1, 120):
        uri = rng.choice(URIS[:3])
        if uri not in texts or rng.random() < 0.05:
            texts[uri] = random_text(rng, 40)
            item = {"uri": uri, "languageId": "python", "version": step, "text": texts[uri]}
            await wire.send("textDocument/didOpen", {"textDocument": item})
        changes = []
        for _ in range(rng.randrange(4)):
            text = texts[uri]
            one, other = sorted(rng.randrange(len(text) + 1) for _ in range(2))
            while text[one - 1 : one + 1] == "\r\n":
                one -= 1
            while text[other - 1 : other + 1] == "\r\n":
                other += 1
            new = random_text(rng)
            span = {"start": place(text, one, encoding), "end": place(text, other, encoding)}
            changes.append({"range": span, "text": new})
            texts[uri] = text[:one] + new + text[other:]
        named = {"uri": uri, "version": step}
        await wire.send(
            "textDocument/didChange", {"textDocument": named, "contentChanges": changes}
        )
        document = wire.session.documents[uri].text
        assert document is not None and document.text == texts[uri]
        at = rng.randrange(len(texts[uri]) + 1)
        while texts[uri][at - 1 : at + 1] == "\r\n":
            at -= 1
        params = {
            "textDocument": {"uri": uri},
            "position": place(texts[uri], at, encoding),
            "context": {"triggerKind": 1},
        }
        await wire.send("textDocument/inlineCompletion", params, step)
        answer = await wire.answer(step)
        assert "error" not in answer, answer
        where = params["position"]
        snapshot = wire.session.snapshot(
            uri, Position(where["line"], where["character"]), automatic=False
        )
        assert snapshot is not None
        assert texts[uri][:at].endswith(snapshot.request.prefix)
        key = snapshot.request.key
        if engine.worker.caches.documents.get(key) and not answer["result"]["items"]:
            prompt = engine.source.prompter.build(engine.within_limits(snapshot.request))
            assert engine.worker.caches.get(key).cache.token_ids == prompt.ids
    for uri in list(texts):
        await wire.send("textDocument/didClose", {"textDocument": {"uri": uri}})
    assert not wire.session.documents


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 15), ("utf-16", 10), ("utf-32", 9)])
async def test_plain_completion_for_editors_without_inline(
    engine: Any, encoding: str, column: int
) -> None:
    wire = Wire(engine)
    await wire.start(encoding, inline=False)
    found = (await wire.answer(0))["result"]["capabilities"]
    assert found["positionEncoding"] == encoding
    assert found["completionProvider"]["triggerCharacters"]
    text = "é漢😀 = val\n"
    item = {"uri": URIS[0], "languageId": "python", "version": 1, "text": text}
    await wire.send("textDocument/didOpen", {"textDocument": item})
    place = {"line": 0, "character": column}
    params = {"textDocument": {"uri": URIS[0]}, "position": place, "context": {"triggerKind": 1}}
    await wire.send("textDocument/completion", params, 1)
    items = (await wire.answer(1))["result"]["items"]
    assert items
    for one in items:
        assert one["textEdit"]["newText"].startswith("val")
        assert one["textEdit"]["range"] == {"start": {"line": 0, "character": column - 3},
                                            "end": place}  # fmt: skip


def junk(rng: random.Random, depth: int = 0) -> Any:
    kinds = [None, True, -1, 0, 2**70, 1.5, "", "file:///p/a.py", random_text(rng), "\x00"]
    if depth < 3 and rng.random() < 0.5:
        keys = ["textDocument", "uri", "position", "line", "character", "context", "text",
                "triggerKind", "contentChanges", "range", "start", "end", "version", "id",
                "settings", "codegen", "languageId", "selectedCompletionInfo", "prompt", "suffix",
                "n", "stop", "max_tokens", "segments", "prefix", "input_prefix", "input_suffix",
                "input_extra", "stream", "temperature", "seed", "response_fields", "type",
                "jsonrpc"]  # fmt: skip
        if rng.random() < 0.7:
            return {rng.choice(keys): junk(rng, depth + 1) for _ in range(rng.randrange(5))}
        return [junk(rng, depth + 1) for _ in range(rng.randrange(4))]
    return rng.choice(kinds)


METHODS = ["textDocument/didOpen", "textDocument/didChange", "textDocument/didClose",
           "textDocument/inlineCompletion", "workspace/didChangeConfiguration", "$/cancelRequest",
           "textDocument/didShowCompletion", "workspace/executeCommand", "no/such", "initialized",
           "textDocument/hover", "window/workDoneProgress/cancel"]  # fmt: skip


async def test_junk_messages_do_not_end_the_language_server(engine: Any) -> None:
    rng = random.Random(1)

    wire = Wire(engine)
    await wire.start()
    for number in range(1, 400):
        kind = rng.random()
        if kind < 0.1:
            data = rng.randbytes(rng.randrange(40))
            await wire.protocol.take(data)
        elif kind < 0.15:
            await wire.protocol.take(MalformedMessage("too long"))
        elif kind < 0.3:
            await wire.protocol.take(json.dumps(junk(rng)).encode())
        elif kind < 0.35:
            await wire.protocol.take(b"[" * 100_000)
        else:
            identity = rng.choice([None, number, f"n{number}", 0])
            await wire.send(rng.choice(METHODS), junk(rng), identity)
    item = {"uri": URIS[0], "languageId": "python", "version": 1, "text": "def f(value):\n    "}
    settings = {"codegen": {"enabled": True, "languages": [], "exclude": []}}
    await wire.send("workspace/didChangeConfiguration", {"settings": settings})
    await wire.send("textDocument/didOpen", {"textDocument": item})
    position = {"line": 1, "character": 4}
    params = {"textDocument": {"uri": URIS[0]}, "position": position, "context": {"triggerKind": 1}}
    await wire.send("textDocument/inlineCompletion", params, "last")
    assert (await wire.answer("last"))["result"]["items"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"Content-Length: 2\r\n\r\n{}", b"{}"),
        (b"content-length:2\r\nContent-Type: x\r\n\r\n{}", b"{}"),
        (b"\r\n\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"Content-Length: 2\n\n{}", b"{}"),
        (b"Content-Length: 50\r\n\r\n{}", None),
        (b"", None),
        (b"Content-Length: -5\r\n\r\n", None),
        (b"X: y\r\n" * 40, MalformedMessage),
        (b"Content-Length: 300\r\n\r\n" + b"x" * 300, MalformedMessage),
        (b"Content-Length: 99999999999999999999\r\n\r\n{}", None),
    ],
)
def test_framing(data: bytes, expected: Any) -> None:
    found = read_message(io.BytesIO(data), 100)
    assert found == expected or (
        expected is MalformedMessage and isinstance(found, MalformedMessage)
    )


def test_junk_requests_get_an_answer_each(served: Served) -> None:
    rng = random.Random(2)
    paths = ["/v1/completions", "/infill", "/v1/events", "/completions", "/v1/health", "/nothing"]
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json"}
    with httpx.Client(base_url=served.url, headers=headers, timeout=60) as client:
        for _ in range(250):
            body = junk(rng)
            if isinstance(body, dict) and rng.random() < 0.7:
                body = {"prompt": "x", "input_prefix": "", "input_suffix": "", "max_tokens": 2,
                        "n_predict": 2, **body}  # fmt: skip
            data = json.dumps(body).encode() if rng.random() < 0.9 else rng.randbytes(20)
            answer = client.post(rng.choice(paths), content=data)
            assert answer.status_code < 500, (body, answer.text)
            assert "Traceback" not in answer.text
        assert client.get("/health").status_code == 200


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def edit_many(engine: Any, count: int) -> list[int]:
    """Types and deletes in several documents; returns the resident memory now and then."""
    from codegen.server.editor.session import EditorSession

    rng = random.Random(0)
    session = EditorSession(engine.limits, engine=engine)
    sizes: list[int] = []

    async def run() -> None:
        text = "".join(f"def f{n}(a):\n    return a + {n}\n\n\n" for n in range(12))
        for number in range(4):
            session.open(f"file:///{number}.py", "python", 0, text)
        for step in range(count):
            uri = f"file:///{rng.randrange(4)}.py"
            document = session.documents[uri].text
            assert document is not None
            line = rng.randrange(len(document.lines))
            column = rng.randrange(len(document.lines[line].rstrip("\n")) + 1)
            start = end = (line, column)
            new = rng.choice(["x", "y = 1\n", "", "a(b)"])
            if document.size > len(text):
                end = (min(line + 1, len(document.lines) - 1), 0)
            session.change(uri, step, [change(new, start, end)])
            place = Position(min(line, len(document.lines) - 1), 0)
            snapshot = session.snapshot(uri, place, automatic=True)
            assert snapshot is not None
            await session.complete(snapshot, automatic=False)
            if step % (count // 10) == count // 10 - 1:
                sizes.append(resident())

    session.configure({"maxTokens": 2})
    asyncio.run(run())
    return sizes


@pytest.mark.long
def test_memory_is_flat_over_ten_thousand_edits(engine: Any) -> None:
    sizes = edit_many(engine, 10_000)
    print("MiB:", [size >> 20 for size in sizes])
    assert max(sizes[5:]) - max(sizes[:5]) < 12 << 20
