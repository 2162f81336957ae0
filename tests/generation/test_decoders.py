"""Pairs of a reader and a strategy: what each back-end takes, and what it requires."""

from __future__ import annotations

from typing import Any

import pytest
from openai_server import Model

from codegen.core.errors import ConfigError
from codegen.core.generation import CAPABILITIES
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.decoders import READERS, STRATEGIES, supported
from tests.generation.test_endpoints import Upper
from tests.generation.test_openai import client


@pytest.mark.parametrize("name", STRATEGIES)
def test_pairs_are_refused_in_one_kind_of_words(name: str) -> None:
    options = {"rsd": {"draft": "d"}, "sorted": {"draft": "d"}, "grammar": {"gbnf": 'root ::= "a"'}}
    decoder = Decoder(name, options.get(name, {}))
    required = STRATEGIES[name].requires
    with pytest.raises(ConfigError) as refused:
        next(Upper("m").generate([Request("a")], SamplingParams(), decoder))
    assert refused.value.message == (
        f"The decoder {name!r} requires {CAPABILITIES[required]}, which the backend upper does not"
        " support."
    )
    able = type("Able", (Upper,), {"capabilities": frozenset({required})})
    assert supported(decoder, able).method == name


def test_readers_require_nothing() -> None:
    for name in READERS:
        assert supported(Decoder(name), Upper).reader is READERS[name]


# Every name a decoder can have, each with the options that it needs to be accepted at all.
_OPTIONS: dict[str, dict[str, Any]] = {"rsd": {"draft": "d"}, "sorted": {"draft": "d"}}


def test_only_decoders_that_read_text_are_taken(model: Model) -> None:
    """What a text alone can honour is allowed by construction; all else is refused unasked."""
    names = [*READERS, *STRATEGIES]
    names += [f"edit_sequence+{name}" for name in STRATEGIES]
    taken = []
    for name in names:
        decoder = Decoder(name, _OPTIONS.get(name.rpartition("+")[2], {}))
        requests = [Request("a", chat=True)]
        try:
            taken += [
                (name, len(list(client(model).generate(requests, SamplingParams(), decoder))))
            ]
        except ConfigError as error:
            assert name.rpartition("+")[2] in str(error), error
    assert taken == [("sample", 1), ("edit_sequence", 1)]
    assert len(model.bodies) == len(taken)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_says_what_it_requires(name: str) -> None:
    """So none can be added that an endpoint would silently ignore."""
    assert STRATEGIES[name].requires in CAPABILITIES
