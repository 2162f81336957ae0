"""``codegen eval matrix``: tasks x models x seeds of one YAML file, and one table at the end.

::

    tasks: [humaneval-short, {task: livecodebench, since: 2025-01-01}]
    models:
      - embedded
      - {name: tuned, model: runs/7, style: chat}
    seeds: [0, 1]
    options: {n: 5, temperature: 0.8}     # options of `codegen eval run`, for all cells
    score: {workers: 2}                   # options of `codegen eval score`

A model's options override a task's, which override the general ones. A cell is a run directory,
``OUT/TASK/MODEL/seed-N``, that the other commands of ``codegen eval`` read.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import click

from codegen.cli.clients import EndpointOptions
from codegen.cli.evals import RunOptions, ScoreOptions, run_needs, sample_cell, score_cell
from codegen.cli.options import command
from codegen.cli.planning import with_plan
from codegen.config import Config, parse_config, read_yaml, setting
from codegen.errors import CodegenError, ConfigError, plural
from codegen.evals.score import Score, read_score
from codegen.evals.statistics import Count, base_task, default_ks, estimate_pass_at_k
from codegen.generation import Backend
from codegen.records import read_json, write_atomic
from codegen.terminal import echo

CELL = "cell.json"
_MOST_BYTES = 1 << 20
_OWN = ("out", "retry", "seed")  # options that a cell sets itself


class Matrix(Config):
    """A YAML file of runs."""

    tasks: tuple[str | dict[str, Any], ...] = setting(
        ..., "tasks by name, or a mapping of task and options of `codegen eval run`"
    )
    models: tuple[str | dict[str, Any], ...] = setting(
        ..., "models by name, or a mapping of model, options, and a name for the table"
    )
    seeds: tuple[int, ...] = setting((0,), "random seeds, one run each")
    tries: int = setting(
        1, "attempts per problem; above 1, failed samples are tried again", ge=1, le=9
    )
    options: dict[str, Any] = setting({}, "options of `codegen eval run` for all cells")
    score: dict[str, Any] = setting({}, "options of `codegen eval score`")

    def _check(self) -> None:
        for name in ("tasks", "models", "seeds"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty.")


@dataclass(frozen=True, slots=True)
class Cell:
    """One run to make.

    Attributes:
        label, model, seed: as the table calls them.
        run: the options of its first try.
        server: which server runs the model, and how it is called.
    """

    label: str
    model: str
    seed: int
    folder: Path
    task: str
    run: RunOptions
    server: EndpointOptions

    def at(self, number: int) -> Path:
        """The directory of a try, from 1."""
        return self.folder if number == 1 else self.folder / f"try-{number}"


def cells_of(matrix: Matrix, out: Path, where: str) -> list[Cell]:
    """The runs of a file, by model, so that a model's runs follow one another.

    Raises:
        ConfigError: for an unknown or wrong option, or two rows of one name; names the row.
    """
    tasks = _rows(matrix.tasks, "task", where)
    models = _rows(matrix.models, "model", where)
    cells = []
    for (model, of_model), (label, of_task), seed in product(
        models.items(), tasks.items(), matrix.seeds
    ):
        place = f"{where}: {label}, {model}"
        given = {**matrix.options, **of_task, **of_model}
        if wrong := next((name for name in _OWN if name in given), None):
            raise ConfigError(f"{place}: {wrong} cannot be given here.")
        task = given.pop("task", None)
        if not isinstance(task, str):
            raise ConfigError(f"{place}: task must be a name.")
        folder = out / _plain(label) / _plain(model) / f"seed-{seed}"
        given |= {"out": str(folder), "seed": seed}
        of_server = {
            name: given.pop(name) for name in EndpointOptions.model_fields if name in given
        }
        run = parse_config(RunOptions, given, place)
        server = parse_config(EndpointOptions, of_server, place)
        cells.append(Cell(label, model, seed, folder, task, run, server))
    if len({cell.folder for cell in cells}) < len(cells):
        raise ConfigError(f"{where}: two rows have the same name.", "Give each its own `name`.")
    return cells


def _rows(rows: Sequence[str | Mapping[str, Any]], key: str, where: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        options = {key: row} if isinstance(row, str) else dict(row)
        if key not in options:
            raise ConfigError(f"{where}: a row of {key}s has no key {key!r}.")
        name = str(options.pop("name", options[key]))
        if name in found:
            raise ConfigError(f"{where}: two {key}s are called {name!r}.", "Give one a `name`.")
        # YAML reads an unquoted day as a date.
        found[name] = {k: str(v) if isinstance(v, date) else v for k, v in options.items()}
    return found


def _plain(name: str) -> str:
    """A name as a directory's; one that had to be changed gets a part of its hash."""
    short = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    if short == name:
        return name
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def run_cell(
    cell: Cell, tries: int, score: ScoreOptions, opened: dict[str, Backend] | None = None
) -> Score:
    """Samples and scores a cell, or resumes what is there; the score of its last try.

    Args:
        opened: see :func:`codegen.cli.evals.sample_cell`.
    """
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
    if is_done and (found := read_score(cell.at(tries))).complete:
        return found
    of_cell = score.model_copy(update={"task": cell.task, "source": cell.run.source})
    for number in range(1, tries + 1):
        own = {"out": str(cell.at(number))}
        if number > 1:
            own["retry"] = str(cell.at(number - 1))
        sample_cell(cell.task, cell.run.model_copy(update=own), cell.server, {}, opened)
        score_cell(str(cell.at(number)), of_cell)
    write_atomic(marker, json.dumps(settings, indent=2) + "\n")
    return read_score(cell.at(tries))


