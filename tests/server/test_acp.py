"""Next edits in the Agent Client Protocol: a real process, messages checked by the protocol's own
models, a scripted model behind it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.server.test_lsp import BIN
from tests.server.test_next_edits import TEXT, says
from tests.server.upstream_server import Script, UpstreamServer

schema = pytest.importorskip("acp.schema")

URI = "file:///project/shop.py"
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

CHECKED = {
    "initialize": ("InitializeRequest", "InitializeResponse"),
    "nes/start": ("StartNesRequest", "StartNesResponse"),
    "nes/suggest": ("SuggestNesRequest", "SuggestNesResponse"),
    "nes/close": ("CloseNesRequest", "CloseNesResponse"),
    "nes/accept": ("AcceptNesNotification", ""),
    "nes/reject": ("RejectNesNotification", ""),
    "document/didOpen": ("DidOpenDocumentNotification", ""),
    "document/didChange": ("DidChangeDocumentNotification", ""),
    "document/didClose": ("DidCloseDocumentNotification", ""),
    "document/didSave": ("DidSaveDocumentNotification", ""),
    "document/didFocus": ("DidFocusDocumentNotification", ""),
}


class Client:
    """An editor: what it sends and gets is validated by the protocol's package."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.number, self.session = process, 0, ""

    def write(self, line: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + b"\n")

    async def read(self) -> dict[str, Any]:
        assert self.process.stdout
        return json.loads(await asyncio.wait_for(self.process.stdout.readline(), 60))

    def notify(self, method: str, **params: Any) -> None:
        params = {"sessionId": self.session, **params}
        getattr(schema, CHECKED[method][0]).model_validate(params)
        self.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params}).encode())

    def send(self, method: str, **params: Any) -> int:
        getattr(schema, CHECKED[method][0]).model_validate(params)
        self.number += 1
        message = {"jsonrpc": "2.0", "id": self.number, "method": method, "params": params}
        self.write(json.dumps(message).encode())
        return self.number

    async def ask(self, method: str, **params: Any) -> Any:
        number = self.send(method, **params)
        answer = await self.read()
        assert answer.keys() == {"jsonrpc", "id", "result"} and answer["id"] == number
        return getattr(schema, CHECKED[method][1]).model_validate(answer["result"])

    async def suggest(self, version: int, line: int, character: int = 0) -> list[Any]:
        found = await self.ask(
            "nes/suggest", sessionId=self.session, uri=URI, version=version,
            position={"line": line, "character": character}, triggerKind="automatic",
        )  # fmt: skip
        return found.suggestions

    def change(self, version: int, new: str, start: tuple[int, int], end: tuple[int, int]) -> None:
        place = {
            "start": dict(zip(("line", "character"), start, strict=True)),
            "end": dict(zip(("line", "character"), end, strict=True)),
        }
        changes = [{"range": place, "text": new}]
        self.notify("document/didChange", uri=URI, version=version, contentChanges=changes)

    def take(self, version: int, edit: Any) -> None:
        a, b = edit.range.start, edit.range.end
        self.change(version, edit.new_text, (a.line, a.character), (b.line, b.character))


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamServer]:
    server = UpstreamServer(Script())
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(upstream: UpstreamServer) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        str(BIN), "serve", "acp", "--upstream", upstream.url, "--fim", "none",
        "--next-edits", "zeta2", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=sys.stderr,
    )  # fmt: skip
    client = Client(process)
    given = await client.ask("initialize", protocolVersion=1, clientCapabilities={"nes": {}})
    assert given.protocol_version == 1 and given.agent_capabilities.position_encoding == "utf-16"
    events = given.agent_capabilities.nes.events.document
    assert events.did_change.sync_kind == "incremental" and events.did_open is not None
    client.session = (await client.ask("nes/start", workspaceUri="file:///project")).session_id
    for _ in range(100):  # until the model is there
        says(upstream, lambda window: window.replace("cost", "sum_"))
        await opened(client)
        client.change(2, "sum_", (1, 4), (1, 8))
        if await client.suggest(2, 1, 8):
            break
        await asyncio.sleep(0.1)
    yield client
    assert process.stdin
    process.stdin.close()
    assert await asyncio.wait_for(process.wait(), 30) == 0


