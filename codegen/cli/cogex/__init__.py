"""``codegen cogex``: pseudo-programs. One file a command."""

from __future__ import annotations

import click

from codegen.cli import LazyGroup


@click.group(
    cls=LazyGroup,
    lazy={
        "search": (
            "codegen.cli.cogex.search:search",
            "Find the program that a model emulates best on a task.",
        ),
        "run": ("codegen.cli.cogex.run:run", "Emulate a program on an input, or run it in part."),
    },
)
def cogex() -> None:
    """Pseudo-programs that a model writes and emulates (CoGEX).

    Make training data with `codegen data cogex`, a model with recipes/cogex.yaml.
    """
