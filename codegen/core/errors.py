"""The public error hierarchy.

Every error that a user can cause is a :class:`CodegenError`. It names the wrong input and the
remedy; the command line prints it as one line, without a stack trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class CodegenError(Exception):
    """Base class of all errors that a user's input or machine can cause.

    Args:
        message: the problem, with the input's name (path, record id, option, key).
        remedy: the next step for the user, printed after the message.

    Attributes:
        exit_code: exit code of a command that fails with it: 1 failure, 2 misuse.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message} {remedy}".strip())


class InputError(CodegenError):
    """A file, record or value given by the user is missing or malformed."""


class ConfigError(CodegenError):
    """A recipe, option or configuration has an unknown key or a value out of range."""

    exit_code = 2


def cannot_read(path: object, error: OSError) -> InputError:
    """Returns the error for a user's file that cannot be opened or read."""
    return InputError(
        f"Cannot read {path}: {error.strerror or error}.", "Check the path and its permissions."
    )


class Skip(Exception):
    """Exception of a generator for a valid example that the method cannot use.

    Attributes:
        reason: a short stable word for counting.
        detail: the exact problem; may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class SkippedExample(CodegenError):
    """An example is valid but does not suit the method; the data engine counts it by ``reason``.

    Attributes:
        reason: a short stable word for counting.
        detail: the problem, in a sentence.
    """

    subject = "The example is skipped"

    def __init__(self, reason: str, detail: str, remedy: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{self.subject} ({reason}): {detail}", remedy)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exceptions are pickled with only their message, which __init__ does not accept.
        return type(self), (self.reason, self.detail, self.remedy)


class ResumeError(CodegenError):
    """An output directory was made with other settings; resuming would mix two runs."""


class ModelError(CodegenError):
    """A model cannot be found, loaded, or used for the purpose."""


class MachineError(CodegenError):
    """The machine cannot continue, regardless of the input: a full disk, a failing tool."""


class SandboxError(CodegenError):
    """The machine has no safe way to run untrusted programs, or the sandbox itself failed."""


def in_one_line(value: object, most: int = 300) -> str:
    """Formats a library's message within a sentence: one line, truncated, no final period."""
    text = " ".join(str(value).split()).rstrip(".")
    return text if len(text) <= most else text[: most - 3] + "..."


def plural(count: int, noun: str) -> str:
    """Formats a count with its noun: ``1 sample``, ``1,000 samples``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def nearest(word: object, known: Sequence[str]) -> str:
    """Returns ``Did you mean 'x'?`` for the nearest known word, or an empty string."""
    near = difflib.get_close_matches(str(word), known, n=1) if known else []
    return f"Did you mean {near[0]!r}?" if near else ""


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises a :class:`ConfigError` if ``name`` is unknown; ``what`` is its kind, such as style."""
    if name not in (names := list(known)):
        hint = f"{nearest(name, names)} Choose from: {', '.join(names)}.".lstrip()
        raise ConfigError(f"Unknown {what} {name!r}.", hint)
