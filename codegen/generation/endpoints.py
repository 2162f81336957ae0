"""Settings of model servers, and the named servers in ``models.toml``.

:class:`Endpoint`, like :class:`codegen.generation.LocalModel`, is picklable: it returns its model's
identity without opening the model, and opens its backend.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tomllib
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.core import plugins
from codegen.core.config import Config, keyed, parse_config, setting
from codegen.core.errors import ConfigError, InputError, ModelError, nearest
from codegen.core.generation import Backend
from codegen.core.paths import write_atomic


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and a model on it.

    Attributes:
        url: base URL as for OpenAI's own client, ``http://localhost:8000/v1``; without a path
            ``/v1`` is added.
        api_key_env: name of the environment variable with the API key; empty: no key is sent.
        concurrency: requests in flight at once.
        timeout_s: time limit for one response in seconds.
        retries: retries of a request that failed temporarily; ten times as many if the server
            is too busy (429).
        backoff_s: mean wait before the first retry in seconds; doubles each time, up to a minute.
        longest_wait_s: maximum wait requested by a server in seconds; a longer one aborts the run.
        body: extra fields of the request body as (name, JSON); ``null`` removes a field.
            ``(("max_tokens", "null"), ("max_completion_tokens", "2000"))`` suits models that reject
            ``max_tokens``.
        price_in, price_out: prices per million prompt and completion tokens, in any currency.
        max_cost: cost of new completions after which no request is sent; 0 for no limit.
        style: default prompt style in evaluations.
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
    price_in: float = 0.0
    price_out: float = 0.0
    max_cost: float = 0.0
    style: str = "chat"

    def __post_init__(self) -> None:
        _check_url(self.url)
        _check_variable(self.api_key_env)
        if not self.model:
            raise ConfigError("No model is set.", "Choose one of the server's models with --model.")
        if self.concurrency < 1 or self.retries < 0 or self.backoff_s < 0 or self.timeout_s <= 0:
            raise ConfigError(
                "concurrency and timeout must be above 0, retries and backoff at least 0."
            )
        if self.max_cost and not (self.price_in or self.price_out):
            raise ConfigError(
                "A cost limit requires prices.",
                "Pass -o price_in=X and -o price_out=X, per million tokens.",
            )
        for name in self.extra():
            if name in _OWN_FIELDS:
                raise ConfigError(
                    f"The body field {name!r} is set by each request; it cannot be replaced.",
                    "Remove it from the body."
                    + (" Choose the model with --model." if name == "model" else "")
                    + (" Set the number of samples with -n." if name == "n" else ""),
                )
            if _SECRET_FIELD.fullmatch(name):
                raise ConfigError(
                    f"The body field {name!r} would store a secret.",
                    "Pass the name of the key's environment variable with --api-key-env.",
                )

    def identity(self) -> dict[str, Any]:
        """Returns the settings that determine the completions, without the URL, since a server may
        move.
        """
        return {"model": self.model, "body": self.extra()}

    def open(self) -> Backend:
        """Returns the backend.

        Raises:
            ConfigError: if the key is not set.
        """
        return plugins.load("backends", "openai")(self)

    def base(self) -> str:
        """Returns the base URL of the routes."""
        parts = urllib.parse.urlsplit(self.url)
        path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/chat") or "/v1"
        return urllib.parse.urlunsplit(parts._replace(path=path))

    def extra(self) -> dict[str, Any]:
        """Returns the extra body fields, decoded."""
        fields = {}
        for name, value in self.body:
            try:
                fields[name] = json.loads(value)
            except ValueError:
                raise ConfigError(
                    f"The body field {name!r} has the value {value!r}, which is not JSON.",
                    "Write strings in quotes, as in -o body.reasoning_effort='\"low\"'.",
                ) from None
        return fields

    def api_key(self) -> str:
        """Returns the key from the environment, or "" without ``api_key_env``.

        Raises:
            ConfigError: if the variable is not set or cannot be a key. Its value is not shown.
        """
        if not self.api_key_env:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            what = "does not contain an API key" if key else "is not set"
            raise ConfigError(
                f"The environment variable {self.api_key_env} {what}.",
                "Set it to the endpoint's API key, or remove --api-key-env.",
            )
        return key


_OWN_FIELDS = ("messages", "prompt", "model", "stream", "stream_options", "n")
_SECRET_FIELD = re.compile(
    r"(?i)(x-)?api[-_]?key|(access|auth)[-_]?token|authorization|password|secret"
)
_IS_MIXED = re.compile(r"[a-z][A-Z]|(\d.*){3}")


def _check_variable(name: str) -> None:
    """Rejects invalid variable names, and likely API keys without showing them.

    Raises:
        ConfigError: if the name is invalid or may be a key.
    """
    is_name = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    if name and (
        not is_name or (len(name) >= 20 and not name.isupper() and _IS_MIXED.search(name))
    ):
        raise ConfigError(
            "--api-key-env must be an environment variable's name, but looks like an API key.",
            "Put the key into a variable (export MY_KEY=...) and pass its name: "
            "--api-key-env MY_KEY.",
        )


def _check_url(url: str) -> None:
    """Rejects URLs that are not HTTP or contain secrets, since manifests record them.

    Raises:
        ConfigError: if the URL is rejected; shows no password.
    """
    parts = _parts(url)
    if parts is None:
        raise ConfigError(
            f"The endpoint {url.rpartition('@')[2]!r} is not an http or https URL.",
            "Pass its base URL, such as http://localhost:8000/v1.",
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"The endpoint at {parts.hostname} has a user, a query or a fragment in its URL.",
            "Pass the bare URL, and the key's environment variable with --api-key-env.",
        )


def _parts(url: str) -> urllib.parse.SplitResult | None:
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return None
    return parts if parts.scheme in ("http", "https") and parts.hostname else None


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NULL = "null"  # TOML has no null


def _own_names() -> tuple[str, ...]:
    """Returns the reserved names in --model and `cogex run`."""
    from codegen.models.pretrained import MODELS, NEXT_EDITS

    return (*MODELS, *NEXT_EDITS, "sqlnet", "new")


class EndpointSettings(Config):
    """Request settings and prices of a server."""

    api_key_env: str = setting("", "Environment variable with the API key.")
    concurrency: int = setting(8, "Maximum concurrent requests.", ge=1, le=1000)
    price_in: float = keyed(0.0, "Price per million prompt tokens.", ge=0)
    price_out: float = keyed(0.0, "Price per million completion tokens.", ge=0)
    request_timeout: float = keyed(120.0, "Time limit for one request in seconds.", gt=0)
    retries: int = keyed(5, "Retries of a failed request.", ge=0)
    body: dict[str, Any] = keyed(
        {}, "Additional fields of each request, as JSON; null removes a field."
    )

    def _check(self) -> None:
        self.at("http://localhost", "any")

    def at(self, url: str, model: str, **more: Any) -> Endpoint:
        """Returns the endpoint with these settings.

        Args:
            url, model, more: see :class:`Endpoint`.

        Raises:
            ConfigError: if a field is invalid.
        """
        settings = {name: getattr(self, name) for name in EndpointSettings.model_fields}
        body = tuple((name, json.dumps(value)) for name, value in settings.pop("body").items())
        timeout_s = settings.pop("request_timeout")
        return Endpoint(url, model, timeout_s=timeout_s, body=body, **settings, **more)


class _Address(Config):
    url: str = setting(
        ..., "Base URL of an OpenAI-compatible server, such as http://host/v1.", metavar="URL"
    )
    model: str = setting("", "Name of the model on the server.", shown="NAME")
    chat: bool | None = setting(
        None,
        "Use the model as an instruction-tuned or a base model.",
        flags=("--chat/--text",),
        shown="chat",
    )


class NamedEndpoint(EndpointSettings, _Address):  # url comes first, in help and in the file
    """A table of ``models.toml``."""

    def _check(self) -> None:
        self.endpoint("any")

    def endpoint(self, name: str) -> Endpoint:
        """Returns the endpoint with this name."""
        style = "continue" if self.chat is False else "chat"
        return self.at(self.url, self.model or name, style=style)


def config_dir() -> Path:
    """Returns ``$CODEGEN_CONFIG``, ``$XDG_CONFIG_HOME/codegen`` or ``~/.config/codegen``."""
    if path := os.environ.get("CODEGEN_CONFIG"):
        return Path(path)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "codegen"


def endpoints_file() -> Path:
    """Returns the path of the file with the named endpoints."""
    return config_dir() / "models.toml"


def named_endpoints() -> dict[str, NamedEndpoint]:
    """Returns all named endpoints, in the file's order.

    Raises:
        InputError: if the file cannot be read.
        ConfigError: if a table is invalid; names the file and key, and shows no value that may be
            an API key.
    """
    return {name: _parsed(name, table) for name, table in _read().items()}


def find_endpoint(name: str) -> NamedEndpoint | None:
    """Returns a named endpoint, None if absent. Raises as :func:`named_endpoints`."""
    if not _NAME.fullmatch(name) or name in _own_names():
        return None
    table = _read().get(name)
    return None if table is None else _parsed(name, table)


def add_endpoint(name: str, endpoint: NamedEndpoint) -> Path:
    """Adds an endpoint to the file, or replaces the one with that name; keeps comments.

    Returns:
        The file, readable only by the user.

    Raises:
        ConfigError: if the name is invalid.
        InputError: if the file cannot be read or written.
    """
    if not _NAME.fullmatch(name) or name in _own_names():
        raise ConfigError(
            f"{name!r} is not a valid endpoint name.",
            f"Use letters, digits, '.', '_' and '-'; reserved names: {', '.join(_own_names())}.",
        )
    table = endpoint.model_dump(exclude_defaults=True)
    if endpoint.body:
        table["body"] = {key: _NULL if v is None else v for key, v in endpoint.body.items()}
    return _put(name, table)


def remove_endpoint(name: str) -> Path:
    """Removes an endpoint from the file.

    Raises:
        ConfigError: if no endpoint has that name.
        InputError: if the file cannot be read or written.
    """
    if name not in (known := _read()):
        raise ConfigError(f"Unknown endpoint {name!r}.", hint(name, known))
    return _put(name, None)


def check_name(name: str) -> None:
    """Checks that a name is a named server, a path or a hub id.

    Raises:
        ModelError: if it is none of these; suggests the nearest name.
    """
    is_file = name.endswith(".gguf") or Path(name).exists()
    if is_file or name in _own_names() or not _NAME.fullmatch(name):
        return
    known = _read()
    if name not in known:
        raise ModelError(
            f"Unknown model {name!r}.",
            f"{nearest(name, [*_own_names(), *known])} Pass a directory, a hub id (org/name), "
            "a GGUF file, or a name from `codegen models list`.".strip(),
        )


def hint(name: str, known: Mapping[str, Any]) -> str:
    """Returns an error's remedy: the nearest name and the known names."""
    listed = f"Known names: {', '.join(known)}." if known else "Add it with `codegen models add`."
    return f"{nearest(name, list(known))} {listed}".strip()


