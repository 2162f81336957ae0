"""Sentinels for filling in the middle: the model's own, and foreign ones in a client's prompt.

The templates are those of the evaluation's prompt styles. A model has a family if each of its
sentinels is one token of the model's vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from codegen.errors import ConfigError
from codegen.evals.tasks.styles import STYLES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Layout = Literal["auto", "psm", "spm", "prefix"]

_PART = re.compile(r"\{(prefix|suffix)\}")
# Families that were trained on both orders, or on the suffix first alone. The suffix first keeps
# what is typed at the prompt's end, where it costs least.
_SUFFIX_FIRST = ("starcoder", "santacoder", "codellama", "codestral")
# What other programs put into a prompt beyond the styles: GLM's.
_FOREIGN = ("<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",)


@dataclass(frozen=True)
class Family:
    """One order of one model family's sentinels.

    Attributes:
        name: of the prompt style.
        template: with ``{prefix}`` and ``{suffix}``.
        ends: strings that end the middle.
    """

    name: str
    template: str
    ends: tuple[str, ...] = ()

    @cached_property
    def parts(self) -> list[str]:
        """Sentinels and the names ``prefix`` and ``suffix``, in turn from a sentinel on."""
        return _PART.split(self.template)

    @property
    def suffix_first(self) -> bool:
        """Whether the prefix stands at the prompt's end (SPM)."""
        return self.template.endswith("{prefix}")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches a prompt in this layout."""
        named = [
            f"(?P<{part}>.*)" if part in ("prefix", "suffix") else re.escape(part)
            for part in self.parts
        ]
        return re.compile("(?P<before>.*?)" + "".join(named) + r"\Z", re.DOTALL)


class Foreign(NamedTuple):
    """What a client's prompt with sentinels asks for.

    Attributes:
        before: what stood before the first sentinel (other files).
    """

    prefix: str
    suffix: str
    before: str


def _families() -> list[Family]:
    infill = [style for style in STYLES.values() if style.ask == "infill"]
    return [Family(style.name, style.template, style.stop) for style in infill]


FAMILIES = _families()
_PATTERNS = [*FAMILIES, *(Family("foreign", template) for template in _FOREIGN)]
# Most specific first: the prefix between sentinels before the one at the end.
_PATTERNS.sort(key=lambda family: (family.suffix_first, -len(family.template)))


def find_family(tokenizer: PreTrainedTokenizerBase, layout: Layout = "auto") -> Family | None:
    """The model's family in the wished order; None if it has none, or the layout is ``prefix``.

    Raises:
        ConfigError: if an order is asked for that the model has no sentinels for.
    """
    if layout == "prefix":
        return None
    vocabulary = tokenizer.get_vocab()
    found = [family for family in FAMILIES if _has(vocabulary, family)]
    if layout != "auto":
        found = [family for family in found if family.suffix_first == (layout == "spm")]
        if not found:
            raise ConfigError(
                f"The model has no sentinels for the layout {layout!r}.",
                "Choose auto or prefix, or a model that was trained to fill in the middle.",
            )
    if not found:
        return None
    suffix_first = any(name in found[0].name for name in _SUFFIX_FIRST)
    wished = [family for family in found if family.suffix_first == suffix_first]
    return (wished or found)[0]


def _has(vocabulary: dict[str, int], family: Family) -> bool:
    sentinels = [part.strip() for part in family.parts if part not in ("prefix", "suffix")]
    sentinels = [part for text in sentinels for part in _split(text)]
    return all(part in vocabulary for part in sentinels if part)


def _split(text: str) -> Sequence[str]:
    """Two sentinels side by side are two tokens."""
    return re.findall(r"<[^<>]+>|\[[A-Z]+\]", text)


def parse_foreign(prompt: str) -> Foreign | None:
    """Reads a prompt in any family's layout; None if it is in none."""
    for family in _PATTERNS:
        found = family.pattern.match(prompt)
        if found:
            return Foreign(found["prefix"], found["suffix"], found["before"])
    return None
