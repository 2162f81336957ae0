"""CPU time of following one edit in a long context, against encoding all of it."""

from __future__ import annotations

import argparse
import inspect
import statistics
import time
from collections.abc import Callable
from typing import Any

from codegen.benchmarks.tools.edit_cases import make_case
from codegen.decoding.editing import EditableCache


def speed(
    model: Any, tokenizer: Any, length: int, repeats: int
) -> tuple[float, dict[str, dict[str, float]]]:
    """CPU seconds of a full recompute, and by kind of edit those of an update, tokens and ratio.

    Args:
        length: tokens of the context, the beginning of ``argparse``.
        repeats: updates of which the median is taken; with 1 the full recompute is the cache's own
            first update, else a plain forward pass.
    """
    text = inspect.getsource(argparse)
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    text = text[: offsets[length - 1][1]]
    cases = [make_case(tokenizer, name, text, after) for name, after in edits_of(text).items()]
    cache = EditableCache(model)
    full = _cpu_of(lambda: cache.update(cases[0].before))
    if repeats > 1:
        full = _cpu_of(lambda: _plain(model, cases[0].before))
    table = {}
    for case in cases:
        spent, encoded = [], 0
        for _ in range(repeats):
            fork = cache.fork()
            began = time.process_time()
            encoded = fork.update(case.after, tail=case.tail).encoded
            spent.append(time.process_time() - began)
        cpu = statistics.median(spent)
        table[case.name] = {"cpu_s": cpu, "encoded": encoded, "ratio": full / cpu}
    return full, table


def edits_of(text: str) -> dict[str, str]:
    """Single edits of the first half of ``argparse``."""
    half = text[: len(text) // 2]
    line = half.index("\n    def ", len(half) // 3) + 1
    stop = text.index("\n    def ", line) + 1
    word = text.index("self", line)
    imports = "import os as _os\n"
    return {
        "insert an import": text.replace(imports, imports + "import json\n", 1),
        "insert a comment": text[:line] + "    # What follows is called once.\n" + text[line:],
        "rename a word": text[:word] + "this" + text[word + 4 :],
        "delete a method": text[:line] + text[stop:],
        "paste a method": text[:line] + text[line:stop] + text[line:],
    }


def _plain(model: Any, tokens: list[int]) -> None:
    import torch

    with torch.inference_mode():
        model(torch.tensor([tokens]), use_cache=True, logits_to_keep=1)


def _cpu_of(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
