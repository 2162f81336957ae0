"""Neovim with our language server, and llama.vim with our ``/infill``: ghost text, accepted.

Neovim runs headless and is driven over its own protocol. Before 0.12 it has no inline completion of
its own, so here the request is sent by hand; its ghost text is in ``test_setups.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import tools

pynvim = pytest.importorskip("pynvim")
pytestmark = pytest.mark.slow

CODEGEN = str(Path(sys.executable).with_name("codegen"))
TEXT = "def f(value):\n    "


@pytest.fixture
def nvim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    found = tools.neovim()
    for name, value in {**found.environment, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    argv = [*found.command, "--embed", "--headless", "-u", "NONE", "-i", "NONE", "-n"]
    vim = pynvim.attach("child", argv=argv)
    vim.ui_attach(100, 30)
    vim.command("set nomore cmdheight=8 shortmess+=F")  # no prompt waits for a key
    vim.found = found
    yield vim
    vim.close()


def wait_for(check: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What ``check`` gives once it gives anything."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing came")


def ghost(vim: Any, namespace: str) -> str:
    """The virtual text on the screen, its lines joined."""
    number = vim.api.get_namespaces().get(namespace)
    if number is None:
        return ""
    lines: list[str] = []
    for mark in vim.api.buf_get_extmarks(0, number, 0, -1, {"details": True}):
        lines.append("".join(part[0] for part in mark[3].get("virt_text", [])))
        lines += ["".join(p[0] for p in row) for row in mark[3].get("virt_lines", [])]
    return "\n".join(lines)


def start_server(vim: Any, serving: list[str], folder: Path) -> None:
    file = folder / "main.py"
    file.write_text(TEXT)
    command = [CODEGEN, "serve", "lsp", *serving]
    vim.exec_lua("vim.g.status = {}")
    vim.exec_lua(
        """
        local command, folder = ...
        vim.api.nvim_create_autocmd('FileType', {pattern = 'python', callback = function()
          vim.lsp.start({name = 'codegen', cmd = command, root_dir = folder, handlers = {
            ['$/codegen/status'] = function(_, params)
              vim.g.status = params.message
            end}})
        end})
        """,
        command,
        str(folder),
    )
    vim.command(f"edit {file}")
    vim.command("setfiletype python")
    wait_for(lambda: "ready" in str(vim.vars["status"]))
