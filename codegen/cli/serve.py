"""``codegen serve``: completions for editors, the sandbox for programs, tools for agents."""

from __future__ import annotations

import logging
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from codegen.cli import Group
from codegen.cli.options import command, options
from codegen.config import Config, setting
from codegen.errors import ConfigError
from codegen.extras import require
from codegen.generation.backends import is_loopback, local_backend
from codegen.generation.endpoints import (
    NamedEndpoint,
    check_name,
    find_endpoint,
    hint,
    named_endpoints,
)
from codegen.terminal import echo

if TYPE_CHECKING:
    from codegen.server.engine import CompletionEngine
    from codegen.server.requests import ServerLimits
    from codegen.server.upstream import LlamaUpstream, Upstream

Fim = Literal[
    "auto", "infill", "suffix", "route", "none", "chat",
    "qwen", "starcoder", "santacoder", "deepseek", "codellama", "codestral",
]  # fmt: skip
_NEEDED = ("pygls", "lsprotocol", "starlette", "uvicorn", "prometheus_client", "pathspec")


@click.group(cls=Group)
def serve() -> None:
    """Serve completions to editors, the sandbox to other programs, or tools to agents."""


class EngineOptions(Config):
    """The options of all servers."""

    model: str = setting(
        "embedded",
        "Model: embedded, a directory, a hub id or a GGUF file; with --upstream, its name there.",
        shown="embedded, or the only one of the upstream",
    )
    upstream: str = setting(
        "",
        "Take the text from this server, which speaks OpenAI's protocol, not from a model here: "
        "its URL, or a name of `codegen models`.",
        metavar="URL",
    )
    api_key_env: str = setting(
        "", "Environment variable that holds the upstream's API key.", metavar="VAR"
    )
    fim: Fim = setting(
        "auto",
        "How the upstream gets the text after the cursor: a route of its own, a family's sentinels "
        "in the prompt, chat, or none; auto finds out what works.",
    )
    layout: Literal["auto", "psm", "spm", "prefix"] = setting(
        "auto", "Order of prefix and suffix in the prompt of infilling models."
    )
    precision: Literal["auto", "full"] = setting(
        "auto", "auto: quantized weights where they are faster; full: the model's own."
    )
    context: int = setting(1024, "Tokens of context around the cursor.", ge=64, le=1_000_000)
    cache_mib: int = setting(1024, "Memory for the caches of all documents.", ge=16)
    threads: int = setting(
        1,
        "CPU threads of the model.",
        ge=1,
        le=512,
        shown="1; one per core for a GGUF file",
    )
    exclude: tuple[str, ...] = setting(
        (),
        "Paths that get no completions, in addition to keys and other secrets. Repeatable.",
        metavar="PATTERN",
    )
    log_file: Path | None = setting(
        None, "Log latencies and warnings to this file, but no text of documents.", metavar="FILE"
    )
    verbose: bool = setting(False, "Log more.", flags=("-v", "--verbose"))

    def _check(self) -> None:
        fields = type(self).model_fields
        kind, others = "a transformers model", _OF_AN_UPSTREAM
        if self.upstream:
            kind, others = "--upstream", _OF_A_MODEL
        elif find_endpoint(self.model):
            raise ConfigError(
                f"{self.model!r} is the name of a server.", f"Give it as --upstream {self.model}."
            )
        elif local_backend(self.model) == "llamacpp":
            kind, others = "a GGUF file", _NOT_OF_LLAMA
        if self.upstream:
            self.endpoint()
        else:
            check_name(self.model)
        for name in others:
            if getattr(self, name) != fields[name].default:
                option = name.replace("_", "-")
                raise ConfigError(f"--{option} cannot be used with {kind}.", "Leave it out.")

    def endpoint(self) -> NamedEndpoint:
        """The upstream, with its address checked; its model may be empty."""
        named = find_endpoint(self.upstream)
        if named is None and not {":", "/"}.intersection(self.upstream):
            raise ConfigError(
                f"There is no endpoint {self.upstream!r}.",
                f"{hint(self.upstream, named_endpoints())} Or give the server's URL.",
            )
        named = named or NamedEndpoint(url=self.upstream)
        return named.model_copy(
            update={
                "model": named.model if self.model == "embedded" else self.model,
                "api_key_env": self.api_key_env or named.api_key_env,
            }
        )


