"""Decoders: a reader (text to program) and a strategy (token selection).

Readers: ``sample`` returns the text as the program; ``edit_sequence`` resolves it as a LintSeq edit
sequence. The completion's ``meta`` counts malformed hunks: those with wrong line numbers are
applied as in the published resolver; those that cannot be parsed or placed are skipped. ``mended``
counts, by kind, deviations from the published format that were still understood.

Strategies, each with its own options; a name without a strategy samples token by token:

* ``rpg``, ``repetition_penalty``, ``no_repeat_ngram`` and ``dry`` change the logits
  (``codegen.decoding.rpg``);
* ``grammar`` constrains completions to a grammar;
* ``suffix`` and ``edit`` draft several tokens that the model verifies in one pass
  (``codegen.decoding.drafts``): the same completion in less time;
* ``rsd`` drafts trees with a smaller model: greedy completions are the same, sampled ones follow
  the same distribution;
* ``sorted`` drafts with the early layers of a nested model: the same completion;
* ``superposed`` generates all samples of a prompt together, with one forward pass per token;
* ``backspace`` is for models that delete tokens, ``insertion`` for models that insert tokens in any
  order.

``+`` joins a reader and a strategy: ``edit_sequence+dry``. :func:`supported` checks what a strategy
requires of a backend.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from codegen.core import plugins
from codegen.core.config import Config, Text, parse_config
from codegen.core.errors import CodegenError, ConfigError, InputError, nearest
from codegen.core.generation import CAPABILITIES, Backend, Completion, Decoder, Request
from codegen.core.records import FinishReason
from codegen.decoding.rpg import METHODS, read_options

if TYPE_CHECKING:
    from codegen.decoding.loop import Row, Strategy


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded completion; ``Completion`` explains the fields."""

    text: str
    actions: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reader:
    """Converts generated text to a program.

    Attributes:
        about: one line for the help.
        read: function from the model's text and finish reason to a program.
        stop: stop strings instead of the request's, which would cut actions; None for the
            request's.
    """

    about: str
    read: Callable[[str, FinishReason], Decoded]
    stop: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """Strategy for choosing tokens.

    Attributes:
        about: one line for the help.
        requires: the required backend capability, a name in ``CAPABILITIES``; empty for plain
            sampling.
        read_options: validates the decoder's options; raises ``ConfigError``.
        heals: True if the first token may replace the end of the prompt (token healing).
        joins: True if it works with readers other than ``sample``.
        make: for plugin strategies, which require ``loop``: builds the strategy
            (:class:`codegen.decoding.loop.Strategy`) from the options and the rows to decode.
    """

    about: str
    requires: str
    read_options: Callable[[Mapping[str, Any]], Any]
    heals: bool = True
    joins: bool = True
    make: Callable[[Any, Sequence[Row]], Strategy] | None = None


