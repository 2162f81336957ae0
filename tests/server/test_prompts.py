"""Families are found by their sentinels; foreign prompts are read back."""

from __future__ import annotations

from typing import Any

import pytest

from codegen.errors import ConfigError
from codegen.server.prompts import FAMILIES, Foreign, find_family, parse_foreign

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
    assert parse_foreign(prompt) == Foreign(prefix, suffix, "")
    assert parse_foreign("# other\n" + prompt) == Foreign(prefix, suffix, "# other\n")


def test_glm() -> None:
    prompt = f"<|code_prefix|>{PREFIX}<|code_suffix|>{SUFFIX}<|code_middle|>"
    assert parse_foreign(prompt) == Foreign(PREFIX, SUFFIX, "")


def test_plain_code_has_no_markers() -> None:
    assert parse_foreign(PREFIX + SUFFIX) is None
    assert parse_foreign("x = '<|fim_prefix|>'") is None


def test_families_of_models() -> None:
    starcoder = Tokenizer("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
    qwen = Tokenizer("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    names = [
        find_family(tokenizer, layout) and find_family(tokenizer, layout).name  # type: ignore
        for tokenizer in (starcoder, qwen, Tokenizer("a"))
        for layout in ("auto", "prefix")
    ]
    assert names == ["fim-starcoder-spm", None, "fim-qwen", None, None, None]
    assert find_family(qwen, "spm").name == "fim-qwen-spm"  # type: ignore
    with pytest.raises(ConfigError, match="sentinels"):
        find_family(Tokenizer("a"), "psm")  # type: ignore


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


def test_a_window_begins_at_a_definition_of_the_top_level_if_it_can(
    tiny_model: Any, ask: Any
) -> None:
    text = long_class(40) + "\n\ndef last():\n    pass\n\n\n" + long_class(6)
    window = tiny_model.tokenizer.decode(tiny_model.prompter.build(ask(text)).ids)
    assert window.startswith(("def last", "class Long"))
    flat = "x = 1; " * 400
    assert len(tiny_model.prompter.build(ask(flat)).ids) > 100  # a line without an end is cut
