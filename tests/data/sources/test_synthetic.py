"""Star graphs against the published rules, read back from their text alone."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from codegen.core.errors import ConfigError
from codegen.data import make, open_source, read_texts, run
from codegen.data.manifest import digests
from codegen.data.sources.synthetic import BORDER, Puzzles
from tests.data.sources.test_functions import ruff
from tests.data.sources.test_rows import examples

COUNT = 400
# degree, shortest and longest arm, least plan behind the center, node names
RULES = {
    "star-easy": (3, 5, 5, 4, 20),
    "star-medium": (3, 3, 6, 2, 20),
    "star-hard": (5, 6, 12, 5, 56),
}


def pairs(words: list[str]) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in zip(words[::2], words[1::2], strict=True)]


def ways(edges: list[tuple[int, int]], source: int, goal: int) -> list[list[int]]:
    """All paths from source to goal, by search."""
    if source == goal:
        return [[goal]]
    return [[source, *rest] for a, b in edges if a == source for rest in ways(edges, b, goal)]


@pytest.mark.parametrize("name", RULES)
def test_the_answer_is_the_only_way(name: str) -> None:
    degree, shortest, longest, plan, names = RULES[name]
    lengths: Counter[int] = Counter()
    joins: set[int] = set()
    for example in Puzzles(name, "train", COUNT):
        *words, source, goal, border = example.instruction.split()
        assert border == BORDER
        edges = pairs(words)
        assert len(set(edges)) == len(edges)
        assert all(0 <= node < names for edge in edges for node in edge)
        (path,) = ways(edges, int(source), int(goal))
        assert pairs(example.program.split()) == list(pairwise(path))
        lengths[len(path)] += 1
        centre = Counter(a for a, _ in edges)
        centre.update(b for _, b in edges)
        node, count = centre.most_common(1)[0]
        ends = sum(1 for a, _ in edges if a == node), sum(1 for _, b in edges if b == node)
        assert ends[0] == degree and count == sum(ends)
        at = path.index(node)
        joins.add(at)
        assert len(path) - 1 - at >= plan
    assert set(lengths) == set(range(shortest, longest + 1))
    assert min(joins) == 0 and max(joins) == longest - plan - 1
    for count in lengths.values():  # every length equally often
        expected = COUNT / len(lengths)
        assert abs(count - expected) < 5 * expected**0.5


def test_edges_are_shuffled_and_puzzles_differ() -> None:
    examples = list(Puzzles("star-easy", "train", 200))
    firsts = Counter(example.instruction.split()[0] for example in examples)
    assert len(firsts) == 20
    assert len({example.instruction for example in examples}) == 200
    test = {example.instruction for example in Puzzles("star-easy", "test", 200)}
    assert not test & {example.instruction for example in examples}


def test_a_puzzle_is_the_same_whatever_their_number() -> None:
    some, more = (list(Puzzles("star-hard", "validation", n)) for n in (3, 9))
    assert more[:3] == some
    text = next(Puzzles("star-hard", "validation", 1).texts())
    assert (text.prompt, text.trained) == (some[0].instruction, some[0].program)


def test_names() -> None:
    assert Puzzles.parse("puzzles:star-easy") == Puzzles("star-easy", "train", 50_000)
    assert Puzzles.parse("puzzles:star-hard:test") == Puzzles("star-hard", "test", 5_000)
    assert Puzzles.parse("puzzles:star-medium:test:7") == Puzzles("star-medium", "test", 7)
    for spec, message in {
        "puzzles:star": "Unknown puzzles 'star'",
        "puzzles:star-easy:tset": "no split 'tset'",
        "puzzles:star-easy:test:0": "has an invalid count '0'",
        "puzzles:star-easy:test:-3": "has an invalid count '-3'",
        "puzzles:star-easy:test:9:9": "is not a puzzle name",
    }.items():
        with pytest.raises(ConfigError, match=message):
            Puzzles.parse(spec)


SPEC = "puzzles:star-medium:validation:12"


def test_the_engine_writes_what_a_recipe_draws(tmp_path: Path) -> None:
    manifest = run(make("plain"), open_source(SPEC), tmp_path / "data", workers=1)
    assert manifest.kept == 12
    written, drawn = list(read_texts(tmp_path / "data")), list(read_texts(SPEC))
    assert [(t.id, t.segments) for t in written] == [(t.id, t.segments) for t in drawn]
    assert digests(SPEC) == [f"{SPEC}@1"]
    assert len(digests(tmp_path / "data")) == 1


def test_a_typo_gives_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "codegen", "data", "plain", "puzzles:star", "--out", "x"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ran.returncode == 2
    assert "Unknown puzzles 'star'" in ran.stderr and "Traceback" not in ran.stderr


def test_human_eval(tmp_path: Path) -> None:
    found = examples(list(open_source("humaneval")))
    assert [e.id for e in found] == [f"HumanEval/{i}" for i in range(164)]
    assert {e.license for e in found} == {"MIT"}
    for example in found:
        compile(example.program, example.id, "exec")
    assert "All checks passed!" in ruff([e.program for e in found], tmp_path / "p", "F821")
    whole = examples(list(open_source("humaneval", keep_docstring=True)))
    assert all(len(a.program) < len(b.program) for a, b in zip(found, whole, strict=True))


def test_human_eval_instructions_are_those_of_humanevalpack(data_folder: Path) -> None:
    path = data_folder / "humanevalpack" / "humanevalpack-python.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        published = [json.loads(line)["instruction"] for line in file]
    ours = [e.instruction for e in examples(list(open_source("humaneval")))]
    different = [
        number
        for number, (a, b) in enumerate(zip(ours, published, strict=True))
        if a.split() != b.split()
    ]
    # The published signature of 115 runs on into the body.
    assert different == [115]
