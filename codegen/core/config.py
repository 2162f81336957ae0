"""Base class of recipes, sections and option groups, and the parsing of configurations.

A configuration is a frozen pydantic model with a description and a default for each field. It is
the source for checking a YAML file (:func:`read_config`), overrides (:func:`override`), the options
of a command (:mod:`codegen.cli.options`), and the tables of the documentation (:func:`table`). Each
mistake raises a one-line :class:`~codegen.core.errors.ConfigError` with the file, the key's dotted
path, the value, the allowed values, and the nearest key for a typo.

Values are not converted silently: ``true`` is not a number and ``"3"`` is not an integer. Three
conversions are needed for YAML and command lines: lists to tuples, strings such as ``3e-4`` to
floats (YAML 1.1 reads them as strings), and strings to paths.
"""

from __future__ import annotations

import json
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from codegen.core.errors import (
    CodegenError,
    ConfigError,
    InputError,
    cannot_read,
    in_one_line,
    nearest,
)
from codegen.core.paths import refuse_endless

Text = Annotated[str, Field(min_length=1)]
"""A nonempty string."""

C = TypeVar("C", bound="Config")


@dataclass(frozen=True, slots=True)
class Option:
    """A field's command-line option; made by :func:`setting`.

    Attributes:
        flags: names on the command line; by default ``--`` and the field's name with dashes.
        metavar: placeholder of the value in ``--help``.
        commas: pass a tuple as one comma-separated string, not by repeating the option.
        shown: the default in the help, if it is computed.
        is_pair: a flag also has a negative form, ``--no-NAME``.
        heading: section of ``--help`` that lists it; by default its group's section.
        key: set with ``-o NAME=VALUE`` instead of an option; a mapping with ``-o NAME.KEY=VALUE``.
        rest: a mapping that takes every ``-o KEY=VALUE`` with an otherwise unknown key.
    """

    flags: tuple[str, ...] = ()
    metavar: str | None = None
    commas: bool = False
    shown: str = ""
    is_pair: bool = False
    heading: str = ""
    key: bool = False
    rest: bool = False

    @classmethod
    def of(cls, info: FieldInfo) -> Option:
        """Returns the option of a field; the defaults if it was not made by :func:`setting`."""
        extra = info.json_schema_extra
        option = extra.get("option") if isinstance(extra, dict) else None
        return option if isinstance(option, Option) else _PLAIN


_PLAIN = Option()
MOST = 2**63 - 1  # largest integer


def setting(
    default: Any,
    about: str,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    **how: Any,
) -> Any:
    """Creates a field of a :class:`Config`, like :func:`pydantic.Field`.

    Args:
        default: the default; ``...`` if required.
        about: description, also the help of its option.
        ge, gt, le, lt: limits of a number.
        how: fields of :class:`Option`.
    """
    extra: Any = {"option": Option(**how)}
    return Field(default, description=about, ge=ge, gt=gt, le=le, lt=lt, json_schema_extra=extra)


keyed = partial(setting, key=True)
"""A setting without a command-line option; set it with ``-o NAME=VALUE``."""


class Config(BaseModel):
    """Base class of configurations: frozen, strict, and without unknown keys.

    Override ``_check`` to validate several fields together; it raises :class:`ConfigError`.

    Attributes:
        how_to_list: remedy that lists the keys, if an error cannot list them all.

    Raises:
        ConfigError: for invalid values.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True
    )
    how_to_list: ClassVar[str] = ""

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise config_error(type(self), values, error, type(self).__name__) from None

    # Errors in nested sections keep their path.
    __init__.__pydantic_base_init__ = True  # pyrefly: ignore[missing-attribute]

    def model_post_init(self, context: Any) -> None:
        """Runs ``_check`` once all fields are set."""
        self._check()

    def _check(self) -> None:
        """Validates several fields together."""

    @model_validator(mode="before")
    @classmethod
    def _accept(cls, values: Any) -> Any:
        """Applies the three conversions of the module's docstring."""
        if not isinstance(values, Mapping):
            return values
        converted = {}
        for name, value in values.items():
            info = cls.model_fields.get(name)
            converted[name] = _converted(value, info) if info else value
            numbers = value if isinstance(value, (list, tuple)) else (value,)
            if any(isinstance(n, int) and abs(n) > MOST for n in numbers):
                raise ConfigError(f"{name} is {_shown(value)}.", f"The maximum is {MOST}.")
        return converted


