"""Families are found by their sentinels; foreign prompts are read back."""

from __future__ import annotations

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
