"""``codegen serve mcp`` as agents use it: the SDK's own client, and a server in its own process."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="needs the mcp extra")

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from codegen.core.errors import InputError
from codegen.core.records import Sample, Segment, TrainingText, to_json, write_jsonl
from codegen.server.mcp import MOST_RESULT, AgentPermissions, Tools, bounded, make_server
from tests.databases import sqlite_file

Call = Callable[..., Coroutine[Any, Any, tuple[bool, Any]]]

TASK = """\
about: adding
problems: rows.jsonl
id: number
prompt: |
  Write add{{ number }}(x).
entry_point: name
tests: |
  assert {{ name }}(1) == 1 + {{ number }}
solution: code
"""


def sample(number: int, program: str) -> Sample:
    return Sample(
        "file:TASK", str(number), 0, "p", program, "stop", {"model": "m"}, 0, 1, 1,
        meta={"style": "completion"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with data, an own task and a run of it; beside it what nobody may see."""
    place = tmp_path_factory.mktemp("mcp")
    root = place / "root"
    data = root / "data"
    data.mkdir(parents=True)
    texts = [
        TrainingText(f"t{i}", f"e{i}", "whole", (Segment("say", False), Segment("x" * 9000, True)))
        for i in range(5)
    ]
    write_jsonl(data / "texts.jsonl", texts)
    rows = [{"number": i, "name": f"add{i}", "code": f"def add{i}(x):\n    return x + {i}\n"}
            for i in range(3)]  # fmt: skip
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "task.yaml").write_text(TASK)
    for name in ("leak.yaml", ".yaml"):
        (root / name).write_text(TASK.replace("rows.jsonl", "../secret/texts.jsonl"))
    run = root / "run"
    run.mkdir()
    programs = [rows[0]["code"], "def add1(x):\n    return x\n", rows[2]["code"]]
    named = f"file:{root.resolve() / 'task.yaml'}"
    settings = {"task": named, "model": "m", "n": 1, "problems": 3}
    (run / "run.json").write_text(json.dumps({"settings": settings}))
    lines = [
        to_json(sample(i, str(program))).replace("file:TASK", named)
        for i, program in enumerate(programs)
    ]
    (run / "samples.jsonl").write_text("".join(line + "\n" for line in lines))
    secret = place / "secret"
    secret.mkdir()
    write_jsonl(secret / "texts.jsonl", texts[:1])
    (root / "link").symlink_to(secret)
    bad = root / "bad"
    bad.mkdir()
    (bad / "samples.jsonl").symlink_to(secret / "texts.jsonl")
    sqlite_file(
        place / "shop.db",
        "CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);"
        "CREATE TABLE orders"
        " (id INTEGER PRIMARY KEY, customer_id INTEGER REFERENCES customers, status TEXT);",
        customers=[(1, "Ann", "Rome"), (2, "Bo", "Oslo")],
        orders=[(1, 1, "pending"), (2, 2, "pending"), (3, 1, "sent")],
    )
    return place


def parameters(place: Path, *more: str) -> StdioServerParameters:
    words = ["-m", "codegen", "serve", "mcp", "--root", str(place / "root")]
    words += ["--database", f"shop={place / 'shop.db'}", *more]
    return StdioServerParameters(
        command=sys.executable,
        args=words,
        env={"CODEGEN_CACHE": str(place / "cache"), "PATH": os.environ["PATH"]},
    )


@asynccontextmanager
async def connected(server: Any) -> AsyncIterator[tuple[Client, Call]]:
    async with Client(server) as client:

        async def call(name: str, **arguments: Any) -> tuple[bool, Any]:
            """Whether it went well, and the result or the error's line."""
            found = await client.call_tool(name, arguments)
            if found.is_error:
                (content,) = found.content
                return False, getattr(content, "text", "")
            assert len(json.dumps(found.structured_content)) <= MOST_RESULT
            return True, found.structured_content

        yield client, call


