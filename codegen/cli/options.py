"""Command-line options generated from the fields of a configuration, and command decorators.

::

    class Sampling(Config):
        n: int = setting(1, "Samples per problem.", ge=1, flags=("-n",))

    @command(example="codegen sample -n 3")
    @options(Sampling, "sampling", heading="Sampling")
    def sample(sampling: Sampling) -> dict[str, int]: ...

Settings that are rarely changed have no option (:data:`codegen.core.config.keyed`): ``-o
NAME=VALUE`` sets them, and ``--help`` lists them last.
"""

from __future__ import annotations

import contextlib
import json
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import update_wrapper
from pathlib import Path
from typing import Any, Literal

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from codegen.cli import traceback_option
from codegen.core.config import Config, Option, arms, bounds, config_error, value_of
from codegen.core.errors import nearest
from codegen.core.terminal import echo


def options(
    kind: type[Config], name: str, heading: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds an option for each field; the command gets the configuration as argument ``name``.

    Its ``model_fields_set`` contains the names of the options that the user passed.

    Args:
        heading: the section of ``--help`` that lists them, after the options without one.
    """
    keyed = [field for field, info in kind.model_fields.items() if _is_keyed(info)]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **given: Any) -> Any:
            context = click.get_current_context()
            settings = context.meta.get(_SETTINGS, {})
            values = {field: settings[field] for field in keyed if field in settings}
            for field in kind.model_fields.keys() - set(keyed):
                value = given.pop(field)
                if context.get_parameter_source(field) is not ParameterSource.DEFAULT:
                    values[field] = value
            try:
                given[name] = kind.model_validate(values)
            except ValidationError as error:
                raise config_error(kind, values, error, "", _spelling(keyed)) from None
            return function(*args, **given)

        update_wrapper(wrapper, function)
        for field, info in reversed(kind.model_fields.items()):
            declarations, settings = _declaration(field, info)
            if field in keyed:
                wrapper.__dict__[_SETTINGS] = [
                    _Option(
                        declarations,
                        **{key: value for key, value in settings.items() if key != "cls"},
                    ),
                    *wrapper.__dict__.get(_SETTINGS, ()),
                ]
                continue
            settings["heading"] = Option.of(info).heading or heading
            click.option(*declarations, **settings)(wrapper)
        return wrapper

    return decorate


_SETTINGS = "codegen.settings"


def _is_keyed(info: FieldInfo) -> bool:
    marker = Option.of(info)
    return marker.key or marker.rest


def _spelling(keyed: Sequence[str]) -> Callable[[str], str]:
    """Returns a function that formats a field in errors: as its option, or as a key of ``-o``."""
    return lambda field: f"-o {field}" if field in keyed else flag(field)


def command(
    *,
    example: str,
    name: str | None = None,
    group: click.Group | None = None,
    has_json: bool = True,
    short_help: str | None = None,
    help: str | None = None,
    cls: type[CodegenCommand] | None = None,
) -> Callable[[Callable[..., Any]], click.Command]:
    """Creates a command with an example in its help, and ``--json``.

    The function prints its human-readable result with :func:`print_result`. With ``--json`` the
    mapping that it returns is printed instead, as one JSON object on standard output; None prints
    nothing. If the mapping's ``ok`` is false, the exit code is 1.

    Args:
        example: one or more calls, printed verbatim.
        has_json: false for servers, which have no result.
        help: defaults to the function's docstring.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = click.command(
            name,
            cls=cls or CodegenCommand,
            epilog=f"\b\nExample:\n  {example}",
            short_help=short_help,
            help=help or function.__doc__,
        )(traceback_option(hidden=True)(_with_summary(function) if has_json else function))
        if isinstance(made, CodegenCommand) and (settings := function.__dict__.get(_SETTINGS)):
            made.settings = {option.name: option for option in settings}
            made.params.append(_settings_option(made.settings))
        if has_json:
            about = "Print one JSON summary."
            made.params.append(click.Option(["--json", "as_json"], is_flag=True, help=about))
        if group is not None:
            group.add_command(made)
        return made

    return decorate


def _with_summary(function: Callable[..., Mapping[str, Any] | None]) -> Callable[..., None]:
    def wrapper(*args: Any, as_json: bool, **kwargs: Any) -> None:
        # With --json, the output of libraries must not mix with the summary.
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            summary = function(*args, **kwargs)
        if as_json and summary is not None:
            click.echo(json.dumps(summary))
        if summary and summary.get("ok") is False:
            raise click.exceptions.Exit(1)

    return update_wrapper(wrapper, function)


