"""Which OpenAI-compatible server and model to ask, and how patiently."""

from __future__ import annotations

import json
import os
import urllib.parse
from dataclasses import dataclass
from typing import Any

from codegen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and a model on it.

    Attributes:
        url: base URL as OpenAI's own client takes it, ``http://localhost:8000/v1``; without a path
            ``/v1`` is added.
        model: the model's name on that server.
        api_key_env: name of the environment variable with the API key; empty: no key is sent.
        concurrency: requests in flight at once.
        timeout_s: for one request.
        retries: further tries of a request that failed for a while; ten times as many where the
            server says that it is too busy (429).
        backoff_s: mean wait before the first of them; it doubles each time, up to a minute.
        longest_wait_s: a server that asks to wait longer ends the run.
        body: further fields of the request's body as (name, JSON); ``null`` takes a field out.
            ``(("max_tokens", "null"), ("max_completion_tokens", "2000"))`` suits models that refuse
            ``max_tokens``.
    """

    url: str
    model: str
    api_key_env: str = ""
    concurrency: int = 8
    timeout_s: float = 120.0
    retries: int = 5
    backoff_s: float = 1.0
    longest_wait_s: float = 300.0
    body: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_url(self.url)
        if not self.model:
            raise ConfigError("No model is named.", "Name one of the server's models with --model.")
        if self.concurrency < 1 or self.retries < 0 or self.backoff_s < 0 or self.timeout_s <= 0:
            raise ConfigError(
                "concurrency and timeout must be above 0, retries and backoff at least 0."
            )
        self.extra()

    def identity(self) -> dict[str, Any]:
        """What decides the answers: not the URL, since one server has many."""
        return {"model": self.model, "body": self.extra()}

    def url_of(self, kind: str) -> str:
        """The URL of ``chat`` or ``text`` completions."""
        parts = urllib.parse.urlsplit(self.url)
        base = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat") or "/v1"
        path = base + ("/chat/completions" if kind == "chat" else "/completions")
        return urllib.parse.urlunsplit(parts._replace(path=path))

    def extra(self) -> dict[str, Any]:
        """The further fields, decoded."""
        fields = {}
        for name, value in self.body:
            try:
                fields[name] = json.loads(value)
            except ValueError:
                raise ConfigError(
                    f"The body field {name!r} has the value {value!r}, which is not JSON.",
                    "Write strings in quotes, as in --body reasoning_effort='\"low\"'.",
                ) from None
        return fields

    def api_key(self) -> str:
        """The key, from the environment.

        Raises:
            ConfigError: if the variable is not set or can't be a key. Its value is not shown.
        """
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            what = "holds no API key" if key else "is not set"
            raise ConfigError(
                f"The environment variable {self.api_key_env} {what}.",
                "Set it to the endpoint's API key, or leave out --api-key-env.",
            )
        return key


def _check_url(url: str) -> None:
    """Refuses what is no HTTP URL, and secrets in it: it stands in manifests.

    Raises:
        ConfigError: without showing a password.
    """
    parts = _parts(url)
    if parts is None:
        raise ConfigError(
            f"The endpoint {url.rpartition('@')[2]!r} is no http or https URL.",
            "Give its base URL, such as http://localhost:8000/v1.",
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"The endpoint at {parts.hostname} has a user, a query or a fragment in its URL.",
            "Give the bare URL; name the variable with the key with --api-key-env.",
        )


def _parts(url: str) -> urllib.parse.SplitResult | None:
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises if it is no number
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None
