"""Commands over a server: names, resuming by sample, failures, limits, and where the key goes."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion, error, serving, sse

from tests.processes import wait_for

Codegen = Callable[..., tuple[int, str, str]]
KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CODEGEN_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.chdir(tmp_path)


def numbered(body: dict[str, Any]) -> Reply:
    """A program that depends on the request alone."""
    return completion(f"    return {body['seed'] % 1000}\n", chat="messages" in body)


@pytest.fixture
def server() -> Iterator[Model]:
    with serving(numbered) as model:
        yield model


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Five problems, the fourth with a prompt of its own."""
    path = tmp_path / "task.jsonl"
    problems = [
        {
            "task_id": f"t/{number}", "prompt": f"def one{number}():\n",
            "entry_point": f"one{number}", "canonical_solution": "    return 1\n",
            "test": "def check(candidate):\n    assert candidate() == 1\n",
        }
        for number in range(5)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
    return path


def sampling(task: Path, *more: object, out: str = "run") -> list[object]:
    return ["eval", "run", "humaneval", "--source", task, "--style", "continue", "-n", "2",
            "--out", out, "--json", *more]  # fmt: skip


def at(server: Model, *more: object) -> list[object]:
    return ["--endpoint", server.url, "--model", "m", *more]


# Names


def test_a_name_is_all_that_a_command_needs(
    codegen: Codegen, server: Model, task: Path, tmp_path: Path
) -> None:
    code, out, _ = codegen(
        "models", "add", "local", "--url", server.url, "--model", "m", "--api-key-env", "MY_KEY",
        "-o", "price_in=1", "-o", "price_out=2", "--text", "--concurrency", "3", "--json",
    )  # fmt: skip
    assert code == 0 and json.loads(out) == {
        "file": str(tmp_path / "config" / "models.toml"),
        "name": "local",
    }
    code, out, _ = codegen("generate", "--model", "local", "--prompt", "def f():", "--json")
    summary = json.loads(out)
    assert code == 0 and summary["llm"] == {
        "new_answers": 1, "retries": 0,
        "prompt_tokens": 7, "completion_tokens": 5, "cost_micros": 17,
    }  # fmt: skip
    assert server.paths == ["/v1/completions"]  # --text
    code, out, err = codegen(*sampling(task, "--model", "local"))
    assert code == 0 and json.loads(out)["llm"]["cost_micros"] == 170, err
    stated = json.loads(Path("run/run.json").read_text())
    assert stated["settings"]["model"] == "m" and stated["settings"]["backend"] == "openai"
    assert stated["about"]["endpoint"] == server.url
    before = len(server.bodies)
    rows = Path("rows.jsonl")
    rows.write_text(json.dumps({"instruction": "Add.", "program": "def f():\n    return 1\n"}))
    for option in ("--llm", "--model"):
        code, out, err = codegen(
            "data", "unicode", rows, "--mode", "llm", option, "local", "--out", f"d{option}",
            "--workers", 1, "--json", "--cache", "",
        )  # fmt: skip
        assert code == 0 and json.loads(out)["llm"]["new_answers"] > 0, err
    code, _, err = codegen(
        "cogex", "run", "new", "1 2", "--instruction", "Add.", "--model", "local"
    )
    assert "New responses: 1 " in err
    assert len(server.bodies) >= before + 3
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert {body["model"] for body in server.bodies} == {"m"}


def test_an_explicit_back_end_goes_before_a_name(codegen: Codegen, server: Model) -> None:
    codegen("models", "add", "local", "--url", server.url)
    arguments = ("generate", "--model", "local", "--prompt", "x")
    code, _, err = codegen(*arguments, "--backend", "transformers")
    assert code == 1 and "local" in err and not server.bodies
    assert codegen(*arguments, "--backend", "openai")[0] == 0
    assert server.bodies[0]["model"] == "local"


def test_without_a_name_the_only_model_is_called(codegen: Codegen, server: Model) -> None:
    command = ("generate", "--prompt", "x", "--endpoint", server.url)
    listing = Reply({"data": [{"id": "theirs"}]})
    for reply, code, words in (
        (Reply({"data": [{"id": "a"}, {"id": "b"}]}), 2, "has several: a, b. Choose one with"),
        (Reply({"data": []}), 2, "lists none. Choose one with --model"),
        (None, 2, "lists none: HTTP 404.* Choose one with --model"),
        (Reply(raw=b"<html>", status=501), 2, "a web page. Check --endpoint"),
        (listing, 0, ""),
    ):
        server.listing = reply
        found, _, err = codegen(*command)
        assert found == code and re.search(words, err), err
    with serving(numbered) as other:
        other.listing = listing
        codegen("generate", "--prompt", "x", "--endpoint", other.url)
        assert [body["model"] for body in other.bodies + server.bodies] == ["theirs"] * 2


def test_names_in_the_place_of_others(codegen: Codegen, server: Model) -> None:
    codegen("models", "add", "mine", "--url", server.url)
    for command in (
        ("generate", "--prompt", "x", "--model", "mien"),
        ("eval", "run", "humaneval", "--model", "mien", "--out", "r"),
        ("data", "unicode", "stdlib", "--mode", "llm", "--llm", "mien", "--out", "d"),
        ("serve", "http", "--model", "mien"),
        ("serve", "http", "--upstream", "mien"),
    ):
        code, _, err = codegen(*command)
        assert code in (1, 2) and "Did you mean 'mine'?" in err, err
    code, _, err = codegen("serve", "http", "--model", "mine")
    assert code == 2 and "--upstream mine" in err
    code, _, err = codegen("generate", "--prompt", "x", "--endpoint", "mine")
    assert code == 2 and "'mine' is the name of an endpoint" in err and "--model mine" in err


# Resuming by sample


def test_kill_9_loses_no_sample(server: Model, task: Path, tmp_path: Path) -> None:
    """The journal alone resumes: there is no cache of responses."""
    command = [sys.executable, "-m", "codegen"]
    command += map(str, sampling(task, *at(server, "--cache", "", "--concurrency", "2")))
    gate, sent = threading.Semaphore(0), threading.Event()

    def held(body: dict[str, Any]) -> Reply:
        if len(server.bodies) > 5:
            sent.set()
            gate.acquire(timeout=30)
        return numbered(body)

    server.answer = held
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert sent.wait(60)
        partial = Path("run/samples.partial.jsonl")
        # Five answers are kept, and both requests that remain in flight have arrived.
        wait_for(lambda: partial.read_bytes().count(b"\n") >= 5 and len(server.bodies) >= 7)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    gate.release(9)
    assert not Path("run/samples.jsonl").exists()
    kept = partial.read_bytes().splitlines()
    assert len(kept) == 5
    server.answer, before = numbered, len(server.bodies)
    subprocess.run(command, check=True, capture_output=True)
    assert len(server.bodies) == before + 5  # none of those kept is requested again
    with serving(numbered) as other:
        command[command.index(server.url)] = other.url
        command[command.index("run", command.index("--out"))] = "whole"
        subprocess.run(command, check=True, capture_output=True)
    whole = Path("whole/samples.jsonl").read_bytes()
    assert Path("run/samples.jsonl").read_bytes() == whole and set(kept) <= set(whole.splitlines())
    assert sorted(p.name for p in Path("run").iterdir()) == ["run.json", "samples.jsonl"]


def test_a_failed_request_is_no_wrong_answer_and_is_repeated(
    codegen: Codegen, server: Model, task: Path
) -> None:
    def picky(body: dict[str, Any]) -> Reply:
        bad = "one3" in body["prompt"]
        return (
            error(400, "context length exceeded")
            if bad
            else completion("    return 1\n", chat=False)
        )

    server.answer = picky
    code, out, err = codegen(*sampling(task, *at(server)))
    summary = json.loads(out)
    assert code == 1 and (summary["ok"], summary["samples"]) == (False, 8)
    ((reason, count),) = summary["failed"].items()
    assert count == 2 and "context length exceeded" in reason and "The run is incomplete" in err
    rows = [json.loads(line) for line in Path("run/failed.jsonl").read_text().splitlines()]
    assert {(row["problem_id"], row["index"]) for row in rows} == {("t/3", 0), ("t/3", 1)}
    assert not Path("run/samples.jsonl").exists()
    # The score has the others, and says that it is incomplete.
    score = ("eval", "score", "run", "--task", "humaneval", "--source", task, "--out", "run",
             "-o", "unsafe_local=true", "--json")  # fmt: skip
    code, out, err = codegen(*score)
    scored = json.loads(out)
    assert code == 1 and not scored["complete"], err
    assert scored["statuses"] == {"passed": 8, "infra_error": 2}
    assert scored["estimates"]["1"]["value"] == 1.0
    # Run again: those two alone.
    server.answer = lambda _: completion("    return 1\n", chat=False)
    before = len(server.bodies)
    code, out, err = codegen(*sampling(task, *at(server)))
    assert code == 0 and len(server.bodies) == before + 2, err
    assert len(Path("run/samples.jsonl").read_text().splitlines()) == 10
    assert not Path("run/failed.jsonl").exists()
    code, out, _ = codegen(*score)
    assert code == 0 and json.loads(out)["statuses"] == {"passed": 10}


def test_a_run_stops_at_the_cost_limit_and_resumes(
    codegen: Codegen, server: Model, task: Path
) -> None:
    priced = ("-o", "price_in=1", "-o", "price_out=1", "--concurrency", "1", "--cache", "")
    code, _, err = codegen(*sampling(task, *at(server, *priced, "--max-cost", "0.00003")))
    assert code == 1 and "The cost limit of 3e-05 is reached" in err
    assert "New responses: 3 " in err and len(server.bodies) == 3  # 12 millionths each
    assert len(Path("run/samples.partial.jsonl").read_text().splitlines()) == 3
    code, _, err = codegen("eval", "score", "run", "--out", "run")
    assert code == 1 and "The run in run is not finished" in err
    code, _, err = codegen(*sampling(task, *at(server, *priced)))
    assert code == 0 and len(server.bodies) == 10, err


def test_a_run_without_a_sample_is_not_scored(codegen: Codegen) -> None:
    Path("run").mkdir()
    Path("run/samples.partial.jsonl").touch()
    Path("run/failed.jsonl").write_text('{"problem_id": "t/1", "index": 0, "reason": "busy"}\n')
    code, _, err = codegen("eval", "score", "run")
    assert code == 1 and "The run in run is not finished" in err


def test_data_stops_at_the_cost_limit_and_resumes(codegen: Codegen, server: Model) -> None:
    server.answer = lambda _: completion("1. Return one.")
    lines = [
        json.dumps({"id": f"e{i}", "instruction": f"Do {i}.", "program": "x = 1"}) for i in range(6)
    ]
    Path("rows.jsonl").write_text("\n".join(lines))
    command = ["data", "unicode", "rows.jsonl", "--mode", "llm", "--out", "d", "--json",
               "-o", "price_in=1", "--concurrency", "1"]  # fmt: skip
    code, _, err = codegen(*command, *at(server, "--max-cost", "0.00002"))
    assert code == 1 and "The cost limit of 2e-05 is reached" in err
    assert len(server.bodies) == 3  # 7 millionths each
    code, out, err = codegen(*command, *at(server))
    assert code == 0 and json.loads(out)["llm"]["new_answers"] == 3, err
    assert len(server.bodies) == 6
    code, _, err = codegen(*command, *at(server, "--max-cost", "1", "--workers", "2"))
    assert code == 2 and "--max-cost requires one process" in err


def test_a_server_may_move_but_not_the_model(codegen: Codegen, server: Model, task: Path) -> None:
    server.script = [numbered({"seed": 1}), error(401, "key expired")]
    code, _, err = codegen(*sampling(task, *at(server, "--concurrency", "1", "--cache", "")))
    assert code == 2 and "key expired" in err
    with serving(numbered) as other:
        code, _, err = codegen(*sampling(task, *at(other, "--model", "n", "--cache", "")))
        assert code == 1 and 'model from "m" to "n"' in err
        code, _, err = codegen(*sampling(task, *at(other, "--cache", "")))
        assert code == 0 and len(other.bodies) == 9, err


def test_responses_are_paid_once(codegen: Codegen, server: Model, task: Path) -> None:
    assert codegen(*sampling(task, *at(server)))[0] == 0
    code, out, _ = codegen(*sampling(task, *at(server), out="again"))
    assert code == 0 and len(server.bodies) == 10 and json.loads(out)["llm"]["new_answers"] == 0
    code, _, err = codegen("generate", *at(server), "--prompt", "x")
    assert "New responses: 1 " in err
    code, _, err = codegen("generate", *at(server), "--prompt", "x")
    assert "All responses (1) came from the cache" in err and "New responses" not in err
    first, again = (Path(name, "samples.jsonl").read_bytes() for name in ("run", "again"))
    assert first == again  # the server's usage included
    assert json.loads(first.splitlines()[0])["meta"]["usage"]["total_tokens"] == 12


# What goes wrong: one line each


@pytest.mark.parametrize(
    ("reply", "code", "words"),
    [
        (error(429, "slow down", Retry_After="1000"), 2, "slow down.*Lower --concurrency"),
        (error(429, "slow down", retry_after_ms="999999999"), 2, "slow down"),
        (error(500, "no GPU"), 1, "HTTP 500: no GPU"),
        (error(503, "loading"), 1, "HTTP 503: loading"),
        (Reply(cut=True), 1, "no connection"),
        (Reply(raw=b'{"choices": ['), 1, "not JSON"),
        (Reply(raw=b"<!DOCTYPE html><html>"), 2, "a web page. Check --endpoint"),
        (Reply(raw=b"<html>Unsupported method", status=501), 2,
         "501: its .*a web page. Check --en"),
        (Reply(raw=b"<html>Bad gateway", status=502), 1, "HTTP 502: its response is a web page"),
        (Reply(raw=b"<html>Too large", status=413), 1, "HTTP 413: its response is a web page"),
        (Reply({}, 307, {"Location": "https://else.example/v1"}), 2, "else.example"),
        (error(404, "model m does not exist", "model_not_found"), 2, "does not exist.*--model"),
        (error(401, f"Incorrect API key {KEY}"), 2, r"Incorrect API key \*\*\*.*--api-key-env"),
        (error(400, "unknown field: logprobs"), 1, "unknown field: logprobs"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_faults_are_one_line(
    codegen: Codegen, server: Model, reply: Reply, code: int, words: str, streamed: bool
) -> None:
    server.answer = lambda _: reply
    more = ("--api-key-env", "MY_KEY", "-o", "retries=0", "--prompt", "x")
    found, out, err = codegen("generate", *at(server, *more), *(() if streamed else ("--json",)))
    lines = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (found, out.strip(), len(lines)) == (code, "", 1)
    assert re.search(words, lines[0]) and KEY not in err, lines
    assert "New responses: 0" not in err


def test_a_stream_that_is_cut_says_so(codegen: Codegen, server: Model) -> None:
    cut = sse(["Hello", ", "])
    assert cut.raw
    cut.raw, cut.promise = cut.raw.rpartition(b"data: {")[0].rpartition(b"data: {")[0], 50
    server.answer = lambda _: cut
    code, out, err = codegen("generate", *at(server, "-o", "retries=0"), "--prompt", "x")
    assert code == 1 and out.startswith("Hello, ") and "no connection" in err


# The key


@pytest.mark.slow
def test_the_key_is_in_no_file_and_no_argument_list(
    server: Model, task: Path, tmp_path: Path
) -> None:
    """All commands as processes, the server and its errors repeating the key."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONFAULTHANDLER": "1"}
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "Add.", "program": "def f():\n    return 1\n"}))
    seen: list[bytes] = []

    def nosy(body: dict[str, Any]) -> Reply:
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                seen.append(place.read_bytes())
            except OSError:
                continue
        if len(server.bodies) % 4 == 3:
            return error(400, f"bad request with {KEY}")
        return numbered(body)

    server.answer = nosy
    keyed = at(server, "--api-key-env", "MY_KEY", "-o", "retries=0")
    commands: list[list[object]] = [
        ["models", "add", "local", "--url", server.url, "--model", "m", "--api-key-env", "MY_KEY"],
        ["models", "test", "local"],
        ["models", "list"],
        ["generate", "--prompt", "x", *keyed],
        ["generate", "--prompt", "x", "--model", "local", "-n", "3", "--json"],
        sampling(task, *keyed),
        sampling(task, "--model", "local", out="second"),
        ["data", "unicode", rows, "--mode", "llm", *keyed, "--out", "data", "--workers", "1"],
        ["data", "cogex", rows, "--mode", "llm", "--llm", "local", "--out", "cogex",
         "--program-column", "program", "--workers", "1"],
        ["cogex", "run", "new", "1 2", "--instruction", "Add.", "--model", "local"],
    ]  # fmt: skip
    said = b""
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "codegen", *map(str, command)],
            capture_output=True,
            env=environment,
            cwd=tmp_path,
        )
        assert b"Traceback" not in done.stderr, done.stderr
        said += done.stdout + done.stderr
    assert {headers.get("Authorization") for headers in server.headers} == {f"Bearer {KEY}"}
    assert any(b"--api-key-env" in line for line in seen)  # the commands were there to be seen
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    holding = [str(path) for path in files if KEY.encode() in path.read_bytes()]
    assert not holding and KEY.encode() not in said
    assert not any(KEY.encode() in line for line in seen)


# The documentation


def test_the_blocks_of_the_documentation_are_right(codegen: Codegen, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    lines = [line.split("  #")[0] for line in text.replace("\\\n", " ").splitlines()]
    adding = [shlex.split(line)[1:] for line in lines if line.startswith("codegen models add")]
    assert len(adding) >= 4
    for arguments in adding:
        code, _, err = codegen(*arguments)
        assert code == 0, err
