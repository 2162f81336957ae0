"""``codegen serve``: completions for editors, the sandbox, and tools for agents.

``codegen view`` serves pages about runs, which ``codegen runs`` lists.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click

from codegen.cli import CommandGroup
from codegen.cli.options import command, flag, options, print_result
from codegen.core.config import Config, keyed, note, setting
from codegen.core.errors import ConfigError
from codegen.core.optional_deps import require
from codegen.core.terminal import columns, echo, one_line
from codegen.generation import editor_backend, endpoints
from codegen.server import run_index

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits
    from codegen.server.completion.upstream import Upstream
    from codegen.server.mcp import Tools
    from codegen.server.next_edits.proposals import NextEditor

Fim = Literal[
    "auto", "infill", "suffix", "route", "none", "chat",
    "qwen", "starcoder", "santacoder", "deepseek", "codellama", "codestral",
]  # fmt: skip
_NEEDED = ("pygls", "lsprotocol", "starlette", "uvicorn", "prometheus_client", "pathspec")


@click.group(cls=CommandGroup)
def serve() -> None:
    """Serve completions to editors, the sandbox to other programs, or tools to agents."""


serve_command = partial(command, group=serve, has_json=False)


class LogOptions(Config):
    """Options of a server's log."""

    log_file: Path | None = setting(
        None,
        "Log latencies and warnings to this file, but no contents of documents or programs.",
        metavar="FILE",
    )

    def start_log(self) -> None:
        """Sets up this package's log. Omits other libraries' logs, which may contain prompts."""
        logger = logging.getLogger("codegen")
        logger.setLevel(logging.INFO if self.log_file else logging.WARNING)
        logger.propagate = False
        logging.getLogger("pygls").setLevel(logging.CRITICAL)
        try:
            file = self.log_file
            handler = logging.FileHandler(file) if file else logging.StreamHandler(sys.stderr)
        except OSError as error:
            raise ConfigError(
                f"Cannot write the log {self.log_file}: {error.strerror}.",
                "Choose another --log-file.",
            ) from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)


class ModelOptions(Config):
    """Model that completes code, on this machine or on another server."""

    model: str = setting(
        "embedded",
        "Model: embedded, coder, a directory, a hub id or a GGUF file; with --upstream, the "
        "server's name for it.",
        shown="embedded, or the upstream's only model",
    )
    upstream: str = setting(
        "",
        "OpenAI-compatible server that runs the model: its URL, or a name from `codegen models`.",
        metavar="URL",
    )
    api_key_env: str = setting(
        "", "Environment variable with the upstream's API key.", metavar="VAR"
    )
    next_edits: str = setting(
        "",
        "Also propose next edits in this format, which the model must have been trained on: "
        "auto (by the model's card or tokens), blocks, window, hunks, zeta, zeta2, sweep and "
        "others (docs/next_edits.md), or off.",
        metavar="FORMAT",
        shown="auto with --next-edit-model or the embedded model, else off",
    )


class CompletionEngineOptions(LogOptions, ModelOptions):
    """Options of servers that complete code."""

    next_edit_model: str = setting(
        "",
        "Separate model for next edits: a bundled adapter, a directory or a hub id; auto: coder's "
        "adapter if its weights are on this machine, else the embedded model's.",
        metavar="MODEL",
        shown="auto with the embedded model, else --model itself",
    )
    min_probability: float | None = keyed(
        None, "Minimum probability of a next edit that is shown.", ge=0, le=1, shown="the model's"
    )
    context: int = setting(1024, "Tokens of context around the cursor.", ge=64, le=1_000_000)
    exclude: tuple[str, ...] = keyed(
        (), "Path patterns of files without completions, in addition to keys and other secrets."
    )
    fim: Fim = keyed(
        "auto",
        "How to send the text after the cursor to the upstream: a separate route or field (infill, "
        "suffix, route), a model family's sentinels (qwen, starcoder, ...), chat, or none; auto "
        "probes the server.",
    )
    precision: Literal["auto", "full"] = keyed(
        "auto", "Precision of the weights; auto: quantized where faster, full: the model's own."
    )
    threads: int = keyed(
        1, "CPU threads of the model.", ge=1, le=512, shown="1; one per core for a GGUF file"
    )

    def _check(self) -> None:
        super()._check()
        if self.upstream:
            self.endpoint()
            kind, unused = "--upstream", ("precision", "threads")
        elif endpoints.find_endpoint(self.model):
            raise ConfigError(
                f"{self.model!r} is the name of a server.", f"Pass --upstream {self.model}."
            )
        else:
            endpoints.check_name(self.model)
            if self.api_key_env:
                raise ConfigError("--api-key-env requires --upstream.", "Add --upstream.")
            is_gguf = editor_backend(self.model) == "llamacpp"
            kind = "a GGUF file" if is_gguf else "a transformers model"
            unused = ("precision",) if is_gguf else ("fim",)
        for name in unused:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ConfigError(f"-o {name} cannot be used with {kind}.", f"Omit -o {name}.")

    def endpoint(self) -> endpoints.NamedEndpoint:
        """Returns the upstream with a valid URL; its model may be empty."""
        named = endpoints.find_endpoint(self.upstream)
        if named is None and not {":", "/"}.intersection(self.upstream):
            raise ConfigError(
                f"Unknown endpoint {self.upstream!r}.",
                endpoints.hint(self.upstream, endpoints.named_endpoints())
                + " Or pass the server's URL.",
            )
        named = named or endpoints.NamedEndpoint(url=self.upstream)
        return named.model_copy(
            update={
                "model": named.model if self.model == "embedded" else self.model,
                "api_key_env": self.api_key_env or named.api_key_env,
            }
        )


