"""Decoders: a reader (text to program) joined with a strategy (how tokens are chosen).

Readers: ``sample`` takes the text as the program; ``edit_sequence`` takes it as a LintSeq edit
sequence and resolves it. What was malformed is counted in the completion's ``meta``: a hunk with
wrong numbers is applied as the published resolver does, one that can't be read or placed is
skipped. ``mended`` counts, by kind, what was not in the published form but read as it was meant.

Strategies, each with options of its own; a name without one samples token by token:

* ``rpg``, ``repetition_penalty``, ``no_repeat_ngram`` and ``dry`` change the logits
  (``codegen.decoding.rpg``);
* ``suffix`` and ``edit`` draft several tokens that the model then verifies at once
  (``codegen.decoding.drafts``): the same completion, sooner;
* ``rsd`` has a smaller model draft trees (``codegen.decoding.rsd``): greedy completions are the
  same, sampled ones follow the same distribution;
* ``sorted`` has the early layers of a nested model draft (``codegen.decoding.s2d``): the same
  completion;
* ``superposed`` makes the samples of a prompt together, by one forward pass for a token of all of
  them (``codegen.decoding.superposed``);
* ``backspace`` is for models that take tokens back, ``insertion`` for models that insert tokens in
  any order.

A plus joins a reader and a strategy: ``edit_sequence+dry``. What a strategy requires of a back-end
is checked by :func:`supported`.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from codegen.decoding.rpg import METHODS, read_options
from codegen.errors import ConfigError
from codegen.generation.draft_model import read_draft_model, read_sorted_draft
from codegen.generation.filling import Settings as InsertionOptions
from codegen.generation.protocol import CAPABILITIES, Backend, Decoder
from codegen.generation.superposed import read_superposed
from codegen.records import FinishReason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A finished text, read by its decoder; see the fields of the same names in ``Completion``."""

    text: str
    actions: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reader:
    """How a finished text becomes a program.

    Attributes:
        about: one line for the help.
        read: turns the text that the model wrote, and why it ended, into a program.
        stop: its own stop strings, if it ignores the request's (they would cut its actions).
    """

    about: str
    read: Callable[[str, FinishReason], Decoded]
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Strategy:
    """How tokens are chosen.

    Attributes:
        about: one line for the help.
        requires: the capability that a back-end must have, a name of ``CAPABILITIES``; empty for
            plain sampling.
        read_options: validates the decoder's options; raises ``ConfigError``.
        heals: whether the first token may reach back over the prompt's end.
        joins: whether it can be joined with another reader than ``sample``.
    """

    about: str
    requires: str
    read_options: Callable[[Mapping[str, Any]], Any]
    heals: bool = True
    joins: bool = True


@dataclass(frozen=True, slots=True)
class Resolved:
    """A decoder's parts.

    Attributes:
        name: as it was given.
        reader: turns text into a program.
        method: the strategy's name, ``sample`` for plain sampling.
        strategy: how tokens are chosen.
        options: the strategy's, validated; None where it has none.
    """

    name: str
    reader: Reader
    method: str
    strategy: Strategy
    options: Any

    def stops(self, requested: tuple[str, ...]) -> tuple[str, ...]:
        """The stop strings in force for a request."""
        return requested if self.reader.stop is None else self.reader.stop


@dataclass(frozen=True, slots=True)
class Drafts:
    """Options of ``suffix`` and ``edit``.

    Attributes:
        drafters: their names in order of preference.
        token_cost: what a drafted token is taken to cost, in plain passes; None to measure it.
    """

    drafters: tuple[str, ...]
    token_cost: float | None = None


# Two empty edits end a sequence in LintSeq's format, so there is no need to wait for the EOS.
_END_OF_EDITS = "\n<|diff|>\n<|diff|>"


def _read_text(text: str, _: FinishReason) -> Decoded:
    return Decoded(text)


def _read_edits(text: str, finish_reason: FinishReason) -> Decoded:
    from codegen.lintseq import resolve

    if finish_reason == "stop":
        text += _END_OF_EDITS
    resolution = resolve(text, recount=True)
    meta = {
        "edits": len(resolution.edits),
        "malformed": len(resolution.malformed),
        "mended": dict(Counter(mend.kind for mend in resolution.mended)),
        "complete": resolution.complete,
    }
    return Decoded(resolution.program, actions=text, meta=meta)


