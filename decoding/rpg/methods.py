"""From settings to rules: what a decoder, a processor or a server makes its rows' rules with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codegen.decoding.rpg.baselines import Dry, NoRepeatNgram, RepetitionPenalty
from codegen.decoding.rpg.critical import CriticalTokens
from codegen.decoding.rpg.grammar import GrammarRule
from codegen.decoding.rpg.options import (
    NoRepeatNgramOptions,
    Options,
    RepetitionPenaltyOptions,
    RpgOptions,
)
from codegen.decoding.rpg.reference import ReferenceRule
from codegen.decoding.rpg.rules import Rule

# Bytes whose tokens end a repetition for DRY, as its author has them.
_BREAKERS = frozenset(b'\n:"*')


@dataclass(frozen=True)
class Method:
    """A method with its options for one vocabulary: makes the rules of rows.

    Attributes:
        options: the settings.
        critical: the vocabulary's look-up, shared by all rows.
        eos: ids that end the sequence.
    """

    options: Options
    critical: CriticalTokens
    eos: frozenset[int]

    @classmethod
    def of(
        cls, options: Options, tokens: Sequence[bytes | None], eos: Iterable[int] = ()
    ) -> Method:
        """For a vocabulary given as the bytes of its tokens, None for special ones."""
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
