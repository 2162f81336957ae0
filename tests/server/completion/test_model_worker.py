"""An answer is what encoding everything again gives: statements, doubts, second answers."""

from __future__ import annotations

import ast
import asyncio
import json.decoder
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lsprotocol.types import Position

from codegen.server.completion.prompts import FimFamily
from tests.server.conftest import change

SOURCE = Path(json.decoder.__file__).read_text()
SENTINELS = range(3)  # ids of the tiny model's special tokens
# Orders of prefix and suffix, with these for sentinels.
FAMILIES = {
    "prefix": None,
    "psm": FimFamily("psm", "<|endoftext|>{prefix}<|im_start|>{suffix}<|im_end|>"),
    "spm": FimFamily("spm", "<|endoftext|>{suffix}<|im_start|>{prefix}"),
    "spm with an end": FimFamily("spm", "<|im_start|>{suffix}<|endoftext|>{prefix}<|im_end|>"),
}


def with_family(model: Any, family: FimFamily | None) -> Any:
    """The model with prompts in another layout."""
    import copy

    from codegen.server.completion.prompts import Prompter

    twin = copy.copy(model)
    twin.family = family
    twin.prompter = Prompter(model.tokenizer, family, model.vocabulary, model.limit)
    return twin


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No idle time in which states are made exact."""
    from codegen.server.completion import schedule

    monkeypatch.setattr(schedule, "QUIET_S", 600.0)


@pytest.fixture(params=FAMILIES)
def served(request: pytest.FixtureRequest, tiny_model: Any, busy: None) -> Iterator[Any]:
    """An engine in one of the layouts."""
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.requests import ServerLimits

    model = with_family(tiny_model, FAMILIES[request.param])
    engine = CompletionEngine(model, ServerLimits(context_tokens=256))
    yield engine
    engine.stop()


def statements() -> list[tuple[int, int]]:
    """Where simple statements of the source begin (their lines) and end, by Python's parser."""
    starts = [0]
    for line in SOURCE.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    kinds = (ast.Assign, ast.Return, ast.Expr, ast.Raise, ast.Import, ast.ImportFrom)
    nodes = [node for node in ast.walk(ast.parse(SOURCE)) if isinstance(node, kinds)]
    return [(starts[n.lineno - 1], starts[(n.end_lineno or 0) - 1] + (n.end_col_offset or 0))
            for n in nodes]  # fmt: skip


@pytest.mark.parametrize("layout", FAMILIES)
def test_the_statement_at_the_cursor_is_found_in_every_layout(
    layout: str, tiny_model: Any, ask: Any
) -> None:
    rng = random.Random(0)
    model = with_family(tiny_model, FAMILIES[layout])
    joined = "total = first + \\\n    second + \\\n    third"
    cases = [(SOURCE[start:end], SOURCE[:start]) for start, end in statements()]
    for statement, before in [*cases, (joined, SOURCE[: SOURCE.index("class JSONDecodeError")])]:
        indent = len(statement) - len(statement.lstrip())
        typed = statement[: rng.randint(indent + 1, len(statement))]
        prompt = model.prompter.build(ask(before + typed, "\n" + SOURCE[:200]))
        start, end = prompt.statement
        found = model.tokenizer.decode(prompt.ids[start:end])
        wanted = typed[: len(typed) - len(model.tokenizer.decode(prompt.taken))]
        # A window may begin within a long statement; blanks of a line's start may be in the token
        # of the line break before it.
        if not start or prompt.ids[start - 1] in SENTINELS:
            assert wanted.endswith(found.lstrip())
        else:
            assert found.strip() == wanted.strip()


@pytest.mark.parametrize(
    ("language", "text", "statement"),
    [
        ("javascript", "function f(a) {\n  g();\n  return h({ x: 1,\n    y",
         "  return h({ x: 1,\n    y"),
        ("javascript", "f(() => {\n  g();\n  h(1, ", "  h(1, "),
        ("go", "func f() {\n\tx := T{\n\t\ta: 1,\n\t\tb", "\tx := T{\n\t\ta: 1,\n\t\tb"),
        ("java", "class A {\n  void f() {\n    g(1,\n      2", "    g(1,\n      2"),
        ("c", "#define F(x) \\\n  g(x) + \\\n  h", "#define F(x) \\\n  g(x) + \\\n  h"),
        ("rust", "fn f() {\n    let x = 1;\n    if x > 0 {\n        g(", "        g("),
        ("python", "x = {\n  'a': 1,\n  'b", "x = {\n  'a': 1,\n  'b"),
        ("python", "def f():\n    '''One.\n\n    Two", "    '''One.\n\n    Two"),
    ],
)  # fmt: skip
def test_statements_of_languages(language: str, text: str, statement: str) -> None:
    from codegen.server.completion.postprocess import scan

    assert text[scan(text, language).statement :] == statement


def edited(text: str, rng: random.Random) -> str:
    """Something inserted, deleted or renamed."""
    at = rng.randrange(len(text) + 1)
    return rng.choice(
        [
            text[:at] + "import sys\n" + text[at:],
            text[:at] + text[at + rng.randrange(60) :],
            text.replace("match", "found", rng.randint(1, 3)),
        ]
    )


