"""sidekick.nvim in a real Neovim 0.12: next edits are shown, taken by Tab, and the next follows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.clients import tools
from tests.server.clients.test_neovim import CODEGEN, ghost, wait_for
from tests.server.upstream_server import Script, UpstreamServer

pynvim = pytest.importorskip("pynvim")
pytestmark = pytest.mark.slow

TEXT = "def total(items):\n    cost = 0\n    for i in items:\n        cost += i\n    return cost\n"
WINDOW = re.compile(r"<<<<<<< CURRENT\n(.*)=======\n", re.DOTALL)
SET_UP = """
local command, plugin, folder = ...
vim.opt.runtimepath:prepend(plugin)
require('sidekick').setup({nes = {debounce = 10}})
vim.keymap.set('n', '<Tab>', function() require('sidekick').nes_jump_or_apply() end)
vim.api.nvim_create_autocmd('FileType', {pattern = 'python', callback = function()
  vim.lsp.start({name = 'codegen-copilot', cmd = command, root_dir = folder, handlers = {
    ['$/codegen/status'] = function(_, params) vim.g.status = params.message end}})
end})
"""


@pytest.fixture
def upstream() -> Iterator[UpstreamServer]:
    server = UpstreamServer(Script())
    yield server
    server.stop()


@pytest.fixture
def vim(upstream: UpstreamServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    plugin, found = tools.sidekick(), tools.neovim()
    if found.version < (0, 12):
        pytest.skip("sidekick.nvim needs a newer Neovim")
    for name, value in {**found.environment, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "shop.py"
    file.write_text(TEXT)
    argv = [*found.command, "--embed", "--headless", "-u", "NONE", "-i", "NONE", "-n"]
    vim = pynvim.attach("child", argv=argv)
    vim.ui_attach(100, 30)
    vim.command("set nomore cmdheight=8 shortmess+=F")
    serving = ["--upstream", upstream.url, "-o", "fim=none", "--next-edits", "zeta2"]
    vim.exec_lua(SET_UP, [CODEGEN, "serve", "lsp", *serving], str(plugin), str(tmp_path))
    vim.command(f"edit {file}")
    vim.command("setfiletype python")
    wait_for(lambda: "ready" in str(vim.vars.get("status")))
    yield vim
    vim.close()


def text(vim: Any) -> str:
    return "\n".join(vim.current.buffer[:]) + "\n"


def test_edits_are_shown_and_taken_one_after_the_other(vim: Any, upstream: UpstreamServer) -> None:
    """A name is changed by hand once; two proposals change it where it is left."""

    def pieces(body: dict[str, Any]) -> list[str]:
        match = WINDOW.search(body.get("prompt", ""))
        return [match[1].replace("<|user_cursor|>", "").replace("cost", "sum_", 1) if match else ""]

    upstream.script.pieces = pieces
    vim.input("jwcwsum_<Esc>")
    for changed in (2, 3):
        wait_for(lambda: "sum_" in ghost(vim, "sidekick.ui"))
        before = text(vim)
        vim.input("<Tab>")  # there
        wait_for(lambda: vim.current.window.cursor[0] > 2)
        assert text(vim) == before
        vim.input("<Tab>")  # and taken
        wait_for(lambda changed=changed: text(vim).count("sum_") == changed)
    assert text(vim) == TEXT.replace("cost", "sum_")


def test_a_proposal_that_is_not_wanted_is_gone(vim: Any, upstream: UpstreamServer) -> None:
    """By Escape; and it does not come again."""

    def pieces(body: dict[str, Any]) -> list[str]:
        match = WINDOW.search(body.get("prompt", ""))
        return [match[1].replace("<|user_cursor|>", "").replace("cost", "sum_") if match else ""]

    upstream.script.pieces = pieces
    vim.input("jwcwsum_<Esc>")
    wait_for(lambda: "sum_" in ghost(vim, "sidekick.ui"))
    vim.input("<Esc>")
    wait_for(lambda: not ghost(vim, "sidekick.ui"))
    asked = len(upstream.asked)
    vim.input("ggi# <Esc>")
    wait_for(lambda: len(upstream.asked) > asked)
    vim.command("sleep 300m")
    assert not ghost(vim, "sidekick.ui")
