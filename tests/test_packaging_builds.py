"""The wheel and the source distribution, built, installed outside the checkout and used."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import venv
import zipfile
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

import pytest

from codegen.core.optional_deps import EXTRAS
from tests.processes import run

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow

# Everything but what belongs to an optional dependency that may be missing here.
IMPORT_ALL = """
import importlib, json, pkgutil, sys
import codegen
failed, count = {}, 0
for module in pkgutil.walk_packages(codegen.__path__, "codegen.", onerror=lambda name: None):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
        count += 1
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in sys.argv[1:]:
            failed[module.name] = str(error)
print(json.dumps({"file": codegen.__file__, "imported": count, "failed": failed}))
"""
OPTIONAL = (
    "vllm",
    "ray",
    "triton",
    "duckdb",
    "pygls",
    "lsprotocol",
    "starlette",
    "uvicorn",
    "prometheus_client",
    "evaluate",
    "harbor",
    "inspect_ai",
    "openenv",
    "verifiers",
)


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = run(*command, env=environment, cwd=folder)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source distribution of the checkout, and the wheel that is built from it alone."""
    # Not imported here: where something else has imported distutils before, it refuses.
    if int(version("setuptools").partition(".")[0]) < 77:
        pytest.skip("pip install 'setuptools>=77'")
    folder = tmp_path_factory.mktemp("dist")
    tree = folder / "tree"
    names = _run(["git", "ls-files", "-z"], ROOT) if (ROOT / ".git").exists() else ""
    if not names:
        pytest.skip("this is not a git checkout")
    for name in filter(None, names.split("\0")):
        if name.startswith("tests/") or not os.path.lexists(ROOT / name):
            continue
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name, follow_symlinks=False)
    hook = "from setuptools import build_meta as b; print(b.build_{}({!r}))"
    out = _run([sys.executable, "-c", hook.format("sdist", str(folder))], tree)
    sdist = folder / out.split()[-1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    out = _run([sys.executable, "-c", hook.format("wheel", str(folder))], unpacked)
    return {"sdist": sdist, "wheel": folder / out.split()[-1]}


def _environment(folder: Path, distribution: Path, without: Collection[str] = ()) -> Path:
    """A new virtual environment with one distribution and, for the rest, our dependencies."""
    venv.create(folder, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    # The dependencies of this environment, without its own (editable) installation of codegen.
    here = next(Path(p) for p in sys.path if p.endswith("site-packages"))
    for path in here.iterdir():
        if "codegen" not in path.name and path.name not in {"__pycache__", *without}:
            (packages / path.name).symlink_to(path)
    python = folder / "bin" / "python"
    python.with_name("ruff").symlink_to(Path(sys.executable).with_name("ruff"))
    _run(
        [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", str(distribution)],
        folder,
    )  # fmt: skip
    return python


@pytest.mark.long
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_an_installation_imports_everything_and_passes_doctor(
    built: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    python = _environment(tmp_path / "environment", built[kind])
    found = json.loads(_run([str(python), "-P", "-c", IMPORT_ALL, *OPTIONAL], tmp_path))
    assert found["file"].startswith(str(tmp_path))
    assert found["failed"] == {}
    assert found["imported"] > 200
    codegen = str(python.with_name("codegen"))
    doctor = json.loads(_run([codegen, "doctor", "--json"], tmp_path))
    assert doctor
    done = run(codegen, "bench", "lintseq", cwd=tmp_path)
    assert done.returncode == 2
    assert "benchmarks are not part of the installed package" in done.stderr


@pytest.mark.long
def test_without_extras_data_and_scoring_work_and_the_rest_says_what_it_needs(
    built: dict[str, Path], tmp_path: Path
) -> None:
    python = _environment(tmp_path / "environment", built["wheel"], without=EXTRAS)
    codegen = str(python.with_name("codegen"))
    (tmp_path / "src").mkdir()
    docstring = '"""Adds one to a number that is given by the caller."""'
    program = f"def f(x):\n    {docstring}\n    y = x + 1\n    return y\n"
    (tmp_path / "src" / "a.py").write_text(program)
    row = {"id": "a", "prompt": "Double x.", "entry_point": "f", "calls": [[2]], "expected": [4],
           "solution": "def f(x):\n    return 2 * x\n"}  # fmt: skip
    (tmp_path / "own.jsonl").write_text(json.dumps(row))
    assert "codegen-toolkit[models]" in _run([codegen, "doctor", "--json"], tmp_path)
    made = json.loads(_run([codegen, "data", "lintseq", "src", "--out", "d", "--json"], tmp_path))
    assert made["counts"]["kept"] == 1
    checked = json.loads(_run([codegen, "eval", "check", "file:own.jsonl", "--json"], tmp_path))
    assert checked["passed"] == 1
    answers = [
        {"task_id": "a", "completion": f"def f(x):\n    return {x}\n"} for x in ("2 * x", "x")
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
    score = [codegen, "eval", "score", "answers.jsonl", "--task", "file:own.jsonl",
             "--out", "scored", "--json"]  # fmt: skip
    assert json.loads(_run(score, tmp_path))["estimates"]["1"]["value"] == 0.5
    gate = (
        "from codegen.sqlnet import Column, Table, UnsafeSQLError, validate\n"
        "tables = [Table('t', (Column('a', 'text'),))]\n"
        "validate('SELECT a FROM t', tables)\n"
        "try:\n    validate('DELETE FROM t', tables)\n"
        "except UnsafeSQLError as error:\n    print(error)\n"
    )
    assert "Only a single SELECT may run." in _run([str(python), "-c", gate], tmp_path)
    for command, extra in (
        (["generate", "--model", "embedded", "--prompt", "x"], "models"),
        (["data", "lintseq", "hub:a/b", "--out", "e"], "data"),
        (["serve", "lsp", "--model", "embedded"], "serve"),
    ):
        done = run(codegen, *command, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.endswith(f"Install it with: pip install 'codegen-toolkit[{extra}]'\n")
        assert done.stderr.count("\n") == 1


def test_the_wheel_holds_the_package_and_no_benchmarks_or_tests(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"codegen", "codegen_tasks.py"} and "codegen/py.typed" in names
    assert not [name for name in names if "/benchmarks/" in name or "/tests/" in name]
    for suffix in (".safetensors", ".html", ".jinja"):
        tracked = _run(["git", "ls-files", f"*{suffix}"], ROOT).split()
        shipped = {n for n in tracked if not n.startswith(("tests/", "benchmarks/", "docs/"))}
        missing = {n for n in shipped if f"codegen/{n.removeprefix('codegen/')}" not in names}
        assert not missing
