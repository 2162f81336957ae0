"""``codegen sqlnet plans`` and ``train-plans``: from questions with gold SQL to a network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codegen.sqlnet.plan_decode import PlanParser
from codegen.sqlnet.schema import Schema
from tests.sqlnet.clinic import clinic
from tests.sqlnet.test_plan_data import SAID


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with questions, their database, and vectors."""
    clinic(tmp_path).close()
    rows = [
        {"db_id": "clinic", "question": f"question {i} of patients", "query": query}
        for i, query in enumerate(SAID)
    ]
    rows.append({"db_id": "gone", "question": "?", "query": "SELECT 1"})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "questions.jsonl").write_text(lines)
    vectors = np.ones((2, 8), np.float16)
    np.savez(tmp_path / "vectors.npz", words=np.array(["patients", "of"]), vectors=vectors)
    return tmp_path


def test_questions_become_plans_and_a_network(codegen: Any, data: Path) -> None:
    made = codegen(
        "sqlnet",
        *("plans", data / "questions.jsonl", "--databases", data, "--out", data / "plans"),
        *("-o", "held_out=0.01", "--json"),
    )
    row = json.loads(made[1])
    assert made[0] == 0 and row["left_out"] == {"no database": 1}
    # "gone" is the only other database, so that one of the two is held out.
    held = row["held_out"] or row["questions"]["gold"]
    assert held == len(SAID)
    questions = data / "plans" / ("held_out.jsonl" if row["held_out"] else "plans.jsonl")
    (data / "plans" / "plans.jsonl").write_bytes(questions.read_bytes())
    given = ("width=32", "layers=1", "steps=2", "batch_size=4")
    options = tuple(word for one in given for word in ("-o", one))
    train = ("train-plans", data / "plans", "--databases", data, "--out", data / "model", *options)
    train = (*train, "--vectors", data / "vectors.npz", "--json")
    trained = codegen("sqlnet", *train)
    assert trained[0] == 0, trained[2]
    assert json.loads(trained[1])["questions"] >= 15
    parser = PlanParser.from_pretrained(data / "model")
    answer = parser.parse("patients", Schema.open(data / "clinic.sqlite"))
    assert answer.candidates


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plans", "none.jsonl", "--databases", ".", "--out", "x"), "none.jsonl"),
        (("train-plans", "none", "--vectors", "none.npz", "--out", "x"), "none"),
    ],
)
def test_a_missing_file_is_one_line(
    codegen: Any,
    arguments: tuple[str, ...],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = codegen("sqlnet", *arguments)
    assert code == 1 and not out
    assert said in err and "Traceback" not in err
