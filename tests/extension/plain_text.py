"""A dialect of ``codegen serve http``: plain text before the cursor in, a completion out."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from codegen.generation import SamplingParams
from codegen.server.completion.requests import CompletionRequest, DocumentKey
from codegen.server.http.bodies import Endpoint, RequestRejected, first_of
from codegen.server.http.completion_service import CompletionService


async def complete(service: CompletionService, request: Request) -> Response:
    """Completes the request's body with at most ``?tokens=N`` tokens, by default 32."""
    tokens = request.query_params.get("tokens", "32")
    if not tokens.isdecimal() or tokens == "0":
        raise RequestRejected(f"tokens is {tokens!r}; it must be a number from 1.")
    asked = CompletionRequest(
        DocumentKey("", "", ""),
        (await request.body()).decode("utf-8", "replace"),
        "",
        params=SamplingParams(int(tokens)),
    )
    return PlainTextResponse(first_of(await service.complete(request, asked)).text)


ROUTES: list[Endpoint[CompletionService]] = [("POST", "/plain", complete)]
