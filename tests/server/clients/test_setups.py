"""The set-ups in ``editors/``, as a user would paste them."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run, wait_for
from tests.server.clients import tools

pynvim = pytest.importorskip("pynvim")

EDITORS = Path(__file__).parents[3] / "editors"
CODEGEN = str(Path(sys.executable).with_name("codegen"))
TEXT = "def f(value):\n    "


@pytest.fixture
def path(serving: list[str], tmp_path: Path) -> str:
    """A PATH on which ``codegen`` has a model or an upstream."""
    return path_with(serving, tmp_path)


def path_with(options: list[str], tmp_path: Path) -> str:
    script = tmp_path / "bin" / "codegen"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec "{CODEGEN}" "$@" {shlex.join(options)}\n')
    script.chmod(0o755)
    return f"{script.parent}:{os.environ['PATH']}"


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


@contextmanager
def neovim(command: list[str], folder: Path, **environment: str) -> Iterator[Any]:
    """Neovim with a file and our set-up, once its server is ready."""
    file = folder / "main.py"
    file.write_text(TEXT)
    argv = [*command, "--embed", "--headless", "-u", "NONE", "-i", "NONE", "-n"]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "XDG_STATE_HOME": str(folder)}.items():
            patch.setenv(name, value)
        vim = pynvim.attach("child", argv=argv)
        try:
            vim.ui_attach(100, 30)
            vim.command("set nomore cmdheight=8 shortmess+=F")  # no prompt waits for a key
            vim.command("filetype on")
            vim.command(f"luafile {EDITORS / 'neovim' / 'codegen.lua'}")
            vim.command(f"edit {file}")
            wait_for(lambda: "ready" in str(vim.vars.get("codegen_status", "")), 120)
            yield vim
        finally:
            vim.close()


def text_of(vim: Any) -> str:
    return "\n".join(vim.current.buffer[:])


@pytest.mark.slow
def test_neovim(path: str, tmp_path: Path) -> None:
    found = tools.neovim()
    if found.version < (0, 12):
        pytest.skip("the set-up is for Neovim 0.12")
    with neovim(found.command, tmp_path, **found.environment, PATH=path) as vim:
        vim.input("G$a")
        shown = wait_for(lambda: ghost(vim, "nvim.lsp.inline_completion"), 120)
        before = text_of(vim)
        vim.input("<Tab>")
        wait_for(lambda: text_of(vim) != before)
        accepted = text_of(vim).removeprefix(before)
        assert accepted and shown.startswith(accepted.partition("\n")[0])
        # It asks again at once; leaving insert mode cancels, and the server lives on.
        vim.input("<Esc>o<Esc>")
        assert vim.exec_lua("return #vim.lsp.get_clients({name = 'codegen'})") == 1


@pytest.mark.slow
def test_neovim_without_ghost_text(path: str, tmp_path: Path) -> None:
    nvim = shutil.which("nvim")
    if nvim is None or tools.version_of([nvim], {}) >= (0, 12):
        pytest.skip("there is no Neovim before 0.12 here")
    with neovim([nvim], tmp_path, PATH=path) as vim:
        before = text_of(vim)
        vim.input("G$a<C-x><C-o>")
        wait_for(lambda: vim.funcs.pumvisible() or text_of(vim) != before, 120)
        vim.input("<C-n><C-y>")
        wait_for(lambda: text_of(vim) != before)


EMACS = """
(progn
  (require 'codegen)
  (find-file "main.py")
  (python-mode)
  (setq eglot-sync-connect 30 eglot-connect-timeout 60)
  (apply #'eglot--connect (eglot--guess-contact))
  (goto-char (point-max))
  (let ((items nil) (tries 0))
    (while (and (null items) (< tries 200))
      (setq items (ignore-errors (codegen-request)) tries (1+ tries))
      (sleep-for 0.2))
    (codegen-complete)
    (let ((shown (and codegen--overlay (overlay-get codegen--overlay 'after-string)))
          (before (buffer-string)))
      (codegen-accept)
      (princ (json-encode (list :items (vconcat items) :shown (substring-no-properties shown)
                                :before before :after (buffer-string))))))
  (set-buffer-modified-p nil)
  (eglot-shutdown (eglot-current-server)))
"""


@pytest.mark.long
def test_emacs(path: str, tmp_path: Path) -> None:
    emacs = shutil.which("emacs")
    if emacs is None:
        pytest.skip("there is no Emacs here")
    (tmp_path / "main.py").write_text(TEXT)
    (tmp_path / ".git").mkdir()
    command = [emacs, "--batch", "-Q", "-L", EDITORS / "emacs", "--eval", EMACS]
    done = run(*command, env={"PATH": path, "HOME": str(tmp_path)}, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found: Any = json.loads(done.stdout)
    assert found["shown"] and found["items"]
    assert found["after"] == found["before"] + found["shown"]


def test_vscode_extension_is_whole() -> None:
    """What the extension's files say of one another, and that its script parses."""
    folder = EDITORS / "vscode"
    package = json.loads((folder / "package.json").read_text())
    script = "".join(path.read_text() for path in sorted(folder.glob("*.js")))
    for command in package["contributes"]["commands"]:
        assert f'"{command["command"]}"' in script
    from codegen.server.completion.requests import ServerLimits
    from codegen.server.editor.session import EditorSettings

    settings = package["contributes"]["configuration"]["properties"]
    defaults = {
        name.removeprefix("codegen."): value["default"]
        for name, value in settings.items()
        if name != "codegen.command"
    }
    read, wrong = EditorSettings().updated(defaults, ServerLimits())
    assert not wrong and read == EditorSettings()
    if node := shutil.which("node"):
        for script in folder.glob("*.js"):
            subprocess.run([node, "--check", str(script)], check=True)


def node(*args: str | Path, given: str = "") -> Any:
    """The JSON that a script prints."""
    if not (found := shutil.which("node")):
        pytest.skip("Node is not installed")
    done = run(found, *args, input=given, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_vscode_shows_the_second_answer() -> None:
    """Once, at its place in its text only; else the server is asked."""
    found = node(Path(__file__).with_name("vscode_certain.mjs"), EDITORS / "vscode/extension.js")
    assert found["options"] == {"certainAnswers": True}
    assert found["before"] == found["once"] == ["asked again"]
    assert found["commands"] == ["hide", "trigger"] and found["replaced"] == ["certain"]
    assert found["nothing"] == ["hide"]
    assert found["elsewhere"] == found["other_file"] == []
    assert found["unchanged"] == found["typed"] == ["asked again"]


def test_vscode_shows_next_edits() -> None:
    """A far edit is jumped to, then applied; what comes late is not shown."""
    words = ["a", "b c", "b d"]
    pairs = [
        ("a = 1\n", "b = 1\n"),
        ("a\nb\n", "a\n"),
        ("a\n", "a\nb\nc\n"),
        ("", "b\n"),
        ("if a:\n    b\n", "if a and c:\n    d\n"),
        *((f"{x}\n{y}\n", f"{y}\n{z}\n") for x, y, z in itertools.product(words, repeat=3)),
    ]
    script = Path(__file__).with_name("vscode_next_edits.mjs")
    found = node(script, EDITORS / "vscode" / "next_edits.js", given=json.dumps(pairs))
    assert found["far"] == {
        "asked": [["textDocument/copilotInlineEdit", 2, 0]],
        "shown": ["a", "x", "\xa0\xa0⇥\xa0next\xa0edit\xa0in\xa0line\xa06"],
        "told": [["textDocument/didShowInlineEdit", {"item": {"command": {"arguments": ["one"]}}}]],
        "key": True,
    }
    text = "x = 1\nb = a\n\n\n\nc = a\n"
    assert found["jumped"] == {"text": text, "line": 5, "shown": ["a", "x"]}
    assert found["applied"] == {"text": text.replace("c = a", "c = x"), "shown": [], "key": False}
    assert found["followed"] == found["undone"] == 2
    assert found["late"] == [] and found["near"] == ["a", "x"]
    assert found["dismissed"] == {"text": False, "shown": []}
    for (before, after), shown in zip(pairs, found["hints"], strict=True):
        assert _shown_as(before, shown) == after


def _shown_as(before: str, shown: list[dict[str, Any]]) -> str:
    """The text that a user sees: lines whose characters are all struck are gone."""
    lines: list[str | None] = list(before.split("\n"))
    for hint in shown:
        line = str(lines[hint["line"]])
        new = line[: hint["start"]] + hint["insert"].replace("⏎", "\n") + line[hint["end"] :]
        is_gone = not new and line and not hint["insert"]
        lines[hint["line"]] = None if is_gone else new
    return "\n".join(line for line in lines if line is not None)
