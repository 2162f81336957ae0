"""The directory of a run: journal, lock, settings, full disk, links; what is killed is resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen.core.errors import InputError, MachineError, ResumeError
from codegen.core.paths import open_plain
from codegen.core.records import read_rows
from codegen.core.runs import Journal, RunDirectory, fingerprint, refuse_changes
from tests.processes import python

# --- the journal -------------------------------------------------------------------------------


@given(cut=st.integers(0, 40))
def test_a_torn_last_line_is_cut_off(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    lines = ["first é", "second", "third \u2028 line"]
    with Journal(path) as log:
        log.append(*lines)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    with Journal(path) as log:
        log.append("after")
    kept = path.read_bytes().decode().split("\n")
    assert kept[-2:] == ["after", ""]
    assert kept[:-2] == lines[: len(kept) - 2]


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Journal(path), pytest.raises(InputError, match="another process"):
        Journal(path)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    """The file-size limit stands in for the disk's end: a write past it is cut short."""
    script = (
        "import resource, signal, sys\n"
        "from codegen.core.runs import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with Journal(sys.argv[1]) as log:\n"
        "    log.append('x' * 60)\n"
        "    try:\n"
        "        log.append('y' * 60)\n"
        "    except OSError as error:\n"
        "        print(error.errno)\n"
    )
    path = tmp_path / "log"
    done = python(script, path, check=True)
    assert done.stdout.strip() == "27"
    assert path.read_text() == "x" * 60 + "\n"


# --- settings ----------------------------------------------------------------------------------


def test_settings_are_stored_once_and_compared_after_that(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    settings = {"model": "m", "lengths": (1, 2), "sampling": {"temperature": 0.5, "extra": {}}}
    directory.claim(settings, begun=False)
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {
        **settings, "lengths": [1, 2],
    }  # fmt: skip
    directory.claim(settings, begun=True)
    other = {"model": "m", "lengths": (1, 3), "sampling": {"temperature": 0.7}, "n": 3}
    with pytest.raises(ResumeError) as caught:
        directory.claim(other, begun=True)
    message = str(caught.value)
    assert "lengths from [1, 2] to [1, 3]" in message
    assert "sampling.temperature from 0.5 to 0.7" in message
    assert "sampling.extra from {} to (not set)" in message
    assert "n from (not set) to 3" in message
    assert "model" not in message and "\n" not in message and "Choose another --out" in message


def test_settings_that_made_no_result_are_replaced(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim({"a": 1}, begun=False)
    directory.claim({"a": 2}, begun=False)
    directory.claim({"a": 2}, begun=True)
    with pytest.raises(ResumeError, match="a from 2 to 1"):
        directory.claim({"a": 1}, begun=True)


def test_settings_in_a_section_of_their_file(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "plan.json", option="output")
    directory.claim({"a": 1}, begun=False, section="settings", more={"about": "x"})
    stored = json.loads((tmp_path / "plan.json").read_text())
    assert stored == {"settings": {"a": 1}, "about": "x"}
    directory.claim({"a": 1}, begun=True, section="settings", more={"about": "y"})
    assert json.loads((tmp_path / "plan.json").read_text()) == stored
    with pytest.raises(ResumeError, match="Choose another output"):
        directory.claim({"a": 2}, begun=True, section="settings")
    with pytest.raises(ResumeError, match="corrupt"):
        directory.claim({"a": 1}, begun=True, section="request")


def test_results_without_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"no run\.json"):
        RunDirectory(tmp_path).claim({"a": 1}, begun=True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b'"x"', b"null", b"\xff", b"[" * 5000])
@pytest.mark.parametrize("begun", [True, False])
def test_a_damaged_settings_file_is_one_line(tmp_path: Path, content: bytes, begun: bool) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ResumeError) as caught:
        RunDirectory(tmp_path).claim({"a": 1}, begun=begun)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run.json").read_bytes() == content


def test_fingerprints_do_not_depend_on_the_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)
                    | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip
def test_equal_settings_are_never_refused(value: Any) -> None:
    refuse_changes("run", {"x": value}, {"x": json.loads(json.dumps(value))})


def test_changes_are_named_as_the_user_knows_them() -> None:
    then, now = ({"seed": seed, "source": {"sha256": sha}} for seed, sha in ((0, "a"), (1, "b")))
    with pytest.raises(ResumeError, match=r"Changed: seed from 0 to 1; the content of source\. "):
        refuse_changes("out", then, now)
    with pytest.raises(ResumeError, match=r"Changed: the model's weights\. "):
        refuse_changes("out", {"model_fingerprint": "a"}, {"model_fingerprint": "b"})


# --- the directory -----------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [".lock", "log.jsonl"])
def test_one_process_at_a_time(tmp_path: Path, journal: str) -> None:
    directory = RunDirectory(tmp_path / "a" / "b")
    with directory.open(journal), pytest.raises(InputError, match="another process"), \
            directory.open(journal):  # fmt: skip
        raise AssertionError
    with directory.open(journal):
        pass


