"""Token ids of real code, and edits of it: random ones, and those of a repository's history."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.errors import InputError

_SKIPPED = ("site-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A text as it was and as it became, in token ids."""

    name: str
    before: list[int]
    after: list[int]


class Code:
    """The embedded model's tokenizer, without the model."""

    def __init__(self) -> None:
        from codegen.models import load_tokenizer

        self.tokenizer: Any = load_tokenizer("embedded")

    def encode(self, text: str) -> list[int]:
        """Token ids, without special tokens."""
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""
        return self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=False)

    def line_ends(self) -> frozenset[int]:
        """Ids of the tokens that hold a line break."""
        ids = range(len(self.tokenizer))
        return frozenset(i for i in ids if "\n" in self.decode([i]))

    def library(self, seed: int, tokens: int) -> list[list[int]]:
        """Modules of the running Python's standard library in random order, until there are as many
        tokens.
        """
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

    def history(self, repository: str, count: int, longest: int) -> list[Rewrite]:
        """Changed Python files of a git repository's newest commits, one a commit, all that git
        names modified and that have at most ``longest`` tokens.

        Raises:
            InputError: if git can't read the repository.
        """
        found: list[Rewrite] = []
        for name, before, after in changed_files(repository):
            if len(found) == count:
                break
            rewrite = Rewrite(name, self.encode(before), self.encode(after))
            if 100 <= len(rewrite.after) <= longest and rewrite.before != rewrite.after:
                found.append(rewrite)
        return found


def random_edits(tokens: Sequence[int], rate: float, rng: random.Random) -> list[int]:
    """Each token is, with probability ``rate``, replaced, preceded by another, or left out, alike
    often; new tokens are drawn from the text itself.
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
    """Steps (what the agent saw before, what it answered) of each trajectory in a folder.

    Raises:
        InputError: if there is none.
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
            # Where the model calls functions, the response holds the words alone.
            text = answer if action.strip() in answer else f"{answer}\n```\n{action}\n```"
            found[path.name].append((seen, text))
            seen = step.get("observation") or ""
    if not found:
        raise InputError(f"There is no .traj.gz file in {folder}.")
    return found


def _modules(seed: int) -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = [p for p in root.rglob("*.py") if not set(p.relative_to(root).parts) & set(_SKIPPED)]
    paths.sort()
    random.Random(seed).shuffle(paths)
    return paths


def changed_files(repository: str) -> Iterator[tuple[str, str, str]]:
    """The first Python file that each commit modified, newest first: name, text before and after.

    Raises:
        InputError: if git can't read the repository.
    """
    log = _git(
        repository, "log", "--no-merges", "--diff-filter=M", "--name-only", "--format=%x00%H",
        "-n", "5000", "--", "*.py",
    )  # fmt: skip
    for entry in log.split("\0")[1:]:
        commit, *names = entry.split()
        for name in names[:1]:
            try:
                before = _git(repository, "show", f"{commit}^:{name}")
                after = _git(repository, "show", f"{commit}:{name}")
            except (InputError, UnicodeDecodeError):
                continue  # the first commit of a shallow clone, or no text
            yield f"{commit[:10]} {name}", before, after


def _git(repository: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", repository, *arguments], capture_output=True, check=False
        )
    except FileNotFoundError:
        raise InputError("Git is not installed.", "Install it, or leave the option out.") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        reason = words[-1] if words else "no reason given"
        raise InputError(f"Git can't read {repository}: {reason}.")
    return done.stdout.decode()
