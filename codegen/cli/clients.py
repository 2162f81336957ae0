"""Which model a command calls and how: the options, the client, and what its responses cost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from codegen.cli.options import flag
from codegen.config import Config, setting
from codegen.errors import ConfigError
from codegen.terminal import echo

if TYPE_CHECKING:
    from codegen.cogex.model import PseudoModel
    from codegen.generation import Backend
    from codegen.generation.plans import ModelClient

_SHOTS = 2  # records shown to a model that was not trained on any


class ClientOptions(Config):
    """The options of generators that can call a model."""

    endpoint: str | None = setting(
        None, "Base URL of an OpenAI-compatible server, such as http://host/v1.", metavar="URL"
    )
    model: str = setting("", "Name of the model on that server.")
    llm: str | None = setting(
        None,
        "A local model instead: embedded, a directory, a hub id or a GGUF file.",
        metavar="MODEL",
    )
    batch_size: int = setting(
        1, "Requests that --llm runs at once; above 1 they affect one another.", ge=1
    )
    api_key_env: str = setting("", "Environment variable that holds the API key.")
    price_in: float = setting(0.0, "Price of a million prompt tokens.", ge=0)
    price_out: float = setting(0.0, "Price of a million completion tokens.", ge=0)
    cache: str | None = setting(
        None,
        "File that keeps the responses; '' for none.",
        metavar="FILE",
        shown="in the cache directory",
    )
    concurrency: int = setting(8, "Requests in flight at once.", ge=1)
    request_timeout: float = setting(120.0, "Time limit for one request in seconds.", gt=0)
    retries: int = setting(5, "Retries of a failed request.", ge=0)
    temperature: float = setting(0.0, "Sampling temperature.", ge=0)
    max_tokens: int = setting(2048, "Maximum tokens per response.", ge=1)
    body: dict[str, Any] = setting(
        {},
        "Additional field of each request; null removes a field. Repeatable.",
        metavar="FIELD=JSON",
    )


_FOR_ENDPOINTS = ("model", "api_key_env", "concurrency", "request_timeout", "retries", "body")


def check_client(
    client: ClientOptions, mode: str, modes: Sequence[str], more: Sequence[str] = ()
) -> None:
    """Checks that the options of a model fit the mode and one another.

    Args:
        mode: the mode chosen.
        modes: those that call a model.
        more: names of further options given that require a model.

    Raises:
        ConfigError: if they don't.
    """
    given = [
        *(name for name in type(client).model_fields if name in client.model_fields_set),
        *more,
    ]
    if mode not in modes:
        if given:
            remedy = " or ".join(f"--mode {name}" for name in modes)
            raise ConfigError(
                f"Mode {mode} calls no model, so {_flags(given)} cannot be used.",
                f"Add {remedy}.",
            )
        return
    if client.endpoint and client.llm:
        raise ConfigError("Both --endpoint and --llm are given.", "Give one of them.")
    if not (client.endpoint or client.llm):
        raise ConfigError(
            f"Mode {mode} requires a model.",
            "Give --endpoint URL and --model NAME, or --llm embedded.",
        )
    others = _FOR_ENDPOINTS if client.llm else ("batch_size",)
    if unused := [name for name in others if name in given]:
        kind = "--llm" if client.llm else "--endpoint"
        raise ConfigError(f"{_flags(unused)} cannot be combined with {kind}.", "Leave it out.")


def _flags(names: Sequence[str]) -> str:
    return ", ".join(map(flag, names))


def model_client(client: ClientOptions) -> ModelClient:
    """The model that the options name, and how it is used."""
    from codegen.generation.backends import Endpoint, LocalModel
    from codegen.generation.cached import Prices
    from codegen.generation.plans import ModelClient
    from codegen.models.embedded import cache_dir

    spec = (
        LocalModel(client.llm, client.batch_size)
        if client.llm
        else Endpoint(
            client.endpoint or "",
            client.model,
            client.api_key_env,
            concurrency=client.concurrency,
            timeout_s=client.request_timeout,
            retries=client.retries,
            body=tuple((name, json.dumps(value)) for name, value in client.body.items()),
        )
    )
    cache = str(cache_dir() / "responses.sqlite") if client.cache is None else client.cache
    prices = Prices(client.price_in, client.price_out)
    return ModelClient(spec, cache, "", client.temperature, client.max_tokens, prices)


@contextmanager
def counted(client: ModelClient) -> Iterator[tuple[ModelClient, dict[str, int]]]:
    """The client with a ledger, and its totals, which are filled in and printed at the end.

    They are printed after Ctrl-C too.
    """
    from codegen.generation.cached import read_ledger

    prices = client.prices
    spent: dict[str, int] = {}
    with NamedTemporaryFile(prefix="codegen-ledger-") as ledger:
        try:
            yield replace(client, ledger=ledger.name), spent
        finally:
            totals = read_ledger(ledger.name)
            tokens = totals.prompt_tokens, totals.completion_tokens
            spent["new_answers"] = totals.answers
            spent["prompt_tokens"], spent["completion_tokens"] = tokens
            spent["cost_micros"] = prices.micros(*tokens)
            cost = f", cost {spent['cost_micros'] / 1e6:.6g}" if prices.paid else ""
            is_kept = client.cache and totals.answers
            kept = f" They are kept in {client.cache}." if is_kept else ""
            echo(
                f"The model gave {totals.answers} new responses: {tokens[0]} prompt tokens, "
                f"{tokens[1]} completion tokens{cost}.{kept}",
                err=True,
            )


class PseudoModelOptions(Config):
    """The options that name a model to write and emulate pseudo-programs."""

    model: str = setting(
        "embedded",
        "Model: embedded, a directory, a hub id or a GGUF file; with --endpoint, its name there.",
    )
    endpoint: str | None = setting(
        None, "Base URL of an OpenAI-compatible server, such as http://host/v1.", metavar="URL"
    )
    api_key_env: str = setting("", "Environment variable that holds the API key.")
    shots: int | None = setting(
        None,
        "Example records in each prompt.",
        shown=f"0 if fine-tuned with format: plain, else {_SHOTS}",
        ge=0,
        le=5,
    )
    chat: bool | None = setting(
        None, "Send prompts as the user's turn of a chat.", shown="only with --endpoint"
    )
    batch_size: int = setting(16, "Requests at once.", ge=1)


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model, and what about it decides the responses (JSON values)."""

    model: PseudoModel
    identity: dict[str, Any]


