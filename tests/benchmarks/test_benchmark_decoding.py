"""The benchmark of drafts with a model: a given text is written, and passes are counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from codegen.benchmarks import decoding
from codegen.benchmarks.tools.code_tokens import Code, Rewrite
from codegen.generation import Request
from codegen.generation.transformers import TransformersBackend
from codegen.models import load

_BEFORE, _AFTER = "abcdefghijklmnop", "abcdefghijkLmnop"


@pytest.fixture(scope="module")
def generator(tiny_model_dir: Path) -> TransformersBackend:
    return TransformersBackend(load(str(tiny_model_dir)))


@pytest.mark.parametrize("method", ["plain", "suffix", "edit", "transformers", "lookup"])
def test_a_given_text_is_written(generator: TransformersBackend, method: str) -> None:
    prompt, answer = "def f(x):\n    return x + 1\n\n\n", "def f(x):\n    return x + 2\n"
    encode = generator.loaded.tokenizer
    ids, wanted = (encode(text, add_special_tokens=False).input_ids for text in (prompt, answer))
    question = decoding._Question(Request(prompt, heal=False, original=prompt), ids, wanted)
    options = {"transformers": {}, "lookup": {"prompt_lookup_num_tokens": 10}}
    free_drafts = {"token_cost": 0.01} if method in ("suffix", "edit") else {}
    complete = (
        decoding._theirs(generator, options[method])
        if method in options
        else decoding._ours(generator, method, **free_drafts)
    )
    with decoding._watched(generator.loaded.model, [question], method in decoding._OURS) as run:
        made, drafters = complete([question], len(wanted))
    assert made == [wanted]
    assert sum(right for _, right in drafters.values()) <= run.drafted
    assert bool(drafters) == (method in ("suffix", "edit"))
    if method in ("plain", "transformers"):
        assert len(wanted) <= run.passes <= len(wanted) + 1 and run.drafted == 0
    else:
        assert run.passes <= len(wanted) and run.drafted >= len(wanted) - run.passes + 1
    free = decoding._Question(question.request, ids)
    with decoding._watched(generator.loaded.model, [free], method in decoding._OURS):
        assert complete([free], len(wanted))[0] != [wanted]  # the hook is gone


def test_rewrites_begin_before_the_change() -> None:
    class Letters(Code):
        def __init__(self) -> None:
            pass

        def history(self, repository: str, count: int, longest: int) -> list[Rewrite]:
            return [Rewrite("x", self.encode(_BEFORE), self.encode(_AFTER))]

        def encode(self, text: str) -> list[int]:
            return [ord(c) for c in text]

        def decode(self, ids: Sequence[int]) -> str:
            return "".join(map(chr, ids))

    (question,) = decoding._history(Letters(), "", 1, 10)
    assert question.request.prompt == _BEFORE + "abc"
    assert "".join(map(chr, question.answer)) == "defghijkLm"
    assert question.request.original == _BEFORE
