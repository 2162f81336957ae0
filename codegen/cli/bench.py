"""``codegen bench``: runs the benchmarks of ``benchmarks/`` against other libraries.

A benchmark is a file ``codegen/benchmarks/NAME.py``. Its docstring describes it. Its
``run(quick, **options)`` returns the results under keys that the docstring explains, with
``samples``, ``seed``, ``versions``, ``intervals`` (95%, by key), ``notes`` and ``install`` (the
command that installs a missing peer, whose results are null). This module adds the machine.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from codegen.cli.options import command, completes, print_result
from codegen.core.errors import ConfigError, nearest

PACKAGE = "codegen.benchmarks"
# Keys that are not results.
_ABOUT = ("samples", "seed", "versions", "intervals", "notes", "install", "machine")


@command(example="codegen bench lintseq --quick")
@click.argument("name", required=False, shell_complete=completes(lambda: benchmarks()))
@click.option("--quick", is_flag=True, help="Use smaller samples; at most 50 s on two idle cores.")
@click.option(
    "-o",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Benchmark option; --list shows all options. Repeatable.",
)
@click.option("--list", "listing", is_flag=True, help="List the benchmarks and their options.")
def bench(name: str | None, quick: bool, options: tuple[str, ...], listing: bool) -> dict[str, Any]:
    """Run the benchmark NAME (listed by --list).

    Where the machine may be shared, costs are CPU time. Results of a library that is not installed
    are null, with the command that installs it. Progress goes to standard error.
    """
    if listing:
        return _list()
    if name is None:
        raise ConfigError("No benchmark given.", f"Choose from: {', '.join(benchmarks())}.")
    figures = _run(name, quick, options)
    print_result("\n".join(_lines(figures)))
    return figures


def benchmarks() -> dict[str, str]:
    """Returns benchmark name -> first line of its docstring, without importing the benchmarks."""
    try:
        folders = importlib.import_module(PACKAGE).__path__
    except ModuleNotFoundError:
        raise ConfigError(
            "The benchmarks are not part of the installed package.",
            "Clone the repository and run `pip install -e .` in it.",
        ) from None
    found = {}
    for folder in folders:
        for module in pkgutil.iter_modules([folder]):
            if not module.ispkg and not module.name.startswith("_"):
                text = Path(folder, f"{module.name}.py").read_text(encoding="utf-8")
                found[module.name] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return dict(sorted(found.items()))


def _list() -> dict[str, Any]:
    rows = [
        {"name": name, "about": about, "options": default_options(load_benchmark(name))}
        for name, about in benchmarks().items()
    ]
    for row in rows:
        print_result(f"{row['name']:<12} {row['about']}")
        for key, value in row["options"].items():
            print_result(f"{'':<12}   -o {key}={value}")
    return {"benchmarks": rows}


def load_benchmark(name: str) -> Callable[..., Mapping[str, object]]:
    """Returns a benchmark's function.

    Raises:
        ConfigError: if the benchmark is unknown.
    """
    known = benchmarks()
    if name not in known:
        raise ConfigError(
            f"Unknown benchmark {name!r}.",
            f"{nearest(name, list(known))} Choose from: {', '.join(known)}.".lstrip(),
        )
    return importlib.import_module(f"{PACKAGE}.{name}").run


def _run(name: str, quick: bool, options: Iterable[str]) -> dict[str, Any]:
    run = load_benchmark(name)
    keywords = _keywords(name, run, options)
    from codegen.benchmarks.tools.machine import load_average, machine
    from codegen.benchmarks.tools.timing import measured

    facts = machine()
    # The output of libraries must not mix with the JSON object.
    with contextlib.redirect_stdout(sys.stderr), measured() as spent:
        figures = run(quick, **keywords)
    facts["load_average_after"] = list(load_average())
    return {
        "benchmark": name,
        "quick": quick,
        "options": keywords,
        **figures,
        "machine": facts,
        "wall_s": round(spent.wall_s, 2),
        "cpu_s": round(spent.cpu_s, 2),
    }


def default_options(run: Callable[..., Any]) -> dict[str, Any]:
    """Returns a benchmark's options with their defaults."""
    return {
        parameter.name: parameter.default
        for parameter in inspect.signature(run).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _keywords(name: str, run: Callable[..., Any], options: Iterable[str]) -> dict[str, Any]:
    defaults = default_options(run)
    keywords = {}
    for option in options:
        key, equals, text = option.partition("=")
        if key not in defaults:
            names = ", ".join(defaults) or "none"
            hint = nearest(key, list(defaults))
            raise ConfigError(
                f"Benchmark {name} has no option {key!r}.",
                f"{hint} Its options are {names}.".lstrip(),
            )
        if not equals:
            raise ConfigError(f"Option {key} has no value.", f"Pass -o {key}=VALUE.")
        if key in keywords:
            raise ConfigError(f"Option {key} is passed twice.", "Remove one of the two.")
        keywords[key] = _value(name, key, text, type(defaults[key]))
    return keywords


def _value(name: str, key: str, text: str, kind: type) -> Any:
    try:
        value = {"true": True, "false": False}[text] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ConfigError(
            f"Option {key} of benchmark {name} is {text!r}; it must be of type {kind.__name__}."
        ) from None
    return value


def _lines(figures: Mapping[str, Any]) -> Iterable[str]:
    """Yields a table of the results, then the facts about them."""
    intervals, samples = figures.get("intervals") or {}, figures.get("samples") or {}
    rows = [key for key in figures if key not in _ABOUT]
    width = max(map(len, rows))
    for key in rows:
        line = f"{key:<{width}}  {_short(figures[key]):>12}"
        if bounds := intervals.get(key):
            line += f"  [{', '.join(map(_short, bounds))}]"
        if key in samples:
            line += f"  n={_short(samples[key])}"
        yield line.rstrip()
    for key in _ABOUT:
        left: Any = figures.get(key)
        if key == "samples":
            left = {name: count for name, count in samples.items() if name not in rows}
        if left in (None, {}, []) or key == "intervals":
            continue
        for text in left if key == "notes" else [_short(left)]:
            yield f"{key}: {text}"


def _short(value: Any) -> str:
    if value is None or value in ("", {}):
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_short, value))
    return str(value)
