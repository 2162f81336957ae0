"""Next edits in the language server: a real process, a raw client, a scripted model behind it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol import types
from pytest_lsp import LanguageClient

from codegen.cli import main
from codegen.core.records import Edit
from codegen.data import read_rejects, read_texts
from codegen.edits.formats import FORMATS
from codegen.edits.sessions import lines_of
from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.requests import (
    Candidate,
    CompletionRequest,
    CompletionResult,
    DocumentKey,
)
from codegen.server.completion.upstream import Upstream
from codegen.server.context.document import TextDocument
from codegen.server.http import make_app
from codegen.server.metrics import Metrics
from codegen.server.next_edits import proposals
from tests.server.conftest import TOKEN, Served, change
from tests.server.editor.test_lsp import BIN, started
from tests.server.upstream_server import Script, UpstreamServer

URI = "file:///project/shop.py"
TEXT = "def total(items):\n    cost = 0\n    for i in items:\n        cost += i\n    return cost\n"
WINDOW = re.compile(r"<<<<<<< CURRENT\n(.*)=======\n", re.DOTALL)


@pytest.fixture(scope="module")
def upstream() -> Iterator[UpstreamServer]:
    server = UpstreamServer(Script())
    yield server
    server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(upstream: UpstreamServer) -> AsyncIterator[LanguageClient]:
    connected = await started(
        ["--upstream", upstream.url, "-o", "fim=none", "--next-edits", "zeta2"]
    )
    yield connected
    await connected.shutdown_session()
    await connected.stop()


class Editor:
    """What an editor does with one document."""

    def __init__(self, client: LanguageClient, uri: str, text: str) -> None:
        self.client, self.uri, self.document = client, uri, TextDocument(text, version=1)
        item = types.TextDocumentItem(uri, "python", 1, text)
        client.text_document_did_open(types.DidOpenTextDocumentParams(item))

    def edit(self, step: Any) -> None:
        version = self.document.version + 1
        self.document.apply([step], version)
        name = types.VersionedTextDocumentIdentifier(version, self.uri)
        self.client.text_document_did_change(types.DidChangeTextDocumentParams(name, [step]))

    async def ask(self, line: int, character: int = 0, version: int | None = None) -> list[Any]:
        asked = {
            "textDocument": {"uri": self.uri, "version": version or self.document.version},
            "position": {"line": line, "character": character},
            "context": {"triggerKind": 2},
        }
        found = await self.client.protocol.send_request_async(
            "textDocument/copilotInlineEdit", asked
        )
        return found.edits

    def take(self, edit: Any) -> None:
        start, end = edit.range.start, edit.range.end
        self.edit(change(edit.text, (start.line, start.character), (end.line, end.character)))


def says(upstream: UpstreamServer, answer: Callable[[str], str]) -> None:
    """The model rewrites the window like this."""

    def pieces(body: dict[str, Any]) -> list[str]:
        match = WINDOW.search(body.get("prompt", ""))
        if not match:
            return ["x"]
        return [answer(match[1].replace("<|user_cursor|>", ""))]

    upstream.script.pieces = pieces


READ = """import json


def read(path):
    rows = []
    with open(path) as file:
        for line in file:
            rows.append(json.loads(line))
    return rows
