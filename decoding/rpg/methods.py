"""Makes rules from settings and applies them in the decoding loop.

:class:`Method` makes a rule per row; :class:`Follower` keeps a rule in step with a growing list of
tokens; :class:`Penalized` is the loop's strategy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codegen.decoding.drafts.protocol import common_prefix
from codegen.decoding.loop import Batch, Strategy
from codegen.decoding.rpg.grammar import CriticalTokens, GrammarRule
from codegen.decoding.rpg.options import (
    NoRepeatNgramOptions,
    Options,
    RepetitionPenaltyOptions,
    RpgOptions,
)
from codegen.decoding.rpg.reference import ReferenceRule
from codegen.decoding.rpg.rules import (
    Dry,
    NoRepeatNgram,
    Penalty,
    RepetitionPenalty,
    Rule,
    apply,
    push_all,
)

# Tokens with these bytes end a repetition for DRY, as its author chose.
_BREAKERS = frozenset(b'\n:"*')
_MOST_BACK = 64  # tokens that can be taken back without reading the text again


@dataclass(frozen=True)
class Method:
    """A method with its options for one vocabulary; makes a rule per row.

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
        """A method for a vocabulary, given as the bytes of its tokens; None for special ones."""
        return cls(options, CriticalTokens(tokens), frozenset(eos))

    def rule(self) -> Rule:
        """A rule for a new row."""
        options, tokens = self.options, self.critical.tokens
        if isinstance(options, RpgOptions):
            if options.mode == "reference":
                return ReferenceRule(tokens, self.eos, options.decay)
            return GrammarRule(options, self.critical, self.eos)
        if isinstance(options, RepetitionPenaltyOptions):
            return RepetitionPenalty(options)
        if isinstance(options, NoRepeatNgramOptions):
            return NoRepeatNgram(options)
        breakers = [i for i, token in enumerate(tokens) if _BREAKERS.intersection(token or b"")]
        return Dry(options, breakers)


class Follower:
    """A rule in step with a list of tokens that grows, and may lose its last tokens.

    Args:
        method: makes the rule.
        prompt: the tokens before the list.
    """

    def __init__(self, method: Method, prompt: Sequence[int]) -> None:
        self._method, self._prompt = method, prompt
        self._start()

    def _start(self) -> None:
        self._rule = self._method.rule()
        push_all(self._rule, self._prompt)
        self._seen: list[int] = []
        self._before: list[Any] = []  # states before each of the last seen tokens

    def penalties(self, tokens: Sequence[int]) -> Sequence[Penalty]:
        """The penalties after these tokens."""
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
    """Plain decoding with logits changed by a rule.

    Args:
        method: makes each row's rule, which reads the prompt at the first step.
    """

    def __init__(self, method: Method) -> None:
        self._method = method
        self._followers: dict[int, Follower] = {}

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        """See :class:`Strategy`."""
        apply(logits, [self._penalties(batch, number) for number in batch.numbers])

    def _penalties(self, batch: Batch, number: int) -> Sequence[Penalty]:
        row = batch.rows[number]
        if row.finish:
            return ()
        if number not in self._followers:
            self._followers[number] = Follower(self._method, row.prompt)
        return self._followers[number].penalties(row.tokens)
