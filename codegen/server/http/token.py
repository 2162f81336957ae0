"""The bearer token: new in every run, in a file that only its owner may read."""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from codegen.errors import InputError

_SHORTEST = 16


def new_token() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def write_token(path: Path, token: str) -> None:
    """Writes a token with mode 0600, replacing what was there.

    Raises:
        InputError: if the file can't be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"Cannot write the token to {path}: {error.strerror}.") from None


def read_token(path: Path) -> str:
    """Reads a token that the user keeps from run to run.

    Raises:
        InputError: if it can't be read, others may read it, or it is too short to be one.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read the token file {path}: {error}.") from None
    if mode & 0o077:
        raise InputError(f"Others may read the token file {path}.", f"Run: chmod 600 {path}")
    if len(text) < _SHORTEST or not text.isascii() or any(char.isspace() for char in text):
        raise InputError(
            f"The token in {path} must be one word of at least {_SHORTEST} ASCII characters."
        )
    return text


def same_token(given: str, token: str) -> bool:
    """Compares in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode("utf-8"))
