"""The token cache: the same examples from memory and disk, made once, whole after a kill."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.core.errors import InputError
from codegen.core.paths import new_folder
from codegen.finetune import parse_recipe
from codegen.finetune.batch_plan import make_plan
from codegen.finetune.dataset import CachedExamples, EncodingStats, cached
from codegen.finetune.encode import EncodedExample, RowLayout, causal
from codegen.finetune.lifecycle import train


@st.composite
def examples(draw: st.DrawFn) -> EncodedExample:
    """Texts, pieces whose targets are not their own tokens, and layouts of any kind."""
    kind = draw(st.sampled_from(["text", "piece", "layout"]))
    ids = draw(st.lists(st.integers(0, 69_999), min_size=1, max_size=12))
    name = draw(st.text(max_size=5).filter(lambda t: t.isprintable()))
    domain = draw(st.sampled_from(["", "a", "é"]))
    if kind == "text":
        weight = st.sampled_from([False, True, [0.25], [0.1]])
        flags = draw(st.lists(weight, min_size=len(ids), max_size=len(ids)))
        runs = [([token], flag) for token, flag in zip(ids, flags, strict=True)]
        return EncodedExample.of_runs(runs, name, domain, final=draw(st.booleans()))
    slots = list(range(len(ids)))
    targets = draw(st.lists(st.integers(0, 9), min_size=len(ids), max_size=len(ids)))
    layout = causal(len(ids))
    if kind == "layout":
        end = np.full(len(ids), len(ids)) - draw(st.integers(1, 3))
        layout = RowLayout(end, layout.positions[::-1].copy())
    return EncodedExample(name, ids, slots, targets, slots, layout, domain, final=False)


def same(one: EncodedExample, other: EncodedExample) -> bool:
    fields = ("example_id", "ids", "nodes", "targets", "then", "domain", "final")
    layouts = (one.layout, other.layout)
    if list(one.weights) != list(other.weights):
        return False
    return all(getattr(one, name) == getattr(other, name) for name in fields) and all(
        np.array_equal(*(getattr(layout, name) for layout in layouts))
        for name in ("end", "positions")
    )


@given(st.lists(examples(), max_size=8))
@settings(deadline=None, max_examples=60)
def test_examples_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, found: list[EncodedExample]
) -> None:
    cache = cached(tmp_path_factory.mktemp("cache"), "key", found, EncodingStats())
    assert len(cache) == len(found)
    assert all(same(*pair) for pair in zip(cache, found, strict=True))
    assert cache.lengths.slots.tolist() == [len(e) for e in found]
    assert cache.lengths.trained.tolist() == [len(e.targets) for e in found]
    assert cache.lengths.all_causal == all(e.layout.is_causal for e in found)
    weights = cache.lengths.weights
    assert (weights is None) == (not any(e.weights for e in found))
    if weights is not None:
        wanted = [sum(e.weights) if e.weights else len(e.targets) for e in found]
        assert weights.tolist() == pytest.approx(wanted)


def text(number: int, length: int, trained_from: int = 1) -> EncodedExample:
    ids = list(range(length))
    runs = [(ids[:trained_from], False), (ids[trained_from:], True)]
    return EncodedExample.of_runs(runs, f"e{number % 7}", "", final=True)


def test_a_plan_is_the_same_from_memory_and_disk(tmp_path: Path) -> None:
    rng = random.Random(0)
    found = [text(n, rng.randint(2, 40)) for n in range(50)]
    cache = cached(tmp_path, "key", found, EncodingStats())
    options: dict[str, Any] = {"steps": 20, "batch_size": 8, "micro_batch_size": 3, "seed": 5}
    more: dict[str, Any]
    for more in ({}, {"row_length": 64}):
        assert make_plan(found, **options, **more) == make_plan(cache, **options, **more)


def test_it_is_made_once_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    made = []

    def encode() -> Iterator[EncodedExample]:
        made.append(1)
        yield text(0, 5)

    for _ in range(2):
        cached(tmp_path, "key", encode(), EncodingStats(cut=7))
    assert len(made) == 1
    for file in (tmp_path / "key").iterdir():
        whole = file.read_bytes()
        for content in (whole[: len(whole) // 2], b""):
            file.write_bytes(content)
            with pytest.raises(InputError, match=r"cache .*key is corrupt .*Delete it"):
                cached(tmp_path, "key", encode(), EncodingStats())
        file.write_bytes(whole)
    assert cached(tmp_path, "key", encode(), EncodingStats()).stats.cut == 7


_BUILD = """
import os, signal, sys
from pathlib import Path
from codegen.finetune.dataset import EncodingStats, cached
from codegen.finetune.encode import EncodedExample
die = int(sys.argv[2])
def examples():
    print("made", flush=True)
    for number in range(300):
        if number == die:
            os.kill(os.getpid(), signal.SIGKILL)
        runs = [([1, 2], False), ([number], True)]
        yield EncodedExample.of_runs(runs, f"e{number}", "", final=True)
print(len(cached(Path(sys.argv[1]), "key", examples(), EncodingStats())))
"""


@pytest.mark.long
def test_a_killed_writer_leaves_nothing_and_processes_share_one_cache(tmp_path: Path) -> None:
    def start(die: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", _BUILD, str(tmp_path), str(die)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    killed = start(200)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "key").exists()
    together = [start(-1) for _ in range(3)]
    outputs = [process.communicate()[0] for process in together]
    assert all(output.endswith("300\n") for output in outputs)
    assert sum(output.count("made") for output in outputs) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "key.lock"]


def test_runs_share_a_cache_of_their_own(tmp_path: Path, tiny_model_dir: Path) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": f"p{n}", "completion": "x = 1\n" * n} for n in range(1, 30)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "model": str(tiny_model_dir),
        "data": str(data),
        "steps": 1,
        "max_length": 64,
        "token_cache": str(tmp_path / "tokens"),
    }
    results = []
    for overlong in ("truncate", "truncate", "drop"):
        output = str(tmp_path / f"out{len(results)}")
        results.append(train(parse_recipe({**recipe, "overlong": overlong, "output": output})))
        assert not (Path(output) / "tokens").exists()
    caches = [path for path in (tmp_path / "tokens").iterdir() if path.is_dir()]
    assert len(caches) == 2 and all(len(CachedExamples(path)) for path in caches)
    assert results[0].losses == results[1].losses
    truncated, _, dropped = (result.counts for result in results)
    assert truncated["cut"] == dropped["dropped"]["too_long"] > 0
    assert truncated["trained_tokens"] > dropped["trained_tokens"]


def test_only_a_directory_of_caches_is_taken_over(tmp_path: Path, tiny_model_dir: Path) -> None:
    """Another process of the same run may begin its cache before rank 0 has looked."""
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps({"prompt": "p", "completion": "x = 1\n"}) + "\n")
    output = tmp_path / "out"
    recipe = {"model": str(tiny_model_dir), "data": str(data), "steps": 1, "output": str(output)}
    foreign = output / "tokens" / "words.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(InputError, match="tokens was not written by an earlier run"):
        train(parse_recipe(recipe))
    assert foreign.read_text() == "mine"
    foreign.unlink()
    begun = output / "tokens" / f"{'0a' * 16}.lock"
    begun.touch()
    new_folder(begun.with_suffix(""))
    assert train(parse_recipe(recipe)).losses
