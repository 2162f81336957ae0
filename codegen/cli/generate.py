"""``codegen generate``: complete a prompt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.errors import InputError

if TYPE_CHECKING:
    from codegen.decoding.contexts import LMInfinite
    from codegen.generation import Generator
    from codegen.models import ModelCard

BACKENDS = ("hf", "vllm")


@click.command(
    epilog=example("codegen generate --chat --prompt 'Write a Python function that adds.'")
)
@click.option("--model", default="embedded", show_default=True, help="Name, directory or hub id.")
@click.option("--prompt", metavar="TEXT", help="The prompt.")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Read the prompt from a file, - for standard input.",
)
@click.option(
    "--chat/--no-chat",
    default=None,
    help="Wrap the prompt in the chat template; by default as the model was tuned.",
)
@click.option(
    "--decoder",
    metavar="NAME",
    help="sample, edit_sequence, backspace or insertion, by default as the model was tuned; or, "
    "joined by + or alone, rpg, repetition_penalty, no_repeat_ngram, dry (against repetition), "
    "suffix, edit, rsd, sorted (the same text sooner), superposed (-n samples of a prompt by one "
    "pass a token).",
)
@click.option(
    "--original",
    type=click.Path(dir_okay=False),
    help="The file that the completion rewrites, for the decoder edit.",
)
@click.option(
    "-o",
    "--decoder-option",
    "decoder_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the decoder: -o mode=paper -o k_min=5 (docs/rpg.md), -o draft=DIR (rsd, "
    "sorted).",
)
@click.option("--backend", type=click.Choice(BACKENDS), default="hf", show_default=True,
              help="What runs the model: our loop, or vLLM (docs/vllm.md).")  # fmt: skip
@click.option("--vllm-option", "vllm_options", multiple=True, metavar="KEY=VALUE",
              help="An option of vLLM: --vllm-option tensor_parallel_size=2.")  # fmt: skip
@click.option(
    "--lm-infinite",
    metavar="GLOBAL,LOCAL",
    help="Go on beyond the model's length, seeing the first GLOBAL and the newest LOCAL tokens: "
    "10,2048 (docs/context.md).",
)
@click.option("-n", "count", type=click.IntRange(1, 10000), default=1, help="Number of samples.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 100), default=0.0, show_default=True)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--stop", multiple=True, metavar="TEXT", help="End the completion before this text.")
@json_option
def generate(
    model: str,
    prompt: str | None,
    file: str | None,
    chat: bool | None,
    decoder: str | None,
    original: str | None,
    decoder_options: tuple[str, ...],
    backend: str,
    vllm_options: tuple[str, ...],
    lm_infinite: str | None,
    count: int,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    stop: tuple[str, ...],
    as_json: bool,
) -> dict[str, Any]:
    """Complete a prompt; with one sample the text is streamed."""
    import dataclasses

    if "" in stop:
        raise click.UsageError("--stop needs a text that is not empty.")
    if (prompt is None) == (file is None):
        raise click.UsageError("Give the prompt by --prompt or by --file (one of them).")
    text = prompt if prompt is not None else _read(str(file))

    from codegen.generation import Decoder, Request, SamplingParams
    from codegen.generation.decoders import find_decoder

    params = SamplingParams(max_new_tokens, temperature, top_p, seed)
    options = read_pairs(decoder_options)
    if decoder:
        find_decoder(Decoder(decoder, options))  # a typo should not cost a model load

    infinite = _read_infinite(lm_infinite, backend)
    card, generator, fills = _generator(
        model, backend, read_vllm_options(vllm_options, backend), infinite
    )
    use_chat = card.style == "chat" if chat is None else chat
    if card.style == "plain" and not use_chat and not text.endswith("\n") and not fills:
        text += "\n"  # the border between prompt and response that the model was trained on
    heal = card.style != "plain"
    before = _read(original) if original else ""
    requests = [
        Request(text, chat=use_chat, stop=stop, index=i, heal=heal, original=before)
        for i in range(count)
    ]
    stream = count == 1 and not as_json
    chosen = Decoder(decoder or card.decoder, options)

    def on_text(_: int, piece: str) -> None:
        click.echo(_printable(piece), nl=False)
        sys.stdout.flush()

    samples = []
    for sample in generator.generate(requests, params, chosen, on_text if stream else None):
        samples.append(sample)
        if stream:
            click.echo()
            if "backspaces" in sample.meta:
                click.echo(f"\n# {sample.meta['backspaces']} tokens were taken back.", err=True)
            elif sample.actions:
                click.echo(f"\n# The program after {sample.meta['edits']} edits:\n", err=True)
                click.echo(_printable(sample.completion))
        elif not as_json:
            click.echo(click.style(f"# sample {sample.index}: {sample.finish_reason}", dim=True))
            click.echo(_printable(sample.completion))
    return {"samples": [dataclasses.asdict(sample) for sample in samples]}


def _generator(
    model: str, backend: str, vllm_options: dict[str, Any], infinite: LMInfinite | None
) -> tuple[ModelCard, Generator, bool]:
    """The model's card, what generates with it, and whether it fills gaps."""
    if backend == "vllm":
        from codegen.generation.vllm_generator import VllmGenerator

        made = VllmGenerator(model, options=vllm_options)
        return made.card, made, False
    from codegen.generation.hf import HFGenerator
    from codegen.models import fills_gaps, load

    loaded = load(model)
    return loaded.card, HFGenerator(loaded, window=4, infinite=infinite), fills_gaps(loaded.model)


def _read_infinite(given: str | None, backend: str) -> LMInfinite | None:
    """The setting GLOBAL,LOCAL.

    Raises:
        click.UsageError: if it is not of that form, and if the back-end is another one.
    """
    if given is None:
        return None
    parts = given.split(",")
    if len(parts) != 2 or not all(part.strip().isdecimal() for part in parts):
        raise click.UsageError(f"--lm-infinite is {given!r}; give two whole numbers, as 10,2048.")
    if backend != "hf":
        raise click.UsageError("--lm-infinite needs --backend hf.")
    from codegen.decoding.contexts import LMInfinite

    return LMInfinite(*map(int, parts))


def read_vllm_options(given: tuple[str, ...], backend: str) -> dict[str, Any]:
    """The pairs of ``--vllm-option``.

    Raises:
        click.UsageError: as :func:`read_pairs`, and if the back-end is another one.
    """
    if given and backend != "vllm":
        raise click.UsageError("--vllm-option needs --backend vllm.")
    return read_pairs(given)


def read_pairs(given: tuple[str, ...]) -> dict[str, Any]:
    """KEY=VALUE pairs as a mapping; values are read as numbers and truth values where they can be.

    Raises:
        click.UsageError: for one that is none, or a key that comes twice.
    """
    import json

    pairs: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{text!r} is no option; give KEY=VALUE.")
        if key in pairs:
            raise click.UsageError(f"The option {key!r} is given twice.")
        try:
            pairs[key] = json.loads(value)
        except ValueError:
            pairs[key] = value
    return pairs


def _printable(text: str) -> str:
    """Model text on a terminal must not move the cursor or change the title."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else repr(c)[1:-1] for c in text)


def _read(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise InputError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{file} is not valid UTF-8.", "Save it as UTF-8.") from None