@contextmanager
def opened_model(
    client: PseudoModelOptions, seed: int = 0, avoid: Sequence[str] = ()
) -> Iterator[OpenModel]:
    """The model that the options name.

    Args:
        avoid: families whose records are not shown, since they are the task.
    """
    from codegen.cogex.model import PseudoModel
    from codegen.cogex.tasks import shot_records
    from codegen.generation import Decoder
    from codegen.generation.backends import Endpoint, local_backend, open_backend
    from codegen.generation.cached import CachedBackend, ResponseCache
    from codegen.models.embedded import cache_dir

    with ExitStack() as stack:
        if client.endpoint:
            spec = Endpoint(
                client.endpoint, client.model, client.api_key_env, concurrency=client.batch_size
            )
            cache = stack.enter_context(ResponseCache(cache_dir() / "responses.sqlite"))
            backend: Backend = CachedBackend(spec, cache)
            identity, tuned, use_chat = spec.identity(), False, client.chat is not False
        else:
            if client.api_key_env:
                raise ConfigError("--api-key-env requires --endpoint.", "Leave it out.")
            kind = local_backend(client.model)
            backend = open_backend(kind, client.model, batch_size=client.batch_size)
            weights = backend.identity(Decoder())["model_fingerprint"]
            identity = {"model": client.model, "weights": weights}
            tuned, use_chat = backend.style == "plain", bool(client.chat)
        count = client.shots if client.shots is not None else 0 if tuned else _SHOTS
        model = PseudoModel(
            backend,
            client.model,
            shots=shot_records(count, avoid),
            chat=use_chat,
            batch_size=client.batch_size,
            seed=seed,
        )
        yield OpenModel(model, {**identity, "shots": count, "chat": use_chat})


def sql_writer(model: str, endpoint: str | None, api_key_env: str) -> Callable[[str], str]:
    """A function from a prompt to a model's completion, for ``codegen sqlnet ask``."""
    from codegen.generation import Decoder, Request, SamplingParams
    from codegen.generation.backends import Endpoint, LocalModel

    spec = Endpoint(endpoint, model, api_key_env) if endpoint else LocalModel(model)
    backend = spec.open()
    # A model on a server may reason before it answers.
    params = SamplingParams(4000 if endpoint else 400)

    def complete(prompt: str) -> str:
        (made,) = backend.generate([Request(prompt, chat=True, seed=0)], params, Decoder())
        if made.error:
            raise made.error
        return made.text

    return complete