@dataclass(frozen=True, slots=True)
class ResolvedDecoder:
    """A decoder's parts.

    Attributes:
        name: the requested name.
        method: the strategy's name, ``sample`` for plain sampling.
        options: the strategy's options, validated.
    """

    name: str
    reader: Reader
    method: str
    strategy: StrategySpec
    options: Any

    def stops(self, requested: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the effective stop strings of a request."""
        return requested if self.reader.stop is None else self.reader.stop

    def completion(
        self,
        number: int,
        request: Request,
        text: str,
        finish_reason: FinishReason | Literal["content_filter"],
        *,
        actions: str = "",
        meta: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Completion:
        """Returns a completion, with its text converted by the reader.

        Args:
            number, request, finish_reason: see :class:`Completion`.
            text: the reader's input.
            actions: the model's output, if it differs from ``text``.
            meta: the strategy's counters.
            more: other fields of the completion.
        """
        reason = "eos" if finish_reason == "content_filter" else finish_reason
        decoded = self.reader.read(text, reason)
        return Completion(
            number,
            request,
            decoded.text,
            actions or decoded.actions,
            finish_reason,
            meta={**decoded.meta, **(meta or {})},
            **more,
        )


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


class NoOptions(Config):
    """Empty options, for strategies without any."""


class DraftOptions(Config):
    """Options of ``suffix`` and ``edit``."""

    token_cost: float | None = Field(
        None, ge=0, description="cost of a drafted token in forward passes; null measures it"
    )


def _split(value: Any) -> Any:
    """Parses numbers from a command line: ``2,2,1``, ``4x3``, or one number."""
    if isinstance(value, str):
        value = re.split(r"[,x ]+", value.strip())
        try:
            return tuple(float(part) if "." in part else int(part) for part in value)
        except ValueError:
            return tuple(value)
    return (value,) if isinstance(value, (int, float)) else value


Numbers = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_split)]
Shares = Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], BeforeValidator(_split)]
_MOST_NODES = 128


class RsdOptions(Config):
    """Options of ``rsd``: the draft model and the shape of its trees.

    With ``beam`` (width and depth) trees come from a stochastic beam search (RSD-S), otherwise
    they have a constant number of children per level (RSD-C).
    """

    draft: Text = Field(description="directory of a smaller model with the same tokenizer")
    branching: Numbers = Field((2, 2, 1, 1), min_length=1, description="children per level")
    beam: Numbers | None = Field(None, description="width and depth of a stochastic beam")

    def _check(self) -> None:
        if self.beam and "branching" in self.model_fields_set:
            raise ConfigError("Set branching or beam, not both.")
        if self.beam and len(self.beam) != 2:
            raise ConfigError("beam needs a width and a depth, as in beam=4x3.")
        nodes, width = 0, 1
        for branch in self.branching:
            width *= branch
            nodes += width
        if self.beam:
            nodes = self.beam[0] * self.beam[1]
        if nodes > _MOST_NODES:
            raise ConfigError(
                f"A tree of {nodes} nodes is too large for a forward pass.",
                f"Choose at most {_MOST_NODES} nodes.",
            )


class SortedOptions(Config):
    """Options of ``sorted``: the nested draft model and its exit thresholds."""

    draft: Text = Field(description="directory of a nested model with the same tokenizer")
    exits: Numbers = Field((), description="exit depths; default: the depths from training")
    thresholds: Shares = Field(
        (0.5,), min_length=1, description="minimum probability to take an exit"
    )
    tokens: int = Field(5, ge=1, le=_MOST_NODES, description="maximum draft length in tokens")
    least: float = Field(0.0, ge=0, le=1, description="minimum product of a draft's probabilities")

    def _check(self) -> None:
        if list(self.exits) != sorted(set(self.exits)):
            raise ConfigError("The depths of exits must ascend, as in exits=2,4,6.")


class SuperposedOptions(Config):
    """Options of ``superposed``: the n-grams that assign tokens to drafts."""

    code: str = Field("", description="code file or directory for the n-gram counts")
    suffix: str = Field(".py", description="extension of the code files")
    alpha: float = Field(0.54, ge=0, lt=1, description="weight of the n-grams")
    temperature: float = Field(
        0.06, ge=0.001, le=100, description="temperature after the first token"
    )


class InsertionOptions(Config):
    """Options of ``insertion``; see :class:`codegen.decoding.insertion.FillOptions`."""

    gap: str = Field("", description="gap marker in the prompt; empty if prompts are prefixes")
    stages: int = Field(
        2, ge=1, le=2, description="sample slot and token jointly (1) or in turn (2)"
    )
    slot_temperature: float = Field(0.0, ge=0, le=100, description="slot temperature if stages = 2")
    stop_threshold: float = Field(0.5, ge=0, le=1, description="stop probability threshold")
    insist: bool = Field(False, description="insert in the first step regardless of the stop head")
    insertions: int = Field(1, ge=1, le=1024, description="maximum insertions per step")
    least_share: float = Field(
        0.5, ge=1e-6, le=1, description="insertions: minimum probability relative to best"
    )
    steps: int = Field(0, ge=0, le=100_000, description="masked decoding steps; 0: one per token")
    order: Literal["confident", "random"] = Field(
        "confident", description="order in which masks are filled"
    )


class GrammarOptions(Config):
    """Options of ``grammar``."""

    gbnf: Text = Field(description="grammar in llama.cpp's notation, or a .gbnf file with one")

    def text(self) -> str:
        """Returns the grammar.

        Raises:
            InputError: if the file cannot be read.
        """
        if not self.gbnf.endswith(".gbnf"):
            return self.gbnf
        try:
            return Path(self.gbnf).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"Cannot read the grammar {self.gbnf}: {error}.") from None


def _read(kind: type[Config], name: str, given: Mapping[str, Any]) -> Config:
    if kind is NoOptions and given:
        raise ConfigError(f"The decoder {name} has no option {next(iter(given))!r}.")
    return parse_config(kind, dict(given), f"The decoder {name}")


SAMPLE = "sample"

READERS: dict[str, Reader] = {
    SAMPLE: Reader("the text is the program", _read_text),
    "edit_sequence": Reader(
        "the text is a LintSeq edit sequence", _read_edits, stop=(_END_OF_EDITS,)
    ),
}

_PLAIN = StrategySpec("samples token by token", "", partial(_read, NoOptions, SAMPLE))


def _strategy(
    name: str, about: str, requires: str, kind: type[Config], heals: bool = True, joins: bool = True
) -> tuple[str, StrategySpec]:
    return name, StrategySpec(about, requires, partial(_read, kind, name), heals, joins)


STRATEGIES: dict[str, StrategySpec] = {
    **{
        name: StrategySpec("avoids repetition", "logits", partial(read_options, name))
        for name in METHODS
    },
    **dict(
        [
            _strategy("grammar", "follows a grammar", "logits", GrammarOptions, heals=False),
            _strategy("suffix", "drafts from earlier text", "drafts", DraftOptions),
            _strategy("edit", "drafts from the file to rewrite", "drafts", DraftOptions),
            _strategy("rsd", "a smaller model drafts trees", "trees", RsdOptions, heals=False),
            _strategy("sorted", "early layers draft", "layers", SortedOptions),
            _strategy(
                "superposed", "one pass per token for all samples of a prompt", "mixtures",
                SuperposedOptions, heals=False,
            ),
            _strategy(
                "backspace",
                "<bkspc> deletes the last token; --max-new-tokens limits the actions",
                "removal", NoOptions, heals=False, joins=False,
            ),
            _strategy(
                "insertion",
                "inserts tokens anywhere, in any order; for models trained this way",
                "insertion", InsertionOptions, joins=False,
            ),
        ]
    ),
}  # fmt: skip

# Draft sources of each strategy, in order of preference; ``edit`` needs the file to rewrite.
DRAFTERS: Mapping[str, tuple[str, ...]] = {
    "suffix": ("suffix", "recycling"),
    "edit": ("cursor", "diff", "suffix", "recycling"),
}


def find_decoder(decoder: Decoder) -> ResolvedDecoder:
    """Looks up a decoder's parts and validates the strategy's options.

    Raises:
        ConfigError: if a name or option is unknown; lists the known ones.
    """
    names = decoder.name.split("+")
    parts = {name: _part(name) for name in names}
    readers = [part for name in names if isinstance(part := parts[name], Reader)]
    methods = [name for name in names if isinstance(parts[name], StrategySpec)]
    if len(readers) > 1 or len(methods) > 1:
        added = plugins.names("decoders")
        also = f" Installed packages add: {', '.join(added)}." if added else ""
        raise ConfigError(
            f"The decoder {decoder.name!r} joins two {'strategies' if methods[1:] else 'readers'}.",
            f"Join one of {', '.join(READERS)} with one of {', '.join(STRATEGIES)}.{also}",
        )
    strategy = parts[methods[0]] if methods else _PLAIN
    assert isinstance(strategy, StrategySpec)
    if readers and not strategy.joins:
        raise ConfigError(f"The decoder {methods[0]!r} cannot be combined with another decoder.")
    return ResolvedDecoder(
        decoder.name,
        readers[0] if readers else READERS[SAMPLE],
        methods[0] if methods else SAMPLE,
        strategy,
        strategy.read_options(decoder.options),
    )


def _part(name: str) -> Reader | StrategySpec:
    if part := READERS.get(name) or STRATEGIES.get(name):
        return part
    added = plugins.names("decoders")
    if name not in added:
        known = [*READERS, *STRATEGIES, *added]
        hint = f"{nearest(name, known)} Decoders are: {', '.join(known)}."
        raise ConfigError(f"Unknown decoder {name!r}.", hint.strip())
    part = plugins.load("decoders", name)
    if not isinstance(part, (Reader, StrategySpec)):
        package = plugins.package_of("decoders", name)
        raise CodegenError(f"The decoder {name!r} of {package} is not a Reader or StrategySpec.")
    return part


def supported(decoder: Decoder, backend: Backend | type[Backend]) -> ResolvedDecoder:
    """Returns a decoder's parts, after checking that the backend supports them.

    Raises:
        ConfigError: if the backend lacks a capability that the strategy requires, or as
            :func:`find_decoder`.
    """
    found = find_decoder(decoder)
    required = found.strategy.requires
    if required and required not in backend.capabilities:
        raise ConfigError(
            f"The decoder {decoder.name!r} requires {CAPABILITIES.get(required, required)}, which "
            f"the backend {backend.kind} does not support.",
            "Choose another decoder, or --backend transformers.",
        )
    return found
