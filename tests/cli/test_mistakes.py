"""A stranger's files: whatever is in them, each command ends with one line that says what is wrong.

The commands run in this process; a file has the ending that its command expects.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.databases import sqlite_file

# What a file may hold in place of what is expected.
CONTENTS = {
    "empty": b"",
    "not UTF-8": b'{"instruction": "\xff\xfe\x80", "program": "x"}\n',
    "zeros": bytes(3000),
    "UTF-16": "tasks: [1]\n".encode("utf-16"),
    "a number": b"3\n",
    "a list": b"[]\n[1, 2]\n",
    "null": b"null\n",
    "deep": b"[" * 100_000 + b"\n",
    "cut off": b'{"instruction": "a", "prog',
    "other types": b'{"instruction": 5, "program": null, "task_id": [1], "task": 3, "tasks": 7}\n',
    "not a number": b'{"instruction": NaN, "program": Infinity, "task_id": 1e999}\n',
    "a page": b"<!DOCTYPE html><html><head><title>404</title></head></html>\n",
}
# The file is FILE, with this ending; each command fails before it loads a model.
COMMANDS = {
    ".jsonl": [
        "data inspect FILE",
        "data preferences FILE --out OUT",
        "eval score FILE --out OUT",
        "eval run humaneval --source FILE --model ./absent --out OUT",
        "eval report FILE --out OUT.html",
        "eval export humaneval FILE --format human-eval --out OUT",
        "eval kolmogorov score FILE",
        "data plain FILE --out OUT --workers 1",
        "cogex search FILE --model ./absent --out OUT",
        "sqlnet train asked.jsonl FILE --out OUT",
        "sqlnet plans FILE --databases . --out OUT",
    ],
    ".npz": ["sqlnet train asked.jsonl tables.jsonl --vectors FILE --out OUT"],
    ".csv": ["sqlnet ask FILE who?"],
    ".yaml": [
        "finetune FILE",
        "finetune FILE --plan",
        "eval run file:FILE --model ./absent --out OUT",
        "eval check file:FILE",
        "eval lm-eval file:FILE --out OUT",
        "eval matrix FILE --out OUT",
        "sqlnet ask shop.db who? --layer FILE",
    ],
    ".json": ["eval import humaneval FILE --out OUT"],
    ".db": ["sqlnet describe FILE --out OUT"],
    ".py": ["cogex run FILE x --model ./absent"],
}
TEXTS = ("a number", "null", "cut off", "other types", "not a number", "a page")
# What fits its command after all.
FITS = {
    ("eval export humaneval FILE --format human-eval --out OUT", "empty"),
    ("sqlnet ask shop.db who? --layer FILE", "empty"),
    ("sqlnet describe FILE --out OUT", "empty"),
    ("eval kolmogorov score FILE", "empty"),
    # A row of text without an answer to the question, which is no error.
    *(("sqlnet ask FILE who?", name) for name in TEXTS),
}


@pytest.mark.parametrize(
    ("ending", "command"),
    [(e, command) for e, commands in COMMANDS.items() for command in commands],
)
def test_one_line_for_whatever_a_file_holds(
    ending: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codegen: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    sqlite_file(Path("shop.db"), "CREATE TABLE people (name TEXT)")
    asked = {"question": "who?", "table_id": "1", "sql": {"sel": 0, "agg": 0, "conds": []}}
    Path("asked.jsonl").write_text(json.dumps(asked) + "\n")
    Path("tables.jsonl").write_text('{"id": "1", "header": ["a"], "types": ["text"]}\n')
    (tmp_path / f"folder{ending}").mkdir()
    (tmp_path / f"loop{ending}").symlink_to(f"loop{ending}")
    files = {"a folder": f"folder{ending}", "a loop": f"loop{ending}", "absent": f"no{ending}"}
    for number, (name, content) in enumerate(CONTENTS.items()):
        files[name] = f"{number}{ending}"
        (tmp_path / files[name]).write_bytes(content)
    for name, file in files.items():
        if (command, name) in FITS:
            continue
        words = command.replace("FILE", file).replace("OUT", f"out-{file}").split()
        code, _, error = codegen(*words)
        lines = [line for line in error.splitlines() if "Error" in line]
        assert code in (1, 2), (name, code, error)
        assert len(lines) == 1, (name, error)
        assert "bug in codegen" not in error, (name, error)
        assert len(lines[0]) < 1000 and "codegen-plan-" not in error, (name, error)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sqlnet eval empty.jsonl tables.jsonl", "empty.jsonl has no questions"),
        ("sqlnet plans asked.jsonl --databases absent --out o", "absent is not a directory"),
        ("sqlnet plans asked.jsonl --databases . --out o", "no database"),
        ("sqlnet train a b --out o --seed -1", "--seed"),
        ("sqlnet train asked.jsonl empty.jsonl --out o", "empty.jsonl contains no tables"),
        ("sqlnet plans empty.jsonl --databases . --out o", "No questions in empty.jsonl"),
    ],
)
def test_nothing_is_no_result(
    command: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codegen: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("tables.jsonl").write_text('{"id": "1", "header": ["a"], "types": ["text"]}\n')
    Path("asked.jsonl").write_text('{"db_id": "x", "question": "who?", "query": "SELECT 1"}\n')
    code, _, error = codegen(*command.split())
    assert code in (1, 2) and said in error and not Path("o").exists()


class PanicException(BaseException):
    """As the tokenizers' Rust code raises it, for a regular expression that backtracks too long."""


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        # click takes an EOFError, as of numpy or gzip, for Ctrl-D.
        (EOFError("No data left in file"), "Unexpected end of file: No data left in file."),
        (PanicException("Regex search error:\nretry-limit-in-match over"),
         "retry-limit-in-match over. The model's tokenizer.json"),
        (LookupError("no\nsuch \x1b[2Jthing"),
         "Error: Unexpected LookupError: no such \\x1b[2Jthing (test_mistakes.py:"),
    ],
    ids=["a file ends early", "a library panics", "what nobody foresaw"],
)  # fmt: skip
def test_an_exception_is_one_line(
    raised: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, codegen: Any
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("codegen.cli.CommandGroup.resolve_command", fail)
    monkeypatch.setenv("CODEGEN_TRACEBACK", "")
    code, _, error = codegen("eval", "tasks")
    assert code == 1 and len(error.splitlines()) == 1 and said in error
    if isinstance(raised, LookupError):
        assert "--traceback" in error
        code, _, error = codegen("--traceback", "eval", "tasks")
        assert "Traceback (most recent call last)" in error or code == 1


@pytest.mark.parametrize("option", ["--seed", "--limit"])
def test_numbers_that_nothing_can_hold(option: str, codegen: Any) -> None:
    code, _, error = codegen("data", "whole", "stdlib", "--out", "o", option, "1" + 30 * "0")
    assert code == 2 and "The maximum is 9223372036854775807" in error
