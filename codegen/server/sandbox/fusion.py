"""SandboxFusion's routes, so that its clients work by changing a URL.

Fields, defaults, nulls and the rule for ``status`` are as in SandboxFusion's
``sandbox/server/sandbox_api.py`` and ``online_judge_api.py`` (commit 469de08). Differences:

- Languages have SandboxFusion's names and this toolkit's; languages that the server was not started
  with are refused. Compilers have fixed limits; ``compile_timeout`` is ignored.
- ``run_timeout`` is CPU time; wall time is limited to twice as much.
- ``memory_limit_MB`` is always enforced; the default is the server's.
- Output is cut at 1 MiB, with a line that says so.
- ``files`` and ``fetch_files`` are paths below the working directory; others are refused (422).
  After a time-out no files are fetched.
- A program sees no network, no environment of the server and no files of the host.
- ``/run_jupyter`` is 501.

The routes of datasets are in :mod:`.datasets`.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.errors import InputError
from codegen.evals.sandbox import Limits, Outcome, Script
from codegen.evals.sandbox.languages import find
from codegen.paths import inner_path
from codegen.server.guard import client_name
from codegen.server.http.wire import Refused, read_body
from codegen.server.sandbox.service import SandboxFault, SandboxService
from codegen.server.sandbox.wire import Handler, defaults, known_language

_OUTPUT_BYTES = 1 << 20
_SHOWN_INPUT = 1000
_MOST_TOLD = 20  # errors reported per request
_LEAST_CPU_S, _LEAST_MEMORY_MIB = 0.05, 128
_SKIPPED = "IGNORE_THIS_FILE"  # SandboxFusion leaves out files with this in their name


class _Wrong(Exception):
    """A request that FastAPI would refuse: the entries of ``detail``."""

    def __init__(self, *detail: dict[str, Any]) -> None:
        self.detail = list(detail)


class Body(BaseModel):
    """A body as FastAPI reads it: unknown fields are ignored, numbers may be texts."""

    model_config = ConfigDict(allow_inf_nan=False)

    @classmethod
    async def of(cls, request: Request) -> Self:
        """Reads a request.

        Raises:
            _Wrong: with what FastAPI would say.
        """
        try:
            return cls.model_validate_json(await read_body(request))
        except ValidationError as error:
            raise _Wrong(*map(_entry, error.errors(include_url=False)[:_MOST_TOLD])) from None


def _entry(given: Any) -> dict[str, Any]:
    """A mistake in FastAPI's form, without repeating much of the request."""
    if given["type"] == "json_invalid":
        return {
            "type": "json_invalid",
            "loc": ["body", 0],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": str(given["ctx"]["error"])[:_SHOWN_INPUT]},
        }
    entry = {"type": given["type"], "loc": ["body", *given["loc"]], "msg": given["msg"]}
    if len(json.dumps(given["input"])) <= _SHOWN_INPUT:
        entry["input"] = given["input"]
    return entry


class RunCodeRequest(Body):
    """``/run_code``."""

    code: str
    language: str
    compile_timeout: float = 10
    run_timeout: float = 10
    memory_limit_MB: int = -1
    stdin: str | None = None
    files: dict[str, str | None] = Field(default_factory=dict)
    fetch_files: list[str] = Field(default_factory=list)

    def script(self, most: Limits, languages: Sequence[str]) -> Script:
        """The script to run, with limits and in a language that the server allows.

        Raises:
            _Wrong: for another language, and for invalid files.
        """
        try:
            language = known_language(self.language, languages)
        except Refused as error:
            expected = " or ".join(map(repr, languages))
            raise _Wrong(
                {
                    "type": "literal_error",
                    "loc": ["body", "language"],
                    "msg": f"Input should be {expected}: {error}",
                    "input": self.language[:_SHOWN_INPUT],
                    "ctx": {"expected": expected},
                }
            ) from None
        files = {}
        for name, content in self.files.items():
            if content is None or _SKIPPED in name:
                continue
            try:
                files[inner_path(name, "files")] = base64.b64decode(content)
            except ValueError as error:
                raise _refused(
                    "files", f"The content of {name!r:.80} is not base64: {error}."
                ) from None
            except InputError as error:
                raise _refused("files", str(error)) from None
        try:
            return Script(
                self.code,
                self.stdin or "",
                files,
                [inner_path(name, "fetch_files") for name in self.fetch_files],
                self.limits(most),
                language,
            )
        except InputError as error:
            raise _refused("files", str(error)) from None

    def limits(self, most: Limits) -> Limits:
        """The limits of the run."""
        usual = defaults(most)
        memory = usual.memory_mib
        if self.memory_limit_MB > 0:
            memory = min(most.memory_mib, max(_LEAST_MEMORY_MIB, self.memory_limit_MB))
        return replace(
            usual,
            cpu_s=min(most.cpu_s, max(_LEAST_CPU_S, self.run_timeout)),
            memory_mib=memory,
            output_bytes=min(most.output_bytes, _OUTPUT_BYTES),
        )


