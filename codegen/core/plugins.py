"""Plugins (parts) selected by name, built in or from other installed packages.

Another package adds a part by an entry point, in its own ``pyproject.toml``::

    [project.entry-points."codegen.generators"]
    shout = "my_package:Shout"

After ``pip install`` the name works like a built-in one, also on the command line. Parts are
imported on first use. Built-in names cannot be replaced.

Arguments and results of each kind of part:

* ``generators``: options -> :class:`codegen.data.generators.TextGenerator`
* ``sources``: (text after the colon, :class:`codegen.data.sources.SourceOptions`) ->
  :class:`codegen.data.sources.Source`
* ``filters``: text after the colon -> :class:`codegen.data.filters.Filter`
* ``tasks``: a subclass of :class:`codegen.evals.tasks.CodeTask`, or anything else with
  ``load(name, about, source)`` -> :class:`codegen.evals.tasks.Task`
* ``backends``: subclasses of :class:`codegen.generation.Backend`
* ``decoders``: objects of :class:`codegen.generation.decoders.Reader` or ``StrategySpec``
* ``rewards``: see :mod:`codegen.rewards`
* ``languages``: objects of :class:`codegen.sandbox.languages.SandboxLanguage`
* ``dialects``: lists of :data:`codegen.server.http.bodies.Endpoint`, routes of ``codegen serve``
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from traceback import walk_tb
from types import FunctionType
from typing import Any

from codegen.core.errors import CodegenError, ConfigError, in_one_line, nearest

_TABLE = tomllib.loads(Path(__file__).with_name("parts.toml").read_text(encoding="utf-8"))
BUILT_IN: Mapping[str, Mapping[str, str]] = {
    kind: {name: part if isinstance(part, str) else part[0] for name, part in parts.items()}
    for kind, parts in _TABLE.items()
}
"""Kind -> name -> ``module:attribute``."""


_MOST_LISTED = 12  # names in an error, which is one line


def names(kind: str) -> list[str]:
    """Returns the names of a kind's parts: first the built-in ones, then the others, sorted."""
    return [*BUILT_IN[kind], *sorted(installed_parts(kind).keys() - BUILT_IN[kind].keys())]


def package_of(kind: str, name: str) -> str:
    """Returns the package that adds a part; "" if the part is built in or unknown."""
    entries = installed_parts(kind).get(name)
    return _name(entries[0]) if entries and name not in BUILT_IN[kind] else ""


def docstring(part: object) -> str:
    """Returns a part's docstring; "" for generated docstrings and instances."""
    if not isinstance(part, (type, FunctionType)):
        return ""
    doc = part.__doc__ or ""
    return "" if doc.startswith(f"{part.__name__}(") else doc


def written_about(kind: str, name: str) -> str:
    """Returns a built-in part's description, or its docstring.

    Does not import its module, which may load torch. Empty if the module only re-exports the part,
    or the part is not built in.
    """
    part = _TABLE[kind].get(name, "")
    if not isinstance(part, str):
        return part[1]
    module, _, attribute = part.partition(":")
    spec = find_spec(module) if module else None
    if spec is None or spec.origin is None:
        return ""
    nodes = ast.parse(Path(spec.origin).read_bytes()).body
    kinds = (ast.ClassDef, ast.FunctionDef)
    named = (node for node in nodes if isinstance(node, kinds) and node.name == attribute)
    return next((ast.get_docstring(node) or "" for node in named), "")


def load(kind: str, name: str) -> Any:
    """Returns a part by its name; imports its module.

    Raises:
        ConfigError: for an unknown name; names the nearest one.
        CodegenError: if the package that adds it is broken, or two packages add the name.
    """
    if target := BUILT_IN[kind].get(name):
        return EntryPoint(name, target, f"codegen.{kind}").load()
    part = f"{kind.removesuffix('s')} {name!r}"
    entries = installed_parts(kind).get(name)
    if not entries:
        known = names(kind)
        listed = f"Choose from: {', '.join(sorted(known)) or 'none'}."
        if len(known) > _MOST_LISTED:
            listed = "List them with: codegen plugins"
        raise ConfigError(f"Unknown {part}.", f"{nearest(name, known)} {listed}".lstrip())
    entry, *others = entries
    packages = [_name(one) for one in entries]
    if others:
        raise CodegenError(
            f"The packages {' and '.join(packages)} both add the {part}.",
            "Uninstall one of them.",
        )
    try:
        loaded = entry.load()
    except Exception as error:
        raise CodegenError(
            f"The {part} of the package {packages[0]} cannot be loaded ({_shown(error)}).",
            f"Fix {packages[0]}, or uninstall it.",
        ) from error
    _LOADED.append(entry)
    return loaded


def blame(error: Exception) -> CodegenError | None:
    """Returns the error to show if parts of other packages may have caused an unexpected one.

    Names the part with the innermost frame in the traceback. Without such a frame it names all
    loaded parts, since one may have returned a wrong value. None if none is loaded.
    """
    parts, failure = list(_LOADED), "was in use when this failed:"
    for frame, _ in reversed(list(walk_tb(error.__traceback__))):
        module, name = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname
        top = module.partition(".")[0]
        if owned := [one for one in _LOADED if one.module.partition(".")[0] == top]:
            exact = [e for e in owned if e.module == module and f"{name}.".startswith(f"{e.attr}.")]
            parts, failure = exact or owned, "failed:"
            break
    if not parts:
        return None
    named = {f"{one.group.removeprefix('codegen.')[:-1]} {one.name!r}" for one in parts}
    packages = {_name(one) for one in parts}
    return CodegenError(
        f"The {' or '.join(sorted(named))} of the package {', '.join(sorted(packages))} {failure} "
        f"{_shown(error)}",
        "Add --traceback to the command to see where.",
    )


_LOADED: list[EntryPoint] = []  # loaded from other packages by this process


def _shown(error: Exception) -> str:
    return in_one_line(f"{type(error).__name__}: {error}")


@cache
def installed_parts(kind: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Returns the entry points of installed packages by name."""
    parts: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=f"codegen.{kind}"):
        parts[entry.name] = (*parts.get(entry.name, ()), entry)
    return parts


def _name(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.value
