"""CRUXEval, infilling, repairs, repetition, edits: reading answers and judging them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from codegen.core.records import Sample
from codegen.evals import tasks
from codegen.evals.tasks import load as load_task


def sample(id_: str, text: str, style: str = "chat", index: int = 0, **fields: Any) -> Sample:
    made: dict[str, Any] = {"finish_reason": "stop", "completion_tokens": 0, **fields}
    return Sample(
        "",
        id_,
        index,
        "",
        text,
        settings={},
        seed=0,
        prompt_tokens=0,
        meta={"style": style},
        **made,
    )


def edit_task(toy_file: Path) -> tasks.Task[Any]:
    return load_task("humaneval-edits", str(toy_file))


def test_sound_edits(toy_file: Path) -> None:
    from codegen.lintseq import edit_sequence, format_edits

    program = "def add0(x):\n    y = x\n    return y\n"
    edits = edit_sequence(program, random.Random(0)).edits
    text = format_edits(edits)
    numbers = edit_task(toy_file).measure(
        edit_task(toy_file).problems()[0],
        sample("Toy/0", program, "solution", actions=text, completion_tokens=40),
    )
    assert numbers == {
        "edits": len(edits),
        "complete": 1.0,
        "round_trip": 1.0,
        "malformed": 0.0,
        "mended": 0.0,
        "valid_states": 1.0,
        "all_states_valid": 1.0,
        "tokens_per_edit": 40 / len(edits),
    }


def test_faulty_edits(toy_file: Path) -> None:
    text = (
        "<|diff|>@@ -0,0 +1 @@\n+def f(:\n"
        "<|diff|>@@ -1,0 +2 @@\n+    return 1\n"
        "<|diff|>@@ nonsense @@\n+x\n"
    )
    task = edit_task(toy_file)
    numbers = task.measure(
        task.problems()[0],
        sample("Toy/0", "other", "solution", actions=text, completion_tokens=30),
    )
    assert numbers["malformed"] > 0
    assert numbers["valid_states"] == 0.0
    assert numbers["complete"] == numbers["round_trip"] == 0.0
    assert task.measure(task.problems()[0], sample("Toy/0", "x", "solution")) == {}
