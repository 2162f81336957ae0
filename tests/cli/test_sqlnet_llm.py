"""``codegen sqlnet ask --llm`` with a real server on loopback and with the embedded model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, completion, serving

from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import validate
from tests.databases import sqlite_file

QUESTION = "average age per home city"
GROUPED = "SELECT home_city, AVG(age) FROM players GROUP BY home_city ORDER BY 1"
Asked = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "people.db"
    path.parent.mkdir()
    return sqlite_file(
        path,
        "CREATE TABLE players (player_name TEXT, age INT, home_city TEXT)",
        players=[("Ann Lee", 30, "Toronto"), ("Bob Ray", 41, "Boston"), ("Zoe", 21, "Boston")],
    )


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    with serving(lambda _: completion(GROUPED)) as model:
        yield model


@pytest.fixture
def ask(path: Path, server: Model, codegen: Any) -> Asked:
    """Asks; gives the exit code, the JSON row and what went to standard error."""

    def call(*options: str, endpoint: str = "") -> tuple[int, dict[str, Any], str]:
        options = ("--llm", "served", "--endpoint", endpoint or server.url, "--json", *options)
        if not any(word.startswith("llm_samples") for word in options):
            options += ("-o", "llm_samples=1")
        code, out, err = codegen("sqlnet", "ask", path, QUESTION, *options)
        return code, json.loads(out) if out else {}, err

    return call


def test_what_a_server_writes_is_run_and_marked(
    ask: Asked, server: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-key")
    code, row, err = ask("--api-key-env", "MY_KEY")
    assert (code, row["ok"], row["by"], row["sql"]) == (0, True, "llm", GROUPED)
    assert row["answer"]["rows"] == [["Boston", 31.0], ["Toronto", 30.0]]
    assert "requesting one from the language model" in err and "secret" not in err
    assert server.headers[0]["Authorization"] == "Bearer secret-key"
    (prompt,) = server.prompts
    assert QUESTION in prompt and '"home_city" TEXT' in prompt and "Boston" not in prompt


@pytest.mark.parametrize(
    "answer",
    [
        "SELECT age FROM players; DROP TABLE players",
        "SELECT * FROM other.players",
        "SELECT load_extension('evil')",
        "WITH gone AS (DELETE FROM players RETURNING age) SELECT age FROM gone",
        "SELECT * FROM (WITH sqlite_master AS (SELECT age FROM players) SELECT age FROM"
        " sqlite_master) AS a, sqlite_master AS b",
        "SELECT age FROM players WHERE player_name = ?",
        "SELECT age FROM players WHERE " + " OR ".join(["age = 1"] * 20_000),
        "<think>" * 50_000,
        "",
        None,
    ],
)
def test_hostile_answers_are_refused_and_nothing_changes(
    ask: Asked, server: Model, path: Path, answer: str | None
) -> None:
    server.answer = lambda _: completion(answer)
    before = path.read_bytes()
    code, row, err = ask()
    assert (code, row["ok"], row["sql"], row["answer"]) == (1, False, None, None)
    assert row["failure"] and "Traceback" not in err
    assert len(server.bodies) == 2 and row["failure"] in server.prompts[1]
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_refusal_is_mended_on_the_second_try(ask: Asked, server: Model) -> None:
    server.script = [
        completion("SELECT salary FROM players"),
        completion(f"```sql\n{GROUPED}\n```"),
    ]
    code, row, _ = ask()
    assert (code, row["sql"]) == (0, GROUPED)
    assert "'salary' could not be resolved" in server.prompts[1]


def test_samples_vote_and_their_cost_is_shown(ask: Asked, server: Model) -> None:
    other = "SELECT home_city, MAX(age) FROM players GROUP BY home_city"
    same = f"{GROUPED} DESC"
    texts = iter([GROUPED, other, same, "nothing", same])
    server.answer = lambda _: completion(next(texts))
    code, row, err = ask("-o", "llm_samples=5", "-o", "price_in=1", "--concurrency", "1")
    assert (code, row["votes"], row["samples"]) == (0, 3, 5)
    assert [body["temperature"] for body in server.bodies] == [0.0, 0.8, 0.8, 0.8, 0.8]
    assert "New responses: 5 (35 prompt tokens, 25 completion tokens, cost" in err
    texts = iter([GROUPED, other, "nothing", "CANNOT ANSWER: no ages", "SELECT 1 FROM players"])
    code, row, _ = ask("-o", "llm_samples=5", "--cache", "")
    assert (code, row["answer"]) == (1, None) and "agree" in row["failure"]


@pytest.mark.parametrize(
    ("style", "field"), [("llama.cpp", "grammar"), ("vllm", "structured_outputs"), ("auto", "")]
)
def test_a_server_gets_the_grammar_in_its_own_field(
    ask: Asked, server: Model, style: str, field: str
) -> None:
    code, _, _ = ask("-o", f"llm_grammar={style}")
    (body,) = server.bodies
    assert code == 0 and {"grammar", "structured_outputs"} & body.keys() == {*[field]} - {""}
    if field:
        found = body[field]
        gbnf = found["grammar"] if isinstance(found, dict) else found
        assert gbnf.startswith("root ::= ") and '"home_city"' in gbnf.replace("\\", "")


@pytest.mark.long
def test_llama_cpp_keeps_to_the_grammar(
    path: Path, llama_server: Any, codegen: Any,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LLAMA_KEY", llama_server.api_key)
    asked = ["sqlnet", "ask", str(path), QUESTION, "--json", "--llm", llama_server.model]
    asked += ["--endpoint", f"{llama_server.url}/v1", "--api-key-env", "LLAMA_KEY"]
    done = codegen(*asked, "-o", "llm_samples=3", "-o", "llm_grammar=llama.cpp")
    row = json.loads(done.out)
    assert row["written"].startswith(("SELECT ", "CANNOT ANSWER: "))


@pytest.mark.long
def test_the_embedded_model_gives_a_checked_select_or_says_why_not(
    path: Path, codegen: Any
) -> None:
    from codegen.models.pretrained import MODELS

    if MODELS["embedded"].find() is None:
        pytest.skip("the embedded model is not on this machine")
    before = path.read_bytes()
    asked = ["sqlnet", "ask", path, QUESTION, "--llm", "embedded", "--json"]
    code, out, _ = codegen(*asked, "-o", "llm_samples=1")
    row = json.loads(out)
    assert row["by"] == "llm" and row["ok"] == (not code) == (row["failure"] == "")
    assert bool(row["failure"]) != bool(row["answer"])
    if row["sql"]:
        validate(row["sql"], Schema.open(path).tables)
    assert path.read_bytes() == before
