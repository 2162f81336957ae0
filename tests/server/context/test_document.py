"""The document against plain string operations on the text in the agreed encoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol.types import Position, TextDocumentContentChangeWholeDocument

from codegen.server.context.document import (
    ENCODINGS,
    Encoding,
    OutOfStep,
    TextDocument,
    moved,
    units,
)
from tests.server.conftest import change

# Every line end there is, what Python takes for one, and characters of one to four bytes.
CHARS = st.sampled_from("ab \t(\n\r\x0b\x0c\x1c\x85\u2028\u2029é漢😀\x00\ud800")
TEXTS = st.text(CHARS, max_size=30)


def reference_lines(text: str) -> list[tuple[int, int]]:
    """Start and end (without the line end) of each line, character by character."""
    lines, start, at = [], 0, 0
    while at < len(text):
        if text[at] in "\r\n":
            lines.append((start, at))
            at += 2 if text[at : at + 2] == "\r\n" else 1
            start = at
        else:
            at += 1
    lines.append((start, len(text)))
    return lines


@settings(max_examples=300, deadline=None)
@given(st.data(), TEXTS, st.sampled_from(ENCODINGS))
def test_random_edits_give_the_editors_text(data: st.DataObject, text: str, enc: Encoding) -> None:
    document = TextDocument(text, enc)
    for _ in range(6):
        one, other = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        new = data.draw(TEXTS)
        lines = reference_lines(text)

        def position(at: int, lines: list[tuple[int, int]] = lines, text: str = text) -> Position:
            line = max(i for i, (start, _) in enumerate(lines) if start <= at)
            return Position(line, units(text[lines[line][0] : at], enc))

        start, end = position(one), position(other)
        # Between \r and \n there is no position: the line's end is meant.
        one = min(one, lines[start.line][1])
        other = max(one, min(other, lines[end.line][1]))
        document.apply([change(new, (start.line, start.character), (end.line, end.character))])
        text = text[:one] + new + text[other:]
        assert document.text == text
        assert document.size == len(text)
        assert len(document.lines) == len(reference_lines(text))


@settings(max_examples=200, deadline=None)
@given(st.data(), st.text(st.sampled_from("ab\né漢😀"), max_size=30), st.sampled_from(ENCODINGS))
def test_a_position_moves_with_the_text(data: st.DataObject, text: str, enc: Encoding) -> None:
    def position(text: str, at: int) -> Position:
        line = text.count("\n", 0, at)
        return Position(line, units(text[:at].rpartition("\n")[2], enc))

    one, other = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    at, new = data.draw(st.integers(0, len(text))), data.draw(TEXTS.filter(lambda t: "\r" not in t))
    end = one + len(new) if one <= at <= other else at + (at > other) * (len(new) - other + one)
    start, stop = position(text, one), position(text, other)
    changed = change(new, (start.line, start.character), (stop.line, stop.character))
    after = text[:one] + new + text[other:]
    assert moved(position(text, at), changed, enc) == position(after, end)


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 10), ("utf-16", 5), ("utf-32", 4)])
def test_columns_count_units_of_the_encoding(encoding: Encoding, column: int) -> None:
    document = TextDocument("é漢😀x = 1\n", encoding)
    assert document.offset_in_line(Position(0, column)) == 4
    assert document.position(0, 4) == Position(0, column)


def test_a_column_within_a_character_is_its_beginning() -> None:
    assert TextDocument("a😀b", "utf-16").offset_in_line(Position(0, 2)) == 1
    assert TextDocument("a😀b", "utf-8").offset_in_line(Position(0, 3)) == 1


def test_columns_beyond_the_line_mean_its_end() -> None:
    document = TextDocument("ab\r\ncd", "utf-16")
    assert document.offset_in_line(Position(0, 99)) == 2
    document.apply([change("X", (0, 99), (0, 99))])
    assert document.text == "abX\r\ncd"


def test_a_form_feed_is_no_line_end() -> None:
    document = TextDocument("a\x0cb\nc\u2028d\ne\n", "utf-16")
    document.apply([change("!", (2, 1), (2, 1))])
    assert document.text == "a\x0cb\nc\u2028d\ne!\n"


def test_a_line_feed_joins_the_carriage_return_before_it() -> None:
    document = TextDocument("a\rxb", "utf-16")
    document.apply([change("\n", (1, 0), (1, 1))])
    assert document.lines == ["a\r\n", "b"]


def test_the_line_behind_the_last_is_the_end() -> None:
    document = TextDocument("a\nb", "utf-16")
    document.apply([change("\nc", (2, 0), (2, 0))])
    assert document.text == "a\nb\nc"
    document.apply([change("", (1, 0), (3, 0))])
    assert document.text == "a\n"


def test_a_range_elsewhere_is_out_of_step() -> None:
    document = TextDocument("a\nb", "utf-16")
    with pytest.raises(OutOfStep):
        document.apply([change("x", (7, 0), (7, 0))])
    assert document.text == "a\nb"


def test_changes_apply_one_after_the_other() -> None:
    document = TextDocument("", "utf-8", version=3)
    document.apply([change(c, (0, i)) for i, c in enumerate("hello")], 8)
    assert (document.text, document.version) == ("hello", 8)
    document.apply([TextDocumentContentChangeWholeDocument("new\n")])
    assert document.lines == ["new\n", ""]


def test_around_gives_whole_lines() -> None:
    document = TextDocument("one\ntwo\nthree\nfour\nfive", "utf-16")
    assert document.around(Position(2, 2), 5, 7) == ("two\nth", "ree\nfour\n")
    assert document.around(Position(2, 2), 0, 0) == ("th", "ree\n")
    assert document.around(Position(4, 4), 999, 999) == (document.text, "")
