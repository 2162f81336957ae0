"""Jobs and outcomes as JSON objects, for the service and its clients.

A job has the fields of :class:`~codegen.sandbox.Job`, an outcome the fields of
:class:`~codegen.sandbox.Outcome`. A returned value is in ``value`` if JSON can represent it, else
in ``tree``, with tags for the types that JSON lacks (:mod:`.protocol.wire`): ``{"t": [1, 2]}`` is a
tuple.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from codegen.core.errors import InputError, SandboxError

from .jobs import CallResult, Job, Limits, Outcome, ScriptJob
from .protocol import wire

Row = dict[str, Any]


def job_row(job: Job, key: str = "", cache: bool = True) -> Row:
    """Returns a job as the body of ``/v1/judge``; default fields are omitted.

    Raises:
        InputError: for a call with arguments that JSON cannot represent, and for a job without
            expected output.
    """
    if job.expected_stdout is None:
        raise InputError("A job without expected output has no verdict.", "Send a ScriptJob.")
    row: Row = {}
    for item in fields(Job):
        value = getattr(job, item.name)
        if item.name in ("calls", "limits"):
            continue
        if item.name == "program" or value != item.default:
            row[item.name] = value
    if job.limits != Limits():
        row["limits"] = asdict(job.limits)
    if job.calls:
        row["calls"] = [call if isinstance(call, str) else list(call) for call in job.calls]
        if not _is_json(row["calls"]):
            raise InputError(
                "A call has an argument that JSON cannot represent, such as a tuple or a set.",
                "Write the call as an expression: 'f((1, 2))'.",
            )
    if key:
        row["key"] = key
    if not cache:
        row["cache"] = False
    return row


def outcome_row(outcome: Outcome, cached: bool = False) -> Row:
    """Returns an outcome as JSON."""
    row: Row = {
        "status": outcome.status,
        "passed": outcome.passed,
        "trust": outcome.trust,
        "cpu_s": round(outcome.cpu_s, 6),
        "wall_s": round(outcome.wall_s, 6),
        "memory_mib": round(outcome.memory_mib, 3),
        "message": outcome.message,
        "stdout": outcome.stdout,
        "cached": cached,
    }
    if outcome.sites:
        row |= {"sites": outcome.sites, "open_sites": list(outcome.open_sites)}
        row["seen"] = list(outcome.seen)
    if outcome.compile_s:
        row["compile_s"] = round(outcome.compile_s, 6)
    if outcome.results:
        row["results"] = [_result_row(result) for result in outcome.results]
    return row


def _result_row(result: CallResult) -> Row:
    if not result.ok:
        return {"ok": False, "error": result.error}
    if _is_json(result.value):
        return {"ok": True, "value": result.value}
    return {"ok": True, "tree": wire.pack(result.value, wire.opaque)}


def _is_json(value: object) -> bool:
    """Returns True if the value survives a round trip through JSON."""
    if value is None or type(value) in (bool, str):
        return True
    if type(value) is int:
        return abs(value) < 1 << 63
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is dict:
        return all(type(key) is str and _is_json(item) for key, item in value.items())
    return False


def read_outcome(row: Mapping[str, Any]) -> Outcome:
    """Parses the outcome in a server's row.

    Raises:
        InputError: if it is malformed.
    """
    try:
        results = tuple(_read_result(each) for each in row.get("results", ()))
        values: list[Any] = []
        for result in results:
            if not result.ok:
                break
            values.append(result.value)
        return Outcome(
            row["status"],
            row["trust"],
            float(row["cpu_s"]),
            float(row["wall_s"]),
            float(row["memory_mib"]),
            str(row["message"]),
            str(row["stdout"]),
            tuple(values),
            results,
            compile_s=float(row.get("compile_s", 0.0)),
            sites=int(row.get("sites", 0)),
            open_sites=tuple(map(str, row.get("open_sites", ()))),
            seen=tuple(map(str, row.get("seen", ()))),
        )
    except (KeyError, TypeError, ValueError, AttributeError, wire.WireError) as error:
        raise InputError(f"The server returned an invalid result: {error!r:.100}.") from None


def _read_result(row: Mapping[str, Any]) -> CallResult:
    if not row["ok"]:
        return CallResult(False, None, str(row["error"]))
    if "tree" not in row:
        return CallResult(True, row["value"])

    def special(_: str, content: Any) -> Any:
        return wire.Opaque(str(content))

    return CallResult(True, wire.unpack(row["tree"], special))


to_json: Callable[[object], str] = json.JSONEncoder(
    ensure_ascii=True, separators=(",", ":"), allow_nan=False
).encode


def script_row(script: ScriptJob) -> Row:
    """Returns a script as the body of ``/run_code``."""
    return {
        "code": script.program,
        "language": script.language,
        "stdin": script.stdin,
        "run_timeout": script.limits.cpu_s,
        "memory_limit_MB": script.limits.memory_mib,
        "files": {name: base64.b64encode(data).decode() for name, data in script.files.items()},
        "fetch_files": list(script.fetch),
    }


def script_outcome(row: Mapping[str, Any]) -> Outcome:
    """Parses the outcome of a script from the response of ``/run_code``.

    Raises:
        SandboxError: if the sandbox failed. InputError: if the response is malformed.
    """
    try:
        if row["status"] == "SandboxError":
            raise SandboxError(str(row["message"]))
        if row["run_result"] is None:
            compiled = row["compile_result"]
            message, compile_s = str(compiled["stderr"]), float(compiled["execution_time"])
            return Outcome("compile_error", "in_sandbox", message=message, compile_s=compile_s)
        result = row["run_result"]
        code = result["return_code"]
        if result["status"] == "TimeLimitExceeded":
            status = "timeout"
        else:
            status = "passed" if code == 0 else "exited" if code > 0 else "crashed"
        return Outcome(
            status,
            "in_sandbox",
            wall_s=float(result["execution_time"]),
            stdout=str(result["stdout"]),
            stderr=str(result["stderr"]),
            exit_code=code,
            files={name: base64.b64decode(data) for name, data in row["files"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The server returned an invalid result: {error!r:.100}.") from None
