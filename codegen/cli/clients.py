"""Options of commands that call models, the model's client, and the cost of its responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from importlib.util import find_spec
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, Literal

from codegen.cli.options import flag
from codegen.core.config import Config, Option, keyed, setting
from codegen.core.errors import ConfigError, ModelError, plural
from codegen.core.terminal import echo
from codegen.generation import local_backend
from codegen.generation.endpoints import EndpointSettings, NamedEndpoint, check_name, find_endpoint

if TYPE_CHECKING:
    from codegen.cogex.model import PseudoModel
    from codegen.generation import Backend
    from codegen.generation.completion_cache import Prices
    from codegen.generation.endpoints import Endpoint
    from codegen.generation.request_chains import ModelClient

SqlGrammar = Literal["auto", "none", "decoder", "llama.cpp", "vllm"]
"""Method that constrains completions to a SQL grammar: in this process (``decoder``) or by a
request field of llama.cpp or vLLM. ``auto``: only for models on this machine.
"""

_TEMPERATURE = 0.8  # from the second statement on; the first is greedy
_NO_MODEL = "embedded"  # the default of --model, never a server's model
_TAKES_OPTIONS = ("transformers", "vllm", "llamacpp")  # backends with their own options
_SHOTS = 2  # example records in the prompts of a model that was not trained on them


class _Server(Config):
    endpoint: str | None = setting(
        None,
        "Base URL of an OpenAI-compatible server, such as http://host/v1. Not needed for a name in "
        "`codegen models list`.",
        metavar="URL",
    )


class EndpointOptions(EndpointSettings, _Server):  # base order: --endpoint first
    """Options of all commands that can call a server."""

    max_cost: float = setting(0.0, "Maximum cost of new responses; 0 for no limit.", ge=0)
    cache: str | None = setting(
        None,
        "Cache file for responses; '' disables the cache.",
        metavar="FILE",
        shown="in the cache directory",
    )

    def find(self, model: str, at_once: int | None = None) -> Endpoint | None:
        """Returns the model on a server that a name and these options select; None if local.

        Args:
            model: value of --model or --llm: the name of an endpoint, or with --endpoint the
                server's name for it; ``embedded`` (the default) and "" select the server's only
                model.
            at_once: requests in flight, unless these options or the endpoint set them.

        Raises:
            ModelError: if the model's name is invalid.
            ConfigError: if the options contradict each other, require a server but have none, or
                have no model and the server does not have exactly one.
        """
        named = None if self.endpoint else find_endpoint(model)
        if named is None and self.endpoint is None:
            if self.model_fields_set:
                raise ConfigError(
                    f"{self.given()} cannot be used without a server.",
                    "Pass --endpoint URL, or the name of an endpoint (`codegen models list`).",
                )
            check_name(model)
            return None
        if self.endpoint and find_endpoint(self.endpoint):
            raise ConfigError(
                f"{self.endpoint!r} is the name of an endpoint, not a URL.",
                f"Pass --model {self.endpoint} (or --llm {self.endpoint}) without --endpoint.",
            )
        found = named or NamedEndpoint(url=self.endpoint or "", model=model)
        given = {
            name: getattr(self, name)
            for name in EndpointSettings.model_fields
            if name in self.model_fields_set
        }
        if at_once and "concurrency" not in found.model_fields_set:
            given = {"concurrency": at_once, **given}
        endpoint = found.model_copy(update=given).endpoint(model or _NO_MODEL)
        if self.endpoint and model in ("", _NO_MODEL):
            from codegen.generation.openai import only_model

            endpoint = replace(endpoint, model=only_model(endpoint))
        return replace(endpoint, max_cost=self.max_cost)

    def given(self) -> str:
        """Lists the options that the user passed, for errors."""
        return _flags([name for name in type(self).model_fields if name in self.model_fields_set])

    def cache_file(self) -> str:
        """Returns the path of the response cache; empty for none."""
        from codegen.core.paths import cache_folder

        return str(cache_folder() / "responses-2.sqlite") if self.cache is None else self.cache


class BackendOptions(Config):
    """Options of the backend and the decoder."""

    backend: str = setting(
        "transformers",
        "Backend: transformers (in this process), llamacpp (llama.cpp; the default for a GGUF "
        "file), vllm (docs/vllm.md), or openai (an OpenAI-compatible server; the default with "
        "--endpoint or the name of an endpoint).",
    )
    engine: dict[str, Any] = keyed(
        {},
        "Backend options: dtype, device, device_map, bits or compile of transformers "
        "(docs/gpu.md); options of vLLM (docs/vllm.md); context, threads, slots or gpu_layers of "
        "llama.cpp (docs/models.md).",
    )
    decoder: str | None = setting(
        None,
        "Decoder: sample, edit_sequence, backspace or insertion; or, alone or joined by +: rpg, "
        "repetition_penalty, no_repeat_ngram, dry (against repetition), suffix, edit, rsd, "
        "sorted (same output, faster), superposed (all -n samples of a prompt in one forward pass "
        "per token).",
        metavar="NAME",
        shown="the model's training format",
    )
    decoder_option: dict[str, Any] = setting(
        {},
        "Decoder option, such as mode=paper or k_min=5 (docs/rpg.md), or draft=DIR (rsd, sorted).",
        rest=True,
    )

    def choose(
        self, model: str, server: EndpointOptions, at_once: int | None = None
    ) -> tuple[Endpoint | None, str, dict[str, Any]]:
        """Returns the endpoint or None, the backend, and the backend's arguments to open a model.

        Args:
            model, server, at_once: see :meth:`EndpointOptions.find`.

        Raises:
            ConfigError: if the options contradict each other.
        """
        endpoint = self._endpoint(model, server, at_once)
        if endpoint:
            return endpoint, "openai", {}
        is_chosen = "backend" in self.model_fields_set
        backend = self.backend if is_chosen else local_backend(model, self.decoder)
        return None, backend, {"options": self.engine} if backend in _TAKES_OPTIONS else {}

    def _endpoint(
        self, model: str, server: EndpointOptions, at_once: int | None
    ) -> Endpoint | None:
        is_chosen = "backend" in self.model_fields_set
        if is_chosen and self.backend != "openai":
            if server.model_fields_set:
                raise ConfigError(f"{server.given()} requires --backend openai.")
            return None
        if is_chosen and server.endpoint is None and find_endpoint(model) is None:
            raise ConfigError(
                "--backend openai requires --endpoint URL, or the name of an endpoint as --model.",
                "List the names with: codegen models list",
            )
        found = server.find(model, at_once)
        if found and self.engine:
            raise ConfigError("-o engine cannot be combined with a server.", "Omit -o engine.")
        return found


class ClientOptions(Config):
    """Model of a generator; :class:`EndpointOptions` has the options of its server."""

    model: str = setting("", "Name of an endpoint, or with --endpoint a model of that server.")
    llm: str | None = setting(
        None,
        "Model: embedded, a directory, a hub id, a GGUF file or the name of an endpoint.",
        metavar="MODEL",
    )
    batch_size: int = setting(
        1, "Batch size of a local --llm; above 1, results depend on the batch.", ge=1
    )
    temperature: float = setting(0.0, "Sampling temperature.", ge=0)
    max_tokens: int = setting(2048, "Maximum tokens per response.", ge=1)


def model_client(
    client: ClientOptions,
    server: EndpointOptions,
    mode: str,
    modes: Sequence[str],
    more: Sequence[str] = (),
) -> ModelClient | None:
    """Returns the selected model and its settings; None if the mode calls no model.

    Args:
        modes: modes that call a model.
        more: names of other passed options that require a model.

    Raises:
        ConfigError: if the options contradict the mode or each other.
    """
    from codegen.generation import LocalModel
    from codegen.generation.completion_cache import Prices
    from codegen.generation.endpoints import Endpoint
    from codegen.generation.request_chains import ModelClient

    given = [name for name in type(client).model_fields if name in client.model_fields_set]
    of_server = [name for name in type(server).model_fields if name in server.model_fields_set]
    if mode not in modes:
        if given := [*given, *of_server, *more]:
            remedy = " or ".join(f"--mode {name}" for name in modes)
            raise ConfigError(
                f"Mode {mode} calls no model, so {_flags(given)} cannot be used.",
                f"Add {remedy}.",
            )
        return None
    if client.llm and (server.endpoint or client.model):
        raise ConfigError("--llm cannot be combined with --endpoint or --model.", "Omit --llm.")
    if not (server.endpoint or client.llm or client.model):
        raise ConfigError(
            f"Mode {mode} requires a model.",
            "Pass --endpoint URL and --model NAME, --llm embedded, or --llm with a NAME from "
            "`codegen models list`.",
        )
    local = client.llm if client.llm and not find_endpoint(client.llm) else None
    if local:
        check_name(local)
    refused = ["batch_size"]
    if local:
        kept = ("cache", "price_in", "price_out")
        refused = ["model", *(name for name in of_server if name not in kept)]
    if unused := [name for name in (*given, *of_server) if name in refused]:
        kind = "a local model" if local else "a server"
        raise ConfigError(f"Cannot use {_flags(unused)} with {kind}.", f"Omit {_flags(unused)}.")
    name = client.llm or client.model
    spec = LocalModel(local, client.batch_size) if local else server.find(name)
    if spec is None:
        raise ConfigError(
            f"Unknown endpoint {name!r}.",
            "Add it with `codegen models add`, or pass --endpoint URL, or a local model with "
            "--llm.",
        )
    priced = spec if isinstance(spec, Endpoint) else server
    prices = Prices(priced.price_in, priced.price_out)
    return ModelClient(spec, server.cache_file(), "", client.temperature, client.max_tokens, prices)


def _flags(names: Sequence[str]) -> str:
    """Writes options as on the command line."""
    fields = EndpointOptions.model_fields
    keyed = {name for name, info in fields.items() if Option.of(info).key}
    return ", ".join(f"-o {name}" if name in keyed else flag(name) for name in names)


@contextmanager
def counted(prices: Prices, cache: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Yields a ledger file and a dict for its totals, which are filled in and printed at the end.

    If any response is new, the totals are also printed after Ctrl-C and errors.

    Args:
        cache: path of the response cache, for the message; empty for none.
    """
    from codegen.generation.completion_cache import Totals, read_ledger

    spent: dict[str, int] = {}
    with NamedTemporaryFile(prefix="codegen-ledger-") as ledger:
        ended = False
        try:
            yield ledger.name, spent
            ended = True
        finally:
            totals = read_ledger(ledger.name)
            tokens = totals.prompt_tokens, totals.completion_tokens
            spent["new_answers"] = totals.answers
            spent["retries"] = totals.retries
            spent["prompt_tokens"], spent["completion_tokens"] = tokens
            spent["cost_micros"] = prices.micros(*tokens)
            cost = f", cost {spent['cost_micros'] / 1e6:.6g}" if prices.paid else ""
            again = f", {plural(totals.retries, 'request')} retried" if totals.retries else ""
            kept = f" They are cached in {cache}." if cache and totals.answers else ""
            if ended and totals.kept and totals == Totals(kept=totals.kept):
                echo(
                    f"All responses ({totals.kept}) came from the cache {cache}. To request new "
                    "ones, add --cache ''.",
                    err=True,
                )
            elif totals.answers or any(tokens):
                echo(
                    f"New responses: {totals.answers} ({plural(tokens[0], 'prompt token')}, "
                    f"{plural(tokens[1], 'completion token')}{cost}{again}).{kept}",
                    err=True,
                )


