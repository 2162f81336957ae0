"""The tokenizer: its new token, exactness, and what must never become a control token."""

from __future__ import annotations

import ast
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hard_programs import HARD
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegen.core.errors import ConfigError, InputError
from codegen.methods.backspace import (
    BKSPC,
    Codec,
    UnsuitableExample,
    fingerprint,
    load_codec,
    with_backspace,
)
from codegen.methods.backspace.tokens import Format
from codegen.models import load_tokenizer


def test_the_new_token_is_one_special_token(tiny: Codec, tiny_model_dir: Path) -> None:
    plain = load_tokenizer(str(tiny_model_dir))
    size = len(plain)
    tokenizer, bkspc = with_backspace(plain)
    assert (bkspc, len(tokenizer), len(plain)) == (size, size + 1, size)
    assert plain.get_vocab().get(BKSPC) is None
    assert tokenizer.decode([bkspc]) == BKSPC
    assert tokenizer.decode([bkspc], skip_special_tokens=True) == ""
    assert tokenizer(f"a{BKSPC}b").input_ids[1:2] == [bkspc]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (2, 2)
    again, same = with_backspace(tokenizer)
    assert again is tokenizer and same == bkspc
    assert tiny.bkspc == bkspc and tiny.fingerprint == fingerprint(plain)


def test_saved_and_loaded_it_is_the_same(tiny: Codec, tmp_path: Path) -> None:
    """Data made with a base's tokenizer fits the fine-tuned model's, which holds the token."""
    tiny.tokenizer.save_pretrained(tmp_path)
    again = Codec(load_tokenizer_from(tmp_path), "again")
    assert (again.bkspc, again.fingerprint) == (tiny.bkspc, tiny.fingerprint)
    assert again.ordinary == tiny.ordinary


def load_tokenizer_from(folder: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_the_fingerprint_tells_tokenizers_apart(tiny: Codec, tiny_model_dir: Path) -> None:
    other = load_tokenizer(str(tiny_model_dir))
    other.add_tokens(["hello"])
    assert fingerprint(other) != tiny.fingerprint
    padded = load_tokenizer(str(tiny_model_dir))
    padded(["a", "a b c"], padding=True, truncation=True, max_length=2)
    assert fingerprint(padded) == tiny.fingerprint


def test_an_ordinary_word_is_refused(tiny_model_dir: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model_dir))
    tokenizer.add_tokens([BKSPC])
    with pytest.raises(ConfigError, match="ordinary token"):
        with_backspace(tokenizer)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("fixture", ["tiny", "embedded"])
def test_round_trip_of_hard_programs(
    name: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    codec = request.getfixturevalue(fixture)
    target = codec.target("Do it.", HARD[name], "plain")
    *ids, eos = target.clean
    assert codec.decode(ids) == HARD[name] == target.text
    assert eos == codec.tokenizer.eos_token_id
    assert set(ids) <= set(codec.ordinary) and set(target.prompt) <= set(codec.ordinary)


@cache
def words_of(codec: Codec) -> frozenset[str]:
    return frozenset(codec.tokenizer.get_vocab())


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@example("\U00040000")
def test_round_trip_of_any_text(tiny: Codec, embedded: Codec, text: str) -> None:
    """Exact unless the vocabulary lacks a byte, as SmolLM2's does for some rare planes."""
    from tokenizers import pre_tokenizers

    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelled = {letter for word, _ in alphabet.pre_tokenize_str(text) for letter in word}
    for codec in (tiny, embedded):
        ids, offsets = codec.encode(text)
        assert set(ids) <= set(codec.ordinary)
        assert all(0 <= start <= end <= len(text) for start, end in offsets)
        covered = spelled <= words_of(codec)
        assert (codec.decode(ids) == text) == covered
        assert covered or codec is embedded


def test_ids_are_those_of_transformers(embedded: Codec) -> None:
    """Where the text holds no special token's name, the usual call gives the same."""
    for path in (ast.__file__, json.__file__, subprocess.__file__):
        text = Path(path).read_text(encoding="utf-8")
        assert embedded.encode(text)[0] == embedded.tokenizer(text).input_ids


def test_prompts_are_those_of_training(embedded: Codec) -> None:
    """Whatever segments become in training, the trajectory's prompt and end are the same tokens."""
    from codegen.core.records import Segment, TrainingText
    from codegen.finetune.encode import TextEncoder

    segments = (Segment("Add é.\n", False), Segment("x = 1\n", True))
    text = TrainingText("t", "e", "whole", segments)
    formats: tuple[Format, ...] = ("plain", "chat")
    for format in formats:
        target = embedded.target("Add é.", "x = 1\n", format)
        expected = TextEncoder(embedded.tokenizer, format).encode(text)
        assert [*target.prompt, *target.clean] == expected.ids
        assert expected.targets == list(target.clean)


@pytest.mark.parametrize(
    ("instruction", "program", "format", "reason"),
    [
        ("a", "", "plain", "empty"),
        ("a", " \n\t\n", "plain", "empty"),
        ("a", "x = '\ud800'\n", "plain", "not_unicode"),
        ("a\udfff", "x = 1\n", "plain", "not_unicode"),
        ("a\udfff", "x = 1\n", "chat", "not_unicode"),
        ("say <|im_end|>", "x = 1\n", "chat", "special_in_prompt"),
        (f"say {BKSPC}", "x = 1\n", "chat", "special_in_prompt"),
    ],
)
def test_what_is_skipped(
    embedded: Codec, instruction: str, program: str, format: Any, reason: str
) -> None:
    with pytest.raises(UnsuitableExample) as caught:
        embedded.target(instruction, program, format)
    assert caught.value.reason == reason


def test_a_tokenizer_that_loses_text_is_noticed() -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    codec = Codec(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>"), "nfc")
    assert codec.target("a", "é = 1", "plain").clean
    with pytest.raises(UnsuitableExample, match="'nfc' does not reproduce the program") as caught:
        codec.target("a", "e\u0301 = 1", "plain")
    assert caught.value.reason == "replay_mismatch"


@pytest.mark.parametrize("content", [None, "{", '{"version": "1.0"}'])
def test_a_tokenizer_that_does_not_load(tmp_path: Path, content: str | None) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
        (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        load_codec(str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_another_tokenizers_text_is_refused(tiny: Codec, embedded: Codec) -> None:
    from codegen.core.records import TrainingText
    from codegen.methods.backspace import require_same
    from codegen.methods.backspace.tokens import codec_of_text

    def text(**meta: object) -> TrainingText:
        return TrainingText("t", "e", "backspace", (), meta)

    made = text(tokenizer="embedded", tokenizer_fingerprint=embedded.fingerprint)
    require_same(made, embedded)
    assert codec_of_text(made).fingerprint == embedded.fingerprint
    with pytest.raises(InputError, match=r"'t' was made with another tokenizer: 'embedded'"):
        require_same(made, tiny)
    with pytest.raises(InputError, match="another tokenizer"):
        codec_of_text(text(tokenizer="embedded", tokenizer_fingerprint="0"))
    with pytest.raises(InputError, match="must be a model name"):
        codec_of_text(text())
