"""Starts the language server on this process's standard input and output."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO

from pygls.io_ import StdoutWriter
from pygls.lsp.server import LanguageServer

from codegen import __version__
from codegen.errors import CodegenError
from codegen.server.engine import CompletionEngine
from codegen.server.lsp.features import add_features
from codegen.server.lsp.framing import Malformed, read_message
from codegen.server.lsp.protocol import Protocol
from codegen.server.lsp.session import Session
from codegen.server.settings import Limits

log = logging.getLogger("codegen.server.lsp")

_LOG_EVERY_S = 60.0


def serve_stdio(load: Callable[[], CompletionEngine], exclude: tuple[str, ...] = ()) -> None:
    """Serves one editor until it says goodbye or closes the stream.

    Args:
        load: makes the engine; the editor is answered while the model loads.
        exclude: patterns of files that get no completions.
    """
    source, sink = _private_streams()
    code = asyncio.run(_serve(source, sink, load, exclude))
    # A thread may still wait for the editor's next byte; there is nothing left to wait for.
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the protocol alone: what a library prints goes to the log."""
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return source, sink


async def _serve(
    source: BinaryIO,
    sink: BinaryIO,
    load: Callable[[], CompletionEngine],
    exclude: tuple[str, ...],
) -> int:
    server = LanguageServer("codegen", __version__, protocol_cls=Protocol)
    protocol = server.protocol
    assert isinstance(protocol, Protocol)
    protocol.set_writer(StdoutWriter(sink))
    session = Session(Limits(), exclude)
    add_features(server, session)
    messages: asyncio.Queue[bytes | Malformed | None] = asyncio.Queue()
    _read_in_thread(source, messages, session.limits.body_bytes)
    loading = asyncio.ensure_future(_load(session, load))
    logging_task = asyncio.ensure_future(_log_latencies(session))
    try:
        while (message := await messages.get()) is not None:
            await protocol.take(message)
        return 1  # the stream ended without a goodbye
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BrokenPipeError:
        return 1
    finally:
        loading.cancel()
        logging_task.cancel()
        if session.engine:
            log.info("%s", session.engine.metrics.line())


async def _load(session: Session, load: Callable[[], CompletionEngine]) -> None:
    """Loads the model in a thread, so that the editor is not kept waiting."""
    await asyncio.sleep(0)
    try:
        engine = await asyncio.to_thread(load)
    except CodegenError as error:
        log.error("%s", error)
        session.report("Error", str(error))
        return
    session.limits = engine.limits
    session.engine = engine
    session.report("Normal", f"{engine.model.name} is ready.")


def _read_in_thread(
    source: BinaryIO, messages: asyncio.Queue[bytes | Malformed | None], most: int
) -> None:
    loop = asyncio.get_running_loop()

    def read() -> None:
        message: bytes | Malformed | None = b""
        while message is not None:
            try:
                message = read_message(source, most)
            except (OSError, ValueError):
                message = None
            try:
                loop.call_soon_threadsafe(messages.put_nowait, message)
            except RuntimeError:  # the loop is closed
                return

    threading.Thread(target=read, name="editor", daemon=True).start()


async def _log_latencies(session: Session) -> None:
    last = ""
    while True:
        await asyncio.sleep(_LOG_EVERY_S)
        if session.engine and (line := session.engine.metrics.line()) != last:
            log.info("%s", line)
            last = line