"""


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
async def test_the_embedded_model_finishes_a_renaming() -> None:
    """Without options, by the adapter in the package."""
    client = await started([])
    editor = Editor(client, URI, READ)
    editor.edit(change("records", (4, 4), (4, 8)))
    (edit,) = await editor.ask(4, 11)
    editor.take(edit)
    assert editor.document.text == READ.replace("rows", "records")
    await client.shutdown_session()
    await client.stop()


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_an_edit_is_proposed_taken_and_followed_by_the_next(
    client: Any, upstream: UpstreamServer
) -> None:
    editor = Editor(client, URI, TEXT)
    says(upstream, lambda window: window.replace("cost", "sum_", 2))
    assert await editor.ask(1) == []  # nothing was edited yet
    assert not any("CURRENT" in str(body) for _, body in upstream.asked)
    editor.edit(change("sum_", (1, 4), (1, 8)))
    says(upstream, lambda window: window.replace("cost", "sum_", 1))
    (edit,) = await editor.ask(1, 8)
    prompt = upstream.asked[-1][1]["prompt"]
    assert "<filename>edit_history\n--- a/shop.py\n+++ b/shop.py\n" in prompt
    assert "-    cost = 0\n+    sum_ = 0\n" in prompt and "sum_<|user_cursor|> = 0" in prompt
    assert edit.text == "        sum_ += i\n"
    assert (edit.range.start.line, edit.range.end.line) == (3, 4)
    assert edit.textDocument.version == editor.document.version
    assert edit.command.command in client.answer.capabilities.execute_command_provider.commands
    client.protocol.notify("textDocument/didShowInlineEdit", {"item": {"command": {
        "command": edit.command.command, "arguments": edit.command.arguments}}})  # fmt: skip
    editor.take(edit)
    done = types.ExecuteCommandParams(edit.command.command, edit.command.arguments)
    await client.workspace_execute_command_async(done)
    (edit,) = await editor.ask(3, 4)
    editor.take(edit)
    assert editor.document.text == TEXT.replace("cost", "sum_")
    assert await editor.ask(4) == []  # no word is left


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("end", ["\n", "\r\n"])
async def test_an_edit_of_the_cursors_line_as_an_inline_completion(
    upstream: UpstreamServer, end: str
) -> None:
    """For clients of LSP 3.18 that ask for it; within one line, as the protocol requires."""
    serving = ["--upstream", upstream.url, "-o", "fim=none", "--next-edits", "zeta2"]
    client = await started(serving, {"inlineEdits": True})

    async def ask(line: int, kind: int) -> list[types.InlineCompletionItem]:
        found = await client.text_document_inline_completion_async(
            types.InlineCompletionParams(
                types.InlineCompletionContext(types.InlineCompletionTriggerKind(kind)),
                types.TextDocumentIdentifier(URI),
                types.Position(line, 12),
            )
        )
        return list(found.items) if isinstance(found, types.InlineCompletionList) else []

    editor = Editor(client, URI, TEXT.replace("\n", end))
    editor.edit(change("sum_", (1, 4), (1, 8)))
    says(upstream, lambda window: window.replace("cost", "sum_", 1))
    # Behind a whole statement nothing but space is completed, so the automatic answer is the edit.
    upstream.script.pieces = _completes_nothing(upstream.script.pieces)
    (item,) = await ask(3, 2)
    assert (item.insert_text, item.range) == (
        "        sum_ += i",
        types.Range(types.Position(3, 0), types.Position(3, 17)),
    )
    assert item.command and item.command.command == "github.copilot.didAcceptCompletionItem"
    assert await ask(2, 2) == []  # the edit is of another line
    editor.edit(change(str(item.insert_text), (3, 0), (3, 17)))
    assert editor.document.text == TEXT.replace("cost", "sum_", 2).replace("\n", end)
    says(upstream, lambda window: window.replace("return cost", "return sum_ or 0"))
    *_, last = await ask(4, 1)  # asked for by hand: beside the completions
    assert last.insert_text == "    return sum_ or 0"
    says(upstream, lambda window: window.replace("    return cost\n", "    x = 1\n    return x\n"))
    (item,) = (one for one in await ask(4, 1) if one.command)
    assert item.insert_text == f"    x = 1{end}    return x"
    says(upstream, lambda window: window.replace("    return cost\n", ""))
    assert not [
        one for one in await ask(4, 1) if one.command
    ]  # a deleted line is more than its text
    await client.shutdown_session()
    await client.stop()


def _completes_nothing(
    edits: Callable[[dict[str, Any]], list[str]],
) -> Callable[[dict[str, Any]], list[str]]:
    return lambda body: edits(body) if WINDOW.search(body.get("prompt", "")) else [" "]


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_an_edit_far_from_the_cursor_is_a_jump(
    client: LanguageClient, upstream: UpstreamServer
) -> None:
    """The places are those that the program shows; two at most, the nearest first, then here."""
    gap = "# nothing\n" * 40
    text = f"def load(a):\n    return a\n{gap}x = load(1)\n{gap}y = load(2)\n{gap}z = load(3)\n"
    editor = Editor(client, "file:///project/far.py", text)
    editor.edit(change("read", (0, 4), (0, 8)))
    windows: list[str] = []

    def answer(window: str) -> str:
        windows.append(window)
        return window.replace("y = load", "y = read")

    says(upstream, answer)
    (edit,) = await editor.ask(0, 8)
    assert "x = load" in windows[0] and "y = load" in windows[1]
    assert (edit.range.start.line, edit.text, len(windows)) == (83, "y = read(2)\n", 2)
    says(upstream, lambda window: window.replace("x = load", "x = read"))
    editor.take(edit)
    (edit,) = await editor.ask(83, 8)
    assert (edit.range.start.line, edit.text) == (42, "x = read(1)\n")
    windows.clear()
    says(upstream, lambda window: windows.append(window) or "NO_EDITS\n")
    assert await editor.ask(83, 8) == [] and len(windows) == 3
    assert "y = read<|user_cursor|>(2)" in upstream.asked[-1][1]["prompt"]  # here comes last
    windows.clear()
    assert await editor.ask(20) == [] and len(windows) == 3  # moved away from the last edit:
    assert "x = load" not in windows[0] and "x = load" in windows[1]  # here comes first


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_not_shown(client: LanguageClient, upstream: UpstreamServer) -> None:
    editor = Editor(client, "file:///project/drop.py", TEXT)
    editor.edit(change("sum_", (1, 4), (1, 8)))

    async def shown(answer: Callable[[str], str]) -> list[Any]:
        says(upstream, answer)
        return await editor.ask(1, 8)

    assert await shown(lambda window: window) == []
    assert await shown(lambda window: "NO_EDITS\n") == []
    assert await shown(lambda window: window.replace("    ", "\t")) == []  # layout alone
    assert await shown(lambda window: window.replace("sum_", "cost")) == []  # undone
    assert await shown(lambda window: window.replace("def total(", "def total((")) == []
    assert await shown(lambda window: "no end of line") == []
    assert await shown(lambda window: window.replace("items", "it\u202eems")) == []
    assert await shown(lambda window: window + "<<<<<<< CURRENT\n=======\n>>>>>>> UPDATED x") == []
    (edit,) = await shown(lambda window: window.replace("return cost", "return sum_"))
    assert await editor.ask(1, 8, version=editor.document.version - 1) == []  # of an older text
    editor.edit(change("# ", (0, 0), (0, 0)))  # typed on; it had not been seen
    (edit,) = await shown(lambda window: window.replace("return cost", "return sum_"))
    client.protocol.notify("textDocument/didShowInlineEdit", {"item": {"command": {
        "command": edit.command.command, "arguments": edit.command.arguments}}})  # fmt: skip
    await asyncio.sleep(proposals.SEEN_S + 0.2)
    editor.edit(change("# ", (0, 0), (0, 0)))  # typed on, so it was turned down
    assert await shown(lambda window: window.replace("return cost", "return sum_")) == []
    other = await shown(lambda window: window.replace("return cost", "return -sum_"))
    assert [one.text for one in other] == ["    return -sum_\n"]
    assert edit.command.arguments != other[0].command.arguments


@pytest.fixture(scope="module")
def over_http(upstream: UpstreamServer) -> Iterator[Callable[..., httpx.Response]]:
    """Posts a prompt to /v1/completions of a server that proposes next edits."""
    source = Upstream(upstream.url, fim="none")
    source.check()
    engine = CompletionEngine(source)
    editor = proposals.NextEditor(FORMATS["zeta2"])
    served = Served(make_app(engine, TOKEN, next_edits=editor, exclude=("*.hidden",)))

    def send(prompt: str, **body: Any) -> httpx.Response:
        return httpx.post(
            f"{served.url}/v1/completions",
            json={"model": "zeta2", "prompt": prompt, "max_tokens": 2048, **body},
            headers={"authorization": f"Bearer {TOKEN}"},
        )

    yield send
    served.stop()
    engine.stop()


BY_HAND = """<[fim-suffix]>
<[fim-prefix]><filename>edit_history
--- a/p/total.py
+++ b/p/total.py
@@ -1,2 +1,2 @@
-def total(items, tax):
+def total(items, rate):
     cost = 0

