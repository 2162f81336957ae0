"""Settings as editors send them, and what is counted."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from lsprotocol.types import Position

from codegen.errors import ConfigError
from codegen.server.lsp import load_model
from codegen.server.metrics import Metrics
from codegen.server.requests import ServerLimits, Status
from codegen.server.session import Preferences, Session


@pytest.mark.parametrize("names", ["camelCase", "snake_case"])
def test_settings_in_either_spelling(names: str) -> None:
    given = {"maxTokens": 32, "delayMs": 0, "enabled": False, "languages": ["go"], "exclude": None}
    if names == "snake_case":
        given["max_tokens"], given["delay_ms"] = given.pop("maxTokens"), given.pop("delayMs")
    found, wrong = Preferences().updated(given, ServerLimits())
    wanted = {"max_tokens": 32, "delay_ms": 0, "enabled": False, "languages": ("go",)}
    assert found == Preferences(**{**Preferences().model_dump(), **wanted}) and not wrong


@pytest.mark.parametrize(
    ("name", "value"),
    [("maxTokens", 0), ("maxTokens", 513), ("maxTokens", "8"), ("maxTokens", True),
     ("candidates", 9), ("maxLines", 201), ("delayMs", -1), ("enabled", 1), ("multiline", "no"),
     ("exclude", "*.py"), ("exclude", [1]), ("colour", 1), ("context", ["everything"]),
     ("context", "edits"), ("contextShare", 0.6), ("contextShare", -0.1), ("workspaceFiles", 1)],
)  # fmt: skip
def test_a_wrong_setting_keeps_its_value_and_the_others_count(name: str, value: Any) -> None:
    old = Preferences(max_lines=5, candidates=2)
    found, wrong = old.updated({name: value, "languages": ["c"]}, ServerLimits())
    assert found == old.model_copy(update={"languages": ("c",)})
    assert len(wrong) == 1 and name in wrong[0]


def test_settings_that_are_none() -> None:
    assert Preferences().updated("on", ServerLimits()) == (Preferences(), [])
    names = [f"*.{number}" for number in range(200)]
    assert Preferences().updated({"exclude": names}, ServerLimits())[0].exclude == tuple(
        names[:100]
    )


def test_metrics() -> None:
    metrics = Metrics()
    metrics.count("completions")
    metrics.count("tokens_encoded", 40)
    metrics.gauge("documents", 3)
    for hundredth in range(1, 101):
        metrics.observe({"total": hundredth / 100})
    assert metrics.value("tokens_encoded") == 40 and metrics.value("failed") == 0
    assert metrics.quantile("total", 0.5) == 0.51 and metrics.quantile("queue", 0.5) is None
    text = metrics.prometheus()
    assert "codegen_tokens_encoded_total 40.0\n" in text and "codegen_documents 3.0\n" in text
    assert 'codegen_stage_seconds_bucket{le="0.25",stage="total"} 25.0\n' in text
    assert metrics.line() == "completions=1 tokens_encoded=40 | total_ms p50=510.0 p95=960.0"


def test_an_editor_sees_that_the_server_behind_is_still_starting() -> None:
    waiting, ready = Status("Warning", "Waiting.", busy=True), Status("Normal", "Ready.")
    model = SimpleNamespace(status=waiting, remote=True, on_status=lambda _: None)
    engine: Any = SimpleNamespace(model=model, limits=ServerLimits())
    session = Session(ServerLimits())
    seen: list[Status] = []

    async def run() -> None:
        session.start(seen.append)
        await load_model(session, lambda: engine)
        model.on_status(ready)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert seen[1:] == [waiting, ready]


@pytest.mark.parametrize("loads", [True, False])
def test_a_next_edit_waits_for_the_model(loads: bool) -> None:
    """A change made while the model is being loaded is not lost."""
    asked: list[Any] = []

    async def propose(engine: Any, *_: Any) -> str:
        asked.append(engine)
        return "the edit"

    edits: Any = SimpleNamespace(propose=propose, forget=lambda *_, **__: None)
    model = SimpleNamespace(status=Status("Normal", "Ready."), remote=False, on_status=None)
    engine: Any = SimpleNamespace(model=model, limits=ServerLimits(), close=lambda _: None)
    session = Session(ServerLimits(), next_edits=edits)

    def load() -> Any:
        if not loads:
            raise ConfigError("There is no such model.")
        return engine

    async def run() -> tuple[Any, Any]:
        session.open("file:///a.py", "python", 1, "x = 1\n")
        waiting = [
            asyncio.ensure_future(session.next_edit("file:///a.py", version, Position(0, 0)))
            for version in (0, 1)
        ]
        await asyncio.sleep(0)
        assert not asked and not any(task.done() for task in waiting)
        await load_model(session, load)
        old, current = await asyncio.wait_for(asyncio.gather(*waiting), 5)
        return old, current

    old, current = asyncio.run(run())
    session.files.close()
    assert old is None  # of a version that is no longer there
    assert (current, asked) == (("the edit", [engine]) if loads else (None, []))
    assert loads or session.status.kind == "Error"
