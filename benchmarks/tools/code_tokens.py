"""Token ids of real code, random edits of it, and the steps of coding agents."""

from __future__ import annotations

import gzip
import json
import random
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codegen.core.errors import InputError

_SKIPPED = ("site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__")


class Code:
    """The embedded model's tokenizer, without the model."""

    def __init__(self) -> None:
        from codegen.models import load_tokenizer

        self.tokenizer: Any = load_tokenizer("embedded")

    def encode(self, text: str) -> list[int]:
        """Returns token ids, without special tokens."""
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of token ids."""
        return self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False)

    def line_ends(self) -> frozenset[int]:
        """Returns the ids of tokens that contain a line break."""
        ids = range(len(self.tokenizer))
        return frozenset(i for i in ids if "\n" in self.decode([i]))

    def library(self, seed: int, tokens: int) -> list[list[int]]:
        """Returns random modules of Python's standard library, up to a number of tokens."""
        found: list[list[int]] = []
        total = 0
        for path in _modules(seed):
            if total >= tokens:
                break
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            if text.strip():
                found.append(self.encode(text))
                total += len(found[-1])
        return found


def random_edits(tokens: Sequence[int], rate: float, rng: random.Random) -> list[int]:
    """Replaces, deletes or inserts before each token, with total probability ``rate``.

    All three are equally frequent; new tokens are sampled from the text itself.
    """
    edited: list[int] = []
    for token in tokens:
        kind = rng.randrange(3) if rng.random() < rate else None
        if kind in (0, 1):
            edited.append(rng.choice(tokens))
        if kind in (1, None):
            edited.append(token)
    return edited


def trace_steps(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """Yields the steps (the agent's context and response) of each trajectory in a folder.

    Raises:
        InputError: if the folder has none.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(folder.glob("*.traj.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            steps = json.load(file)["trajectory"]
        seen = ""
        found[path.name] = []
        for step in steps:
            action = step.get("action") or ""
            answer = step.get("response") or ""
            # If the model calls functions, the response contains only the text.
            text = answer if action.strip() in answer else f"{answer}\n```\n{action}\n```"
            found[path.name].append((seen, text))
            seen = step.get("observation") or ""
    if not found:
        raise InputError(f"No .traj.gz file in {folder}.")
    return found


def _modules(seed: int) -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [p for p in root.rglob("*.py") if not set(p.relative_to(root).parts) & set(_SKIPPED)]
    paths.sort()
    random.Random(seed).shuffle(paths)
    return paths