def parse_config(kind: type[C], values: Any, where: str) -> C:
    """Creates a configuration from plain data.

    Args:
        values: a mapping of keys to values; sections are mappings too.
        where: origin of the values for errors, such as the file.

    Raises:
        ConfigError: if a key is unknown, missing, of the wrong type or out of range; names it.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise config_error(kind, values, error, where) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}", error.remedy) from None


def read_config(
    kind: type[C], path: str | Path, overrides: Sequence[str] = (), what: str = "file"
) -> C:
    """Reads a configuration from a YAML file, with ``key=value`` overrides.

    Args:
        what: kind of file for errors, such as ``recipe``.

    Raises:
        InputError: if the file cannot be read or is not YAML.
        ConfigError: as :func:`parse_config`.
    """
    values = read_yaml(path, what)
    for text in overrides:
        override(values, text)
    return parse_config(kind, values, str(path))


def read_yaml(path: str | Path, what: str = "file") -> dict[str, Any]:
    """Reads the mapping in a YAML file.

    Raises:
        InputError: if the file cannot be read or is not YAML.
        ConfigError: if it is not a mapping.
    """
    import yaml

    try:
        refuse_endless(Path(path))
        text = Path(path).read_text(encoding="utf-8")
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"it has more than {_MOST_CHARACTERS:,} characters")
        values = yaml.load(text, _loader())
    except OSError as error:
        raise cannot_read(f"the {what} {path}", error) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bad bytes or dates
        raise InputError(f"The {what} {path} is not valid YAML: {in_one_line(error)}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"The {what} {path} must be a mapping of keys to values.")
    return values


_MOST_CHARACTERS, _MOST_ALIASES = 2**20, 100


@cache
def _loader() -> Any:
    """Returns YAML's safe loader, extended to reject duplicate keys and alias bombs."""
    import yaml

    class Loader(yaml.SafeLoader):
        inside = aliases = 0  # open anchored nodes; aliases so far

        def compose_node(self, parent: Any, index: Any) -> Any:
            anchored = self.peek_event().anchor is not None
            if self.check_event(yaml.AliasEvent):
                anchored, self.aliases = False, self.aliases + 1
                if self.inside or self.aliases > _MOST_ALIASES:
                    raise yaml.YAMLError("an alias inside an anchor, or too many aliases")
            self.inside += anchored
            node = super().compose_node(parent, index)
            self.inside -= anchored
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[str] = set()
            for key, _ in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                if name and name != "<<" and name in seen:
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1} repeats {name!r}")
                seen.add(name)
            return super().construct_mapping(node, deep)

    return Loader


