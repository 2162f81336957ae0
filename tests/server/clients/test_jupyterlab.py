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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codegen.server.http import make_app
from tests.server.clients import tools
from tests.server.conftest import TOKEN, Served

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
    """JupyterLab on a folder with one file, the extension beside it; our server allows its page."""
    jupyter = tools.jupyterlab()
    port = free_port()
    origin = f"http://localhost:{port}"
    served = Served(make_app(engine, TOKEN, origins=frozenset({origin})))
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


def test_ghost_text_in_jupyterlab(lab: str, engine: Any, tmp_path: Path) -> None:
    playwright, chromium = tools.playwright(), tools.chromium()
    folder = Path(os.environ.get("CODEGEN_TEST_SCREENSHOTS") or tmp_path)
    screenshot = folder / "jupyterlab.png"
    done = subprocess.run(
        ["node", str(SCRIPT), playwright, chromium, lab, str(screenshot)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    assert "error" not in found, found
    assert found["shown"].strip()
    assert found["after"].replace("\u200b", "").startswith(TEXT + "v")
    assert found["shown"].strip().partition("\n")[0][:20] in found["after"]
    assert engine.metrics.value("completions") >= 1
    assert screenshot.stat().st_size > 10_000
