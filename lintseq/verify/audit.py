"""How often pylint objects to states that a faster check let pass: an estimate from a sample.

The interval is Wilson's (1927), which holds its level for rates near 0, where the usual one
collapses to a point (Brown, Cai and DasGupta 2001).
"""

from __future__ import annotations

import math

from codegen.errors import ConfigError

_Z95 = 1.959963984540054


def wilson_interval(hits: int, trials: int, z: float = _Z95) -> tuple[float, float]:
    """Wilson's score interval of a rate, at 95 % by default; (0, 1) without trials.

    Raises:
        ConfigError: unless 0 <= hits <= trials.
    """
    if not 0 <= hits <= trials:
        raise ConfigError(f"{hits} of {trials} is no rate.")
    if trials == 0:
        return 0.0, 1.0
    rate = hits / trials
    scale = 1 + z * z / trials
    middle = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low = 0.0 if hits == 0 else (middle - spread) / scale
    high = 1.0 if hits == trials else (middle + spread) / scale
    return low, high


def audit_summary(audited: int, dirty: int) -> str:
    """One line for people: the share of audited states that pylint objects to.

    Raises:
        ConfigError: unless 0 <= dirty <= audited.
    """
    low, high = wilson_interval(dirty, audited)
    if audited == 0:
        return "pylint audit: no state was drawn."
    return (
        f"pylint audit: {dirty} of {audited} states dirty, {dirty / audited:.2%} "
        f"(95 % interval {low:.2%} to {high:.2%})."
    )
