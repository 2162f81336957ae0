"""Namespaces are used again only untouched; tests share a process only if they leave nothing."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from suites import suite

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Limits, Sandbox
from codegen.sandbox.isolation import linux
from codegen.sandbox.tests_side.analysis import side_effect_free
from tests.processes import descendants, wait_for

ADD = "def add(a, b):\n    return a + b\n"
# When the two directories were last changed: both are new in a new mount namespace.
LOOK = "import os\ndef f():\n    return [os.stat(p).st_ctime_ns for p in ('/tmp', '/dev/shm')]\n"


def directories_of_the_next_job(sandbox: Sandbox) -> list[int]:
    return sandbox.run(LOOK, calls=["f()"]).values[0]


@pytest.mark.parametrize(
    "touch",
    [
        "open('x', 'w').close()",
        "open('x', 'w').close()\nos.unlink('x')",
        "open('/dev/shm/x', 'w').close()\nos.unlink('/dev/shm/x')",
        "os.mkdir('d')\nos.rmdir('d')",
        "times = os.stat('/tmp')\nopen('x', 'w').close()\nos.unlink('x')\n"
        "try:\n    os.utime('/tmp', ns=(times.st_atime_ns, times.st_mtime_ns))\n"
        "except PermissionError:\n    pass",
    ],
)
def test_a_mount_namespace_that_was_written_to_is_dropped(sandbox: Sandbox, touch: str) -> None:
    before = directories_of_the_next_job(sandbox)
    # A job that only looks leaves it as it was.
    assert directories_of_the_next_job(sandbox) == before
    assert sandbox.run(f"import os\n{touch}\n").passed
    after = directories_of_the_next_job(sandbox)
    assert after[0] != before[0] and after[1] != before[1]


def test_the_working_directory_has_the_size_of_the_job(sandbox: Sandbox) -> None:
    from codegen.sandbox import Limits

    program = (
        "import os\ndef f():\n    s = os.statvfs('/tmp')\n    return s.f_blocks * s.f_frsize\n"
    )
    for mebibytes in (1, 16, 2, 16):
        outcome = sandbox.run(program, calls=["f()"], limits=Limits(file_mib=mebibytes))
        assert outcome.values == (4 * mebibytes << 20,)


@pytest.mark.skipif(not linux.landlock_abi(), reason="this kernel has no Landlock")
def test_landlock_stands_where_the_mounts_would_allow(sandbox: Sandbox) -> None:
    program = (
        "import os\ndef f(path):\n    try:\n        return sorted(os.listdir(path))\n"
        "    except PermissionError:\n        return None\n"
    )
    outcome = sandbox.run(
        program, calls=[("f", [p]) for p in ("/opt/sandbox/isolation", "/", "/usr")]
    )
    inner, root, usr = outcome.values
    assert inner is None and root is None and "lib" in usr
    assert "landlock" in sandbox.describe()["layers"]


def test_without_landlock_the_sandbox_stands_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an older kernel: no rules are made, and the layer is not claimed."""
    from codegen.sandbox import launch

    config = launch.zygote_settings

    def without(*arguments: object) -> dict[str, object]:
        return config(*arguments) | {"landlock": False}  # type: ignore[arg-type]

    monkeypatch.setattr(launch, "zygote_settings", without)
    try:
        with Sandbox(workers=1) as opened:
            assert "landlock" not in opened.describe()["layers"]
            assert opened.run(ADD, calls=["add(1, 2)"]).values == (3,)
    except SandboxError as error:
        pytest.skip(str(error))


TAME = suite("side_effects")


@pytest.mark.parametrize(("test", "expected"), TAME, ids=lambda value: repr(value)[:40])
def test_which_tests_are_free_of_side_effects(test: str, expected: bool) -> None:
    assert side_effect_free(compile(test, "<test>", "exec")) is expected