def _text() -> str:
    path = endpoints_file()
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not valid UTF-8.") from None


def _read() -> dict[str, Any]:
    try:
        return tomllib.loads(_text())
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{endpoints_file()} is not valid TOML: {error}.") from None


def _parsed(name: str, table: Any) -> NamedEndpoint:
    where = f"{endpoints_file()}, [{name}]"
    if isinstance(table, dict):
        for key in ("api_key", "key", "token"):
            if key in table:
                raise ConfigError(
                    f"{where} contains {key!r}; API keys are never stored.",
                    "Put the key into an environment variable and set api_key_env to its name.",
                )
        if isinstance(body := table.get("body"), dict):
            table["body"] = {key: None if value == _NULL else value for key, value in body.items()}
    return parse_config(NamedEndpoint, table, where)


def _put(name: str, table: dict[str, Any] | None) -> Path:
    """Writes the file with a table replaced, or removed if None; keeps comments and order."""
    import tomlkit  # not needed to read the file

    path = endpoints_file()
    place = path.resolve()  # follow links
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)  # protects concurrent additions
            _read()  # raises if it is not TOML
            document = tomlkit.parse(_text())
            if table is not None:
                document[name] = table
            else:
                document.pop(name, None)
            write_atomic(place, tomlkit.dumps(document), mode=0o600)
        finally:
            os.close(directory)
    except OSError as error:
        raise InputError(
            f"Cannot write {path}: {error.strerror}.",
            "Set CODEGEN_CONFIG to a writable directory.",
        ) from None
    return path
