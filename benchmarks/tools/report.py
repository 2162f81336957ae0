"""Benchmark reports: results with intervals, sample sizes, versions, seed, remedies."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.benchmarks.tools.statistics import Estimate
from codegen.core.errors import ConfigError, nearest

_DIGITS = 5  # significant digits; clocks are not more precise


@dataclass(slots=True)
class Report:
    """Collects results.

    Attributes:
        seed: random seed.
        figures: results by key; None if not measured.
        intervals: 95% intervals by result key.
        samples: sample sizes by result key.
        versions: versions of the measured software.
        notes: sentences that explain the results.
        install: install command per missing peer.
    """

    seed: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, list[float | None]] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    install: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Estimate | float | str | None, n: int | None = None) -> None:
        """Sets a result, with its interval if it is an estimate, and its sample size."""
        if isinstance(value, Estimate):
            if value.low is not None and value.high is not None:
                self.intervals[key] = [_rounded(value.low), _rounded(value.high)]
            value = value.value
        self.figures[key] = _rounded(value) if isinstance(value, float) else value
        if n is not None:
            self.samples[key] = n

    def mapping(self) -> dict[str, Any]:
        """Returns the results at the top level, then all other fields."""
        return {
            **self.figures,
            "intervals": self.intervals,
            "samples": self.samples,
            "seed": self.seed,
            "versions": self.versions,
            "notes": self.notes,
            "install": self.install,
        }


def at_least(least: int, **options: int) -> None:
    """Checks options.

    Raises:
        ConfigError: if an option is below ``least``.
    """
    for name, value in options.items():
        if value < least:
            raise ConfigError(f"Option {name} is {value}; it must be at least {least}.")


Run = Callable[..., Mapping[str, object]]
Needs = Mapping[str, tuple[str, Callable[[Mapping[str, Any]], object]]]


def options(
    quick: Mapping[str, Any] | None = None, needs: Needs | None = None
) -> Callable[[Run], Run]:
    """Declares the options of a benchmark's ``run``, and rejects options without effect.

    Args:
        quick: default values with ``--quick``, instead of the signature's.
        needs: by option (several separated by spaces), a description of the case without effect,
            such as ``without -o parts=soak``, and a function of all options and ``quick`` that
            returns True if the option has one.

    Returns:
        A decorator. The decorated ``run`` raises :class:`ConfigError`, before any work, for an
        option that is passed and has no effect.
    """

    def decorated(run: Run) -> Run:
        defaults = {key: one.default for key, one in inspect.signature(run).parameters.items()}

        @functools.wraps(run)
        def checked(small: bool = False, **given: Any) -> Mapping[str, object]:
            values = {**defaults, **((quick or {}) if small else {}), **given, "quick": small}
            for names, (circumstance, used) in (needs or {}).items():
                idle = [] if used(values) else [name for name in names.split() if name in given]
                for name in idle:
                    raise ConfigError(
                        f"Option {name} has no effect {circumstance}.", f"Remove -o {name}."
                    )
            return run(**{key: value for key, value in values.items() if key in defaults})

        return checked

    return decorated


def chosen_parts(text: str, known: Sequence[str]) -> set[str]:
    """Returns the parts named in a comma-separated option; all if it is empty.

    Raises:
        ConfigError: if a part is unknown.
    """
    names = {name.strip() for name in text.split(",") if name.strip()}
    for name in sorted(names - set(known)):
        hint = nearest(name, list(known))
        raise ConfigError(
            f"Unknown part {name!r}.", f"{hint} Choose from {', '.join(known)}.".lstrip()
        )
    return names or set(known)


def _rounded(value: float) -> float:
    if not math.isfinite(value) or value == 0:
        return value
    return round(value, _DIGITS - 1 - math.floor(math.log10(abs(value))))
