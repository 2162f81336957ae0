"""SandboxFusion's routes of datasets: prompts, and completions to judge.

The datasets are this toolkit's tasks (:mod:`codegen.evals.tasks`) or, in ``provided_data``, rows of
a ``CommonOJDataset``, whose programs read and print.

Completions are judged as in the rest of the toolkit; ``extra`` has the status and the trust. The
server executes no code of a request, so ``custom_extract_logic`` is refused.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from codegen.evals import tasks
from codegen.evals.sandbox import Job, Outcome
from codegen.evals.tasks.extraction import fenced_blocks
from codegen.evals.tasks.styles import find_style, meta_of
from codegen.records import Sample, Verdict
from codegen.server.guard import client_name
from codegen.server.http.wire import Refused
from codegen.server.sandbox.fusion import (
    Body,
    RunCodeRequest,
    RunCodeResponse,
    as_json,
    command_result,
    run_script,
    table,
)
from codegen.server.sandbox.service import SandboxFault, SandboxService

_STDIO_TIMEOUT_S = 20.0
_SHOWN_CHARS = 1000  # per passed test's input and output
_RELATIVE_TOLERANCE = 1e-5


class TestConfig(Body):
    """``config`` of the routes of datasets."""

    __test__ = False
    dataset_type: str | None = None
    language: str | None = None
    locale: str | None = None
    is_fewshot: bool | None = None
    compile_timeout: float | None = None
    run_timeout: float | None = None
    custom_extract_logic: str | None = None
    provided_data: list[dict[str, Any]] | dict[str, Any] | None = None
    extra: dict[str, Any] = Field(default_factory=dict)


class DatasetRequest(Body):
    """``/get_metrics_function``, and what all requests about a dataset have."""

    dataset: str
    config: TestConfig


class GetPromptsRequest(DatasetRequest):
    """``/list_ids`` and ``/get_prompts``."""

    offset: int = 0
    limit: int = 1_000_000


class GetPromptByIdRequest(DatasetRequest):
    """``/get_prompt_by_id``."""

    id: int | str


class SubmitRequest(GetPromptByIdRequest):
    """``/submit``."""

    completion: str


class EvalTestCase(BaseModel):
    """One test of a submission."""

    passed: bool
    exec_info: RunCodeResponse
    test_info: dict[str, Any] | None = None


class EvalResult(BaseModel):
    """The answer of ``/submit``."""

    id: int | str
    accepted: bool
    extracted_code: str
    full_code: str | None = None
    test_code: str | None = None
    tests: list[EvalTestCase]
    extracted_type: Literal["fenced", "incomplete_fenced", "heuristic", "empty"] | None = None
    extra: dict[str, Any] | None = None


class GetMetricsRequest(DatasetRequest):
    """``/get_metrics``."""

    results: list[EvalResult]


_load = functools.cache(tasks.load)


async def _task(name: str) -> tasks.Task[Any]:
    """The task called ``name``; its data is read once.

    Raises:
        Refused: if there is none; ``file:`` names are not for clients.
    """
    if name not in [known for known, _ in tasks.names()]:
        raise Refused(f"no eval class found for dataset {name[:80]}")
    return await asyncio.to_thread(_load, name)


def _rows(config: TestConfig) -> list[dict[str, Any]] | None:
    """The rows in a request; None if it names a task."""
    if config.provided_data is None:
        return None
    if config.dataset_type != "CommonOJDataset":
        raise Refused(
            f"provided_data is read as CommonOJDataset, not as {str(config.dataset_type)[:40]!r}."
        )
    given = config.provided_data
    return given if isinstance(given, list) else [given]


def _prompt(identity: object, prompt: object, labels: object = None) -> dict[str, Any]:
    return {"id": identity, "prompt": prompt, "labels": labels or {}}


async def _prompts(dataset: str, config: TestConfig) -> list[dict[str, Any]]:
    rows = _rows(config)
    if rows is not None:
        return [_prompt(row.get("id"), row.get("content"), row.get("labels")) for row in rows]
    task = await _task(dataset)
    style = find_style(task.style or "chat")
    found = []
    for problem in task.problems():
        request = task.request(problem, style, 0)
        found.append(_prompt(problem.id, request.prompt))
    return found


async def list_datasets(_: SandboxService, __: Request) -> Response:
    """``GET /list_datasets``: the tasks' names."""
    return JSONResponse([name for name, _ in tasks.names()])