def _read(file: str, out: str) -> tuple[Matrix, ScoreOptions, list[Cell]]:
    """A file's settings, how its runs are scored, and its runs."""
    found = parse_config(Matrix, read_yaml(file, "matrix"), file)
    score = parse_config(ScoreOptions, found.score, f"{file}: score")
    return found, score, cells_of(found, Path(out), file)


def _needs(file: str, out: str) -> dict[str, Any]:
    """What sampling needs: each task and model is measured with the first seed."""
    matrix, _, cells = _read(file, out)
    opened: dict[str, Backend] = {}
    rows = []
    for cell in cells:
        if cell.seed == matrix.seeds[0]:
            found = run_needs(cell.task, cell.run, cell.server, opened)
            about = {"task": cell.label, "model": cell.model}
            rows.append({"name": ", ".join(about.values()), **about, **found})
    runs = len(matrix.seeds) * matrix.tries
    seconds = [row["seconds"] for row in rows]
    return {
        "ok": True,
        "name": f"all, {plural(len(matrix.seeds), 'seed')}, at most {matrix.tries} tries",
        "what": "samples",
        "total": runs * sum(row["total"] for row in rows),
        "measured": sum(row["measured"] for row in rows),
        "seconds": None if None in seconds else runs * sum(seconds),
        "memory": max(row["memory"] for row in rows),
        "gpu_memory": max(row["gpu_memory"] for row in rows),
        "disk": runs * sum(row["disk"] for row in rows),
        "disk_free": rows[0]["disk_free"],
        "cells": rows,
    }


@command(example="codegen eval matrix matrix.yaml --out runs/matrix")
@click.argument("file", type=click.Path(dir_okay=False))
@click.option("--out", required=True, metavar="DIR", help="Output directory.")
@with_plan(_needs)
def matrix(file: str, out: str, as_json: bool) -> dict[str, Any]:
    """Sample and score every task with every model and seed that FILE names.

    Run the same command again to resume: cells that are done are not run again. A cell that fails
    is reported, and the others are run. --plan covers the sampling.
    """
    found, score, cells = _read(file, out)
    scores: dict[tuple[str, str], list[Score]] = {}
    rows: list[dict[str, Any]] = []
    opened: dict[str, Backend] = {}
    for number, cell in enumerate(cells, 1):
        row: dict[str, Any] = {"task": cell.label, "model": cell.model, "seed": cell.seed,
                               "path": str(cell.at(found.tries)), "error": None}  # fmt: skip
        rows.append(row)
        echo(f"[{number}/{len(cells)}] {cell.label}, {cell.model}, seed {cell.seed}", err=True)
        try:
            result = run_cell(cell, found.tries, score, opened)
        except CodegenError as error:
            row["error"] = str(error)
            echo(f"  failed: {error}", err=True)
            continue
        row["complete"] = result.complete
        row["pass_at_k"] = {k: estimate.value for k, estimate in result.estimates.items()}
        scores.setdefault((cell.label, cell.model), []).append(result)
    table = list(_table(scores))
    if not as_json:
        _print_table(table)
        echo(f"Compare the runs with: codegen eval compare {out}/TASK/*/seed-N")
    ok = all(row["error"] is None and row["complete"] for row in rows)
    return {"ok": ok, "cells": rows, "table": table}


