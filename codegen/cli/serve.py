"""``codegen serve``: completions for editors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import LazyGroup, example
from codegen.errors import ConfigError

if TYPE_CHECKING:
    from codegen.server.engine import CompletionEngine

_NEEDED = ("pygls", "lsprotocol", "starlette", "uvicorn", "prometheus_client")


@click.group(
    cls=LazyGroup,
    lazy={
        "lsp": ("codegen.cli.serve:lsp", "Language server on standard input and output."),
        "http": ("codegen.cli.serve:http", "OpenAI's, llama.cpp's and Tabby's APIs."),
    },
)
def serve() -> None:
    """Serve completions to editors, from a model on this machine."""


def _engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--model", default="embedded", show_default=True,
                     help="Name, directory or hub id."),
        click.option("--layout", type=click.Choice(["auto", "psm", "spm", "prefix"]),
                     default="auto", show_default=True,
                     help="Order of prefix and suffix, for models that fill in the middle."),
        click.option("--precision", type=click.Choice(["auto", "full"]), default="auto",
                     show_default=True,
                     help="auto: weights of few bits where that is faster; full: the model's."),
        click.option("--context", "context_tokens", type=click.IntRange(64, 1_000_000),
                     default=1024, show_default=True, help="Tokens around the cursor."),
        click.option("--cache-mib", type=click.IntRange(16), default=1024, show_default=True,
                     help="Memory for the caches of all documents."),
        click.option("--threads", type=click.IntRange(1, 512), default=1, show_default=True,
                     help="CPU threads of the model."),
        click.option("--exclude", multiple=True, metavar="PATTERN",
                     help="Paths that get no completions, beside keys and other secrets."),
        click.option("--log-file", type=click.Path(dir_okay=False, path_type=Path),
                     help="Write latencies and warnings there; never any text of a document."),
        click.option("-v", "--verbose", is_flag=True, help="Log more."),
    ]  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog=example("codegen serve lsp"))
@_engine_options
@click.option("--stdio", is_flag=True, help="No-op, accepted for compatibility.")
def lsp(stdio: bool, **options: Any) -> None:  # noqa: ARG001
    """Serve one editor over standard input and output (LSP 3.18).

    Editors start this command themselves; see docs/editor.md. It opens no port.
    """
    _need_extra()
    _log_to(options.pop("log_file"), options.pop("verbose"))
    exclude = options.pop("exclude")
    from codegen.server.lsp import serve_stdio

    serve_stdio(lambda: _engine(**options), exclude)


@click.command(epilog=example("codegen serve http --port 8012"))
@_engine_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind to.")
@click.option("--port", type=click.IntRange(0, 65535), default=8012, show_default=True,
              help="0 takes a free one.")  # fmt: skip
@click.option("--uds", type=click.Path(path_type=Path), help="A Unix socket instead of a port.")
@click.option("--token-file", type=click.Path(dir_okay=False, path_type=Path),
              help="Write this run's token there, or read it if there is one.")  # fmt: skip
@click.option("--no-token", is_flag=True, help="Disable authentication (loopback only).")
@click.option("--origin", "origins", multiple=True, metavar="URL",
              help="A web page's origin that may ask: http://localhost:8888")  # fmt: skip
@click.option("--host-name", "hosts", multiple=True, metavar="NAME",
              help="A name of this server beside localhost.")  # fmt: skip
def http(
    host: str,
    port: int,
    uds: Path | None,
    token_file: Path | None,
    no_token: bool,
    origins: tuple[str, ...],
    hosts: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve plug-ins over HTTP: /v1/completions, /infill, Tabby's API.

    Clients show the token that is printed at the start: Authorization: Bearer TOKEN.
    """
    _need_extra()
    _log_to(options.pop("log_file"), options.pop("verbose"))
    exclude = options.pop("exclude")
    from codegen.server.guard import (
        check_address,
        listen,
        listen_unix,
        new_token,
        read_token,
        serve,
        write_token,
    )
    from codegen.server.http import make_app

    if no_token and token_file:
        raise click.UsageError("Give --token-file or --no-token, not both.")
    for origin in origins:
        _check_origin(origin)
    token = None
    if not no_token:
        kept = token_file is not None and token_file.exists()
        token = read_token(token_file) if token_file and kept else new_token()
    if uds is None:
        check_address(host, token)
    sock = listen_unix(uds) if uds else listen(host, port)
    if token and token_file and not token_file.exists():
        write_token(token_file, token)
    engine = _engine(**options)
    app = make_app(
        engine,
        token,
        hosts=frozenset(name.lower() for name in hosts),
        origins=frozenset(origins),
        exclude=exclude,
    )
    where = f"unix:{uds}" if uds else f"http://{_address(sock)}"
    click.echo(f"Serving {options['model']} at {where}", err=True)
    if token and token_file:
        click.echo(f"The token is in {token_file}", err=True)
    else:
        click.echo(f"Token: {token}" if token else "Authentication is disabled.", err=True)
    try:
        serve(app, sock)
    finally:
        engine.stop()
        logging.getLogger("codegen.server").info("%s", engine.metrics.line())
        if uds:
            uds.unlink(missing_ok=True)


def _need_extra() -> None:
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ConfigError(
            f"The server requires {missing[0]}.", "Install it: pip install 'codegen-toolkit[serve]'"
        )


def _engine(
    model: str, layout: Any, precision: Any, context_tokens: int, cache_mib: int, threads: int
) -> CompletionEngine:
    import torch

    from codegen.models import load
    from codegen.server.engine import CompletionEngine
    from codegen.server.model import CompletionModel
    from codegen.server.requests import ServerLimits

    torch.set_num_threads(threads)
    limits = ServerLimits(context_tokens=context_tokens, cache_bytes=cache_mib << 20)
    loaded = load(model)
    completion_model = CompletionModel(loaded, layout=layout, limits=limits, precision=precision)
    return CompletionEngine(completion_model, limits)


def _log_to(path: Path | None, verbose: bool) -> None:
    """Logs of this package only: those of the libraries may quote what was asked."""
    logger = logging.getLogger("codegen")
    logger.setLevel(logging.DEBUG if verbose else logging.INFO if path else logging.WARNING)
    logger.propagate = False
    logging.getLogger("pygls").setLevel(logging.CRITICAL)
    try:
        handler = (
            logging.FileHandler(path, delay=False) if path else logging.StreamHandler(sys.stderr)
        )
    except OSError as error:
        raise ConfigError(f"Cannot write the log {path}: {error.strerror}.") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)


def _check_origin(origin: str) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query:
        raise ConfigError(
            f"{origin!r} is no origin.", "Give scheme, host and port: http://localhost:8888"
        )


def _address(sock: Any) -> str:
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
