"""Edits in a key-value cache: update methods, their cost, and editor contexts.

A *case* is a context before and after an edit, up to the cursor. ``benchmarks/data`` has edits of a
definition while a use of it is typed (:data:`RELATED`).
"""

from __future__ import annotations

import argparse
import inspect
import re
import statistics
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from codegen.decoding.editing import EditableCache, EditPolicy, read, tail_tokens

_FILE = Path(__file__).resolve().parents[1] / "data" / "related_edits.yaml"
_TEXTWRAP = (
    "_munge_whitespace", "_split", "_fix_sentence_endings", "_handle_long_word", "_split_chunks",
    "wrap", "fill",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EditCase:
    """Token ids before and after an edit; ``tail``: number of last tokens to re-encode."""

    before: list[int]
    after: list[int]
    tail: int


@dataclass(frozen=True, slots=True)
class RelatedEdit:
    """A definition before and after its edit, the text up to the cursor, and two continuations.

    Attributes:
        rest: text from the definition's end to the cursor.
        right, wrong: continuations that fit the new and the old definition.
    """

    name: str
    before: str
    after: str
    rest: str
    right: str
    wrong: str


def _related() -> tuple[RelatedEdit, ...]:
    data = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    found = []
    for row in data["edits"]:
        between = data["between"] + data["longer"] * row.pop("long", False)
        found.append(RelatedEdit(rest=f"\n\n{between}{row.pop('cursor')}", **row))
    return tuple(found)


RELATED = _related()


def make_case(tokenizer: Any, before: str, after: str) -> EditCase:
    """Returns a case of two prefixes that end at the cursor."""
    old = tokenizer.backend_tokenizer.encode(before, add_special_tokens=False)
    new = tokenizer.backend_tokenizer.encode(after, add_special_tokens=False)
    ends = [end for _, end in new.offsets]
    return EditCase(old.ids, new.ids, tail_tokens(ends, read(after).statement))


def logits_behind(model: Any, case: EditCase) -> dict[str, torch.Tensor]:
    """Returns logits [V] after a case's text: exact as ``full``, and by method.

    Methods: ``ignored`` (the old cache), ``conflict`` (PIE without its rotation), ``pie``, ``ours``
    (PIE, moved text reused, the statement at the cursor re-encoded).
    """
    old = EditableCache(model)
    old.update(case.before)
    exact = old.fork()
    exact.update(case.after, tail=0)
    exact.recompute()
    found = {"full": exact.logits, "ignored": old.logits}
    ours = EditPolicy()
    methods = {
        "conflict": (replace(ours, rotate=False, sink=0), 0),
        "pie": (replace(ours, sink=0), 0),
        "ours": (ours, case.tail),
    }
    for name, (policy, tail) in methods.items():
        cache = old.fork()
        cache.policy = policy
        cache.update(case.after, tail=tail)
        found[name] = cache.logits
    return found


def speed(
    model: Any, tokenizer: Any, length: int, repeats: int
) -> tuple[float, dict[str, dict[str, float]]]:
    """Returns the CPU seconds of a full recompute, and an update's cost by kind of edit.

    Args:
        length: tokens of the context, from the beginning of ``argparse``.
        repeats: updates whose median is taken; with 1 the full recompute is the cache's own first
            update, else a plain forward pass.
    """
    text = inspect.getsource(argparse)
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    text = text[: offsets[length - 1][1]]
    cases = {name: make_case(tokenizer, text, after) for name, after in _edits_of(text).items()}
    tokens = next(iter(cases.values())).before
    cache = EditableCache(model)
    began = time.process_time()
    cache.update(tokens)
    if repeats > 1:
        began = time.process_time()
        with torch.inference_mode():
            model(torch.tensor([tokens]), use_cache=True, logits_to_keep=1)
    full = time.process_time() - began
    table = {}
    for name, case in cases.items():
        spent, encoded = [], 0
        for _ in range(repeats):
            fork = cache.fork()
            began = time.process_time()
            encoded = fork.update(case.after, tail=case.tail).encoded
            spent.append(time.process_time() - began)
        cpu = statistics.median(spent)
        table[name] = {"cpu_s": cpu, "encoded": encoded, "ratio": full / cpu}
    return full, table


def _edits_of(text: str) -> dict[str, str]:
    """Returns single edits of the first half of ``argparse``."""
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


def tokens_encoded(tokenizer: Any) -> dict[str, int]:
    """Counts the tokens that the cache encodes after each editor workload's first state.

    The counts do not depend on weights, so the model is a small random one.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=8192,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    table = {}
    for name, states in _workloads().items():
        cache, total = EditableCache(model), 0
        for number, text in enumerate(states):
            context = make_case(tokenizer, "", text)
            encoded = cache.update(context.after, tail=context.tail).encoded
            total += encoded if number else 0
        table[name] = total
    return table


def _workloads() -> Mapping[str, Sequence[str]]:
    """Returns each workload's successive prefixes of ``textwrap``'s methods, up to the cursor."""
    methods = [inspect.getsource(getattr(textwrap.TextWrapper, name)) for name in _TEXTWRAP]
    source = "import re\n\n\nclass TextWrapper:\n" + "\n".join(methods)
    start = source[: source.index("        chunks = self._split_chunks(text)\n")]
    first = source.index("    def _munge_whitespace")
    without = start[:first] + start[source.index("    def ", first + 8) :]
    helper = '    def _count(self, words):\n        """Counts."""\n        return len(words)\n\n'
    at = start.index("    def _handle_long_word")
    typed = "        words = list(text.split())\n"
    return {
        "type at the cursor": [start + typed[:size] for size in range(len(typed) + 1)],
        "rename above": [start, re.sub(r"\bchunks\b", "pieces", start)],
        "insert an import": [start, "import re\nimport sys\n" + start[10:]],
        "delete a function": [start, without],
        "undo and redo": [start, without, start, without],
        "paste": [start, start[:at] + helper + start[at:]],
        "cursor jump": [start, source[: source.index("    def _split(self, text):")], start],
    }
