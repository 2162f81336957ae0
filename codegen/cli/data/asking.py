"""What commands that ask a model share: its options, the model they name, what it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from codegen.cli.data.options import run_generator
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.generation.cached import Prices
    from codegen.generation.plans import ModelClient

# With a model, an example takes as long as its answers do: requests have limits of their own, and
# an example lost to this one would have been paid for.
_ITEM_TIMEOUT_S = 86_400.0


def _fields(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    for value in values:
        if "=" not in value or value.startswith("="):
            raise click.BadParameter(f"{value!r} is not FIELD=JSON")
    return tuple(tuple(value.split("=", 1)) for value in values)


def model_options(command: Any) -> Any:
    """The options of modes that ask a model."""
    at_least_0 = click.FloatRange(0)
    decorators = [
        click.option("--endpoint", metavar="URL", help="OpenAI-compatible server, http://host/v1."),
        click.option("--model", default="", help="The model's name on that server."),
        click.option("--llm", metavar="MODEL", help="A local model: embedded, a path or hub id."),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="Questions that --llm answers at once; above 1 they slightly affect one another.",
        ),
        click.option("--api-key-env", default="", help="Environment variable with the API key."),
        click.option("--price-in", type=at_least_0, default=0.0, help="Per million tokens asked."),
        click.option("--price-out", type=at_least_0, default=0.0, help="Per million answered."),
        click.option("--cache", metavar="FILE", help="Where answers are kept; '' for nowhere."),
        click.option("--concurrency", type=click.IntRange(1), default=8, show_default=True),
        click.option(
            "--request-timeout",
            type=click.FloatRange(0, min_open=True),
            default=120.0,
            show_default=True,
            help="Seconds that one request may take.",
        ),
        click.option("--retries", type=click.IntRange(0), default=5, show_default=True),
        click.option("--temperature", type=at_least_0, default=0.0, show_default=True),
        click.option("--max-tokens", type=click.IntRange(1), default=2048, show_default=True),
        click.option(
            "--body",
            multiple=True,
            metavar="FIELD=JSON",
            callback=_fields,
            help="A further field of each request; null takes one out.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


_OF_ENDPOINTS = ("model", "api_key_env", "concurrency", "request_timeout", "retries", "body")
_OPTIONS = (
    *("endpoint", "model", "llm", "batch_size", "api_key_env", "price_in", "price_out", "cache"),
    *("concurrency", "request_timeout", "retries", "temperature", "max_tokens", "body"),
)


def take_model(
    mode: str, modes: Sequence[str], options: dict[str, Any], more: Sequence[str] = ()
) -> tuple[ModelClient | None, dict[str, Any]]:
    """The model that the options name, and its own options, taken out of ``options``.

    Args:
        mode: the one chosen.
        modes: those that ask a model.
        options: all options of the command.
        more: names of further options that belong to a model.

    Raises:
        ConfigError: if the options don't fit the mode or one another.
    """
    names = (*_OPTIONS, *more)
    source_of = click.get_current_context().get_parameter_source
    given = [name for name in names if source_of(name) != ParameterSource.DEFAULT]
    own = {name: options.pop(name) for name in names}
    if mode not in modes:
        if given:
            shown = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigError(
                f"Mode {mode} asks no model, so it has no use for {shown}.",
                f"Add {' or '.join(f'--mode {name}' for name in modes)}.",
            )
        return None, own
    if own["endpoint"] and own["llm"]:
        raise ConfigError("Both --endpoint and --llm are given.", "Give one of them.")
    idle = [name for name in (_OF_ENDPOINTS if own["llm"] else ("batch_size",)) if name in given]
    if idle:
        names = ", ".join("--" + name.replace("_", "-") for name in idle)
        kind = "--llm" if own["llm"] else "--endpoint"
        raise ConfigError(f"{kind} has no use for {names}.", "Leave it out.")
    if not (own["endpoint"] or own["llm"]):
        raise ConfigError(
            f"Mode {mode} needs a model.",
            "Give --endpoint URL and --model NAME, or --llm embedded.",
        )
    if own["cache"] is None:
        from codegen.models.embedded import cache_dir

        own["cache"] = str(cache_dir() / "responses.sqlite")
    from codegen.generation.backends import Endpoint, LocalModel
    from codegen.generation.cached import Prices
    from codegen.generation.plans import ModelClient

    if own["llm"]:
        spec = LocalModel(own["llm"], own["batch_size"])
    else:
        spec = Endpoint(
            own["endpoint"],
            own["model"],
            own["api_key_env"],
            concurrency=own["concurrency"],
            timeout_s=own["request_timeout"],
            retries=own["retries"],
            body=own["body"],
        )
    client = ModelClient(
        spec,
        own["cache"],
        temperature=own["temperature"],
        max_tokens=own["max_tokens"],
        prices=Prices(own["price_in"], own["price_out"]),
    )
    return client, own


def run_asking(
    name: str,
    settings: Mapping[str, Any],
    client: ModelClient,
    own: Mapping[str, Any],
    options: dict[str, Any],
) -> Mapping[str, Any]:
    """Runs a generator with a model; the summary also says what its completions took."""
    from dataclasses import replace

    from codegen.data import make

    context = click.get_current_context()
    if context.get_parameter_source("item_timeout") == ParameterSource.DEFAULT:
        options["item_timeout"] = _ITEM_TIMEOUT_S
    options["workers"] = options["workers"] or 1  # one process keeps all requests in flight
    at_once = own["batch_size"] if own["llm"] else own["concurrency"]
    options["chunk_size"] = max(options["chunk_size"], at_once)  # a chunk's requests go together
    with NamedTemporaryFile(prefix="codegen-ledger-") as ledger:
        generator = make(name, **settings, llm=replace(client, ledger=ledger.name))
        spent: dict[str, int] = {}
        with _counting(ledger.name, client.cache, client.prices, spent):
            summary = run_generator(generator, **options)
    if unanswered := summary["counts"]["failed"].get("RequestFailed"):
        click.echo(_how_to_ask_again(unanswered, own["cache"]), err=True)
    return {**summary, "llm": spent}


@contextmanager
def _counting(ledger: str, cache: str, prices: Prices, spent: dict[str, int]) -> Iterator[None]:
    """Says at the end, Ctrl-C included, what the model's new answers took and cost."""
    from codegen.generation.cached import read_ledger

    try:
        yield
    finally:
        totals = read_ledger(ledger)
        tokens = totals.prompt_tokens, totals.completion_tokens
        spent["new_answers"] = totals.answers
        spent["prompt_tokens"], spent["completion_tokens"] = tokens
        spent["cost_micros"] = prices.micros(*tokens)
        cost = f", cost {spent['cost_micros'] / 1e6:.6g}" if prices.paid else ""
        kept = f" They are kept in {cache}." if cache and totals.answers else ""
        click.echo(
            f"The model gave {totals.answers} new answers: {tokens[0]} tokens asked, "
            f"{tokens[1]} answered{cost}.{kept}",
            err=True,
        )


def _how_to_ask_again(unanswered: int, cache: str) -> str:
    others = f"all other answers come from {cache}" if cache else "without --cache, for all of them"
    return (
        f"No answer came for {unanswered} of the examples (RequestFailed in rejects.jsonl). "
        f"To ask for them again, run the same with another --out: {others}."
    )
