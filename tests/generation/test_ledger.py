"""What new answers took, counted over several clients and processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openai_server import Model, Reply, completion

from codegen.core.errors import InputError
from codegen.generation import Decoder, Request, SamplingParams
from codegen.generation.backends import Endpoint
from codegen.generation.completion_cache import (
    CachedBackend,
    CostLog,
    ResponseCache,
    Totals,
    read_ledger,
)


def client(model: Model, *kept: Any) -> CachedBackend:
    return CachedBackend(Endpoint(model.url, "m", backoff_s=0.01, retries=2), *kept)


def ask(backend: CachedBackend, *prompts: str) -> list[str]:
    requests = [Request(prompt, chat=True, seed=0) for prompt in prompts]
    return [made.text for made in backend.generate(requests, SamplingParams(), Decoder())]


def test_new_answers_are_counted_and_cached_ones_are_not(model: Model, tmp_path: Path) -> None:
    prompts = [f"q{i}" for i in range(6)]
    with ResponseCache(tmp_path / "c") as cache:
        ask(client(model, cache), *prompts[:2])  # another run's, with the same cache
        ask(client(model, cache, CostLog(tmp_path / "l")), *prompts)
        ask(client(model, cache, CostLog(tmp_path / "l")), *prompts)
    assert read_ledger(tmp_path / "l") == Totals(4, 4 * 7, 4 * 5, kept=2 + 6)
    ask(client(model, None, CostLog(tmp_path / "l")), *prompts)
    assert read_ledger(tmp_path / "l") == Totals(10, 10 * 7, 10 * 5, kept=2 + 6)


def test_a_response_without_an_answer_is_billed_too(model: Model, tmp_path: Path) -> None:
    empty = completion("").body
    del empty["choices"][0]["message"]["content"]
    model.script = [Reply(empty)]
    assert ask(client(model, None, CostLog(tmp_path / "l")), "a") == ["a|0"]
    assert read_ledger(tmp_path / "l") == Totals(1, 14, 10, retries=1)


ADDER = """
import sys
from codegen.generation.completion_cache import CostLog, Totals
ledger = CostLog(sys.argv[1])
for _ in range(500):
    ledger.add(Totals(1, 123456, 7))
"""


def test_several_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADDER, str(tmp_path / "l")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    assert read_ledger(tmp_path / "l") == Totals(1500, 1500 * 123456, 1500 * 7)


def test_a_file_that_is_gone_costs_no_answer(model: Model, tmp_path: Path) -> None:
    """A request that is in flight when a run is stopped still gets its answer into the cache."""
    with ResponseCache(tmp_path / "c") as cache:
        asked = client(model, cache, CostLog(tmp_path / "l"))
        (tmp_path / "l").unlink()
        ask(asked, "a")
        assert cache.totals().answers == 1


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot count the model's tokens"):
        CostLog(tmp_path)
    with pytest.raises(InputError, match="No space left"):
        CostLog("/dev/full").add(Totals(1, 1, 1))
    (tmp_path / "empty").touch()
    assert read_ledger(tmp_path / "empty") == Totals()
