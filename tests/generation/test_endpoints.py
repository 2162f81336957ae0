"""The seam: a back-end in a few lines, pairs that are refused, names, models behind settings."""

from __future__ import annotations

import pickle
import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from codegen.core.errors import CodegenError, ConfigError
from codegen.core.generation import RequestFailed, request_seed
from codegen.generation import (
    Backend,
    Completion,
    Decoder,
    LocalModel,
    Request,
    SamplingParams,
    backend_class,
    editor_backend,
    local_backend,
    open_backend,
)
from codegen.generation.completion_cache import (
    CachedBackend,
    CostLog,
    ResponseCache,
    Totals,
    read_ledger,
)
from codegen.generation.decoders import supported
from codegen.generation.endpoints import (
    Endpoint,
    NamedEndpoint,
    add_endpoint,
    endpoints_file,
    find_endpoint,
    named_endpoints,
    remove_endpoint,
)
from codegen.models.pretrained import MODELS, Weights


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


KEYS = [
    "sk-proj-0123456789abcdefABCDEF",
    "hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "gsk_1a2b3c4d5e6f7g8h9i0jAbCdEfGhIj",
    "0123456789abcdef0123456789abcdef",
    "a94a8fe5ccb19ba61c4c0873d391e987",
    "AIzaSyA-1234567890abcdefghijklmnopqrstu",
    "Bearer abc",
    "two words",
]


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CODEGEN_CONFIG", str(tmp_path / "config"))
    return tmp_path / "config" / "models.toml"


def test_what_is_added_is_found_and_only_the_user_can_read_it(own_file: Path) -> None:
    full = NamedEndpoint(
        url="https://host/v1",
        model="org/big",
        api_key_env="HOST_KEY",
        price_in=0.4,
        concurrency=3,
        chat=False,
        body={"max_tokens": None, "reasoning": {"effort": "low"}, "top_k": 1},
    )
    add_endpoint("big", full)
    assert add_endpoint("local", NamedEndpoint(url="http://localhost:1/v1")) == own_file
    assert stat.S_IMODE(own_file.stat().st_mode) == 0o600
    assert named_endpoints() == {"big": full, "local": NamedEndpoint(url="http://localhost:1/v1")}
    assert find_endpoint("big") == full and find_endpoint("other") is None
    endpoint = full.endpoint("big")
    assert (endpoint.model, endpoint.style, endpoint.price_in) == ("org/big", "continue", 0.4)
    assert endpoint.extra() == {"max_tokens": None, "reasoning": {"effort": "low"}, "top_k": 1}
    assert NamedEndpoint(url="http://h").endpoint("local").model == "local"
    remove_endpoint("big")
    assert list(named_endpoints()) == ["local"]
    with pytest.raises(ConfigError, match=r"Unknown endpoint 'lokal'. Did you mean 'local'"):
        remove_endpoint("lokal")


def test_a_file_written_by_hand_keeps_its_comments(own_file: Path) -> None:
    own_file.parent.mkdir()
    own_file.write_text(
        '# mine\n[a]\nurl = "http://h/v1"  # here\nprice_in = 2\n\n'
        '[b]\nurl = "http://i/v1"\nbody = { max_tokens = "null" }\n'
    )
    assert find_endpoint("a") == NamedEndpoint(url="http://h/v1", price_in=2.0)
    add_endpoint("b", NamedEndpoint(url="http://j/v1"))
    add_endpoint("c", NamedEndpoint(url="http://k/v1"))
    text = own_file.read_text()
    assert "# mine" in text and "# here" in text
    assert [one["url"][7] for one in tomllib.loads(text).values()] == ["h", "j", "k"]


def test_names_that_several_add_at_once_are_all_kept(own_file: Path) -> None:
    names = [f"m{i}" for i in range(12)]
    with ThreadPoolExecutor(len(names)) as pool:  # each opens the directory for itself
        list(pool.map(lambda name: add_endpoint(name, NamedEndpoint(url="http://h/v1")), names))
    assert sorted(named_endpoints()) == sorted(names)


