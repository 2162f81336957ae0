"""Decoding without repetition: RPG (repetition penalty by grammar) and simpler rules.

``structure`` follows a program token by token, with the tables of ``languages``, and ``repetition``
finds repetitions. ``penalties`` has the rules; ``methods`` applies them in our loop and in
transformers, ``vllm_processors`` in vLLM. ``METHODS`` maps each rule's name to its settings; this
module imports no tensor library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from codegen.core.config import Config, override, parse_config, setting
from codegen.core.errors import ConfigError
from codegen.decoding.rpg.languages import LANGUAGES, find_language

__all__ = [
    "DryOptions", "LANGUAGES", "METHODS", "MODES", "NoRepeatNgramOptions", "Options",
    "RepetitionPenaltyOptions", "RpgOptions", "find_language", "read_options",
]  # fmt: skip

Mode = Literal["ours", "paper"]
MODES: tuple[Mode, ...] = get_args(Mode)


class RpgOptions(Config):
    """Settings of RPG; penalties are in logits (nats)."""

    mode: Mode = setting("ours", "variant of RPG")
    language: str = setting("python", "language of the program")
    k_min: int = setting(
        4, "ours: minimum copies for a penalty, weighted by how little they add", ge=2, le=1000
    )
    strength: float = setting(2.0, "ours: penalty at k_min copies", ge=0, le=100)
    growth: float = setting(
        1.0, "ours: fraction of strength added per additional copy", ge=0, le=100
    )
    cap: float = setting(8.0, "ours: largest penalty", ge=0, le=1000)
    bonus: float = setting(
        0.5,
        "ours: bonus for tokens that end the repetition, as a fraction of the penalty; 0: none",
        ge=0,
        le=10,
    )
    decay: float = setting(0.9, "paper: logit factor per copy (lambda)", ge=0.01, le=1)
    period: int = setting(
        32, "longest block searched for, in statements or elements", ge=1, le=1024
    )
    tokens: int = setting(256, "longest cycle searched for, in tokens", ge=1, le=4096)

    def _check(self) -> None:
        find_language(self.language)


class RepetitionPenaltyOptions(Config):
    """Settings of the repetition penalty."""

    penalty: float = setting(
        1.1, "divisor of positive (factor of negative) logits of previous tokens", ge=1, le=100
    )


class NoRepeatNgramOptions(Config):
    """Settings of the n-gram rule."""

    size: int = setting(10, "length of n-grams that may occur only once, in tokens", ge=1, le=1000)


class DryOptions(Config):
    """Settings of DRY, with its author's defaults; penalties are in logits."""

    multiplier: float = setting(0.8, "penalty of the shortest penalized repetition", ge=0, le=100)
    base: float = setting(1.75, "growth factor of the penalty per additional token", ge=1, le=100)
    allowed: int = setting(2, "longest repetition without a penalty, in tokens", ge=1, le=1000)
    cap: float = setting(100.0, "largest penalty", ge=0, le=1000)
    breakers: bool = setting(True, "end repetitions at newlines, colons, quotes and asterisks")


Options = RpgOptions | RepetitionPenaltyOptions | NoRepeatNgramOptions | DryOptions

METHODS: Mapping[str, type[Options]] = {
    "rpg": RpgOptions,
    "repetition_penalty": RepetitionPenaltyOptions,
    "no_repeat_ngram": NoRepeatNgramOptions,
    "dry": DryOptions,
}


def read_options(method: str, given: Mapping[str, Any]) -> Options:
    """Parses a rule's options from names and values; string values are read as YAML.

    Raises:
        ConfigError: for an unknown rule or option, or a wrong value.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown rule {method!r}.", f"Choose one of: {', '.join(METHODS)}.")
    values: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, str):
            override(values, f"{name}={value}")
        else:
            values[name] = value
    return parse_config(METHODS[method], values, f"The decoder {method}")
