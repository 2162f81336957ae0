"""A model that is held to the grammar of SQL writes what the gate knows, whatever its weights."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("llguidance", reason="needs the grammar extra")

from codegen.core.errors import ConfigError
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.transformers import TransformersBackend
from codegen.sqlnet.fallback import CANNOT, gbnf_of
from codegen.sqlnet.query import Column, Table, UnsafeSQLError
from codegen.sqlnet.sql import validate

TABLES = (
    Table("orders", (Column("id", "real"), Column('odd "name"'), Column("group"))),
    Table("straße", (Column("id", "real"), Column("total", "real"), Column("a-b"))),
)


@pytest.fixture(scope="module")
def backend(tiny_model_dir: Path) -> TransformersBackend:
    return TransformersBackend(str(tiny_model_dir), batch_size=16)


def texts(
    backend: TransformersBackend, gbnf: str, count: int, length: int
) -> list[tuple[str, str]]:
    decoder = Decoder("grammar", {"gbnf": gbnf})
    asked = [Request("SQL:", index=index) for index in range(count)]
    made = backend.generate(asked, SamplingParams(length, 1.5), decoder)
    return [(one.text, one.finish_reason) for one in made]


def test_random_statements_of_the_grammar_are_known_to_the_gate(
    backend: TransformersBackend,
) -> None:
    gbnf = gbnf_of(TABLES).replace('| "CANNOT ANSWER: " [^\\n]+', "")
    found = texts(backend, gbnf, 16, 80)
    whole = [text for text, reason in found if reason == "eos"]
    assert len(whole) >= 3
    for text in whole:
        try:
            validate(text, TABLES)
        except UnsafeSQLError as error:  # a column of another table, never a part or a name
            assert "does not fit this database" in error.message, text
    for text, _ in found:
        assert text.startswith("SELECT ") and "\n" not in text and "\0" not in text


def test_a_model_may_decline(backend: TransformersBackend) -> None:
    gbnf = f'root ::= "{CANNOT}: " [a-z]+'
    for text, _ in texts(backend, gbnf, 4, 12):
        assert text.startswith(CANNOT[: len(text)])


@pytest.mark.parametrize("gbnf", ["root ::= (", "nonsense", "root ::= missing"])
def test_a_grammar_that_is_none_is_one_line(backend: TransformersBackend, gbnf: str) -> None:
    with pytest.raises(ConfigError) as raised:
        texts(backend, gbnf, 1, 4)
    assert "grammar" in raised.value.message and "\n" not in raised.value.message
