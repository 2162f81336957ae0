"""``codegen sqlnet``: answers, doubts, databases that can't be read, training from the shell."""

from __future__ import annotations

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.databases import sqlite_file
from tests.processes import python


@pytest.fixture
def run(codegen: Any) -> Any:
    return partial(codegen, "sqlnet")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return sqlite_file(
        tmp_path / "people.db",
        "CREATE TABLE players (player_name TEXT, age INT, home_city TEXT)",
        players=[("Ann Lee", 30, "Toronto"), ("Bob\x1b[31m Ray", 41, "Boston")],
    )


def test_an_answer_is_shown_with_its_sql_and_confidence(run, path: Path) -> None:
    done = run("ask", str(path), "what is the home city of player Ann Lee?")
    assert (done.code, done.err) == (0, "")
    assert 'SELECT "home_city" FROM "players" WHERE LOWER("player_name") = LOWER(?)' in done.out
    assert "Values      'Ann Lee'" in done.out and "Confidence" in done.out
    assert done.out.rstrip().endswith("Toronto")


def test_json_is_one_object_with_all_of_it(run, path: Path) -> None:
    done = run("ask", str(path), "what is the age of player Ann Lee?", "--json")
    row = json.loads(done.out)
    assert (done.code, row["ok"], row["by"], row["table"]) == (0, True, "sqlnet", "players")
    assert row["answer"] == {"columns": ["age"], "rows": [[30]], "cut": False}
    assert row["query"]["sel"] == 1 and row["parameters"] == ["Ann Lee"]
    assert 0 < row["confidence"] <= 1
    assert {slot["slot"] for slot in row["slots"]} >= {"select", "aggregate", "value 1"}


def test_without_trust_there_is_no_answer_and_the_code_is_1(run, path: Path) -> None:
    done = run("ask", str(path), "average age per home city")
    assert done.code == 1 and "No answer: I did not understand 'per home'." in done.out
    row = json.loads(run("ask", str(path), "zzz", "--json").out)
    assert (row["ok"], row["answer"]) == (False, None) and row["abstained"]


def test_cells_of_strangers_do_not_reach_the_terminal_raw(run, path: Path) -> None:
    done = run("ask", str(path), "what is the player name with age 41?", "--min-confidence", "0")
    assert "\x1b" not in done.out


def test_dialects_and_mistakes(run, path: Path) -> None:
    asked = ("ask", str(path), "what is the home city of player Ann Lee?", "--no-run")
    done = run(*asked, "-o", "dialect=postgres")
    assert 'SELECT "home_city"' in done.out and "LOWER(%s)" in done.out
    for options, what, code in [
        (("-o", "dialect=sqlite4"), "Unknown SQL dialect 'sqlite4'", 2),
        (("--table", "nope"), "Unknown table 'nope'", 1),
        (("--endpoint", "http://localhost:1/v1"), "--endpoint requires --llm", 2),
        (("--model", "nowhere"), "has no SQL network", 1),
    ]:
        done = run(*asked, *options)
        assert done.code == code and what in done.err
        assert "Traceback" not in done.err


def test_an_empty_table_and_a_csv_file_are_answered(run, tmp_path: Path) -> None:
    csv = tmp_path / "cars.csv"
    csv.write_text("carName,Horsepower\nDatsun,88\nFiat,66\n")
    row = json.loads(run("ask", str(csv), "what is the highest horsepower?", "--json").out)
    assert row["answer"]["rows"] == [[88.0]]
    csv.write_text("carName,Horsepower\n")
    done = run("ask", str(csv), "what is the horsepower of car name Fiat?")
    assert "Traceback" not in done.err and ("(no rows)" in done.out or done.code == 1)


def writer(text: str) -> Any:
    """In place of a model: it always writes this."""
    return lambda *_: nullcontext(lambda _prompt, number: [text] * number)