_OF_A_MODEL = ("precision", "cache_mib", "threads")
_OF_AN_UPSTREAM = ("api_key_env", "fim")
_NOT_OF_LLAMA = ("precision", "cache_mib", "api_key_env")
_LLAMA_SLOTS = 4  # documents whose states are kept
_LLAMA_MARGIN = 512  # tokens: the length of text is estimated


class LspOptions(EngineOptions):
    """The options of ``codegen serve lsp``."""

    next_edits: str = setting(
        "",
        "Also propose next edits, in this format, which the model must have been trained on: "
        "blocks, window, rows, zeta, zeta2, sweep and others (docs/next_edits.md).",
        metavar="FORMAT",
        shown="off",
    )


@command(
    group=serve,
    has_json=False,
    short_help="Language server on standard input and output.",
    example="codegen serve lsp",
)
@options(LspOptions, "engine")
@click.option("--stdio", is_flag=True, help="No-op, accepted for compatibility.")
def lsp(engine: LspOptions, stdio: bool) -> None:  # noqa: ARG001
    """Serve one editor over standard input and output (LSP 3.18).

    Editors start this command themselves; see docs/editor.md. It opens no port.
    """
    require(*_NEEDED)
    _log_to(engine.log_file, engine.verbose)
    from codegen.server.lsp import serve_stdio

    if engine.upstream:
        engine.endpoint().endpoint(
            "any"
        ).api_key()  # a mistake is told before the editor is answered
    editor = None
    if engine.next_edits:
        from codegen.methods.edits.formats import find_format
        from codegen.server.next_edits import NextEditor

        editor = NextEditor(find_format(engine.next_edits))
    if sys.stdin.isatty():
        echo("Waiting for an editor, which starts this command itself. Ctrl-C ends it.", err=True)
    signal.signal(signal.SIGINT, _leave)  # threads wait for the editor, or load the model
    serve_stdio(lambda: _engine(engine, patient=True), engine.exclude, editor)


def _leave(*_: object) -> None:
    echo("Stopped.", err=True)
    logging.shutdown()
    os._exit(0)


class SocketOptions(Config):
    """Where a server listens, and to whom."""

    host: str = setting("127.0.0.1", "Address to bind to.")
    port: int = setting(8012, "Port; 0 chooses a free one.", ge=0, le=65535)
    uds: Path | None = setting(None, "Unix socket to use instead of a port.", metavar="PATH")
    token_file: Path | None = setting(
        None,
        "Read the access token from this file, or write it there if it is new.",
        metavar="FILE",
    )
    no_token: bool = setting(False, "Disable authentication (loopback only).")
    host_name: tuple[str, ...] = setting(
        (), "Accept this host name in addition to localhost. Repeatable.", metavar="NAME"
    )

    def _check(self) -> None:
        if self.no_token and self.token_file:
            raise ConfigError("Give --token-file or --no-token, not both.")

    def listen(self) -> tuple[str | None, Any]:
        """The token, None if authentication is disabled, and the listening socket."""
        from codegen.server.guard import check_address, listen, listen_unix, new_token, read_token
        from codegen.server.guard import write_token as write

        token = None
        if not self.no_token:
            is_kept = self.token_file is not None and self.token_file.exists()
            token = read_token(self.token_file) if self.token_file and is_kept else new_token()
        if self.uds is None:
            check_address(self.host, token)
        sock = listen_unix(self.uds) if self.uds else listen(self.host, self.port)
        if token and self.token_file and not self.token_file.exists():
            write(self.token_file, token)
        return token, sock

    def tell_token(self, token: str | None) -> None:
        """Says how clients authenticate."""
        if token and self.token_file:
            echo(f"The token is in {self.token_file}", err=True)
        else:
            echo(f"Token: {token}" if token else "Authentication is disabled.", err=True)


class ListenOptions(SocketOptions):
    """Where a server of API clients listens, and to whom."""

    origin: tuple[str, ...] = setting(
        (), "Allow requests from this web origin: http://localhost:8888. Repeatable.", metavar="URL"
    )

    def _check(self) -> None:
        SocketOptions._check(self)
        for origin in self.origin:
            _check_origin(origin)


class HttpOptions(ListenOptions, EngineOptions):
    """The options of ``codegen serve http``."""

    conversation: int = setting(
        8192,
        "Tokens of a conversation, its answer included, of a model in this process.",
        ge=64,
        le=1_000_000,
    )

    def _check(self) -> None:
        EngineOptions._check(self)
        ListenOptions._check(self)