@contextmanager
def opened_endpoint(
    endpoint: Endpoint, server: EndpointOptions
) -> Iterator[tuple[Backend, dict[str, int]]]:
    """Yields a server's model with the response cache, and the tokens and cost of new responses.

    The totals are filled in and printed at the end.
    """
    from codegen.generation.completion_cache import CachedBackend, CostLog, Prices, ResponseCache

    cache = server.cache_file()
    with (
        counted(Prices(endpoint.price_in, endpoint.price_out), cache) as (ledger, spent),
        ResponseCache(cache) if cache else nullcontext() as kept,
    ):
        yield CachedBackend(endpoint, kept, CostLog(ledger)), spent


class PseudoModelOptions(Config):
    """Model that writes and emulates pseudo-programs."""

    model: str = setting(
        "embedded",
        "Model: embedded, a directory, a hub id, a GGUF file or an endpoint; with --endpoint, a "
        "model of that server.",
    )
    shots: int | None = keyed(
        None,
        "Number of example records in each prompt.",
        shown=f"0 if fine-tuned with format: plain, else {_SHOTS}",
        ge=0,
        le=5,
    )
    chat: bool | None = keyed(
        None, "Send prompts as a user's chat message.", shown="only with --endpoint"
    )
    batch_size: int = keyed(16, "Maximum concurrent requests.", ge=1)


