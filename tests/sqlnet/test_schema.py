"""Names, types and look-ups of tables."""

from __future__ import annotations

import subprocess
import sys

import pytest

import codegen.sqlnet
from codegen.core.errors import InputError
from codegen.sqlnet.query import Column, Table, unique_names
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.words import number_of, words_of


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("playerFirstName_2", ("player", "first", "name", "2")),
        ("HTTPServer", ("http", "server")),
        ("First elected", ("first", "elected")),
        ("customer_id", ("customer", "id")),
        ("Größe", ("größe",)),
        ("École", ("école",)),
        ("ÖPNVLinie", ("öpnv", "linie")),
        ("Pick #", ("pick", "#")),
        ("日本語 名", ("日本語", "名")),
        ("ALL", ("all",)),
        ("", ("",)),
        ("__", ("__",)),
    ],
)
def test_names_are_cut_into_words(name: str, words: tuple[str, ...]) -> None:
    assert words_of(name) == words


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3", 3),
        (" 1,234 ", 1234),
        ("$5.50", 5.5),
        ("-.5", -0.5),
        ("1e3", 1000.0),
        ("3 km", None),
        ("", None),
        ("1996-97", None),
        ("٣", None),
        ("1e999", None),
        ("nan", None),
    ],
)
def test_numbers_are_told_from_text(text: str, number: float | None) -> None:
    assert number_of(text) == number


def test_file_headers_become_distinct_names() -> None:
    assert unique_names(["a", "A", "", "a", " "]) == ("a", "A 2", "column 3", "a 3", "column 5")


def test_tables_and_columns_are_found_whatever_the_case() -> None:
    schema = Schema((Table("Cities", (Column("Name"), Column("Area", "real"))),))
    assert schema.table("CITIES").index("area") == 1
    with pytest.raises(InputError, match="no column 'size'"):
        schema.table().index("size")
    with pytest.raises(InputError, match="Unknown table 'x'"):
        schema.table("x")


def test_the_package_imports_what_is_asked_for_alone() -> None:
    """The process that reads a database starts with neither torch nor the SQL parser."""
    script = (
        "import sys, codegen.sqlnet, codegen.sqlnet.databases.child\n"
        "assert not {'torch', 'sqlglot', 'numpy'} & set(sys.modules)\n"
        "for name in codegen.sqlnet.__all__: getattr(codegen.sqlnet, name)\n"
        "names = [name for names in codegen.sqlnet._MODULES.values() for name in names]\n"
        "assert sorted(codegen.sqlnet.__all__) == sorted(names)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        codegen.sqlnet.Nothing  # noqa: B018
