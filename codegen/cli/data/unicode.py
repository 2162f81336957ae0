"""``codegen data unicode``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.generation.asking import Prices
    from codegen.generation.endpoint_settings import Endpoint
    from codegen.generation.local_model import LocalModel

# With a model, an example takes as long as its answers do: requests have limits of their own, and
# an example lost to this one would have been paid for.
_ITEM_TIMEOUT_S = 86_400.0


def _names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def _fields(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[Any, ...]:
    for value in values:
        if "=" not in value or value.startswith("="):
            raise click.BadParameter(f"{value!r} is not FIELD=JSON")
    return tuple(tuple(value.split("=", 1)) for value in values)


def _model_options(command: Any) -> Any:
    """The options of modes ``llm`` and ``hybrid``."""
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
        click.option(
            "--min-score",
            type=click.IntRange(0, 5),
            default=0,
            show_default=True,
            help="Mode llm: have each text graded, keep these grades; 0: no grades. 4 is strict.",
        ),
        click.option(
            "--snippets",
            is_flag=True,
            help="Mode llm: programs inspire new tasks (OSS-Instruct); no instruction is read.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@click.command(
    short_help="Make pseudo-code between question and program (UniCoder).",
    epilog=example(
        "codegen data unicode humaneval --out data/unicode\n  "
        "codegen data unicode pairs.jsonl --out data/llm --mode llm \\\n    "
        "--endpoint http://localhost:8000/v1 --model my-model"
    ),
)
@click.option(
    "--mode",
    type=click.Choice(["ast", "llm", "hybrid"]),
    default="ast",
    show_default=True,
    help="Who writes the pseudo-code: the syntax tree, a model, or both (the model comments).",
)
@click.option(
    "--objectives",
    default="qa,qp,pa,uot",
    show_default=True,
    callback=_names,
    help="Texts for each example: question to answer, to pseudo-code, pseudo-code to answer, both.",
)
@click.option(
    "--styles",
    default="mix",
    show_default=True,
    callback=_names,
    help="Forms of pseudo-code: mix (all), or of braces, begin_end, indent; each with _lower.",
)
@click.option("--template", type=click.Choice(["plain", "alpaca"]), default="plain")
@_model_options
@run_options
@json_option
def unicode(
    mode: str,
    objectives: tuple[str, ...],
    styles: tuple[str, ...],
    template: str,
    **options: Any,
) -> Mapping[str, Any]:
    """Put pseudo-code between questions and programs (UniCoder).

    Modes llm and hybrid ask a model. Its answers are kept in a file: run again after Ctrl-C, or
    with other objectives, and none is paid for twice.
    """
    from codegen.data import make
    from codegen.generation.asking import Prices

    model, own = _model(mode, options)
    prices = Prices(own["price_in"], own["price_out"])
    settings: dict[str, Any] = {
        "mode": mode,
        "objectives": objectives,
        "styles": styles,
        "template": template,
    }
    if model is None:
        return run_generator(make("unicode", **settings), **options)
    context = click.get_current_context()
    if context.get_parameter_source("item_timeout") == ParameterSource.DEFAULT:
        options["item_timeout"] = _ITEM_TIMEOUT_S
    options["workers"] = options["workers"] or 1  # one process keeps all requests in flight
    at_once = own["batch_size"] if own["llm"] else own["concurrency"]
    options["chunk_size"] = max(options["chunk_size"], at_once)  # a chunk's questions go together
    if own["snippets"]:
        options["instruction_column"] = ""  # the model invents the instruction
    for name in ("cache", "temperature", "max_tokens", "min_score", "snippets"):
        settings[name] = own[name]
    with NamedTemporaryFile(prefix="codegen-ledger-") as ledger:
        generator = make("unicode", **settings, llm=model, prices=prices, ledger=ledger.name)
        spent: dict[str, int] = {}
        with _counting(ledger.name, own["cache"], prices, spent):
            summary = run_generator(generator, **options)
    if unanswered := summary["counts"]["failed"].get("RequestFailed"):
        click.echo(_how_to_ask_again(unanswered, own["cache"]), err=True)
    return {**summary, "llm": spent}


_MODEL_OPTIONS = (
    "endpoint",
    "model",
    "llm",
    "batch_size",
    "api_key_env",
    "price_in",
    "price_out",
    "cache",
    "concurrency",
    "request_timeout",
    "retries",
    "temperature",
    "max_tokens",
    "body",
    "min_score",
    "snippets",
)


_OF_ENDPOINTS = ("model", "api_key_env", "concurrency", "request_timeout", "retries", "body")


def _model(
    mode: str, options: dict[str, Any]
) -> tuple[Endpoint | LocalModel | None, dict[str, Any]]:
    """The model that the options name, and its own options, taken out of ``options``."""
    source_of = click.get_current_context().get_parameter_source
    given = [name for name in _MODEL_OPTIONS if source_of(name) != ParameterSource.DEFAULT]
    own = {name: options.pop(name) for name in _MODEL_OPTIONS}
    if mode == "ast":
        if given:
            names = ", ".join("--" + name.replace("_", "-") for name in given)
            raise ConfigError(
                f"Mode ast asks no model, so it has no use for {names}.",
                "Add --mode llm or --mode hybrid.",
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
    if own["llm"]:
        from codegen.generation.local_model import LocalModel

        return LocalModel(own["llm"], own["batch_size"]), own
    from codegen.generation.endpoint_settings import Endpoint

    endpoint = Endpoint(
        own["endpoint"],
        own["model"],
        own["api_key_env"],
        concurrency=own["concurrency"],
        timeout_s=own["request_timeout"],
        retries=own["retries"],
        body=own["body"],
    )
    return endpoint, own


@contextmanager
def _counting(ledger: str, cache: str, prices: Prices, spent: dict[str, int]) -> Iterator[None]:
    """Says at the end, Ctrl-C included, what the model's new answers took and cost."""
    from codegen.generation.ledger import read_ledger

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
