"""The number of files that a command enters; docs/architecture.md has the counts."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.walks import ROOT, Walk, trace

Codegen = Callable[..., Any]
URI = "file:///project/main.py"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walks") / "data"


def check(name: str, walk: Walk) -> None:
    """Compares a walk with the table of docs/architecture.md, whose counts are its budget."""
    row = re.search(rf"^\| `{name}`.*\| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert row, name
    files, returns = map(int, row.groups())
    message = f"{name}: {walk.files} files, {walk.returns} returns\n" + "\n".join(walk.visits)
    assert walk.files <= files and walk.returns <= 1.05 * returns, message
    assert walk.files >= files - 5, f"{message}\nUpdate the table of docs/architecture.md."


@pytest.mark.slow
def test_data(codegen: Codegen, data: Path) -> None:
    def make() -> None:
        shutil.rmtree(data, ignore_errors=True)
        done = codegen("data", "lintseq", ROOT / "evals/report", "--out", data, "--workers", 1)
        assert done.code == 0, done.err

    check("data lintseq", trace(make))


@pytest.mark.slow
def test_recipe(codegen: Codegen, data: Path, tiny_model_dir: Path, tmp_path: Path) -> None:
    if not data.exists():
        codegen("data", "lintseq", ROOT / "evals/report", "--out", data, "--workers", 1)

    def train() -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        options = (f"model={tiny_model_dir}", f"data={data}", f"output={tmp_path / 'run'}")
        settings = [word for one in (*options, "steps=1") for word in ("-o", one)]
        done = codegen("finetune", "lintseq", *settings)
        assert done.code == 0, done.err

    check("finetune lintseq", trace(train))


@pytest.mark.slow
def test_evaluation(
    codegen: Codegen, tiny_model_dir: Path, humaneval_rows: object, tmp_path: Path
) -> None:
    def evaluate() -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        few = ("--limit", 2, "--max-new-tokens", 8, "--style", "continue")
        options = ("--model", tiny_model_dir, "--out", tmp_path / "run", *few)
        for words in (("run", "humaneval", *options), ("score", tmp_path / "run")):
            done = codegen("eval", *words)
            assert done.code == 0, done.err

    check("eval run", trace(evaluate))


class Editor:
    """A language server in this process, by the messages that an editor sends to it."""

    def __init__(self, model: Any) -> None:
        from pygls.lsp.server import LanguageServer

        from codegen.server.completion.engine import CompletionEngine
        from codegen.server.completion.requests import ServerLimits
        from codegen.server.editor.lsp import Protocol, add_features
        from codegen.server.editor.session import EditorSession

        limits = ServerLimits(context_tokens=256)
        server = LanguageServer("codegen", "1", protocol_cls=Protocol)
        self.protocol: Any = server.protocol
        self.protocol.set_writer(self)
        self.session = EditorSession(limits)
        add_features(server, self.session)
        self.engine = CompletionEngine(model, limits)
        self.answers: dict[int, Any] = {}

    def write(self, data: bytes) -> None:
        """Takes a message of the server."""
        answer = json.loads(data.partition(b"\r\n\r\n")[2])
        self.answers[answer.get("id")] = answer.get("result")

    def close(self) -> None:
        """Does nothing, as the editor is not a stream."""

    async def send(self, method: str, params: object, number: int | None = None) -> Any:
        """Sends a request or, without a number, a notification; returns the answer."""
        message = {"jsonrpc": "2.0", "method": method, "params": params}
        numbered = message if number is None else {**message, "id": number}
        await self.protocol.take(json.dumps(numbered).encode())
        while number is not None and number not in self.answers:
            await asyncio.sleep(0.001)
        return self.answers.get(number or 0)

    async def open(self) -> None:
        """Opens a document and completes once, so that its text is encoded."""
        capabilities = {"textDocument": {"inlineCompletion": {}}}
        await self.send("initialize", {"capabilities": capabilities, "processId": None}, 1)
        self.session.use(self.engine)
        document = {"uri": URI, "languageId": "python", "version": 1}
        await self.send("textDocument/didOpen", {"textDocument": {**document, "text": "def f("}})
        await self.complete(6, 2)

    async def type(self) -> None:
        """Types a letter and asks for a completion."""
        at = {"line": 0, "character": 6}
        change = {"range": {"start": at, "end": at}, "text": "x"}
        params = {"textDocument": {"uri": URI, "version": 2}, "contentChanges": [change]}
        await self.send("textDocument/didChange", params)
        assert (await self.complete(7, 3))["items"]

    async def complete(self, column: int, number: int) -> Any:
        """Returns the completions at a column of the first line."""
        position = {"textDocument": {"uri": URI}, "position": {"line": 0, "character": column}}
        params = {**position, "context": {"triggerKind": 1}}
        return await self.send("textDocument/inlineCompletion", params, number)


@pytest.fixture
def served_model(tiny_model_dir: Path) -> Iterator[Any]:
    import torch

    from codegen.models import load
    from codegen.server.completion.model_worker import ServedModel
    from codegen.server.completion.requests import ServerLimits

    loaded = load(str(tiny_model_dir), dtype=torch.float32)
    yield ServedModel(loaded, limits=ServerLimits(context_tokens=256))


@pytest.mark.slow
def test_editor(served_model: Any) -> None:
    editors: list[Editor] = []
    with asyncio.Runner() as runner:

        def open_document() -> None:
            editors.append(Editor(served_model))
            runner.run(editors[-1].open())

        walk = trace(lambda: runner.run(editors[-1].type()), open_document)
        for editor in editors:
            editor.engine.stop()
            editor.session.workspace.close()
    check("keystroke", walk)
