"""Settings as editors send them, and what is counted."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from codegen.server.completion.requests import ServerLimits, Status
from codegen.server.editor.lsp import load_model
from codegen.server.editor.session import EditorSession, EditorSettings


@pytest.mark.parametrize("names", ["camelCase", "snake_case"])
def test_settings_in_either_spelling(names: str) -> None:
    given = {"maxTokens": 32, "delayMs": 0, "enabled": False, "languages": ["go"], "exclude": None}
    if names == "snake_case":
        given["max_tokens"], given["delay_ms"] = given.pop("maxTokens"), given.pop("delayMs")
    found, wrong = EditorSettings().updated(given, ServerLimits())
    wanted: dict[str, Any] = {"max_tokens": 32, "delay_ms": 0, "enabled": False}
    wanted["languages"] = ("go",)
    assert found == EditorSettings(**{**EditorSettings().model_dump(), **wanted}) and not wrong


@pytest.mark.parametrize(
    ("name", "value"),
    [("maxTokens", 0), ("maxTokens", 513), ("maxTokens", "8"), ("maxTokens", True),
     ("candidates", 9), ("maxLines", 201), ("delayMs", -1), ("enabled", 1), ("multiline", "no"),
     ("exclude", "*.py"), ("exclude", [1]), ("colour", 1), ("context", ["everything"]),
     ("context", "edits"), ("contextShare", 0.6), ("contextShare", -0.1), ("workspaceFiles", 1)],
)  # fmt: skip
def test_a_wrong_setting_keeps_its_value_and_the_others_count(name: str, value: Any) -> None:
    old = EditorSettings(max_lines=5, candidates=2)
    found, wrong = old.updated({name: value, "languages": ["c"]}, ServerLimits())
    assert found == old.model_copy(update={"languages": ("c",)})
    assert len(wrong) == 1 and name in wrong[0]


async def test_an_editor_sees_that_the_server_behind_is_still_starting() -> None:
    waiting, ready = Status("Warning", "Waiting.", busy=True), Status("Normal", "Ready.")
    model = SimpleNamespace(status=waiting, remote=True, on_status=lambda _: None)
    engine: Any = SimpleNamespace(source=model, limits=ServerLimits())
    session = EditorSession(ServerLimits())
    seen: list[Status] = []

    session.start(seen.append)
    await load_model(session, lambda: engine)
    model.on_status(ready)
    await asyncio.sleep(0)
    assert seen[1:] == [waiting, ready]
