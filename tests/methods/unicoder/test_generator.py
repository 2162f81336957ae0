"""The UniCode generator, without a model and with a real server."""

from __future__ import annotations

import json
import pickle
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion, error
from unicode_helpers import PROGRAM, example, texts_of, write

from codegen.core.errors import ConfigError
from codegen.data import EngineOptions, MemorySource, open_source, read_rejects, read_texts, run
from codegen.data.engine import config_of
from codegen.generation import LocalModel
from codegen.generation.completion_cache import Prices
from codegen.generation.endpoints import Endpoint
from codegen.generation.request_chains import ModelClient
from codegen.methods.unicoder import STYLES, UniCode, UntranslatableProgram, Unusable, to_unicode
from codegen.methods.unicoder.generator import (
    block,
    checked_comments,
    grade,
    is_python,
    problem_and_solution,
)


def blocks(text: str) -> dict[str, str]:
    return dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


# Mode ast


def test_humaneval_texts_hold_the_program_and_its_faithful_pseudo_code(tmp_path: Path) -> None:
    manifest = run(UniCode(), open_source("humaneval"), tmp_path / "out", workers=1)
    programs = {item.id: item.program for item in open_source("humaneval")}  # type: ignore[union-attr]
    assert manifest.counts == {"inputs": 164, "kept": 164, "skipped": {}, "failed": {}}
    texts = list(read_texts(tmp_path / "out"))
    assert len(texts) == 4 * 164 == len({text.id for text in texts})
    used = set()
    for text in texts:
        prompt, response = text.segments
        assert not prompt.train and response.train
        found = blocks(response.text)
        used.add(text.meta["style"])
        # An example's amounts are told once: on its first text.
        counted = (text.meta.get("nodes", 0) > 0, text.meta.get("uncovered"))
        assert counted == ((True, 0) if text.meta["objective"] == "qa" else (False, None))
        assert text.id == f"{text.example_id}#unicode-{text.meta['objective']}"
        if text.meta["objective"] != "qp":
            assert found["python"].rstrip("\n") == programs[text.example_id].rstrip("\n")
        if text.meta["objective"] in ("qp", "uot"):
            style = STYLES[text.meta["style"]]
            assert found["unicode"] == to_unicode(programs[text.example_id], style).text
    assert used == set(STYLES)


