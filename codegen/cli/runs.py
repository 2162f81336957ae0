"""``codegen runs`` lists runs; ``codegen view`` shows them in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from codegen.cli.options import command, options, print_result
from codegen.cli.serve import SocketOptions
from codegen.core.config import setting
from codegen.core.optional_deps import require
from codegen.core.terminal import columns, echo, one_line
from codegen.server import run_index


@command(example="codegen runs runs data")
@click.argument("places", nargs=-1, type=click.Path(), metavar="[DIR]...")
def runs(places: tuple[str, ...]) -> dict[str, Any]:
    """List the runs in and below directories, by default the current one.

    Lists data, samples and scores, trainings, and searches. A run is running (a process holds its
    lock), done, or stopped. To resume a stopped run, run the command that started it again.
    """
    found = run_index.find_runs(places or ["."])
    _print_table(found)
    return {"runs": [run.to_json() for run in found]}


def _print_table(found: Sequence[run_index.Run]) -> None:
    if not found:
        print_result("No runs found.", err=True)
        return
    rows = [
        (
            run.name,
            run.kind,
            run.state,
            run.result,
            run_index.shown_size(run.bytes),
            run_index.shown_time(run.when),
            one_line(run.what),
        )
        for run in found
    ]
    heads = ("run", "kind", "state", "result", "size", "changed", "what")
    print_result("\n".join(columns([heads, *rows])))
    for run in found:
        if run.resume:
            print_result(f"{run.name} stopped. To resume it, run again: {run.resume}")


class ViewOptions(SocketOptions):
    """Options of ``codegen view``."""

    port: int = setting(8015, "Port; 0 chooses a free one.", ge=0, le=65535)


@command(has_json=False, example="codegen view runs data")
@click.argument("places", nargs=-1, required=True, type=click.Path(), metavar="DIR...")
@options(ViewOptions, "given")
def view(places: tuple[str, ...], given: ViewOptions) -> None:
    """Serve web pages about the datasets and runs in and below DIR, and JSONL files.

    Filter, search and compare samples with their verdicts, step through edits, follow a training
    run. Open the URL that is printed: it contains the token. The directories are only read, and
    pages follow runs in progress.
    """
    require("starlette", "uvicorn", "prometheus_client")
    from codegen.server.http.security import make_server, serve
    from codegen.server.viewer import Library, make_app

    library = Library(places)
    with given.listening() as (token, sock):
        app = make_app(library, token, sock.getsockname()[1], given.hosts)
        echo(f"Open {given.address(sock)}/{f'?token={token}' if token else ''}", err=True)
        echo("Stop with Ctrl-C.", err=True)
        serve(make_server(app), sock)
