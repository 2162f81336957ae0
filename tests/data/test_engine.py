"""The engine's promises: same bytes, nothing lost, flat memory, clear refusals."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import SMALL, Breaking, contents, outcomes, programs
from tiny_generators import BatchEcho, Counter, Echo, Odd

from codegen.core.errors import ConfigError, InputError, MachineError, ResumeError
from codegen.core.records import Example, TrainingText
from codegen.data import (
    EngineOptions,
    MemorySource,
    Rejected,
    RunProgress,
    Source,
    load_manifest,
    open_source,
    read_texts,
    run,
)
from codegen.server.run_index import find_runs


def test_every_input_is_accounted_for(tmp_path: Path) -> None:
    manifest = run(Echo(), Counter(200), tmp_path / "a", workers=1, options=SMALL)
    # The oracle: the counts by the definition of Counter.
    special = [
        "bad_json"
        if i % 31 == 30
        else "odd"
        if i % 17 == 16
        else "KeyError"
        if i % 23 == 22
        else ""
        for i in range(200)
    ]
    assert manifest.counts == {
        "inputs": 200,
        "kept": special.count(""),
        "skipped": {"odd": special.count("odd")},
        "failed": {"KeyError": special.count("KeyError"), "bad_json": special.count("bad_json")},
    }
    assert manifest.texts == 2 * special.count("")
    assert manifest.licenses == {"MIT": special.count("")}
    texts = list(read_texts(tmp_path / "a"))
    assert [t.id for t in texts] == [
        f"e{i}#{k}" for i in range(200) if not special[i] for k in (0, 1)
    ]
    assert list(outcomes(tmp_path / "a")) == [
        f"row {i}" if special[i] == "bad_json" else f"e{i}" for i in range(200) if special[i]
    ]
    assert sum(file["bytes"] for file in manifest.files) == sum(
        path.stat().st_size for path in (tmp_path / "a").glob("data-*.jsonl")
    )
    assert manifest.characters["trained"] == sum(len(t.text) - len(t.prompt) for t in texts)
    assert load_manifest(tmp_path / "a") == manifest


def test_same_bytes_for_any_workers_and_chunks(tmp_path: Path) -> None:
    expected = None
    for workers, chunk_size in [(1, 7), (1, 1), (2, 3), (2, 64)]:
        out = tmp_path / f"{workers}-{chunk_size}"
        options = replace(SMALL, chunk_size=chunk_size)
        run(Echo(), Counter(150), out, seed=3, workers=workers, options=options)
        expected = expected or contents(out)
        assert contents(out) == expected
    assert expected and sum(name.startswith("data-") for name in expected) > 2  # it rotates


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_give_what_single_examples_give(tmp_path: Path, workers: int) -> None:
    words = ["a", "b", "skip x", "c", "raise x", "d", "e", "hang", "f", "exit", "g", "wrong", "h"]
    options = EngineOptions(item_timeout_s=0.2, chunk_size=4)
    run(Echo(name="batch_echo"), programs(*words), tmp_path / "a", workers=1, options=options)
    run(BatchEcho(), programs(*words), tmp_path / "b", workers=workers, options=options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_generator_that_cannot_work_ends_the_run(tmp_path: Path) -> None:
    for workers in (1, 2):
        with pytest.raises(ConfigError, match="needs a thing"):
            run(Echo(), programs("a", "config"), tmp_path / str(workers), workers=workers)


@pytest.mark.parametrize("word", ["broken", "full"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_machine_that_fails_costs_no_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, workers: int
) -> None:
    """The run ends, and goes on from there once the machine is mended."""
    words, out = ["a", "b", "c", word, "d"], tmp_path / "out"
    options = EngineOptions(chunk_size=2)
    monkeypatch.setenv("TEST_MACHINE", "broken")
    with pytest.raises(MachineError, match=r"The tool fails|No space left"):
        run(BatchEcho(), programs(*words), out, workers=workers, options=options)
    assert not (out / "manifest.json").exists()
    monkeypatch.setenv("TEST_MACHINE", "mended")
    manifest = run(BatchEcho(), programs(*words), out, workers=workers, options=options)
    assert manifest.kept == len(words)
    run(BatchEcho(), programs(*words), tmp_path / "whole", workers=1, options=options)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_chunk_may_take_longer_than_one_example_may(tmp_path: Path) -> None:
    """Of fast examples that together take more than one may, none is done twice."""
    counted: list[str] = []

    class Counting(BatchEcho):
        def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
            counted.append(example.id)
            return super().generate(example, rng)

    options = EngineOptions(item_timeout_s=0.5, chunk_size=8)
    generator = Counting(delay_s=0.09)
    run(generator, programs(*"abcdefgh"), tmp_path / "a", workers=1, options=options)
    assert counted == [f"e{i}" for i in range(8)]


def test_texts_tell_license_and_source(tmp_path: Path) -> None:
    known = Example("a", "do", "x = 1\n", source="corpus", license="MIT")
    source = MemorySource((known, Example("b", "do", "y = 1\n")))
    run(Echo(copies=1), source, tmp_path, workers=1)
    one, other = read_texts(tmp_path)
    assert one.meta == {"license": "MIT", "source": "corpus"}
    assert other.meta == {"license": "", "source": ""}


def test_seed_and_id_decide_the_randomness(tmp_path: Path) -> None:
    run(Echo(), Counter(10), tmp_path / "a", seed=1, workers=1)
    run(Echo(), Counter(10), tmp_path / "b", seed=2, workers=1)
    a, b = ([t.text for t in read_texts(tmp_path / name)] for name in "ab")
    assert len(set(a) | set(b)) == len(a) + len(b)
    alone = MemorySource((Example("e7", "do 7", "é = 7\n"),))
    run(Echo(), alone, tmp_path / "c", seed=1, workers=1)
    assert [t.text for t in read_texts(tmp_path / "c")] == a[14:16]


def test_a_broken_source_loses_no_work(tmp_path: Path) -> None:
    out = tmp_path / "a"
    options = replace(SMALL, commit_every_s=1000.0)
    with pytest.raises(RuntimeError):
        run(Echo(), Breaking(60), out, workers=1, options=options)
    seen: list[RunProgress] = []
    run(Echo(), Counter(60), out, workers=1, options=options, on_progress=seen.append)
    assert seen[0].resumed == 49  # whole chunks of seven
    run(Echo(), Counter(60), tmp_path / "b", workers=1, options=options)
    assert contents(out) == contents(tmp_path / "b")


def test_finished_directory_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "a"
    first = run(Echo(), Counter(20), out, workers=1)
    times = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(Echo(), Counter(20), out, workers=1) == first
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == times
    (out / ".partial").mkdir()  # left by a run killed at its very last step
    run(Echo(), Counter(20), out, workers=1)
    assert not (out / ".partial").exists()


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generator": Echo(copies=3)}, "config.copies from 2 to 3"),
        ({"seed": 8}, "seed from 0 to 8"),
        ({"source": Counter(61)}, "source.number from 60 to 61"),
        ({"limit": 5}, "limit from null to 5"),
        ({"options": replace(SMALL, shard_bytes=9)}, "shard_bytes from 4000 to 9"),
    ],
)
def test_changed_settings_are_refused(
    tmp_path: Path, finished: bool, change: dict[str, Any], message: str
) -> None:
    settings: dict[str, Any] = {"generator": Echo(), "source": Counter(60), "options": SMALL}
    settings["workers"] = 1
    if finished:
        run(out=tmp_path, **settings)
    else:
        with pytest.raises(RuntimeError):
            run(out=tmp_path, **settings | {"source": Breaking(60)})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ResumeError) as caught:
        run(out=tmp_path, **{**settings, **change})
    assert message in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


class Misread(Counter):
    """A source that can't be read as it is described."""

    def __iter__(self) -> Iterator[Example | Rejected]:
        raise InputError("The source has no column 'program'.")


