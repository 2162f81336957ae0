"""``codegen generate``: complete a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegen.cli.options import command, options
from codegen.config import Config, setting
from codegen.errors import ConfigError, InputError
from codegen.generation.backends import OLD_NAMES, local_backend
from codegen.terminal import echo, visible

if TYPE_CHECKING:
    from codegen.decoding.contexts import LMInfinite


class BackendOptions(Config):
    """Which back-end runs the model, and how the tokens are read and chosen."""

    backend: str = setting(
        "transformers",
        "What runs the model: transformers (in this process), llamacpp (llama.cpp; chosen for a "
        "GGUF file), vllm (docs/vllm.md), or openai (a server that speaks OpenAI's protocol).",
        old_values=OLD_NAMES,
    )
    endpoint: str | None = setting(
        None, "Base URL of the server of --backend openai, such as http://host/v1.", metavar="URL"
    )
    api_key_env: str = setting("", "Environment variable that holds the server's API key.")
    vllm_option: dict[str, Any] = setting(
        {}, "An option of vLLM, such as tensor_parallel_size=2. Repeatable.", metavar="KEY=VALUE"
    )
    llama_option: dict[str, Any] = setting(
        {},
        "An option of llama.cpp: context, threads, slots or gpu_layers (docs/models.md). "
        "Repeatable.",
        metavar="KEY=VALUE",
    )
    decoder: str | None = setting(
        None,
        "sample, edit_sequence, backspace or insertion; or, alone or joined by +: rpg, "
        "repetition_penalty, no_repeat_ngram, dry (against repetition), suffix, edit, rsd, "
        "sorted (the same text, faster), superposed (-n samples of a prompt in one pass per "
        "token).",
        metavar="NAME",
        shown="as the model was tuned",
    )
    decoder_option: dict[str, Any] = setting(
        {},
        "An option of the decoder, such as mode=paper or k_min=5 (docs/rpg.md), or draft=DIR "
        "(rsd, sorted). Repeatable.",
        flags=("-o", "--decoder-option"),
        metavar="KEY=VALUE",
    )

    def _check(self) -> None:
        if self.vllm_option and self.backend != "vllm":
            raise ConfigError("--vllm-option requires --backend vllm.")
        if (self.endpoint or self.api_key_env) and self.backend != "openai":
            raise ConfigError("--endpoint and --api-key-env require --backend openai.")
        if self.backend == "openai" and not self.endpoint:
            raise ConfigError("--backend openai requires --endpoint URL.")

    def backend_of(self, model: str) -> str:
        """The back-end that runs a model: the one given, else by the model's name.

        Raises:
            ConfigError: if there are options of another back-end.
        """
        found = self.backend if "backend" in self.model_fields_set else local_backend(model)
        if self.llama_option and found != "llamacpp":
            raise ConfigError("--llama-option requires a GGUF file or --backend llamacpp.")
        return found

    def own_options(self, backend: str) -> dict[str, Any]:
        """The options of the back-end alone, as ``open_backend`` takes them."""
        if backend == "vllm":
            return {"options": self.vllm_option}
        if backend == "llamacpp":
            return {"options": self.llama_option}
        if backend == "openai":
            return {"url": self.endpoint, "api_key_env": self.api_key_env}
        return {}


class GenerateOptions(BackendOptions):
    """The options of ``codegen generate``."""

    model: str = setting("embedded", "Model: embedded, a directory, a hub id or a GGUF file.")
    prompt: str | None = setting(None, "The prompt.", metavar="TEXT")
    file: str | None = setting(None, "Read the prompt from a file; - is standard input.")
    chat: bool | None = setting(
        None, "Wrap the prompt in the model's chat template.", shown="as the model was tuned"
    )
    original: str | None = setting(None, "Decoder edit: the file that the completion rewrites.")
    lm_infinite: str | None = setting(
        None,
        "Continue beyond the model's length, attending to the first GLOBAL and the latest LOCAL "
        "tokens, for example 10,2048 (docs/context.md).",
        metavar="GLOBAL,LOCAL",
    )
    n: int = setting(1, "Number of samples.", flags=("-n",), ge=1, le=10000)
    max_new_tokens: int = setting(256, "Maximum tokens per sample.", ge=1)
    temperature: float = setting(0.0, "0 is greedy.", ge=0, le=100)
    top_p: float = setting(1.0, "Probability mass of the nucleus.", gt=0, le=1)
    seed: int = setting(0, "Random seed.")
    stop: tuple[str, ...] = setting(
        (), "End the completion before this text. Repeatable.", metavar="TEXT"
    )

    def _check(self) -> None:
        super()._check()
        if "" in self.stop:
            raise ConfigError("--stop must not be empty.")
        if (self.prompt is None) == (self.file is None):
            raise ConfigError("Give the prompt with either --prompt or --file.")


@command(example="codegen generate --chat --prompt 'Write a Python function that adds.'")
@options(GenerateOptions, "given")
def generate(given: GenerateOptions, as_json: bool) -> dict[str, Any]:
    """Complete a prompt. A single sample is streamed."""
    import dataclasses

    from codegen.generation import Decoder, Request, SamplingParams, samples
    from codegen.generation.backends import backend_class, open_backend
    from codegen.generation.decoders import supported

    text = given.prompt if given.prompt is not None else _read(str(given.file))
    params = SamplingParams(given.max_new_tokens, given.temperature, given.top_p, given.seed)
    kind = given.backend_of(given.model)
    if given.decoder:  # a mistake is found before the model is loaded
        supported(Decoder(given.decoder, given.decoder_option), backend_class(kind))
    own = given.own_options(kind)
    if kind == "transformers":
        own |= {"window": 4, "infinite": _infinite(given)}
    elif given.lm_infinite:
        raise ConfigError("--lm-infinite requires --backend transformers.")
    elif kind == "llamacpp":
        own |= {"batch_size": given.n}
    backend = open_backend(kind, given.model, **own)
    style = backend.style
    use_chat = style == "chat" if given.chat is None else given.chat
    inserts = backend.decoder == "insertion"
    if style == "plain" and not use_chat and not text.endswith("\n") and not inserts:
        text += "\n"  # the border between prompt and response that the model was trained on
    heal = style != "plain"
    before = _read(given.original) if given.original else ""
    requests = [
        Request(text, chat=use_chat, stop=given.stop, index=i, heal=heal, original=before)
        for i in range(given.n)
    ]
    stream = given.n == 1 and not as_json
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
                echo(f"\n# The model removed {sample.meta['backspaces']} tokens.", err=True)
            elif sample.actions:
                after = f" after {sample.meta['edits']} edits" if "edits" in sample.meta else ""
                echo(f"\n# The program{after}:\n", err=True)
                click.echo(_printable(sample.completion))
        elif not as_json:
            click.echo(click.style(f"# sample {sample.index}: {sample.finish_reason}", dim=True))
            click.echo(_printable(sample.completion))
    return {"samples": [dataclasses.asdict(sample) for sample in made]}


def _infinite(given: GenerateOptions) -> LMInfinite | None:
    """The setting GLOBAL,LOCAL.

    Raises:
        ConfigError: if it is not of that form.
    """
    if given.lm_infinite is None:
        return None
    parts = given.lm_infinite.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(
            f"--lm-infinite is {given.lm_infinite!r}; give two whole numbers, such as 10,2048."
        )
    from codegen.decoding.contexts import LMInfinite

    return LMInfinite(*map(int, parts))


def _printable(text: str) -> str:
    """Model text on a terminal must not move the cursor or change the title."""
    return visible(text) if sys.stdout.isatty() else text


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is not valid UTF-8.", "Save it as UTF-8.") from None
