"""Installed packages are there for programs if they are named, and only then."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from codegen.cli.evals import evals
from codegen.core.errors import ConfigError, SandboxError
from codegen.sandbox import Job, Limits, Sandbox
from codegen.sandbox import sandbox as sandbox_module
from codegen.sandbox.packages import Packages, find_packages, with_pytest

USES = (
    "import numpy as np\n"
    "def f(n):\n    a = np.arange(n * n).reshape(n, n) * 1.0\n    return float((a @ a).sum())\n"
    "def g():\n    return float(np.random.rand())\n"
    "def h():\n    return np.__file__, np.__version__\n"
)


def opened(backend: Any, **options: Any) -> Sandbox:
    try:
        unsafe = backend == "unsafe_local"
        return Sandbox(workers=1, backend=backend, unsafe_local=unsafe, **options).__enter__()
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("backend", ["bwrap", "namespaces", "unsafe_local"])
def test_numpy_where_it_is_named(backend: str) -> None:
    import numpy as np

    a = np.arange(400).reshape(20, 20) * 1.0
    sandbox = opened(backend, packages=["numpy"])
    try:
        assert sandbox.describe()["packages"] == {"numpy": np.__version__}
        first, second = (sandbox.run(USES, calls=["f(20)", "g()", "h()"]) for _ in range(2))
        assert first.values[0] == float((a @ a).sum())
        assert first.values[1] == second.values[1]  # each program starts with the same random state
        path, version = first.values[2]
        assert version == np.__version__
        if backend != "unsafe_local":
            assert path.startswith("/opt/packages/numpy/")
        # The limit of memory is on what a program takes itself.
        small = Limits(memory_mib=128)
        assert sandbox.run(USES, calls=["f(20)"], limits=small).passed
        big = sandbox.run(f"{USES}x = np.ones(1 << 26)\n", limits=small)
        assert big.status == "memory", big
        expected = float((np.arange(9).reshape(3, 3) @ np.arange(9.0).reshape(3, 3)).sum())
        test = f"import numpy as np\nassert f(3) == np.float64({expected})\n"
        assert sandbox.run(Job(USES, test=test)).passed  # its tests may import it too
        missing = sandbox.run("import pandas\n")
        assert missing.status == "error" and "--packages numpy,pandas" in missing.message
        if backend != "unsafe_local":
            job = "import os\ndef f():\n    return os.listdir('/opt/packages')\n"
            (names,) = sandbox.run(job, calls=["f()"]).values
            own = {name for _, name in with_pytest(Packages()).entries}
            assert "numpy" in names and not [n for n in names if "numpy" not in n and n not in own]
            write = "open('/opt/packages/numpy/x.py', 'w')\n"
            assert sandbox.run(write).status == "error"
    finally:
        sandbox.close()


def test_without_it_the_error_says_which_option(sandbox: Sandbox) -> None:
    assert "packages" not in sandbox.describe()
    outcome = sandbox.run("import numpy.linalg\n")
    assert outcome.status == "error"
    assert "No module named 'numpy'" in outcome.message
    assert "--packages numpy" in outcome.message
    for other in ("no_such_module_anywhere", "tests"):
        assert "--packages" not in sandbox.run(f"import {other}\n").message or other == "tests"
    raised = sandbox.run("raise ImportError(\"No module named 'os'\")\n")
    assert "--packages" not in raised.message


@pytest.mark.parametrize("backend", ["namespaces", "unsafe_local"])
def test_a_directory_of_modules(backend: str, tmp_path: Path) -> None:
    folder = tmp_path / "lib"
    (folder / "pack").mkdir(parents=True)
    (folder / "mine.py").write_text("VALUE = 7\n")
    (folder / "pack" / "__init__.py").write_text("from mine import VALUE\n")
    for path in (tmp_path, folder, folder / "pack", folder / "mine.py"):
        path.chmod(0o755)
    sandbox = opened(backend, packages=[f"{folder}/"])
    try:
        assert sandbox.describe()["packages"] == {str(folder): "directory"}
        assert sandbox.run("import mine, pack\n", calls=["mine.VALUE + pack.VALUE"]).values == (14,)
    finally:
        sandbox.close()


def test_links_of_the_local_mode_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Sandbox(
        workers=1, backend="unsafe_local", unsafe_local=True, packages=["click"]
    ) as sandbox:
        assert sandbox.run("import click\n").passed
        assert list(tmp_path.glob("codegen-packages-*"))
    assert list(tmp_path.iterdir()) == []


def _distribution(folder: Path, name: str, files: str, requires: str = "") -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    lines = "".join(f"Requires-Dist: {line}\n" for line in requires.splitlines())
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{lines}")
    rows = [*files.split(), f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{row},,\n" for row in rows))
    for row in files.split():
        if not row.startswith(".."):
            (folder / row).parent.mkdir(exist_ok=True, parents=True)
            (folder / row).touch()


def test_what_a_package_consists_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _distribution(
        tmp_path,
        "top-one",
        "one/__init__.py one/a/b.py one.libs/x.so single.py ../../bin/one start.pth",
        "two (>=1)\nmissing\nthree ; extra == 'test'\ntwo; python_version > '3'",
    )
    _distribution(tmp_path, "two", "two.py __pycache__/two.pyc", "top-one")
    _distribution(tmp_path, "three", "three.py")
    _distribution(tmp_path, "edited", "__editable___edited_finder.py edited.pth")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = find_packages(["top-one", "top-one"])
    assert found.versions == {"top-one": "1.0", "two": "1.0"}
    assert [name for _, name in found.entries] == [
        *("one", "one.libs", "single.py", "top_one-1.0.dist-info", "two-1.0.dist-info", "two.py")
    ]
    assert sorted(found.modules) == ["one", "single"]
    assert find_packages(["three"]).modules == ("three",)
    with pytest.raises(ConfigError, match="slash"):
        find_packages(["edited"])
    with pytest.raises(ConfigError, match="not installed"):
        find_packages(["missing"])
    with pytest.raises(ConfigError, match="not a directory"):
        find_packages(["./missing"])
    assert find_packages(()) == Packages()


def test_a_package_that_starts_threads_or_fails_is_imported_by_each_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "threaded.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    (tmp_path / "failing.py").write_text("raise OSError('not today')\n")
    for module in ("threaded", "failing"):
        found = Packages((module,), (module,), {module: "1"}, (), (str(tmp_path),))
        monkeypatch.setattr(sandbox_module, "find_packages", lambda _, found=found: found)
        sandbox = Sandbox(workers=1, backend="namespaces")
        try:
            sandbox.__enter__()
        except SandboxError as error:
            pytest.skip(str(error))
        try:
            assert sandbox.run("def f(): return 1\n", calls=["f()"]).values == (1,)
            outcome = sandbox.run(f"import {module}\n")
            assert outcome.passed == (module == "threaded"), outcome
        finally:
            sandbox.close()


def test_the_option_of_the_command_line() -> None:
    done = CliRunner().invoke(
        evals, ["check", "humaneval", "-o", "limit=1", "--packages", " no-such , click", "--json"]
    )
    assert done.exit_code != 0
    assert "'no-such' is not installed" in (done.output + str(done.exception))
    done = CliRunner().invoke(
        evals, ["check", "humaneval", "-o", "limit=1", "--packages", "click", "--json"]
    )
    if "No safe way" not in str(done.exception):
        assert done.exit_code == 0, done.output