def test_what_one_test_changes_is_not_there_for_the_next(sandbox: Sandbox) -> None:
    """Each of these would pass only if the one before it had left something behind."""
    changes = (
        "import math\nmath.left = 1\nassert add(1, 2) == 3\n",
        "import builtins\nbuiltins.left = 1\nassert add(1, 2) == 3\n",
        "import sys\nsys.left = 1\nassert add(1, 2) == 3\n",
        "globals()['left'] = 1\nassert add(1, 2) == 3\n",
        "import os\nopen('left', 'w').close()\nassert add(1, 2) == 3\n",
    )
    look = (
        "import math\nassert not hasattr(math, 'left')\n"
        "assert 'left' not in dir()\nassert add(1, 2) == 3\n"
    )
    looks = (
        look,
        "try:\n    left\nexcept NameError:\n    assert add(1, 2) == 3\n",
        "import sys\nassert not hasattr(sys, 'left')\nassert add(1, 2) == 3\n",
        "try:\n    open('left')\nexcept FileNotFoundError:\n    assert add(1, 2) == 3\n",
    )
    for change in changes:
        for test in (change, *looks):
            assert sandbox.run(Job(ADD, test=test)).passed, test


def test_random_numbers_are_the_same_in_every_run(sandbox: Sandbox) -> None:
    """Those of the tests are not the program's, which could predict them."""
    draw = "import random\ndef f():\n    return random.random()\n"
    (drawn,) = sandbox.run(draw, calls=["f()"]).values
    assert sandbox.run(draw, calls=["f()"]).values == (drawn,)
    own = f"import random\nassert add(random.random(), 0) != {drawn!r}\n"
    seeded = "import random\nrandom.seed(1)\nassert add(1, 2) == 3\n"
    for tried in (own, seeded, own):
        assert sandbox.run(Job(ADD, test=tried)).passed
    tests = [f"import random\nassert add(random.random(), 0) < 0.5  # {n}\n" for n in range(16)]
    passed = [sandbox.run(Job(ADD, test=test)).passed for test in tests]
    assert any(passed) and not all(passed)
    assert passed == [sandbox.run(Job(ADD, test=test)).passed for test in tests]


def test_a_test_process_serves_many_jobs_and_dies_alone(sandbox: Sandbox) -> None:
    with Sandbox(workers=1) as opened:
        zygotes = set(descendants(os.getpid()))
        for _ in range(5):
            assert opened.run(Job(ADD, test="assert add(1, 2) == 3\n")).passed
        [tester] = wait_for(lambda: set(descendants(os.getpid())) - zygotes)
        assert opened.run(Job(ADD, test="assert add(1, 2) == 4\n")).status == "wrong"
        wait_for(lambda: set(descendants(os.getpid())) == {*zygotes, tester})
    crash = Job(ADD, test="import os\nassert add(1, 2) == 3\nos.abort()\n")
    assert sandbox.run(crash).status == "crashed"  # it heard the program, so this is the program's
    assert sandbox.run(Job(ADD, test="assert add(1, 2) == 3\n")).passed


_LISTENS = """\
import socket
def f():
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 8000))
        server.listen()
        client.connect(("127.0.0.1", 8000))
        server.accept()[0].close()  # the side that closes first would keep the port
        return client.recv(1)
"""


def test_a_job_leaves_no_port_taken(sandbox: Sandbox) -> None:
    if sandbox.describe()["job_identity"] == "userns":
        pytest.skip("the kernel's settings are out of an ordinary user's reach")
    for _ in range(3):
        assert sandbox.run(_LISTENS, calls=["f()"]).values == (b"",)


def test_random_starts_anew_whoever_has_imported_it(sandbox: Sandbox) -> None:
    uses = Job("import random as r\ndef f():\n    return 1\n", test="assert r.random() and f()\n")
    first = "import random\nassert random.random() != f()\n"
    looks = Job("import random\ndef f():\n    return random.random()\n", test=first)
    for job in (uses, looks, uses, looks, looks):
        outcome = sandbox.run(job)
        assert outcome.passed, outcome


def test_modules_of_the_program_for_its_tests(sandbox: Sandbox) -> None:
    for name in ("math", "sys", "os.path", "collections.abc"):
        program = f"import {name} as m\ndef f():\n    return 1\n"
        test = "assert m.__name__ and f() == 1\n"
        assert sandbox.run(Job(program, test=test)).passed, name


def test_a_job_has_no_capabilities(sandbox: Sandbox) -> None:
    """Effective, permitted and inheritable ones, in two words each."""
    program = (
        "import ctypes\n"
        "def f():\n"
        "    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(*[7] * 6)\n"
        "    assert ctypes.CDLL(None).capget(header, data) == 0\n"
        "    return list(data)\n"
    )
    assert sandbox.run(program, calls=["f()"]).values == ([0] * 6,)


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