def test_the_texts_do_not_depend_on_chunks_or_workers(tmp_path: Path) -> None:
    made = []
    for number, (workers, chunk_size) in enumerate([(1, 1), (1, 7), (2, 5)]):
        out = tmp_path / str(number)
        options = EngineOptions(chunk_size=chunk_size)
        run(UniCode(), open_source("humaneval"), out, workers=workers, limit=30, options=options)
        made.append((out / "data-00000.jsonl").read_bytes())
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"program": "def f(:\n"}, "syntax_error"),
        ({"language": "rust"}, "not_python"),
        ({"instruction": " \n"}, "no_instruction"),
    ],
)
def test_what_is_skipped(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises((UntranslatableProgram, Unusable)) as caught:
        texts_of(UniCode(), example(**fields))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "gpt"}, "mode 'gpt'"),
        ({"objectives": ("qa", "aq")}, "objective 'aq'"),
        ({"objectives": "qa"}, "must be a sequence"),
        ({"objectives": ()}, "must be a sequence"),
        ({"objectives": ("qa", "qa")}, "must be given once"),
        ({"styles": ("fancy",)}, "style 'fancy'"),
        ({"template": "chatml"}, "template 'chatml'"),
        ({"mode": "llm"}, "needs a model"),
        ({"llm": ModelClient(LocalModel())}, "takes no model"),
        ({"min_score": 4}, "need mode 'llm'"),
        ({"mode": "hybrid", "llm": ModelClient(LocalModel()), "snippets": True}, "need mode 'llm'"),
        ({"mode": "llm", "llm": ModelClient(LocalModel()), "min_score": 6}, "min_score is 6"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        UniCode(**options)
    with pytest.raises(ConfigError, match="max_tokens"):
        ModelClient(LocalModel(), max_tokens=0)


# Modes llm and hybrid, with a server


def asking(model: Model, cache: Path, mode: Any = "llm", **options: Any) -> UniCode:
    endpoint = Endpoint(model.url, "m", concurrency=4, backoff_s=0.01, retries=2)
    prices = options.pop("prices", Prices())
    return UniCode(mode, llm=ModelClient(endpoint, str(cache), prices=prices), **options)


def test_llm_texts(model: Model, tmp_path: Path) -> None:
    generator = asking(model, tmp_path / "c", styles=("begin_end_lower",), prices=Prices(1, 10))
    texts = texts_of(generator, example(language="javascript"))
    assert [text.meta["objective"] for text in texts] == ["qa", "qp", "pa", "uot"]
    assert "```unicode\n// Do 0.\nFUNCTION f(x) {\n}\n```" in texts[3].segments[1].text
    assert "translate it to JavaScript." in texts[3].segments[0].text
    assert texts[0].meta == {
        "objective": "qa",
        "style": "begin_end_lower",
        "llm_model": "m",
        "llm_prompt_tokens": 7,
        "llm_completion_tokens": 5,
        "llm_cost_micros": 57,
    }
    assert texts[1].meta == {"objective": "qp", "style": "begin_end_lower", "llm_model": "m"}
    (prompt,) = model.prompts
    assert "Do 0.\n\nSolution:\n```javascript\n" + PROGRAM in prompt
    assert "between begin and end" in prompt


def test_grades_filter(model: Model, tmp_path: Path) -> None:
    generator = asking(model, tmp_path / "c", min_score=4)
    manifest = run(
        generator, MemorySource(tuple(map(example, range(6)))), tmp_path / "out", workers=1
    )
    assert manifest.counts["kept"] == 5 and manifest.counts["skipped"] == {"low_score": 1}
    assert {text.meta["score"] for text in read_texts(tmp_path / "out")} == {5}
    tokens = [text.meta.get("llm_prompt_tokens") for text in read_texts(tmp_path / "out")]
    assert tokens == [14, None, None, None] * 5
    assert manifest.statistics.totals["llm_prompt_tokens"] == len(model.bodies) * 7 - 14
    assert [row["id"] for row in read_rejects(tmp_path / "out")] == ["e3"]


def test_snippets(model: Model, tmp_path: Path) -> None:
    texts = texts_of(asking(model, tmp_path / "c", snippets=True), example())
    assert texts[0].text == "Invent.\n```python\nx = 1\n```"
    assert len(model.bodies) == 2 and PROGRAM in model.prompts[0]
    model.script = [completion("[Problem]\nInvent.\n[Solution]\n```python\nx = = 1\n```")]
    with pytest.raises(Unusable) as caught:
        texts_of(asking(model, tmp_path / "c", snippets=True), example(1))
    assert caught.value.reason == "bad_solution"


def test_hybrid(model: Model, tmp_path: Path) -> None:
    (plain,) = texts_of(UniCode(objectives=("qp",)), example())
    (text,) = texts_of(asking(model, tmp_path / "c", "hybrid", objectives=("qp",)), example())
    code = blocks(text.segments[1].text)["unicode"]
    assert code.removeprefix("// What Do 0. needs.\n") == blocks(plain.segments[1].text)["unicode"]
    assert text.meta["nodes"] == plain.meta["nodes"] and text.meta["llm_completion_tokens"] == 5


def test_every_input_is_counted_whatever_the_model_answers(model: Model, tmp_path: Path) -> None:
    replies = {
        0: completion("FUNCTION g() {\n}"),
        1: completion(None),
        2: completion("", "length"),
        3: completion("", "content_filter"),
        4: error(400, "context length exceeded"),
        5: error(500, "always"),
        6: Reply(raw=b"\xff\xfe"),
        7: Reply({"choices": []}),
    }

    def answer(body: dict[str, Any]) -> Reply:
        number = int(body["messages"][0]["content"].rsplit("Do ", 1)[1].split(".", 1)[0])
        return replies.get(number) or write(body)

    model.answer = answer
    source = MemorySource(tuple(map(example, range(12))))
    generator = asking(model, tmp_path / "c", "hybrid")
    manifest = run(generator, source, tmp_path / "out", workers=1)
    assert manifest.counts == {
        "inputs": 12,
        "kept": 4,
        "skipped": {"content_filter": 1, "skeleton_changed": 2, "truncated": 1},
        "failed": {"RequestFailed": 4},
    }
    details = {row["id"]: row["detail"] for row in read_rejects(tmp_path / "out")}
    assert "context length exceeded" in details["e4"] and "HTTP 500: always" in details["e5"]


def test_answers_that_are_no_universal_code(model: Model, tmp_path: Path) -> None:
    answers = [f"```python\n{PROGRAM}```", "``` \n```", "def g(x):\n    return max(x, 1)\n"]
    model.script = [completion(answer) for answer in answers]
    reasons = []
    for number in range(3):
        with pytest.raises(Unusable) as caught:
            texts_of(asking(model, tmp_path / "c"), example(), number)
        reasons.append(caught.value.reason)
    assert reasons == ["copied_program", "empty_answer", "executable"]


def test_a_wrong_key_ends_the_run_and_costs_no_example(model: Model, tmp_path: Path) -> None:
    model.answer = lambda _: error(401, "bad key")
    source = MemorySource(tuple(map(example, range(12))))
    generator = asking(model, tmp_path / "c")
    for _ in range(2):
        with pytest.raises(ConfigError, match="bad key"):
            run(generator, source, tmp_path / "out", workers=1)
    model.answer = write
    manifest = run(generator, source, tmp_path / "out", workers=1)
    assert manifest.kept == 12


def test_other_objectives_or_chunks_ask_nothing_new(model: Model, tmp_path: Path) -> None:
    model.answer = lambda body: Reply(write(body).body, delay_s=0.1)
    source = MemorySource(tuple(map(example, range(10))))
    first = asking(model, tmp_path / "c", objectives=("qp",))
    run(first, source, tmp_path / "a", workers=1)
    assert len(model.bodies) == 10 and model.most_in_flight > 1
    second = asking(model, tmp_path / "c")
    run(second, source, tmp_path / "b", workers=1, options=EngineOptions(chunk_size=3))
    run(second, source, tmp_path / "d", workers=2, options=EngineOptions(chunk_size=1))
    assert len(model.bodies) == 10
    files = [(tmp_path / name / "data-00000.jsonl").read_bytes() for name in "bd"]
    assert files[0] == files[1]


def test_the_configuration_is_what_decides_the_texts(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_NAME", "sk-secret")
    secret = Endpoint(model.url, "m", "SECRET_NAME")
    one = UniCode("llm", llm=ModelClient(secret, cache="x", ledger="l"))
    moved = Endpoint("https://elsewhere/v1", "m", concurrency=99, timeout_s=1)
    other = UniCode("llm", llm=ModelClient(moved, cache="y"))
    assert config_of(one) == config_of(other)
    assert "SECRET" not in json.dumps(config_of(one))
    changed = UniCode("llm", llm=ModelClient(Endpoint(model.url, "n")))
    assert config_of(changed) != config_of(one)
    for generator in (one, changed, UniCode()):
        assert pickle.loads(pickle.dumps(generator)) == generator  # noqa: S301 - our own
        hash(generator)


ADD = '''\
def total(values):
    """Sum of the positive values."""
    result = 0
    for value in values:
        if value > 0:
            result += value
    url = "http://x // y"
    return result, url
'''


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("```\na\n  b\n```", "a\n  b"),
        ("Sure!\n\n```unicode\n\nIF (x) {\n}\n\n```\nThat is all. ```no```", "IF (x) {\n}"),
        ("````unicode\n```\na\n```\n````", "```\na\n```"),
        ("~~~\na\n~~~", "a"),
        ("```\nnever closed\n", "never closed"),
        ("no fence\n  at all\n\n", "no fence\n  at all"),
        ("", ""),
        ("```\n```", ""),
    ],
)
def test_block(answer: str, code: str) -> None:
    assert block(answer) == code


