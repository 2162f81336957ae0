"""The language server as a process, by pytest-lsp's client and by bytes of our own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from lsprotocol import types
from pytest_lsp import ClientServerConfig, LanguageClient

URI = "file:///project/main.py"
BIN = Path(sys.executable).with_name("codegen")
READY = "is ready"

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]


def command(options: list[str]) -> list[str]:
    return [str(BIN), "serve", "lsp", *options, "--stdio"]


def local(model: Path) -> list[str]:
    return ["--model", str(model), "--context", "256"]


def capabilities() -> types.ClientCapabilities:
    document = types.TextDocumentClientCapabilities(
        inline_completion=types.InlineCompletionClientCapabilities()
    )
    general = types.GeneralClientCapabilities(position_encodings=[types.PositionEncodingKind.Utf16])
    return types.ClientCapabilities(text_document=document, general=general)


async def started(
    serving: list[str], options: Any = None, root: str = "file:///project", watches: bool = False
) -> LanguageClient:
    """A client whose server has its model."""
    config = ClientServerConfig(server_command=command(serving))
    client: Any = await config.start()
    client.statuses, client.certain, client.registered = [], [], []

    @client.feature(types.CLIENT_REGISTER_CAPABILITY)
    def register(params: types.RegistrationParams) -> None:
        client.registered += params.registrations

    @client.feature("$/codegen/certainAnswer")
    def certain(params: Any) -> None:
        client.certain.append(params)

    @client.feature("$/codegen/status")
    def status(params: Any) -> None:
        client.statuses.append((params.kind, params.message))

    supported = capabilities()
    if watches:
        supported.workspace = types.WorkspaceClientCapabilities(
            did_change_watched_files=types.DidChangeWatchedFilesClientCapabilities(True)
        )
    params = types.InitializeParams(
        supported, process_id=os.getpid(), root_uri=root, initialization_options=options
    )
    client.answer = await client.initialize_session(params)
    for _ in range(600):
        if any(READY in message for _, message in client.statuses):
            return client
        await asyncio.sleep(0.1)
    raise AssertionError(client.statuses)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(serving: list[str]) -> AsyncIterator[LanguageClient]:
    client = await started(serving)
    yield client
    await client.shutdown_session()
    await client.stop()


def opened(client: LanguageClient, text: str, uri: str = URI, language: str = "python") -> None:
    item = types.TextDocumentItem(uri, language, 1, text)
    client.text_document_did_open(types.DidOpenTextDocumentParams(item))


def typed(client: LanguageClient, text: str, line: int, column: int, version: int = 2) -> None:
    at = types.Position(line, column)
    change = types.TextDocumentContentChangePartial(types.Range(at, at), text)
    document = types.VersionedTextDocumentIdentifier(version, URI)
    client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))


def inline(line: int, column: int, automatic: bool = False, uri: str = URI) -> Any:
    kind = types.InlineCompletionTriggerKind
    context = types.InlineCompletionContext(kind.Automatic if automatic else kind.Invoked)
    return types.InlineCompletionParams(
        context, types.TextDocumentIdentifier(uri), types.Position(line, column)
    )


async def items(client: LanguageClient, params: Any) -> list[str]:
    answer: Any = await client.text_document_inline_completion_async(params)
    return [item.insert_text for item in answer.items] if answer else []


async def test_capabilities(client: Any) -> None:
    found = client.answer.capabilities
    assert found.inline_completion_provider
    assert found.text_document_sync.change == types.TextDocumentSyncKind.Incremental
    assert found.completion_provider is None  # the editor has inline completion
    assert client.statuses[0][0] == "Normal"


async def test_suggestions_follow_the_text(client: Any) -> None:
    opened(client, "def f(value):\n    \n")
    found = await items(client, inline(1, 4))
    assert 1 < len(found) <= 3
    assert len(set(found)) == len(found)
    assert len(await items(client, inline(1, 4, automatic=True))) == 1


async def test_typed_as_suggested_and_accepted(client: Any) -> None:
    opened(client, "def f(value):\n    \n")
    first = (await items(client, inline(1, 4)))[0]
    typed(client, first[:2], 1, 4)
    if "\n" not in first[:2]:
        assert (await items(client, inline(1, 6, automatic=True)))[0] == first[2:]


async def test_requests_in_one_go_see_their_own_text(client: Any) -> None:
    """Changes and requests interleaved without waiting: positions fit the text at their place."""
    opened(client, "")
    answers = []
    for number in range(8):
        typed(client, f"x{number} = {number}\n", number, 0, number + 2)
        params = inline(number + 1, 0)
        answers.append(client.text_document_inline_completion_async(params))
    done = await asyncio.gather(*answers)
    assert done[-1] is not None
    assert not [m for m in client.statuses if m[0] == "Warning"]


async def test_cancelling(client: Any) -> None:
    opened(client, "def g():\n    x = " + "1 + " * 200)
    task = asyncio.ensure_future(client.text_document_inline_completion_async(inline(1, 808)))
    await asyncio.sleep(0.02)
    number = next(reversed(client.protocol._request_futures))
    client.cancel_request(types.CancelParams(number))
    with pytest.raises(Exception, match="cancel"):
        await asyncio.wait_for(task, 5)
    assert await items(client, inline(0, 3)) is not None


async def test_secret_files_get_nothing(client: Any) -> None:
    opened(client, "KEY=", "file:///project/.env", "plaintext")
    assert await items(client, inline(0, 4, uri="file:///project/.env")) == []
    assert client.statuses[-1][0] == "Inactive"


async def test_a_document_that_is_not_open_gets_nothing(client: Any) -> None:
    assert await items(client, inline(0, 0, uri="file:///etc/passwd")) == []
    uri = "file:///etc/hostname"
    at = types.Position(0, 0)
    change = types.TextDocumentContentChangePartial(types.Range(at, at), "x")
    document = types.VersionedTextDocumentIdentifier(1, uri)
    client.text_document_did_change(types.DidChangeTextDocumentParams(document, [change]))
    assert await items(client, inline(0, 0, uri=uri)) == []


async def test_out_of_step_until_opened_again(client: Any) -> None:
    opened(client, "x = 1\n")
    typed(client, "y", 50, 0)
    assert await items(client, inline(0, 5)) == []
    assert client.statuses[-1][0] == "Warning"
    opened(client, "x = 1\ny = ")
    assert await items(client, inline(1, 4)) is not None
    typed(client, "y", 50, 0)
    whole = types.TextDocumentContentChangeWholeDocument("def f(value):\n    ")
    document = types.VersionedTextDocumentIdentifier(9, URI)
    client.text_document_did_change(types.DidChangeTextDocumentParams(document, [whole]))
    assert await items(client, inline(1, 4))


async def test_settings(client: Any) -> None:
    opened(client, "def f(value):\n    ")
    settings = {"codegen": {"candidates": 1, "maxLines": "many", "colour": 1}}
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings))
    assert len(await items(client, inline(1, 4))) == 1
    logged = " ".join(message.message for message in client.log_messages)
    assert "maxLines" in logged and "colour" in logged
    off = types.DidChangeConfigurationParams({"codegen": {"enabled": False}})
    client.workspace_did_change_configuration(off)
    assert await items(client, inline(1, 4)) == []
    on = {"codegen": {"enabled": True, "candidates": 3}}
    client.workspace_did_change_configuration(types.DidChangeConfigurationParams(on))
    assert await items(client, inline(1, 4))


async def test_the_selected_entry_of_the_editors_list_is_gone_on_from(client: Any) -> None:
    opened(client, "import os\nos.pa")
    params = inline(1, 5)
    place = types.Range(types.Position(1, 3), types.Position(1, 5))
    params.context.selected_completion_info = types.SelectedCompletionInfo(place, "path")
    answer = await client.text_document_inline_completion_async(params)
    assert all(item.insert_text.startswith("path") for item in answer.items)
    assert all(item.range == place for item in answer.items)


@pytest.mark.parametrize("takes_second", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_a_second_answer_only_for_editors_that_take_it(
    takes_second: bool, tiny_model_dir: Path
) -> None:
    """What is shown in the end is what a new document with the same text gets."""
    options = {"context": [], **({"certainAnswers": True} if takes_second else {})}
    client: Any = await started(local(tiny_model_dir), options)
    text = "".join(f"name_{number} = {number}\n" for number in range(12)) + "print(na"
    opened(client, text)
    await items(client, inline(12, 8, automatic=True))
    came = 0
    for number in range(12):
        line = f"value_{number} = [{number}]\n"
        typed(client, line, number, 0, number + 2)
        lines = text.splitlines(keepends=True)
        text = "".join([*lines[:number], line, *lines[number:]])
        client.certain.clear()
        shown = await items(client, inline(13 + number, 8, automatic=True))
        uri = f"file:///project/new_{number}.py"
        opened(client, text, uri)
        full = await items(client, inline(13 + number, 8, automatic=True, uri=uri))
        for _ in range(400):
            if shown == full or client.certain or not takes_second:
                break
            await asyncio.sleep(0.05)
        for params in client.certain:
            assert params.uri == URI and params.position.line == 13 + number
            shown = [item.insertText for item in params.items]
            came += 1
        assert shown == full
    assert (came > 0) == takes_second
    await client.shutdown_session()
    await client.stop()


def make_workspace(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return (root / "main.py").as_uri()


HELPER = "def apply_discount(cart, rate):\n    return cart\n"
MAIN = "from helper import apply_discount\n\napply_discount("


async def suggested(client: Any, uri: str) -> list[str]:
    """Suggestions behind the text, in a document that is opened anew."""
    client.text_document_did_close(
        types.DidCloseTextDocumentParams(types.TextDocumentIdentifier(uri))
    )
    opened(client, MAIN, uri)
    return await items(client, inline(2, 15, automatic=True, uri=uri))


async def becomes(client: Any, uri: str, wanted: Any) -> list[str]:
    """The suggestions once they are as wanted: the server reads files in the background."""
    for _ in range(100):
        if wanted(found := await suggested(client, uri)):
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("nothing else is suggested")


async def test_other_files_decide_what_is_suggested(tiny_model_dir: Path, tmp_path: Path) -> None:
    """Seen by what the model makes of them: with a file, without it, and with others in its place
    that may not be read.
    """
    uri = make_workspace(tmp_path, {"main.py": MAIN})
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    client: Any = await started(local(tiny_model_dir), root=tmp_path.as_uri(), watches=True)
    (registered,) = client.registered
    assert registered.method == types.WORKSPACE_DID_CHANGE_WATCHED_FILES

    def changed(name: str) -> None:
        event = types.FileEvent((tmp_path / name).as_uri(), types.FileChangeType.Changed)
        params = types.DidChangeWatchedFilesParams([event])
        client.workspace_did_change_watched_files(params)

    def configured(**settings: Any) -> None:
        params = types.DidChangeConfigurationParams({"codegen": settings})
        client.workspace_did_change_configuration(params)

    alone = await suggested(client, uri)
    assert alone
    make_workspace(tmp_path, {"helper.py": HELPER})
    changed("helper.py")
    helped = await becomes(client, uri, lambda found: found != alone)
    configured(context=[])
    assert await suggested(client, uri) == alone
    configured(context=["definitions"])
    assert await becomes(client, uri, lambda found: found != alone) == helped
    configured(workspaceFiles=False)
    await becomes(client, uri, lambda found: found == alone)
    opened(client, HELPER, (tmp_path / "helper.py").as_uri())
    assert await becomes(client, uri, lambda found: found != alone) == helped
    # What may not be read, under the same name as before or another one.
    configured(workspaceFiles=True, exclude=["*/helper.py"])
    await becomes(client, uri, lambda found: found == alone)
    make_workspace(tmp_path, {"secrets.py": HELPER, "dist/helper.py": HELPER})
    (tmp_path / "linked.py").symlink_to(tmp_path / "dist" / "helper.py")
    for name in ("secrets.py", "dist/helper.py", "linked.py"):
        changed(name)
    await asyncio.sleep(0.5)
    assert await suggested(client, uri) == alone
    await client.shutdown_session()
    await client.stop()
