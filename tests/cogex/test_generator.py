"""Real functions to records, by running them in the sandbox."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion, error, serving

from codegen.cogex import Invalid, parse_output, parse_program
from codegen.cogex.generator import converted, run_record, with_intermediates
from codegen.cogex.record import CogexRecord
from codegen.core.records import Example
from codegen.data import MemorySource, make, read_rejects, read_texts, run
from codegen.generation import Completion, Request
from codegen.generation.request_chains import Conversation, Unusable
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
        ("import socket\ndef f(x):\n    return socket.create_connection(x)", "f(('::1', 80))",
         "raised"),
    ],
)  # fmt: skip
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


VALUES = '{"input": "box", "output": "boxes"}'
PLAN = (
    '{"number": 1, "description": "Choose the\\n ending."}\n{"number": 2, "description": "Join."}'
)
PROGRAM = """\
def pluralize(word):
    \"\"\"Makes a plural.\"\"\"
    # Step 1: Choose the ending.
    ending = choose_ending(word)
    return {'ending': ending, 'answer': word + ending}

>>> pluralize('box')
### Output
{'ending': 'es', 'answer': 'boxes'}"""


def convert(*answers: str) -> tuple[CogexRecord, list[str]]:
    """Sends the answers to the plan; gives its record, and the prompts."""
    plan = converted("Make it plural.", "box", "Boxes.", Conversation(random.Random(0), 100))
    prompts = [next(plan).prompt]
    for answer in answers:
        try:
            prompts.append(plan.send(Completion(0, Request(""), answer)).prompt)
        except StopIteration as end:
            return end.value, prompts
    raise AssertionError("the plan wants more answers")


def test_three_questions_that_build_on_one_another() -> None:
    record, prompts = convert(VALUES, PLAN, PROGRAM)
    assert record.call == "pluralize('box')" and record.output["answer"] == "boxes"
    assert (record.instruction, record.input) == ("Make it plural.", "box")
    assert len(prompts) == 3
    assert "TASK 4: Make it plural. | INPUT 4: box\nOUTPUT TO CLEAN 4: Boxes." in prompts[0]
    assert prompts[1].endswith("Instruction: Make it plural.\nInput: 'box'")
    assert prompts[2].endswith(
        "Instruction: Make it plural.\nInput: 'box'\nAnswer: 'boxes'\nSteps:\n"
        "1. Choose the ending.\n2. Join.\nCode:"
    )


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (["I can't."], "bad_values"),
        (['{"input": 1}'], "bad_values"),
        (["[" * 9999], "bad_values"),
        ([VALUES, "Think."], "bad_plan"),
        ([VALUES, "{broken}"], "bad_plan"),
        ([VALUES, "\n".join([PLAN.splitlines()[0]] * 4)], "bad_plan"),
        ([VALUES, PLAN, ""], "no_function"),
        ([VALUES, PLAN, PROGRAM.replace("def ", "x = 1\ndef ", 1)], "more_than_function"),
        ([VALUES, PLAN, PROGRAM.partition("\n\n>>>")[0]], "no_output"),
        ([VALUES, PLAN, PROGRAM.replace("'boxes'}", "'foxes'}")], "answer_differs"),
        ([VALUES, PLAN, PROGRAM.replace("'es',", "ending,")], "not_literal"),
        ([VALUES, PLAN, PROGRAM.replace("{'ending': 'es', ", "{")], "keys_differ"),
    ],
)  # fmt: skip
def test_answers_that_can_not_be_used(answers: list[str], reason: str) -> None:
    with pytest.raises((Invalid, Unusable)) as caught:
        convert(*answers)
    assert caught.value.reason == reason


ROWS = [
    {"id": f"r{number}", "instruction": f"Plural {number}.", "input": "box", "output": "boxes"}
    for number in range(12)
]


def teacher(body: dict[str, Any]) -> Reply:
    """Row 3 gets a bad plan, row 4 a wrong answer, row 5 none at all."""
    prompt = body["messages"][0]["content"]
    if "Plural 5." in prompt:
        return error(400, "no")
    if "TASK 4" in prompt:
        return completion(VALUES)
    if prompt.startswith("Write a plan"):
        return completion("I don't plan." if "Plural 3." in prompt else PLAN)
    wrong = PROGRAM.replace("'boxes'}", "'foxes'}")
    return completion(wrong if "Plural 4." in prompt else PROGRAM)


@pytest.fixture
def server() -> Iterator[Model]:
    with serving(teacher) as model:
        yield model


@pytest.fixture
def command(tmp_path: Path, server: Model) -> list[str]:
    path = tmp_path / "alpaca.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return [
        "data", "cogex", str(path), "--out", str(tmp_path / "out"), "--mode", "llm",
        "--endpoint", server.url, "--model", "m", "--cache", str(tmp_path / "cache.sqlite"),
        "-o", "retries=0", "--json",
    ]  # fmt: skip


def test_the_command(tmp_path: Path, server: Model, command: list[str], codegen: Any) -> None:
    code, out, _ = codegen(*command)
    summary = json.loads(out)
    assert code == 0
    assert summary["counts"] == {
        "inputs": 12, "kept": 9,
        "skipped": {"answer_differs": 1, "bad_plan": 1}, "failed": {"RequestFailed": 1},
    }  # fmt: skip
    assert summary["llm"]["new_answers"] == 3 * 10 + 2
    texts = list(read_texts(tmp_path / "out"))
    assert len(texts) == 9
    assert parse_output(texts[0].text.rpartition("### Output")[2]) == {
        "ending": "es",
        "answer": "boxes",
    }
    assert texts[0].prompt == "### Instruction\nPlural 0.\n### Input\nbox\n"
    assert texts[0].meta["llm_prompt_tokens"] == 21 and texts[0].meta["undefined"] == 1
    assert {row["id"] for row in read_rejects(tmp_path / "out")} == {"r3", "r4", "r5"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--llm", "embedded"], "Add --mode llm"),
        (["--mode", "llm"], "requires a model"),
        (["--mode", "rum"], "rum"),
        (["-o", "inputs=x"], "unknown setting"),
    ],
)
def test_misuse(tmp_path: Path, options: list[str], said: str, codegen: Any) -> None:
    code, _, err = codegen("data", "cogex", "families:4", "--out", tmp_path / "out", *options)
    assert code == 2 and said in err


def test_families_and_records_of_a_file(tmp_path: Path, codegen: Any) -> None:
    families = "families:coin_flip,plural:6"
    code, out, _ = codegen(
        "data", "cogex", families, "--out", tmp_path / "a", "--workers", 1, "--json"
    )
    assert code == 0 and json.loads(out)["counts"]["kept"] == 6
    ids = [text.example_id for text in read_texts(tmp_path / "a")]
    assert ids == ["coin_flip/0", "plural/0", "coin_flip/1", "plural/1", "coin_flip/2", "plural/2"]
    program = PROGRAM.partition("\n\n")[0]
    output = {"ending": "es", "answer": "xes"}
    record = CogexRecord("i", "x", program, "pluralize('x')", output)
    rows: list[dict[str, Any]] = [dict(record.to_row())]
    rows.append(rows[0] | {"code_output": "{'answer': 'xes'}"})
    rows.append(rows[0] | {"code_output": {"ending": "es", "answer": "xes"}})
    rows.append({k: v for k, v in rows[0].items() if k != "code_output"})
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = codegen("data", "cogex", path, "--out", tmp_path / "b", "--json")
    counts = json.loads(done.out)["counts"]
    assert counts["kept"] == 2 and counts["skipped"] == {"keys_differ": 1, "no_output": 1}


@pytest.mark.parametrize(
    "spec", ["families:nothing", "families:plural:x", "families:plural,plural", "families:a:b:c"]
)
def test_families_that_there_are_not(tmp_path: Path, spec: str, codegen: Any) -> None:
    assert codegen("data", "cogex", spec, "--out", tmp_path / "out").code == 2
