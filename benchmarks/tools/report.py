"""What a benchmark returns: figures with intervals, sample sizes, versions, seed, remedies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from codegen.benchmarks.tools.statistics import Estimate
from codegen.errors import ConfigError, nearest

_DIGITS = 5  # significant; no clock here is better


@dataclass(slots=True)
class Report:
    """Collects figures.

    Attributes:
        seed: of all randomness.
        figures: by key; None for what could not be measured.
        intervals: 95 % intervals, by the figure's key.
        samples: sample sizes, those of a figure under its key.
        versions: of what was measured.
        notes: sentences that a reader of the figures needs.
        install: how to install each peer that is missing.
    """

    seed: int = 0
    figures: dict[str, Any] = field(default_factory=dict)
    intervals: dict[str, list[float | None]] = field(default_factory=dict)
    samples: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    install: dict[str, str] = field(default_factory=dict)

    def set(self, key: str, value: Estimate | float | str | None, n: int | None = None) -> None:
        """Sets a figure, with its interval if it is an estimate, and its sample size."""
        if isinstance(value, Estimate):
            if value.low is not None and value.high is not None:
                self.intervals[key] = [_rounded(value.low), _rounded(value.high)]
            value = value.value
        self.figures[key] = _rounded(value) if isinstance(value, float) else value
        if n is not None:
            self.samples[key] = n

    def mapping(self) -> dict[str, Any]:
        """The figures at the top, then what goes with them."""
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
        ConfigError: naming the first that is below ``least``.
    """
    for name, value in options.items():
        if value < least:
            raise ConfigError(f"Option {name} is {value}; it must be at least {least}.")


def only_with(needed: str, used: bool, **given: bool) -> None:
    """Rejects options that have no effect.

    Args:
        needed: what must be given for them to have one, such as ``-o parts=soak``.
        used: whether it is given.
        given: by option, whether it differs from its default.

    Raises:
        ConfigError: naming the first option that is given and not used.
    """
    for name, changed in given.items():
        if changed and not used:
            raise ConfigError(
                f"Option {name} has no effect without {needed}.", f"Add {needed}, or remove {name}."
            )


def chosen_parts(text: str, known: Sequence[str]) -> set[str]:
    """The parts named in a comma-separated option; all if it is empty.

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
