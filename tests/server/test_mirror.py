"""The mirror against plain string operations on the text in the agreed encoding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.server.mirror import ENCODINGS, Change, Encoding, Mirror, OutOfStep, Position, units

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
    mirror = Mirror(text, enc)
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
        mirror.apply([Change(new, start, end)])
        text = text[:one] + new + text[other:]
        assert mirror.text == text
        assert mirror.size == len(text)
        assert len(mirror.lines) == len(reference_lines(text))


@pytest.mark.parametrize(("encoding", "column"), [("utf-8", 10), ("utf-16", 5), ("utf-32", 4)])
def test_columns_count_units_of_the_encoding(encoding: Encoding, column: int) -> None:
    mirror = Mirror("é漢😀x = 1\n", encoding)
    assert mirror.offset_in_line(Position(0, column)) == 4
    assert mirror.position(0, 4) == Position(0, column)


def test_a_column_within_a_character_is_its_beginning() -> None:
    assert Mirror("a😀b", "utf-16").offset_in_line(Position(0, 2)) == 1
    assert Mirror("a😀b", "utf-8").offset_in_line(Position(0, 3)) == 1


def test_columns_beyond_the_line_mean_its_end() -> None:
    mirror = Mirror("ab\r\ncd", "utf-16")
    assert mirror.offset_in_line(Position(0, 99)) == 2
    mirror.apply([Change("X", Position(0, 99), Position(0, 99))])
    assert mirror.text == "abX\r\ncd"


def test_a_form_feed_is_no_line_end() -> None:
    mirror = Mirror("a\x0cb\nc\u2028d\ne\n", "utf-16")
    mirror.apply([Change("!", Position(2, 1), Position(2, 1))])
    assert mirror.text == "a\x0cb\nc\u2028d\ne!\n"


def test_a_line_feed_joins_the_carriage_return_before_it() -> None:
    mirror = Mirror("a\rxb", "utf-16")
    mirror.apply([Change("\n", Position(1, 0), Position(1, 1))])
    assert mirror.lines == ["a\r\n", "b"]


def test_the_line_behind_the_last_is_the_end() -> None:
    mirror = Mirror("a\nb", "utf-16")
    mirror.apply([Change("\nc", Position(2, 0), Position(2, 0))])
    assert mirror.text == "a\nb\nc"
    mirror.apply([Change("", Position(1, 0), Position(3, 0))])
    assert mirror.text == "a\n"


def test_a_range_elsewhere_is_out_of_step() -> None:
    mirror = Mirror("a\nb", "utf-16")
    with pytest.raises(OutOfStep):
        mirror.apply([Change("x", Position(7, 0), Position(7, 0))])
    assert mirror.text == "a\nb"


def test_changes_apply_one_after_the_other() -> None:
    mirror = Mirror("", "utf-8", version=3)
    mirror.apply([Change(c, Position(0, i), Position(0, i)) for i, c in enumerate("hello")], 8)
    assert (mirror.text, mirror.version) == ("hello", 8)
    mirror.apply([Change("new\n")])
    assert mirror.lines == ["new\n", ""]


def test_around_gives_whole_lines() -> None:
    mirror = Mirror("one\ntwo\nthree\nfour\nfive", "utf-16")
    assert mirror.around(Position(2, 2), 5, 7) == ("two\nth", "ree\nfour\n")
    assert mirror.around(Position(2, 2), 0, 0) == ("th", "ree\n")
    assert mirror.around(Position(4, 4), 999, 999) == (mirror.text, "")