async def list_ids(_: SandboxService, request: Request) -> Response:
    """``POST /list_ids``."""
    body = await GetPromptsRequest.of(request)
    found = await _prompts(body.dataset, body.config)
    return JSONResponse([each["id"] for each in _page(found, body)])


async def get_prompts(_: SandboxService, request: Request) -> Response:
    """``POST /get_prompts``."""
    body = await GetPromptsRequest.of(request)
    return JSONResponse(_page(await _prompts(body.dataset, body.config), body))


def _page(found: Sequence[dict[str, Any]], body: GetPromptsRequest) -> list[dict[str, Any]]:
    start = max(0, body.offset)
    return list(found[start : start + max(0, body.limit)])


async def get_prompt_by_id(_: SandboxService, request: Request) -> Response:
    """``POST /get_prompt_by_id``."""
    body = await GetPromptByIdRequest.of(request)
    for each in await _prompts(body.dataset, body.config):
        if str(each["id"]) == str(body.id):
            return JSONResponse(each)
    raise Refused(f"{body.dataset[:80]} has no problem {body.id!r:.80}.")


async def submit(service: SandboxService, request: Request) -> Response:
    """``POST /submit``: extracts the program of a completion and judges it."""
    body = await SubmitRequest.of(request)
    if body.config.custom_extract_logic is not None:
        raise Refused(
            "custom_extract_logic is not supported: the server executes no code of a request. "
            "Extract the program in the client and send it in a ```python block."
        )
    client = client_name(request)
    rows = _rows(body.config)
    if rows is not None:
        return as_json(await _submit_rows(service, client, body, rows[0]))
    return as_json(await _submit_task(service, client, body))


async def _submit_task(service: SandboxService, client: str, body: SubmitRequest) -> EvalResult:
    task = await _task(body.dataset)
    problem = next((each for each in task.problems() if each.id == str(body.id)), None)
    if problem is None:
        raise Refused(f"{body.dataset[:80]} has no problem {body.id!r:.80}.")
    style = find_style(task.style or "chat")
    sample = Sample(
        task.name, problem.id, 0, "", body.completion, "eos", {}, 0, 0, 0, meta=meta_of(style)
    )
    found = task.extract(problem, sample)
    if task.needs_preparation:
        await asyncio.to_thread(task.prepare, [problem], service.sandbox)
    outcome: Outcome | Verdict | None = None
    test_code: str | None = None
    if found.program:
        job = task.job(problem, found.program)
        if isinstance(job, Job):
            service.admit(client, 1)
            outcome, _ = await service.outcome(client, job)
            test_code = job.test or None
        else:
            outcome = job
    tests = [] if outcome is None else [_test_of(outcome)]
    about = {"status": found.status} if outcome is None else _about(outcome)
    return EvalResult(
        id=body.id,
        accepted=outcome is not None and outcome.passed,
        extracted_code=found.program,
        full_code=found.program or None,
        test_code=test_code,
        tests=tests,
        extracted_type=_extracted_type(body.completion, found.program),
        extra=about,
    )


def _about(outcome: Outcome | Verdict) -> dict[str, Any]:
    return {"status": outcome.status, "trust": outcome.trust, "message": outcome.message}


def _test_of(outcome: Outcome | Verdict) -> EvalTestCase:
    result = command_result(
        outcome.status == "timeout",
        int(not outcome.passed),
        outcome.wall_s,
        outcome.stdout if isinstance(outcome, Outcome) else outcome.output,
        outcome.message,
    )
    status = "Success" if outcome.passed else "Failed"
    info = RunCodeResponse(status=status, message="", run_result=result)
    return EvalTestCase(passed=outcome.passed, exec_info=info, test_info=_about(outcome))


