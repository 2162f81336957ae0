"""A job's descriptors and mounts are its own: nothing it does to one reaches another job or the
host.
"""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from suites import suite

from codegen.sandbox import Job, Limits, Sandbox

WIDE = Limits(output_bytes=4 << 20)
# What can be said to an open file or its inode, and what another job would see of it.
_SAYS = suite("open_files")["says"]
_SEES = """
import fcntl, os
def f():
    seen = []
    for fd in range(3):
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND)
        seen.append((flags, fcntl.fcntl(fd, 11), fcntl.fcntl(fd, fcntl.F_GETOWN)))
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
    return seen
"""


@pytest.mark.parametrize("mode", ["calls", "isolated", "stdio"])
def test_what_a_job_says_to_its_streams_ends_with_it(sandbox: Sandbox, mode: str) -> None:
    before = sandbox.run(
        Job(_SEES, test="assert f()[0] == (0, 0, 0)\nassert f()[2] == (0, 0, 0)\n")
    )
    assert before.passed, before
    if mode == "calls":
        said = sandbox.run(_SAYS, calls=["f()"]).values[0]
        # Locks, flags and owners are granted; leases and notifications, of the inode, are not.
        assert said[1] and said[2] and said[3]
        assert not any(said[4::7]) and not any(said[5::7])
    elif mode == "stdio":  # its own input and output are other files
        assert sandbox.run(Job(f"{_SAYS}f()\n", mode="stdio", stdin="x" * 9)).passed
    else:
        assert sandbox.run(Job(_SAYS, test="assert len(f()) == 21\n")).passed
    for _ in range(3):
        seen = sandbox.run(Job(_SEES, test="assert f() == [(0, 0, 0)] * 3, f()\n"))
        assert seen.passed, seen


def test_a_lock_that_is_held_reaches_no_other_job_and_not_the_host(sandbox: Sandbox) -> None:
    if sandbox.describe()["job_identity"] == "userns":
        pytest.skip("an ordinary user can make no devices; theirs are the host's")
    holds = f"{_SAYS}import time\ndef g():\n    f()\n    time.sleep(1.5)\n"
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(sandbox.run(holds, calls=["g()"])))
    thread.start()
    time.sleep(0.5)
    for name in ("null", "zero", "full", "random", "urandom"):
        with Path(f"/dev/{name}").open("rb") as device:
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
    others = [sandbox.run(_SEES, calls=["f()"]) for _ in range(3)]
    thread.join()
    assert outcomes[0].passed
    assert all(other.passed for other in others), others


def test_proc_tells_of_the_job_and_nothing_of_the_host(sandbox: Sandbox) -> None:
    program = (
        "import os\n"
        "def f():\n    found = {}\n    for root, folders, files in os.walk('/proc'):\n"
        "        for name in files:\n            path = os.path.join(root, name)\n"
        "            try:\n                found[path] = open(path).read()\n"
        "            except (OSError, UnicodeDecodeError):\n                pass\n"
        "    return [os.listdir('/proc'), found]\n"
    )
    job = Job(program, mode="calls", calls=["f()"], limits=WIDE)
    names, found = sandbox.run(job).values[0]
    assert {name for name in names if name.isdigit()} <= {"1"}
    assert "VmRSS" in found["/proc/self/status"]
    assert not [path for path in found if path.endswith(("mountinfo", "mounts", "mountstats"))]
    prefix = os.path.realpath(sys.base_prefix)
    if prefix != "/usr":
        assert not [path for path, text in found.items() if prefix in text]
    # Another job, which does not name it, sees nothing of this one.
    hides = "def f():\n    return open('/' + 'proc/self/status').read()\n"
    assert sandbox.run(hides, calls=["f()"]).values == ("",)