async def test_an_agent_reads_data_and_runs_and_runs_programs(place: Path) -> None:
    async with connected(parameters(place)) as (client, call):
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert {"data_inspect", "run_read", "judge_code", "sql_ask"} <= {*tools}
        assert not {"eval_run", "complete_code"} & {*tools}  # no model was granted
        for tool in tools.values():
            assert 20 < len(tool.description or "") < 400
            for field in tool.input_schema["properties"].values():
                assert field["description"]
        assert tools["sql_ask"].annotations and tools["sql_ask"].annotations.read_only_hint

        ok, found = await call("data_inspect", path="data/texts.jsonl", number=2)
        assert ok and len(found["texts"]) == 2
        assert found["cut"] and "[cut: 5000 more characters]" in json.dumps(found)
        ok, found = await call("runs_list")
        assert ok
        (row,) = found["runs"]
        assert (row["folder"], row["state"]) == (str(place / "root/run"), "done")
        ok, found = await call("run_read", path="run", number=5)
        assert ok and [row["problem_id"] for row in found["samples"]] == ["0", "1", "2"]
        assert (found["kind"], found["settings"]["model"]) == ("evaluation", "m")

        ok, found = await call("run_code", program="print(int(input()) + 1)", stdin="41")
        assert (ok, found["stdout"], found["status"]) == (True, "42\n", "passed")
        hidden = str(place / "secret/texts.jsonl")
        ok, found = await call("run_code", program=f"print(open({hidden!r}).read())")
        assert ok and found["status"] == "exited" and "FileNotFoundError" in found["stderr"]
        ok, found = await call("judge_code", program="def f(): return 1", test="assert f() == 2")
        assert (ok, found["passed"]) == (True, False)

        for arguments, said in (
            ({"path": "../secret/texts.jsonl"}, "outside of this server"),
            ({"path": str(place / "secret")}, "outside of this server"),
            ({"path": "link/texts.jsonl"}, "outside of this server"),
            ({"path": "/etc/passwd"}, "outside of this server"),
            ({"path": "no\0thing"}, "outside of this server"),
            ({"path": "nothing"}, "not found"),
            ({"path": "data", "number": 10**6}, "number"),
            ({}, "path"),
        ):
            ok, line = await call("data_inspect", **arguments)
            assert not ok and said in line and "\n" not in line, arguments
        ok, line = await call("run_read", path="bad")
        assert not ok and "symbolic link" in line
        ok, line = await call("eval_score", path="run", task="file:../secret/t.yaml")
        assert not ok and "outside of this server" in line
        for name in ("leak.yaml", ".yaml"):
            ok, line = await call("eval_score", path="run", task=f"file:{name}")
            assert not ok and "outside of this server" in line, name
        ok, line = await call("no_such_tool")
        assert not ok and "no_such_tool" in line


@pytest.mark.long
async def test_an_agent_scores_asks_and_evaluates(place: Path, tiny_model_dir: Path) -> None:
    server = parameters(place, "--model", str(tiny_model_dir))
    async with connected(server) as (_, call):
        ok, found = await call("eval_score", path="run")
        assert ok, found
        assert found["estimates"]["1"]["value"] == pytest.approx(2 / 3)
        ok, found = await call("run_read", path="run", only="failed")
        assert ok and [row["problem_id"] for row in found["samples"]] == ["1"]

        ok, found = await call("sql_ask", database="shop", question="how many orders are pending?")
        assert ok and (found["status"], found["rows"]) == ("answered", [[2]])
        ok, found = await call("sql_ask", database="shop", question="who are our best customers?")
        assert ok and found["status"] == "not_answered" and "rows" not in found
        assert "best" in found["reason"]

        wanted = {"task": "file:task.yaml", "out": "new", "max_new_tokens": 4}
        ok, plan = await call("eval_run", **wanted)
        assert ok and (plan["started"], plan["plan"]["samples"]) == (False, 3)
        assert not (place / "root/new").exists()
        ok, found = await call("eval_run", **(wanted | {"n": 200}), confirm=plan["confirm"])
        assert not ok and "limit of 500" in found  # more than was planned, and than is allowed
        ok, found = await call("eval_run", **wanted, confirm=plan["confirm"])
        assert ok and found["started"], found
        assert len((place / "root/new/samples.jsonl").read_text().splitlines()) == 3
        ok, found = await call("eval_run", **(wanted | {"out": "../new"}))
        assert not ok and "outside of this server" in found

        ok, found = await call("complete_code", prefix="def f(x):\n    return ")
        assert ok and isinstance(found["candidates"], list)
        ok, found = await call("complete_code", prefix="KEY=", path=".env")
        assert not ok and "secrets" in found


