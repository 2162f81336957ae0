"""The bodies of the native routes; :mod:`codegen.evals.sandbox.rows` documents their fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from codegen.errors import ConfigError
from codegen.evals.sandbox import Job, Limits, Mode
from codegen.evals.sandbox.languages import find
from codegen.server.http.wire import Refused, StrictBody
from codegen.server.sandbox.service import SandboxService

Handler = Callable[[SandboxService, Request], Coroutine[Any, Any, Response]]


class LimitsBody(StrictBody):
    """Limits of one job; missing ones are the server's defaults."""

    cpu_s: float | None = None
    memory_mib: int | None = None
    output_bytes: int | None = None
    file_mib: int | None = None
    processes: int | None = None
    open_files: int | None = None

    def limits(self, most: Limits) -> Limits:
        """These limits, none above ``most``.

        Raises:
            Refused: for a limit that is too small for the sandbox.
        """
        given = {
            name: min(value, getattr(most, name))
            for name, value in self.model_dump(exclude_none=True).items()
        }
        try:
            return replace(defaults(most), **given)
        except ConfigError as error:
            raise Refused(error.message, param="limits") from None


def defaults(most: Limits) -> Limits:
    """The limits of a job that names none."""
    usual = asdict(Limits())
    return Limits(**{name: min(value, getattr(most, name)) for name, value in usual.items()})


class JobBody(StrictBody):
    """One program and how to judge it: ``/v1/judge``."""

    program: str
    test: str = ""
    entry_point: str = ""
    setup: str = ""
    mode: Mode = "isolated"
    stdin: str = ""
    expected_stdout: str = ""
    calls: list[Any] = Field(default_factory=list)
    limits: LimitsBody = LimitsBody()
    language: str = "python"
    key: str = ""
    cache: bool = True

    def job(self, most: Limits, languages: Sequence[str]) -> Job:
        """The job, with limits and in a language that the server allows.

        Raises:
            InputError: if it is not a valid job.
        """
        return Job(
            self.program,
            test=self.test,
            entry_point=self.entry_point,
            setup=self.setup,
            mode=self.mode,
            stdin=self.stdin,
            expected_stdout=self.expected_stdout,
            calls=self.calls,
            limits=self.limits.limits(most),
            language=known_language(self.language, languages),
        )

    def cache_key(self) -> str:
        """A hash of everything that decides the verdict; empty if it must not be kept."""
        if not self.cache:
            return ""
        # In the request's order, because a program may see the order of a dictionary's keys.
        what = json.dumps(self.model_dump(exclude={"key", "cache"}))
        return hashlib.sha256(what.encode("ascii")).hexdigest()


def known_language(name: str, languages: Sequence[str]) -> str:
    """The canonical name of a language that the server runs.

    Raises:
        Refused: as 422, with the list.
    """
    with suppress(ConfigError):
        if (found := name if name == "python" else find(name).name) in languages:
            return found
    raise Refused(
        f"language is {name[:40]!r}; this server runs: {', '.join(languages)}.",
        status=422,
        param="language",
    )
