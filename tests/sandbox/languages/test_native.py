"""Compilers as hostile input's first reader: what is led to loop, to fill memory or to read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from suites import suite

from codegen.core.errors import SandboxError
from codegen.sandbox import Job, Sandbox
from codegen.sandbox.jobs import Limits
from codegen.sandbox.languages import MissingToolchainError, programs

BOMBS: list[tuple[str, str, str]] = suite("compilers")


@pytest.fixture(scope="module")
def short_compile() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        limits = Limits(cpu_s=3.0, memory_mib=512, output_bytes=16 << 20, file_mib=32)
        patch.setattr(programs, "COMPILE", limits)
        yield


@pytest.mark.long
@pytest.mark.usefixtures("short_compile")
@pytest.mark.parametrize(
    ("name", "source"), [(n, s) for n, _, s in BOMBS], ids=[f"{n}-{t}" for n, t, _ in BOMBS]
)
def test_a_compile_bomb_is_a_compile_error(name: str, source: str) -> None:
    try:
        opened = Sandbox(workers=1, languages=[name])
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with opened as sandbox:
        outcome = sandbox.run(Job(source, mode="stdio", expected_stdout=None, language=name))
        assert outcome.status == "compile_error", outcome
        assert 0 < len(outcome.message) < 2500
        assert sandbox.run(Job("def f():\n    return 1\n", test="assert f() == 1\n")).passed


def test_a_compiler_reads_no_file_of_the_host(tmp_path: Path) -> None:
    secret = os.urandom(12).hex()
    (tmp_path / "secret.h").write_text(f"#error {secret}\n")
    try:
        opened = Sandbox(workers=1, languages=["c"])
    except (MissingToolchainError, SandboxError) as error:
        pytest.skip(str(error))
    with opened as sandbox:
        source = f'#include "{tmp_path}/secret.h"\nint main() {{ return 0; }}\n'
        outcome = sandbox.run(Job(source, mode="stdio", language="c"))
        assert outcome.status == "compile_error"
        assert secret not in outcome.message
        # What an earlier compiler has left is gone.
        source = '#include "/tmp/main.c"\n#include "/tmp/main"\n'
        assert sandbox.run(Job(source, mode="stdio", language="c")).status == "compile_error"