@pytest.mark.long
def test_over_http_a_token_is_needed(place: Path) -> None:
    words = [*parameters(place).args, "--http", "--port", "0"]
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        where = re.search(r"http://\S+", process.stderr.readline())
        token = process.stderr.readline().removeprefix("Token: ").strip()
        assert where and token

        async def session() -> None:
            import httpx2

            headers = {"Authorization": f"Bearer {token}"}
            async with httpx2.AsyncClient(headers=headers) as web:
                transport = streamable_http_client(where[0], http_client=web)
                async with connected(transport) as (_, call):
                    ok, found = await call("runs_list")
                    assert ok and found["runs"]
            async with httpx2.AsyncClient() as stranger:
                for more in ({}, {"Authorization": "Bearer x"}, {**headers, "Host": "evil.example"},
                             {**headers, "Origin": "http://evil.example"}):  # fmt: skip
                    answer = await stranger.post(where[0], json={}, headers=more)
                    assert answer.status_code in (401, 403, 421)

        asyncio.run(session())
    finally:
        process.terminate()
        process.wait(20)
        process.stderr.close()


def test_databases_are_asked_by_name_and_shown_without_rows(place: Path) -> None:
    tools = Tools(AgentPermissions(databases={"shop": str(place / "shop.db")}, rows=1))
    try:
        found = tools.sql_tables()["databases"]["shop"]
        assert [table["table"] for table in found] == ["customers", "orders"]
        assert found[1]["foreign_keys"] == ["customer_id -> customers"]
        assert "Rome" not in json.dumps(found)
        found = tools.sql_ask("shop", "list the status of orders")
        assert (found["rows"], found["more_rows"]) == ([["pending"]], True)
        with pytest.raises(InputError, match="Unknown database"):
            tools.sql_tables("/etc/passwd")
    finally:
        tools.close()


def test_only_what_is_granted_is_offered() -> None:
    def names(grants: AgentPermissions) -> set[str]:
        server = make_server(Tools(grants))
        return {tool.name for tool in asyncio.run(server.list_tools())}

    nothing = names(AgentPermissions())
    assert nothing == {"run_code", "judge_code"}
    assert names(AgentPermissions(databases={"a": "a.db"})) - nothing == {"sql_tables", "sql_ask"}
    assert "eval_run" in names(AgentPermissions((Path("/tmp"),), model=("--model", "embedded")))


@pytest.mark.parametrize(
    "value",
    [
        {"texts": ["x" * 100_000] * 1000},
        {str(i): i for i in range(100_000)},
        {"deep": json.loads("[" * 200 + "]" * 200)},
        {"many": [{"a": "b" * 50, "c": list(range(1000))} for _ in range(500)]},
    ],
)
def test_results_are_bounded_and_say_so(value: dict[str, Any]) -> None:
    found = bounded(value)
    assert len(json.dumps(found)) <= MOST_RESULT
    assert found["cut"] is True and "cut" in json.dumps(found).replace('"cut": true', "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_whose_client_says_nothing(number: signal.Signals) -> None:
    asked = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    command = [sys.executable, "-m", "codegen", "serve", "mcp"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin and process.stdout and process.stderr
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["id"] == 1
        process.send_signal(number)
        try:
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert process.stderr.read().endswith("Stopped.\n")
