"""Prompt styles: templates, infilling in both orders, a user's own."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError, InputError
from codegen.core.generation import Decoder, SamplingParams
from codegen.core.records import Sample, read_jsonl
from codegen.evals import run as runs
from codegen.evals import tasks
from codegen.evals.tasks import STYLES, PromptStyle, read_styles, style_of
from codegen.evaluate import TaskSampling, sample_task, usual_style

from eval_fakes import FakeGenerator  # isort: skip

OWN = """\
mine:
  about: the format of My-Model
  ask: instruction
  read: find
  template: "### Task\\n{prompt}\\n### Answer\\n"
  stop: ["### Task"]
my-fim:
  about: its infilling
  ask: infill
  read: append
  template: "<S>{suffix}<P>{prefix}<M>"
"""


@pytest.fixture
def own(tmp_path: Path) -> dict[str, PromptStyle]:
    path = tmp_path / "styles.yaml"
    path.write_text(OWN)
    return read_styles(path)


def sample(text: str, meta: dict[str, Any]) -> Sample:
    return Sample("", "Toy/0", 0, "", text, "stop", {}, 0, 0, 0, meta=meta)


def test_a_prefill_needs_a_chat() -> None:
    with pytest.raises(ConfigError, match=r"'mine' has a prefill without chat: true"):
        PromptStyle(name="mine", ask="code", read="whole", prefill="Sure:")


def test_coder_is_asked_as_the_task_can() -> None:
    backend: Any = type("", (), {"style": "chat"})
    assert usual_style(tasks.load("humaneval"), "coder", backend) == "evalplus"
    words: Any = type("", (), {"asks": ("instruction",)})
    assert usual_style(words, "coder", backend) == "chat"
    # Other languages, and programs that read and print.
    humaneval: Any = tasks.load("humaneval")
    for name, value in (("languages", ("javascript",)), ("entry_point", lambda _: "")):
        other = copy(humaneval)
        setattr(other, name, value)
        assert usual_style(other, "coder", backend) == "chat"
    assert usual_style(tasks.load("humaneval"), "org/name", backend) == "chat"


def test_the_style_says_how_long_an_answer_is(toy: tasks.Task[Any], tmp_path: Path) -> None:
    for style, most in (("plain", 256), ("evalplus", 768)):
        sampling, backend = TaskSampling(style=style, limit=1), FakeGenerator()
        sampled = sample_task(toy, "fake", sampling, out=tmp_path / style, backend=backend)
        (made,) = read_jsonl(Sample, sampled.path)
        assert made.settings["max_new_tokens"] == most


def test_the_orders_of_infilling() -> None:
    parts = {"prefix": "A{suffix}", "suffix": "B{prefix}{x}"}
    psm = STYLES["fim-starcoder"].render(**parts)
    assert psm == "<fim_prefix>A{suffix}<fim_suffix>B{prefix}{x}<fim_middle>"
    spm = STYLES["fim-qwen-spm"].render(**parts)
    assert spm == "<|fim_prefix|><|fim_suffix|>B{prefix}{x}<|fim_middle|>A{suffix}"
    assert STYLES["fim-codellama"].render(**parts) == "<PRE> A{suffix} <SUF>B{prefix}{x} <MID>"


@pytest.mark.parametrize("name", [name for name in STYLES if name.startswith("fim-")])
def test_each_sentinel_is_one_token(name: str) -> None:
    """As in a tokenizer that has the family's sentinels, so none of them is cut up."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    style = STYLES[name]
    texts = style.template.replace("{prefix}", "\0").replace("{suffix}", "\0").split("\0")
    sentinels = [part for text in texts for part in _sentinels(text)]
    assert len(set(sentinels)) == len(sentinels) >= 2
    vocabulary = {character: i for i, character in enumerate("ab \n")}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    tokenizer.add_special_tokens(sentinels)
    ids = tokenizer.encode(style.render(prefix="a", suffix="b")).tokens
    assert [token for token in ids if token in sentinels] == sentinels
    assert [token for token in ids if token not in sentinels and token.strip()] == (
        ["a", "b"]
        if style.template.index("{prefix}") < style.template.index("{suffix}")
        else ["b", "a"]
    )


def _sentinels(text: str) -> list[str]:
    import re

    return re.findall(r"<[^<>]+>|\[[A-Z]+\]", text)


def test_a_user_s_styles_are_asked_recorded_and_read_back(
    own: dict[str, PromptStyle], toy: tasks.Task[Any], tmp_path: Path
) -> None:
    code = "```python\ndef add0(x):\n    return x\n```"
    generator = FakeGenerator(completion=lambda request: code)
    path = runs.run(
        toy, generator, SamplingParams(), Decoder(), n=1, style=own["mine"], out=tmp_path, limit=1
    )
    assert generator.requests[0].prompt.startswith("### Task\nWrite a Python function `add0(")
    assert generator.requests[0].stop == ("### Task",)
    (made,) = read_jsonl(Sample, path)
    # Whoever scores the samples needs no file of styles.
    assert style_of(made) == own["mine"]
    assert "return x" in toy.program(toy.problems()[0], made)
    again = runs.run(
        toy, generator, SamplingParams(), Decoder(), n=1, style=own["mine"], out=tmp_path, limit=1
    )
    assert again == path


def test_a_changed_style_of_the_same_name_is_another_run(
    own: dict[str, PromptStyle], toy: tasks.Task[Any], tmp_path: Path
) -> None:
    from codegen.core.errors import ResumeError

    def go(style: PromptStyle) -> None:
        runs.run(toy, FakeGenerator(), SamplingParams(), Decoder(), n=1, style=style, out=tmp_path)

    go(own["mine"])
    with pytest.raises(ResumeError, match=r"style_definition\.read"):
        go(own["mine"].model_copy(update={"read": "whole"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: 3", "must be a mapping of keys to values"),
        ("a: {ask: code}", "the key 'read' is missing"),
        ("a: {ask: code, read: append, color: red}", "unknown key 'color'"),
        ("a: {ask: shout, read: append}", "ask is '?shout'?.* must be code or instruction"),
        ("a: {ask: code, read: append, chat: 3}", "chat is 3.* must be true or false"),
        ("a: {ask: code, read: append, stop: x}", "stop is .*must be a list of texts"),
        ("a: {ask: code, read: append, stop: ['']}", "stop is .*must be a list of texts"),
        ("a: {ask: code, read: append, template: x}", r"must contain \{prompt\} once"),
        ("a: {ask: infill, read: append}", r"must contain \{prefix\} once"),
        ("chat: {ask: code, read: append}", "has a built-in style's name"),
    ],
)
def test_wrong_styles_are_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "styles.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_styles(path)


def test_files_that_are_no_styles(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        read_styles(tmp_path / "none.yaml")
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(InputError, match="is not valid YAML"):
        read_styles(tmp_path / "a.yaml")


def test_a_sample_must_say_a_style_that_is_known() -> None:
    with pytest.raises(InputError, match="Toy/0 has the prompt style 'shout'"):
        style_of(sample("", {"style": "shout"}))
    with pytest.raises(InputError, match="unknown key 'x'"):
        style_of(sample("", {"style": "shout", "style_definition": {"x": 1}}))


def test_a_task_says_which_styles_it_takes(toy: tasks.Task[Any]) -> None:
    with pytest.raises(ConfigError, match="has no prompts in the style 'fim-qwen'"):
        toy.request(toy.problems()[0], STYLES["fim-qwen"], 0)
