"""The server's limits and defaults, all in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from codegen.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask for, and what the server holds.

    Attributes:
        context_tokens: of a prompt; what stands farther from the cursor is left out.
        max_tokens: of one completion.
        candidates: for one request.
        document_chars: of a document; larger ones get no completions.
        body_bytes: of an HTTP request, and of an LSP message.
        documents: open ones whose caches are kept.
        cache_bytes: keys and values of all documents together; the least recently used go first.
        queue: waiting requests.
        requests_per_s: of one client, on average; ``burst`` at once.
        burst: see there.
        together: requests that run at the same time, in passes of the model that they share.
        deadline_s: longest time for one request; what there is then is the answer.
        read_s: longest time for a client to send its request.
    """

    context_tokens: int = 1024
    max_tokens: int = 512
    candidates: int = 8
    document_chars: int = 4_000_000
    body_bytes: int = 8_000_000
    documents: int = 64
    cache_bytes: int = 1 << 30
    queue: int = 64
    requests_per_s: float = 50.0
    burst: int = 100
    together: int = 8
    deadline_s: float = 20.0
    read_s: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigError(f"{field.name} must be above 0.")


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a user sets in the editor.

    Attributes:
        enabled: whether anything is suggested.
        max_tokens: of a suggestion.
        max_lines: of a suggestion.
        candidates: for an explicit request; an automatic one gets one.
        multiline: ``auto``, ``never`` or ``always``.
        delay_ms: longest wait of an automatic request while one types.
        languages: only these, if any are named.
        exclude: patterns of paths that get no suggestions.
    """

    enabled: bool = True
    max_tokens: int = 64
    max_lines: int = 12
    candidates: int = 3
    multiline: str = "auto"
    delay_ms: int = 80
    languages: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def updated(self, given: Any, limits: Limits) -> tuple[Preferences, list[str]]:
        """These with an editor's settings (camelCase or snake_case), and what was wrong in them.

        What is wrong keeps its value: a typo must not end the suggestions.
        """
        wrong: list[str] = []
        if not isinstance(given, dict):
            return self, []
        names = {_camel(field.name): field.name for field in fields(self)}
        names |= {name: name for name in names.values()}
        found: dict[str, Any] = {}
        for key, value in given.items():
            name = names.get(key)
            if name is None:
                wrong.append(f"unknown setting {str(key)[:40]!r}")
            elif value is None:
                continue
            elif (read := _read(name, value, getattr(self, name), limits)) is None:
                wrong.append(f"setting {key!r} has the wrong value {str(value)[:40]!r}")
            else:
                found[name] = read
        return replace(self, **found), wrong


_MOST = {"max_lines": 200, "delay_ms": 2000}


def _read(name: str, value: Any, old: Any, limits: Limits) -> Any:
    """A value of the right type and range, None for another."""
    if isinstance(old, bool):
        return value if isinstance(value, bool) else None
    if isinstance(old, int):
        most = _MOST.get(name) or getattr(limits, name)
        least = 0 if name == "delay_ms" else 1
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return value if is_number and least <= value <= most else None
    if isinstance(old, str):
        return value if value in ("auto", "never", "always") else None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value[:100])
    return None


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)