def test_a_run_that_did_no_input_leaves_nothing_behind(tmp_path: Path) -> None:
    out, settings = tmp_path / "a", {"workers": 1, "options": SMALL}
    with pytest.raises(InputError, match="column"):
        run(Echo(), Misread(61), out, seed=1, **settings)
    assert not out.exists()
    out.mkdir()
    (out / ".hidden").touch()
    with pytest.raises(InputError, match="column"):
        run(Echo(), Misread(61), out, seed=2, **settings)
    assert [path.name for path in out.iterdir()] == [".hidden"]
    assert find_runs([tmp_path]) == []
    (out / ".hidden").unlink()
    assert run(Echo(), Counter(60), out, **settings).run.seed == 0
    run(Echo(), Counter(60), tmp_path / "b", **settings)
    assert contents(out) == contents(tmp_path / "b")


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "folder", "memory"])
def test_a_finished_directory_notices_an_edited_source(tmp_path: Path, kind: str) -> None:
    def source(value: int) -> Source:
        """Sources of equal size for all values."""
        program = (
            f'def f(x):\n    """Add some small number."""\n    y = x + {value}\n    return y\n'
        )
        if kind == "memory":
            return MemorySource((Example("a", "do", program),))
        path = tmp_path / ("folder" if kind == "folder" else f"rows.{kind}")
        row = {"instruction": "do", "program": program}
        if kind == "folder":
            path.mkdir(exist_ok=True)
            (path / "a.py").write_text(program)
        elif kind == "jsonl":
            path.write_text(json.dumps(row))
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.Table.from_pylist([row]), path)
        return open_source(str(path))

    out = tmp_path / "out"
    first = run(Echo(), source(1), out, workers=1)
    assert first.kept == 1
    assert run(Echo(), source(1), out, workers=1) == first
    with pytest.raises(ResumeError, match=r"Changed: the content of source\."):
        run(Echo(), source(2), out, workers=1)