class LspOptions(CompletionEngineOptions):
    """Options of ``codegen serve lsp``."""

    edit_log: Path | None = keyed(
        None,
        "Append each proposed next edit to this file, with the text around it and whether you "
        "accepted and kept it, as training data for `codegen data edits --from-editor`.",
        shown="not written",
    )


@serve_command(
    short_help="Language server on standard input and output.", example="codegen serve lsp"
)
@options(LspOptions, "engine")
@click.option("--stdio", is_flag=True, hidden=True)  # VS Code's client adds it
def lsp(engine: LspOptions, stdio: bool) -> None:  # noqa: ARG001
    """Serve one editor over standard input and output (LSP 3.18).

    Editors start this command; see docs/editor.md. It opens no port.
    """
    require(*_NEEDED)
    engine.start_log()
    from codegen.server.editor.lsp import serve_stdio

    if engine.upstream:
        engine.endpoint().endpoint("any").api_key()  # fails early if the key is missing
    editor = _next_editor(engine, engine.edit_log)
    if editor is None and engine.edit_log:
        raise ConfigError("-o edit_log requires next edits.", "Add --next-edits FORMAT.")
    if sys.stdin.isatty():
        echo("Waiting for an editor. Editors start this command; Ctrl-C stops it.", err=True)

    def leave(*_: object) -> None:
        echo("Stopped.", err=True)
        logging.shutdown()
        os._exit(0)  # threads may be waiting for the editor, or loading the model

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    serve_stdio(lambda: _engine(engine, retry=True), engine.exclude, editor)


class SocketOptions(Config):
    """Address and authentication of a server."""

    host: str = setting("127.0.0.1", "Address to bind to.")
    port: int = setting(8012, "Port; 0 chooses a free one.", ge=0, le=65535)
    token_file: Path | None = setting(
        None,
        "Access token file; if missing, it is created with a new token.",
        metavar="FILE",
    )
    no_token: bool = setting(False, "Disable authentication (loopback only).")
    host_name: tuple[str, ...] = keyed((), "Host names to accept in addition to localhost.")

    def _check(self) -> None:
        super()._check()
        if self.no_token and self.token_file:
            raise ConfigError("Pass --token-file or --no-token, not both.")

    @property
    def hosts(self) -> frozenset[str]:
        """The additional host names, in lower case."""
        return frozenset(name.lower() for name in self.host_name)

    @contextmanager
    def listening(self) -> Iterator[tuple[str | None, socket]]:
        """Yields the token (None if authentication is disabled) and the listening socket."""
        from codegen.server.http import security

        token = None
        kept = self.token_file if self.token_file and self.token_file.exists() else None
        if not self.no_token:
            token = security.read_token(kept) if kept else security.new_token()
        security.check_address(self.host, token)
        with security.listen(self.host, self.port) as sock:
            if token and self.token_file and not kept:
                security.write_token(self.token_file, token)
            yield token, sock
        echo("Stopped.", err=True)

    def address(self, sock: socket) -> str:
        """Returns the server's URL."""
        host, port, *_ = sock.getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def announce(self, token: str | None, *lines: str) -> None:
        """Prints the lines, and how clients authenticate."""
        where = f"The token is in {self.token_file}" if self.token_file else f"Token: {token}"
        for line in (*lines, where if token else "Authentication is disabled."):
            echo(line, err=True)


