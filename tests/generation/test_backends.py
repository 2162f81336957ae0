"""The seam: a back-end in a few lines, pairs that are refused, names, models behind settings."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from codegen.core.errors import ConfigError
from codegen.core.generation import (
    CAPABILITIES,
    RequestFailed,
    request_seed,
    settings_of,
)
from codegen.generation import Backend, Completion, Decoder, Request, SamplingParams, samples
from codegen.generation.backends import Endpoint, LocalModel, backend_class, open_backend
from codegen.generation.completion_cache import (
    CachedBackend,
    CostLog,
    ResponseCache,
    Totals,
    read_ledger,
)
from codegen.generation.decoders import READERS, STRATEGIES, supported


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


def test_samples_are_made_of_completions_and_settings() -> None:
    params = SamplingParams(9, 0.5, 0.9, 3)
    requests = [Request("ab", task="t", problem_id=f"p{i}", index=i) for i in range(3)]
    pieces: dict[int, str] = {}
    backend = Upper("m")
    found = list(samples(backend, requests, params, Decoder(), pieces.__setitem__))
    assert [sample.problem_id for sample in found] == ["p2", "p1", "p0"]
    for sample in found:
        assert (sample.task, sample.prompt, sample.completion) == ("t", "ab", "AB")
        assert sample.settings == {**settings_of("m", params, Decoder()), "backend": "upper"}
        assert sample.seed == request_seed(3, requests[sample.index])
        assert (sample.prompt_tokens, sample.completion_tokens) == (3, 2)
    assert pieces == {0: "AB", 1: "AB", 2: "AB"}


def test_the_reader_is_any_back_ends() -> None:
    edit = "<|diff|>\n@@ -0,0 +1 @@\n+x = 1"
    (made,) = Upper("m").generate([Request(edit)], SamplingParams(), Decoder("edit_sequence"))
    assert (made.text, made.meta["edits"]) == ("X = 1\n", 1) and made.actions == edit.upper()


def test_a_request_that_fails_alone_names_its_problem_only_as_a_sample() -> None:
    requests = [Request("a"), Request("", problem_id="HumanEval/7")]
    good, bad = sorted(
        Upper("m").generate(requests, SamplingParams(), Decoder()), key=lambda made: made.number
    )
    assert good.text == "A" and str(bad.error) == "The prompt is empty."
    with pytest.raises(RequestFailed, match=r"^HumanEval/7: The prompt is empty"):
        list(samples(Upper("m"), requests, SamplingParams(), Decoder()))


def test_a_text_that_a_server_withheld_is_an_ending_of_its_own_until_it_is_a_sample() -> None:
    for stop, reason in (((), "eos"), (("x",), "stop")):
        made = Completion(0, Request("", stop=stop), "t", finish_reason="content_filter")
        assert made.sample({}).finish_reason == reason


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
