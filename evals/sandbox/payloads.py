"""What a job's two processes are given: the program, and what it is judged by."""

from __future__ import annotations

import functools
import json
import marshal
import warnings
from collections.abc import Mapping
from typing import Any

from .inner import wire
from .inner.suites import TEST_FILE
from .inner.tame import collected_names, names_read, tame
from .jobs import Call, Job

MAX_KEPT_TEXT = 1 << 16
GivenCode = tuple[bytes, bool, tuple[str, ...], tuple[str, ...]]


def program_payload(job: Job, token: str) -> bytes:
    """See the ``main`` of :mod:`.inner.candidate`."""
    text = job.program
    if job.mode == "in_sandbox":
        fields = {
            "program": job.program,
            "setup": job.setup,
            "test": job.test,
            "entry_point": job.entry_point,
            "collected": _collected(job.test),
            "token": token,
        }
        text = json.dumps(fields)
    return f"{job.mode}\n{text}".encode("utf-8", "surrogatepass")


def tests_payload(job: Job, token: str) -> bytes:
    """See the ``main`` of :mod:`.inner.checker`."""
    payload: dict[str, Any] = {"mode": job.mode}
    if job.mode in ("isolated", "in_sandbox"):
        payload |= {
            "setup": code_of(job.setup, "<setup>"),
            "test": code_of(job.test, TEST_FILE),
            "text": job.test,
            "entry_point": job.entry_point,
        }
    elif job.mode == "stdio":
        payload |= {"expected_stdout": job.expected_stdout, "most_output": job.most_output}
    elif job.mode == "calls":
        payload |= {"calls": pack_calls(job), "output_bytes": job.limits.output_bytes}
    if job.mode == "in_sandbox":
        payload |= {"token": token}
    return marshal.dumps(payload)


def code_of(text: str, file_name: str) -> str | GivenCode:
    """A text of the data set for a process of tests (see ``GivenCode`` in :mod:`.inner.checker`);
    or the text itself if it is too long to be kept or can't be compiled, for that process to say
    why.
    """
    return _compiled(text, file_name) if len(text) <= MAX_KEPT_TEXT else text


@functools.lru_cache(maxsize=512)  # there are many jobs with the same test
def _compiled(text: str, file_name: str) -> str | GivenCode:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the data set's code; nobody here can mend it
            code = compile(text, file_name, "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - SyntaxError, ValueError, RecursionError, MemoryError
        return text
    names = names_read(code)
    return marshal.dumps(code), tame(code), tuple(names), tuple(collected_names(code, names))


def _collected(text: str) -> list[str]:
    code = _compiled(text, TEST_FILE)
    return [] if isinstance(code, str) else list(code[3])


def pack_calls(job: Job) -> list[Any]:
    """The calls of a job as trees.

    Raises:
        wire.WireError: for an argument that is not a plain value.
    """

    def refuse(value: Any) -> Any:
        raise wire.WireError(f"an argument of type {type(value).__name__} is not a plain value")

    def packed(call: Call) -> list[Any]:
        if isinstance(call, str):
            return [call, False, {}]
        if not isinstance(call, (tuple, list)) or len(call) not in (2, 3):
            raise TypeError(f"{call!r:.80} has not two or three parts")
        name, arguments = call[:2]
        options = call[2] if len(call) > 2 else {}
        if not isinstance(name, str) or isinstance(arguments, (str, bytes)):
            raise TypeError("a call begins with a name, and its arguments are a list or a tuple")
        if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
            raise TypeError("named arguments are a dictionary with texts as keys")
        if arguments is None:
            return [name, None, {}]
        trees = [wire.pack(value, refuse) for value in arguments]
        return [name, trees, {key: wire.pack(value, refuse) for key, value in options.items()}]

    return [packed(call) for call in job.calls]
