"""A package of a task, a generator, a decoder, a language and a dialect: one short file each."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

HERE = Path(__file__).parent
FILES = ("words.py", "words.jsonl", "scrambled.py", "careful.py", "awk.py", "plain_text.py")
PYPROJECT = (HERE / "pyproject.toml").read_text(encoding="utf-8")
PROGRAM = "def add(x, y):\n    return x + y\n"
ANSWER = f"Here it is:\n\n```python\n{PROGRAM}```\n\nOr:\n\n```\nadd = sum\n```\n"

Codegen = Callable[..., subprocess.CompletedProcess[str]]


def environment_with(packages: str) -> dict[str, str]:
    """The environment, with the packages of a folder before the installed ones."""
    path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def codegen_with(packages: str, folder: Path) -> Codegen:
    """The command, in a folder, with the packages of another folder beside the installed ones."""
    environment = environment_with(packages)
    command = str(Path(sys.executable).with_name("codegen"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture(scope="module")
def installed(pip_install: Callable[[str, Mapping[str, str]], str]) -> str:
    """A folder that the package is installed into."""
    files = {f"word_parts/{name}": (HERE / name).read_text(encoding="utf-8") for name in FILES}
    return pip_install(PYPROJECT, {"word_parts/__init__.py": "", **files})


@pytest.fixture
def codegen(installed: str, tmp_path: Path) -> Codegen:
    """The command where the package is installed."""
    return codegen_with(installed, tmp_path)


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON summary of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_each_part_is_one_short_file() -> None:
    for name in FILES:
        assert len((HERE / name).read_text(encoding="utf-8").splitlines()) < 60, name


@pytest.mark.slow
def test_references_of_the_task_pass_and_its_wrong_programs_fail(codegen: Codegen) -> None:
    found = summary(codegen("eval", "check", "words", "--json"))
    assert (found["task"], found["references"], found["passed"]) == ("words", 3, 3)
    assert (found["buggy"], found["rejected"], found["accepted"]) == (4, 4, [])
    listed = codegen("eval", "tasks").stdout.splitlines()
    assert [line.split() for line in listed if line.startswith("words")] == [
        ["words", "small", "questions", "about", "words"]
    ]


@pytest.mark.slow
def test_the_task_as_a_yaml_file(codegen: Codegen) -> None:
    found = summary(codegen("eval", "check", f"file:{HERE / 'words.yaml'}", "--json"))
    assert (found["references"], found["passed"]) == (3, 3)
    assert (found["buggy"], found["rejected"]) == (3, 3)


@pytest.mark.slow
def test_a_model_answers_the_task(codegen: Codegen, tiny_model_dir: Path, tmp_path: Path) -> None:
    model = ["--model", str(tiny_model_dir), "--max-new-tokens", "4"]
    run = codegen("eval", "run", "words", *model, "--out", "run")
    assert run.returncode == 0, run.stderr
    scored = codegen("eval", "score", "run", "--task", "words", "--out", "scores")
    assert scored.returncode == 0, scored.stderr
    lines = (tmp_path / "run" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    asked = {row["problem_id"]: row["prompt"] for row in map(json.loads, lines)}
    assert sorted(asked) == ["words/backwards", "words/first_twice", "words/vowels"]
    assert asked["words/vowels"].startswith("def vowels(word):")


@pytest.mark.slow
def test_texts_of_the_generator(codegen: Codegen, tmp_path: Path) -> None:
    programs = {"whole": "a = 1\nb = a\nc = b\n", "one": "a = 1\n", "long": "a = 1\nb = 2\n" * 3}
    rows = [{"id": i, "instruction": "Do.", "program": text} for i, text in programs.items()]
    source = "".join(f"{json.dumps(row)}\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(source, encoding="utf-8")
    made = ["data", "scrambled", "rows.jsonl", "-o", "most_lines=5", "--json"]
    found = summary(codegen(*made, "--out", "data", "--workers", "1"))
    assert found["counts"] == {
        "inputs": 3,
        "kept": 1,
        "skipped": {"nothing_to_order": 1, "too_many_lines": 1},
        "failed": {},
    }
    (line,) = (tmp_path / "data" / "data-00000.jsonl").read_text(encoding="utf-8").splitlines()
    text = json.loads(line)
    prompt, answer = (segment["text"] for segment in text["segments"])
    assert [segment["train"] for segment in text["segments"]] == [False, True]
    shown = dict(row.split(": ") for row in prompt.splitlines() if row[:1].isdigit())
    numbers, program = answer.split("\n", 1)
    assert [shown[number] for number in numbers.split()] == program.splitlines()
    assert program == programs["whole"]
    summary(codegen(*made, "--out", "again", "--workers", "2"))
    same = (tmp_path / "again" / "data-00000.jsonl").read_text(encoding="utf-8")
    assert same == line + "\n"


@pytest.mark.slow
def test_a_wrong_option_of_the_generator_is_one_line(codegen: Codegen, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"instruction": "", "program": "a"}\n', encoding="utf-8")
    for option, complaint in {
        "most_lines=few": "option most_lines is 'few'",
        "most_lins=2": "Did you mean 'most_lines'?",
        "name=z": "unknown option 'name'",
    }.items():
        made = codegen("data", "scrambled", "rows.jsonl", "--out", "data", "-o", option)
        assert made.returncode == 2
        (line,) = made.stderr.splitlines()
        assert complaint in line


@pytest.mark.long
def test_the_strategy_leaves_only_the_best_token(codegen: Codegen, tiny_model_dir: Path) -> None:
    asked = ["generate", "--model", str(tiny_model_dir), "--no-chat", "--prompt", "def f(x):"]

    def text(*more: str) -> str:
        (sample,) = summary(codegen(*asked, "--max-new-tokens", "12", "--json", *more))["samples"]
        return sample["completion"]

    greedy = text()
    hot = ["--temperature", "5", "--seed", "2"]
    assert text(*hot) != greedy
    assert text(*hot, "--decoder", "first_block+min_p", "-o", "share=1") == greedy
    assert text(*hot, "--decoder", "first_block+min_p", "-o", "share=0.000001") != greedy


class Server(ThreadingHTTPServer):
    """A server of a model that always gives the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Answers a request for a chat completion."""
            self.rfile.read(int(self.headers["Content-Length"]))
            message = {"role": "assistant", "content": ANSWER}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            body = json.dumps({"object": "chat.completion", "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps quiet."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of the server."""
    with Server(("127.0.0.1", 0), Server.Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.mark.slow
def test_the_reader_takes_the_first_block(codegen: Codegen, endpoint: str) -> None:
    asked = ["generate", "--backend", "openai", "--endpoint", endpoint, "--model", "m", "--chat"]
    asked += ["--prompt", "Add.", "--json", "--decoder"]
    (sample,) = summary(codegen(*asked, "first_block"))["samples"]
    assert sample["completion"] == PROGRAM
    assert sample["actions"] == ANSWER
    assert sample["meta"]["blocks"] == 2
    refused = codegen(*asked, "first_block+min_p")  # a server can't run a strategy
    assert refused.returncode != 0
    assert "'first_block+min_p' requires the decoding loop" in refused.stderr


SUMS = """
from codegen.sandbox import Job, Sandbox

test = "BEGIN { if (add(1, 2) != 3) exit 1 }"
with Sandbox(workers=1, languages=["awk"]) as sandbox:
    for sum in ("a + b", "a - b", "a +"):
        program = "function add(a, b) { return " + sum + " }"
        job = Job(program, test=test, mode="in_sandbox", language="awk")
        print(sandbox.run(job).status)
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("mawk"), reason="mawk is not installed")
def test_programs_in_the_language(installed: str) -> None:
    command, environment = [sys.executable, "-c", SUMS], environment_with(installed)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["passed", "exited", "error"], done.stderr


@pytest.fixture
def served(installed: str, tiny_model_dir: Path, tmp_path: Path) -> Iterator[str]:
    """The address of ``codegen serve http`` where the package is installed."""
    command = [Path(sys.executable).with_name("codegen"), "serve", "http", "--port", "0"]
    command += ["--model", tiny_model_dir, "--token-file", tmp_path / "token"]
    environment = environment_with(installed)
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        found = (re.search(r"http://127\.0\.0\.1:[0-9]+", line) for line in server.stderr)
        yield next(filter(None, found))[0]
        server.terminate()


@pytest.mark.slow
def test_a_client_of_the_dialect(served: str, tmp_path: Path) -> None:
    token = (tmp_path / "token").read_text(encoding="utf-8").strip()

    def post(query: str, token: str = token) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{served}/plain?{query}"
        return httpx.post(url, content="def f(value):\n    return ", headers=headers, timeout=60)

    answer = post("tokens=8")
    assert answer.status_code == 200 and answer.text == post("tokens=8").text
    assert len(post("").text) > len(answer.text) > 0
    assert [post("tokens=0").status_code, post("", "x").status_code] == [400, 401]
