"""Real functions to records, by running them in the sandbox."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from codegen.cogex import Invalid, parse_program
from codegen.cogex.generator import find_call, run_record, with_intermediates
from codegen.core.records import Example
from codegen.data import MemorySource, make, read_rejects, read_texts, run
from codegen.sandbox import Sandbox


def test_named_results_are_returned(sandbox: Sandbox) -> None:
    program = (
        "def mean(values):\n"
        "    # Step 1: Add.\n"
        "    total = sum(values)\n"
        "    count: int = len(values)\n"
        "    é, answer = 'ü', 0\n"
        "    return (total /\n            count)  # done\n"
    )
    record = run_record("Mean.", "", program, "assert mean([1, 2, 6]) == 3", sandbox)
    assert record.call == "mean([1, 2, 6])"
    assert record.input == "values = [1, 2, 6]"
    assert record.output == {"total": 9, "count": 3, "é": "ü", "answer": 3.0}
    assert "# Step 1: Add." in record.program and "# done" in record.program


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("def f(x):\n    return x", "def f(x):\n    return {'answer': x}"),
        ("def f(x):\n    y = x\n    return y", "def f(x):\n    y = x\n    return {'answer': y}"),
        ("def f(x):\n    return x, 1", "def f(x):\n    return {'answer': (x, 1)}"),
        ("def f(x):\n    if x: return 1\n    return",
         "def f(x):\n    if x: return {'answer': 1}\n    return {'answer': None}"),
        ("def f(x):\n    return {'a': x, 'answer': 1}",
         "def f(x):\n    return {'a': x, 'answer': 1}"),
    ],
)  # fmt: skip
def test_returns(program: str, text: str) -> None:
    assert with_intermediates(program) == text


@pytest.mark.parametrize(
    ("program", "call", "reason"),
    [
        ("def f(x):\n    return 1 / x", "f(0)", "raised"),
        ("def f(x):\n    return helper(x)", "f(0)", "raised"),
        ("def f(x):\n    return f(x - 1) + 1 if x else 0", "f(2)", "raised"),
        ("def f(x):\n    return {1: f}", "f(0)", "not_literal"),
        ("def f(x):\n    return x * 1e308 * 10", "f(1.0)", "not_literal"),
        ("def f(x):\n    yield x\n    return 1", "f(0)", "keys_differ"),
        ("def f(x):\n    print(x)", "f(0)", "no_return"),
        ("def f(x):\n    return x", "g(0)", "no_call"),
        ("def f(x):\n    return x", "f(y)", "bad_call"),
        ("def f(x):\n    return x", "f(0", "bad_call"),
        ("y = 1\ndef f(x):\n    return x", "f(0)", "more_than_function"),
        ("def f(x):\n    return x\nimport os", "f(0)", "more_than_function"),
        (
            "import socket\ndef f(x):\n    return socket.create_connection(x)",
            "f(('::1', 80))",
            "raised",
        ),
    ],
)
def test_what_can_not_be_a_record(sandbox: Sandbox, program: str, call: str, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        run_record("i", "", program, call, sandbox)
    assert caught.value.reason == reason


def test_imports_are_run_and_left_out(sandbox: Sandbox) -> None:
    imports = "import math\nfrom re import (\n    sub)\n\n"
    program = f"{imports}def f(x):\n    y = math.sqrt(x)\n    return sub('9', 'n', str(y))"
    record = run_record("i", "", program, "f(81)", sandbox)
    assert record.output == {"y": 9.0, "answer": "n.0"}
    assert "import" not in record.program
    assert parse_program(record.program).undefined == ("math.sqrt", "sub")


def test_find_call() -> None:
    assert find_call(">>> f(1)\n2\n>>> f(3)", "f") == "f(1)"
    assert find_call("assert sorted(f((1, 2), k='a')) == [1]", "f") == "f((1, 2), k='a')"


def test_through_the_engine(tmp_path: Path) -> None:
    def example(id: str, program: str) -> Example:
        return Example(id, "Double it.", program, meta={"input": "three"})

    source = MemorySource(
        (
            example("good", "def double(x):\n    return 2 * x\n\n>>> double(3)"),
            example("bad", "def double(x):\n    return 2 * x\n\n>>> double()"),
            example("worse", "print('hello')"),
        )
    )
    manifest = run(make("cogex", mode="run"), source, tmp_path / "out", workers=1)
    assert manifest.counts["skipped"] == {"call_mismatch": 1, "no_function": 1}
    (text,) = read_texts(tmp_path / "out")
    assert text.text == (
        "### Instruction\nDouble it.\n### Input\nthree\n### Code\ndef double(x):\n"
        "    return {'answer': 2 * x}\n\n>>> double(3)\n### Output\n{'answer': 6}"
    )
    assert text.prompt == "### Instruction\nDouble it.\n### Input\nthree\n"
    assert {row["id"] for row in read_rejects(tmp_path / "out")} == {"bad", "worse"}


@pytest.mark.slow
def test_mbpp(data_folder: Path, tmp_path: Path) -> None:
    """Of MBPP's problems most become records, and their answers are those of its own tests."""
    with gzip.open(data_folder / "mbpp" / "mbpp.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:60]
    source = MemorySource(
        tuple(
            Example(str(row["task_id"]), row["text"], row["code"], meta={"tests": row["test_list"]})
            for row in rows
        )
    )
    generator = make("cogex", mode="run", call="tests")
    manifest = run(generator, source, tmp_path / "out", workers=1)
    texts = {text.example_id: text for text in read_texts(tmp_path / "out")}
    assert len(texts) == manifest.kept > 35
    assert sum(manifest.counts["skipped"].values()) == 60 - len(texts)
    from codegen.cogex import parse_output

    with Sandbox(workers=1) as sandbox:
        for row in rows:
            if (text := texts.get(str(row["task_id"]))) and "==" in row["test_list"][0]:
                answer = parse_output(text.text.rpartition("### Output")[2])["answer"]
                expected = row["test_list"][0].partition("==")[2]
                outcome = sandbox.run(f"expected = {expected}\n", calls=["expected"])
                assert outcome.values == (answer,), row["task_id"]
