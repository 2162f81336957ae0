"""The numbers of an audit, with Wilson's 95% intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import codegen
from codegen.evals.statistics import wilson

from .rows import Row

CHECKS: Mapping[str, tuple[str, Callable[[Row], bool]]] = {
    "weak": ("accept a program that is proved wrong", lambda row: bool(row.proved)),
    "dead": ("have assertions that test nothing", lambda row: bool(row.dead or row.constants)),
    "forgeable": ("accept a forger", lambda row: bool(row.forgers)),
    "unstable": ("have a reference with changing results", lambda row: bool(row.unstable)),
    "duplicates": ("are similar to another problem", lambda row: bool(row.duplicates)),
}


def fraction(count: int, total: int) -> dict[str, Any]:
    """Returns a proportion with its 95% interval; None where the total is 0."""
    value = count / total if total else None
    low, high = wilson(count / total, total) if total else (None, None)
    return {"count": count, "of": total, "value": value, "low": low, "high": high}


def summarize(rows: Sequence[Row], about: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the summary as JSON values.

    Args:
        about: the task and the settings.
    """
    audited = [row for row in rows if row.state == "audited"]
    with_reference = [row for row in rows if row.state not in ("no_reference", "unreadable")]
    survivors = [survivor for row in audited for survivor in row.survivors]
    return {
        **about,
        "version": codegen.__version__,
        "problems": len(rows),
        "states": dict(Counter(row.state for row in rows)),
        "references": fraction(len(audited), len(with_reference)),
        **{name: _share(audited, holds) for name, (_, holds) in CHECKS.items()},
        "trust": dict(Counter(row.trust for row in audited)),
        "mutants": sum(sum(row.mutants.values()) for row in audited),
        "survivors": len(survivors),
        "proved": sum(survivor.is_proved for survivor in survivors),
        "classes": {kind: _of_class(audited, kind) for kind in _classes(audited)},
        "agreement": _agreement([row for row in audited if row.suite]),
        "added_tests": sum(len(row.added) for row in audited),
        "killed_by_added_tests": sum(survivor.killed for survivor in survivors),
    }


def _share(rows: Sequence[Row], holds: Callable[[Row], bool]) -> dict[str, Any]:
    return fraction(sum(map(holds, rows)), len(rows))


def _classes(rows: Iterable[Row]) -> list[str]:
    return sorted({kind for row in rows for kind in row.mutants})


def _of_class(rows: Sequence[Row], kind: str) -> dict[str, Any]:
    """Counts the mutants of one class; the fraction is of the problems that have some."""
    having = [row for row in rows if kind in row.mutants]
    survivors = [s for row in having for s in row.survivors if s.kind == kind]
    return {
        "mutants": sum(row.mutants[kind] for row in having),
        "survivors": len(survivors),
        "proved": sum(survivor.is_proved for survivor in survivors),
        "weak": _share(having, lambda row: any(s.kind == kind for s in row.proved)),
    }


def _agreement(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Compares the verdicts from generated inputs with a stronger suite's; None without one."""
    if not rows:
        return None
    survivors = [(row.id, s) for row in rows for s in row.survivors]

    def compare(items: Iterable[tuple[bool, bool]]) -> dict[str, Any]:
        counts = Counter(items)
        both = counts[True, True]
        return {
            "both": both,
            "only_inputs": counts[True, False],
            "only_suite": counts[False, True],
            "recall": fraction(both, both + counts[False, True]),
            "precision": fraction(both, both + counts[True, False]),
        }

    by = [("inputs" in s.proved_by, "suite" in s.proved_by) for _, s in survivors]
    tasks = [
        tuple(any(name in s.proved_by for s in row.survivors) for name in ("inputs", "suite"))
        for row in rows
    ]
    caught = [s for _, s in survivors if "suite" in s.proved_by]
    return {
        "problems": len(rows),
        "mutants": compare(by),
        "tasks": compare(tasks),  # type: ignore[arg-type]
        "hardened": fraction(sum(s.killed for s in caught), len(caught)),
    }
