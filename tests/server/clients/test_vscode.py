"""VS Code in a browser (code-server), with the extension of ``editors/vscode``.

The slower lane: code-server is 317 MB and has to be put together first; ``$CODEGEN_CODE_SERVER``
names the folder that holds its ``node_modules``, and the test is skipped without. A screenshot is
left at ``$CODEGEN_TEST_SCREENSHOTS``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.clients import tools
from tests.server.clients.test_jupyterlab import free_port

pytestmark = pytest.mark.long

EXTENSION = Path(__file__).parents[3] / "editors" / "vscode"
SCRIPT = Path(__file__).with_name("vscode.mjs")
CODEGEN = str(Path(sys.executable).with_name("codegen"))
TEXT = "def f(value):\n    "


@pytest.fixture
def vscode(serving: list[str], tmp_path: Path) -> Iterator[str]:
    """Its address, on a folder with one file."""
    home = os.environ.get("CODEGEN_CODE_SERVER")
    if not home:
        pytest.skip("CODEGEN_CODE_SERVER names no code-server")
    extension = tmp_path / "extensions" / "codegen.codegen-completions-0.1.0"
    shutil.copytree(EXTENSION, extension, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    subprocess.run(install, cwd=extension, check=True, capture_output=True)
    command = [CODEGEN, "serve", "lsp", *serving]
    settings = {"codegen.command": command, "security.workspace.trust.enabled": False,
                "workbench.startupEditor": "none", "editor.quickSuggestions": False}  # fmt: skip
    for level in ("User", "Machine"):  # the command is a machine's setting
        folder = tmp_path / "user" / level
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps(settings))
    work = tmp_path / "work"
    work.mkdir()
    (work / "main.py").write_text(TEXT)
    port = free_port()
    entry = Path(home) / "node_modules" / "code-server" / "out" / "node" / "entry.js"
    process = subprocess.Popen(
        ["node", str(entry), "--auth", "none", "--bind-addr", f"127.0.0.1:{port}",
         "--config", str(tmp_path / "config.yaml"), "--user-data-dir", str(tmp_path / "user"),
         "--extensions-dir", str(tmp_path / "extensions"), "--disable-workspace-trust",
         "--disable-telemetry", "--disable-update-check", str(work)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{url}/healthz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"{url}/?folder={work}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_ghost_text_in_vscode(vscode: str, tmp_path: Path) -> None:
    playwright, chromium = tools.playwright(), tools.chromium()
    folder = Path(os.environ.get("CODEGEN_TEST_SCREENSHOTS") or tmp_path)
    screenshot = folder / "vscode.png"
    done = subprocess.run(
        ["node", str(SCRIPT), playwright, chromium, vscode, str(screenshot)],
        capture_output=True,
        text=True,
        timeout=400,
    )
    found = json.loads(done.stdout)
    assert "error" not in found, found
    assert found["shown"].strip()
    saved = (tmp_path / "work" / "main.py").read_text()
    assert saved.startswith(TEXT + "v")
    assert found["shown"].strip().partition("\n")[0] in saved
    assert screenshot.stat().st_size > 10_000