<filename>p/total.py
<<<<<<< CURRENT
def total(items, rate<|user_cursor|>):
    cost = 0
    for i in items:
        cost += i * tax
    return cost
=======
<[fim-middle]>"""
OLD = "def total(items, rate):\n    cost = 0\n    for i in items:\n        cost += i * tax\n"
OLD += "    return cost\n"
NEW = OLD.replace("tax", "rate")


def test_a_prompt_of_zed_is_answered_in_its_form(
    over_http: Callable[..., httpx.Response], upstream: UpstreamServer
) -> None:
    says(upstream, lambda window: window.replace("tax", "rate"))
    answer = over_http(BY_HAND).json()
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (f"{NEW}>>>>>>> UPDATED\n", "stop")
    asked = upstream.asked[-1][1]["prompt"]  # by our own renderer
    assert asked.count("<filename>p/total.py") == 1 and "items, rate<|user_cursor|>" in asked
    says(upstream, lambda window: window)
    assert over_http(BY_HAND).json()["choices"][0]["text"] == ""
    says(upstream, lambda window: window.replace("tax", "rate"))
    hidden = BY_HAND.replace("p/total.py", "p/total.hidden")
    assert over_http(hidden).json()["choices"][0]["text"] == ""
    count = len(upstream.asked)
    assert over_http(BY_HAND.replace("p/total.py", "q.py", 2)).json()["choices"][0]["text"] == ""
    assert len(upstream.asked) == count  # nothing of this file was edited


@pytest.mark.slow
def test_the_command_serves_next_edits_over_http(upstream: UpstreamServer) -> None:
    says(upstream, lambda window: window.replace("tax", "rate"))
    options = ["--upstream", upstream.url, "-o", "fim=none", "--next-edits", "zeta2"]
    process = subprocess.Popen(
        [BIN, "serve", "http", "--port", "0", "--no-token", *options],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr
    try:
        address = process.stderr.readline().split()[-1]
        body = {"prompt": BY_HAND, "stop": [">>>>>>> UPDATED"]}
        answer = httpx.post(f"{address}/v1/completions", json=body, timeout=30)
        assert answer.json()["choices"][0]["text"] == NEW
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stderr.close()


BLOCK, NONE = "<jupyter_text>", "<empty_output>"


class Scripted:
    """An engine with one answer, several if several are asked for, and one that has begun."""

    min_probability, probability = 0.45, 1.0

    def __init__(self, first: str, rivals: list[str], rest: str = "") -> None:
        self.first, self.rivals, self.rest = first, rivals, rest
        self.asked: list[CompletionRequest] = []
        self.source = self

    def tokenizer(self, text: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=[text])

    tokenizer.convert_tokens_to_ids = {NONE: 7}.get  # type: ignore[attr-defined]

    async def complete(self, request: CompletionRequest) -> Any:
        self.asked.append(request)
        alone = [self.rest if len(request.tokens) > 1 else self.first]
        texts = self.rivals if request.candidates > 1 else alone
        found = [
            Candidate(text, 1, "length" if text == LONG else "eos", self.probability)
            for text in texts
        ]
        last = next(
            (i for i, one in enumerate(found) if request.stop_search and request.stop_search(one)),
            9,
        )
        return CompletionResult(tuple(found[: last + 1]))


LONG = f"{BLOCK}1\nwithout an end"
RIGHT = f"{BLOCK}2\n        sum_ += i\n    return sum_\n{BLOCK}3"


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_what_the_user_did_becomes_training_data(
    upstream: UpstreamServer, tmp_path: Path
) -> None:
    """From an editor's messages to training texts: kept, undone, turned down, unseen, changed."""
    log = tmp_path / "log" / "edits.jsonl"
    options = ["--upstream", upstream.url, "-o", "fim=none", "--next-edits", "zeta2"]
    client = await started([*options, "-o", f"edit_log={log}"])
    says(upstream, lambda window: window.replace("cost", "sum_", 1))

    async def proposed(name: str, is_shown: bool = True) -> tuple[Editor, Any]:
        editor = Editor(client, f"file:///project/{name}.py", TEXT)
        editor.edit(change("sum_", (1, 4), (1, 8)))
        (edit,) = await editor.ask(1, 8)
        if is_shown:
            item = {"command": {"arguments": edit.command.arguments}}
            client.protocol.notify("textDocument/didShowInlineEdit", {"item": item})
        return editor, edit

    def close(editor: Editor) -> None:
        name = types.TextDocumentIdentifier(editor.uri)
        client.text_document_did_close(types.DidCloseTextDocumentParams(name))

    editor, edit = await proposed("kept")
    editor.take(edit)
    editor.edit(change("# next\n", (0, 0), (0, 0)))  # elsewhere
    close(editor)
    editor, edit = await proposed("undone")
    editor.take(edit)
    editor.edit(change("cost", (3, 8), (3, 12)))
    close(editor)
    close((await proposed("turned_down"))[0])
    close((await proposed("unseen", is_shown=False))[0])
    editor, _ = await proposed("changed")
    editor.edit(change("amount", (3, 8), (3, 12)))
    close(editor)
    await proposed("open")  # still open when the editor ends
    await client.shutdown_session()
    await client.stop()

    assert log.stat().st_mode & 0o777 == 0o600
    rows = {Path(r["path"]).stem: r for r in map(json.loads, log.read_text().splitlines())}
    facts = ("shown", "accepted", "kept", "unchanged")
    assert {name: [row[fact] for fact in facts] for name, row in rows.items()} == {
        "kept": [True, True, True, False],
        "undone": [True, True, False, True],
        "turned_down": [True, False, False, True],
        "unseen": [False, False, False, True],
        "changed": [True, False, False, False],
        "open": [True, False, False, True],
    }
    out = tmp_path / "data"
    with pytest.raises(SystemExit) as ended:
        main(["data", "edits", str(log), "--from-editor", "--format", "blocks", "--out", str(out)])
    assert not ended.value.code
    texts = {text.segments[0].text.partition("\n")[0]: text for text in read_texts(out)}
    answers = {
        Path(name.removeprefix("<filename>")).stem: text.segments[1].text
        for name, text in texts.items()
    }
    none = "<empty_output>"
    assert answers == {
        "kept": "<jupyter_text>2\n        sum_ += i\n    return cost\n<jupyter_text>3",
        "undone": none,
        "turned_down": none,
        "open": none,
    }
    reasons = {reject["reason"] for reject in read_rejects(out)}
    assert reasons == {"unseen", "changed"}


