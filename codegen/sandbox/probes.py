"""Ten hostile programs that test this machine's sandbox.

If possible a probe checks from outside: a listening socket that must get no connection, a file that
must stay unread and unchanged, the child processes of this process. The programs run only inside
the sandbox.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from codegen.core.errors import SandboxError

from .jobs import Job, Limits, Outcome
from .sandbox import Sandbox

LIMITS = Limits(cpu_s=1.0, memory_mib=256)
# A CPU limit that the memory bomb never reaches, even on slow machines.
_MEMORY_ALONE = Limits(cpu_s=60.0, memory_mib=256)
_GONE_S = 20.0  # the kernel is slow with many processes on a busy machine
_SECRET_VARIABLE = "CODEGEN_SANDBOX_PROBE"


# The result of each probe that the sandbox passes.
_HELD = {
    "network": "no connection arrived",
    "read host file": "the text was not read",
    "write host file": "the file is unchanged",
    "kill parent": "no process of the host was killed",
    "see host processes": "it sees only its own processes",
    "environment secrets": "the variable was not read",
    "fork bomb": "no process is left",
    "memory bomb": "stopped at its limit",
    "forged equality": "scored from outside",
    "surviving daemon": "no process is left",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt of a hostile program: whether the sandbox withstood it, and the evidence."""

    name: str
    ok: bool
    detail: str


def probe() -> list[Probe]:
    """Runs the ten probes in a sandbox with one worker; takes a few seconds.

    On a machine without a safe backend the list has one failed probe with the reason.
    """
    with _secret_in_environment() as secret, contextlib.ExitStack() as stack:
        try:
            sandbox = stack.enter_context(Sandbox(workers=1))
        except SandboxError as error:
            return [Probe("sandbox", False, str(error))]
        honest = Job("def f(x):\n    return x + 1\n", test="assert f(1) == 2\n")
        sandbox.run(honest)  # starts lazy processes before they are counted
        results = []
        for name, check in _probes(sandbox, secret).items():
            ok, detail = check()
            detail = f"{_HELD[name]} (it ended with {detail})" if ok else detail
            after = sandbox.run(honest).status
            if after != "passed":
                ok, detail = False, f"{detail}; the next program ended with {after}"
            results.append(Probe(name, ok, detail))
        return results


@contextlib.contextmanager
def _secret_in_environment() -> Iterator[str]:
    secret = secrets.token_hex(16)
    os.environ[_SECRET_VARIABLE] = secret
    try:
        yield secret
    finally:
        del os.environ[_SECRET_VARIABLE]


def _probes(sandbox: Sandbox, secret: str) -> dict[str, Callable[[], tuple[bool, str]]]:
    def call(program: str, limits: Limits = LIMITS) -> Outcome:
        return sandbox.run(Job(program, mode="calls", calls=[("f", [])], limits=limits))

    def without(text: str, program: str) -> tuple[bool, str]:
        outcome = call(program)
        seen = text in repr(outcome.values) + outcome.stdout + outcome.message
        return not seen, "it was read" if seen else _summary(outcome)

    def network() -> tuple[bool, str]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.2)
            outcome = call(_CONNECT.format(port=server.getsockname()[1]))
            with contextlib.suppress(TimeoutError):
                server.accept()[0].close()
                return False, "it reached a port of this machine"
            return True, _summary(outcome)

    def read_file() -> tuple[bool, str]:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(secret)
            file.flush()
            return without(secret, f"def f():\n    return open({file.name!r}).read()\n")

    def write_file() -> tuple[bool, str]:
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(secret)
            file.flush()
            outcome = call(f"def f():\n    return open({file.name!r}, 'w').write('x')\n")
            changed = Path(file.name).read_text() != secret
            return not changed, "the file was changed" if changed else _summary(outcome)

    def kill_parent() -> tuple[bool, str]:
        before = _children_of_ours()  # not grandchildren, which come and go
        outcome = call("import os\ndef f():\n    os.kill(os.getppid(), 9)\n    os.kill(1, 9)\n")
        lost = before - _children_of_ours()
        return not lost, f"{len(lost)} processes were killed" if lost else _summary(outcome)

    def see_processes() -> tuple[bool, str]:
        outcome = call("import os\ndef f():\n    return [p for p in os.listdir('/proc')]\n")
        names = [str(item) for value in outcome.values for item in value]
        seen = [name for name in names if name.isdigit() and name != "1"]  # its own process
        return not seen, f"it sees process {seen[0]}" if seen else _summary(outcome)

    def fork_bomb() -> tuple[bool, str]:
        return _nothing_left(sandbox, lambda: call(_FORK_BOMB))

    def memory_bomb() -> tuple[bool, str]:
        program = "def f():\n    return len([bytearray(1 << 24) for _ in range(100000)])\n"
        outcome = call(program, _MEMORY_ALONE)
        return outcome.status == "memory", _summary(outcome)

    def forged_equality() -> tuple[bool, str]:
        outcome = sandbox.run(Job(_ALWAYS_EQUAL, test="assert f() == 2\n", limits=LIMITS))
        return not outcome.passed, _summary(outcome)

    def daemon() -> tuple[bool, str]:
        return _nothing_left(sandbox, lambda: call(_DAEMON))

    return {
        "network": network,
        "read host file": read_file,
        "write host file": write_file,
        "kill parent": kill_parent,
        "see host processes": see_processes,
        "environment secrets": lambda: without(
            secret, "import os\ndef f():\n    return dict(os.environ)\n"
        ),
        "fork bomb": fork_bomb,
        "memory bomb": memory_bomb,
        "forged equality": forged_equality,
        "surviving daemon": daemon,
    }


def _nothing_left(sandbox: Sandbox, run: Callable[[], Outcome]) -> tuple[bool, str]:
    before = _below(sandbox)
    outcome = run()
    end = time.monotonic() + _GONE_S
    while (left := _below(sandbox) - before) and time.monotonic() < end:
        time.sleep(0.05)
    return not left, f"{len(left)} processes left behind" if left else _summary(outcome)


def _below(sandbox: Sandbox) -> set[int]:
    """Returns host ids of the processes in the programs' sandboxes. The sandboxes of tests are
    excluded, since their processes come and go.
    """
    parents = _parents()
    level = set(sandbox.process_ids)
    below: set[int] = set()
    while level:
        level = {pid for pid, parent in parents.items() if parent in level}
        below |= level
    return below


def _children_of_ours() -> set[int]:
    """Returns the ids of this process's children: the sandboxes."""
    return {pid for pid, parent in _parents().items() if parent == os.getpid()}


def _parents() -> dict[int, int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                # The command's name, in parentheses, may contain anything; the parent is the
                # second field after it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    return parents


def _summary(outcome: Outcome) -> str:
    text = f"{outcome.status}: {outcome.message}" if outcome.message else outcome.status
    return text[:200]


_CONNECT = """\
import socket
def f():
    socket.create_connection(("127.0.0.1", {port}), timeout=1)
"""
_FORK_BOMB = """\
import os
def f():
    while True:
        try:
            os.fork()
        except OSError:
            pass
"""
_DAEMON = """\
import os, time
def f():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    return 1
"""
_ALWAYS_EQUAL = """\
class Always:
    def __eq__(self, other):
        return True
def f():
    return Always()
"""
