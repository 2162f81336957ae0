"""Mounts are read only, also below a mount and on any kernel."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from suites import suite

from codegen.sandbox.isolation import newroot
from tests.processes import python

_SUBMOUNT = suite("open_files")["submount"]


@pytest.mark.skipif(os.geteuid() != 0, reason="it mounts a file system")
@pytest.mark.parametrize("backend", ["bwrap", "namespaces"])
def test_mounts_below_a_mount_are_read_only_too(backend: str) -> None:
    """Without Landlock, which would hide it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    folder = Path(os.path.realpath(sys.base_prefix), "lib", version, "ctypes/macholib")
    done = python(_SUBMOUNT, str(folder), backend, timeout=60)
    if "No safe way" in done.stderr:
        pytest.skip(f"{backend} does not work here")
    assert done.returncode == 0, done.stderr
    status, message, values, left = json.loads(done.stdout)
    assert status == "passed", message
    there, seen = values[0]
    assert there and left == ["there"]
    assert "done" not in seen, seen


_READ_ONLY = suite("open_files")["read_only"]


@pytest.mark.skipif(os.geteuid() != 0, reason="it mounts file systems")
@pytest.mark.parametrize("kernel", ["new", "old"])
def test_read_only_is_recursive_on_any_kernel(kernel: str, tmp_path: Path) -> None:
    done = python(_READ_ONLY, str(tmp_path), kernel, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(tmp_path), f"{tmp_path}/not"]


def test_mount_points_are_read_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    points = ("/", "/a", r"/a/b\040c", "/ab", r"/a/d\134e")
    lines = "".join(f"1 2 0:3 / {point} rw - tmpfs tmpfs rw\n" for point in points)
    monkeypatch.setattr(newroot.Path, "read_text", lambda _: lines)
    assert newroot.mounts_at_or_below("/a") == ["/a", "/a/b c", "/a/d\\e"]
    assert len(newroot.mounts_at_or_below("/")) == 5