async def opened(client: Client) -> None:
    client.notify("document/didClose", uri=URI)
    client.notify("document/didOpen", uri=URI, languageId="python", version=1, text=TEXT)


async def test_an_edit_is_suggested_taken_and_followed_by_the_next(
    client: Client, upstream: UpstreamServer
) -> None:
    await opened(client)
    says(upstream, lambda window: window.replace("cost", "sum_", 1))
    assert await client.suggest(1, 1) == []  # nothing was edited
    client.change(2, "sum_", (1, 4), (1, 8))
    client.notify("document/didFocus", uri=URI, version=2, position={"line": 1, "character": 8},
                  visibleRange={"start": {"line": 0, "character": 0},
                                "end": {"line": 5, "character": 0}})  # fmt: skip
    assert await client.suggest(1, 1, 8) == []  # of an older text
    (first,) = await client.suggest(2, 1, 8)
    (edit,) = first.edits
    assert (first.kind, first.uri, edit.new_text) == ("edit", URI, "        sum_ += i\n")
    client.notify("nes/accept", id=first.id)
    client.take(3, edit)
    (second,) = await client.suggest(3, 3, 4)
    assert second.edits[0].new_text == "    return sum_\n" and second.id != first.id
    client.take(4, second.edits[0])
    client.notify("document/didSave", uri=URI)
    assert await client.suggest(4, 4) == []


async def test_what_was_turned_down_is_not_suggested_again(
    client: Client, upstream: UpstreamServer
) -> None:
    await opened(client)
    client.change(2, "total", (1, 4), (1, 8))
    says(upstream, lambda window: window.replace("cost", "total", 1))
    (found,) = await client.suggest(2, 1, 9)
    client.notify("nes/reject", id=found.id, reason="replaced")
    (found,) = await client.suggest(2, 1, 9)
    client.notify("nes/reject", id=found.id, reason="rejected")
    assert await client.suggest(2, 1, 9) == []


async def test_cancelled_and_wrong_messages(client: Client, upstream: UpstreamServer) -> None:
    await opened(client)
    client.change(2, "sum_", (1, 4), (1, 8))
    says(upstream, lambda window: window.replace("cost", "sum_", 1))
    upstream.script.wait = 5.0
    place = {"line": 1, "character": 8}
    number = client.send("nes/suggest", sessionId=client.session, uri=URI, version=2,
                         position=place, triggerKind="manual")  # fmt: skip
    await asyncio.sleep(0.3)
    client.write(
        b'{"jsonrpc":"2.0","method":"$/cancel_request","params":{"requestId":%d}}' % number
    )
    answer = await client.read()
    upstream.script.wait = 0.0
    assert (answer["id"], answer["error"]["code"]) == (number, -32800)
    for line, code in (
        (b"{", -32700),
        (b"[1]", -32600),
        (b'{"jsonrpc":"2.0","id":7,"method":"session/new","params":{}}', -32601),
        (b'{"jsonrpc":"2.0","id":8,"method":"nes/suggest","params":{"sessionId":"no"}}', -32602),
        (b'{"jsonrpc":"2.0","id":9,"method":"nes/close","params":[]}', -32602),
        (b'{"jsonrpc":"2.0","id":10,"method":"x","params":"%s"}' % (b"y" * 9_000_000), -32600),
    ):
        client.write(line)
        assert (await client.read())["error"]["code"] == code
    client.notify("nes/accept", id="next-edit-0")
    client.write(b'{"jsonrpc":"2.0","method":"document/didChange","params":{"uri":1}}')
    assert len(await client.suggest(2, 1, 8)) == 1


async def test_a_closed_session_has_no_documents(client: Client) -> None:
    other = (await client.ask("nes/start")).session_id
    await client.ask("nes/close", sessionId=other)
    client.write(json.dumps({"jsonrpc": "2.0", "id": 99, "method": "nes/close",
                             "params": {"sessionId": other}}).encode())  # fmt: skip
    assert (await client.read())["error"]["code"] == -32602
