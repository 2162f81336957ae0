"""docs/architecture.md is correct: its files and functions exist, and its code works."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
import types
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.size import code_lines

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SECTIONS = dict(
    zip(
        re.findall(r"^## (.+)$", TEXT, re.MULTILINE),
        re.split(r"^## .+$", TEXT, flags=re.MULTILINE)[1:],
        strict=True,
    )
)


def code(heading: str, language: str = "python") -> str:
    """The one block of code in this language below a heading."""
    section = re.split(rf"^### {heading}$", TEXT, flags=re.MULTILINE)[1].partition("\n### ")[0]
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return block


def run(source: str) -> dict[str, Any]:
    module = types.ModuleType("architecture_example")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(source, "docs/architecture.md", "exec", dont_inherit=True), vars(module))
    return vars(module)


def test_the_commands_call_functions_that_exist() -> None:
    traces = SECTIONS["Four commands, function by function"]
    named = re.findall(r"([\w/]+/\w+\.py)(?:  ([A-Za-z_][\w.]*)(?=  |$))?", traces, re.MULTILINE)
    assert len(named) >= 40
    for file, name in named:
        source = (ROOT / "codegen" / file).read_text("utf-8")
        for part in filter(None, name.split(".")):
            assert re.search(rf"^ *(async )?(def|class) {part}\b", source, re.M), (file, part)


def test_every_package_is_described() -> None:
    described = set(re.findall(r"^\| `([\w.]+)` \|", TEXT, re.MULTILINE))
    at_the_root = {link.name for link in (ROOT / "codegen").iterdir() if link.is_symlink()}
    below = {
        f"codegen.{folder.name}"
        for folder in (ROOT / "codegen").iterdir()
        if folder.is_dir() and not folder.is_symlink() and not folder.name.startswith("_")
    }
    assert described >= (at_the_root - {"benchmarks"}) | (
        below - {"codegen.models", "codegen.quickstart"}
    )


def test_the_generator_makes_texts() -> None:
    from codegen.core.records import Example
    from codegen.data.engine import config_of

    shout = run(code("A data generator"))["Shout"]("?")
    (text,) = shout.generate(Example("e", "Say.", "print(1)"), random.Random(0))
    assert [(s.text, s.train) for s in text.segments] == [("Say.", False), ("PRINT(1)?", True)]
    assert config_of(shout) == {"mark": "?", "name": "shout"}


def test_the_task_asks_and_judges() -> None:
    from codegen.evals.tasks import find_style

    sums = run(code("A task"))["Sums"].load("sums", "")
    problem = sums.problems()[2]
    assert sums.request(problem, find_style("continue"), 0).prompt == "def add2(x):\n"
    assert sums.job(problem, sums.reference(problem)).test == "assert add2(1) == 1 + 2"


def test_the_task_file_asks_and_judges(tmp_path: Path) -> None:
    from codegen.evals.tasks import find_style, load
    from codegen.sandbox import Job

    (tmp_path / "sums.yaml").write_text(code("A task", "yaml"))
    (tmp_path / "sums.jsonl").write_text(
        '{"number": 7, "name": "total", "text": "their sum", "expected": 3,'
        ' "code": "def total(values):\\n    return sum(values)\\n"}\n'
    )
    task = load(f"file:{tmp_path / 'sums.yaml'}")
    (problem,) = task.problems()
    prompt = task.request(problem, find_style("plain"), 0).prompt
    assert prompt.strip() == "Write a Python function total(values) that returns their sum."
    job = task.job(problem, task.reference(problem))
    assert isinstance(job, Job) and "assert total([1, 2]) == 3" in job.test


def test_the_decoder_reads_and_chooses() -> None:
    import torch

    from codegen.core.errors import ConfigError

    parts = run(code("A decoder"))
    decoded = parts["FENCED"].read("Here:\n```\nx = 1\n```\n", "eos")
    assert decoded.text == "x = 1\n"
    spec = parts["LOWEST"]
    strategy = spec.make(spec.read_options({"share": 2}), [])
    logits = torch.tensor([[1.0, -3.0]])
    strategy.adjust(None, logits)
    assert logits.tolist() == [[-2.0, 6.0]]
    with pytest.raises(ConfigError, match="share"):
        spec.read_options({"shar": 2})


def test_the_sandbox_runs_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.core import plugins
    from codegen.sandbox import Job, Sandbox

    awk = run(code("A language"))["AWK"]
    monkeypatch.setattr(plugins, "names", lambda kind: [awk.name])
    monkeypatch.setattr(plugins, "load", lambda kind, name: awk)
    if not shutil.which("mawk"):
        pytest.skip("mawk is not installed")
    program, test = "function f(x) { return x + 1 }", "BEGIN { if (f(1) != %d) exit 1 }"
    with Sandbox(workers=1, languages=["awk"]) as sandbox:
        jobs = [Job(program, test=test % n, mode="in_sandbox", language="awk") for n in (2, 3)]
        assert [sandbox.run(job).status for job in jobs] == ["passed", "exited"]


def test_the_dialect_completes() -> None:
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.testclient import TestClient

    from codegen.server.completion.requests import Candidate, CompletionResult

    class Service:
        async def complete(self, request: object, asked: Any) -> CompletionResult:
            return CompletionResult((Candidate(asked.prefix.upper(), 1, "stop"),))

    ((method, path, handler),) = run(code("A dialect"))["ROUTES"]
    route = Route(path, partial(handler, Service()), methods=[method])
    assert TestClient(Starlette(routes=[route])).post("/plain", content="x = ").text == "X = "


def test_most_modules_have_a_test_file_of_their_name() -> None:
    """codegen/server/mcp.py: tests/server/test_mcp.py; sqlnet/plan.py: tests/sqlnet/test_plan.py.

    Of the modules with 40 code lines or more. Tests of many modules are named by their theme.
    """
    base = ROOT / "codegen"
    mirrored = [
        (ROOT / "tests" / path.relative_to(base)).with_name(f"test_{path.name}").is_file()
        for path in [*base.glob("*.py"), *base.glob("*/**/*.py")]
        if path.relative_to(base).parts[0] != "benchmarks" and path.name != "__init__.py"
        if code_lines(path.read_text(encoding="utf-8")) >= 40
    ]
    assert sum(mirrored) >= 0.8 * len(mirrored), f"{sum(mirrored)} of {len(mirrored)}"


# Imports each module before all others of the project, in a process of its own.
IMPORT_FIRST = """
import importlib, os, sys, datasets, peft, sqlglot, torch, transformers
for name in sys.argv[1:]:
    if not (child := os.fork()):
        try:
            importlib.import_module(name)
        except ImportError as error:
            if "circular" in str(error):
                print(name, error, flush=True)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.long
def test_each_module_can_be_imported_first() -> None:
    files = (path.relative_to(ROOT / "codegen") for path in (ROOT / "codegen").glob("*/**/*.py"))
    names = [".".join(("codegen", *path.with_suffix("").parts)) for path in files]
    command = [sys.executable, "-c", IMPORT_FIRST, *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(names) > 300 and done.stdout == ""