def _refused(field: str, message: str) -> _Wrong:
    return _Wrong({"type": "value_error", "loc": ["body", field], "msg": message})


def _pod_name() -> str | None:
    """SandboxFusion's name of the machine."""
    return os.environ.get("MY_POD_NAME")


class CommandRunResult(BaseModel):
    """How a command ended."""

    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = None
    return_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class RunCodeResponse(BaseModel):
    """The answer of ``/run_code``."""

    status: Literal["Success", "Failed", "SandboxError"]
    message: str
    compile_result: CommandRunResult | None = None
    run_result: CommandRunResult | None = None
    executor_pod_name: str | None = Field(default_factory=_pod_name)
    files: dict[str, str] = Field(default_factory=dict)


async def run_code(service: SandboxService, request: Request) -> Response:
    """``POST /run_code``: runs a program, without judging it."""
    body = await RunCodeRequest.of(request)
    script = body.script(service.most, service.languages)
    client = client_name(request)
    service.admit(client, 1)
    return as_json(await run_script(service, client, script))


async def run_script(service: SandboxService, client: str, script: Script) -> RunCodeResponse:
    """Runs an admitted script; a fault of the sandbox gives the status SandboxError."""
    try:
        outcome, _ = await service.outcome(client, script)
    except SandboxFault as error:
        return RunCodeResponse(status="SandboxError", message=str(error))
    return response_of(outcome, script.language)


def response_of(outcome: Outcome, language: str = "python") -> RunCodeResponse:
    """The answer for the outcome of a script, by SandboxFusion's rule for ``status``."""
    failed = outcome.status == "compile_error"
    compiled = None
    if failed or (language != "python" and find(language).compile):
        compiled = command_result(
            failed and "ended with timeout" in outcome.message,
            int(failed),
            outcome.compile_s,
            stderr=outcome.message if failed else "",
        )
    if failed:
        return RunCodeResponse(status="Failed", message="", compile_result=compiled)
    stdout, stderr, code = outcome.stdout, outcome.stderr, outcome.exit_code
    if outcome.status in ("output_limit", "memory"):
        code = -9
        stderr = f"{stderr}\n[sandbox: ended, {outcome.message}]".lstrip("\n")
    if outcome.status == "output_limit":
        stdout = f"{stdout}\n[sandbox: the output is cut here]\n"
    late = outcome.status == "timeout"
    return RunCodeResponse(
        status="Success" if outcome.passed else "Failed",
        message="",
        compile_result=compiled,
        run_result=command_result(late, code, outcome.wall_s, stdout, stderr),
        files={
            name: base64.b64encode(data).decode("ascii") for name, data in outcome.files.items()
        },
    )


def command_result(
    late: bool, code: int | None, seconds: float, stdout: str = "", stderr: str = ""
) -> CommandRunResult:
    """How a command ended that took too long (``late``) or gave an exit code."""
    return CommandRunResult(
        status="TimeLimitExceeded" if late else "Finished",
        execution_time=seconds,
        return_code=None if late else code,
        stdout=stdout,
        stderr=stderr,
    )


async def run_jupyter(_: SandboxService, __: Request) -> Response:
    """``POST /run_jupyter``: notebooks are not supported."""
    detail = "This server runs no notebooks; send the cells as one program to /run_code."
    return JSONResponse({"detail": detail}, 501)


async def ping(_: SandboxService, __: Request) -> Response:
    """``GET /v1/ping``."""
    return JSONResponse("pong")


def as_json(model: BaseModel) -> Response:
    """The answer, with its fields in order and nulls."""
    return JSONResponse(model.model_dump(mode="json"))


def _guarded(handler: Handler) -> Handler:
    """A handler whose errors have FastAPI's form."""

    async def answer(service: SandboxService, request: Request) -> Response:
        try:
            return await handler(service, request)
        except _Wrong as error:
            return JSONResponse({"detail": error.detail}, 422)
        except Refused as error:
            return JSONResponse({"detail": str(error)}, error.status)

    return answer


def table(rows: list[tuple[str, str, Handler]]) -> list[tuple[str, str, Handler]]:
    """Routes whose errors have FastAPI's form."""
    return [(method, path, _guarded(handler)) for method, path, handler in rows]


ROUTES = table(
    [
        ("POST", "/run_code", run_code),
        ("POST", "/run_jupyter", run_jupyter),
        ("GET", "/v1/ping", ping),
    ]
)
