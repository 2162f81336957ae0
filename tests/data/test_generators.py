"""The generators by name, and the baseline's promise to hold what LintSeq holds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from codegen.core import plugins
from codegen.core.errors import ConfigError
from codegen.core.records import Example
from codegen.data import EngineOptions, MemorySource, Skip, make, open_source, read_texts, run
from codegen.data.engine import config_of
from codegen.lintseq import resolve

PROGRAMS = {
    "good": "def f(x):\n    y = x\n    return y\n",
    "no newline": "x = 1\r\ny = 2",
    "syntax": "def f(:\n",
    "comments": "# nothing\n",
    "marker": "x = '<|diff|>'\n",
    "nul": "x = '\0'\n",
    "deep": "x = " + "(" * 4000 + ")" * 4000,
}


def test_whole_and_lintseq_hold_the_same(tmp_path: Path) -> None:
    hard = [Example(id, "do", program) for id, program in PROGRAMS.items()]
    other = Example("other", "do", "SELECT 1", language="sql")
    source = MemorySource((*open_source("humaneval"), *hard, other))
    texts, counts = {}, {}
    for name in ("whole", "lintseq"):
        manifest = run(make(name), source, tmp_path / name, workers=1)
        texts[name] = list(read_texts(tmp_path / name))
        counts[name] = manifest.counts
    assert counts["whole"] == counts["lintseq"]
    assert counts["whole"]["kept"] == 166 and not counts["whole"]["failed"]
    for whole, edits in zip(texts["whole"], texts["lintseq"], strict=True):
        assert whole.example_id == edits.example_id
        assert whole.prompt == edits.prompt and whole.prompt.endswith("\n")
        program = whole.text.removeprefix(whole.prompt)
        assert program == resolve(edits.text.removeprefix(edits.prompt)).program


def test_lintseq_does_not_depend_on_chunks(tmp_path: Path) -> None:
    """With ruff as the check, LintSeq works on a chunk at once."""
    expected = None
    for chunk_size in (1, 5, 64):
        out = tmp_path / str(chunk_size)
        options = EngineOptions(chunk_size=chunk_size)
        generator = make("lintseq", verify="ruff", sequences=2)
        run(generator, open_source("humaneval"), out, workers=1, limit=40, options=options)
        texts = list(read_texts(out))
        expected = expected or texts
        assert texts == expected and len(texts) == 80


def test_registry() -> None:
    for name in plugins.names("generators"):
        assert make(name).name == name
        assert config_of(make(name))["name"] == name
    assert config_of(make("lintseq", sequences=5))["sequences"] == 5
    with pytest.raises(ConfigError, match=r"Unknown generator 'lintsek'\. Did you mean 'lintseq'"):
        make("lintsek")
    with pytest.raises(ConfigError, match="sequence"):
        make("lintseq", sequence=5)


def test_a_generator_must_tell_its_configuration() -> None:
    class Mute:
        name = "mute"

        def generate(self, example: Example, rng: random.Random) -> list:
            return []

    with pytest.raises(ConfigError, match="has no configuration"):
        config_of(Mute())


def test_skip_carries_its_reason() -> None:
    assert Skip("too_long", "900 lines").reason == "too_long"
    assert str(Skip("too_long", "900 lines")) == "900 lines"
