"""Creates rules from settings, and applies them in the decoding loop and in transformers.

:class:`Method` makes a rule per row; :class:`Follower` keeps a rule in step with a growing list of
tokens; :class:`Penalized` is the loop's strategy. :class:`PenaltyProcessor` is a transformers
``LogitsProcessor`` for plain ``model.generate``::

    processor = PenaltyProcessor.of(tokenizer, "rpg", language="python", k_min=4)
    model.generate(**inputs, logits_processor=LogitsProcessorList([processor]))
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from codegen.decoding.drafts.protocol import common_prefix
from codegen.decoding.healing import Vocabulary
from codegen.decoding.loop import Batch, Strategy
from codegen.decoding.rpg import (
    NoRepeatNgramOptions,
    Options,
    RepetitionPenaltyOptions,
    RpgOptions,
    read_options,
)
from codegen.decoding.rpg.penalties import (
    CriticalTokens,
    Dry,
    GrammarRule,
    NoRepeatNgram,
    Penalty,
    RepetitionPenalty,
    Rule,
    apply,
    push_all,
)

# Tokens with these bytes end a repetition for DRY, as in its original implementation.
_BREAKERS = frozenset(b'\n:"*')
_MOST_BACK = 64  # tokens that can be removed without a restart from the prompt


@dataclass(frozen=True)
class Method:
    """A method with its options for one vocabulary; creates a rule per row.

    Attributes:
        options: the settings.
        critical: the vocabulary's lookup, shared by all rows.
        eos: ids that end the sequence.
    """

    options: Options
    critical: CriticalTokens
    eos: frozenset[int]

    @classmethod
    def of(
        cls, options: Options, tokens: Sequence[bytes | None], eos: Iterable[int] = ()
    ) -> Method:
        """Creates a method for a vocabulary, given as each token's bytes; None: a special token."""
        return cls(options, CriticalTokens(tokens), frozenset(eos))

    def rule(self) -> Rule:
        """Creates a rule for a new row."""
        options, tokens = self.options, self.critical.tokens
        if isinstance(options, RpgOptions):
            return GrammarRule(options, self.critical, self.eos)
        if isinstance(options, RepetitionPenaltyOptions):
            return RepetitionPenalty(options)
        if isinstance(options, NoRepeatNgramOptions):
            return NoRepeatNgram(options)
        breakers = [i for i, token in enumerate(tokens) if _BREAKERS.intersection(token or b"")]
        return Dry(options, breakers)


class Follower:
    """A rule kept in step with a token list that grows and may lose its last tokens.

    Args:
        method: the method, which creates the rule.
        prompt: the tokens that precede the list.
    """

    def __init__(self, method: Method, prompt: Sequence[int]) -> None:
        self._method, self._prompt = method, prompt
        self._start()

    def _start(self) -> None:
        self._rule = self._method.rule()
        push_all(self._rule, self._prompt)
        self._seen: list[int] = []
        self._before: list[Any] = []  # states before each of the last tokens

    def penalties(self, tokens: Sequence[int]) -> Sequence[Penalty]:
        """Returns the penalties after these tokens."""
        seen = self._seen
        if seen != tokens[: len(seen)]:
            self._go_back(common_prefix(seen, tokens))
        for token in tokens[len(self._seen) :]:
            self._before.append(self._rule.snapshot())
            del self._before[:-_MOST_BACK]
            self._rule.push(token)
            self._seen.append(token)
        return self._rule.penalties()

    def _go_back(self, length: int) -> None:
        back = len(self._seen) - length
        if back > len(self._before):
            self._start()
            return
        self._rule.restore(self._before[-back])
        del self._before[-back:], self._seen[length:]


class Penalized(Strategy):
    """Plain decoding with logits that a rule changes.

    Args:
        method: creates each row's rule, which reads the prompt at the first step.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._followers: dict[int, Follower] = {}

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        """Applies the rows' penalties to their logits."""
        apply(logits, [self._penalties(batch, number) for number in batch.numbers])

    def _penalties(self, batch: Batch, number: int) -> Sequence[Penalty]:
        row = batch.rows[number]
        if row.finish:
            return ()
        if number not in self._followers:
            self._followers[number] = Follower(self._method, row.prompt)
        return self._followers[number].penalties(row.tokens)


_BACK = 32  # maximum distance of a reused state from a row's end, in tokens
_ROUNDS = 4  # steps whose states are kept


class PenaltyProcessor(LogitsProcessor):
    """A logits processor that applies one method to every row.

    Rows are recognized by their tokens, not by their indices: beams may be reordered, prompts may
    change, and speculative decoding may remove tokens. A processor can be reused. The state of a
    finished row is dropped only when newer states replace it.

    Args:
        method: the method; :meth:`of` finds one by name.
        pad: the id that pads prompts on the left; None if absent.
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
        """Creates a processor for a method (``METHODS``) and its options.

        Args:
            tokenizer: the model's fast tokenizer.
            name: name of the method.
            eos: ids that end a sequence, by default the tokenizer's.
            options: the method's options.

        Raises:
            ConfigError: if the method or an option is unknown.
        """
        settings = read_options(name, options)
        end: Any = tokenizer.eos_token_id
        pad: Any = tokenizer.pad_token_id
        ends = ([] if end is None else [end]) if eos is None else eos
        return cls(Method.of(settings, Vocabulary.of(tokenizer).tokens, ends), pad)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Returns a copy of the scores [B, V] with penalties after the tokens [B, T]."""
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
