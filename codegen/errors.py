"""The public error hierarchy.

Every error that a user can cause is a :class:`CodegenError`. It names the wrong input and the
remedy; the command line prints it as one line, without a stack trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class CodegenError(Exception):
    """Base of all errors that a user's input or machine can cause.

    Args:
        message: what is wrong, with the input's name (path, record id, option, key).
        remedy: what to do next; printed after the message.

    Attributes:
        exit_code: of a command that ends with it: 1 failed, 2 misuse.
    """

    exit_code = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message} {remedy}".strip())


class InputError(CodegenError):
    """A file, record or value given by the user is missing or malformed."""


class ConfigError(CodegenError):
    """A recipe, option or configuration holds an unknown key or a value out of range."""

    exit_code = 2


def cannot_read(path: object, error: OSError) -> InputError:
    """The error for a file of the user that cannot be opened or read."""
    return InputError(
        f"Cannot read {path}: {error.strerror or error}.", "Check the path and its permissions."
    )


class Skip(Exception):
    """Raised by a generator for a sound example that the method can't use.

    Attributes:
        reason: a short stable word, by which the examples are counted.
        detail: what exactly is wrong; may be empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


class SkippedExample(CodegenError):
    """An example is sound, but not for this method: the data engine counts it by ``reason``.

    Attributes:
        reason: a short stable word to count by.
        detail: what is wrong, in a sentence.
    """

    subject = "The example is skipped"

    def __init__(self, reason: str, detail: str, remedy: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{self.subject} ({reason}): {detail}", remedy)

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # Exceptions are pickled by their message alone, which __init__ does not take.
        return type(self), (self.reason, self.detail, self.remedy)


class ResumeError(CodegenError):
    """An output directory was made with other settings; resuming would mix two runs."""


class ModelError(CodegenError):
    """A model cannot be found, loaded, or used for the purpose."""


class MachineError(CodegenError):
    """The machine cannot continue, whatever the input: a full disk, a tool that fails."""


class SandboxError(CodegenError):
    """The machine has no safe way to run untrusted programs, or the sandbox itself failed."""


def in_one_line(value: object, most: int = 300) -> str:
    """A library's words for the middle of a message: one line, cut, without a final period."""
    text = " ".join(str(value).split()).rstrip(".")
    return text if len(text) <= most else text[: most - 3] + "..."


def plural(count: int, noun: str) -> str:
    """``1 sample``, ``1,000 samples``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def nearest(word: object, known: Sequence[str]) -> str:
    """``Did you mean 'x'?`` for the known word nearest to ``word``, or nothing."""
    near = difflib.get_close_matches(str(word), known, n=1) if known else []
    return f"Did you mean {near[0]!r}?" if near else ""


def require_known(what: str, name: str, known: Iterable[str]) -> None:
    """Raises a :class:`ConfigError` for an unknown name of a ``what``, such as a style."""
    if name not in (names := list(known)):
        hint = f"{nearest(name, names)} Choose from: {', '.join(names)}.".lstrip()
        raise ConfigError(f"Unknown {what} {name!r}.", hint)
