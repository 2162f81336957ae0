"""``codegen cogex search`` and ``run`` with a scripted server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cogex_helpers import PLURAL
from openai_server import Model, Reply, completion, serving

from tests.processes import run, wait_for

SORT = "def sort_words(words):\n    return {{'answer': ' '.join(sorted(words))}}"
BAD = "def first_word(words):\n    return {{'answer': words[0]}}"


def emulate(body: dict[str, Any]) -> Reply:
    """Writes one of two programs; emulates one rightly, the other wrongly."""
    text = body["messages"][0]["content"]
    input = text.rpartition("### Input\n")[2].partition("\n")[0]
    if not text.endswith(">>>"):
        program = SORT if len(input) % 2 else BAD
        return completion("### Code\n" + program.format() + "\n\n>>> call()")
    words = input.removeprefix("List: ").split()
    right = "def sort_words" in text
    answer = " ".join(sorted(words)) if right else words[0]
    name = "sort_words" if right else "first_word"
    return completion(f" {name}({words!r})\n### Output\n{{'answer': {answer!r}}}")


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server() -> Iterator[Model]:
    with serving(emulate) as model:
        yield model


@pytest.fixture
def call(codegen: Command) -> Command:
    return partial(codegen, "cogex")


def searching(server: Model, *more: str) -> list[str]:
    return ["search", "word_sorting", "--endpoint", server.url, "--model", "m", "--budget", "40",
            "--test", "5", *more]  # fmt: skip


def test_search_then_run(tmp_path: Path, server: Model, call: Command) -> None:
    code, out, _ = call(*searching(server))
    assert code == 0
    assert re.search(r"^ +1 +1\.000 .* sort_words", out, re.MULTILINE)
    assert "On 5 other problems: best program 1.000" in out
    again = f"codegen cogex run runs/cogex/word_sorting INPUT --endpoint {server.url} --model m\n"
    assert out.endswith(f"Use it with: {again}")
    folder = tmp_path / "runs" / "cogex" / "word_sorting"
    assert (folder / "program-1.py").read_text() == SORT.format() + "\n"
    asked = len(server.bodies)
    code, out, err = call(*searching(server, "--json"))  # again: nothing is asked
    summary = json.loads(out)
    assert code == 0 and len(server.bodies) == asked and "Resuming" in err
    assert summary["programs"][0]["name"] == "sort_words"
    assert summary["emulations"] <= 0.2 * summary["emulations_full"] + 2
    code, out, _ = call("run", str(folder), "List: fig date apple", "--endpoint", server.url,
                        "--model", "m", "--mode", "hybrid")  # fmt: skip
    assert code == 0
    assert ">>> sort_words(['fig', 'date', 'apple'])" in out
    assert "answer: 'apple date fig'" in out


def test_other_settings_are_refused(server: Model, call: Command) -> None:
    call(*searching(server))
    code, _, err = call(*searching(server, "-o", "seed=1"))
    assert code == 1 and "Changed: seed from 0 to 1." in err
    assert "--out" in err


def test_every_candidate_fails(tmp_path: Path, server: Model, call: Command) -> None:
    server.answer = lambda _: completion("I can not write code.")
    code, out, _ = call(*searching(server, "-o", "tries=2"))
    assert code == 1
    assert (
        "broke a rule: syntax_error" in out
        and "  syntax_error: line 1: invalid syntax" in out
        and "there is no ranking" in out
        and "codegen finetune cogex" in out.splitlines()[-1]
    )
    lines = (tmp_path / "runs/cogex/word_sorting/log.jsonl").read_text().splitlines()
    assert all(json.loads(line)["program"] == "I can not write code." for line in lines)
    code, out, _ = call(*searching(server, "-o", "tries=2", "--json"))
    assert code == 1 and json.loads(out)["ok"] is False
    code, _, err = call("run", "runs/cogex/word_sorting", "x", "--endpoint", server.url)
    assert code == 1 and "found no program" in err


def test_a_ranking_without_correct_answers_advises_training(server: Model, call: Command) -> None:
    wrong = "def f(x):\n    return {'answer': 'none'}\n\n>>> f('a')\n### Output\n{'answer': 'none'}"
    server.answer = lambda _: completion(wrong)
    for options, advice in (((), "codegen finetune cogex"), (("-o", "shots=0"), "more records")):
        _, out, _ = call(*searching(server, *options, "--out", f"runs/{len(options)}"))
        assert "No program solved any problem" in out and "Use it with" not in out
        assert advice in out.splitlines()[-1]


@pytest.mark.slow
def test_a_killed_search_goes_on(tmp_path: Path, server: Model) -> None:
    def slowly(body: dict[str, Any]) -> Reply:
        reply = emulate(body)
        reply.delay_s = 0.1
        return reply

    server.answer = slowly
    options = searching(server, "-o", "batch_size=2", "--out", str(tmp_path / "s"), "--json")
    command = [sys.executable, "-m", "codegen", "cogex", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(server.bodies) >= 14)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = run(*command, check=True)
    assert "Resuming after" in done.stderr
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    assert len(prompts) - len(set(prompts)) <= 2  # what was in flight


@pytest.mark.slow
@pytest.mark.parametrize("shots", ["0", "2"])
def test_a_local_model(tiny_model_dir: Path, call: Command, shots: str) -> None:
    """A random model writes no program; with records before it, the prompt is too long for it."""
    code, out, _ = call("search", "coin_flip", "--model", str(tiny_model_dir), "--budget", "4",
                        "-o", "tries=2", "-o", f"shots={shots}", "--json")  # fmt: skip
    summary = json.loads(out)
    assert code == 1 and not summary["programs"]
    assert ("not_asked" in summary["rejected"]) == (shots == "2")
    assert sum(summary["rejected"].values()) == 6
    assert shots == "0" or "512" in summary["examples"]["not_asked"]


def test_run_a_file(tmp_path: Path, server: Model, call: Command) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        text = body["messages"][0]["content"]
        if "def use_choose_ending" in text:
            return completion("{'answer': 'es'}")
        return completion(" pluralize('bôx')\n### Output\n{'ending': 's', 'answer': 'bôxs'}")

    server.answer = answer
    path = tmp_path / "plural.py"
    path.write_text(PLURAL, encoding="utf-8")
    options = ["--endpoint", server.url, "--model", "m", "--mode", "hybrid", "--json"]
    code, out, _ = call("run", str(path), "bôx", *options)
    summary = json.loads(out)
    assert code == 0 and summary["output"] == {"ending": "s", "answer": "bôxs"}
    assert summary["hybrid"]["output"] == {"ending": "es", "answer": "bôxes"}
    assert summary["hybrid"]["leaves"] == [{"call": "choose_ending('bôx')", "value": "es"}]
    code, out, _ = call("run", str(path), "bôx", *options[:-1])
    assert "the model: choose_ending('bôx') returns 'es'" in out and "answer: 'bôxes'" in out
    assert "ending: 's'   (differs from the partial run)" in out


def test_a_new_program(server: Model, call: Command) -> None:
    text = "### Code\n" + SORT.format() + "\n\n>>> sort_words(['b', 'a'])\n### Output\n"
    server.answer = lambda _: completion(text + "{'answer': 'a b'}")
    options = ["--endpoint", server.url, "--model", "m", "--instruction", "Sort."]
    code, out, _ = call("run", "new", "b a", *options, "--mode", "hybrid")
    assert code == 0 and out.startswith(SORT.format() + "\n\n>>> sort_words(['b', 'a'])\n")
    assert "answer: 'a b'" in out
    code, _, err = call("run", "new", "b a", *options[:-2])
    assert code == 2 and "--instruction" in err
    server.answer = lambda _: completion("No.")
    code, out, _ = call("run", "new", "c d", *options)
    assert code == 1 and "no answer: no_output" in out
    code, _, err = call("run", "new", "c d", *options, "--mode", "hybrid")
    assert code == 1 and "The model's response is not a pseudo-program" in err


@pytest.mark.parametrize(
    ("args", "said", "code"),
    [
        (["search", "word_sortin"], "Did you mean 'word_sorting'", 2),
        (["search", "none.jsonl"], "No such file", 1),
        (["search", "rows.jsonl"], "--instruction", 2),
        (["search", "word_sorting", "-o", "candidates=9", "-o", "items=5"], "Raise -o items", 2),
        (["search", "word_sorting", "-o", "threshold=0.5"], "--method full", 2),
        (["search", "word_sorting", "--model", "./none"], "no model directory", 1),
        (["search", "word_sorting", "--endpoint", "nonsense"], "http", 2),
        (["run", "none.py", "x"], "Cannot read none.py", 1),
        (["run", "rows.jsonl", "x"], "not a pseudo-program (", 1),
        (["run", "image.bin", "x"], "UTF-8", 1),
        (["runn"], "Did you mean 'run'", 2),
    ],
)
def test_mistakes(tmp_path: Path, call: Command, args: list[str], said: str, code: int) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "answer": "b"}\n')
    (tmp_path / "image.bin").write_bytes(b"\xff\xfe\x00")
    got, _, err = call(*args)
    assert (got, said in err) == (code, True), err
