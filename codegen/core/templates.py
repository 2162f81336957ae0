"""Renders untrusted Jinja2 templates: task templates, and models' chat templates.

Jinja2's sandbox restricts a template to its variables, but does not limit time or memory. A child
process therefore renders the templates, with limits that the kernel enforces. The child is a script
that calls :func:`serve`: for tasks this module itself, for chat templates
:mod:`codegen.models.chat`.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from codegen.core.errors import CodegenError, ConfigError, InputError

CPU_S = 1  # per template
MEMORY_MIB = 1024  # limit for the child process
MOST_TEXT = 8 << 20  # characters
ALL_CPU_S = 300  # for all templates of a task
MOST_ALL_TEXT = 512 << 20  # characters, for all templates of a task
_LONGEST_REASON = 300


class TemplateFailure(CodegenError):
    """A template is invalid, fails, or exceeds its limits.

    Attributes:
        is_invalid: True if the template itself is invalid, regardless of variables.
    """

    def __init__(self, message: str, *, is_invalid: bool = False) -> None:
        super().__init__(message)
        self.is_invalid = is_invalid


class TemplateProcess:
    """Child process that renders templates; runs from the first template until this object ends.

    Args:
        script: the Python file that the child runs.
    """

    def __init__(self, script: str) -> None:
        self._script = script
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = 0  # process id: a fork must not share the pipes
        self._lock = threading.Lock()

    def fill(self, text: str, variables: Mapping[str, Any]) -> Any:
        """Returns the result of the script's function for a template.

        Raises:
            TemplateFailure: if the template fails; has the reason.
        """
        with self._lock:
            kind, found = self._reply(text, variables)
        if kind != "text":
            raise TemplateFailure(found, is_invalid=kind == "invalid")
        return found

    def _reply(self, text: str, variables: Mapping[str, Any]) -> tuple[str, Any]:
        if self._child is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._child = subprocess.Popen(
                [sys.executable, "-P", self._script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # threads use up the limit
            )
            weakref.finalize(self, _end, self._child)
        assert self._child.stdin and self._child.stdout
        with contextlib.suppress(BrokenPipeError):  # the child exited: no reply
            # Our own child reads it, so this is not a pickle from outside.
            pickle.dump((text, dict(variables)), self._child.stdin)
            self._child.stdin.flush()
        if reply := self._child.stdout.readline():
            kind, found = json.loads(reply)
            return kind, found
        status = _end(self._child)
        self._child = None
        if status == -signal.SIGPROF:
            return "failed", f"it takes more than {CPU_S} s of CPU time"
        if status == -signal.SIGXCPU:
            return "failed", "the templates together take too much CPU time"
        return "failed", f"it takes more than {MEMORY_MIB} MiB of memory"


class Templates:
    """The templates of one task, which may be untrusted."""

    def __init__(self) -> None:
        self._process = TemplateProcess(__file__)
        self._left = MOST_ALL_TEXT

    def fill(self, text: str, columns: Mapping[str, object], key: str, place: str) -> str:
        """Renders a template; a string without braces is unchanged.

        Args:
            key, place: key in the task's file, and location of the row, for errors.

        Raises:
            ConfigError: if it is not a valid template.
            InputError: if it cannot be rendered with this row, or the limits are exceeded.
        """
        if "{" not in text:
            return text
        try:
            filled = self._process.fill(text, columns)
            self._left -= len(filled)
            if self._left < 0:
                raise TemplateFailure(
                    f"all filled templates together exceed {MOST_ALL_TEXT >> 20} Mi characters"
                )
        except TemplateFailure as error:
            if error.is_invalid:
                raise ConfigError(f"The template of {key} is not valid: {error}.") from None
            raise InputError(
                f"{place}: the template of {key} cannot be rendered: {error}."
            ) from None
        return filled


def _end(child: subprocess.Popen[bytes]) -> int:
    child.communicate()
    return child.returncode


def serve(fill: Callable[[str, dict[str, Any]], Any], all_cpu_s: int | None = None) -> None:
    """Runs the child: reads pairs of a template and its variables, and writes JSON replies.

    Args:
        all_cpu_s: maximum CPU seconds for all templates.
    """
    from jinja2 import TemplateError, TemplateSyntaxError

    def reply(text: str, variables: dict[str, Any]) -> tuple[str, Any]:
        try:
            filled = fill(text, variables)
        except TemplateSyntaxError as error:
            return "invalid", (error.message or "")[:_LONGEST_REASON]
        except MemoryError:
            return "failed", f"it takes more than {MEMORY_MIB} MiB of memory"
        except RecursionError:
            return "failed", "it is nested too deeply"
        except (
            TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError
        ) as error:  # fmt: skip
            return "failed", str(error)[:_LONGEST_REASON]
        if len(filled) > MOST_TEXT:
            return "failed", f"the text exceeds {MOST_TEXT >> 20} Mi characters"
        return "text", filled

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C; the parent stops this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS does not enforce it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    if all_cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (all_cpu_s, all_cpu_s + 1))
    while True:
        try:
            text, variables = pickle.load(sys.stdin.buffer)  # noqa: S301 - written by the parent
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # the kernel then kills the process
        written = json.dumps(reply(text, variables))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(written + "\n")
        sys.stdout.flush()


def _main() -> None:
    """Runs the child that renders task templates."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    compiled = lru_cache(maxsize=64)(jinja.from_string)

    def filled(text: str, columns: dict[str, Any]) -> str:
        return compiled(text).render(columns)

    serve(filled, ALL_CPU_S)


if __name__ == "__main__":
    _main()
