"""``codegen eval matrix`` and ``codegen eval compare``: cells, resuming, and paired tests."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import FakeGenerator

from codegen.cli import matrix
from codegen.core.errors import ModelError
from codegen.core.generation import Decoder, SamplingParams
from codegen.evals.run import run
from codegen.evals.tasks import STYLES, load
from tests.evals.conftest import _executions  # noqa: F401 - logs go to a temporary folder


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """A file of 12 sums; model m2 knows two thirds of them, m1 a third, and gone fails."""
    rows = [{"id": f"s{i}", "prompt": f"{i} + 1?", "answer": str(i + 1)} for i in range(12)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    calls: list[tuple[str, str, int]] = []

    def sample(task: str, given: Any, server: Any, opener: Any) -> Any:
        calls.append((given.model, given.out, given.seed))
        if given.model == "gone":
            raise ModelError("There is no model gone.")

        def answer(request: Any) -> str:
            number = int(request.problem_id[1:])
            knows = 4 * int(given.model[1]) + (4 if given.retry else 0)
            return str(number + (1 if number < knows else 9))

        return run(
            load(task), FakeGenerator(model=given.model, completion=answer),
            SamplingParams(seed=given.seed), Decoder(), n=given.n,
            style=STYLES[given.style or "chat"], out=given.out, after=given.retry,
        )  # fmt: skip

    monkeypatch.setattr(matrix, "sample_cell", sample)
    return calls


def write(text: str) -> None:
    Path("m.yaml").write_text(text)


MATRIX = """
tasks: [{task: "file:sums.jsonl", name: sums}]
models: [m1, {name: second, model: m2, max_new_tokens: 8}]
seeds: [3, 4]
options: {n: 2, style: plain}
score: {workers: 1}
"""


def test_a_matrix_runs_each_cell_once(made: list[tuple[str, str, int]], codegen: Any) -> None:
    write(MATRIX)
    code, out, err = codegen("eval", "matrix", "m.yaml", "--out", "out", "--json")
    assert code == 0, err
    summary = json.loads(out)
    assert [(cell["model"], cell["seed"]) for cell in summary["cells"]] == [
        ("m1", 3), ("m1", 4), ("second", 3), ("second", 4),
    ]  # fmt: skip
    rates = {row["model"]: (row["pass_at_1"], row["seeds"]) for row in summary["table"]}
    assert rates == {"m1": (pytest.approx(4 / 12), 2), "second": (pytest.approx(8 / 12), 2)}
    assert summary["table"][0]["seed_stdev"] == 0
    assert len(made) == 4
    assert made[0][1] == "out/sums/m1/seed-3"
    code, out, _ = codegen("eval", "matrix", "m.yaml", "--out", "out")
    assert code == 0
    assert len(made) == 4  # nothing is done twice
    assert "sums, second: pass@1 66.7% (" in out
    write(MATRIX.replace("seeds: [3, 4]", "seeds: [3, 5]"))
    assert codegen("eval", "matrix", "m.yaml", "--out", "out")[0] == 0
    assert [seed for _, _, seed in made[4:]] == [5, 5]


def test_a_cell_that_fails_stops_no_other(made: list[tuple[str, str, int]], codegen: Any) -> None:
    write(MATRIX.replace("models: [m1,", "models: [gone,"))
    code, out, err = codegen("eval", "matrix", "m.yaml", "--out", "out", "--json")
    assert code == 1
    errors = [cell["error"] for cell in json.loads(out)["cells"]]
    assert errors[0].startswith("There is no model gone.")
    assert errors[2:] == [None, None]
    assert "failed: There is no model gone." in err
    assert "Traceback" not in err


def test_second_tries_in_a_matrix(made: list[tuple[str, str, int]], codegen: Any) -> None:
    write(MATRIX.replace("seeds: [3, 4]", "seeds: [3]\ntries: 2"))
    code, out, err = codegen("eval", "matrix", "m.yaml", "--out", "out", "--json")
    assert code == 0, err
    rates = [row["pass_at_1"] for row in json.loads(out)["table"]]
    assert rates == [pytest.approx(8 / 12), pytest.approx(1)]
    assert made[1][1] == "out/sums/m1/seed-3/try-2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds:", "seed:"), "seed"),
        (("n: 2", "nn: 2"), "nn"),
        (("n: 2", "n: 0"), "n is 0"),
        (("m1,", "second,"), "two models are called 'second'"),
        (("[3, 4]", "[]"), "seeds is empty"),
        (("n: 2", "out: x"), "out cannot be set here"),
        (("workers: 1", "worker: 1"), "worker"),
        (("name: second, model: m2", "name: second"), "no key 'model'"),
    ],
)
def test_a_matrix_that_cant_be_read(
    change: tuple[str, str], message: str, made: list[tuple[str, str, int]], codegen: Any
) -> None:
    write(MATRIX.replace(*change))
    code, _, err = codegen("eval", "matrix", "m.yaml", "--out", "out")
    assert code == 2
    assert "m.yaml" in err
    assert message in err
    assert made == []


def test_compare_is_paired(made: list[tuple[str, str, int]], codegen: Any) -> None:
    write(MATRIX.replace("n: 2", "n: 1"))
    codegen("eval", "matrix", "m.yaml", "--out", "out")
    one, two = "out/sums/m1/seed-3", "b=out/sums/second/seed-3"
    code, out, err = codegen("eval", "compare", f"a={one}", two, "--json")
    assert code == 0, err
    (found,) = json.loads(out)["comparisons"]
    # McNemar's exact test by hand: 4 problems changed, all to the better.
    mcnemar = min(1.0, 2 * sum(math.comb(4, k) for k in range(1)) / 2**4)
    assert found["comparison"]["p_value"] == pytest.approx(mcnemar)
    assert found["comparison"]["difference"] == pytest.approx(4 / 12)
    _, out, _ = codegen("eval", "compare", f"a={one}", two)
    assert "a -> b   pass@1 +33.3%" in out
    assert "p = 0.125 (exact); of 12 problems" in out
    assert codegen("eval", "compare", one)[0] == 2
