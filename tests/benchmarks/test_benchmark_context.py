"""The benchmark of other files in the prompt, on a tiny random model and a small repository."""

from __future__ import annotations

import difflib
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

import codegen.models
from codegen.benchmarks import context
from codegen.benchmarks.tools.context_cases import Case, history_cases, new_names, repository_cases
from codegen.benchmarks.tools.history_edits import FILES
from codegen.errors import ConfigError, ResumeError

HEAD = '"""A module."""\n\nimport os\n\nfrom .helper import Client, load\n\n' + "# filler\n" * 8
MAIN = f'''{HEAD}
client = Client("somewhere")
print(os.getcwd(), 1)
"""A string of
load(several, lines)
"""
found = load(client, strict=True)
client.fetch_all(found)
other = load(client)
client.nothing(found)
'''
HELPER = """class Client:
    def __init__(self, url):
        self.url = url

    def fetch_all(self, names): ...


def load(client, strict): ...
"""


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    folder = tmp_path / "repositories" / "shop-1.0" / "shop"
    (folder / "tests").mkdir(parents=True)
    for name, text in (("main.py", MAIN), ("helper.py", HELPER), ("tests/test_main.py", MAIN),
                       ("broken.py", "def f(:\n"), ("long.py", "x = 1\n" * 40_000)):  # fmt: skip
        (folder / name).write_text(text)
    return folder.parent.parent


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Commits that change two files each."""
    folder = tmp_path / "data" / "next_edit"
    folder.mkdir(parents=True)
    rows = []
    for number in range(4):
        for path, old, new in (
            ("helper.py", HELPER, HELPER.replace("strict", f"option_{number}")),
            ("main.py", MAIN, MAIN.replace("load(client)", f"load(client, option_{number}=1)")),
        ):
            diff = difflib.unified_diff(old.splitlines(True), new.splitlines(True), "a", "b")
            rows.append({
                "repository": "me/shop", "commit": str(number) * 40, "path": path, "old": old,
                "diff": "".join(diff),
            })  # fmt: skip
    for name, some in zip(FILES, (rows[:4], rows[4:]), strict=True):
        with gzip.open(folder / name, "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in some)
    return folder.parent


def test_lines_of_a_repository(repositories: Path) -> None:
    found = repository_cases(repositories / "shop-1.0", random.Random(0), 9)
    assert {(case.kind, case.target, case.needed) for case in found} == {
        ("first", 'client = Client("somewhere")', ("Client",)),
        ("first", "found = load(client, strict=True)", ("load",)),
        ("first", "client.fetch_all(found)", ("fetch_all",)),
        ("again", "other = load(client)", ("load",)),
        ("plain", "print(os.getcwd(), 1)", ()),
        ("plain", "client.nothing(found)", ()),
    }
    for case in found:
        assert case.path == "shop/main.py"
        assert case.prefix + case.target + case.suffix == MAIN


def test_lines_of_histories(data: Path) -> None:
    found = history_cases(data / "next_edit", random.Random(0), 99)
    lines = {case.target: case for case in found if case.path == "main.py"}
    assert set(lines) == {f"other = load(client, option_{n}=1)" for n in range(4)}
    case = lines["other = load(client, option_2=1)"]
    assert case.needed == ("option_2",) and case.other is not None
    assert "option_2" in case.other.text.splitlines()[case.other.lines[0]]
    assert case.prefix.endswith("client.fetch_all(found)\n")
    assert case.suffix == "\nclient.nothing(found)\n"
    assert len(history_cases(data / "next_edit", random.Random(0), 3)) == 3
    with pytest.raises(ConfigError, match="does not exist"):
        history_cases(data, random.Random(0), 3)


def test_names_that_are_new() -> None:
    case = Case(
        "", "", "first", "a.py", "known = 1\n", "\nlater = 2\n", "known(later, new, far)", ()
    )
    assert new_names(case, ["def new(): ..."]) == (2, 1)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("def load(x):", True), ("    async def load(x):", True), ("class load:", True),
     ("load = 1", True), ("load: int = 1", True), ("    load: int", True), ("load(x)", False),
     ("x = load", False), ("load == 1", False), ("def loaded():", False)],
)  # fmt: skip
def test_definitions(text: str, is_one: bool) -> None:
    assert context.is_defined("load", text) is is_one


@pytest.mark.slow
def test_figures(
    repositories: Path, data: Path, tmp_path: Path, tiny_model_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of a run that was cut off, resumed, with a random model: what it must find, it finds."""
    load = codegen.models.load
    monkeypatch.setattr(codegen.models, "load", lambda _: load(str(tiny_model_dir)))
    options: dict[str, Any] = {
        "repositories": str(repositories), "data": str(data), "lines": 6, "context": 256,
        "share": 0.4, "out": str(tmp_path / "out"),
    }  # fmt: skip
    first = context.run(parts="recall,exact", recall_lines=6, **options)
    assert first["recall"] == 1.0
    assert first["found"]["history"]["edits"]["new_name"] > 0.5  # type: ignore
    assert first["found"]["first"]["none"]["definition"] == 0.0  # type: ignore
    lines: Any = first["lines"]
    assert {kind: cells["none"]["n"] for kind, cells in lines.items()} == {
        "first": 3, "again": 1, "plain": 2, "history": 6, "cross-file": 10, "every": 12,
    }  # fmt: skip
    assert set(lines["history"]) == {"none", "edits", "similar", "all"}
    journal = tmp_path / "out" / "lines.jsonl"
    rows = journal.read_text().splitlines()
    assert len(rows) == 12 * 4
    journal.write_text("\n".join(rows[:20]) + "\n" + rows[20][:30])
    again = context.run(parts="exact", **options)
    assert again["lines"] == lines and sorted(journal.read_text().splitlines()) == sorted(rows)
    with pytest.raises(ResumeError, match="share"):
        context.run(parts="exact", **{**options, "share": 0.3})
    with pytest.raises(ConfigError, match="Unknown parts"):
        context.run(parts="everything", **options)


@pytest.mark.long
def test_keys(repositories: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = codegen.models.load
    monkeypatch.setattr(codegen.models, "load", lambda _: load(str(tiny_model_dir)))
    found = context.run(
        parts="keys", repositories=str(repositories), typed=2, context=256, data="/nowhere"
    )
    keys: Any = found["keys"]
    for cost in keys.values():
        assert cost["keys"] >= cost["answered_by_the_model"] > 10
        assert 0 < cost["encoded_mean"] < 100 and cost["first_ms_p50"] <= cost["first_ms_p95"]
