"""What a run writes: its journal and, if duplicates are looked for, the index of signatures.

The two are committed together: the index first, so that a crash between the two leaves an index
that knows too much, which is rolled back when the run goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from codegen.data.card import card
from codegen.data.journal import REJECTS, Journal, State
from codegen.data.manifest import MANIFEST, Manifest, RunConfig
from codegen.data.outcomes import Result
from codegen.data.screens import Dedup, DedupIndex, write_report
from codegen.data.screens.report import DECONTAMINATION

_INDEX = "dedup.sqlite"


class Output:
    """A context manager around the output of a run whose settings have been found to agree.

    Args:
        journal: opened; left open.
        dedup: None keeps duplicates.
    """

    def __init__(self, journal: Journal, dedup: Dedup | None) -> None:
        self.journal = journal
        self.dedup = dedup
        self.index: DedupIndex | None = None
        self._stack = ExitStack()

    @property
    def state(self) -> State:
        """How far the run is."""
        return self.journal.state

    def __enter__(self) -> Output:
        if self.dedup is not None and not self.state.done:
            path = self.journal.folder / _INDEX
            if not self.state.position:  # of a failed first try, whose settings may have been other
                for left in path.parent.glob(f"{path.name}*"):
                    left.unlink()
            self.index = DedupIndex(path, self.dedup)
            self._stack.callback(self.index.close)
            self.index.rollback_to(self.state.position)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def write(self, results: Sequence[Result], digest: str) -> None:
        """Writes the results of some inputs in order, duplicates among them as skipped."""
        first = self.state.position
        unique = [self._unique(first + place, result) for place, result in enumerate(results)]
        self.journal.write(unique, digest)

    def _unique(self, position: int, result: Result) -> Result:
        if self.index is None or result.signature is None:
            return result
        duplicate = self.index.add(position, result.id, result.signature)
        if duplicate is None:
            return result
        return Result(result.id, duplicate.outcome, duplicate.reason, duplicate.detail)

    def commit(self) -> None:
        """Makes what was written survive a crash."""
        if self.index is not None:
            self.index.commit()
        self.journal.commit()

    def finish(
        self, config: RunConfig, versions: Mapping[str, str], workers: int | None, command: str
    ) -> Manifest:
        """Writes the manifest, the card and the decontamination report, and puts all in place."""
        texts: dict[str, str] = {}
        removed: Mapping[str, Any] = {}
        report: tuple[str, ...] = ()
        if config.decontamination is not None:
            removed = write_report(
                self.journal.find(REJECTS), self.journal.folder / DECONTAMINATION
            )
            report = (DECONTAMINATION,)
        manifest = _manifest(config, self.state, versions, workers, removed, command)
        # card.md is the card's documented name; the hub and datasets take the YAML header, which
        # keeps rejects.jsonl out of the data, from a README.md alone.
        texts["card.md"] = texts["README.md"] = card(manifest)
        texts[MANIFEST] = manifest.to_json()
        self.journal.publish(texts, report)
        return manifest


def _manifest(
    config: RunConfig,
    state: State,
    versions: Mapping[str, str],
    workers: int | None,
    removed: Mapping[str, Any],
    command: str,
) -> Manifest:
    seconds = max(state.seconds, 1e-9)
    return Manifest(
        run=config,
        fingerprint=config.fingerprint(),
        counts={
            "inputs": state.position,
            "kept": state.kept,
            "skipped": dict(sorted(state.skipped.items())),
            "failed": dict(sorted(state.failed.items())),
        },
        texts=state.texts,
        characters={"prompt": state.prompt_characters, "trained": state.trained_characters},
        licences=dict(sorted(state.licences.items())),
        files=tuple(state.files),
        versions=versions,
        throughput={
            "seconds": round(seconds, 3),
            "inputs_per_s": round(state.position / seconds, 2),
            "workers": workers,
        },
        statistics=state.statistics.to_json(),
        removed=removed,
        command=command,
    )
