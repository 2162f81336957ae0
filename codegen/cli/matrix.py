"""``codegen eval matrix``: runs tasks x models x seeds from one YAML file, and prints one table.

::

    tasks: [humaneval-short, {task: livecodebench, since: 2025-01-01}]
    models:
      - embedded
      - {name: tuned, model: runs/7, style: chat}
    seeds: [0, 1]
    options: {n: 5, temperature: 0.8}     # options of `codegen eval run`, for all cells
    score: {workers: 2}                   # options of `codegen eval score`

A model's options override a task's, which override the general ones. Each cell is a run directory,
``OUT/TASK/MODEL/seed-N``, which the other commands of ``codegen eval`` can read.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import click

from codegen.cli.clients import EndpointOptions
from codegen.cli.evals import EvalRunOptions, ScoreOptions, sample_cell, score_cell
from codegen.cli.options import command, print_result
from codegen.core.config import Config, parse_config, read_yaml, setting
from codegen.core.errors import CodegenError, ConfigError, plural
from codegen.core.paths import write_atomic
from codegen.core.records import read_json
from codegen.core.terminal import echo
from codegen.evals.scoring import Score, read_score
from codegen.evals.statistics import Count, base_task, default_ks, estimate_pass_at_k
from codegen.generation import Backend, open_backend

CELL = "cell.json"
_MOST_BYTES = 1 << 20
_OWN = ("out", "retry", "seed")  # options that a cell sets itself


class Matrix(Config):
    """Contents of the YAML file."""

    tasks: tuple[str | dict[str, Any], ...] = setting(
        ..., "tasks by name, or a mapping of task and options of `codegen eval run`"
    )
    models: tuple[str | dict[str, Any], ...] = setting(
        ..., "models by name, or a mapping of model, options, and a name for the table"
    )
    seeds: tuple[int, ...] = setting((0,), "random seeds, one run each")
    tries: int = setting(1, "attempts per problem; above 1, failed samples are retried", ge=1, le=9)
    options: dict[str, Any] = setting({}, "options of `codegen eval run` for all runs")
    score: dict[str, Any] = setting({}, "options of `codegen eval score`")

    def _check(self) -> None:
        for name in ("tasks", "models", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty.")


@dataclass(frozen=True, slots=True)
class MatrixRun:
    """One run of the matrix.

    Attributes:
        label, model, seed: names in the table.
        run: options of its first attempt.
        server: options of the server that runs the model.
    """

    label: str
    model: str
    seed: int
    folder: Path
    task: str
    run: EvalRunOptions
    server: EndpointOptions

    def at(self, number: int) -> Path:
        """Returns the directory of an attempt, from 1."""
        return self.folder if number == 1 else self.folder / f"try-{number}"


def cells_of(matrix: Matrix, out: Path, where: str) -> list[MatrixRun]:
    """Returns the runs of a file, grouped by model, so that each model is loaded once.

    Raises:
        ConfigError: for an unknown or wrong option, or two rows with one name; names the row.
    """
    tasks = _rows(matrix.tasks, "task", where)
    models = _rows(matrix.models, "model", where)
    cells = []
    for (model, of_model), (label, of_task), seed in product(
        models.items(), tasks.items(), matrix.seeds
    ):
        place = f"{where}: {label}, {model}"
        settings = {**matrix.options, **of_task, **of_model}
        if wrong := next((name for name in _OWN if name in settings), None):
            raise ConfigError(f"{place}: {wrong} cannot be set here.")
        task = settings.pop("task", None)
        if not isinstance(task, str):
            raise ConfigError(f"{place}: task must be a name.")
        folder = out / _plain(label) / _plain(model) / f"seed-{seed}"
        settings |= {"out": str(folder), "seed": seed}
        of_server = {
            name: settings.pop(name) for name in EndpointOptions.model_fields if name in settings
        }
        run = parse_config(EvalRunOptions, settings, place)
        server = parse_config(EndpointOptions, of_server, place)
        cells.append(MatrixRun(label, model, seed, folder, task, run, server))
    if len({cell.folder for cell in cells}) < len(cells):
        raise ConfigError(f"{where}: two rows have the same name.", "Set a `name` in each.")
    return cells


def _rows(rows: Sequence[str | Mapping[str, Any]], key: str, where: str) -> dict[str, Any]:
    named: dict[str, dict[str, Any]] = {}
    for row in rows:
        options = {key: row} if isinstance(row, str) else dict(row)
        if key not in options:
            raise ConfigError(f"{where}: a row of {key}s has no key {key!r}.")
        name = str(options.pop("name", options[key]))
        if name in named:
            raise ConfigError(f"{where}: two {key}s are called {name!r}.", "Set another name.")
        # YAML parses an unquoted day as a date.
        named[name] = {k: str(v) if isinstance(v, date) else v for k, v in options.items()}
    return named


def _plain(name: str) -> str:
    """Converts a name to a directory name, with part of its hash if it was changed."""
    short = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    if short == name:
        return name
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


class LastModel:
    """Opens models, and keeps the last one for the next cells with the same settings."""

    def __init__(self) -> None:
        self._opened: dict[str, Backend] = {}  # settings -> model

    def open(self, name: str, model: str, **options: Any) -> Backend:
        """Opens a model as :func:`codegen.generation.open_backend`, unless it is open."""
        key = json.dumps([name, model, options], sort_keys=True)
        if key not in self._opened:
            self._opened.clear()  # before opening: only one fits in memory
            self._opened[key] = open_backend(name, model, **options)
        return self._opened[key]


def run_cell(
    cell: MatrixRun, tries: int, score: ScoreOptions, opener: Callable[..., Backend]
) -> Score:
    """Samples and scores a cell, or resumes it; returns the score of its last attempt."""
    settings = {
        "task": cell.task,
        "tries": tries,
        "run": cell.run.model_dump(mode="json", exclude={"out"}),
        "server": cell.server.model_dump(mode="json"),
        "score": score.model_dump(mode="json"),
    }
    marker = cell.folder / CELL
    try:
        is_done = read_json(marker, _MOST_BYTES) == settings
    except (OSError, ValueError):
        is_done = False
    if is_done and (finished := read_score(cell.at(tries))).complete:
        return finished
    of_cell = score.model_copy(update={"task": cell.task, "source": cell.run.source})
    for number in range(1, tries + 1):
        update = {"out": str(cell.at(number))}
        if number > 1:
            update["retry"] = str(cell.at(number - 1))
        sample_cell(cell.task, cell.run.model_copy(update=update), cell.server, opener)
        score_cell(str(cell.at(number)), of_cell)
    write_atomic(marker, json.dumps(settings, indent=2) + "\n")
    return read_score(cell.at(tries))


@command(example="codegen eval matrix matrix.yaml --out runs/matrix")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--out", required=True, metavar="DIR", help="Output directory.")
def matrix(file: str, out: str) -> dict[str, Any]:
    """Sample and score every task in FILE with every model and seed.

    Run the same command again to resume: finished cells are not rerun. If a cell fails, the command
    reports it and runs the others.
    """
    spec = parse_config(Matrix, read_yaml(file, "matrix"), file)
    score = parse_config(ScoreOptions, spec.score, f"{file}: score")
    cells = cells_of(spec, Path(out), file)
    scores: dict[tuple[str, str], list[Score]] = {}
    rows: list[dict[str, Any]] = []
    models = LastModel()
    for number, cell in enumerate(cells, 1):
        row: dict[str, Any] = {"task": cell.label, "model": cell.model, "seed": cell.seed,
                               "path": str(cell.at(spec.tries)), "error": None}  # fmt: skip
        rows.append(row)
        echo(f"[{number}/{len(cells)}] {cell.label}, {cell.model}, seed {cell.seed}", err=True)
        try:
            result = run_cell(cell, spec.tries, score, models.open)
        except CodegenError as error:
            row["error"] = str(error)
            echo(f"  failed: {error}", err=True)
            continue
        row["complete"] = result.complete
        row["pass_at_k"] = {k: estimate.value for k, estimate in result.estimates.items()}
        scores.setdefault((cell.label, cell.model), []).append(result)
    table = [_row(*names, of_seeds) for names, of_seeds in scores.items()]
    _print_table(table)
    print_result(f"Compare the runs with: codegen eval compare {out}/TASK/*/seed-N")
    ok = all(row["error"] is None and row["complete"] for row in rows)
    return {"ok": ok, "cells": rows, "table": table}


def _row(label: str, model: str, scores: Sequence[Score]) -> dict[str, Any]:
    """Returns a table row: pass@k over the samples of all seeds, and the spread of the seeds."""
    pooled: dict[str, Count] = {}
    for score in scores:
        for id_, count in score.counts.items():
            before = pooled.get(id_, Count(0, 0))
            pooled[id_] = Count(before.n + count.n, before.c + count.c)
    counts = list(pooled.values())
    clusters = [base_task(id_) for id_ in pooled]
    least = min((count.n for count in counts), default=0)
    estimates = {k: estimate_pass_at_k(counts, k, clusters) for k in default_ks(least)}
    first = estimates.get(1)
    each = [score.estimates[1].value for score in scores if 1 in score.estimates]
    return {
        "task": label,
        "model": model,
        "seeds": len(scores),
        "problems": len(counts),
        "clusters": first.clusters if first else 0,
        "pass_at_1": first.value if first else None,
        "low": first.tasks_low if first else None,
        "high": first.tasks_high if first else None,
        "pass_at_k": {k: estimate.value for k, estimate in estimates.items() if estimate},
        "seed_stdev": statistics.stdev(each) if len(each) > 1 else None,
        "complete": all(score.complete for score in scores),
    }


def _print_table(table: Sequence[Mapping[str, Any]]) -> None:
    for row in table:
        rate = "none" if row["pass_at_1"] is None else f"{row['pass_at_1']:.1%}"
        interval = "" if row["low"] is None else f" ({row['low']:.1%} to {row['high']:.1%})"
        line = f"{row['task']}, {row['model']}: pass@1 {rate}{interval}"
        line += f", {plural(row['problems'], 'problem')}, {plural(row['seeds'], 'seed')}"
        if row["seed_stdev"] is not None:
            line += f" (± {100 * row['seed_stdev']:.1f} points)"
        print_result(line if row["complete"] else f"{line}, incomplete")
