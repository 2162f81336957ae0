"""The rules as a transformers ``LogitsProcessor``, for plain ``model.generate``.

::

    processor = PenaltyProcessor.of(tokenizer, "rpg", language="python", k_min=4)
    model.generate(**inputs, logits_processor=LogitsProcessorList([processor]))

Rows are recognized by their tokens, not by their places: beams may change places, a new prompt may
come, and speculative decoding may take tokens back. A processor can be reused.

Limit: the state of a finished row is dropped only when newer states replace it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from codegen.decoding.healing import Vocabulary
from codegen.decoding.rpg.methods import Method
from codegen.decoding.rpg.options import read_options
from codegen.decoding.rpg.rules import Rule, apply, push_all

_BACK = 32  # how many tokens before a row's end a state is searched for
_ROUNDS = 4  # steps whose states are kept


class PenaltyProcessor(LogitsProcessor):
    """Applies one method to every row.

    Args:
        method: the method; :meth:`of` finds one by name.
        pad: the id that pads prompts on the left; None if there is none.
    """

    supports_continuous_batching = False

    def __init__(self, method: Method, pad: int | None = None) -> None:
        self._method = method
        self._pad = pad
        self._states: OrderedDict[bytes, Rule] = OrderedDict()

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        name: str = "rpg",
        *,
        eos: Iterable[int] | None = None,
        **options: Any,
    ) -> PenaltyProcessor:
        """A processor for a method (``options.METHODS``) and its options.

        Args:
            tokenizer: the model's, a fast one.
            name: of the method.
            eos: ids that end a sequence, by default the tokenizer's.
            options: of the method.

        Raises:
            ConfigError: for an unknown method or option.
        """
        settings = read_options(name, options)
        end: Any = tokenizer.eos_token_id
        pad: Any = tokenizer.pad_token_id
        ends = ([] if end is None else [end]) if eos is None else eos
        return cls(Method.of(settings, Vocabulary.of(tokenizer).tokens, ends), pad)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """A copy of the scores [B, V] with penalties after the tokens [B, T]."""
        rows = input_ids.to("cpu", torch.int64).numpy()
        rules = [self._rule(self._without_padding(row)) for row in rows]
        most = _ROUNDS * len(rows) + _BACK
        while len(self._states) > most:
            self._states.popitem(last=False)
        scores = scores.clone()
        apply(scores, [rule.penalties() for rule in rules])
        return scores

    def _without_padding(self, row: np.ndarray) -> np.ndarray:
        if self._pad is None or not len(row) or row[0] != self._pad:
            return row
        other = row != self._pad
        return row[int(other.argmax()) :] if other.any() else row[:0]

    def _rule(self, row: np.ndarray) -> Rule:
        size = len(row)
        whole = row.tobytes()
        if (rule := self._states.get(whole)) is not None:
            self._states.move_to_end(whole)
            return rule
        for length in range(size - 1, max(0, size - _BACK) - 1, -1):
            if (known := self._states.get(whole[: length * row.itemsize])) is not None:
                rule, left = known.fork(), row[length:]
                break
        else:
            rule, left = self._method.rule(), row
        push_all(rule, left.tolist())
        self._states[whole] = rule
        return rule
