"""Names that come out of files, and links in directories that were received."""

from __future__ import annotations

import gzip
import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from codegen.core import paths
from codegen.core.errors import InputError
from codegen.core.paths import child, new_folder, open_plain, own_folder, refuse_links, write_atomic
from codegen.core.runs import Journal

OUTSIDE = [
    "/etc/passwd",
    "../secret",
    "a/../../secret",
    "a/b",
    "/",
    ".",
    "..",
    "",
    "a\0b",
    "\ud800",
    "x" * 256,
    "é" * 200,
    None,
    7,
    True,
    ["a"],
    {"a": 1},
    b"bytes",
]


@pytest.mark.parametrize("name", OUTSIDE, ids=lambda n: ascii(n)[:20])
def test_only_plain_names_are_taken_out_of_files(tmp_path: Path, name: object) -> None:
    with pytest.raises(InputError, match="not a plain file name") as caught:
        child(tmp_path, name, "journal.jsonl")
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["data-00000.jsonl", "x" * 255, "..a", "a..", "ü", "a\\b", "-rf"])
def test_plain_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    assert child(tmp_path, name, "f").parent == tmp_path


@pytest.mark.parametrize("target", ["secret", "missing"])
def test_a_name_that_is_a_link_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / target)
    with pytest.raises(InputError, match="symbolic link"):
        child(tmp_path, "link", "f")


def _fill(folder: Path, kind: str, outside: Path) -> None:
    place = folder / "a" / "b"
    place.parent.mkdir(parents=True)
    if kind == "file link":
        place.symlink_to(outside)
    elif kind == "folder link":
        place.symlink_to(outside.parent)
    elif kind == "dangling link":
        place.symlink_to(outside.parent / "none")
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(place))


@pytest.mark.parametrize("kind", ["file link", "folder link", "dangling link", "pipe", "socket"])
def test_own_folders_hold_plain_files_alone(tmp_path: Path, kind: str) -> None:
    (tmp_path / "outside").write_text("x")
    _fill(tmp_path / "own", kind, tmp_path / "outside")
    for check in (own_folder, refuse_links):
        with pytest.raises(InputError):
            check(tmp_path / "own")


def test_an_own_folder_is_no_link_itself_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    (tmp_path / "file").write_text("")
    for name in ("link", "dangling", "file"):
        with pytest.raises(InputError):
            own_folder(tmp_path / name)
    assert own_folder(tmp_path / "new" / "deep").is_dir()
    assert own_folder(tmp_path / "new" / "deep").is_dir()
    assert not (tmp_path / "none").exists()


def test_plain_files_are_opened_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    os.close(open_plain(tmp_path / "file", os.O_RDONLY))
    for name in ("link", "pipe"):
        for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT):
            with pytest.raises(InputError):
                open_plain(tmp_path / name, flags)


def test_writing_replaces_a_link_and_leaves_what_it_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "f").symlink_to(tmp_path / "victim")
    write_atomic(tmp_path / "out" / "f", "new")
    assert (tmp_path / "victim").read_text() == "old"
    assert not (tmp_path / "out" / "f").is_symlink()
    assert (tmp_path / "out" / "f").read_text() == "new"


def test_no_partial_can_be_waiting(tmp_path: Path) -> None:
    """Neither the name of a partial as it was in former versions, nor any that can be foreseen."""
    (tmp_path / "victim").write_text("old")
    seen: set[str] = set()

    def lines() -> list[str]:
        seen.update(path.name for path in tmp_path.glob(".f.*"))
        return ["x"]

    for _ in range(2):
        (tmp_path / f".f.{os.getpid()}.partial").unlink(missing_ok=True)
        (tmp_path / f".f.{os.getpid()}.partial").symlink_to(tmp_path / "victim")
        write_atomic(tmp_path / "f", (line for _ in range(1) for line in lines()))
    assert (tmp_path / "victim").read_text() == "old"
    assert (tmp_path / "f").read_text() == "x"
    assert len(seen - {f".f.{os.getpid()}.partial"}) == 2  # another name each time


def test_partials_of_dead_processes_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    dead, living = tmp_path / ".f.999999999.0a.partial", tmp_path / f".f.{os.getpid()}.0b.partial"
    other = tmp_path / ".g.999999999.0a.partial"
    for path in (dead, living, other):
        path.write_text("")
    write_atomic(tmp_path / "f", b"bytes")
    assert not dead.exists() and living.exists() and other.exists()
    assert (tmp_path / "f").read_bytes() == b"bytes"


def test_long_names_have_partials_too(tmp_path: Path) -> None:
    for name in ("x" * 255, "é" * 127):
        write_atomic(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe"])
def test_a_log_is_never_a_link_or_a_pipe(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("torn line")
    log = tmp_path / "log.jsonl"
    if kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to(tmp_path / ("victim" if kind == "link" else "new"))
    with pytest.raises(InputError):
        Journal(log)
    assert (tmp_path / "victim").read_text() == "torn line"
    assert not (tmp_path / "new").exists()


def test_new_folders_have_names_that_nobody_knows(tmp_path: Path) -> None:
    names = {new_folder(tmp_path / "x" / "model").name for _ in range(5)}
    assert len(names) == 5


def test_folders_of_dead_processes_go_and_links_in_them_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "f").write_text("x")
    dead = tmp_path / ".model.999999999.0a.partial"
    dead.mkdir()
    (dead / "link").symlink_to(tmp_path / "theirs")
    (tmp_path / ".model.999999999.0b.partial").symlink_to(tmp_path / "theirs")
    new_folder(tmp_path / "model")
    assert not dead.exists() and (tmp_path / "theirs" / "f").read_text() == "x"


def test_packed_files_are_unpacked_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "MOST_UNPACKED", 1000)
    for size, fits in ((1000, True), (1001, False), (10**8, False)):
        (tmp_path / "f.gz").write_bytes(gzip.compress(b"x" * size, 1))
        if fits:
            assert paths.read_packed(tmp_path / "f.gz") == b"x" * size
            continue
        tracemalloc.start()
        with pytest.raises(InputError, match="contains more than"):
            paths.read_packed(tmp_path / "f.gz")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()
    (tmp_path / "f.gz").write_bytes(gzip.compress(b"x" * 500)[:-9])
    with pytest.raises(InputError, match="corrupt"):
        paths.read_packed(tmp_path / "f.gz")


@pytest.mark.parametrize("what", ["pipe", "socket", "device", "link to a device"])
def test_what_might_never_end_is_not_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "rows.jsonl"
    with socket.socket(socket.AF_UNIX) as listening:
        if what == "pipe":
            os.mkfifo(path)
        elif what == "socket":
            listening.bind(str(path))
        elif what == "device":
            path = Path("/dev/zero")
        else:
            path.symlink_to("/dev/zero")
        with pytest.raises(InputError, match="not a plain file"):
            paths.read_packed(path)