@contextmanager
def opened_model(
    client: PseudoModelOptions,
    server: EndpointOptions,
    seed: int = 0,
    avoid: Sequence[str] = (),
) -> Iterator[tuple[PseudoModel, dict[str, Any]]]:
    """Yields the selected model, and its settings that affect the responses.

    Args:
        avoid: problem families, such as the task itself, to exclude from the example records.
    """
    from codegen.cogex.model import PseudoModel
    from codegen.cogex.search import shot_records
    from codegen.generation import Decoder, open_backend

    def made(
        backend: Backend, identity: dict[str, Any], tuned: bool, chat: bool
    ) -> tuple[PseudoModel, dict[str, Any]]:
        name = client.model if server.endpoint is None else backend.model
        count = client.shots if client.shots is not None else 0 if tuned else _SHOTS
        model = PseudoModel(
            backend,
            name,
            shots=shot_records(count, avoid),
            chat=chat,
            batch_size=client.batch_size,
            seed=seed,
        )
        return model, {**identity, "shots": count, "chat": chat}

    if endpoint := server.find(client.model, client.batch_size):
        chat = endpoint.style == "chat" if client.chat is None else client.chat
        with opened_endpoint(endpoint, server) as (backend, _):
            yield made(backend, endpoint.identity(), False, chat)
        return
    kind = local_backend(client.model)
    backend = open_backend(kind, client.model, batch_size=client.batch_size)
    weights = backend.identity(Decoder())["model_fingerprint"]
    identity = {"model": client.model, "weights": weights}
    yield made(backend, identity, backend.style == "plain", bool(client.chat))


