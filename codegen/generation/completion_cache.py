"""Content-addressed completion cache on disk, and the token counts of new completions.

:class:`CachedBackend` wraps any backend. Its cache is one SQLite file in WAL mode: several threads
and processes may use it at once, and entries survive a killed process. The key
(:func:`cache_key`) is a hash of everything that determines a completion, including a server's URL:
two servers may use one name for different models. The file stores requests only as this hash, and
the model's text in full. It never contains an API key.

:class:`CostLog` sums the tokens of a run's new completions over its processes.

Limits: SQLite's WAL needs a local file system, not NFS. A ledger file works on one machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

from codegen.core.errors import ConfigError, InputError
from codegen.core.generation import (
    Backend,
    Completion,
    Decoder,
    ModelSpec,
    Request,
    SamplingParams,
    request_seed,
)

_APPLICATION_ID = 0x43_47_52_43  # "CGRC"
_FORMAT = 2
_BUSY_S = 60.0

T = TypeVar("T")


def _of_backend(name: str) -> Any:
    return property(lambda self: getattr(self.backend, name), doc="The backend's value.")


class CachedBackend(Backend):
    """A model with cached and counted completions.

    Only completions by the decoder ``sample`` are cached; other decoders always use the backend.
    Duplicate requests in one call are sent once.

    Args:
        spec: the model, opened at the first uncached request.
        cache: the cache; None disables caching.
        ledger: the ledger for the tokens of new completions; None disables counting.
    """

    def __init__(
        self, spec: ModelSpec, cache: ResponseCache | None = None, ledger: CostLog | None = None
    ) -> None:
        self.spec, self.cache, self.ledger = spec, cache, ledger
        self.model = spec.model
        self._identity = spec.identity()
        if base := getattr(spec, "base", None):  # an Endpoint
            self._identity["url"] = base()

    @cached_property
    def backend(self) -> Backend:
        """The opened backend."""
        return self.spec.open()

    kind = _of_backend("kind")
    capabilities = _of_backend("capabilities")
    settings = _of_backend("settings")
    style = _of_backend("style")
    decoder = _of_backend("decoder")
    parameters = _of_backend("parameters")
    about = _of_backend("about")
    independent = _of_backend("independent")

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """Returns the backend's identity."""
        return self.backend.identity(decoder)

    def generate(self, requests, params, decoder, on_text=None):
        """Yields cached completions first, then the others as they finish. Reads all requests."""
        if decoder != Decoder():
            for completion in self.backend.generate(requests, params, decoder, on_text):
                self._count(completion)
                yield completion
            return
        missing: dict[bytes, list[tuple[int, Request]]] = {}
        for number, request in enumerate(requests):
            key = cache_key(self._identity, request, params)
            if key not in missing and self.cache and (kept := self.cache.get(key)):
                if self.ledger:
                    self.ledger.add(Totals(kept=1))
                if on_text:
                    on_text(number, kept.text)
                yield kept.completion(number, request, request_seed(params.seed, request))
            else:
                missing.setdefault(key, []).append((number, request))
        if not missing:
            return
        groups = list(missing.items())

        def on_new_text(at: int, text: str) -> None:
            for number, _ in groups[at][1]:
                if on_text:
                    on_text(number, text)

        first = [group[0][1] for _, group in groups]
        new = self.backend.generate(first, params, decoder, on_new_text if on_text else None)
        for completion in new:
            key, group = groups[completion.number]
            self._count(completion)
            if self.cache and not completion.error:
                self.cache.put(key, self.model, CachedAnswer.of(completion))
            for number, request in group:
                yield replace(completion, number=number, request=request)

    def _count(self, completion: Completion) -> None:
        new = Totals(
            0 if completion.error else 1,
            completion.prompt_tokens + completion.wasted[0],
            completion.completion_tokens + completion.wasted[1],
            retries=completion.retries,
        )
        if self.ledger and new != Totals():
            self.ledger.add(new)


def open_cached(spec: ModelSpec, cache_path: str = "", ledger_path: str = "") -> CachedBackend:
    """Opens a cached backend, one per process, model, cache and ledger; "" disables either.

    Raises:
        CodegenError: if the model does not exist or a file cannot be used.
    """
    return _opened(spec, cache_path, ledger_path, os.getpid())


@cache
def _opened(spec: ModelSpec, cache_path: str, ledger_path: str, _process: int) -> CachedBackend:
    kept = ResponseCache(cache_path) if cache_path else None
    ledger = CostLog(ledger_path) if ledger_path else None
    return CachedBackend(spec, kept, ledger)