def override(values: dict[str, Any], text: str) -> None:
    """Applies ``key=value`` to plain data; dots separate sections, an empty value is null.

    Raises:
        ConfigError: if the override is malformed.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"The override {text!r} is not of the form key=value.")
    *sections, last = key.strip().split(".")
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigError(f"The override {text!r}: {section!r} is not a section.")
    try:
        target[last] = value_of(value) if value.strip() else None
    except ValueError as error:
        raise ConfigError(f"The override {text!r}: {error}.", "Put the value in quotes.") from None


_PLAIN_VALUE = re.compile(r"(?i:true|false|null|~)|[-+]?[\d._]+([eE][-+]?\d+)?")


def value_of(text: str) -> Any:
    """Parses a value from the command line.

    It is a number, true, false, null, a quoted string, or YAML's ``[list]`` or ``{mapping}``. Other
    text is a string, including dates and what YAML 1.1 reads as booleans, such as ``on`` and
    ``yes``.

    Raises:
        ValueError: if it starts as a quoted string, list or mapping, but is not valid YAML.
    """
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    text = text.strip()
    if text[:1] not in ("[", "{", "'", '"') and not _PLAIN_VALUE.fullmatch(text):
        return text
    import yaml

    try:
        return yaml.load(text, _value_loader())
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ValueError("the value is not valid YAML") from None


@cache
def _value_loader() -> Any:
    """Returns the file loader without dates, and with only true and false as booleans."""

    class Loader(_loader()):
        """Loader of values."""

    booleans = {"true": True, "false": False}
    Loader.add_constructor("tag:yaml.org,2002:timestamp", Loader.construct_yaml_str)
    Loader.add_constructor(
        "tag:yaml.org,2002:bool", lambda _, node: booleans.get(node.value.lower(), node.value)
    )
    return Loader


def run_script(kind: type[C], main: Callable[[C], object], name: str) -> None:
    """Runs a script's main function with the ``key=value`` arguments of the command line.

    Args:
        name: name of the script in errors.
    """
    values: dict[str, Any] = {}
    try:
        for argument in sys.argv[1:]:
            override(values, argument)
        main(parse_config(kind, values, name))
    except CodegenError as error:
        sys.exit(f"Error: {error}")


class ConfigKey(NamedTuple):
    """A key: dotted name, allowed values, help, and default, all as strings."""

    name: str
    allowed: str
    about: str
    default: str


def keys(kind: type[Config], prefix: str = "") -> Iterator[ConfigKey]:
    """Yields every key of a model in order, including keys of sections."""
    for name, info in kind.model_fields.items():
        if section := _section(info):
            yield from keys(section, f"{prefix}{name}.")
        else:
            value = info.get_default(call_default_factory=True, validated_data={})
            default = "required" if info.is_required() else _shown(value)
            default = Option.of(info).shown or default
            yield ConfigKey(prefix + name, allowed(info), info.description or "", default)


def table(kind: type[Config]) -> str:
    """Returns a Markdown table of all keys: name, default, allowed values, meaning."""
    rows = [f"| `{k.name}` | {k.default} | {k.allowed} | {k.about} |" for k in keys(kind)]
    return "\n".join(["| key | default | allowed | meaning |", "|---|---|---|---|", *rows]) + "\n"


def allowed(info: FieldInfo) -> str:
    """Describes the allowed values of a field: ``a whole number from 1 to 8``."""
    *kinds, last = dict.fromkeys(_kind_in_words(arm) for arm in arms(info.annotation))
    text = f"{', '.join(kinds)} or {last}" if kinds else last
    return text + _range_in_words(bounds(info))


def bounds(info: FieldInfo) -> dict[str, float]:
    """Returns ``ge``, ``gt``, ``le`` and ``lt`` of a field's number or list of numbers."""
    limits = list(info.metadata)
    for arm in arms(info.annotation):
        for item in typing.get_args(arm)[:1]:
            for extra in typing.get_args(item)[1:]:
                limits += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    names = ("ge", "gt", "le", "lt")
    return {
        name: bound
        for limit in limits
        for name in names
        if (bound := getattr(limit, name, None)) is not None
    }