class ListenOptions(SocketOptions):
    """Address, authentication and allowed origins of a server for API clients."""

    origin: tuple[str, ...] = keyed(
        (), "Web origins whose pages may send requests, such as http://localhost:8888."
    )

    def _check(self) -> None:
        super()._check()
        for origin in self.origin:
            scheme, host, path, query, _ = urlsplit(origin)
            if scheme not in ("http", "https") or not host or path or query:
                raise ConfigError(
                    f"{origin!r} is not an origin.",
                    "Write scheme, host and port: http://localhost:8888",
                )

    @property
    def access(self) -> dict[str, frozenset[str]]:
        """The allowed host names and origins, as arguments of the applications."""
        return {"hosts": self.hosts, "origins": frozenset(self.origin)}


class HttpOptions(ListenOptions, CompletionEngineOptions):
    """Options of ``codegen serve http``."""


@serve_command(
    short_help="HTTP server: the APIs of OpenAI, llama.cpp, Ollama and others.",
    example="codegen serve http --model embedded",
)
@options(HttpOptions, "given")
def http(given: HttpOptions) -> None:
    """Serve editor plugins and API clients over HTTP: completions, infilling and chat.

    Has routes of OpenAI, Mistral, DeepSeek, llama.cpp, Ollama and Tabby; docs/editor.md lists them.

    Clients authenticate with the token printed at startup: Authorization: Bearer TOKEN.
    """
    require(*_NEEDED)
    given.start_log()
    from codegen.server.http import make_app
    from codegen.server.http.security import make_server, serve

    with given.listening() as (token, sock), _running(_engine(given)) as engine:
        next_edits = _next_editor(given)
        app = make_app(engine, token, exclude=given.exclude, next_edits=next_edits, **given.access)
        shown = f"{engine.source.name} of {given.upstream}" if given.upstream else given.model
        status = [engine.source.status.message] if given.upstream else []
        given.announce(token, f"Serving {shown} at {given.address(sock)}", *status)
        serve(make_server(app), sock)


class SandboxServerOptions(LogOptions, ListenOptions):
    """Options of ``codegen serve sandbox``."""

    port: int = setting(
        8080, "Port; 0 chooses a free one. The default is SandboxFusion's.", ge=0, le=65535
    )
    workers: int = setting(
        0, "Sandbox pairs; each pair runs three programs at a time.", ge=0, shown="one per core"
    )
    packages: tuple[str, ...] = setting(
        (),
        "Installed packages that programs may import, such as numpy,pandas.",
        metavar="NAMES",
        commas=True,
    )
    languages: tuple[str, ...] = setting(
        (),
        "Programming languages in addition to Python, such as cpp,java,rust.",
        metavar="NAMES",
        commas=True,
    )
    max_cpu_s: float = keyed(120.0, "Maximum CPU seconds per program.", ge=0.05, le=86400)
    max_memory_mib: int = keyed(4096, "Maximum memory per program in MiB.", ge=128, le=1 << 20)
    requests_per_s: float = keyed(1000.0, "Requests per second allowed per client.", gt=0)


@serve_command(
    short_help="HTTP server: runs and tests programs in the sandbox.",
    example="codegen serve sandbox --workers 4",
)
@options(SandboxServerOptions, "given")
def sandbox(given: SandboxServerOptions) -> None:
    """Run and test programs for clients, with our own routes and SandboxFusion's /run_code.

    Clients authenticate with the token printed at startup: Authorization: Bearer TOKEN, or a URL
    with the token: http://any:TOKEN@host:port.
    """
    require("starlette", "uvicorn", "prometheus_client")
    given.start_log()
    from codegen.sandbox import Sandbox
    from codegen.server.http.security import make_server, serve
    from codegen.server.sandbox import SandboxService, make_app, most_limits

    with (
        given.listening() as (token, sock),
        Sandbox(
            given.workers or None, packages=given.packages, languages=given.languages
        ) as opened,
    ):
        service = SandboxService(opened, most_limits(given.max_cpu_s, given.max_memory_mib))
        app = make_app(service, token, requests_per_s=given.requests_per_s, **given.access)
        given.announce(token, f"Serving the sandbox at {given.address(sock)}")
        server = make_server(app, connections=1024, grace_s=120, stopping=service.stop)
        serve(server, sock)
        logging.getLogger("codegen.server").info("%s", service.metrics.line())


