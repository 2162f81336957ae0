"""Servers that the user has given a name: ``codegen models add`` and the file behind it.

The file is ``models.toml`` in the user's configuration directory (:func:`endpoints_file`). It may
be written by hand: one table for each name, with the fields of :class:`NamedEndpoint`::

    [qwen]
    url = "http://localhost:8080/v1"
    model = "qwen2.5-coder-7b"
    concurrency = 4

    [gpt]
    url = "https://api.openai.com/v1"
    model = "gpt-4.1-mini"
    api_key_env = "OPENAI_API_KEY"
    price_in = 0.4
    price_out = 1.6
    body = { reasoning_effort = "low", max_tokens = "null" }  # null removes a field

It never holds an API key, only the name of the environment variable that does: what looks like a
key is refused. A name cannot hold a slash, so ``./qwen`` is always a directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codegen.config import Config, parse_config, setting
from codegen.errors import ConfigError, InputError, ModelError, nearest
from codegen.generation.backends import Endpoint
from codegen.records import write_atomic

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NULL = "null"  # TOML has no null
# Have a meaning of their own in --model and `cogex run`.
_OWN_NAMES = ("embedded", "next-edit", "sqlnet", "new")


class EndpointSettings(Config):
    """How to call a server, and the prices of its responses."""

    api_key_env: str = setting("", "Environment variable that holds the API key.")
    price_in: float = setting(0.0, "Price of a million prompt tokens.", ge=0)
    price_out: float = setting(0.0, "Price of a million completion tokens.", ge=0)
    rpm: float = setting(0.0, "Maximum requests per minute; 0 for no limit.", ge=0)
    tpm: float = setting(0.0, "Maximum tokens per minute; 0 for no limit.", ge=0)
    concurrency: int = setting(8, "Requests in flight at once.", ge=1, le=1000)
    request_timeout: float = setting(120.0, "Time limit for one request in seconds.", gt=0)
    retries: int = setting(5, "Retries of a failed request.", ge=0)
    body: dict[str, Any] = setting(
        {},
        "Additional field of each request; null removes a field. Repeatable.",
        metavar="FIELD=JSON",
    )

    def _check(self) -> None:
        self.at("http://localhost", "any")

    def at(self, url: str, model: str, **more: Any) -> Endpoint:
        """The endpoint with these settings.

        Args:
            url, model: see :class:`Endpoint`.

        Raises:
            ConfigError: if a field does not fit.
        """
        settings = {name: getattr(self, name) for name in EndpointSettings.model_fields}
        body = tuple((name, json.dumps(value)) for name, value in settings.pop("body").items())
        timeout_s = settings.pop("request_timeout")
        return Endpoint(url, model, timeout_s=timeout_s, body=body, **settings, **more)


class _Address(Config):
    url: str = setting(
        ..., "Base URL of an OpenAI-compatible server, such as http://host/v1.", metavar="URL"
    )
    model: str = setting("", "Name of the model on that server.", shown="NAME")
    chat: bool | None = setting(
        None,
        "Whether the model is an instruction-tuned or a base model.",
        flags=("--chat/--text",),
        shown="chat",
    )


class NamedEndpoint(EndpointSettings, _Address):  # url comes first, in help and in the file
    """A table of ``models.toml``."""

    def _check(self) -> None:
        self.endpoint("any")

    def endpoint(self, name: str) -> Endpoint:
        """The endpoint that goes by a name."""
        style = "continue" if self.chat is False else "chat"
        return self.at(self.url, self.model or name, style=style)


def config_dir() -> Path:
    """``$CODEGEN_CONFIG``, else ``$XDG_CONFIG_HOME/codegen``, else ``~/.config/codegen``."""
    if path := os.environ.get("CODEGEN_CONFIG"):
        return Path(path)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "codegen"


def endpoints_file() -> Path:
    """The file with the named endpoints."""
    return config_dir() / "models.toml"


def named_endpoints() -> dict[str, NamedEndpoint]:
    """All named endpoints, in the file's order.

    Raises:
        InputError: if the file cannot be read.
        ConfigError: if a table is wrong; names the file and the key, and shows no value that may be
            an API key.
    """
    return {name: _parsed(name, table) for name, table in _read().items()}


def find_endpoint(name: str) -> NamedEndpoint | None:
    """The endpoint of a name; None if there is none. Raises as :func:`named_endpoints`."""
    if not _NAME.fullmatch(name) or name in _OWN_NAMES:
        return None
    table = _read().get(name)
    return None if table is None else _parsed(name, table)


def add_endpoint(name: str, endpoint: NamedEndpoint) -> Path:
    """Adds an endpoint to the file, or replaces the one of that name; comments are kept.

    Returns:
        The file, which only the user can read.

    Raises:
        ConfigError: if it cannot be a name.
        InputError: if the file cannot be read or written.
    """
    if not _NAME.fullmatch(name) or name in _OWN_NAMES:
        raise ConfigError(
            f"{name!r} cannot be the name of an endpoint.",
            f"Use letters, digits, '.', '_' and '-', and none of: {', '.join(_OWN_NAMES)}.",
        )
    table = endpoint.model_dump(exclude_defaults=True)
    if endpoint.body:
        table["body"] = {key: _NULL if v is None else v for key, v in endpoint.body.items()}
    return _put(name, table)


def remove_endpoint(name: str) -> Path:
    """Removes an endpoint from the file.

    Raises:
        ConfigError: if there is none of that name.
        InputError: if the file cannot be read or written.
    """
    if name not in (known := _read()):
        raise ConfigError(f"There is no endpoint {name!r}.", hint(name, known))
    return _put(name, None)


def check_name(name: str) -> None:
    """Refuses a name that is neither a named server, a path nor a hub id.

    Raises:
        ModelError: with the nearest name.
    """
    is_file = name.endswith(".gguf") or Path(name).exists()
    if is_file or name in _OWN_NAMES or not _NAME.fullmatch(name):
        return
    known = _read()
    if name not in known:
        raise ModelError(
            f"There is no model {name!r}.",
            f"{nearest(name, ['embedded', *known])} Give 'embedded', a directory, a hub id such as "
            "org/name, a GGUF file, or a name of `codegen models list`.".strip(),
        )


def hint(name: str, known: Mapping[str, Any]) -> str:
    """Which names there are, for an error."""
    listed = f"There are: {', '.join(known)}." if known else "Add it with `codegen models add`."
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
                    f"{where} holds {key!r}; API keys are never stored.",
                    "Put the key into an environment variable and name it with api_key_env.",
                )
        if isinstance(body := table.get("body"), dict):
            table["body"] = {key: None if value == _NULL else value for key, value in body.items()}
    return parse_config(NamedEndpoint, table, where)


def _put(name: str, table: dict[str, Any] | None) -> Path:
    """Writes the file with another table, or without it; comments and order are kept."""
    import tomlkit  # commands that only read the file do without

    path = endpoints_file()
    place = path.resolve()  # a link to where the user keeps such files is followed
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)  # what another process adds now is kept
            _read()  # a file that is not TOML was refused
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