def _no_options(name: str, given: Mapping[str, Any]) -> None:
    for option in given:
        raise ConfigError(f"The decoder {name!r} takes no option {option!r}.")


def _read_drafts(name: str, drafters: tuple[str, ...], given: Mapping[str, Any]) -> Drafts:
    for option in given:
        if option != "token_cost":
            raise ConfigError(
                f"The decoder {name!r} takes no option {option!r}.",
                "Its only option is token_cost.",
            )
    if "token_cost" not in given:
        return Drafts(drafters)
    try:
        cost = float(given["token_cost"])
    except (TypeError, ValueError):
        cost = -1.0
    if not 0 <= cost < math.inf:
        raise ConfigError(
            f"token_cost is {given['token_cost']!r}; it must be a number of plain passes, at least "
            "0.",
            "Set for example token_cost=0.1, or leave it out to have it measured.",
        )
    return Drafts(drafters, cost)


SAMPLE = "sample"

READERS: Mapping[str, Reader] = {
    SAMPLE: Reader("the text is the program", _read_text),
    "edit_sequence": Reader(
        "the text is a LintSeq edit sequence", _read_edits, stop=(_END_OF_EDITS,)
    ),
}

_PLAIN = Strategy("samples token by token", "", partial(_no_options, SAMPLE))

STRATEGIES: Mapping[str, Strategy] = {
    **{
        name: Strategy("avoids repetition", "logits", partial(read_options, name))
        for name in METHODS
    },
    "suffix": Strategy(
        "drafts from what was written",
        "drafts",
        partial(_read_drafts, "suffix", ("suffix", "recycling")),
    ),
    "edit": Strategy(
        "drafts from the file that is rewritten",
        "drafts",
        partial(_read_drafts, "edit", ("cursor", "diff", "suffix", "recycling")),
    ),
    "rsd": Strategy("a smaller model drafts trees", "trees", read_draft_model, heals=False),
    "sorted": Strategy("early layers draft", "layers", read_sorted_draft),
    "superposed": Strategy(
        "one pass a token for all samples of a prompt", "mixtures", read_superposed, heals=False
    ),
    "backspace": Strategy(
        "<bkspc> takes the last token back; --max-new-tokens bounds the actions",
        "removal",
        partial(_no_options, "backspace"),
        heals=False,
        joins=False,
    ),
    "insertion": Strategy(
        "tokens are inserted anywhere, in no fixed order; for models that were trained so",
        "insertion",
        InsertionOptions.read,
        joins=False,
    ),
}


def find_decoder(decoder: Decoder) -> Resolved:
    """Looks a decoder's parts up and validates the strategy's options.

    Raises:
        ConfigError: for an unknown name or option, with the known ones.
    """
    names = decoder.name.split("+")
    known = [*READERS, *STRATEGIES]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"Unknown decoder {name!r}.", f"{hint}Known: {', '.join(known)}.")
    readers = [name for name in names if name in READERS]
    methods = [name for name in names if name in STRATEGIES]
    if len(readers) > 1 or len(methods) > 1:
        raise ConfigError(
            f"The decoder {decoder.name!r} joins two {'strategies' if methods[1:] else 'readers'}.",
            f"Join one of {', '.join(READERS)} with one of {', '.join(STRATEGIES)}.",
        )
    strategy = STRATEGIES[methods[0]] if methods else _PLAIN
    if readers and not strategy.joins:
        raise ConfigError(f"The decoder {methods[0]!r} cannot be combined with another decoder.")
    return Resolved(
        decoder.name,
        READERS[readers[0] if readers else SAMPLE],
        methods[0] if methods else SAMPLE,
        strategy,
        strategy.read_options(decoder.options),
    )


def supported(decoder: Decoder, backend: Backend | type[Backend]) -> Resolved:
    """The decoder's parts, if a back-end can run them. The one place where a pair is refused.

    Raises:
        ConfigError: naming what the strategy requires and the back-end lacks; as
            :func:`find_decoder` otherwise.
    """
    found = find_decoder(decoder)
    required = found.strategy.requires
    if required and required not in backend.capabilities:
        raise ConfigError(
            f"The decoder {decoder.name!r} requires {CAPABILITIES.get(required, required)}, which "
            f"the back-end {backend.kind} does not offer.",
            "Choose another decoder, or --backend transformers.",
        )
    return found
