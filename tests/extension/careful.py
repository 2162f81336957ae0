"""Two halves of a decoder: a reader of code blocks, and min-p sampling."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from codegen.core.config import Config, parse_config, setting
from codegen.generation.decoders import Decoded, Reader, StrategySpec

if TYPE_CHECKING:
    import torch

    from codegen.decoding.loop import Batch, Row, Strategy

FENCE = re.compile(r"^```[^\n`]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)


def first_block(text: str, finish_reason: str) -> Decoded:
    """The first fenced block of a text, also if its end is missing; without one, the text."""
    found = FENCE.search(text)
    if found is None:
        return Decoded(text, meta={"blocks": 0})
    return Decoded(found[1], actions=text, meta={"blocks": len(FENCE.findall(text))})


FIRST_BLOCK = Reader("the first fenced block of the text is the program", first_block)


class MinPOptions(Config):
    """Options of ``min_p``."""

    share: float = setting(0.1, "Share of the most probable token's probability.", gt=0, le=1)


def read_options(given: Mapping[str, Any]) -> MinPOptions:
    """The options as they were given, checked."""
    return parse_config(MinPOptions, dict(given), "The decoder min_p")


def min_p(options: MinPOptions, rows: "Sequence[Row]") -> "Strategy":
    """The strategy; torch is imported no sooner than it is used."""
    from codegen.decoding.loop import Strategy

    class MinP(Strategy):
        """Forbids tokens less probable than a share of the most probable one."""

        def adjust(self, batch: "Batch", logits: "torch.Tensor") -> None:
            least = logits.amax(-1, keepdim=True) + math.log(options.share)
            logits.masked_fill_(logits < least, -math.inf)

    return MinP()


MIN_P = StrategySpec("tokens of at least a share of the best", "loop", read_options, make=min_p)
