"""Families are found by their sentinels; foreign prompts are read back."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from codegen.server.completion.prompts import FAMILIES, ParsedFimPrompt, find_family, parse_foreign
from codegen.server.completion.requests import Snippet

PREFIX, SUFFIX = "def f(a):\n    return ", "\n\nprint(f(1))\n"


class Tokenizer:
    def __init__(self, *sentinels: str) -> None:
        self.sentinels = sentinels

    def get_vocab(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.sentinels)}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize(("prefix", "suffix"), [(PREFIX, SUFFIX), ("", SUFFIX), (PREFIX, "")])
def test_every_layout_is_read_back(family, prefix: str, suffix: str) -> None:
    prompt = family.template.replace("{prefix}", prefix).replace("{suffix}", suffix)
    assert parse_foreign(prompt) == ParsedFimPrompt(prefix, suffix, "")
    assert parse_foreign("# other\n" + prompt) == ParsedFimPrompt(prefix, suffix, "# other\n")


def test_families_of_models() -> None:
    starcoder = Tokenizer("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
    qwen = Tokenizer("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    found: list[Any] = [find_family(one) for one in (starcoder, qwen, Tokenizer("a"))]  # type: ignore
    assert [one and one.name for one in found] == ["fim-starcoder-spm", "fim-qwen", None]


def long_class(methods: int) -> str:
    lines = [
        f"    def method_{n}(self):\n        x = {n}\n        return x\n\n" for n in range(methods)
    ]
    return "class Long:\n" + "".join(lines)


def test_a_window_begins_at_a_method_of_a_long_class(tiny_model: Any, ask: Any) -> None:
    """And stays there for longer than a method is typed."""
    starts = []
    text = long_class(40)
    for size in range(20):
        prompt = tiny_model.prompter.build(ask(text + "    # " + "é" * size))
        window = tiny_model.tokenizer.decode(prompt.ids)
        assert window.startswith("    def method_")
        starts.append(window[: window.index("(")])
    assert len(set(starts)) < 5
    assert starts == sorted(starts, key=starts.index)


def test_other_files_come_first_each_under_its_name(tiny_model: Any, ask: Any) -> None:
    snippets = (Snippet("a.py", "x = 1"), Snippet("a.py", "y = 2"), Snippet("b.py", "z = 3"))
    for language, mark in (("python", "#"), ("typescript", "//")):
        request = ask("print(", snippets=snippets, language=language, path="main.py",
                      repository="shop")  # fmt: skip
        prompt = tiny_model.prompter.build(request)
        text = tiny_model.tokenizer.decode([*prompt.ids, *prompt.taken])
        head = f"{mark} a.py\nx = 1\ny = 2\n{mark} b.py\nz = 3\n{mark} main.py\n"
        assert text.endswith(f"{head}print(")


def test_marks_of_models_that_know_several_files(tiny_model: Any, ask: Any) -> None:
    prompter = copy.copy(tiny_model.prompter)
    prompter._file_mark, prompter._repository_mark = 1, "<|repo_name|>"
    prompter._known = {"<|repo_name|>": 2}
    snippets = (Snippet("a.py", "<|repo_name|> x"), Snippet("b.py", "y"))
    ids = prompter.build(ask("z", snippets=snippets, repository="shop", path="c.py")).ids
    assert ids.count(1) == 3 and ids.count(2) == 1
    start = ids.index(2)
    marks = {1: "[F]", 2: "[R]"}
    text = "".join(str(marks.get(i, tiny_model.tokenizer.decode([i]))) for i in ids[start:])
    assert text.startswith("[R]shop\n[F]a.py\n<|repo_name|> x\n[F]b.py\ny\n[F]c.py\n")


def test_the_prompts_beginning_stays_while_one_types(tiny_model: Any, ask: Any) -> None:
    snippets = (Snippet("a.py", "x = 1\n" * 9), Snippet("b.py", "y = 2\n" * 9))
    before: list[int] = []
    for size in range(1, 12):
        ids = tiny_model.prompter.build(ask("value = call("[:size], snippets=snippets)).ids
        if before:
            assert ids[: len(before) - 2] == before[: len(before) - 2]
        before = ids