def _table(scores: Mapping[tuple[str, str], Sequence[Score]]) -> Iterator[dict[str, Any]]:
    """A row for each task and model: pass@1 over the samples of all seeds, and the seeds' own.
    Below them a row for each task with several languages, over the problems of all.
    """
    by_task: dict[tuple[str, str], dict[str, Sequence[Score]]] = {}
    twice: set[tuple[str, str]] = set()
    for (label, model), of_seeds in scores.items():
        yield _row(label, model, {"": of_seeds})
        task, _, language = of_seeds[0].task.partition(":")
        if language and task != "file":
            of_languages = by_task.setdefault((task, model), {})
            if language in of_languages:
                twice.add((task, model))
            of_languages[language] = of_seeds
    for (task, model), of_languages in by_task.items():
        if len(of_languages) > 1 and (task, model) not in twice:
            yield _row(f"{task}, {len(of_languages)} languages", model, of_languages)


def _row(label: str, model: str, scores: Mapping[str, Sequence[Score]]) -> dict[str, Any]:
    """A row of the table.

    Args:
        scores: language -> the scores of the seeds. The translations of one problem are a cluster.
    """
    pooled: dict[tuple[str, str], Count] = {}
    for language, of_seeds in scores.items():
        for score in of_seeds:
            for id_, count in score.counts.items():
                before = pooled.get((language, id_), Count(0, 0))
                pooled[language, id_] = Count(before.n + count.n, before.c + count.c)
    counts = list(pooled.values())
    ids = [id_.rpartition("/")[2] if language else base_task(id_) for language, id_ in pooled]
    least = min((count.n for count in counts), default=0)
    found = {k: estimate_pass_at_k(counts, k, ids) for k in default_ks(least)}
    first = found.get(1)
    seeds = min(scores.values(), key=len)
    each = [score.estimates[1].value for score in seeds if 1 in score.estimates]
    return {
        "task": label,
        "model": model,
        "seeds": len(seeds),
        "problems": len(counts),
        "clusters": first.clusters if first else 0,
        "pass_at_1": first.value if first else None,
        "low": first.tasks_low if first else None,
        "high": first.tasks_high if first else None,
        "pass_at_k": {k: estimate.value for k, estimate in found.items() if estimate},
        "seed_stdev": statistics.stdev(each) if len(each) > 1 and len(scores) == 1 else None,
        "complete": all(score.complete for of_seeds in scores.values() for score in of_seeds),
    }


def _print_table(table: Sequence[Mapping[str, Any]]) -> None:
    if not table:
        return
    wide = {name: max(len(row[name]) for row in table) for name in ("task", "model")}
    echo(f"{'task':<{wide['task']}}  {'model':<{wide['model']}}  pass@1  95 % interval")
    for row in table:
        rate = "   none" if row["pass_at_1"] is None else f"{row['pass_at_1']:6.1%}"
        line = f"{row['task']:<{wide['task']}}  {row['model']:<{wide['model']}}  {rate}"
        if row["low"] is not None:
            line += f"  {row['low']:.1%} to {row['high']:.1%}"
        line += f"  {plural(row['problems'], 'problem')}"
        if row["clusters"] < row["problems"]:
            line += f" in {plural(row['clusters'], 'cluster')}"
        line += f", {plural(row['seeds'], 'seed')}"
        if row["seed_stdev"] is not None:
            line += f" (± {100 * row['seed_stdev']:.1f} points)"
        echo(line if row["complete"] else f"{line}, incomplete")