def test_a_link_to_the_file_is_followed(own_file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("")
    own_file.parent.mkdir()
    own_file.symlink_to(real)
    add_endpoint("a", NamedEndpoint(url="http://h/v1"))
    assert own_file.is_symlink() and "http://h/v1" in real.read_text()


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_place_of_a_variable_is_refused_and_not_shown(own_file: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="looks like an API key") as caught:
        NamedEndpoint(url="http://h/v1", api_key_env=key)
    assert key not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        Endpoint("http://h/v1", "m", api_key_env=key)
    assert key not in str(caught.value)
    own_file.parent.mkdir()
    for line in (f'api_key_env = "{key}"', f'api_key = "{key}"', f'body = {{ api_key = "{key}" }}'):
        own_file.write_text(f'[a]\nurl = "http://h/v1"\n{line}\n')
        with pytest.raises(ConfigError, match=r"models.toml, \[a\]") as caught:
            find_endpoint("a")
        assert key not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "my_key", "KEY2", "_K", "MISTRAL_API_KEY_2026_11_27", "openai_key_1"]
)
def test_names_of_variables_are_taken(name: str) -> None:
    assert NamedEndpoint(url="http://h/v1", api_key_env=name).api_key_env == name


def test_the_table_of_models_names_their_back_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "coder", replace(MODELS["coder"], backend="transformers"))
    found = [local_backend(name) for name in ("embedded", "coder", "coder-1.5b")]
    assert found == ["transformers", "transformers", "llamacpp"]
    assert [one.name for one in MODELS.values() if one.splits_digits] == ["embedded"]
    model = type(MODELS["coder"])
    for weights, backend in ((None, "llamacpp"), (Weights(Path("w"), "hub"), "transformers")):
        monkeypatch.setattr(model, "find", lambda _, weights=weights: weights)
        assert editor_backend("coder-1.5b") == backend


@pytest.mark.parametrize("name", ["", "a/b", "new", "-x", ".hid", "a b", "é", "x" * 65, *MODELS])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a valid endpoint name"):
        add_endpoint(name, NamedEndpoint(url="http://h/v1"))
    assert find_endpoint(name) is None and not endpoints_file().exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a\n", "not valid TOML"),
        ("a = 1\n", r"\[a\]"),
        ("[a]\nmodel = 'm'\n", "'url' is missing"),
        ("[a]\nurl = 'ftp://h'\n", "not an http or https URL"),
        ("[a]\nurl = 'http://h'\nurll = 1\n", "unknown key 'urll'. Did you mean 'url'"),
        ("[a]\nurl = 'http://h'\nprice_in = -1\n", "price_in"),
        ("[a]\nurl = 'http://h'\nprice_in = nan\n", "price_in"),
        ("[a]\nurl = 'http://h'\nconcurrency = 1.5\n", "concurrency"),
        ("[a]\nurl = 'http://u:hunter2@h/v1'\n", "a user"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(own_file: Path, text: str, message: str) -> None:
    own_file.parent.mkdir()
    own_file.write_text(text)
    with pytest.raises(CodegenError, match=message) as caught:
        find_endpoint("a")
    assert "models.toml" in str(caught.value) and "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value).strip()


VALUES: dict[str, Any] = {
    "url": st.sampled_from(["http://localhost:1/v1", "https://h"]),
    "model": st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20),
    "price_in": st.floats(0, 100),
    "retries": st.integers(0, 9),
    "chat": st.none() | st.booleans(),
    "body": st.dictionaries(
        st.text("abc", min_size=1), st.none() | st.integers(-9, 9) | st.text("xy é\n"), max_size=3
    ),
}


@pytest.mark.parametrize("field", ["messages", "prompt", "model", "stream", "stream_options", "n"])
def test_what_each_request_sets_is_refused_in_the_body(field: str) -> None:
    for value in (None, 1):
        with pytest.raises(ConfigError, match=f"{field!r} is set by each request"):
            NamedEndpoint(url="http://h/v1", body={field: value})
