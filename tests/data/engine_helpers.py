"""What the engine's tests share."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from tiny_generators import Counter

from codegen.core.records import Example
from codegen.data import EngineOptions, MemorySource, Rejected, read_rejects
from tests.processes import descendants

SMALL = EngineOptions(chunk_size=7, commit_every_s=0.0, shard_bytes=4000)
HELPER = Path(__file__).with_name("tiny_generators.py")


def contents(out: Path) -> dict[str, bytes]:
    """All files of a data directory; of the manifest, all but the timing."""
    files = {path.name: path.read_bytes() for path in sorted(out.iterdir())}
    manifest = json.loads(files["manifest.json"])
    del manifest["throughput"]
    files["manifest.json"] = json.dumps(manifest).encode()
    return files


def programs(*texts: str) -> MemorySource:
    return MemorySource(tuple(Example(f"e{i}", "do", text) for i, text in enumerate(texts)))


def outcomes(out: Path) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["outcome"], row["reason"]) for row in read_rejects(out)}


class Breaking(Counter):
    """A source that breaks off after fifty items."""

    def __iter__(self) -> Iterator[Example | Rejected]:
        for number, item in enumerate(super().__iter__()):
            if number == 50:
                raise RuntimeError("the network is gone")
            yield item


def kill_tree(pid: int) -> list[int]:
    """Kills a process with all below it, the parent first, as an end of a session does."""
    below = descendants(pid)
    for one in [pid, *below]:
        with suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)
    return below


def survives_kills(command: Sequence[str], folder: Path, kills: int, seed: int) -> None:
    """Runs a command (followed by the directory to make) that is killed at random moments.

    Each directory in the end holds what an undisturbed run makes.
    """
    rng = random.Random(seed)
    began = time.monotonic()
    subprocess.run([*command, folder / "whole"], check=True, timeout=300)
    duration = time.monotonic() - began
    expected = contents(folder / "whole")
    made = done = 0
    while done < kills:
        out = folder / f"killed-{made}"
        made += 1
        while True:
            wait_s = duration * rng.uniform(0.05, 1.1) if done < kills else 300
            with subprocess.Popen([*command, out]) as process:
                try:
                    assert process.wait(wait_s) == 0
                    break
                except subprocess.TimeoutExpired:
                    kill_tree(process.pid)
                    done += 1
        assert contents(out) == expected
    assert done == kills
