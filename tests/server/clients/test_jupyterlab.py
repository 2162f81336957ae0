"""JupyterLab under a headless Chromium, with the provider of ``editors/jupyterlab``.

The slower lane: JupyterLab is 240 MB. A screenshot is left at ``$CODEGEN_TEST_SCREENSHOTS``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codegen.edits.formats import FORMATS
from codegen.server.completion.engine import CompletionEngine
from codegen.server.completion.upstream import Upstream
from codegen.server.http import make_app
from codegen.server.next_edits.proposals import NextEditor
from tests.server.clients import tools
from tests.server.conftest import TOKEN, Served
from tests.server.upstream_server import Script, UpstreamServer

pytestmark = pytest.mark.long

EXTENSION = Path(__file__).parents[3] / "editors" / "jupyterlab" / "codegen-completions"
TEXT = "def f(value):\n    "


@contextmanager
def running(engine: Any, tmp_path: Path, next_edits: NextEditor | None = None) -> Iterator[str]:
    """JupyterLab on a folder with one file, the extension beside it; our server allows its page."""
    jupyter = tools.jupyterlab()
    port = tools.free_port()
    origin = f"http://localhost:{port}"
    app = make_app(engine, TOKEN, origins=frozenset({origin}), next_edits=next_edits)
    served = Served(app)
    shutil.copytree(EXTENSION, tmp_path / "data" / "labextensions" / EXTENSION.name)
    settings = tmp_path / "settings" / "@jupyterlab" / "completer-extension"
    settings.mkdir(parents=True)
    provider = {"enabled": True, "timeout": 60000, "debouncerDelay": 0, "endpoint": served.url,
                "token": TOKEN}  # fmt: skip
    (settings / "inline-completer.jupyterlab-settings").write_text(
        json.dumps({"providers": {"codegen": provider}})
    )
    work = tmp_path / "work"
    work.mkdir()
    (work / "main.py").write_text(TEXT)
    command = [
        jupyter, "lab", "--no-browser", "--allow-root", f"--port={port}", "--ip=localhost",
        "--IdentityProvider.token=", "--LabApp.news_url=None", f"--ServerApp.root_dir={work}",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "HOME": str(tmp_path),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
    }
    try:
        with tools.web_server(command, f"{origin}/api", env=environment):
            yield f"{origin}/lab/tree/main.py"
    finally:
        served.stop()


def test_a_next_edit_in_jupyterlab(tmp_path: Path) -> None:
    """The server completes nothing, and its next edit inserts text at the cursor."""
    upstream = UpstreamServer(Script())

    def pieces(body: dict[str, Any]) -> list[str]:
        _, current, region = body["prompt"].partition("<<<<<<< CURRENT\n")
        if not current:
            return [""]
        text = region.partition("=======")[0].replace("<|user_cursor|>", "").removesuffix("\n")
        return [text + ".next_edit()" * text.endswith("value") + "\n>>>>>>> UPDATED\n"]

    upstream.script.pieces = pieces
    source = Upstream(upstream.url, fim="none")
    source.check()
    engine = CompletionEngine(source)
    try:
        with running(engine, tmp_path, NextEditor(FORMATS["zeta2"])) as url:
            found = tools.driven("jupyterlab", url, tmp_path, "value")
    finally:
        engine.stop()
        upstream.stop()
    assert found["shown"].strip() == ".next_edit()"
    assert found["after"].replace("\u200b", "").rstrip("\n") == TEXT + "value.next_edit()"


def test_ghost_text_in_jupyterlab(engine: Any, tmp_path: Path) -> None:
    with running(engine, tmp_path) as url:
        found = tools.driven("jupyterlab", url, tmp_path, "v")
    assert found["shown"].strip()
    assert found["after"].replace("\u200b", "").startswith(TEXT + "v")
    assert found["shown"].strip().partition("\n")[0][:20] in found["after"]
    assert engine.metrics.value("completions") >= 1