@command(
    group=serve,
    has_json=False,
    short_help="HTTP server: the APIs of OpenAI, llama.cpp, Ollama and others.",
    example="codegen serve http --port 8012",
)
@options(HttpOptions, "given")
def http(given: HttpOptions) -> None:
    """Serve plug-ins and API clients over HTTP: completions, infilling and chat.

    Routes of OpenAI, Mistral, DeepSeek, llama.cpp, Ollama and Tabby; docs/editor.md lists them.

    Clients authenticate with the token that is printed at the start: Authorization: Bearer TOKEN.
    """
    require(*_NEEDED)
    _log_to(given.log_file, given.verbose)
    from codegen.server.guard import serve
    from codegen.server.http import make_app

    token, sock = given.listen()
    engine = _engine(given)
    app = make_app(
        engine,
        token,
        hosts=frozenset(name.lower() for name in given.host_name),
        origins=frozenset(given.origin),
        exclude=given.exclude,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server has its own
    try:
        where = f"unix:{given.uds}" if given.uds else f"http://{_address(sock)}"
        shown = f"{engine.model.name} of {given.upstream}" if given.upstream else given.model
        echo(f"Serving {shown} at {where}", err=True)
        if given.upstream:
            echo(engine.model.status.message, err=True)
        given.tell_token(token)
        serve(app, sock)
    finally:
        engine.stop()
        logging.getLogger("codegen.server").info("%s", engine.metrics.line())
        if given.uds:
            given.uds.unlink(missing_ok=True)
    echo("Stopped.", err=True)


class SandboxOptions(ListenOptions):
    """The options of ``codegen serve sandbox``."""

    port: int = setting(8080, "Port; 0 chooses a free one.", ge=0, le=65535)
    workers: int = setting(
        0, "Pairs of sandboxes; each runs three programs at a time.", ge=0, shown="one per core"
    )
    packages: tuple[str, ...] = setting(
        (),
        "Installed packages that programs may import, with commas: numpy,pandas.",
        metavar="NAMES",
        commas=True,
    )
    languages: tuple[str, ...] = setting(
        (),
        "Languages of programs beside Python, with commas: cpp,java,rust.",
        metavar="NAMES",
        commas=True,
    )
    max_cpu_s: float = setting(120.0, "Most CPU seconds of one program.", ge=0.05, le=86400)
    max_memory_mib: int = setting(4096, "Most memory of one program.", ge=128, le=1 << 20)
    queue: int = setting(8192, "Most programs that wait, of all clients.", ge=1)
    client_queue: int = setting(4096, "Most programs that wait, of one client.", ge=1)
    requests_per_s: float = setting(1000.0, "Mean request rate of one client.", gt=0)
    connections: int = setting(1024, "Most connections at a time.", ge=8, le=65536)
    cache_mib: int = setting(64, "Memory for verdicts that are given again.", ge=0)
    stop_s: int = setting(120, "Seconds that programs have to end once the server stops.", ge=1)
    log_file: Path | None = setting(
        None, "Log warnings to this file, but no text of programs.", metavar="FILE"
    )
    verbose: bool = setting(False, "Log more.", flags=("-v", "--verbose"))


@command(
    group=serve,
    has_json=False,
    short_help="HTTP server: runs and judges programs in the sandbox.",
    example="codegen serve sandbox --port 8080",
)
@options(SandboxOptions, "given")
def sandbox(given: SandboxOptions) -> None:
    """Run and judge programs for clients, by our own routes and those of SandboxFusion.

    Clients authenticate with the token that is printed at the start: Authorization: Bearer TOKEN,
    or http://any:TOKEN@host:port in place of the URL.
    """
    require("starlette", "uvicorn", "prometheus_client")
    _log_to(given.log_file, given.verbose)
    from codegen.evals.sandbox import Sandbox
    from codegen.server.guard import serve
    from codegen.server.sandbox import SandboxService, make_app, most_limits

    token, sock = given.listen()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server has its own
    try:
        with Sandbox(
            given.workers or None, packages=given.packages, languages=given.languages
        ) as opened:
            service = SandboxService(
                opened,
                most_limits(given.max_cpu_s, given.max_memory_mib),
                queue=given.queue,
                client_queue=given.client_queue,
                cache_bytes=given.cache_mib << 20,
            )
            app = make_app(
                service,
                token,
                hosts=frozenset(name.lower() for name in given.host_name),
                origins=frozenset(given.origin),
                requests_per_s=given.requests_per_s,
            )
            where = f"unix:{given.uds}" if given.uds else f"http://{_address(sock)}"
            echo(f"Serving the sandbox at {where}", err=True)
            given.tell_token(token)
            serve(
                app,
                sock,
                connections=given.connections,
                grace_s=given.stop_s,
                stopping=service.stop,
            )
            logging.getLogger("codegen.server").info("%s", service.metrics.line())
    finally:
        if given.uds:
            given.uds.unlink(missing_ok=True)
    echo("Stopped.", err=True)


class McpOptions(ListenOptions):
    """The options of ``codegen serve mcp``."""

    root: tuple[Path, ...] = setting(
        (),
        "Directory of data and runs that the agent may read, and write runs into. Repeatable.",
        metavar="DIR",
    )
    database: tuple[str, ...] = setting(
        (),
        "Database that the agent may ask; it is only read. A file, or a server's address as for "
        "`codegen sqlnet ask`. Repeatable.",
        metavar="[NAME=]DB",
    )
    model: str = setting(
        "",
        "Model that completes code and is evaluated: embedded, a directory, a hub id or a GGUF "
        "file; with --upstream, its name there.",
        shown="none",
    )
    upstream: str = setting(
        "", "Server that runs the model: its URL, or a name of `codegen models`.", metavar="URL"
    )
    api_key_env: str = setting(
        "", "Environment variable that holds the upstream's API key.", metavar="VAR"
    )
    next_edits: str = setting(
        "", "Also propose next edits, in this format; see `codegen serve lsp`.", metavar="FORMAT"
    )
    languages: tuple[str, ...] = setting(
        (), "Languages of programs beside Python, with commas: cpp,rust.", metavar="NAMES",
        commas=True,
    )  # fmt: skip
    max_samples: int = setting(500, "Most samples of one eval_run.", ge=1)
    max_seconds: float = setting(600, "Most seconds of one eval_run or eval_score.", gt=0)
    rows: int = setting(50, "Most rows of an answer of a database.", ge=1, le=1000)
    http: bool = setting(False, "Serve streamable HTTP at --port, not standard input and output.")

    def _check(self) -> None:
        super()._check()
        of_http = ("host", "port", "uds", "token_file", "no_token", "origin", "host_name")
        if given := [name for name in of_http if name in self.model_fields_set and not self.http]:
            raise ConfigError(f"--{given[0].replace('_', '-')} requires --http.", "Add --http.")
        if self.next_edits and not (self.model or self.upstream):
            raise ConfigError("--next-edits requires a model.", "Add --model or --upstream.")

    def databases(self) -> dict[str, str]:
        """Name -> file or address; the name of a file is its stem."""
        found: dict[str, str] = {}
        for given in self.database:
            name, equals, where = given.partition("=")
            if not equals or not name.isidentifier():
                name, where = Path(given.partition("?")[0]).stem, given
            if name in found:
                raise ConfigError(f"Two databases are called {name!r}.", "Give names: NAME=FILE.")
            found[name] = where if "://" in where else str(Path(where).resolve())
        return found

    def engine(self) -> EngineOptions | None:
        """The model that completes code; None if there is none."""
        if not (self.model or self.upstream):
            return None
        return EngineOptions(
            model=self.model or "embedded", upstream=self.upstream, api_key_env=self.api_key_env
        )

    def of_evaluation(self) -> tuple[str, ...]:
        """The words that name the model for ``codegen eval run``; none if there is none."""
        if not self.upstream:
            return ("--model", self.model) if self.model else ()
        key = ("--api-key-env", self.api_key_env) if self.api_key_env else ()
        if find_endpoint(self.upstream) and not self.model:
            return ("--model", self.upstream, *key)
        endpoint = EngineOptions(upstream=self.upstream).endpoint()
        return ("--model", self.model or endpoint.model or "", "--endpoint", endpoint.url, *key)


@command(
    group=serve,
    has_json=False,
    short_help="Tools for agents (MCP): data, runs, sandbox, databases.",
    example="codegen serve mcp --root runs --database shop.db",
)
@options(McpOptions, "given")
def mcp(given: McpOptions) -> None:
    """Give an agent tools over the Model Context Protocol, on standard input and output.

    It can inspect data, list, read and score runs, run and judge programs in the sandbox, and ask
    databases; with a model also evaluate it and complete code. It reads only what you name here.
    docs/mcp.md has configurations for editors.
    """
    require("mcp", "prometheus_client")
    _log_to(None, False)
    from codegen.server.mcp import Grants, Tools, make_app, make_server

    for root in given.root:
        if not root.is_dir():
            raise ConfigError(f"There is no directory {root}.", "Make it, or name another.")
    grants = Grants(
        tuple(root.resolve() for root in given.root),
        given.databases(),
        given.of_evaluation(),
        given.languages,
        given.max_samples,
        given.max_seconds,
        given.rows,
    )
    for name, where in grants.databases.items():
        if "://" not in where and not Path(where).is_file():
            raise ConfigError(f"There is no file {where} (database {name}).", "Check the path.")
    engine = editor = None
    if wanted := given.engine():
        require(*_NEEDED)
        engine = _engine(wanted, patient=True)
        if given.next_edits:
            from codegen.methods.edits.formats import find_format
            from codegen.server.next_edits import NextEditor

            editor = NextEditor(find_format(given.next_edits))
    tools = Tools(grants, engine, editor)
    server = make_server(tools)
    try:
        if not given.http:
            server.run("stdio")
            return
        from codegen.server.guard import Guard
        from codegen.server.guard import serve as serve_http

        token, sock = given.listen()
        app = Guard(
            make_app(server),
            token,
            frozenset(name.lower() for name in given.host_name),
            frozenset(given.origin),
        )
        where = f"unix:{given.uds}" if given.uds else f"http://{_address(sock)}/mcp"
        echo(f"Serving tools at {where}", err=True)
        given.tell_token(token)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        serve_http(app, sock, during=server.session_manager.run())
        echo("Stopped.", err=True)
    finally:
        tools.close()
        if engine:
            engine.stop()
        if given.uds:
            given.uds.unlink(missing_ok=True)


def _engine(given: EngineOptions, patient: bool = False) -> CompletionEngine:
    """The engine; with ``patient`` also for an upstream that does not answer yet."""
    from codegen.server.engine import CompletionEngine
    from codegen.server.requests import ServerLimits

    limits = ServerLimits(context_tokens=given.context, cache_bytes=given.cache_mib << 20)
    if isinstance(given, HttpOptions):
        limits = replace(limits, conversation_tokens=given.conversation)
    if given.upstream:
        return CompletionEngine(_upstream(given, limits, patient), limits)
    from codegen.models.gguf import find_gguf

    if gguf := find_gguf(given.model):
        return CompletionEngine(_llama(given, gguf, limits), limits)
    import torch

    from codegen.models import load
    from codegen.server.model import CompletionModel

    torch.set_num_threads(given.threads)
    model = CompletionModel(
        load(given.model), layout=given.layout, limits=limits, precision=given.precision
    )
    return CompletionEngine(model, limits)


def _upstream(given: EngineOptions, limits: ServerLimits, patient: bool) -> Upstream:
    from codegen.server.upstream import Unreachable, Upstream

    named = given.endpoint()
    endpoint = named.endpoint("any")
    upstream = Upstream(
        endpoint.base(),
        model=named.model,
        key=endpoint.api_key(),
        fim=given.fim,
        layout=given.layout,
        limits=limits,
        remote=not is_loopback(endpoint.url),
    )
    try:
        upstream.check()
    except Unreachable as error:
        if not patient:
            raise
        logging.getLogger("codegen.server").warning("%s", error)
        upstream.report("Warning", str(error))
    return upstream


def _llama(given: EngineOptions, gguf: Path, limits: ServerLimits) -> LlamaUpstream:
    from codegen.models.llamacpp import LlamaOptions, LlamaServer
    from codegen.server.upstream import LlamaUpstream

    options = LlamaOptions(
        context=given.context + _LLAMA_MARGIN,
        threads=given.threads if "threads" in given.model_fields_set else 0,
        slots=_LLAMA_SLOTS,
    )
    server = LlamaServer(gguf, options)
    upstream = LlamaUpstream(server, fim=given.fim, layout=given.layout, limits=limits)
    upstream.check()
    return upstream


def _log_to(path: Path | None, verbose: bool) -> None:
    """Logs of this package only: those of libraries may quote prompts."""
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
            f"{origin!r} is not an origin.", "Give scheme, host and port: http://localhost:8888"
        )


def _address(sock: Any) -> str:
    host, port, *_ = sock.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