@pytest.mark.parametrize(
    ("answer", "score"),
    [("4", 4), (" **5** ", 5), ("Grade: 3.", 3), ("4/5", 4), ("The grade is 2, so 2", 2)],
)
def test_grade(answer: str, score: int) -> None:
    assert grade(answer) == score


@pytest.mark.parametrize("answer", ["", "six", "0", "6", "45", "3 or 4", "4.5", "10/10"])
def test_no_grade(answer: str) -> None:
    with pytest.raises(Unusable) as caught:
        grade(answer)
    assert caught.value.reason == "no_score"


@pytest.mark.parametrize(
    "answer",
    [
        "[Problem]\nAdd one.\n[Solution]\n```python\nx = 1\n```\n",
        "Of course.\n**[Problem]**\nAdd one.\n\n**[Solution]:**\nx = 1",
        "## [problem]: Add one.\n## [solution]\n~~~\nx = 1\n~~~\nDone.",
    ],
)
def test_problem_and_solution(answer: str) -> None:
    problem, solution = problem_and_solution(answer)
    assert (problem.strip("* "), solution) == ("Add one.", "x = 1\n")


@pytest.mark.parametrize(
    "answer",
    ["", "[Problem]\nx", "[Solution]\nx", "[Problem]\n[Solution]\nx", "[Problem]a[Solution]"],
)
def test_a_section_is_missing(answer: str) -> None:
    with pytest.raises(Unusable) as caught:
        problem_and_solution(answer)
    assert caught.value.reason == "no_problem"


