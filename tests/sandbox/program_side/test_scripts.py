"""Scripts that are run and looked at: streams, exit codes and files, held against the interpreter.

The oracle is the plain interpreter in a folder of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from suites import suite

from codegen.core.errors import InputError
from codegen.sandbox import Limits, Sandbox, ScriptJob

# What scripts do, each with its standard input.
CASES = suite("scripts")
FILES = {"beside.py": b"X = 3\n", "d/t": "é\n".encode()}
LIMITS = Limits(cpu_s=4.0, output_bytes=1 << 20)


@pytest.mark.parametrize("fetch", [(), ("none",)], ids=["alone", "in a child"])
@pytest.mark.parametrize("name", CASES)
def test_a_script_does_what_the_interpreter_does(
    sandbox: Sandbox, tmp_path: Path, name: str, fetch: tuple[str, ...]
) -> None:
    program, stdin = CASES[name]
    script = tmp_path / "main.py"
    script.write_text(program)
    for path, content in FILES.items():
        tmp_path.joinpath(path).parent.mkdir(exist_ok=True)
        tmp_path.joinpath(path).write_bytes(content)
    wanted = subprocess.run(
        [sys.executable, "-E", "-X", "utf8", "main.py"],
        input=stdin,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    outcome = sandbox.run(ScriptJob(program, stdin, FILES, fetch, LIMITS))
    assert outcome.stdout == wanted.stdout
    assert _without_paths(outcome.stderr) == _without_paths(wanted.stderr)
    assert outcome.exit_code == wanted.returncode
    assert outcome.status == ("exited" if wanted.returncode else "passed")
    assert outcome.trust == "in_sandbox"


def _without_paths(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if not set(line) <= set(" ^~")]
    return [line for line in lines if not line.lstrip().startswith("File ")]


def test_files_come_back_as_they_were_left(sandbox: Sandbox) -> None:
    program = (
        "import os\nos.makedirs('out/deep')\nopen('out/deep/all', 'wb').write(bytes(range(256)))\n"
        "open('empty', 'w')\nopen('zero', 'wb').write(b'\\0')\nos.symlink('/etc/passwd', 'link')\n"
        "os.mkfifo('pipe')\nos.mkdir('folder')\nopen('big', 'w').truncate(1 << 40)\n"
        "open('given', 'a').write('+')\n"
    )
    fetch = ["out/deep/all", "empty", "zero", "link", "pipe", "folder", "given", "not there"]
    outcome = sandbox.run(ScriptJob(program, files={"given": b"was"}, fetch=fetch))
    assert outcome.exit_code == 1, "a file of a tebibyte must not be possible"
    program = program.replace("1 << 40", "(8 << 20) + 1")
    outcome = sandbox.run(ScriptJob(program, files={"given": b"was"}, fetch=[*fetch, "big"]))
    assert outcome.passed
    assert outcome.files == {
        "out/deep/all": bytes(range(256)),
        "empty": b"",
        "zero": b"\0",
        "given": b"was+",
    }
    assert outcome.message == "too large to be fetched: big"


@pytest.mark.parametrize("fetch", [(), ("x",)], ids=["alone", "in a child"])
def test_limits_end_a_script(sandbox: Sandbox, fetch: tuple[str, ...]) -> None:
    short = Limits(cpu_s=0.3, memory_mib=256, output_bytes=5000)
    for program, status in (
        ("while True: pass\n", "timeout"),
        ("import time\ntime.sleep(99)\n", "timeout"),
        ("while True: print('x' * 99)\n", "output_limit"),
    ):
        outcome = sandbox.run(
            ScriptJob(f"print('on', flush=True)\n{program}", "", {}, fetch, short)
        )
        assert outcome.status == status, outcome
        assert outcome.exit_code is None
        assert outcome.stdout.startswith("on\n") and len(outcome.stdout) <= 5000
    flood = ScriptJob("import sys\nfor _ in range(99): sys.stderr.write('e' * 999)\n", limits=short)
    assert len(sandbox.run(flood).stderr) == 5000


def test_a_signal_is_a_negative_exit_code(sandbox: Sandbox) -> None:
    killed = "import os\nos.kill(os.getpid(), 9)\n"
    outcome = sandbox.run(ScriptJob(killed, fetch=["x"]))
    assert (outcome.status, outcome.exit_code) == ("crashed", -9)
    outcome = sandbox.run(ScriptJob("import ctypes\nctypes.string_at(0)\n"))
    assert (outcome.status, outcome.exit_code) == ("crashed", -11)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", "a//b", "", ".", "a\0b", "x" * 256, "a/" * 20 + "b"]
)
def test_paths_stay_below_the_working_directory(path: str) -> None:
    with pytest.raises(InputError, match="below the working directory"):
        ScriptJob("", files={path: b""})
    with pytest.raises(InputError, match="below the working directory"):
        ScriptJob("", fetch=[path])


def test_too_much_is_refused() -> None:
    with pytest.raises(InputError, match="16 MiB"):
        ScriptJob("", files={"a": bytes(9 << 20), "b": bytes(8 << 20)})
    with pytest.raises(InputError, match="at most 256"):
        ScriptJob("", files={str(n): b"" for n in range(257)})
    with pytest.raises(InputError, match="as a file and as a directory"):
        ScriptJob("", files={"a": b"", "a/b": b""})


def test_a_script_meets_nothing_of_the_one_before(sandbox: Sandbox) -> None:
    for _ in range(3):
        outcome = sandbox.run(
            ScriptJob("import os\nprint(sorted(os.listdir()))\nopen('left', 'w')\n", fetch=["left"])
        )
        assert outcome.stdout == "['.shm']\n"
        assert outcome.files == {"left": b""}


# --- one job at a time, by futures ---------------------------------------------------------------
