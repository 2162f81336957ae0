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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.server.clients import tools
from tests.server.next_edits.test_proposals import says
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
    port = tools.free_port()
    entry = Path(home) / "node_modules" / "code-server" / "out" / "node" / "entry.js"
    command = [
        "node", str(entry), "--auth", "none", "--bind-addr", f"127.0.0.1:{port}",
        "--config", str(tmp_path / "config.yaml"), "--user-data-dir", str(tmp_path / "user"),
        "--extensions-dir", str(tmp_path / "extensions"), "--disable-workspace-trust",
        "--disable-telemetry", "--disable-update-check", str(work),
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with tools.web_server(command, f"{url}/healthz"):
        yield f"{url}/?folder={work}"


def test_ghost_text_in_vscode(serving: list[str], tmp_path: Path) -> None:
    with vscode(serving, tmp_path, TEXT) as url:
        found = tools.driven("vscode", url, tmp_path)
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
            found = tools.driven("vscode_edits", url, tmp_path)
    finally:
        upstream.stop()
    assert "sum_" in found["far"]
    assert any("next edit in line 7" in one for one in found["far"])
    assert found["jumped"] == ["sum_"] and found["untouched"]
    assert found["second"] == ["sum_"]
    assert (tmp_path / "work" / "main.py").read_text() == EDITED.replace("cost", "sum_")
