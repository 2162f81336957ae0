"""A file of a million lines, one in a hundred broken: all counted, none lost, memory flat."""

from __future__ import annotations

import json
from collections import Counter as Tally
from pathlib import Path

import pytest
from tiny_generators import Echo

from codegen.benchmarks.tools.memory import MemoryProbe
from codegen.data import Progress, open_source, read_rejects, run

# What a broken line holds, and the reason that it is counted by.
BROKEN = (
    ('{"id": "cut off", "instruc', "bad_json"),
    ("[1, 2]", "not_an_object"),
    ('{"instruction": "no program"}', "missing_column"),
    ('{"instruction": "a number", "program": 3}', "wrong_type"),
    ('{"instruction": "half a pair", "program": "\\ud800"}', "not_unicode"),
)


def write_lines(path: Path, number: int) -> tuple[set[int], Tally[str]]:
    """Writes the file; the numbers of its broken lines, from 1, and how many have which reason."""
    broken: set[int] = set()
    reasons: Tally[str] = Tally()
    with path.open("w", encoding="utf-8") as file:
        for line in range(1, number + 1):
            if line % 100 == 37:
                text, reason = BROKEN[line // 100 % len(BROKEN)]
                file.write(text + "\n")
                broken.add(line)
                reasons[reason] += 1
            else:
                row = {"id": f"r{line}", "instruction": f"do {line}", "program": f"é = {line}\n"}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return broken, reasons


def check(folder: Path, lines: int) -> MemoryProbe:
    source = folder / "rows.jsonl"
    broken, reasons = write_lines(source, lines)
    with MemoryProbe(0.2) as memory:

        def note(progress: Progress) -> None:
            memory.share = progress.inputs / lines

        out = folder / "out"
        manifest = run(Echo(copies=1), open_source(str(source)), out, workers=2, on_progress=note)
    assert manifest.counts["inputs"] == lines
    assert manifest.counts["kept"] == manifest.texts == lines - len(broken)
    assert manifest.counts["failed"] == dict(sorted(reasons.items()))
    assert manifest.counts["skipped"] == {}
    numbers = {int(row["id"].rpartition(":")[2]) for row in read_rejects(out) if ":" in row["id"]}
    named = sum(1 for _ in read_rejects(out))
    assert named == len(broken)
    # A line without an id of its own is named by its place.
    assert numbers <= broken
    expected = (n for n in range(1, lines + 1) if n not in broken)
    for path in sorted(out.glob("data-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            for text in file:
                assert json.loads(text)["example_id"] == f"r{next(expected)}"
    assert next(expected, None) is None
    return memory


@pytest.mark.long
def test_ten_thousand_lines(tmp_path: Path) -> None:
    check(tmp_path, 10_000)


@pytest.mark.long
def test_a_million_lines(tmp_path: Path) -> None:
    memory = check(tmp_path, 1_000_000)
    early, late = memory.at(0.2, 0.1), memory.at(1.0, 0.1)
    assert early and late
    print(f"resident memory {early:.0f} MiB at 20 %, {late:.0f} MiB at the end")
    assert late < 1.1 * early
