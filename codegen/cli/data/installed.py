"""``codegen data NAME`` for the generators of other packages (:mod:`codegen.plugins`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.options import run_generator, run_options


def generator_command(name: str) -> click.Command:
    """A command that runs a generator with options given as ``-o KEY=VALUE``."""

    @click.command(name, epilog=example(f"codegen data {name} stdlib --out data/{name}"))
    @run_options
    @click.option(
        "-o",
        "--option",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help="An option of the generator; can be given several times.",
    )
    @json_option
    def command(pairs: tuple[str, ...], **options: Any) -> Mapping[str, Any]:
        """Make training texts with a generator of another package."""
        from codegen.data import make

        return run_generator(make(name, **dict(map(_pair, pairs))), **options)

    return command


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="-o")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