@pytest.mark.parametrize("style", STYLES)
def test_universal_code_is_no_python(style: str) -> None:
    assert is_python(ADD) and is_python("import os") and is_python("x: int = 1")
    for text in (to_unicode(ADD, STYLES[style]).text, "PRINT(x)\nx = 1", "", "(" * 5000, "\0"):
        assert not is_python(text)


@pytest.mark.parametrize("style", STYLES)
def test_comments_anywhere_between_lines_are_kept(style: str) -> None:
    skeleton = to_unicode(ADD, STYLES[style])
    lines = skeleton.text.splitlines()
    rng = random.Random(style)
    inside = False
    commented: list[str] = []
    for line in lines:
        if not inside and "*/" not in line and rng.random() < 0.5:
            indent = line[: len(line) - len(line.lstrip())]
            commented += [f"{indent}// Step {len(commented)} of the work.", ""]
        inside = "/*" in line and "*/" not in line
        commented.append(line)
    text = checked_comments(skeleton, "\n".join(commented))
    assert text == "\n".join(commented) + "\n"


@pytest.mark.parametrize("style", STYLES)
def test_any_other_change_is_refused(style: str) -> None:
    skeleton = to_unicode(ADD, STYLES[style])
    good = skeleton.text.splitlines()
    comment = "// A comment."
    for number, line in enumerate(good):
        if not line.strip():
            continue
        changed = [comment, *good[:number], *good[number + 1 :]]
        assert refusal(skeleton, changed) == "skeleton_changed" or line.lstrip().startswith("//")
        for other in (line + " // trailing", line + " x", "  " + line, line.replace("result", "r")):
            if other != line and not line.lstrip().startswith("//"):
                changed = [comment, *good[:number], other, *good[number + 1 :]]
                assert refusal(skeleton, changed) == "skeleton_changed"
    assert refusal(skeleton, [comment, *good, "x = 1"]) == "skeleton_changed"
    assert refusal(skeleton, [comment, *good[::-1]]) == "skeleton_changed"
    assert refusal(skeleton, good) == "no_comments"
    assert refusal(skeleton, ["//", *good]) == "no_comments"
    assert refusal(skeleton, []) == "skeleton_changed"


def refusal(skeleton: Any, lines: Sequence[str]) -> str:
    try:
        checked_comments(skeleton, "\n".join(lines))
    except Unusable as error:
        return error.reason
    return ""


def test_a_comment_line_inside_a_docstring_is_refused() -> None:
    skeleton = to_unicode('def f():\n    """One.\n\n    // Two.\n    """\n    return 1\n')
    lines = skeleton.text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip() == "// Two.")
    assert refusal(skeleton, ["// c", *lines]) == ""
    assert refusal(skeleton, [*lines[:at], "    // Three.", *lines[at:]]) == "skeleton_changed"
    assert refusal(skeleton, ["// c", *lines[:at], *lines[at + 1 :]]) == "skeleton_changed"
