"""pygls' protocol without its own copy of the documents.

pygls keeps one that splits lines as Python does, and that reads a file from disk where a document
was not opened. Ours is :mod:`codegen.server.mirror`, and no file is ever opened.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

from lsprotocol import types
from pygls.exceptions import (
    JsonRpcException,
    JsonRpcInvalidParams,
    JsonRpcInvalidRequest,
    JsonRpcParseError,
)
from pygls.protocol import LanguageServerProtocol
from pygls.protocol.language_server import lsp_method

from codegen.server.lsp.framing import Malformed

log = logging.getLogger(__name__)


class Protocol(LanguageServerProtocol):
    """Documents go to the server's session alone."""

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(self, params: types.DidOpenTextDocumentParams) -> Any:
        """A document is opened."""
        yield self.fm.features[types.TEXT_DOCUMENT_DID_OPEN], (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(self, params: types.DidChangeTextDocumentParams) -> Any:
        """A document changes."""
        yield self.fm.features[types.TEXT_DOCUMENT_DID_CHANGE], (params,), None

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(self, params: types.DidCloseTextDocumentParams) -> Any:
        """A document is closed."""
        yield self.fm.features[types.TEXT_DOCUMENT_DID_CLOSE], (params,), None

    async def take(self, message: bytes | Malformed) -> None:
        """Handles one message, or answers what is wrong with it.

        What a request sees is the text as it is at its place in the stream: the handler's first
        step is done before the next message is looked at.
        """
        if isinstance(message, Malformed):
            self._refuse(None, JsonRpcInvalidRequest(message.reason))
            return
        try:
            data = json.loads(message)
        except (ValueError, RecursionError):
            self._refuse(None, JsonRpcParseError("The message is not valid JSON."))
            return
        if not isinstance(data, dict) or data.get("jsonrpc") != "2.0":
            self._refuse(None, JsonRpcInvalidRequest("The message is no JSON-RPC 2.0 object."))
            return
        number = data.get("id") if isinstance(data.get("id"), (int, str)) else None
        try:
            structured: Any = self.structure_message(data)
            self.handle_message(structured)
        except JsonRpcException:
            if number is not None and "method" in data:
                self._refuse(number, JsonRpcInvalidParams("The parameters do not fit the method."))
        except Exception as error:  # noqa: BLE001 - no message may end the server
            # The error's own words may quote the document.
            log.error("A message could not be handled: %s.", type(error).__name__)
        await asyncio.sleep(0)

    def _refuse(self, number: int | str | None, error: JsonRpcException) -> None:
        answer = {"code": error.code, "message": error.message}
        self._send_data({"jsonrpc": "2.0", "id": number, "error": answer})