SHOP = "cost = 1\nprint(cost, 2)\nprint(3, cost)\nx = cost\n"
SOLD = SHOP.replace("cost", "price")


def proposed(text: str, after: str) -> tuple[proposals.NextEditor, TextDocument, str]:
    """An editor that has proposed to turn a document's text into another."""
    editor, document = proposals.NextEditor(FORMATS["blocks"]), TextDocument(text, version=1)
    plain = text.replace("\r\n", "\n")
    state = Edit("", "a.txt", plain, (), (0, len(lines_of(plain))), 0)
    engine: Any = SimpleNamespace(metrics=Metrics())
    found = editor.worth_showing(engine, state, after, "u", "")
    assert found
    return editor, document, editor.start_proposal(engine, found, "u", document).id


@pytest.mark.parametrize(
    "changes",
    [
        [change(SOLD, (0, 0), (4, 0))],
        [change("price", (3, 4), (3, 8)), change("price", (2, 9), (2, 13)),
         change("price", (1, 6), (1, 10)), change("price", (0, 0), (0, 4))],
        [change("price = 1\nprint(price, 2)\nprint(3, price)\nx = price", (0, 0), (3, 8))],
        [change("price = 1\nprint(price, 2)\nprint(3, price", (0, 0), (2, 13)),
         change("price", (3, 4), (3, 8))],
        [change(SOLD, (0, 0), (4, 0)), change("y", (0, 0), (0, 0))],  # and the next key
        [change(SOLD + "\n", (0, 0), (4, 0))],  # some editors end the text with a line
    ],
)  # fmt: skip
def test_an_acceptance_in_any_parts(changes: list[Any]) -> None:
    """Neovim sends what differs, not the edit that it applied."""
    editor, document, id_ = proposed(SHOP, SOLD)
    editor.show(id_)
    assert not editor.changing("u", document, [change("c", (0, 0), (0, 1))])  # nothing new
    assert editor.changing("u", document, changes)
    assert editor.outcomes.watched[id_].accepted and not editor.rejected
    editor, document, id_ = proposed(SHOP, SOLD)
    assert not editor.changing("u", document, [change("p", (0, 0), (0, 4))])
    assert not editor.outcomes.watched[id_].accepted


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["\n", "\r\n"])),
        max_size=8,
        unique_by=lambda line: line[0],
    ),
    st.lists(st.sampled_from("abcdefghij"), max_size=8, unique=True),
    st.booleans(),
)
def test_lines_that_stay_keep_their_ends(
    old: list[tuple[str, str]], new: list[str], is_ended: bool
) -> None:
    text = "".join(word + end for word, end in old) + ("" if is_ended else "end")
    lines, after = TextDocument(text).lines, "".join(f"{word}\n" for word in new)
    found = proposals.with_line_ends(lines, 0, len(old), after)
    assert found.replace("\r\n", "\n") == after
    same = 0
    while same < min(len(old), len(new)) and old[same][0] == new[same]:
        same += 1
    assert found.startswith("".join(word + end for word, end in old[:same]))
    if len({end for _, end in old}) == 1:
        assert old[0][1] * len(new) == "".join(re.findall(r"\r?\n", found))


