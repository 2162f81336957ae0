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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import tools
from tests.server.clients.test_jupyterlab import free_port
from tests.server.test_next_edits import says
from tests.server.upstream_server import Script, UpstreamServer

pytestmark = pytest.mark.long

EXTENSION = Path(__file__).parents[3] / "editors" / "vscode"
CODEGEN = str(Path(sys.executable).with_name("codegen"))
TEXT = "def f(value):\n    "


EDITED = """def total(items):
    cost = 0
    seen = []
    for i in items:
        seen.append(i)
        print(i)
        cost += i
    return cost
"""


@contextmanager
def vscode(serving: list[str], tmp_path: Path, text: str, **more: object) -> Iterator[str]:
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
                "workbench.startupEditor": "none", "editor.quickSuggestions": False,
                **more}  # fmt: skip
    for level in ("User", "Machine"):  # the command is a machine's setting
        folder = tmp_path / "user" / level
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(json.dumps(settings))
    work = tmp_path / "work"
    work.mkdir()
    (work / "main.py").write_text(text)
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


def driven(script: str, url: str, tmp_path: Path) -> Any:
    """What a script of this folder prints; it leaves a screenshot."""
    playwright, chromium = tools.playwright(), tools.chromium()
    folder = Path(os.environ.get("CODEGEN_TEST_SCREENSHOTS") or tmp_path)
    screenshot = folder / f"{script}.png"
    done = subprocess.run(
        ["node", str(Path(__file__).with_name(f"{script}.mjs")), playwright, chromium, url,
         str(screenshot)],
        capture_output=True,
        text=True,
        timeout=400,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert "error" not in found, found
    assert screenshot.stat().st_size > 10_000
    return found


def test_ghost_text_in_vscode(serving: list[str], tmp_path: Path) -> None:
    with vscode(serving, tmp_path, TEXT) as url:
        found = driven("vscode", url, tmp_path)
    assert found["shown"].strip()
    saved = (tmp_path / "work" / "main.py").read_text()
    assert saved.startswith(TEXT + "v")
    assert found["shown"].strip().partition("\n")[0] in saved


def test_next_edits_in_vscode(tmp_path: Path) -> None:
    """A name is changed once by hand; Tab jumps to the next edit and applies it, then another."""
    upstream = UpstreamServer(Script())
    says(upstream, lambda window: window.replace("cost", "sum_", 1))
    serving = ["--upstream", upstream.url, "-o", "fim=none", "--next-edits", "zeta2"]
    more = {"editor.inlineSuggest.enabled": False, "editor.autoIndent": "none"}
    try:
        with vscode(serving, tmp_path, EDITED, **more) as url:
            found = driven("vscode_edits", url, tmp_path)
    finally:
        upstream.stop()
    assert "sum_" in found["far"]
    assert any("next edit in line 7" in one for one in found["far"])
    assert found["jumped"] == ["sum_"] and found["untouched"]
    assert found["second"] == ["sum_"]
    assert (tmp_path / "work" / "main.py").read_text() == EDITED.replace("cost", "sum_")
