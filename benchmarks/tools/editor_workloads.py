"""What an editor's user does, as the contexts that a completion server sees one after the other.

A state of the editor is the text before and behind the cursor. A layout makes tokens of it:
``prefix`` for models that only continue; ``psm`` and ``spm`` fill in the middle, with the text
behind the cursor last or first. The marks' ids are those of unused special tokens: counts do not
depend on the model having been trained for them.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegen.decoding.editing import read, tail_tokens

_FIM_PREFIX, _FIM_SUFFIX, _FIM_MIDDLE = 7, 8, 9
LAYOUTS = ("prefix", "psm", "spm")

_METHODS = (
    "_munge_whitespace", "_split", "_fix_sentence_endings", "_handle_long_word", "_split_chunks",
    "wrap", "fill",
)  # fmt: skip

State = tuple[str, str]  # text before and behind the cursor


@dataclass(frozen=True, slots=True)
class Context:
    """What the model is given.

    Attributes:
        tokens: token ids.
        tail: those at the end that belong to the cursor's line and statement.
        statement: where these are if the suffix comes after them.
    """

    tokens: list[int]
    tail: int
    statement: tuple[int, int] | None = None


def lay_out(tokenizer: Any, state: State, layout: str) -> Context:
    """A state in one of the layouts."""
    before, behind = state

    def encode(text: str) -> Any:
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)

    encoded = encode(before)
    tail = tail_tokens([end for _, end in encoded.offsets], read(before).statement)
    if layout == "prefix":
        return Context(encoded.ids, tail)
    prefix, suffix = [_FIM_PREFIX, *encoded.ids], [_FIM_SUFFIX, *encode(behind).ids]
    if layout == "psm":
        end = len(prefix)
        return Context([*prefix, *suffix, _FIM_MIDDLE], 1, (end - tail, end))
    return Context([*suffix, *prefix, _FIM_MIDDLE], tail + 1)


def workloads() -> Mapping[str, list[State]]:
    """By name, the states of the editor; the first one is there before the user does anything.

    The file is made of methods of the standard library's ``textwrap``; the cursor stands in
    ``wrap``.
    """
    methods = [inspect.getsource(getattr(textwrap.TextWrapper, name)) for name in _METHODS]
    source = "import re\n\n\nclass TextWrapper:\n" + "\n".join(methods)
    cursor = source.index("        chunks = self._split_chunks(text)\n")
    before, behind = source[:cursor], source[cursor:]
    start = (before, behind)
    removed = _method(before, "_munge_whitespace")
    without = (before.replace(removed, ""), behind)
    upper = before.index("    def _split(self, text):")
    helper = (
        "    def _width_of(self, words):\n"
        '        """The number of characters of all words."""\n'
        "        total = 0\n"
        "        for word in words:\n"
        "            total += len(word)\n"
        "        return total\n\n"
    )
    at_helper = before.index("    def _handle_long_word")
    return {
        "type at the cursor": [start, *_typed(start, "        words = list(text.split())\n")],
        "rename above": [start, (re.sub(r"\bchunks\b", "pieces", before), behind)],
        "insert an import": [start, ("import re\nimport sys\n" + before[10:], behind)],
        "delete a function": [start, without],
        "undo and redo": [start, without, start, without],
        "paste": [start, (before[:at_helper] + helper + before[at_helper:], behind)],
        "cursor jump": [start, (source[:upper], source[upper:]), start],
        "format on save": [start, (_formatted(before), _formatted(behind))],
    }


def _method(source: str, name: str) -> str:
    """The text of a method up to the next one."""
    start = source.index(f"    def {name}")
    return source[start : source.index("    def ", start + 8)]


def _typed(start: State, text: str) -> list[State]:
    """One state after each key."""
    return [(start[0] + text[:size], start[1]) for size in range(1, len(text) + 1)]


def _formatted(text: str) -> str:
    """As a formatter might: double quotes, a blank in comments, no backslash at a line's end."""
    text = re.sub(r"(?<!')'(\w*)'(?!')", r'"\1"', text)
    text = re.sub(r"#(\w)", r"# \1", text)
    return re.sub(r" \\\n\s+", " ", text)
