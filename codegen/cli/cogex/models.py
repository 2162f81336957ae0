"""The options that say which model is asked and how, and the model that they name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.cogex.model import PseudoModel
    from codegen.generation.protocol import Backend

_SHOTS = 2  # records shown to a model that was not trained on any


@dataclass(frozen=True, slots=True)
class OpenModel:
    """A model, and what of it decides the answers (JSON values)."""

    model: PseudoModel
    identity: dict[str, Any]


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of :func:`opened_model`, as one argument each."""
    decorators = [
        click.option(
            "--model",
            default="embedded",
            show_default=True,
            help="embedded, a directory or hub id; with --endpoint, its name there.",
        ),
        click.option("--endpoint", metavar="URL", help="OpenAI-compatible server, http://host/v1."),
        click.option("--api-key-env", default="", help="Environment variable with the API key."),
        click.option(
            "--shots",
            type=click.IntRange(0, 5),
            help="Records shown before each question; by default 0 to a model that was fine-tuned "
            f"with format: plain, {_SHOTS} to others.",
        ),
        click.option(
            "--chat/--no-chat",
            default=None,
            help="Ask in the user's turn of a chat; by default with --endpoint alone.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            default=16,
            show_default=True,
            help="Questions asked at once.",
        ),
    ]
    for decorate in reversed(decorators):
        command = decorate(command)
    return command


@contextmanager
def opened_model(
    *,
    model: str,
    endpoint: str | None,
    api_key_env: str,
    shots: int | None,
    chat: bool | None,
    batch_size: int,
    seed: int = 0,
    avoid: Sequence[str] = (),
) -> Iterator[OpenModel]:
    """The model that the options name.

    Args:
        avoid: families whose records are not shown, since they are asked for.
    """
    from codegen.cogex.model import PseudoModel
    from codegen.cogex.tasks import shot_records
    from codegen.generation import Decoder
    from codegen.generation.backends import Endpoint, open_backend
    from codegen.generation.cached import CachedBackend, ResponseCache
    from codegen.models.embedded import cache_dir

    with ExitStack() as stack:
        if endpoint:
            spec = Endpoint(endpoint, model, api_key_env, concurrency=batch_size)
            cache = stack.enter_context(ResponseCache(cache_dir() / "responses.sqlite"))
            backend: Backend = CachedBackend(spec, cache)
            identity, tuned, use_chat = spec.identity(), False, chat is not False
        else:
            if api_key_env:
                raise ConfigError("--api-key-env is for --endpoint.", "Leave it out.")
            backend = open_backend("transformers", model, batch_size=batch_size)
            weights = backend.identity(Decoder())["model_fingerprint"]
            identity = {"model": model, "weights": weights}
            tuned, use_chat = backend.style == "plain", bool(chat)
        count = shots if shots is not None else 0 if tuned else _SHOTS
        asked = PseudoModel(
            backend,
            model,
            shots=shot_records(count, avoid),
            chat=use_chat,
            batch_size=batch_size,
            seed=seed,
        )
        yield OpenModel(asked, {**identity, "shots": count, "chat": use_chat})
