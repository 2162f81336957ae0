"""Tabby's API, as its editor plug-ins and ``tabby-agent`` use it."""

from __future__ import annotations

import os
import platform
import uuid
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen import __version__
from codegen.server.http import fields
from codegen.server.http.backend import Backend, in_workspace, snippets
from codegen.server.http.stream import unless_left
from codegen.server.requests import CompletionRequest

_EVENTS = ("view", "select", "dismiss")
_DECLARATIONS = 8


async def completions(backend: Backend, request: Request, body: fields.Body) -> Any:
    """``/v1/completions`` with ``segments``."""
    answer_id = f"cmpl-{uuid.uuid4()}"
    if fields.text(body, "mode", "standard") != "standard":
        return JSONResponse({"id": answer_id, "choices": []})
    segments = fields.mapping(body, "segments")
    extra = [
        (fields.text(item, "filepath"), fields.text(item, "body"))
        for key in (
            "relevant_snippets_from_recently_opened_files",
            "relevant_snippets_from_changed_files",
            "declarations",
        )
        for item in fields.objects(segments, key, _DECLARATIONS)
    ]
    asked = CompletionRequest(
        in_workspace(fields.text(segments, "git_url")),
        fields.text(segments, "prefix"),
        fields.text(segments, "suffix"),
        language=fields.text(body, "language"),
        path=fields.text(segments, "filepath"),
        snippets=snippets(extra),
        temperature=fields.number(body, "temperature", 0.0, 0, 100),
        seed=fields.integer(body, "seed", 0, 0, 2**63),
    )
    answer = await unless_left(request, backend.complete(request, asked))
    choices = [{"index": n, "text": one.text} for n, one in enumerate(answer.candidates)]
    return JSONResponse({"id": answer_id, "choices": choices})


def health(backend: Backend) -> Response:
    """``/v1/health``."""
    model = backend.engine.model
    return JSONResponse(
        {
            "model": model.name,
            "device": str(model.model.device),
            "arch": platform.machine(),
            "cpu_info": platform.processor(),
            "cpu_count": os.cpu_count(),
            "cuda_devices": [],
            "version": {
                "build_date": "",
                "build_timestamp": "",
                "git_sha": "",
                "git_describe": f"codegen {__version__}",
            },
        }
    )


async def events(backend: Backend, _: Request, body: fields.Body) -> Response:
    """``/v1/events``: only counted, and only here."""
    kind = fields.text(body, "type")
    if kind in _EVENTS:
        backend.engine.metrics.count(f"tabby_{kind}")
        if kind == "select":
            backend.engine.metrics.count("accepted")
    return Response(status_code=200)


def server_setting(_: Backend) -> Response:
    """``/v1beta/server_setting``: clients are asked to send nothing on."""
    return JSONResponse({"disable_client_side_telemetry": True})
