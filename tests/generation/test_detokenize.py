"""Streaming text and stop strings against decoding everything at once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.generation.detokenize import TextStream


@settings(deadline=None, max_examples=100)
@given(
    text=st.text(alphabet=st.sampled_from("ab \ndef#é世"), min_size=1, max_size=60),
    stops=st.lists(st.sampled_from(["\n", "\nd", "ab", "é", "def", "世b"]), max_size=3),
)
def test_stream_equals_the_whole_text_cut_at_the_first_stop(
    tokenizer: Any, text: str, stops: list[str]
) -> None:
    prompt = tokenizer("x = 1\n").input_ids
    stream = TextStream(tokenizer.backend_tokenizer, prompt, [], stops)
    pieces = []
    for token in tokenizer(text).input_ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    cuts = [text.index(stop) for stop in stops if stop in text]
    # A token can carry two stop strings; the earlier one in the text counts.
    expected = text[: min(cuts)] if cuts else text
    assert stream.text == expected
    assert stream.stopped == bool(cuts)
    # A reader of the stream never sees the beginning of a stop string.
    assert expected.startswith("".join(pieces))
    assert "".join(pieces) + stream.flush() == expected


def test_special_tokens_give_no_text(tokenizer: Any) -> None:
    stream = TextStream(tokenizer.backend_tokenizer, [5])
    ids = [*tokenizer("ab").input_ids, 2, 0, *tokenizer("cd").input_ids]
    for token in ids:
        stream.push(token)
    assert stream.text == "abcd"


def test_marks_are_special_tokens_that_are_text(tokenizer: Any) -> None:
    mark = "<|im_start|>"
    stream = TextStream(tokenizer.backend_tokenizer, [5], stops=[mark + "c"], marks=[mark])
    number = tokenizer.convert_tokens_to_ids(mark)
    for token in [*tokenizer("ab").input_ids, number, 0, number, *tokenizer("cd").input_ids]:
        stream.push(token)
        if stream.stopped:
            break
    assert stream.text == f"ab{mark}" and stream.stopped


def test_healed_text_is_not_part_of_the_completion(tokenizer: Any) -> None:
    prompt, taken = tokenizer("ab").input_ids, tokenizer("\n").input_ids
    stream = TextStream(tokenizer.backend_tokenizer, prompt, taken, ["\nx"])
    for token in tokenizer("\n    return 1").input_ids:
        stream.push(token)
    assert stream.text == "    return 1"
