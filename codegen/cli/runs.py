"""``codegen runs`` lists runs, compares two, deletes one; ``codegen view`` shows them in pages."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from codegen import catalog
from codegen.cli import Group
from codegen.cli.options import command, options
from codegen.cli.serve import SocketOptions
from codegen.config import setting
from codegen.errors import ConfigError, InputError, plural
from codegen.extras import require
from codegen.terminal import Progress, columns, echo, one_line


class _Runs(Group):
    """A group that runs ``list`` when it gets a directory instead of a command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = self.list_commands(ctx)
        if not {"-h", "--help"} & set(args) and (not args or args[0] not in known):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Runs)
def runs() -> None:
    """List, compare and delete runs: data, samples and scores, trainings, searches.

    `codegen runs DIR` is short for `codegen runs list DIR`.
    """


@command(group=runs, name="list", short_help="List the runs below directories.",
         example="codegen runs list runs data")  # fmt: skip
@click.argument("places", nargs=-1, type=click.Path(), metavar="[DIR]...")
def list_runs(places: tuple[str, ...], as_json: bool) -> dict[str, Any]:
    """List the runs in and below directories, by default the current one.

    A run is running (a process holds it), done, or stopped; a stopped run resumes when the command
    that started it is run again.
    """
    found = catalog.find_runs(places or ["."])
    if not as_json:
        _print_table(found)
    return {"runs": [run.to_json() for run in found]}


def _print_table(found: Sequence[catalog.Run]) -> None:
    if not found:
        echo("No runs found.", err=True)
        return
    rows = [
        (
            run.name,
            run.kind,
            run.state,
            run.result,
            catalog.shown_size(run.bytes),
            catalog.shown_time(run.when),
            one_line(run.what),
        )
        for run in found
    ]
    heads = ("run", "kind", "state", "result", "size", "changed", "what")
    echo("\n".join(columns([heads, *rows])))
    for run in found:
        if run.resume:
            echo(f"{run.name} stopped. To resume it, run again: {run.resume}")


@command(group=runs, short_help="Compare two runs.",
         example="codegen runs compare runs/base runs/tuned")  # fmt: skip
@click.argument("first", type=click.Path())
@click.argument("second", type=click.Path())
def compare(first: str, second: str, as_json: bool) -> dict[str, Any]:
    """Compare two runs: the settings that differ, and the scores if both are of one task.

    Scores are compared problem by problem, as by `codegen eval compare`.
    """
    from codegen.evals.report import ScoredRun, compare_runs
    from codegen.evals.score import read_score

    pair = [_run(first), _run(second)]
    settings = catalog.differing(*pair)
    scored = []
    for run in pair:
        if (run.folder / "score.json").is_file():
            scored.append(ScoredRun(run.name, read_score(run.folder)))
    found = compare_runs(scored) if len(scored) == 2 else []
    if not as_json:
        from codegen.cli.evals import print_pair

        for run in pair:
            echo(f"{run.name}: {run.kind}, {run.state}, {one_line(run.what)}, {_numbers(run)}")
        echo("Settings that differ:" if settings else "No settings differ.")
        for name, values in settings.items():
            one, other = (one_line(json.dumps(value, ensure_ascii=False)) for value in values)
            echo(f"  {name}: {one} -> {other}")
        for result in found:
            print_pair(result, all(run.score.complete for run in scored))
    return {
        "runs": [run.to_json() for run in pair],
        "settings": {name: list(values) for name, values in settings.items()},
        "comparisons": [asdict(result) for result in found],
    }


def _run(folder: str) -> catalog.Run:
    run = catalog.read_run(folder)
    if run is None:
        raise InputError(f"{folder} holds no run.", "`codegen runs` lists the runs.")
    return run


@command(group=runs, short_help="Delete a run.", example="codegen runs delete runs/base")
@click.argument("run", type=click.Path())
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
def delete(run: str, yes: bool, as_json: bool) -> dict[str, Any]:
    """Delete the files of a run, and its directory if nothing else is in it.

    Refuses a run that is in use, and a directory that holds no run.
    """
    found, mine, others = catalog.to_delete(run)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise ConfigError("Deleting requires confirmation.", "Add --yes to delete without it.")
        echo(f"{found.name}: {found.kind}, {found.state}, {one_line(found.what)}")
        echo(f"{plural(len(mine), 'path')}, {catalog.shown_size(found.bytes)}")
        if others:
            echo(f"Not part of the run, so kept: {', '.join(map(one_line, others))}")
        if not click.confirm("Delete it?"):
            echo("Nothing was deleted.", err=True)
            return {}
    catalog.delete(run)
    if not as_json:
        echo(f"Deleted {found.name}." + (f" Kept: {', '.join(others)}" if others else ""))
    return {"deleted": [str(path) for path in mine], "kept": others}


def _numbers(run: catalog.Run) -> str:
    found = (f"{name} {catalog.shown_number(name, n)}" for name, n in run.numbers.items())
    return ", ".join(found) or "no result"


# --- codegen view --------------------------------------------------------------------------------


_MB = 1_000_000
_QUICK_BYTES = 10 * _MB  # below that an index is made before progress could be seen


class ViewOptions(SocketOptions):
    """The options of ``codegen view``."""

    port: int = setting(8015, "Port; 0 chooses a free one.", ge=0, le=65535)


@command(has_json=False, example="codegen view runs data")
@click.argument("places", nargs=-1, required=True, type=click.Path(), metavar="DIR...")
@options(ViewOptions, "given")
def view(places: tuple[str, ...], given: ViewOptions) -> None:
    """Serve pages over the data sets and runs in and below DIR, and over JSONL files.

    Filter, search and compare samples with their verdicts, step through edits, follow a training
    run. Open the address that is printed: it holds the token. Nothing is written to the
    directories, and a run that is still being written is read again.
    """
    require("starlette", "uvicorn", "prometheus_client")
    from codegen.server.guard import serve
    from codegen.server.viewer import Library, make_app

    library = Library(places)
    with given.listening() as (token, sock):
        for source in library.first():
            for table in source.tables.values():
                size = sum(path.stat().st_size for path in table.paths())
                if size < _QUICK_BYTES:
                    table.refresh()
                    continue
                label = f"index of {source.name}, {table.title.lower()}, MB"
                with Progress(label, size // _MB) as bar:
                    table.refresh(lambda done, bar=bar: bar.update(done // _MB))
        port = 0 if given.uds else sock.getsockname()[1]
        app = make_app(library, token, port, given.hosts)
        where = given.address(sock) + ("" if given.uds else "/")
        echo(f"Open {where}{f'?token={token}' if token else ''}", err=True)
        echo("Stop with Ctrl-C.", err=True)
        serve(app, sock)
