"""Tabby's API for its editor plugins and ``tabby-agent``."""

from __future__ import annotations

import platform
import uuid
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen import __version__
from codegen.generation import SamplingParams
from codegen.server.completion.requests import CompletionRequest, DocumentKey
from codegen.server.http.bodies import JsonBody, Temperature, Whole, read_object, snippets
from codegen.server.http.completion_service import CompletionService

_DECLARATIONS = 8


class Declaration(JsonBody):
    """Text of another file, sent by Tabby's plugins."""

    filepath: str = ""
    body: str = ""


class Segments(JsonBody):
    """Text around the cursor, and text of other files."""

    prefix: str = ""
    suffix: str = ""
    filepath: str = ""
    git_url: str = ""
    relevant_snippets_from_recently_opened_files: list[Declaration] = []
    relevant_snippets_from_changed_files: list[Declaration] = []
    declarations: list[Declaration] = []


class TabbyBody(JsonBody):
    """Body of Tabby's ``/v1/completions``."""

    mode: str = "standard"
    segments: Segments = Segments()
    language: str = ""
    temperature: Temperature = 0.0
    seed: Annotated[Whole, Field(ge=0, le=2**63)] = 0


async def completions(
    service: CompletionService, request: Request, given: dict[str, Any]
) -> Response:
    """Handles ``/v1/completions``."""
    answer_id = f"cmpl-{uuid.uuid4()}"
    body = TabbyBody.read(given)
    if body.mode != "standard":
        return JSONResponse({"id": answer_id, "choices": []})
    segments = body.segments
    extra = [
        (one.filepath, one.body)
        for group in (
            segments.relevant_snippets_from_recently_opened_files,
            segments.relevant_snippets_from_changed_files,
            segments.declarations,
        )
        for one in group[-_DECLARATIONS:]
    ]
    asked = CompletionRequest(
        DocumentKey("", segments.git_url, ""),
        segments.prefix,
        segments.suffix,
        language=body.language,
        path=segments.filepath,
        snippets=snippets(extra),
        params=SamplingParams(64, body.temperature, seed=body.seed),
    )
    answer = await service.complete(request, asked)
    choices = [{"index": n, "text": one.text} for n, one in enumerate(answer.candidates)]
    return JSONResponse({"id": answer_id, "choices": choices})


async def health(service: CompletionService, _: Request) -> Response:
    """Handles ``/v1/health``."""
    source = service.engine.source
    return JSONResponse(
        {
            "model": source.name,
            "device": source.device,
            "arch": platform.machine(),
            "version": {"git_describe": f"codegen {__version__}"},
        }
    )


async def events(_: CompletionService, request: Request) -> Response:
    """Handles ``/v1/events``: discards clients' reports of user actions."""
    await read_object(request)
    return Response(status_code=200)


async def setting(_: CompletionService, __: Request) -> Response:
    """Handles ``/v1beta/server_setting``: disables clients' telemetry."""
    return JSONResponse({"disable_client_side_telemetry": True})
