"""Named decoders: how the text a model emits becomes a program, and what it must not repeat.

``sample`` takes the text as the program. ``edit_sequence`` takes it as a LintSeq edit sequence and
resolves it. What was malformed is counted in the sample's ``meta``: a hunk with wrong numbers is
applied as the published resolver does, one that can't be read or placed is skipped. ``mended``
counts, by kind, what was not in the published form but read as it was meant.

``rpg``, ``repetition_penalty``, ``no_repeat_ngram`` and ``dry`` change the logits
(``codegen.decoding.rpg``) and take options. A plus joins one of either kind: ``edit_sequence+dry``.

``suffix`` and ``edit`` draft several tokens that the model then verifies at once
(``codegen.decoding.drafts``): the completion is the same, sooner. They join readers too. ``rsd``
has a smaller model draft: greedy completions are the same, sampled ones follow the same
distribution. ``sorted`` has a nested one draft, whose early layers do where they are sure: the
completion is the same. ``superposed`` makes the samples of a prompt together, by one forward pass
for a token of all of them. (``codegen.decoding.strategies`` has all three.)
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from codegen.decoding.rpg import METHODS, Options, read_options
from codegen.errors import ConfigError
from codegen.generation import filling
from codegen.generation.draft_model import (
    DraftModel,
    SortedDraft,
    read_draft_model,
    read_sorted_draft,
)
from codegen.generation.protocol import Decoder
from codegen.generation.superposed import Superposed, read_superposed
from codegen.records import FinishReason


@dataclass(frozen=True, slots=True)
class Decoded:
    """A finished text, read by its decoder; see the fields of the same names in ``Sample``."""

    completion: str
    actions: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


# What a back-end that returns only text can honour. Every other setting, future ones included,
# needs the model.
_OF_TEXT = frozenset({"about", "read", "stop"})


@dataclass(frozen=True, slots=True)
class TextDecoder:
    """How the text is read, and what it must not repeat.

    Attributes:
        about: one line for the help.
        read: turns the emitted text, and why it ended, into a program.
        stop: its own stop strings, if it ignores the request's (they would cut its actions).
        penalty: settings of the rule against repetition, if there is one.
        backspace: whether a special token takes the last one back.
        fills: whether the model writes in no fixed order (:mod:`codegen.generation.filling`).
        drafts: the drafters in order of preference, if tokens are drafted.
        token_cost: what a drafted token is taken to cost, in plain passes; None to measure it.
        draft_model: settings of the model that drafts trees, if one does.
        sorted_draft: settings of the nested model that drafts chains, if one does.
        superposed: settings of superposed decoding, if that is how tokens are chosen.
    """

    about: str
    read: Callable[[str, FinishReason], Decoded]
    stop: tuple[str, ...] | None = None
    penalty: Options | None = None
    backspace: bool = False
    fills: bool = False
    drafts: tuple[str, ...] = ()
    token_cost: float | None = None
    draft_model: DraftModel | None = None
    sorted_draft: SortedDraft | None = None
    superposed: Superposed | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The names of the settings that concern how tokens are chosen; none for a mere reader."""
        return tuple(
            f.name
            for f in fields(self)
            if f.name not in _OF_TEXT and getattr(self, f.name) != f.default
        )

    @property
    def heals(self) -> bool:
        """Whether the first token may reach back over the prompt's end."""
        return not (self.backspace or self.draft_model or self.superposed)

    def stops(self, requested: tuple[str, ...]) -> tuple[str, ...]:
        """The stop strings in force for a request."""
        return requested if self.stop is None else self.stop


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


DECODERS: Mapping[str, TextDecoder] = {
    "sample": TextDecoder("the text is the program", _read_text),
    "edit_sequence": TextDecoder(
        "the text is a LintSeq edit sequence", _read_edits, stop=(_END_OF_EDITS,)
    ),
    "backspace": TextDecoder(
        "tokens can be taken back by <bkspc>; --max-new-tokens bounds the actions",
        _read_text,
        backspace=True,
    ),
    filling.NAME: TextDecoder(filling.ABOUT, _read_text, fills=True),
}

# What each drafts from; ``edit`` needs to know the file that is rewritten.
DRAFTS: Mapping[str, tuple[str, ...]] = {
    "suffix": ("suffix", "recycling"),
    "edit": ("cursor", "diff", "suffix", "recycling"),
}
_TOKEN_COST = "token_cost"
RSD = "rsd"
SORTED = "sorted"
SUPERPOSED = "superposed"


def find_decoder(decoder: Decoder) -> TextDecoder:
    """Looks a decoder up by name; the options are those of its rule against repetition.

    Raises:
        ConfigError: for an unknown name or option, with the known ones.
    """
    names = decoder.name.split("+")
    ways = [*DRAFTS, RSD, SORTED, SUPERPOSED]
    for name in names:
        known = [*DECODERS, *METHODS, *ways]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ConfigError(
                f"There is no decoder {name!r}.", f"{hint}Decoders are: {', '.join(known)}."
            )
    readers = [name for name in names if name in DECODERS]
    methods = [name for name in names if name in METHODS]
    drafts = [name for name in names if name in ways]
    if len(readers) > 1 or len(methods) > 1 or len(drafts) > 1:
        raise ConfigError(
            f"The decoder {decoder.name!r} joins two of a kind.",
            f"Join one of {', '.join(DECODERS)} with one of {', '.join([*METHODS, *ways])}.",
        )
    reader = DECODERS[readers[0] if readers else "sample"]
    if reader.fills:
        if len(names) > 1:
            raise ConfigError(
                f"The decoder {decoder.name!r} can't be: {filling.NAME} goes with no other."
            )
        filling.Settings.read(decoder.options)
        return reader
    if methods and reader.backspace:
        raise ConfigError(
            f"The decoder {decoder.name!r} can't be: a rule against repetition does not know of"
            " tokens that are taken back.",
            "Choose one of the two.",
        )
    if drafts and (methods or reader.backspace):
        raise ConfigError(
            f"The decoder {decoder.name!r} can't be: drafts are verified by the model's own logits"
            " and can't be taken back.",
            "Leave one of the two out.",
        )
    if methods:
        return replace(reader, penalty=read_options(methods[0], decoder.options))
    if drafts == [RSD]:
        return replace(reader, draft_model=read_draft_model(decoder.options))
    if drafts == [SORTED]:
        return replace(reader, sorted_draft=read_sorted_draft(decoder.options))
    if drafts == [SUPERPOSED]:
        return replace(reader, superposed=read_superposed(decoder.options))
    known = (_TOKEN_COST,) if drafts else ()
    if unknown := [name for name in decoder.options if name not in known]:
        hint = f"Its only option is {_TOKEN_COST}." if drafts else ""
        raise ConfigError(f"The decoder {decoder.name!r} takes no option {unknown[0]!r}.", hint)
    if not drafts:
        return reader
    cost = _token_cost(decoder.options[_TOKEN_COST]) if decoder.options else None
    return replace(reader, drafts=DRAFTS[drafts[0]], token_cost=cost)


def _token_cost(given: Any) -> float:
    try:
        cost = float(given)
    except (TypeError, ValueError):
        cost = -1.0
    if not 0 <= cost < math.inf:
        raise ConfigError(
            f"{_TOKEN_COST} is {given!r}; it must be a number of plain passes from 0 on.",
            f"Give for instance {_TOKEN_COST}=0.1, or leave it out to have it measured.",
        )
    return cost
