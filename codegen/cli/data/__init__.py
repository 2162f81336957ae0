"""``codegen data``: make training data and look at it. One file a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen import plugins
from codegen.cli import LazyGroup


class _Group(LazyGroup):
    """Has a command for each generator of another package too."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        installed = {
            name: ("", f"Generator of the package {package}.")
            for name in plugins.names("generators")
            if name not in lazy and (package := plugins.package_of("generators", name))
        }
        super().__init__(*args, lazy={**lazy, **installed}, **kwargs)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command's module, or makes a command for another package's generator."""
        place, _ = self.lazy.get(cmd_name, ("unknown", ""))
        if place:
            return super().get_command(ctx, cmd_name)
        from codegen.cli.data.installed import generator_command

        return generator_command(cmd_name)


@click.group(
    cls=_Group,
    lazy={
        "lintseq": (
            "codegen.cli.data.lintseq:lintseq",
            "Make edit sequences that keep programs lint-clean.",
        ),
        "unicode": (
            "codegen.cli.data.unicode:unicode",
            "Make pseudo-code between question and program (UniCoder).",
        ),
        "cogex": (
            "codegen.cli.data.cogex:cogex",
            "Make pseudo-programs with what they give (CoGEX).",
        ),
        "backspace": (
            "codegen.cli.data.backspace:backspace",
            "Make programs with mistakes taken back (SequenceMatch).",
        ),
        "infilling": ("codegen.cli.data.infilling:infilling", "Make fill-in-the-middle data."),
        "whole": ("codegen.cli.data.whole:whole", "Make the baseline: whole programs."),
        "plain": ("codegen.cli.data.plain:plain", "Make texts of examples as they are."),
        "inspect": (
            "codegen.cli.data.inspect:inspect",
            "Show counts and texts; step through edits.",
        ),
        "merge": ("codegen.cli.data.merge:merge", "Put the shards of a run together."),
        "export": ("codegen.cli.data.export:export", "Write the texts as Parquet."),
        "push": ("codegen.cli.data.push:push", "Publish a data directory on the hub."),
    },
)
def data() -> None:
    """Make training data, and look at it.

    SOURCE is a .jsonl, .jsonl.gz or .parquet file, a directory of Python files,
    hub:org/name[:config][:split], stdlib (the functions of this Python's standard library),
    humaneval, mbpp, families (for cogex) or puzzles:NAME (for plain).

    An interrupted run goes on when the same command is run again.
    """
