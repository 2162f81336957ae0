"""``--model file.gguf`` in every command that asks a model, with the embedded model's file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.databases import sqlite_file
from tests.processes import lives, wait_for
from tests.selection import some

Codegen = Callable[..., tuple[int, str, str]]
SMALL = ("-o", "engine.context=1024", "-o", "engine.threads=1")


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))


def test_generate_streams_and_takes_options(codegen: Codegen, embedded_gguf: Path) -> None:
    prompt = ("--no-chat", "--prompt", "def add(a, b):\n    return", "--max-new-tokens", 4)
    code, out, err = codegen("generate", "--model", embedded_gguf, *prompt, *SMALL)
    assert (code, err) == (0, "") and out.startswith(" a + b")
    code, out, _ = codegen("generate", "--model", embedded_gguf, *prompt, *SMALL, "-n", 3, "--json")
    samples = json.loads(out)["samples"]
    assert code == 0 and {sample["index"] for sample in samples} == {0, 1, 2}


def test_a_directory_with_one_file_is_that_file(
    codegen: Codegen, embedded_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.gguf").symlink_to(embedded_gguf)
    code, out, _ = codegen("generate", "--model", tmp_path / "model", "--prompt", "Say hi.", *SMALL,
                           "--max-new-tokens", 8, "--json")  # fmt: skip
    assert code == 0 and json.loads(out)["samples"][0]["settings"]["model"] == "m"


@pytest.mark.parametrize(
    ("words", "code", "what"),
    some(
        [
            (["--model", "none.gguf"], 1, "Cannot read none.gguf: No such file"),
            (["--model", "text.gguf"], 1, "text.gguf is not a GGUF file"),
            (["--model", "embedded", "-o", "engine.slots=2"], 2, "slots"),
            (["--model", "{gguf}", "-o", "engine.slots=0"], 2, "slots is 0"),
            (["--model", "{gguf}", "-o", "engine.slot=1"], 2, "Did you mean 'slots'"),
            (["--model", "{gguf}", "--decoder", "suffix"], 2, "which the backend llamacpp"),
            (
                ["--model", "{gguf}", "-o", "lm_infinite=10,100"],
                2,
                "requires --backend transformers",
            ),
            (["--model", "{gguf}", "--backend", "transformers"], 1, "is a GGUF file"),
            (["--model", "{gguf}", "-o", "engine.bits=4"], 2, "bits"),
            (["--model", "embedded", "-o", "engine.bits=5"], 2, "bits is 5"),
            (["--model", "embedded", "-o", "engine.device=nowhere"], 1, "'nowhere' cannot be"),
            (["--model", "org/x", "--backend", "llamacpp"], 1, "'org/x' is not a GGUF file"),
        ],
        3,
    ),
)
def test_mistakes_get_one_line(
    codegen: Codegen,
    embedded_gguf: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    what: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.gguf").write_text("hello")
    given = [word.format(gguf=embedded_gguf) for word in words]
    found, out, err = codegen("generate", "--prompt", "x", *given)
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (found, out, len(lines)) == (code, "", 1) and what in lines[0]
    assert "Traceback" not in err


@pytest.mark.long
def test_a_run_killed_by_sigkill_is_resumed_from_wherever_the_file_is(
    codegen: Codegen, embedded_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    model = tmp_path / "a" / "m.gguf"
    model.symlink_to(embedded_gguf)
    out = tmp_path / "run"
    words = ["eval", "run", "humaneval-short", "--model", str(model), "--out", str(out), *SMALL]
    words += ["--limit", "6", "-o", "batch_size=1", "--max-new-tokens", "40", "--temperature", "0"]
    process = subprocess.Popen([sys.executable, "-m", "codegen", *words], stderr=subprocess.DEVNULL)
    partial = out / "samples.partial.jsonl"
    wait_for(lambda: partial.exists() and partial.stat().st_size)
    child = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = partial.read_text()
    wait_for(lambda: not lives(child))

    (tmp_path / "a").rename(tmp_path / "b")
    words[words.index(str(model))] = str(tmp_path / "b" / "m.gguf")
    assert codegen(*words)[0] == 0
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert len({row["problem_id"] for row in rows}) == 6
    kept = [json.loads(line) for line in before.splitlines()[1:] if line.endswith("}")]
    assert all(row in rows for row in kept if "completion" in row)
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert settings["backend"] == "llamacpp" and len(settings["model_fingerprint"]) == 16
    assert str(tmp_path) not in json.dumps(settings)
    code, _, err = codegen(*words[:-1], "1")  # another temperature
    assert code == 1 and "temperature" in err


def test_generators_of_data_use_the_file(
    codegen: Codegen, embedded_gguf: Path, tmp_path: Path
) -> None:
    rows = [{"instruction": "Add one.", "program": "def f(x):\n    return x + 1\n"}]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["data", "unicode", source, "--mode", "llm", "--llm", embedded_gguf]
    words += ["--max-tokens", 30]
    code, out, err = codegen(*words, "--out", tmp_path / "data", "--json")
    # Whether so small a model's text is kept is not the point.
    assert code in (0, 1) and "Traceback" not in err
    assert json.loads(out)["llm"]["new_answers"] >= 1
    # Again, from another place: all responses are in the cache.
    link = tmp_path / "link.gguf"
    link.symlink_to(embedded_gguf)
    words[words.index(embedded_gguf)] = link
    _, out, _ = codegen(*words, "--out", tmp_path / "again", "--json")
    assert json.loads(out)["llm"]["new_answers"] == 0


@pytest.mark.long
def test_sqlnet_and_cogex_use_the_file(
    codegen: Codegen, embedded_gguf: Path, tmp_path: Path
) -> None:
    database = sqlite_file(tmp_path / "people.db", "CREATE TABLE players (name TEXT, age INT)")
    words = ("sqlnet", "ask", database, "average age per home city", "--llm", embedded_gguf)
    code, out, err = codegen(*words, "--json")
    row = json.loads(out)
    assert row["by"] == "llm" and row["ok"] == (code == 0) and "Traceback" not in err
    program = tmp_path / "p.py"
    program.write_text('def capital(country):\n    return {"answer": lookup(country)}\n')
    code, out, err = codegen(
        "cogex", "run", program, "France", "--model", embedded_gguf, "--instruction",
        "Name the capital.", "--json",
    )  # fmt: skip
    assert code in (0, 1) and json.loads(out) and "Traceback" not in err
