"""Programs in each language that is installed here: what they may do, what ends them, and that none
passes for right by claiming it.

The oracle is the language itself: a right program passes, a wrong one does not, in both modes that
have tests. Languages whose compilers take long are in the long suite.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from language_programs import PROGRAMS, Programs

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Limits, Sandbox, ScriptJob
from codegen.sandbox.languages import HELLO, LANGUAGES, MissingToolchainError, find_toolchain

QUICK = ("bash", "c", "javascript", "perl")
SHORT = Limits(cpu_s=1.0, memory_mib=256)
ANSWERS = {"bash": "2\n40\n", "perl": '"2"\n"40"\n', "php": "i:2;\ni:40;\n", "r": "c(2)\nc(40)\n"}


def languages() -> list[object]:
    """Parameters: each language, the slower ones in the long suite."""
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in LANGUAGES
    ]


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[str, Sandbox]]:
    opened: dict[str, Sandbox] = {}
    yield opened
    for sandbox in opened.values():
        sandbox.close()


@pytest.fixture
def sandbox(sandboxes: dict[str, Sandbox], name: str) -> Sandbox:
    """A sandbox for one language; the others are not there."""
    if name not in sandboxes:
        try:
            find_toolchain(LANGUAGES[name])
            sandboxes[name] = Sandbox(workers=1, languages=[name]).__enter__()
        except (MissingToolchainError, SandboxError) as error:
            pytest.skip(str(error))
    return sandboxes[name]


def script(name: str, program: str, **fields: object) -> Job:
    fields = {"mode": "stdio", "language": name, "expected_stdout": None, **fields}
    return Job(program, **fields)  # type: ignore[arg-type]


def judged(name: str, program: str, mode: str = "isolated", limits: Limits = SHORT) -> Job:
    own = PROGRAMS[name]
    test = own.calls if mode == "isolated" else own.test
    expected = ANSWERS.get(name, "2\n40\n")
    return Job(
        program,
        test=test,
        mode=mode,  # type: ignore[arg-type]
        expected_stdout=expected if mode == "isolated" else "",
        limits=limits,
        language=name,
    )


def test_every_language_has_its_programs() -> None:
    assert PROGRAMS.keys() == LANGUAGES.keys() == HELLO.keys()


@pytest.mark.parametrize("name", languages())
def test_hello_and_standard_input(sandbox: Sandbox, name: str) -> None:
    hello = Job(HELLO[name], mode="stdio", expected_stdout="hello\n", language=name)
    assert sandbox.run(hello).passed
    echo = Job(
        PROGRAMS[name].echo, mode="stdio", stdin="a line\n", expected_stdout="a line", language=name
    )
    outcome = sandbox.run(echo)
    assert (outcome.status, outcome.trust) == ("passed", "stdio"), outcome
    other = Job(HELLO[name], mode="stdio", expected_stdout="goodbye\n", language=name)
    assert sandbox.run(other).status == "wrong"


_BY_NAME = {
    "bash": "read -r first\ncat\nwc -l < /dev/stdin\n",
    "perl": "<STDIN>; open(F, '/dev/stdin'); my @all = <F>; print <STDIN>, scalar(@all), qq{\\n};",
    "javascript": "const fs = require('fs');\n"
    "process.stdout.write(fs.readFileSync('/dev/stdin', 'utf8').slice(2));\nconsole.log(3);\n",
}


@pytest.mark.parametrize("name", _BY_NAME)
def test_standard_input_has_a_name(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(script(name, _BY_NAME[name], stdin="a\nb\nc\n"))
    assert (outcome.status, outcome.stdout) == ("passed", "b\nc\n3\n"), outcome.message


@pytest.mark.parametrize("name", LANGUAGES)
def test_looking_for_a_toolchain_leaves_no_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    try:
        find_toolchain.__wrapped__(LANGUAGES[name])
    except MissingToolchainError as error:
        pytest.skip(str(error))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", languages())
def test_right_and_wrong_programs(sandbox: Sandbox, name: str) -> None:
    own = PROGRAMS[name]
    for mode in ("isolated", "in_sandbox") if own.calls else ("in_sandbox",):
        right = sandbox.run(judged(name, own.right, mode))
        assert (right.status, right.trust) == ("passed", mode), right
        wrong = sandbox.run(judged(name, own.wrong, mode))
        assert wrong.status in ("wrong", "error", "crashed", "exited"), wrong
        assert not wrong.passed


@pytest.mark.parametrize("name", languages())
def test_a_program_with_a_fault_says_where(sandbox: Sandbox, name: str) -> None:
    outcome = sandbox.run(script(name, PROGRAMS[name].broken))
    compiled = bool(LANGUAGES[name].compile)
    assert outcome.status == ("compile_error" if compiled else "error"), outcome
    assert "main." in outcome.message or "Main." in outcome.message or name == "r"
    assert str(Path.home()) not in outcome.message
    assert sandbox.run(script(name, "\n\n")).status == "empty"


@pytest.mark.parametrize("name", languages())
def test_a_program_is_checked_without_running_it(sandbox: Sandbox, name: str) -> None:
    assert sandbox.check(PROGRAMS[name].loop, name).passed
    found = sandbox.check(PROGRAMS[name].broken, LANGUAGES[name].name)
    assert found.status == "compile_error" and found.message, found


@pytest.mark.parametrize("name", languages())
def test_endless_loops_and_memory(sandbox: Sandbox, name: str) -> None:
    loop = sandbox.run(script(name, PROGRAMS[name].loop, limits=Limits(cpu_s=0.5)))
    assert loop.status == "timeout", loop
    hog = sandbox.run(script(name, PROGRAMS[name].memory, limits=Limits(cpu_s=5, memory_mib=256)))
    assert hog.status in ("memory", "error", "crashed", "exited"), hog
    assert hog.memory_mib < 1500


@pytest.mark.parametrize("name", languages())
def test_nothing_of_the_host_is_reached(sandbox: Sandbox, name: str, tmp_path: Path) -> None:
    secret = os.urandom(16).hex()
    host = tmp_path / "secret"
    host.write_text(secret)
    own = PROGRAMS[name]
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        port = server.getsockname()[1]
        for program in filter(None, (own.network, own.reads)):
            text = program.replace("{port}", str(port)).replace("{host}", str(host))
            outcome = sandbox.run(script(name, text, limits=SHORT))
            assert "reached" not in outcome.stdout, outcome
            assert secret not in outcome.stdout + outcome.message, outcome
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", languages())
def test_what_a_program_starts_ends_with_it(sandbox: Sandbox, name: str) -> None:
    if not (program := PROGRAMS[name].fork):
        pytest.skip("it has no means to")
    before = sandbox.run(script(name, HELLO[name]))
    limits = Limits(cpu_s=0.3, memory_mib=256, processes=32)
    outcome = sandbox.run(script(name, program, limits=limits))
    assert not outcome.passed or outcome.wall_s < 5
    after = sandbox.run(script(name, HELLO[name]))
    assert (before.status, after.status) == ("passed", "passed"), (before, outcome, after)


def claims(kind: str) -> list[object]:
    """Parameters: a language and a program of its ``forgeries`` or ``patches``."""
    return [
        pytest.param(
            name, program, id=f"{name}-{title}", marks=() if name in QUICK else pytest.mark.long
        )
        for name, own in PROGRAMS.items()
        for title, program in getattr(own, kind).items()
    ]


@pytest.mark.parametrize(("name", "program"), claims("patches"))
def test_no_change_of_what_tests_call_reaches_what_is_compared_elsewhere(
    sandbox: Sandbox, name: str, program: str
) -> None:
    outcome = sandbox.run(judged(name, program))
    assert outcome.status in ("wrong", "error", "exited"), outcome


@pytest.mark.parametrize(("name", "program"), claims("forgeries"))
def test_no_claim_is_believed(sandbox: Sandbox, name: str, program: str) -> None:
    own: Programs = PROGRAMS[name]
    for mode in ("isolated", "in_sandbox") if own.calls else ("in_sandbox",):
        outcome = sandbox.run(judged(name, program, mode))
        assert not outcome.passed, outcome
        assert outcome.status != "infra_error", outcome


SCRIPTS = {
    "bash": "cat in.txt; echo wrong >&2; printf made > out.txt; exit 3",
    "javascript": (
        "const fs = require('fs'); process.stdout.write(fs.readFileSync('in.txt', 'utf8'));"
        "console.error('wrong'); fs.writeFileSync('out.txt', 'made'); process.exit(3);"
    ),
    "c": (
        '#include <stdio.h>\n#include "part.h"\nint main() { FILE* f = fopen("in.txt", "r"); int c;'
        ' while ((c = getc(f)) > 0) putchar(c); fputs("wrong\\n", stderr);'
        ' fputs("made", fopen("out.txt", "w")); return THREE; }\n'
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_looked_at(sandbox: Sandbox, name: str) -> None:
    files = {"in.txt": b"given", "part.h": b"#define THREE 3\n"}
    script = ScriptJob(SCRIPTS[name], files=files, fetch=["out.txt", "none"], language=name)
    outcome = sandbox.run(script)
    assert (outcome.stdout, outcome.stderr.strip(), outcome.exit_code) == ("given", "wrong", 3)
    assert outcome.files == {"out.txt": b"made"}
    assert outcome.status == "exited" and outcome.trust == "in_sandbox"


@pytest.mark.parametrize("name", ["c"])
def test_scripts_that_do_not_compile_or_crash(sandbox: Sandbox, name: str) -> None:
    failed = sandbox.run(ScriptJob("int main( {", language=name))
    assert failed.status == "compile_error" and "main.c" in failed.message
    assert failed.exit_code is None
    crashed = sandbox.run(ScriptJob("int main() { return *(volatile int*)0; }\n", language=name))
    assert (crashed.status, crashed.exit_code) == ("crashed", -11), crashed
    assert sandbox.submit(ScriptJob("int main() { return 0; }", language=name)).result().passed