def test_changed_source_content_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run(Echo(), Breaking(60), tmp_path, workers=1, options=SMALL)
    with pytest.raises(ResumeError, match="first 49 inputs"):
        run(Echo(), Counter(60, salt="x"), tmp_path, workers=1, options=SMALL)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_generators_cost_their_item_only(tmp_path: Path, workers: int) -> None:
    words = ["a", "skip tired", "raise x", "exit", "hang", "wrong", "nothing", "b"]
    options = EngineOptions(item_timeout_s=0.2)
    manifest = run(Echo(), programs(*words), tmp_path, workers=workers, options=options)
    assert outcomes(tmp_path) == {
        "e1": ("skipped", "tired"),
        "e2": ("failed", "KeyError"),
        "e3": ("failed", "SystemExit"),
        "e4": ("failed", "timeout"),
        "e5": ("failed", "invalid_output"),
        "e6": ("skipped", "no_texts"),
    }
    assert manifest.kept == 2


def test_duplicate_ids(tmp_path: Path) -> None:
    items = tuple(Example(f"e{i % 4}", "do", f"{i}") for i in range(10))
    manifest = run(Echo(), MemorySource(items), tmp_path, workers=1)
    assert manifest.counts["skipped"] == {"duplicate_id": 6}
    assert {t.text.split()[1] for t in read_texts(tmp_path)} == {"0", "1", "2", "3"}


@pytest.mark.parametrize(("limit", "inputs"), [(0, 0), (3, 3), (40, 41), (1000, 60)])
def test_limit_counts_examples(tmp_path: Path, limit: int, inputs: int) -> None:
    """Input 30 of Counter is a rejected one, so forty examples need one input more."""
    manifest = run(Echo(), Counter(60), tmp_path, workers=1, limit=limit)
    assert manifest.counts["inputs"] == inputs


def test_options_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers is 0"):
        run(Echo(), Counter(1), tmp_path, workers=0)
    with pytest.raises(ConfigError, match="limit is -1"):
        run(Echo(), Counter(1), tmp_path, limit=-1)
    with pytest.raises(ConfigError, match="chunk_size"):
        EngineOptions(chunk_size=0)


def test_datasets_reads_the_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    out = tmp_path / "out"
    run(Echo(), Counter(60), out, workers=1, options=SMALL)
    cache = str(tmp_path / "cache")
    by_card = datasets.load_dataset(str(out), split="train", cache_dir=cache)
    files = [str(path) for path in sorted(out.glob("data-*.jsonl"))]
    by_file = datasets.load_dataset("json", data_files=files, split="train", cache_dir=cache)
    texts = list(read_texts(out))
    for rows in (by_card, by_file):
        assert isinstance(rows, datasets.Dataset)
        assert list(rows["id"]) == [text.id for text in texts]
        segments = [[s._asdict() for s in text.segments] for text in texts]
        assert list(rows["segments"]) == segments


def test_card_header_states_the_licenses(tmp_path: Path) -> None:
    import yaml

    items = tuple(
        Example(f"e{i}", "do", "x", license=license)
        for i, license in enumerate(["MIT", "PSF-2.0", "", "Apache-2.0"])
    )
    run(Echo(), MemorySource(items), tmp_path, workers=1)
    header = yaml.safe_load((tmp_path / "card.md").read_text().split("---")[1])
    assert header["license"] == ["apache-2.0", "mit", "other", "unknown"]
    files = [{"split": "train", "path": "data-*.jsonl"}]
    assert header["configs"] == [{"config_name": "default", "data_files": files}]
    assert (tmp_path / "README.md").read_text() == (tmp_path / "card.md").read_text()


def test_a_duplicate_id_in_the_same_chunk_is_skipped_not_doubled(tmp_path: Path) -> None:
    """With a generator that works on whole chunks, too."""
    from codegen.data import make

    source = tmp_path / "s.jsonl"
    rows = [("a", "x = 1"), ("a", "y = 2"), ("b", "z = 3")]
    source.write_text(
        "".join(
            json.dumps({"id": i, "instruction": program, "program": program}) + "\n"
            for i, program in rows
        )
    )
    manifest = run(make("lintseq"), open_source(str(source)), tmp_path / "out", workers=1)
    assert manifest.kept == 2
    assert manifest.counts["skipped"] == {"duplicate_id": 1}
    assert [text.example_id for text in read_texts(tmp_path / "out")] == ["a", "b"]


@pytest.mark.parametrize("workers", [1, 2])
def test_filters_leave_examples_out(tmp_path: Path, workers: int) -> None:
    items = tuple(Example(f"e{number}", "Do.", f"x = {number}\n") for number in range(40))
    source = MemorySource(items)
    out = tmp_path / "out"
    manifest = run(Echo(), source, out, workers=workers, filters=[Odd(fails=7), Odd()])
    assert manifest.counts == {
        "inputs": 40, "kept": 19, "skipped": {"even": 20}, "failed": {"KeyError": 1},
    }  # fmt: skip
    assert load_manifest(out).run.filters == (
        {"filter": "Odd", "fails": 7}, {"filter": "Odd", "fails": -1},
    )  # fmt: skip
    assert run(Echo(), source, out, workers=workers, filters=[Odd(7), Odd()]) == load_manifest(out)
    with pytest.raises(ResumeError, match="filters"):
        run(Echo(), source, out, workers=workers, filters=[Odd()])
