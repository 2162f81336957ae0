"""``codegen generate``: complete a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from codegen.cli.options import command, options
from codegen.config import Config, setting
from codegen.errors import ConfigError, InputError
from codegen.terminal import visible

if TYPE_CHECKING:
    from codegen.decoding.infinite import LMInfinite
    from codegen.generation import Generator
    from codegen.models import ModelCard


class BackendOptions(Config):
    """Which back-end runs the model, and how the tokens are read and chosen."""

    backend: Literal["hf", "vllm"] = setting(
        "hf", "What runs the model: this package's own loop, or vLLM (docs/vllm.md)."
    )
    vllm_option: dict[str, Any] = setting(
        {}, "An option of vLLM, such as tensor_parallel_size=2. Repeatable.", metavar="KEY=VALUE"
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


class GenerateOptions(BackendOptions):
    """The options of ``codegen generate``."""

    model: str = setting("embedded", "Model: embedded, a directory or a hub id.")
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

    from codegen.generation import Decoder, Request, SamplingParams
    from codegen.generation.decoders import find_decoder

    text = given.prompt if given.prompt is not None else _read(str(given.file))
    params = SamplingParams(given.max_new_tokens, given.temperature, given.top_p, given.seed)
    if given.decoder:
        find_decoder(Decoder(given.decoder, given.decoder_option))  # before the model is loaded
    card, generator, fills = _generator(given)
    use_chat = card.style == "chat" if given.chat is None else given.chat
    if card.style == "plain" and not use_chat and not text.endswith("\n") and not fills:
        text += "\n"  # the border between prompt and response that the model was trained on
    heal = card.style != "plain"
    before = _read(given.original) if given.original else ""
    requests = [
        Request(text, chat=use_chat, stop=given.stop, index=i, heal=heal, original=before)
        for i in range(given.n)
    ]
    stream = given.n == 1 and not as_json
    chosen = Decoder(given.decoder or card.decoder, given.decoder_option)

    def on_text(_: int, piece: str) -> None:
        click.echo(_printable(piece), nl=False)
        sys.stdout.flush()

    samples = []
    for sample in generator.generate(requests, params, chosen, on_text if stream else None):
        samples.append(sample)
        if stream:
            click.echo()
            if "backspaces" in sample.meta:
                click.echo(f"\n# The model removed {sample.meta['backspaces']} tokens.", err=True)
            elif sample.actions:
                click.echo(f"\n# The program after {sample.meta['edits']} edits:\n", err=True)
                click.echo(_printable(sample.completion))
        elif not as_json:
            click.echo(click.style(f"# sample {sample.index}: {sample.finish_reason}", dim=True))
            click.echo(_printable(sample.completion))
    return {"samples": [dataclasses.asdict(sample) for sample in samples]}


def _generator(given: GenerateOptions) -> tuple[ModelCard, Generator, bool]:
    """The model's card, its back-end, and whether it fills gaps."""
    infinite = _infinite(given)
    if given.backend == "vllm":
        from codegen.generation.vllm_generator import VllmGenerator

        made = VllmGenerator(given.model, options=given.vllm_option)
        return made.card, made, False
    from codegen.generation.hf import HFGenerator
    from codegen.models import fills_gaps, load

    loaded = load(given.model)
    return loaded.card, HFGenerator(loaded, window=4, infinite=infinite), fills_gaps(loaded.model)


def _infinite(given: GenerateOptions) -> LMInfinite | None:
    """The setting GLOBAL,LOCAL.

    Raises:
        ConfigError: if it is not of that form, and for another back-end.
    """
    if given.lm_infinite is None:
        return None
    parts = given.lm_infinite.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise ConfigError(
            f"--lm-infinite is {given.lm_infinite!r}; give two whole numbers, such as 10,2048."
        )
    if given.backend != "hf":
        raise ConfigError("--lm-infinite requires --backend hf.")
    from codegen.decoding.infinite import LMInfinite

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