def check_model(model: str, server: EndpointOptions) -> None:
    """Checks a model's name, without loading the model or calling a server.

    Raises:
        ModelUnusable: if the model does not exist; hub ids are not looked up.
        ConfigError: if the options contradict each other.
    """
    from codegen.core.generation import ModelUnusable
    from codegen.models import resolve
    from codegen.models.pretrained import MODELS

    try:
        is_known = server.find(model) or model in MODELS
        if not is_known and local_backend(model) == "transformers":
            resolve(model)
    except ModelError as error:
        raise ModelUnusable(error.message, error.remedy) from None


@contextmanager
def sql_writer(
    model: str, server: EndpointOptions, gbnf: str = "", style: SqlGrammar = "auto"
) -> Iterator[Callable[[str, int], list[str]]]:
    """Yields a function (prompt, n) -> n completions, for ``codegen sqlnet ask``.

    Args:
        model, server: see :meth:`EndpointOptions.find`.
        gbnf: grammar that constrains the completions; empty for none.
    """
    from codegen.generation import Decoder, Request, SamplingParams, open_backend
    from codegen.generation.openai import OpenAIBackend

    endpoint = server.find(model)
    kind = "openai" if endpoint else local_backend(model)
    if style == "auto":
        here = {"transformers": "decoder", "llamacpp": "llama.cpp"}
        style = here.get(kind, "none")  # type: ignore[assignment]
        if style == "decoder" and find_spec("llguidance") is None:
            style = "none"
    fields = {"llama.cpp": ("grammar", gbnf), "vllm": ("structured_outputs", {"grammar": gbnf})}
    name, value = fields.get(style, ("", "")) if gbnf else ("", "")
    body = ((name, json.dumps(value)),) if name else ()
    decoder = Decoder("grammar", {"gbnf": gbnf}) if gbnf and style == "decoder" else Decoder()
    # A model on a server may reason before it answers.
    most = 4000 if endpoint and not body else 400
    with ExitStack() as stack:
        if endpoint:
            endpoint = replace(endpoint, body=(*endpoint.body, *body))
            backend, _ = stack.enter_context(opened_endpoint(endpoint, server))
        else:
            backend = open_backend(kind, model, batch_size=4)
            if isinstance(backend, OpenAIBackend):
                backend.endpoint = replace(backend.endpoint, body=(*backend.endpoint.body, *body))

        def complete(prompt: str, number: int) -> list[str]:
            texts: list[str] = []
            for count, temperature in ((1, 0.0), (number - 1, _TEMPERATURE)):
                requests = [Request(prompt, chat=True, seed=index) for index in range(count)]
                params = SamplingParams(most, temperature)
                new = backend.generate(requests, params, decoder)
                made = sorted(new, key=lambda one: one.number)
                failed = [one.error for one in made if one.error]
                if failed and not texts:
                    raise failed[0]
                texts += [one.text for one in made if not one.error]
            return texts

        yield complete