def wants_json() -> bool:
    """Returns True if the running command was called with ``--json``."""
    context = click.get_current_context(silent=True)
    return bool(context and context.params.get("as_json"))


def print_result(text: str, *, err: bool = False) -> None:
    """Prints a part of a command's result, except with ``--json``."""
    if not wants_json():
        echo(text, err=err)


def as_words(parameter: click.Parameter, value: Any) -> Iterator[str]:
    """Yields the command-line words that set a parameter to this value."""
    if not isinstance(parameter, click.Option):
        yield from map(str, value if isinstance(value, (list, tuple)) else [value])
        return
    if parameter.is_flag:
        yield (parameter.opts if value else parameter.secondary_opts)[-1]
        return
    if isinstance(value, dict):
        value = [f"{key}={json.dumps(item)}" for key, item in value.items()]
    elif parameter.callback is _comma_list:
        value = [",".join(value)]
    elif not parameter.multiple:
        value = [value]
    for one in value:
        yield parameter.opts[-1]
        yield from map(str, one if isinstance(one, (list, tuple)) else [one])


def given_settings(context: click.Context, but: Collection[str] = ()) -> Iterator[str]:
    """Yields the command-line words of settings passed with ``-o``, except the names in ``but``."""
    for name, value in context.meta.get(_SETTINGS, {}).items():
        if name in but:
            continue
        if isinstance(value, dict):
            is_rest = (
                isinstance(context.command, CodegenCommand) and context.command.settings[name].rest
            )
            start = "" if is_rest else f"{name}."
            for key, item in value.items():
                yield from ("-o", f"{start}{key}={json.dumps(item)}")
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            yield from ("-o", f"{name}={shown}")