def arms(annotation: Any) -> tuple[Any, ...]:
    """Returns the types of a union without ``Annotated``, or the type itself in a tuple."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return arms(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(arm for part in typing.get_args(annotation) for arm in arms(part))
    return (annotation,)


def note(text: str) -> None:
    """Prints a note on standard error, once per message."""
    if text not in NOTED:
        NOTED.add(text)
        sys.stderr.write(f"Note: {text}\n")


NOTED: set[str] = set()


def config_error(
    kind: type[Config],
    values: Any,
    error: ValidationError,
    where: str,
    spell: Callable[[str], str] = str,
) -> ConfigError:
    """Converts pydantic's first error to one line; unknown keys take precedence.

    Args:
        where: origin of the values for the error, such as the file; may be empty.
        spell: formats a dotted key, such as ``--batch-size``.
    """
    errors = error.errors(include_url=False)
    first = next((e for e in errors if e["type"] in _UNKNOWN), errors[0])
    is_unknown = first["type"] in _UNKNOWN
    place = _Place.of(kind, values, first["loc"][:-1] if is_unknown else first["loc"])
    prefix, key = f"{where}: " if where else "", spell(place.key)
    if is_unknown:
        last = str(first["loc"][-1])
        known = list(place.inside.model_fields) if place.inside else []
        start = f"{place.key}." if place.key else ""
        hint = nearest(start + last, [start + name for name in known])
        listed = f"Allowed keys: {', '.join(known)}."
        if len(known) > _MOST_LISTED:
            listed = kind.how_to_list
        return ConfigError(f"{prefix}unknown key {start + last!r}.", f"{hint} {listed}".strip())
    info = place.info
    if info is None or first["type"] in ("model_type", "model_attributes_type"):
        name = repr(key) if key else "it"
        return ConfigError(f"{prefix}{name} must be a section of keys and values.")
    if first["type"] == "missing":
        about = (info.description or "").rstrip(".")
        return ConfigError(
            f"{prefix}the key {key!r} is missing.", f"Set it to {allowed(info)}: {about}."
        )
    shown = _shown(first["input"] if place.value is _ABSENT else place.value)
    if first["type"] == "value_error":
        reason = str(first.get("ctx", {}).get("error", first["msg"]))
        return ConfigError(f"{prefix}{key} is {shown}: {reason.rstrip('.')}.")
    literals = [arm for arm in arms(info.annotation) if typing.get_origin(arm) is Literal]
    choices = [str(choice) for arm in literals for choice in typing.get_args(arm)]
    hint = f" {nearest(first['input'], choices)}".rstrip()
    return ConfigError(f"{prefix}{key} is {shown}.", f"It must be {allowed(info)}.{hint}")


_UNKNOWN = ("extra_forbidden", "invalid_key")
_MOST_LISTED = 20  # maximum number of keys in an error
_ABSENT: Any = object()


class _Place(NamedTuple):
    """Location of an error in a model.

    Attributes:
        key: the dotted key.
        info: its field; None for the model itself.
        inside: the section's class if the key is a section.
        value: the invalid value; ``_ABSENT`` if it was set under another name.
    """

    key: str
    info: FieldInfo | None
    inside: type[Config] | None
    value: Any

    @classmethod
    def of(cls, kind: type[Config], values: Any, location: Sequence[int | str]) -> _Place:
        """Converts a pydantic location, which includes union types and list items."""
        key, info = "", None
        value: Any = values
        inside: type[Config] | None = kind
        for part in location:
            if inside is None or part not in inside.model_fields:
                continue
            info = inside.model_fields[str(part)]
            inside = _section(info)
            key = f"{key}.{part}" if key else str(part)
            is_there = isinstance(value, Mapping) and part in value
            value = value[part] if is_there else _ABSENT
        return cls(key, info, inside, value)


def _section(info: FieldInfo) -> type[Config] | None:
    """Returns the configuration class of a section field, else None."""
    for arm in arms(info.annotation):
        if isinstance(arm, type) and typing.get_origin(arm) is None and issubclass(arm, Config):
            return arm
    return None


def _converted(value: Any, info: FieldInfo) -> Any:
    kinds = arms(info.annotation)
    if isinstance(value, str):
        if float in kinds and str not in kinds:
            try:
                return float(value)
            except ValueError:
                return value
        if Path in kinds and str not in kinds:
            return Path(value)
    if any(typing.get_origin(kind) is list for kind in kinds):
        return value
    return _as_tuple(value)


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


_WORDS = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false",
    type(None): "null", Path: "a path",
}  # fmt: skip
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false"}


def _kind_in_words(arm: Any) -> str:
    origin, inner = typing.get_origin(arm), typing.get_args(arm)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (tuple, list):
        return f"a list of {_plural(inner[0])}"
    if origin is dict:
        return f"a mapping of names to {_plural(inner[1])}"
    return _WORDS.get(arm, "a value")


def _plural(annotation: Any) -> str:
    (item, *_) = arms(annotation)
    return _PLURALS.get(item, "values")


def _range_in_words(limits: Mapping[str, float]) -> str:
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']:g} to {limits['le']:g}"
    words = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}
    parts = [f"{word} {limits[name]:g}" for name, word in words.items() if name in limits]
    return f" {', '.join(parts)}" if parts else ""


def _shown(value: Any) -> str:
    """Formats a value for an error or a table: tuples as lists, long values truncated."""
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= 80 else text[:79] + "…"