async def test_after_any_edit_the_statement_was_encoded_in_the_text_that_is_there(
    served: Any, ask: Any
) -> None:
    rng = random.Random(1)

    for number in range(15):
        start, end = rng.choice(statements())
        cursor = rng.randint(start + 1, end)
        asked = ask(SOURCE[:cursor], SOURCE[cursor:], f"{number}", certain=False, max_tokens=2)
        await served.complete(asked)
        # The end of what is edited, and of the statement, are in the window.
        above = SOURCE[:start]
        asked = replace(asked, prefix=above[:-400] + edited(above[-400:], rng)
                        + SOURCE[start:cursor])  # fmt: skip
        await served.complete(asked)
        current = served.worker.caches.get(asked.key).cache.ledger.current
        prompt = served.source.prompter.build(served.within_limits(asked))
        assert current[slice(*prompt.statement)].all() and current[-1]


def always_in_doubt(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from codegen.decoding.editing import EditableCache

    monkeypatch.setattr(EditableCache, "in_doubt", lambda self, logits: not self.exact)


async def test_a_certain_answer_is_that_of_a_new_document(
    served: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_in_doubt(served, monkeypatch)
    rng = random.Random(2)

    certain = 0
    for number in range(8):
        cursor = rng.randrange(500, len(SOURCE))
        text, rest = SOURCE[cursor - 500 : cursor], SOURCE[cursor:]
        await served.complete(ask(text, rest, multiline="auto"))
        for step in range(3):
            at = rng.randrange(len(text) - 40)
            text = text[:at] + edited(text[at : at + 40], rng) + text[at + 40 :]
            got = await served.complete(ask(text, rest, multiline="auto"))
            new = ask(text, rest, f"new {number} {step}", multiline="auto")
            new = await served.complete(new)
            assert got.is_certain and new.is_certain and got.text == new.text
            certain += got.recomputed > 0
    assert certain > 3
    assert served.metrics.value("recomputed_in_request") >= certain


async def test_a_fast_answer_says_that_it_is_in_doubt_and_is_not_kept(
    served: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_in_doubt(served, monkeypatch)

    text = SOURCE[1000:1500]
    await served.complete(ask(text, "\n", multiline="auto"))
    asked = ask(text[:420] + "import sys\n" + text[420:], "\n", multiline="auto")
    fast = await served.complete(replace(asked, certain=False))
    assert not fast.is_certain and not fast.recomputed
    certain = await served.complete(asked)
    assert certain.is_certain and certain.recomputed and not certain.from_suggestion
    again = await served.complete(replace(asked, certain=False))
    assert again.is_certain and again.text == certain.text


async def test_a_stream_holds_back_what_is_in_doubt(
    served: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pieces are the answer's text, each once, though a doubt makes it be decoded again."""
    from codegen.decoding.editing import EditableCache

    checks = []

    def in_doubt(cache: Any, logits: Any) -> bool:
        checks.append(cache.exact)
        return not cache.exact and checks.count(False) == 4

    monkeypatch.setattr(EditableCache, "in_doubt", in_doubt)

    text = SOURCE[1000:1500]
    await served.complete(ask(text, "\n"))
    pieces: list[str] = []
    asked = ask(text[:450] + "x = 1\n" + text[450:], "\n", max_tokens=20)
    got = await served.complete(asked, pieces.append)
    await asyncio.sleep(0.01)
    assert checks.count(False) == 4 and got.recomputed
    new = await served.complete(ask(asked.prefix, "\n", "new", max_tokens=20))
    assert got.text == new.text
    assert got.text.startswith("".join(pieces)) or len(pieces) <= 3
    assert len("".join(pieces)) <= len(got.text)


def line_inserted(session: Any, uri: str, number: int, line: int) -> None:
    session.change(uri, number, [change(f"value_{number} = {number * 7}\n", (line, 0))])


async def test_a_change_that_no_request_follows_is_recomputed_in_idle_time(engine: Any) -> None:
    """As after a renaming: the next request finds its states exact and encodes what is new."""
    from codegen.server.editor.session import EditorSession

    session = EditorSession(engine.limits, engine=engine)

    uri, text = "a.py", SOURCE[1000:1500]
    session.open(uri, "python", 0, text)
    cursor = Position(text.count("\n"), 3)
    first = session.snapshot(uri, cursor, automatic=True)
    assert first is not None
    await session.complete(first, automatic=False)
    line_inserted(session, uri, 1, cursor.line - 4)
    cache = engine.worker.caches.get(first.request.key).cache
    cursor = Position(cursor.line + 1, 3)
    after = session.snapshot(uri, cursor, automatic=True)
    assert after is not None
    wanted = engine.source.prompter.build(engine.within_limits(after.request)).ids
    for _ in range(400):
        if cache.token_ids == wanted and cache.exact and engine.idle:
            break
        await asyncio.sleep(0.01)
    answer = await session.complete(after, automatic=False)
    assert answer is not None and answer.encoded <= 1 and answer.is_certain
    assert not answer.recomputed