class McpOptions(ListenOptions, ModelOptions):
    """Options of ``codegen serve mcp``."""

    port: int = setting(8013, "Port; 0 chooses a free one.", ge=0, le=65535)
    root: tuple[Path, ...] = setting(
        (),
        "Directory where the agent may read data and runs, and write runs. Repeatable.",
        metavar="DIR",
    )
    database: tuple[str, ...] = setting(
        (),
        "Database that the agent may query, read-only: a file, or a server's URL as for `codegen "
        "sqlnet ask`. Repeatable.",
        metavar="[NAME=]DB",
    )
    model: str = setting(
        "",
        "Model for completions and evaluations: embedded, a directory, a hub id, a GGUF file or, "
        "with --upstream, the server's name for the model.",
        shown="none",
    )
    languages: tuple[str, ...] = keyed((), "Programming languages in addition to Python.")
    http: bool = setting(
        False, "Serve streamable HTTP at --port instead of standard input and output."
    )

    def _check(self) -> None:
        super()._check()
        given = [name for name in ListenOptions.model_fields if name in self.model_fields_set]
        if given and not self.http:
            raise ConfigError(f"{flag(given[0])} requires --http.", "Add --http.")
        for root in self.root:
            if not root.is_dir():
                raise ConfigError(f"{root} is not a directory.", "Create it, or choose another.")

    def databases(self) -> dict[str, str]:
        """Returns name -> file or URL; the default name of a file is its stem."""
        found: dict[str, str] = {}
        for given in self.database:
            name, equals, where = given.partition("=")
            if not equals or not name.isidentifier():
                name, where = Path(given.partition("?")[0]).stem, given
            if name in found:
                raise ConfigError(f"Two databases are called {name!r}.", "Pass NAME=FILE.")
            if "://" not in where and not Path(where).is_file():
                raise ConfigError(f"{where} (database {name}) is not a file.", "Check the path.")
            found[name] = where if "://" in where else str(Path(where).resolve())
        return found

    def engine(self) -> CompletionEngineOptions | None:
        """Returns the options of the completion engine; None without a model."""
        if not (self.model or self.upstream):
            return None
        return CompletionEngineOptions(
            model=self.model or "embedded",
            upstream=self.upstream,
            api_key_env=self.api_key_env,
        )

    def of_evaluation(self) -> tuple[str, ...]:
        """Returns the model's options for ``codegen eval run``; empty without a model."""
        if not self.upstream:
            return ("--model", self.model) if self.model else ()
        key = ("--api-key-env", self.api_key_env) if self.api_key_env else ()
        if endpoints.find_endpoint(self.upstream) and not self.model:
            return ("--model", self.upstream, *key)
        endpoint = CompletionEngineOptions(upstream=self.upstream).endpoint()
        return ("--model", self.model or endpoint.model or "", "--endpoint", endpoint.url, *key)


@serve_command(
    short_help="Tools for agents (MCP): data, runs, sandbox, databases.",
    example="codegen serve mcp --root runs --database shop.db",
)
@options(McpOptions, "given")
def mcp(given: McpOptions) -> None:
    """Serve tools to an agent over the Model Context Protocol, on standard input and output.

    The agent can inspect data, list, read and score runs, run and test programs in the sandbox, and
    query databases. With a model, it can also complete code and evaluate the model. It can access
    only the directories and databases that you pass. docs/mcp.md has configurations for editors.
    """
    require("mcp", "prometheus_client")
    LogOptions().start_log()
    from codegen.server.mcp import AgentPermissions, Tools, make_app, make_server

    grants = AgentPermissions(
        tuple(root.resolve() for root in given.root),
        given.databases(),
        given.of_evaluation(),
        given.languages,
    )
    engine = None
    if wanted := given.engine():
        require(*_NEEDED)
        engine = _engine(wanted, retry=True)
    with _running(engine) if engine else nullcontext(), closing(Tools(grants, engine)) as tools:
        server = make_server(tools)
        if not given.http:
            import asyncio

            asyncio.run(_serve_stdio(server, tools))
            return
        from codegen.server.http import security

        with given.listening() as (token, sock):
            origins = frozenset(given.origin)
            app = security.Guard(make_app(server), token, given.hosts, origins)
            given.announce(token, f"Serving tools at {given.address(sock)}/mcp")
            security.serve(security.make_server(app), sock, server.session_manager.run())


async def _serve_stdio(server: MCPServer, tools: Tools) -> None:
    """Serves until the client disconnects, or Ctrl-C or SIGTERM arrives."""
    import asyncio

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    serving = asyncio.ensure_future(server.run_stdio_async())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        return serving.result()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:  # a cancelled task kills its tool's child process
        task.cancel()
    await asyncio.wait(tasks, timeout=5)
    tools.close()
    echo("Stopped.", err=True)
    os._exit(0)  # the thread that reads standard input cannot be interrupted


