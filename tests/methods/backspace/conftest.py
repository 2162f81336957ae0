"""Tokenizers for the tests of backspace data."""

from __future__ import annotations

from pathlib import Path

import pytest

from codegen.methods.backspace import Codec, load_codec


@pytest.fixture(scope="session")
def tiny(tiny_model_dir: Path) -> Codec:
    """A byte-level BPE tokenizer of 700 tokens: many characters take several."""
    return load_codec(str(tiny_model_dir))


@pytest.fixture(scope="session")
def embedded() -> Codec:
    """The embedded model's tokenizer."""
    return load_codec("embedded")
