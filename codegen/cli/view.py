"""``codegen view``: data sets, runs and samples in a browser."""

from __future__ import annotations

import click

from codegen.cli.options import command, options
from codegen.cli.serve import SocketOptions
from codegen.config import setting
from codegen.extras import require
from codegen.terminal import Progress, echo

_MB = 1_000_000
_QUICK_BYTES = 10 * _MB  # below that an index is made before progress could be seen


class ViewOptions(SocketOptions):
    """The options of ``codegen view``."""

    port: int = setting(8015, "Port; 0 chooses a free one.", ge=0, le=65535)


@command(
    has_json=False,
    short_help="Look at data, runs and samples in a browser.",
    example="codegen view runs data",
)
@click.argument("places", nargs=-1, required=True, type=click.Path(), metavar="DIR...")
@options(ViewOptions, "given")
def view(places: tuple[str, ...], given: ViewOptions) -> None:
    """Serve pages over the data sets and runs in and below DIR, and over JSONL files.

    Filter, search and compare samples with their verdicts, step through edits, follow a training.
    Open the address that is printed: it holds the token. Nothing is written to the directories, and
    a run that is still being written is read again.
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