class _Option(click.Option):
    """Option of a configuration's field.

    Attributes:
        heading: the section of ``--help`` that lists it.
        rest: see :attr:`codegen.core.config.Option.rest`.
    """

    def __init__(self, *args: Any, heading: str = "", rest: bool = False, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.heading = heading
        self.rest = rest

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Shows a default that is a string without click's parentheses."""
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        return extra

    def key_help(self, ctx: click.Context) -> tuple[str, str]:
        """Returns the ``--help`` row of a field that ``-o`` sets."""
        parts = self.get_help_record(ctx) or ("", "")
        is_mapping = self.callback is _pairs
        name = ("KEY" if self.rest else f"{self.name}.KEY") if is_mapping else str(self.name)
        return name, parts[1].replace(" Repeatable.", "")


class CodegenCommand(click.Command):
    """Command that lists its options under headings.

    Attributes:
        settings: name -> field that ``-o NAME=VALUE`` sets.
    """

    settings: Mapping[str, _Option] = {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Suggests ``-o`` where a setting was passed as an option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            for name, option in self.settings.items():
                if error.option_name in option.opts:
                    key = "KEY" if option.rest else name
                    key = f"{name}.KEY" if option.callback is _pairs and not option.rest else key
                    raise click.UsageError(
                        f"{error.option_name} is a setting; pass -o {key}=VALUE.", ctx
                    ) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options by heading, then the settings."""
        rows: dict[str, list[tuple[str, str]]] = {"": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and any(record[1:]):  # arguments are described in the command's docstring
                rows.setdefault(getattr(parameter, "heading", ""), []).append(record)
        rows["Settings (-o NAME=VALUE)"] = [
            option.key_help(ctx) for option in self.settings.values()
        ]
        for heading, records in rows.items():
            if records:
                with formatter.section(heading or "Options"):
                    formatter.write_dl(records)


def _settings_option(settings: Mapping[str, _Option]) -> click.Option:
    """Builds ``-o NAME=VALUE``, which stores the converted values in ``ctx.meta``."""
    rest = next((name for name, option in settings.items() if option.rest), "")

    def read(
        ctx: click.Context, option: click.Parameter, given: tuple[str, ...]
    ) -> tuple[str, ...]:
        texts: dict[str, list[str]] = {}
        for text in given:
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise click.BadParameter(f"{text!r} is not NAME=VALUE", ctx, option)
            name, _, inner = key.partition(".")
            if name not in settings or (bool(inner) != (settings[name].callback is _pairs)):
                if not rest:
                    hint = f"{nearest(key, list(settings))} See --help for the settings.".strip()
                    raise click.BadParameter(f"unknown setting {key!r}. {hint}", ctx, option)
                name, inner = rest, key
            texts.setdefault(name, []).append(f"{inner}={value}" if inner else value)
        found: dict[str, Any] = {}
        for name, values in texts.items():
            field = settings[name]
            try:
                found[name] = _setting(field, values, ctx)
            except click.BadParameter as error:
                raise click.BadParameter(error.message, ctx, param_hint=f"'-o {name}'") from None
        ctx.meta[_SETTINGS] = found
        return given

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        return [CompletionItem(f"{name}=") for name in settings if name.startswith(typed)]

    return click.Option(
        ["-o", "--set", "settings"],
        multiple=True,
        expose_value=False,
        metavar="NAME=VALUE",
        callback=read,
        shell_complete=complete,
        help="Set one of the settings listed last. Repeatable.",
    )


def _setting(field: _Option, values: Sequence[str], ctx: click.Context) -> Any:
    """Converts the values of one ``-o NAME=...`` to the field's type."""
    if field.callback is _pairs:
        return _pairs(ctx, field, tuple(values))
    if len(values) > 1 and not field.multiple:
        raise click.BadParameter("passed twice")
    if field.is_flag:
        return click.BOOL.convert(values[0], None, ctx)
    if field.callback is _comma_list:
        return _comma_list(ctx, field, values[0])
    if field.multiple:
        texts = [text for value in values for text in _comma_list(ctx, field, value)]
        return tuple(field.type.convert(text, None, ctx) for text in texts)
    return field.type.convert(values[0], None, ctx)


def completes(
    names: Callable[[], Iterable[str]], *, files: bool = False
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Returns a ``shell_complete`` function that offers names, or with ``files`` file paths."""

    def complete(_: click.Context, __: click.Parameter, typed: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(typed)]
        return found if found or not files else [CompletionItem(typed, type="file")]

    return complete


def flag(field: str) -> str:
    """Returns the option of a field: ``--batch-size``."""
    return "--" + field.replace("_", "-")


def _declaration(field: str, info: FieldInfo) -> tuple[list[str], dict[str, Any]]:
    """Returns the names and settings of a field's option, as arguments of :func:`click.option`."""
    marker = Option.of(info)
    (kind, *_) = [arm for arm in arms(info.annotation) if arm is not type(None)]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    names = [*(marker.flags or (flag(field),)), field]
    settings: dict[str, Any] = {
        "cls": _Option,
        "help": info.description,
        "metavar": marker.metavar,
        "rest": marker.rest,
    }
    default = None if info.is_required() else info.get_default(call_default_factory=True)
    if kind is bool:
        if (marker.is_pair or default is None) and "/" not in names[0]:
            names[0] = f"{names[0]}/--no-{names[0].removeprefix('--')}"
        settings |= {"is_flag": True, "default": default}
        settings["show_default"] = marker.shown or (marker.is_pair and default is not None)
        return names, settings
    if info.is_required():
        settings["required"] = True
    if origin is dict:
        settings |= {"multiple": True, "callback": _pairs}
        settings["metavar"] = marker.metavar or "KEY=VALUE"
    elif origin is tuple and marker.commas:
        settings |= {"callback": _comma_list, "default": ",".join(map(str, default or ()))}
    else:
        item = arms(inner[0])[0] if origin is tuple else kind
        settings |= {"multiple": origin is tuple, "type": _type(item, info)}
        if default is not None:
            settings["default"] = default
    settings["show_default"] = marker.shown or default not in (None, "", (), {})
    return names, settings


def _type(kind: Any, info: FieldInfo) -> click.ParamType | type:
    if typing.get_origin(kind) is Literal:
        return click.Choice(typing.get_args(kind))
    if kind is Path:
        return click.Path(path_type=Path)
    if kind not in (int, float):
        return kind
    limits = bounds(info)
    if not limits:
        return kind
    bounded: Any = click.IntRange if kind is int else click.FloatRange
    made = bounded(
        min=limits.get("ge", limits.get("gt")),
        max=limits.get("le", limits.get("lt")),
        min_open="gt" in limits,
        max_open="lt" in limits,
    )
    made.name = "integer" if kind is int else "number"  # click shows "float range"
    return made


def _comma_list(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    names: list[Any] = (value or "").split(",")
    if value and value.startswith("["):
        with contextlib.suppress(ValueError):
            names = value_of(value)
    return tuple(name for name in (str(name).strip() for name in names) if name)


def _pairs(_: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """Parses KEY=VALUE options to a mapping; values that cannot be parsed stay strings."""
    pairs: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{text!r} is not {option.metavar}")
        if key in pairs:
            raise click.BadParameter(f"{key!r} is passed twice")
        try:
            pairs[key] = value_of(value)
        except ValueError:
            pairs[key] = value
    return pairs