def test_what_a_model_wrote_in_vain_is_shown_and_not_promised_as_sql(
    run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codegen.cli import sqlnet as module

    text = "DROP TABLE players;\n\x1b[2J SELECT age FROM players"
    monkeypatch.setattr(module, "sql_writer", writer(text))
    done = run("ask", str(path), "average age per home city", "--llm", "embedded")
    assert done.code == 1 and "SQL below" not in done.out and "\x1b" not in done.out
    assert r"The language model wrote: DROP TABLE players;\n" in done.out
    assert "No answer: Only a single SELECT may run" in done.out


@pytest.mark.parametrize("question", ["how old is Ann Lee?", "average age per home city"])
@pytest.mark.parametrize("name", ["mien", "./mien", "mien.gguf"])
def test_a_name_that_is_no_model_is_refused_whatever_is_asked(
    run, path: Path, question: str, name: str
) -> None:
    done = run("ask", str(path), question, "--llm", name)
    assert done.code == 2 and not done.out
    assert done.err.startswith("Error: ") and "mien" in done.err


def write_world(folder: Path, size: int) -> tuple[str, str]:
    """Writes a small world in WikiSQL's form: its questions and its tables."""
    from toy import world

    items, tables = world(size)
    asked = [
        {"question": i.question.text, "table_id": i.question.table.name, "sql": i.query.to_row()}
        for i in items
    ]
    held = [
        {
            "id": name,
            "header": [c.name for c in table.table.columns],
            "types": [c.type for c in table.table.columns],
            "rows": table.rows,
        }
        for name, table in tables.items()
    ]
    paths = folder / "q.jsonl", folder / "t.jsonl"
    for path, rows in zip(paths, (asked, held), strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(paths[0]), str(paths[1])


@pytest.mark.slow
def test_train_eval_and_ask_from_the_shell(run, tmp_path: Path) -> None:
    questions, held = write_world(tmp_path, 200)
    out = str(tmp_path / "model")
    given = ("hidden=16", "epochs=3", "batch_size=16", "held_out=0.2")
    options = tuple(word for one in given for word in ("-o", one))
    done = run("train", questions, held, "--out", out, *options, "--json")
    row = json.loads(done.out)
    assert done.code == 0 and row["questions"] + row["held_out"] == 200
    assert "epoch 3: loss" in done.err
    scored = json.loads(run("eval", questions, held, "--model", out, "--guided", "--json").out)
    assert scored["n"] == 200 and 0 <= scored["query_match"] <= scored["execution"] <= 1
    text = run("eval", questions, held, "--model", out).out
    assert "200 questions" in text and "query_match" in text
    broken = run("train", held, questions, "--out", out)
    assert broken.code == 1 and "not a WikiSQL table" in broken.err


def test_help_is_light() -> None:
    script = (
        "import sys, contextlib\n"
        "from codegen.cli import cli\n"
        "for command in ([], ['ask'], ['train'], ['eval']):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        cli.main(['sqlnet', *command, '--help'], prog_name='codegen')\n"
        "heavy = {'torch', 'numpy', 'sqlglot', 'rich'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = python(script)
    assert done.stderr == ""


def test_what_was_asked_is_said_in_words_and_each_word_is_accounted_for(run, path: Path) -> None:
    asked = ("ask", str(path), "what is the home city of our dear player Ann Lee?")
    done = run(*asked, "--explain", "--min-confidence", "0.01")
    assert done.code == 0
    assert "Asked       the home city of players whose player name is 'Ann Lee'" in done.out
    assert "Word        home: column home_city" in done.out
    assert "Word        dear: not understood" in done.out
    sure = run(*asked, "--min-confidence", "1")
    assert (sure.code, "No answer: I did not understand 'dear'." in sure.out) == (1, True)
    row = json.loads(run(*asked, "--min-confidence", "1", "--json").out)
    assert row["reasons"][0] == {"code": "words", "text": "I did not understand 'dear'."}
    assert {"word": "Ann", "taken_for": "a value"} in row["words"]
    assert row["answer"] is None and row["asked"].startswith("the home city of players")


def test_a_described_database_and_its_layer(run, path: Path, tmp_path: Path) -> None:
    out = tmp_path / "layer.yaml"
    assert run("describe", str(path), "--out", str(out)).code == 0
    text = out.read_text()
    assert '"players.home_city"' in text and run("describe", str(path)).out == text
    assert run("describe", str(path), "--out", str(out)).code == 0
    out.write_text(
        text.replace(
            '"players.home_city": {synonyms: []}', '"players.home_city": {synonyms: [abode]}'
        ).replace("measures: {}", "measures: {headcount: {sql: SELECT COUNT(*) FROM players}}")
    )
    mine = out.read_text()
    done = run("describe", str(path), "--out", str(out))
    assert (done.code, out.read_text()) == (1, mine) and "exists" in done.err
    asked = ("ask", str(path), "--layer", str(out))
    done = run(*asked, "what is the abode of player Ann Lee?")
    assert done.code == 0 and done.out.rstrip().endswith("Toronto")
    row = json.loads(run(*asked, "what is our headcount?", "--json").out)
    assert (row["by"], row["answer"]["rows"]) == ("measure", [[2]])
    out.write_text("columns: {players.nope: {}}")
    done = run(*asked, "who?")
    assert done.code == 1 and "no column 'nope'" in done.err
