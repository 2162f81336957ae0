"""llama.cpp's API: ``/infill`` and ``/props``.

``/infill`` has the fields that llama.vim and llama.vscode use. Its response has no space after
colons, because llama.vim drops responses without ``"content":"``. Numbers above an engine limit are
lowered, as in llama.cpp's server.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen import __version__
from codegen.generation import SamplingParams
from codegen.server.completion.model import CompletionModel
from codegen.server.completion.requests import Candidate, CompletionRequest, CompletionResult
from codegen.server.http import bodies
from codegen.server.http.completion_service import CompletionService
from codegen.server.http.openai import UNNAMED

_MOST_MS = 3_600_000
_MOST_SNIPPETS = 256
_STOP_TYPES = {"eos": "eos", "length": "limit", "stop": "word"}


class ExtraFile(bodies.JsonBody):
    """Chunk of another file in llama.cpp's ``input_extra``."""

    filename: str = ""
    text: str = ""


class InfillBody(bodies.JsonBody):
    """Body of llama.cpp's ``/infill``; ``n_predict`` 0 warms up, -1 is the default."""

    input_prefix: str = ""
    input_suffix: str = ""
    input_extra: list[ExtraFile] = []
    prompt: str = ""
    language: str = ""
    n_predict: Annotated[bodies.Whole, Field(ge=-1, le=bodies.MOST_TOKENS)] = -1
    n_cmpl: bodies.Count | None = None
    n: bodies.Count = 1
    samplers: Any = None
    temperature: bodies.Temperature = 0.0
    top_p: bodies.TopP = 1.0
    seed: Annotated[bodies.Whole, Field(ge=-1, le=2**63)] = 0
    stop: bodies.Strings = []
    t_max_predict_ms: Annotated[float, Field(ge=-1, le=_MOST_MS)] = 0
    response_fields: bodies.Strings = []
    stream: bool = False


async def infill(service: CompletionService, request: Request) -> Response:
    """Handles ``/infill``."""
    given = await bodies.read_object(request)
    for key in ("input_prefix", "input_suffix"):
        if key not in given:
            raise bodies.RequestRejected(f'"{key}" is required.')
    body = InfillBody.read(given)
    asked = _infill_request(body)
    if body.n_predict == 0:
        # Warm-up: encodes the context while the engine is idle.
        service.warm_up(request, asked)
        return JSONResponse(
            _row(service, asked, CompletionResult(()), Candidate("", 0, "length"), 0)
        )
    if body.stream:
        return await bodies.event_stream(request, _events(service, request, asked))
    answer = await service.complete(request, asked)
    found = answer.candidates or (bodies.first_of(answer),)
    rows = [_row(service, asked, answer, one, number) for number, one in enumerate(found)]
    if body.response_fields:
        rows = [_selected(row, body.response_fields) for row in rows]
    return JSONResponse(rows if asked.candidates > 1 else rows[0])


def _infill_request(body: InfillBody) -> CompletionRequest:
    sampled = not isinstance(body.samplers, list) or "temperature" in body.samplers
    extra = [(one.filename, one.text) for one in body.input_extra[-_MOST_SNIPPETS:]]
    limit_ms = body.t_max_predict_ms
    return CompletionRequest(
        UNNAMED,
        body.input_prefix + body.prompt,
        body.input_suffix,
        language=body.language,
        snippets=bodies.snippets(extra),
        candidates=body.n if body.n_cmpl is None else body.n_cmpl,
        params=SamplingParams(
            max_new_tokens=body.n_predict if body.n_predict > 0 else 128,
            temperature=body.temperature if sampled else 0.0,
            top_p=body.top_p,
            seed=max(0, body.seed),
        ),
        stop=tuple(body.stop),
        deadline_s=limit_ms / 1e3 if limit_ms > 0 else 20.0,
    )


async def _events(
    service: CompletionService, request: Request, asked: CompletionRequest
) -> bodies.Events:
    async for piece in service.stream(request, asked):
        if isinstance(piece, str):
            yield {"index": 0, "content": piece, "stop": False}
            continue
        yield {**_row(service, asked, piece, bodies.first_of(piece), 0), "content": ""}


def _row(
    service: CompletionService,
    asked: CompletionRequest,
    answer: CompletionResult,
    one: Candidate,
    number: int,
) -> dict[str, Any]:
    encode_ms = answer.stages.get("encode", 0.0) * 1e3
    decode_ms = answer.stages.get("decode", 0.0) * 1e3
    return {
        "index": number,
        "content": one.text,
        "stop": True,
        "model": service.engine.source.name,
        "tokens_predicted": one.completion_tokens,
        "tokens_evaluated": answer.reused + answer.encoded,
        "tokens_cached": answer.reused,
        "has_new_line": "\n" in one.text,
        "stop_type": _STOP_TYPES[one.finish_reason],
        "generation_settings": {
            "n_predict": asked.params.max_new_tokens,
            "temperature": asked.params.temperature,
        },
        "timings": {
            "cache_n": answer.reused,
            "prompt_n": answer.encoded,
            "prompt_ms": encode_ms,
            **_rates("prompt", answer.encoded, encode_ms),
            "predicted_n": one.completion_tokens,
            "predicted_ms": decode_ms,
            **_rates("predicted", one.completion_tokens, decode_ms),
        },
    }


def _rates(name: str, count: int, ms: float) -> dict[str, float]:
    return {
        f"{name}_per_token_ms": ms / max(1, count),
        f"{name}_per_second": count / ms * 1e3 if ms else 0.0,
    }


def _selected(row: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """Returns the requested fields under the requested names, such as ``timings/prompt_n``."""
    found: dict[str, Any] = {}
    for name in wanted:
        value: Any = row
        for key in name.split("/"):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            found[name] = value
    return found


async def props(service: CompletionService, _: Request) -> Response:
    """Handles ``/props``, which clients of llama.cpp's server request at startup."""
    source, limits = service.engine.source, service.engine.limits
    tokenizer = source.tokenizer if isinstance(source, CompletionModel) else None
    return JSONResponse(
        {
            "default_generation_settings": {"n_ctx": service.engine.source.longest},
            "total_slots": limits.together,
            "model_alias": source.name,
            "model_path": source.name,
            "chat_template": getattr(tokenizer, "chat_template", "") or "",
            "bos_token": getattr(tokenizer, "bos_token", "") or "",
            "eos_token": getattr(tokenizer, "eos_token", "") or "",
            "build_info": f"codegen {__version__}",
            "is_sleeping": False,
        }
    )
