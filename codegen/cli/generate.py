"""``codegen generate``: complete a prompt."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.clients import BackendOptions, EndpointOptions, opened_endpoint
from codegen.cli.options import command, options, wants_json
from codegen.core.config import keyed, setting
from codegen.core.errors import ConfigError, InputError, plural
from codegen.core.terminal import echo, visible

if TYPE_CHECKING:
    from codegen.core.records import Sample
    from codegen.generation import Backend


class GenerateOptions(BackendOptions):
    """Options of ``codegen generate``."""

    model: str = setting(
        "embedded", "Model: embedded, coder, a directory, a hub id, a GGUF file or an endpoint."
    )
    prompt: str | None = setting(None, "The prompt.", metavar="TEXT")
    file: str | None = setting(None, "Read the prompt from a file; - is standard input.")
    chat: bool | None = setting(
        None, "Use the model's chat template.", shown="the model's training format"
    )
    original: str | None = keyed(None, "Original file, for the decoder edit.", metavar="FILE")
    lm_infinite: tuple[str, ...] = keyed(
        (),
        "Exceed the model's context length by attending to the first GLOBAL and the latest LOCAL "
        "tokens: GLOBAL,LOCAL, such as 10,2048 (docs/context.md).",
        commas=True,
    )
    n: int = setting(1, "Number of samples.", flags=("-n",), ge=1, le=10000)
    max_new_tokens: int = setting(256, "Maximum tokens per sample.", ge=1)
    temperature: float = setting(0.0, "Sampling temperature; 0 is greedy.", ge=0, le=100)
    top_p: float = keyed(1.0, "Probability mass for nucleus sampling.", gt=0, le=1)
    seed: int = setting(0, "Random seed.")
    stop: tuple[str, ...] = setting((), "Stop before this string. Repeatable.", metavar="TEXT")

    def _check(self) -> None:
        is_pair = len(self.lm_infinite) == 2 and all(map(str.isdecimal, self.lm_infinite))
        if self.lm_infinite and not is_pair:
            raise ConfigError("-o lm_infinite requires two integers, such as 10,2048.")
        if "" in self.stop:
            raise ConfigError("--stop must not be empty.")
        if (self.prompt is None) == (self.file is None):
            raise ConfigError("Pass the prompt with either --prompt or --file.")


@command(example="codegen generate --chat --prompt 'Write a Python function that adds.'")
@options(GenerateOptions, "given")
@options(EndpointOptions, "server")
def generate(given: GenerateOptions, server: EndpointOptions) -> dict[str, Any]:
    """Complete a prompt. A single sample is streamed."""
    from codegen.generation import Decoder, backend_class, open_backend
    from codegen.generation.decoders import supported

    endpoint, kind, own = given.choose(given.model, server)
    if given.lm_infinite and kind != "transformers":
        raise ConfigError("-o lm_infinite requires --backend transformers.")
    if given.decoder:  # fails before the model is loaded
        supported(Decoder(given.decoder, given.decoder_option), backend_class(kind))
    if endpoint:
        with opened_endpoint(endpoint, server) as (backend, spent):
            made = _generate(given, backend)
        return {"samples": [asdict(sample) for sample in made], "llm": spent}
    if kind == "transformers":
        own |= {"window": 4}
        if given.lm_infinite:
            from codegen.decoding.long_context import LMInfinite

            own["infinite"] = LMInfinite(*map(int, given.lm_infinite))
    elif kind == "llamacpp":
        own |= {"batch_size": given.n}
    made = _generate(given, open_backend(kind, given.model, **own))
    return {"samples": [asdict(sample) for sample in made]}


def _generate(given: GenerateOptions, backend: Backend) -> list[Sample]:
    """Generates the samples and prints them."""
    from codegen.generation import Decoder, Request, SamplingParams, samples

    text = given.prompt if given.prompt is not None else _read(str(given.file))
    params = SamplingParams(given.max_new_tokens, given.temperature, given.top_p, given.seed)
    style = backend.style
    use_chat = style == "chat" if given.chat is None else given.chat
    inserts = backend.decoder == "insertion"
    if style == "plain" and not use_chat and not text.endswith("\n") and not inserts:
        text += "\n"  # separates prompt and response in the training data
    heal = style != "plain"
    before = _read(given.original) if given.original else ""
    requests = [
        Request(
            text,
            chat=use_chat,
            stop=given.stop,
            index=i,
            heal=heal,
            original=before,
        )
        for i in range(given.n)
    ]
    stream = given.n == 1 and not wants_json()
    chosen = Decoder(given.decoder or backend.decoder, given.decoder_option)

    def on_text(_: int, piece: str) -> None:
        click.echo(_printable(piece), nl=False)
        sys.stdout.flush()

    made = []
    for sample in samples(backend, requests, params, chosen, on_text if stream else None):
        made.append(sample)
        if stream:
            click.echo()
            if "backspaces" in sample.meta:
                echo(
                    f"\n# The model removed {plural(sample.meta['backspaces'], 'token')}.", err=True
                )
            elif sample.actions:
                echo("\n# The program:\n", err=True)
                click.echo(_printable(sample.completion))
        elif not wants_json():
            click.echo(click.style(f"# sample {sample.index}: {sample.finish_reason}", dim=True))
            click.echo(_printable(sample.completion))
    return made


def _printable(text: str) -> str:
    """Removes control characters if standard output is a terminal."""
    return visible(text) if sys.stdout.isatty() else text


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is not valid UTF-8.", "Save it as UTF-8.") from None