def test_a_run_into_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="is a file"), RunDirectory(folder).open():
            raise AssertionError
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_place_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="Cannot write"), RunDirectory(tmp_path / "a").open():
            raise AssertionError
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["run.json", ".lock"])
@pytest.mark.parametrize("dangling", [True, False])
def test_links_in_the_directory_are_refused(tmp_path: Path, name: str, dangling: bool) -> None:
    (tmp_path / "victim").write_text('{"a": 1}')
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(tmp_path / ("none" if dangling else "victim"))
    with pytest.raises(InputError, match="symbolic link"), RunDirectory(folder).open():
        RunDirectory(folder).claim({"a": 2}, begun=False)
    assert (tmp_path / "victim").read_text() == '{"a": 1}' and not (tmp_path / "none").exists()


def test_written_files_replace_links(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("old")
    (tmp_path / "result").symlink_to(tmp_path / "victim")
    RunDirectory(tmp_path).write("result", "new")
    assert (tmp_path / "victim").read_text() == "old" and (tmp_path / "result").read_text() == "new"


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.refuse_nonempty("run.json")
    (tmp_path / ".hidden").touch()
    directory.refuse_nonempty("run.json")
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match=r"thesis\.tex"):
        directory.refuse_nonempty("run.json", "log.jsonl")
    (tmp_path / "log.jsonl").touch()
    directory.refuse_nonempty("run.json", "log.jsonl")
    with pytest.raises(InputError, match="is a file"):
        RunDirectory(tmp_path / "log.jsonl").refuse_nonempty("run.json")


def test_a_full_disk_in_the_middle_of_a_run_is_one_line(tmp_path: Path) -> None:
    """The file-size limit stands in for the disk's end."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from codegen.core.errors import MachineError\n"
        "from codegen.core.runs import RunDirectory\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "directory = RunDirectory(Path(sys.argv[1]))\n"
        "for size in (60, 60):\n"
        "    try:\n"
        "        with directory.open('log') as log:\n"
        "            log.append('x' * size)\n"
        "    except MachineError as error:\n"
        "        print(error)\n"
        "try:\n"
        "    with directory.open('log'):\n"
        "        directory.write('result', 'y' * 200)\n"
        "except MachineError as error:\n"
        "    print(error)\n"
    )
    done = python(script, tmp_path / "run", check=True)
    first, second = done.stdout.splitlines()
    assert first == second and "Cannot write to" in first and "run the same command again" in first
    assert (tmp_path / "run" / "log").read_text() == "x" * 60 + "\n"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log"]


def test_other_errors_pass_through(tmp_path: Path) -> None:
    for error in (KeyError("x"), FileNotFoundError("y"), KeyboardInterrupt()):
        with pytest.raises(type(error)), RunDirectory(tmp_path).open():
            raise error
    with pytest.raises(MachineError), RunDirectory(tmp_path).open():
        raise OSError(28, "No space left on device")


# --- killed ------------------------------------------------------------------------------------

CHILD = """
import json, sys, time
from pathlib import Path
from codegen.core.records import read_rows
from codegen.core.runs import RunDirectory

directory = RunDirectory(Path(sys.argv[1]))
print("ready", flush=True)
with directory.open("log.jsonl") as journal:
    directory.claim({"n": 200}, begun=journal.size > 0)
    done = [row for _, row in read_rows(journal.path)]
    for number in range(len(done), 200):
        row = {"number": number, "text": "x" * (number * 37 % 900)}
        journal.append(json.dumps(row))
        done.append(row)
        time.sleep(0.0005)
    directory.write("result.json", json.dumps(done))
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_files(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    moments = random.Random(5)
    kills = 0
    for _ in range(12):
        with subprocess.Popen([*command, str(tmp_path / "run")], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.05))
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                kills += 1
    assert kills >= 3
    subprocess.run([*command, str(tmp_path / "run")], check=True, capture_output=True)
    for name in ("run.json", "log.jsonl", "result.json"):
        whole = (tmp_path / "whole" / name).read_bytes()
        assert (tmp_path / "run" / name).read_bytes() == whole
    assert len(list(read_rows(tmp_path / "run" / "log.jsonl"))) == 200


# The files that each kind of run opens to append to or to cut.
OPENED = {
    "data": (".partial/journal.jsonl", ".partial/data-00000.jsonl", ".partial/rejects.jsonl"),
    "evaluation": ("samples.partial.jsonl", "executions.jsonl"),
    "search": ("log.jsonl",),
    "training, quickstart": (".lock", "rollouts.jsonl"),
}


@pytest.mark.parametrize("name", [name for names in OPENED.values() for name in names])
def test_a_file_with_another_name_is_neither_cut_nor_appended_to(tmp_path: Path, name: str) -> None:
    """A received directory may hold a hard link to a file of the user's."""
    secret, place = tmp_path / "secret", tmp_path / "run" / name
    secret.write_text("precious without an end")
    place.parent.mkdir(parents=True)
    place.hardlink_to(secret)
    with pytest.raises(InputError, match="hard link"), RunDirectory(place.parent).open(place.name):
        pass
    for flags in (os.O_RDWR, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(InputError, match="hard link"):
            open_plain(place, flags)
    os.close(open_plain(place, os.O_RDONLY))
    assert secret.read_text() == "precious without an end"
