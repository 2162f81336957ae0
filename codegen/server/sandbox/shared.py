"""What all routes of the sandbox service work with."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from codegen.evals.sandbox import Limits
from codegen.server.sandbox.service import SandboxService


@dataclass(eq=False)
class App:
    """What the routes work with.

    Attributes:
        service: the queue and the sandbox behind it.
        most: the largest limits that a job may have.
        started: by the monotonic clock.
    """

    service: SandboxService
    most: Limits
    started: float = field(default_factory=time.monotonic)

    @property
    def languages(self) -> tuple[str, ...]:
        """What programs may be written in."""
        return self.service.sandbox.languages


Handler = Callable[[App, Request], Coroutine[Any, Any, Response]]