async def test_a_document_that_is_closed_and_opened_again_gets_no_old_edit() -> None:
    editor, document = proposals.NextEditor(FORMATS["blocks"]), TextDocument(TEXT, version=1)
    step = change("sum_", (1, 4), (1, 8))
    editor.changing("u", document, [step])
    document.apply([step], 2)
    waiting = asyncio.Event()

    class Slow(Scripted):
        metrics = Metrics()
        remote, limit = False, 4096
        prompter = SimpleNamespace(control=re.compile("<never>"))

        async def complete(self, request: CompletionRequest) -> Any:
            await waiting.wait()
            return await super().complete(request)

    engine: Any = Slow(RIGHT, [])

    def ask() -> Any:
        key = DocumentKey("", "", "u")
        return editor.propose(engine, key, document, types.Position(1, 8), "shop.py", "python")

    waiting.set()
    assert (await ask()) is not None
    engine.probability = 0.4
    assert (await ask()) is None  # less likely than the model's card allows
    editor.min_probability = 0.3
    assert (await ask()) is not None
    assert [one.min_probability for one in engine.asked] == [0.45, 0.45, 0.3]
    waiting.clear()
    asked = asyncio.ensure_future(ask())
    await asyncio.sleep(0.05)
    editor.forget("u")  # as when it is closed
    editor.changing("u", document, [])  # and opened, and edited
    waiting.set()
    assert await asked is None
