"""Words of names, and numbers in strings and in words."""

from __future__ import annotations

import pytest

from codegen.sqlnet.words import number_in_words, number_of, words_of


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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("two", 2),
        ("twenty-one", 21),
        ("one hundred and five", 105),
        ("two thousand three hundred", 2300),
        ("1.5 million", 1_500_000),
        ("3", 3),
        ("a million", None),
        ("Ann", None),
        ("and", None),
        ("", None),
        ("2 3", None),
    ],
)
def test_numbers_in_words(text: str, number: float | None) -> None:
    assert number_in_words(text) == number
