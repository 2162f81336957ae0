"""Deduplication against brute force over all pairs, and through crashes and runs."""

from __future__ import annotations

import ast
import json
import pickle
import random
import re
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import contents
from tiny_generators import Echo

from codegen.core.errors import ConfigError
from codegen.core.records import Example
from codegen.data import EngineOptions, MemorySource, RunProgress, open_source, read_texts, run
from codegen.data.filters.dedup import Dedup, DedupIndex
from tests.processes import python

ADD = (
    "def running_total(values):\n    total = 0\n    for value in values:\n        total += value\n"
)
ADD += "        yield total, value, len(values)\n"


def decisions(
    index: DedupIndex,
    examples: list[Example],
    dedup: Dedup = Dedup(),  # noqa: B008
) -> list[str]:
    """The reason for each example, empty if it is kept."""
    found = []
    for example in examples:
        rejected = index.add(example.id, dedup.signature(example))
        found.append(rejected.reason if rejected else "")
    return found


def numbered(*programs: str) -> list[Example]:
    return [Example(f"e{i}", f"Do {i}.", program) for i, program in enumerate(programs)]


def shingles(text: str, n: int = 5) -> frozenset[tuple[str, ...]]:
    tokens = re.findall(r"\w+", text.lower())
    return frozenset(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def jaccard(one: frozenset[Any], two: frozenset[Any]) -> float:
    return len(one & two) / len(one | two) if one or two else 0.0


def edited(program: str, rng: random.Random, share: float) -> str:
    """The program with a share of its words replaced."""
    return re.sub(
        r"\w+", lambda m: f"w{rng.randrange(10**6)}" if rng.random() < share else m[0], program
    )


@pytest.fixture(scope="module")
def corpus() -> list[Example]:
    """Functions of the standard library without comments, and edited copies, in a random order."""
    rng = random.Random(1)
    items = (item for item in open_source("stdlib") if isinstance(item, Example))
    plain = (replace(e, program=ast.unparse(ast.parse(e.program))) for e in items)
    functions = list(islice((e for e in plain if shingles(e.program)), 150))
    copies = [
        Example(f"{e.id} copy {i}", "Do.", edited(e.program, rng, rng.choice((0.01, 0.03, 0.06))))
        for e in functions
        for i in range(3)
    ]
    everything = functions + copies
    rng.shuffle(everything)
    return everything


def test_against_all_pairs(corpus: list[Example]) -> None:
    """Recall and precision, by exact Jaccard similarity, against datasketch's own LSH in memory."""
    from datasketch import MinHash, MinHashLSH

    dedup = Dedup()
    sets = [shingles(example.program) for example in corpus]
    ours = [reason != "" for reason in decisions(DedupIndex(dedup), corpus)]

    peer = MinHashLSH(threshold=0.7, num_perm=256)
    theirs = []
    for number, shingled in enumerate(sets):
        sketch = MinHash(num_perm=256, seed=7)
        sketch.update_batch([" ".join(words).encode() for words in shingled])
        theirs.append(bool(shingled and peer.query(sketch)))
        if not theirs[-1]:
            peer.insert(number, sketch)

    def recall_and_precision(removed: list[bool], t: float) -> tuple[float, float]:
        """Of each decision, given those before: is there a kept one that is as similar?"""
        kept: list[int] = []
        hits = wrong = missed = 0
        for number, is_removed in enumerate(removed):
            most = max((jaccard(sets[number], sets[k]) for k in kept), default=0.0)
            if is_removed:
                hits, wrong = hits + (most >= t), wrong + (most < t)
            else:
                missed += most >= t
                kept.append(number)
        return hits / (hits + missed), hits / (hits + wrong)

    recall, precision = recall_and_precision(ours, 0.7)
    peer_recall, peer_precision = recall_and_precision(theirs, 0.7)
    print(f"recall {recall:.4f} (datasketch {peer_recall:.4f})")
    print(f"precision {precision:.4f} (datasketch {peer_precision:.4f}), {sum(ours)} removed")
    assert sum(ours) > 150
    assert recall >= 0.93 and precision >= 0.93
    assert recall > peer_recall and precision > peer_precision - 0.02
    # Off the border, where the estimate's error of 0.03 can't decide, nothing is wrong.
    assert recall_and_precision(ours, 0.6)[1] == 1.0
    assert recall_and_precision(ours, 0.8)[0] >= 0.995


def test_the_estimate_is_near_the_similarity(corpus: list[Example]) -> None:
    import numpy as np

    dedup = Dedup()
    errors = []
    for one, two in pairwise(sorted(corpus, key=lambda example: example.id)):
        exact = jaccard(shingles(one.program), shingles(two.program))
        a, b = (np.frombuffer(dedup.signature(e).minhash, "<u4") for e in (one, two))
        if len(a) and len(b) and exact:
            errors.append((np.mean(a == b) - exact) / np.sqrt(exact * (1 - exact) / 256 + 1e-9))
    assert len(errors) > 300
    assert abs(np.mean(errors)) < 0.2  # not biased
    assert 0.8 < np.std(errors) < 1.2  # and its spread is that of the theory


def test_what_counts_as_exact() -> None:
    programs = numbered(
        ADD,
        ADD.replace("    ", "\t").replace("\n", "\r\n") + "\n# the end\n",
        ADD.replace("total", "sum_"),
        *(ADD, "x", "y", "", "# nothing", "x"),
    )
    found = decisions(DedupIndex(Dedup("exact")), programs, Dedup("exact"))
    assert found == ["", "duplicate", "", "duplicate", "", "", "", "duplicate", "duplicate"]


def test_near_duplicates_and_their_details() -> None:
    long, signature, index = ADD * 5, Dedup().signature, DedupIndex(Dedup())
    first = Example("the first one", "Do it.", long)
    assert index.add(first.id, signature(first)) is None
    near = Example("b", "Do it.", long + "# by somebody\nprint(1)\n")
    rejected = index.add(near.id, signature(near))
    assert rejected and (rejected.id, rejected.outcome) == ("b", "skipped")
    assert rejected.reason == "near_duplicate"
    similarity, id_ = re.fullmatch(r"jaccard=([\d.]+) of=(.*)", rejected.detail).groups()  # type: ignore[union-attr]
    exact = jaccard(shingles(long), shingles(near.program))
    assert id_ == first.id and abs(float(similarity) - exact) < 0.12
    same = index.add("c", signature(first))
    assert same and (same.reason, same.detail) == ("duplicate", "of=the first one")


def test_short_programs_are_compared_exactly_only() -> None:
    programs = numbered("a + b", "a - b", "+++", "---", "é", "a+b")
    assert decisions(DedupIndex(Dedup()), programs) == ["", "", "", "", "", "duplicate"]


def test_signatures_are_the_same_in_every_process() -> None:
    code = (
        "from codegen.data.filters.dedup import Dedup; from codegen.core.records import Example;"
        "s = Dedup().signature(Example('a', 'b', 'def f(a, b, c): return é'));"
        "print(s.exact.hex(), s.minhash.hex())"
    )
    other = python(code, check=True, env={"PYTHONHASHSEED": "1"})
    here = Dedup().signature(Example("a", "b", "def f(a, b, c): return é"))
    assert other.stdout == f"{here.exact.hex()} {here.minhash.hex()}\n"
    assert pickle.loads(pickle.dumps((Dedup(), here))) == (Dedup(), here)  # noqa: S301 - made here


def test_huge_and_odd_programs() -> None:
    huge = " ".join(f"x{i}" for i in range(300_000))
    signature = Dedup().signature(Example("a", "b", huge))
    assert len(signature.minhash) == 4 * 256
    assert Dedup().signature(Example("a", "b", "\ud800\x00")).exact


class Cut(Exception):
    """Stops a run."""


@pytest.mark.parametrize("near", [True, False])
@pytest.mark.parametrize("done", [7, 21, 63])
def test_an_interrupted_run_resumes_exactly(
    tmp_path: Path, corpus: list[Example], near: bool, done: int
) -> None:
    dedup = Dedup("near" if near else "exact")
    source = MemorySource(tuple(corpus[:100]))
    options = EngineOptions(chunk_size=7, commit_every_s=0.0)

    def stop(progress: RunProgress) -> None:
        if progress.inputs >= done and not progress.resumed:
            raise Cut

    for name in ("cut", "whole"):
        if name == "cut":
            with pytest.raises(Cut):
                run(
                    Echo(), source, tmp_path / name, workers=1, dedup=dedup, options=options,
                    on_progress=stop,
                )  # fmt: skip
        run(Echo(), source, tmp_path / name, workers=1, dedup=dedup, options=options)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert not (tmp_path / "cut" / "kept.jsonl").exists()


def test_same_data_for_any_workers(tmp_path: Path, corpus: list[Example]) -> None:
    path = tmp_path / "in.jsonl"
    rows = ({"id": e.id, "instruction": "Do.", "program": e.program} for e in corpus[:120])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = []
    for workers, chunk in ((1, 5), (2, 3), (2, 40)):
        out = tmp_path / f"out-{workers}-{chunk}"
        manifest = run(
            Echo(),
            open_source(str(path)),
            out,
            workers=workers,
            dedup=Dedup(),
            options=EngineOptions(chunk_size=chunk, commit_every_s=0.0),
        )
        texts.append(((out / "rejects.jsonl").read_bytes(), list(read_texts(out))))
        assert manifest.counts["skipped"]["near_duplicate"] > 0
        assert manifest.run.dedup == Dedup().describe()
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("options", [{"kind": "fuzzy"}, {"threshold": 0.0}, {"threshold": 1.1}])
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Dedup(**options)


def test_settings_describe_themselves() -> None:
    for dedup in (Dedup(), Dedup("exact"), Dedup(threshold=0.85)):
        described = dedup.describe()
        assert json.loads(json.dumps(described)) == described
        if dedup.kind == "near":
            assert described["bands"] * described["rows"] <= described["num_perm"] == 256
    assert Dedup().describe() != Dedup(threshold=0.71).describe()
