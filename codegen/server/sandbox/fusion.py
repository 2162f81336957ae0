"""SandboxFusion's ``/run_code``, so that its clients only need another URL.

Fields, defaults, nulls and the rule for ``status`` are as in SandboxFusion's
``sandbox/server/sandbox_api.py`` (commit 469de08). Differences:

- Languages may have SandboxFusion's or this toolkit's names; languages not enabled at startup are
  rejected. Compilers have fixed limits; ``compile_timeout`` is ignored.
- ``run_timeout`` is CPU time; wall time is limited to twice as much.
- ``memory_limit_MB`` is always enforced; the default is the server's.
- Output is truncated at 1 MiB, with a line that says so.
- ``files`` and ``fetch_files`` are paths below the working directory; others are rejected (422).
  After a timeout no files are fetched.
- A program has no access to the network, the server's environment or the host's files.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.core.errors import InputError
from codegen.core.paths import inner_path
from codegen.sandbox import Limits, Outcome, ScriptJob
from codegen.sandbox.languages import find
from codegen.server.http.bodies import RequestRejected, read_body
from codegen.server.http.security import client_name
from codegen.server.sandbox.service import (
    Handler,
    SandboxFault,
    SandboxService,
    defaults,
    known_language,
)

_OUTPUT_BYTES = 1 << 20
_MOST_TOLD = 20  # maximum errors reported per request
_LEAST_CPU_S, _LEAST_MEMORY_MIB = 0.05, 128
_SKIPPED = "IGNORE_THIS_FILE"  # SandboxFusion skips files with this in their name


class RunCodeRequest(BaseModel):
    """Body of ``/run_code``, as in FastAPI: unknown fields ignored, numeric strings accepted."""

    model_config = ConfigDict(allow_inf_nan=False)

    code: str
    language: str
    compile_timeout: float = 10
    run_timeout: float = 10
    memory_limit_MB: int = -1
    stdin: str | None = None
    files: dict[str, str | None] = Field(default_factory=dict)
    fetch_files: list[str] = Field(default_factory=list)

    def script(self, most: Limits, languages: Sequence[str]) -> ScriptJob:
        """Returns the script to run, with allowed limits and language.

        Raises:
            InputError: if the language is not enabled or a file is invalid.
        """
        language = known_language(self.language, languages)
        files = {}
        for name, content in self.files.items():
            if content is None or _SKIPPED in name:
                continue
            try:
                files[inner_path(name, "files")] = base64.b64decode(content)
            except ValueError as error:
                message = f"The content of {name!r:.80} is not base64: {error}."
                raise InputError(message) from None
        return ScriptJob(
            self.code,
            self.stdin or "",
            files,
            [inner_path(name, "fetch_files") for name in self.fetch_files],
            self.limits(most),
            language,
        )

    def limits(self, most: Limits) -> Limits:
        """Returns the limits of the run."""
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


class CommandRunResult(BaseModel):
    """Result of a command."""

    status: Literal["Finished", "Error", "TimeLimitExceeded"]
    execution_time: float | None = None
    return_code: int | None = None
    stdout: str | None = None
    stderr: str | None = None


class RunCodeResponse(BaseModel):
    """Response of ``/run_code``."""

    status: Literal["Success", "Failed", "SandboxError"]
    message: str
    compile_result: CommandRunResult | None = None
    run_result: CommandRunResult | None = None
    executor_pod_name: str | None = None
    files: dict[str, str] = Field(default_factory=dict)


async def run_code(service: SandboxService, request: Request) -> Response:
    """Handles ``POST /run_code``: runs a program without testing it; ``detail`` lists errors."""
    client = client_name(request)
    try:
        body = RunCodeRequest.model_validate_json(await read_body(request))
        script = body.script(service.most, service.sandbox.languages)
        service.admit(client, 1)
        answer = response_of((await service.outcome(client, script))[0], script.language)
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        return JSONResponse({"detail": told[:_MOST_TOLD]}, 422)
    except InputError as error:
        status = error.status if isinstance(error, RequestRejected) else 422
        return JSONResponse({"detail": str(error)}, status)
    except SandboxFault as error:
        answer = RunCodeResponse(status="SandboxError", message=str(error))
    return JSONResponse(answer.model_dump(mode="json"))


def response_of(outcome: Outcome, language: str = "python") -> RunCodeResponse:
    """Converts a script's outcome to a response, with SandboxFusion's rule for ``status``."""
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
    """Builds a command's result, without exit code if it hit the time limit (``late``)."""
    return CommandRunResult(
        status="TimeLimitExceeded" if late else "Finished",
        execution_time=seconds,
        return_code=None if late else code,
        stdout=stdout,
        stderr=stderr,
    )


async def ping(_: SandboxService, __: Request) -> Response:
    """Handles ``GET /v1/ping``."""
    return JSONResponse("pong")


ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/run_code", run_code),
    ("GET", "/v1/ping", ping),
]
