"""Fills in the Jinja2 templates of a file that may be a stranger's.

Jinja2's sandbox keeps a template away from everything but its columns, but not from computing for
ever or filling the memory. So a child process fills them in, with limits that the kernel keeps.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import resource
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from codegen.errors import ConfigError, InputError

CPU_S, ALL_CPU_S = 1, 300  # of one template with one row; of all that one task fills in
MEMORY_MIB = 1024
MOST_TEXT, MOST_ALL_TEXT = 8 << 20, 512 << 20  # characters, likewise
_LONGEST_REASON = 300


class Templates:
    """The templates of one task. The child is started with the first, and ends with this object."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._left = MOST_ALL_TEXT
        self._lock = threading.Lock()

    def fill(self, text: str, columns: Mapping[str, object], key: str, place: str) -> str:
        """A template filled in; text without braces is given back.

        Args:
            text: the template.
            columns: its variables.
            key, place: the key of the task's file and the row, for errors.

        Raises:
            ConfigError: if it is not a valid template.
            InputError: if it cannot be filled in with this row, or not within the limits.
        """
        if "{" not in text:
            return text
        with self._lock:
            kind, found = self._ask(text, columns)
            self._left -= len(found)
        if kind == "text" and self._left >= 0:
            return found
        if kind == "invalid":
            raise ConfigError(f"The template of {key} is not valid: {found}.")
        if kind == "text":
            found = f"all texts together exceed {MOST_ALL_TEXT >> 20} Mi characters"
        raise InputError(f"{place}: the template of {key} can't be filled in: {found}.")

    def _ask(self, text: str, columns: Mapping[str, object]) -> tuple[str, str]:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            weakref.finalize(self, _end, self._child)
        assert self._child.stdin and self._child.stdout
        with contextlib.suppress(BrokenPipeError):  # it ended: there is no reply
            # Our own child reads it, so this is no pickle from outside.
            pickle.dump((text, dict(columns)), self._child.stdin)
            self._child.stdin.flush()
        if reply := self._child.stdout.readline():
            kind, found = json.loads(reply)
            return kind, found
        status = _end(self._child)
        self._child = None
        if status == -signal.SIGPROF:
            return "failed", f"it takes more than {CPU_S} s of CPU time"
        if status == -signal.SIGXCPU:
            return "failed", f"the templates take more than {ALL_CPU_S} s of CPU time"
        return "failed", f"it takes more than {MEMORY_MIB} MiB of memory"


def _end(child: subprocess.Popen[bytes]) -> int:
    child.communicate()
    return child.returncode


def _main() -> None:
    """The child: reads pairs of a template and its columns, writes ``[kind, text]`` as JSON."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's; the parent ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MIB << 20, MEMORY_MIB << 20))
    resource.setrlimit(resource.RLIMIT_CPU, (ALL_CPU_S, ALL_CPU_S + 1))
    jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    compiled = lru_cache(maxsize=64)(jinja.from_string)
    while True:
        try:
            text, columns = pickle.load(sys.stdin.buffer)  # noqa: S301 - the parent's
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, CPU_S)  # the kernel ends the process then
        reply = json.dumps(_filled(compiled, text, columns))
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(reply + "\n")
        sys.stdout.flush()


def _filled(compiled: Any, text: str, columns: dict[str, object]) -> tuple[str, str]:
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        found = compiled(text).render(columns)
    except TemplateSyntaxError as error:
        return "invalid", (error.message or "")[:_LONGEST_REASON]
    except MemoryError:
        return "failed", f"it takes more than {MEMORY_MIB} MiB of memory"
    except RecursionError:
        return "failed", "it is nested too deeply"
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        return "failed", str(error)[:_LONGEST_REASON]
    if len(found) > MOST_TEXT:
        return "failed", f"the text exceeds {MOST_TEXT >> 20} Mi characters"
    return "text", found


if __name__ == "__main__":
    _main()