@command(example="codegen runs runs data")
@click.argument("places", nargs=-1, type=click.Path(), metavar="[DIR]...")
def runs(places: tuple[str, ...]) -> dict[str, Any]:
    """List the runs in and below directories, by default the current one.

    Lists data, samples and scores, training runs, and searches. A run is running (a process has
    locked it), done, or stopped. To resume a stopped run, run the command that started it again.
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

    Filter, search and compare samples with their verdicts, step through edits, or follow a
    training run. Open the printed URL, which contains the token. The directories are only read, and
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


@contextmanager
def _running(engine: CompletionEngine) -> Iterator[CompletionEngine]:
    """Stops an engine at the end, and logs its metrics."""
    try:
        yield engine
    finally:
        engine.stop()
        logging.getLogger("codegen.server").info("%s", engine.metrics.line())


def _next_editor(given: CompletionEngineOptions, edit_log: Path | None = None) -> NextEditor | None:
    """Returns the next editor for the chosen model and format; None for "off".

    Raises:
        ConfigError: if the model's tokenizer lacks the format's tokens, or the context is too
            short.
    """
    from codegen.edits.formats import AUTO, find_format, format_for
    from codegen.models import card_of, load_tokenizer
    from codegen.models.pretrained import NEXT_EDIT, NEXT_EDITS, choose_next_edit_adapter
    from codegen.server.next_edits.history import Outcomes
    from codegen.server.next_edits.proposals import NextEditor, least_tokens

    model, reason = given.next_edit_model, "as requested"
    if not model and given.model == "embedded" and not given.upstream:
        if given.next_edits in ("", AUTO):
            model = AUTO
        elif given.next_edits == "blocks":
            model, reason = NEXT_EDIT, "its format is blocks"
    name = given.next_edits or (AUTO if model else "off")
    if name == "off":
        return None
    if model == AUTO:
        model, reason = choose_next_edit_adapter()
    source, is_remote = model or given.model, bool(given.upstream and not model)
    if model in NEXT_EDITS and name == AUTO:  # without loading the tokenizer
        form = find_format(card_of(model).style.removeprefix("edit-"))
    elif not is_remote and editor_backend(source) == "transformers":
        form = format_for(name, load_tokenizer(source).get_vocab(), card_of(source).style)
    elif name == AUTO:
        raise ConfigError(
            "--next-edits auto requires the tokenizer of a transformers model on this machine.",
            "Set --next-edits to the format that the model was trained on.",
        )
    else:
        form = find_format(name)
    if least_tokens(form) > given.context:
        raise ConfigError(
            f"The prompts of {form.name} need more than {given.context} tokens.",
            "Add --context 4096.",
        )
    load = None
    if model:
        endpoints.check_name(model)
        wanted = given.model_copy(update={"model": model, "upstream": "", "next_edit_model": model})
        load = partial(_engine, wanted)
        line = f"Next edits by {model}, format {form.name}: {reason}."
        say = logging.getLogger("codegen.server").info if given.log_file else note
        say(line)
    return NextEditor(form, load, Outcomes(edit_log), given.min_probability)


def _engine(given: CompletionEngineOptions, retry: bool = False) -> CompletionEngine:
    """Opens the model; with ``retry`` an upstream that is down is retried later."""
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits

    limits = ServerLimits(context_tokens=given.context)
    if given.upstream:
        return CompletionEngine(_upstream(given, limits, retry), limits)
    from codegen.models.gguf import gguf_of

    is_gguf = editor_backend(given.model) == "llamacpp"
    if is_gguf and (file := gguf_of(given.model)):
        from codegen.server.completion.upstream import LlamaUpstream

        threads = given.threads if "threads" in given.model_fields_set else 0
        source = LlamaUpstream.open(file, limits, fim=given.fim, threads=threads)
        return CompletionEngine(source, limits)
    import torch

    from codegen.server.completion.model_worker import ServedModel

    torch.set_num_threads(given.threads)
    model = ServedModel.open(given.model, limits=limits, precision=given.precision)
    return CompletionEngine(model, limits)


def _upstream(given: CompletionEngineOptions, limits: ServerLimits, retry: bool) -> Upstream:
    from codegen.core.http_client import is_loopback
    from codegen.server.completion.upstream import Unreachable, Upstream

    named = given.endpoint()
    endpoint = named.endpoint("any")
    upstream = Upstream(
        endpoint.base(),
        model=named.model,
        key=endpoint.api_key(),
        fim=given.fim,
        limits=limits,
        remote=not is_loopback(endpoint.url),
    )
    try:
        upstream.check()
    except Unreachable as error:
        if not retry:
            raise
        logging.getLogger("codegen.server").warning("%s", error)
        upstream.report("Warning", str(error))
    return upstream