def _extracted_type(completion: str, program: str) -> Any:
    if not program:
        return "empty"
    if not fenced_blocks(completion):
        return "heuristic"
    return "fenced" if completion.count("```") % 2 == 0 else "incomplete_fenced"


async def _submit_rows(
    service: SandboxService, client: str, body: SubmitRequest, row: dict[str, Any]
) -> EvalResult:
    """A problem with inputs and outputs, as ``CommonOJDataset`` judges it."""
    config = body.config
    if not config.language:
        raise Refused("config.language field must exist for CommonOJDataset, got None")
    cases = row.get("test")
    if not isinstance(cases, list) or not all(map(_is_case, cases)):
        raise Refused("provided_data.test must be a list of {input: {stdin}, output: {stdout}}.")
    blocks = fenced_blocks(body.completion)
    code = blocks[0] if blocks else ""
    service.admit(client, len(cases))

    async def one(case: dict[str, Any]) -> EvalTestCase:
        run = RunCodeRequest(
            code=code,
            language=config.language or "",
            stdin=case["input"]["stdin"],
            run_timeout=config.run_timeout or _STDIO_TIMEOUT_S,
        )
        response = await run_script(service, client, run.script(service.most, service.languages))
        if response.status == "SandboxError":  # no verdict, neither right nor wrong
            raise SandboxFault(response.message)
        printed = response.run_result and response.run_result.stdout
        passed = response.status == "Success" and same_output(
            printed or "", case["output"]["stdout"]
        )
        if passed and not config.extra.get("return_full_case"):
            case = {
                side: {name: text[:_SHOWN_CHARS] for name, text in case[side].items()}
                for side in ("input", "output")
            }
        return EvalTestCase(passed=passed, exec_info=response, test_info=case)

    running = [asyncio.ensure_future(one(case)) for case in cases]
    tests: list[EvalTestCase] = []
    try:
        for task in running:
            tests.append(await task)
            if not tests[-1].passed and not config.extra.get("run_all_cases"):
                break
    finally:
        for task in running:
            task.cancel()
    accepted = all(test.passed for test in tests)
    return EvalResult(id=body.id, accepted=accepted, extracted_code=code, tests=tests)


def _is_case(case: Any) -> bool:
    return (
        isinstance(case, dict)
        and all(isinstance(case.get(side), dict) for side in ("input", "output"))
        and all(
            isinstance(text, str) for side in ("input", "output") for text in case[side].values()
        )
        and "stdin" in case["input"]
        and "stdout" in case["output"]
    )


def same_output(printed: str, expected: str) -> bool:
    """SandboxFusion's comparison: line by line, ignoring case and white space at the ends; numbers
    may differ by a relative 1e-5.
    """
    ours, theirs = printed.strip().split("\n"), expected.strip().split("\n")
    return len(ours) == len(theirs) and all(map(_same_line, ours, theirs))


def _same_line(ours: str, theirs: str) -> bool:
    ours, theirs = ours.strip().lower(), theirs.strip().lower()
    if ours == theirs:
        return True
    try:
        got, wanted = float(ours), float(theirs)
    except ValueError:
        return False
    return abs(got - wanted) / max(abs(wanted), 1e-10) < _RELATIVE_TOLERANCE


async def get_metrics(_: SandboxService, request: Request) -> Response:
    """``POST /get_metrics``: the share of accepted results."""
    body = await GetMetricsRequest.of(request)
    if not body.results:
        return JSONResponse({})
    return JSONResponse({"pass@1": sum(each.accepted for each in body.results) / len(body.results)})


async def get_metrics_function(_: SandboxService, request: Request) -> Response:
    """``POST /get_metrics_function``: none, since clients should not run code of the server."""
    await DatasetRequest.of(request)
    return JSONResponse({"function": None})


ROUTES = table(
    [
        ("POST", "/submit", submit),
        ("GET", "/list_datasets", list_datasets),
        ("POST", "/list_ids", list_ids),
        ("POST", "/get_prompts", get_prompts),
        ("POST", "/get_prompt_by_id", get_prompt_by_id),
        ("POST", "/get_metrics", get_metrics),
        ("POST", "/get_metrics_function", get_metrics_function),
    ]
)
