"""Gets real editors and plug-ins for the tests, beside the system, once for all runs.

They lie in ``$CODEGEN_TEST_TOOLS``, by default in the user's cache. What can't be had here (no
network, no Debian, no npm) is skipped. Debian's packages are unpacked, not installed, and run by
their own loader: nothing of the system changes.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SUITE = "forky"  # Debian's testing: Neovim 0.12
_PACKAGES = ("neovim",)
_JUPYTERLAB = "jupyterlab==4.6.6"
_PLAYWRIGHT = "playwright-core@1.65"
_MINUTES = 60 * 8


@dataclass(frozen=True)
class Neovim:
    """How to run it."""

    command: list[str]
    version: tuple[int, int]
    environment: dict[str, str] = field(default_factory=dict)


def folder() -> Path:
    """Where tools are kept."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("CODEGEN_TEST_TOOLS") or default / "codegen-test-tools")


def neovim() -> Neovim:
    """Neovim 0.12 from Debian's testing, else the system's; skips the test without either."""
    try:
        found = _unpacked_neovim(_debian())
        if found.version >= (0, 12):
            return found
    except (OSError, subprocess.SubprocessError, RuntimeError):
        pass
    if path := shutil.which("nvim"):
        return Neovim([path], version_of([path], {}))
    pytest.skip("there is no Neovim here, and it can't be fetched")


def _debian() -> Path:
    """The packages, unpacked."""
    home = folder() / f"debian-{_SUITE}"
    done = home / "done"
    with _once(home, done.exists) as needed:
        if needed:
            _unpack(home)
            done.touch()
    return home


def _unpack(home: Path) -> None:
    sources = Path("/etc/apt/sources.list.d").glob("*.sources")
    uris = re.findall(r"^URIs:\s*(\S*debian)/?$", "".join(p.read_text() for p in sources), re.M)
    if not uris or not _KEYRING.exists() or not shutil.which("apt-get"):
        raise RuntimeError("no Debian mirror")
    for name in ("lists/partial", "cache/archives/partial", "parts", "root"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "status").touch()
    line = f"deb [signed-by={_KEYRING}] {uris[0]} {_SUITE} main\n"
    (home / "sources.list").write_text(line)
    settings = {
        "Dir::Etc::sourcelist": home / "sources.list",
        "Dir::Etc::sourceparts": home / "parts",
        "Dir::Etc::preferencesparts": home / "parts",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::State::lists": home / "lists",
        "Dir::State::status": home / "status",
        "Dir::Cache": home / "cache",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", *(f"-o{key}={value}" for key, value in settings.items()), "-qq"]
    _run([*apt, "update"])
    _run([*apt, "-y", "-d", "install", *_PACKAGES])
    root = home / "root"
    for package in sorted((home / "cache" / "archives").glob("*.deb")):
        _run(["dpkg", "-x", str(package), str(root)])
    for name in ("lib64", "lib", "bin"):
        link = root / name
        if not link.exists() and not link.is_symlink():
            link.symlink_to(f"usr/{name}")


def _unpacked_neovim(home: Path) -> Neovim:
    root = home / "root"
    libraries = next((root / "usr" / "lib").glob("*-linux-gnu"))
    loader = next((root / "usr" / "lib64").glob("ld-linux*"))
    command = [str(loader), "--library-path", str(libraries), str(root / "usr" / "bin" / "nvim")]
    environment = {"VIMRUNTIME": str(root / "usr/share/nvim/runtime")}
    return Neovim(command, version_of(command, environment), environment)


def version_of(command: list[str], environment: dict[str, str]) -> tuple[int, int]:
    """Neovim's."""
    done = _run([*command, "--version"], env={**os.environ, **environment})
    found = re.search(r"NVIM v(\d+)\.(\d+)", done)
    if not found:
        raise RuntimeError("no version")
    return int(found[1]), int(found[2])


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, env=env, check=True, capture_output=True, text=True, timeout=_MINUTES
    )
    return done.stdout


@contextmanager
def _once(home: Path, done: Callable[[], bool]) -> Iterator[bool]:
    """Whether it is still to be done; other processes wait meanwhile."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done()


def jupyterlab() -> str:
    """The command of JupyterLab, in an environment of its own."""
    home = folder() / "jupyter"
    try:
        with _once(home, (home / "done").exists) as needed:
            if needed:
                _run([sys.executable, "-m", "venv", str(home / "venv")])
                _run([str(home / "venv" / "bin" / "pip"), "install", "-q", _JUPYTERLAB])
                (home / "done").touch()
    except (OSError, subprocess.SubprocessError):
        pytest.skip("JupyterLab can't be fetched here")
    return str(home / "venv" / "bin" / "jupyter")


def _playwright() -> str:
    """The module that drives a browser, for Node."""
    home = folder() / "npm-playwright"
    module = home / "node_modules" / "playwright-core" / "index.mjs"
    try:
        with _once(home, module.exists) as needed:
            if needed:
                command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home)]
                _run([*command, _PLAYWRIGHT])
    except (OSError, subprocess.SubprocessError):
        pytest.skip("playwright-core can't be fetched here")
    return str(module)


def driven(script: str, url: str, tmp_path: Path, *words: str) -> Any:
    """What a script of this folder prints that drives a browser; it leaves a screenshot, in
    ``$CODEGEN_TEST_SCREENSHOTS`` if that is set.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium here")
    screenshot = Path(os.environ.get("CODEGEN_TEST_SCREENSHOTS") or tmp_path) / f"{script}.png"
    path = str(Path(__file__).with_name(f"{script}.mjs"))
    command = ["node", path, _playwright(), chromium, url, str(screenshot), *words]
    done = run(*command, timeout=400)
    found = json.loads(done.stdout)
    assert "error" not in found, found
    assert screenshot.stat().st_size > 10_000
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@contextmanager
def web_server(command: list[str], url: str, **options: Any) -> Iterator[None]:
    """Runs a command until the end of the context, which begins once it answers at a URL."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, **options) as process:
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield
        finally:
            process.terminate()
