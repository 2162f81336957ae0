"""The command line of a run as text, for the card: how the data is made again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
from click.core import ParameterSource

# These don't change the data.
_LEFT_OUT = frozenset({"out", "workers", "executor", "as_json"})


def command_line(context: click.Context) -> str:
    """The command with what was given on it, but for what doesn't change the data.

    The directory is written as ``DIR``. What a user types unseen, such as a password, is left out.
    """
    words = [*context.command_path.split()]
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _LEFT_OUT and not getattr(parameter, "hide_input", False):
            words += _words(parameter, context.params[name])
    return shlex.join([*words, "--out", "DIR"])


def _words(parameter: click.Parameter, value: object) -> Iterator[str]:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        yield (parameter.opts if value else parameter.secondary_opts)[-1]
        return
    several = isinstance(parameter, click.Option) and parameter.multiple
    for one in value if several and isinstance(value, (list, tuple)) else [value]:
        if isinstance(parameter, click.Option):
            yield parameter.opts[-1]
        yield from map(str, one if isinstance(one, (list, tuple)) else [one])
