"""Overlap of problems with each other and with training data."""

from __future__ import annotations

import json
from pathlib import Path

from codegen.data.filters.decontamination import find_overlap

SUM = (
    "Write a function that returns the sum of all even numbers in a list of integers, and zero for "
    "an empty list.",
    "def even_sum(items):\n    return sum(item for item in items if item % 2 == 0)\n",
)
MAX = ("Return the longest word of a sentence.", "def f(s):\n    return max(s.split(), key=len)\n")


def test_copies_in_the_set_and_in_nested_training_data_are_found(tmp_path: Path) -> None:
    problems = {"a": SUM, "b": MAX, "c": (SUM[0], SUM[1] + "# copied\n"), "d": MAX}
    path = tmp_path / "train.jsonl"
    chat = {"messages": [{"role": "user", "content": f"Please help. {SUM[0]} Thanks."}]}
    path.write_text(json.dumps({"text": "unrelated"}) + "\n" + json.dumps(chat) + "\n")
    found = find_overlap(problems, [str(path)])
    assert found["d"] == ["duplicate: of=b"]
    assert [text.partition(":")[0] for text in found["c"]] == ["duplicate"]
    (match,) = found["a"]
    assert match.startswith(f"{path}:2: ngram match: part=prompt")
    assert "b" not in found
