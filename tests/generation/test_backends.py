"""The seam: a back-end in a few lines, pairs that are refused, names, models behind settings."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError
from codegen.core.generation import RequestFailed, request_seed
from codegen.generation import Backend, Completion, Decoder, Request, SamplingParams
from codegen.generation.backends import Endpoint, LocalModel, backend_class, open_backend
from codegen.generation.completion_cache import (
    CachedBackend,
    CostLog,
    ResponseCache,
    Totals,
    read_ledger,
)
from codegen.generation.decoders import supported


class Upper(Backend):
    """A back-end: prompts in capitals, the last ones first; empty prompts fail."""

    kind = "upper"

    def __init__(self, model: str, batch_size: int = 1) -> None:
        self.settings = {"backend": "upper"}
        self.model, self.batch_size = model, batch_size
        self.calls: list[list[Request]] = []

    def generate(self, requests, params, decoder, on_text=None):
        resolved = supported(decoder, self)
        asked = list(enumerate(requests))
        self.calls.append([request for _, request in asked])
        for number, request in asked[::-1]:
            if not request.prompt:
                yield Completion(number, request, error=RequestFailed("The prompt is empty."))
                continue
            text = request.prompt.upper()
            for stop in resolved.stops(request.stop):
                text = text.partition(stop)[0]
            if on_text:
                on_text(number, text)
            seed = request_seed(params.seed, request)
            counts: dict[str, Any] = {"prompt_tokens": 3, "completion_tokens": len(text)}
            yield resolved.completion(number, request, text, "eos", seed=seed, **counts)


def test_unknown_back_ends_and_options_are_named(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match=r"backend 'transfomers'.*'transformers'"):
        backend_class("transfomers")
    with pytest.raises(ConfigError, match="--endpoint"):
        open_backend("openai", "m")
    with pytest.raises(ConfigError, match="width"):
        open_backend("transformers", str(tiny_model_dir), width=3)


def test_a_server_is_opened_by_name() -> None:
    backend = open_backend("openai", "m", url="http://h", batch_size=3, api_key_env=None)
    assert (backend.model, backend.style, backend.decoder) == ("m", "chat", "sample")
    assert backend.about == {"endpoint": "http://h"} and backend.parameters is None
    assert not backend.settings and not backend.identity(Decoder())  # a server may move


@pytest.mark.parametrize("spec", [LocalModel("m"), Endpoint("http://h", "m", body=(("a", "1"),))])
def test_settings_of_models_can_be_keys_and_travel(spec: Any) -> None:
    assert pickle.loads(pickle.dumps(spec)) == spec  # noqa: S301 - our own
    assert {spec: 1}[spec] == 1


class Spec:
    """Settings that open :class:`Upper`, and count how often."""

    model = "m"

    def __init__(self) -> None:
        self.opened: list[Upper] = []

    def identity(self) -> dict[str, Any]:
        return {"model": "m"}

    def open(self) -> Backend:
        self.opened.append(Upper("m"))
        return self.opened[-1]


def test_any_back_end_can_be_cached_and_counted(tmp_path: Path) -> None:
    spec, requests = Spec(), [Request(text, seed=0) for text in ("a", "b", "", "a")]
    ledger = tmp_path / "ledger"
    pieces: list[tuple[int, str]] = []
    for _ in range(2):
        with ResponseCache(tmp_path / "cache") as cache:
            backend = CachedBackend(spec, cache, CostLog(ledger))
            found = sorted(
                backend.generate(
                    requests, SamplingParams(), Decoder(), lambda i, text: pieces.append((i, text))
                ),
                key=lambda made: made.number,
            )
        assert [made.text for made in found] == ["A", "B", "", "A"]
        assert [bool(made.error) for made in found] == [False, False, True, False]
    assert [[r.prompt for r in one.calls[0]] for one in spec.opened] == [["a", "b", ""], [""]]
    assert sorted(pieces) == sorted([(0, "A"), (1, "B"), (3, "A")] * 2)
    assert read_ledger(ledger) == Totals(2, 6, 2, kept=3)


def test_a_model_whose_completions_are_all_kept_is_never_opened(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "cache") as cache:
        list(CachedBackend(Spec(), cache).generate([Request("a")], SamplingParams(), Decoder()))
        spec = Spec()
        (made,) = CachedBackend(spec, cache).generate([Request("a")], SamplingParams(), Decoder())
    assert made.cached and not spec.opened


def test_other_decoders_are_passed_through_uncached(tmp_path: Path) -> None:
    spec = Spec()
    with ResponseCache(tmp_path / "cache") as cache:
        backend = CachedBackend(spec, cache)
        for _ in range(2):
            made = backend.generate([Request("a")], SamplingParams(), Decoder("edit_sequence"))
            assert [one.cached for one in made] == [False]
        assert len(spec.opened[0].calls) == 2 and cache.totals().answers == 0
        with pytest.raises(ConfigError, match="backend upper"):
            list(backend.generate([Request("a")], SamplingParams(), Decoder("rpg")))