def cache_key(identity: Mapping[str, Any], request: Request, params: SamplingParams) -> bytes:
    """Returns a completion's key: a hash of the model's identity, the request and the parameters.

    Args:
        identity: the model's identity, with a server's URL as ``url``.
    """
    seed = request_seed(params.seed, request) if request.seed is None else request.seed
    decides = {
        "prompt": request.prompt,
        "chat": request.chat,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": seed,
        "stop": request.stop,
    }
    if request.prefill:
        decides["prefill"] = request.prefill
    row = json.dumps([dict(identity), decides], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(row.encode("ascii")).digest()


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """A cached completion."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, made: Completion) -> CachedAnswer:
        """Converts a completion of plain sampling to a cache entry."""
        tokens = made.prompt_tokens, made.completion_tokens
        return cls(made.text, made.finish_reason, *tokens, made.meta)

    def completion(self, number: int, request: Request, seed: int) -> Completion:
        """Returns the entry as the completion of a request."""
        reason = self.finish_reason
        if reason not in ("eos", "length", "content_filter"):
            reason = "stop" if request.stop else "eos"
        return Completion(
            number,
            request,
            self.text,
            finish_reason=reason,
            seed=seed,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            meta=self.meta,
            cached=True,
        )


class ResponseCache:
    """Completions on disk, by key; a context manager.

    Raises (each method):
        InputError: if the file is corrupt, not a cache, or not writable.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"Cannot create the directory of the response cache {self.path}: {error.strerror}.",
                "Choose another --cache.",
            ) from None
        self._connection = self._try(self._open)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            _set_up(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def get(self, key: bytes) -> CachedAnswer | None:
        """Returns the entry of a key, None if absent."""
        query = "SELECT answer, prompt_tokens, completion_tokens FROM responses WHERE key = ?"
        with self._lock:
            row = self._try(lambda: self._connection.execute(query, (key,)).fetchone())
        if row is None:
            return None
        try:
            text, finish_reason, meta = json.loads(row[0])
        except (ValueError, TypeError) as error:
            raise self._damaged(error) from None
        return CachedAnswer(text, finish_reason, row[1], row[2], meta)

    def put(self, key: bytes, model: str, found: CachedAnswer) -> None:
        """Stores an entry unless its key exists; skips empty text, a possible server error."""
        if not found.text:
            return
        # Lone surrogates, which SQLite's text cannot represent, survive as JSON escapes.
        row = json.dumps([found.text, found.finish_reason, found.meta])
        values = (key, model, row, found.prompt_tokens, found.completion_tokens, time.time())
        statement = "INSERT OR IGNORE INTO responses VALUES (?, ?, ?, ?, ?, ?)"
        with self._lock:
            self._try(lambda: self._connection.execute(statement, values))

    def totals(self) -> Totals:
        """Returns sums over all entries."""
        query = "SELECT count(*), total(prompt_tokens), total(completion_tokens) FROM responses"
        with self._lock:
            row = self._try(lambda: self._connection.execute(query).fetchone())
        return Totals(*map(int, row))

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> ResponseCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _try(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except sqlite3.OperationalError as error:
            raise InputError(
                f"The response cache {self.path} cannot be used: {error}.",
                "Use a writable file on a local disk with free space, or choose another --cache.",
            ) from None
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> InputError:
        return InputError(
            f"{self.path} is corrupt or not a response cache ({error}).",
            "Move it away, or choose another --cache.",
        )


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    """Creates the table in a new file; raises InputError for files that are not a cache."""
    # Count tables first: another process creates the table together with its version marks.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application, version = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("application_id", "user_version")
    )
    if tables and (application, version) != (_APPLICATION_ID, _FORMAT):
        raise InputError(
            f"{path} is an SQLite file, but not a response cache of this version.",
            "Choose another --cache.",
        )
    _enter_wal(connection)
    connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode a killed process loses nothing
    if not tables:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS responses (key BLOB PRIMARY KEY, model TEXT, answer TEXT, "
            "prompt_tokens INTEGER, completion_tokens INTEGER, at REAL)"
        )
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {_FORMAT}")
        connection.execute("COMMIT")


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switches to WAL; if two processes do so at once, SQLite reports "busy" to one of them."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY" or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of new answers, their tokens, cached answers (``kept``), and retries."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    kept: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Prices:
    """Prices per million tokens, in any currency."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < 1e6 and 0 <= self.completion < 1e6):
            raise ConfigError("Prices per million tokens must be in [0, 1000000).")

    @property
    def paid(self) -> bool:
        """True if any price is above 0."""
        return self.prompt > 0 or self.completion > 0

    def micros(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Returns the cost in millionths of the currency unit, rounded."""
        return round(prompt_tokens * self.prompt + completion_tokens * self.completion)


class CostLog:
    """A file to which each client appends a line per completion, new or cached.

    The sums are therefore correct with or without a cache, if runs share the cache, and if
    processes are killed. The file stays open, so deleting it early does no harm.

    Raises (each method):
        InputError: if the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error) from None

    def add(self, spent: Totals) -> None:
        """Adds counts to the sums."""
        line = " ".join(map(str, astuple(spent))) + "\n"
        try:
            os.write(self._file, line.encode("ascii"))  # a short line is appended whole
        except OSError as error:
            raise self._unusable(error) from None

    def _unusable(self, error: OSError) -> InputError:
        return InputError(
            f"Cannot count the model's tokens in {self.path}: {error.strerror}.",
            "Free some space, or set TMPDIR to another directory; then run the same command again.",
        )


def read_ledger(path: str | os.PathLike[str]) -> Totals:
    """Returns the sums of a ledger file so far."""
    lines = [list(map(int, line.split())) for line in Path(path).read_text("ascii").splitlines()]
    return Totals(*(sum(each) for each in zip(*lines, strict=True))) if lines else Totals()
