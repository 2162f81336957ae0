"""JupyterLab under a headless Chromium, with the provider of ``editors/jupyterlab``.

The slower lane: JupyterLab is 240 MB. A screenshot is left at ``$CODEGEN_TEST_SCREENSHOTS``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.methods.edits.formats import FORMATS
from codegen.server.engine import CompletionEngine
from codegen.server.http import make_app
from codegen.server.next_edits import NextEditor
from codegen.server.upstream import Upstream
from tests.server.clients import tools
from tests.server.conftest import TOKEN, Served
from tests.server.upstream_server import Script, UpstreamServer

pytestmark = pytest.mark.long

EXTENSION = Path(__file__).parents[3] / "editors" / "jupyterlab" / "codegen-completions"
SCRIPT = Path(__file__).with_name("jupyterlab.mjs")
TEXT = "def f(value):\n    "


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def lab(engine: Any, tmp_path: Path) -> Iterator[str]:
    """JupyterLab with completions of a model."""
    yield from running(engine, tmp_path)


def running(engine: Any, tmp_path: Path, next_edits: NextEditor | None = None) -> Generator[str]:
    """JupyterLab on a folder with one file, the extension beside it; our server allows its page."""
    jupyter = tools.jupyterlab()
    port = free_port()
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
    process = subprocess.Popen(
        [jupyter, "lab", "--no-browser", "--allow-root", f"--port={port}", "--ip=localhost",
         "--IdentityProvider.token=", "--LabApp.news_url=None", f"--ServerApp.root_dir={work}"],
        env={**os.environ, "JUPYTER_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path),
             "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings")},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"{origin}/lab/tree/main.py"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{origin}/api", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        served.stop()


def typed_in(url: str, typed: str, screenshot: Path) -> dict[str, Any]:
    """What JupyterLab shows after some keys, and the text once Tab was pressed."""
    playwright, chromium = tools.playwright(), tools.chromium()
    done = subprocess.run(
        ["node", str(SCRIPT), playwright, chromium, url, str(screenshot), typed],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    assert "error" not in found, found
    return found


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
    lab = running(engine, tmp_path, NextEditor(FORMATS["zeta2"]))
    folder = Path(os.environ.get("CODEGEN_TEST_SCREENSHOTS") or tmp_path)
    try:
        found = typed_in(next(lab), "value", folder / "jupyterlab_next_edit.png")
    finally:
        lab.close()
        engine.stop()
        upstream.stop()
    assert found["shown"].strip() == ".next_edit()"
    assert found["after"].replace("\u200b", "").rstrip("\n") == TEXT + "value.next_edit()"


def test_ghost_text_in_jupyterlab(lab: str, engine: Any, tmp_path: Path) -> None:
    folder = Path(os.environ.get("CODEGEN_TEST_SCREENSHOTS") or tmp_path)
    screenshot = folder / "jupyterlab.png"
    found = typed_in(lab, "v", screenshot)
    assert found["shown"].strip()
    assert found["after"].replace("\u200b", "").startswith(TEXT + "v")
    assert found["shown"].strip().partition("\n")[0][:20] in found["after"]
    assert engine.metrics.value("completions") >= 1
    assert screenshot.stat().st_size > 10_000
