"""Signatures on the log of executions.

A log in a run's directory can come from anywhere. So each line is signed with a key that only this
user has (``executions.key`` in the cache folder, mode 0600). A line without a valid signature is
ignored, and its program runs again.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from codegen.errors import InputError
from codegen.paths import cache_folder, open_plain, partial_name

_KEY = "executions.key"
_BYTES = 32
_MAC = "mac"


class Signer:
    """Signs rows and checks signatures.

    Without a writable cache folder it accepts only what this process signed.
    """

    def __init__(self) -> None:
        self._key = _key(cache_folder() / _KEY)

    def sign(self, row: Mapping[str, Any]) -> str:
        """The row as one line of JSON, signed."""
        return json.dumps({**row, _MAC: self._mac(row)})

    def check(self, row: Any) -> dict[str, Any] | None:
        """A decoded line without its signature, or None if that is missing or wrong."""
        if not isinstance(row, dict) or not isinstance(row.get(_MAC), str):
            return None
        bare = {name: value for name, value in row.items() if name != _MAC}
        given = row[_MAC].encode("utf-8", "surrogatepass")
        return bare if hmac.compare_digest(given, self._mac(bare).encode()) else None

    def _mac(self, row: Mapping[str, Any]) -> str:
        text = json.dumps(row, sort_keys=True)
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _key(path: Path) -> bytes:
    """The user's key, made if there is none; a key for this process alone if it can't be kept."""
    for _ in range(2):
        with suppress(OSError, InputError):
            descriptor = open_plain(path, os.O_RDONLY)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(file.fileno())
                key = file.read(_BYTES + 1)
            is_mine = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
            if is_mine and len(key) == _BYTES:
                return key
            break
        with suppress(OSError, InputError):
            _make(path)
    return os.urandom(_BYTES)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(partial_name(path.name))
    try:
        with os.fdopen(open_plain(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
            f.write(os.urandom(_BYTES))
        with suppress(FileExistsError):  # another process was first: its key is everybody's
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)
