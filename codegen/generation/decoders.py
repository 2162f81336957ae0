"""Decoders: a reader (text to program) joined with a strategy (how tokens are chosen).

Readers: ``sample`` takes the text as the program; ``edit_sequence`` takes it as a LintSeq edit
sequence and resolves it. What was malformed is counted in the completion's ``meta``: a hunk with
wrong numbers is applied as the published resolver does, one that can't be read or placed is
skipped. ``mended`` counts, by kind, what was not in the published form but read as it was meant.

Strategies, each with options of its own; a name without one samples token by token:

* ``rpg``, ``repetition_penalty``, ``no_repeat_ngram`` and ``dry`` change the logits
  (``codegen.decoding.rpg``);
* ``grammar`` keeps to a grammar: only its texts are completions;
* ``suffix`` and ``edit`` draft several tokens that the model then verifies at once
  (``codegen.decoding.drafts``): the same completion, sooner;
* ``rsd`` has a smaller model draft trees: greedy completions are the
  same, sampled ones follow the same distribution;
* ``sorted`` has the early layers of a nested model draft: the same completion;
* ``superposed`` makes the samples of a prompt together, by one forward pass for a token of all of
  them;
* ``backspace`` is for models that take tokens back, ``insertion`` for models that insert tokens in
  any order.

A plus joins a reader and a strategy: ``edit_sequence+dry``. What a strategy requires of a back-end
is checked by :func:`supported`.
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

from codegen import plugins
from codegen.config import Config, Text, parse_config
from codegen.decoding.rpg import METHODS, read_options
from codegen.errors import CodegenError, ConfigError, InputError, nearest
from codegen.generation.protocol import CAPABILITIES, Backend, Completion, Decoder, Request
from codegen.records import FinishReason

if TYPE_CHECKING:
    from codegen.decoding.loop import Row, Strategy


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
class StrategySpec:
    """A way in which tokens are chosen: what it requires of a back-end, and its options.

    Attributes:
        about: one line for the help.
        requires: the capability that a back-end must have, a name of ``CAPABILITIES``; empty for
            plain sampling.
        read_options: validates the decoder's options; raises ``ConfigError``.
        heals: whether the first token may reach back over the prompt's end.
        joins: whether it can be joined with another reader than ``sample``.
        make: for strategies of other packages, which require ``loop``: makes the strategy
            (:class:`codegen.decoding.loop.Strategy`) of the options and the rows to decode.
    """

    about: str
    requires: str
    read_options: Callable[[Mapping[str, Any]], Any]
    heals: bool = True
    joins: bool = True
    make: Callable[[Any, Sequence[Row]], Strategy] | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A decoder's parts.

    Attributes:
        name: as it was given.
        method: the strategy's name, ``sample`` for plain sampling.
        strategy: how tokens are chosen.
        options: the strategy's, validated.
    """

    name: str
    reader: Reader
    method: str
    strategy: StrategySpec
    options: Any

    def stops(self, requested: tuple[str, ...]) -> tuple[str, ...]:
        """The stop strings in force for a request."""
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
        """A completion whose text is read.

        Args:
            number, request, finish_reason: see :class:`Completion`.
            text: what the model wrote, as it is to be read.
            actions: what it wrote, where that is another text.
            meta: what the strategy counted.
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


# The options of strategies


class NoOptions(Config):
    """The options of a strategy that has none."""


class DraftOptions(Config):
    """Options of ``suffix`` and ``edit``."""

    token_cost: float | None = Field(
        None, ge=0, description="cost of a drafted token in plain passes; null measures it"
    )


def _split(value: Any) -> Any:
    """Numbers as a command line gives them: ``2,2,1``, ``4x3``, or one number."""
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
    """Options of ``rsd``: which model drafts, and how its trees grow.

    With ``beam`` (width and depth) they grow by a stochastic beam (RSD-S), else by a constant
    number of children at each level (RSD-C).
    """

    draft: Text = Field(description="a smaller model with the same tokenizer, draft=DIR")
    branching: Numbers = Field((2, 2, 1, 1), min_length=1, description="children at each level")
    beam: Numbers | None = Field(None, description="width and depth of a stochastic beam")

    def _check(self) -> None:
        if self.beam and "branching" in self.model_fields_set:
            raise ConfigError("Give branching or beam, not both.")
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
                f"Choose one of at most {_MOST_NODES}.",
            )


class SortedOptions(Config):
    """Options of ``sorted``: which nested model drafts, and when its early layers are sure."""

    draft: Text = Field(description="a nested model with the same tokenizer, draft=DIR")
    exits: Numbers = Field((), description="depths to exit at; by default those of its training")
    thresholds: Shares = Field(
        (0.5,), min_length=1, description="probabilities above which an exit is taken"
    )
    tokens: int = Field(5, ge=1, le=_MOST_NODES, description="most tokens of a draft")
    least: float = Field(
        0.0, ge=0, le=1, description="a draft ends where the product of its probabilities is less"
    )

    def _check(self) -> None:
        if list(self.exits) != sorted(set(self.exits)):
            raise ConfigError("The depths of exits must ascend, as in exits=2,4,6.")


class SuperposedOptions(Config):
    """Options of ``superposed``: the n-grams that tell which token goes with which draft."""

    code: str = Field("", description="a file or directory of code whose n-grams are counted")
    suffix: str = Field(".py", description="of the files that are read in a directory")
    alpha: float = Field(0.54, ge=0, lt=1, description="weight of the n-grams")
    temperature: float = Field(
        0.06, ge=0.001, le=100, description="of the model's distribution after the first token"
    )


class InsertionOptions(Config):
    """Options of ``insertion``; see :class:`codegen.decoding.insertion.FillOptions`."""

    gap: str = Field("", description="gap marker in the prompt; empty if prompts are prefixes")
    stages: int = Field(2, ge=1, le=2, description="draw slot and token jointly (1) or in turn (2)")
    slot_temperature: float = Field(0.0, ge=0, le=100, description="of the slot in two stages")
    stop_threshold: float = Field(0.5, ge=0, le=1, description="stop probability that ends a text")
    insist: bool = Field(False, description="insert in the first step whatever the stop head says")
    insertions: int = Field(1, ge=1, le=1024, description="most insertions of a step into a text")
    least_share: float = Field(
        0.5, ge=1e-6, le=1, description="least probability of further ones, relative to the best"
    )
    steps: int = Field(0, ge=0, le=100_000, description="steps of masked models; 0: one a token")
    order: Literal["confident", "random"] = Field(
        "confident", description="which masks are filled first"
    )


class GrammarOptions(Config):
    """Options of ``grammar``."""

    gbnf: Text = Field(
        description="a grammar in llama.cpp's notation, or a file of one that ends in .gbnf"
    )

    def text(self) -> str:
        """The grammar.

        Raises:
            InputError: if the file can't be read.
        """
        if not self.gbnf.endswith(".gbnf"):
            return self.gbnf
        try:
            return Path(self.gbnf).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"Cannot read the grammar {self.gbnf}: {error}.") from None


def _read(kind: type[Config], name: str, given: Mapping[str, Any]) -> Config:
    if kind is NoOptions and given:
        raise ConfigError(f"The decoder {name} takes no option {next(iter(given))!r}.")
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
            _strategy("grammar", "keeps to a grammar", "logits", GrammarOptions, heals=False),
            _strategy("suffix", "drafts from what was written", "drafts", DraftOptions),
            _strategy("edit", "drafts from the file that is rewritten", "drafts", DraftOptions),
            _strategy("rsd", "a smaller model drafts trees", "trees", RsdOptions, heals=False),
            _strategy("sorted", "early layers draft", "layers", SortedOptions),
            _strategy(
                "superposed", "one pass a token for all samples of a prompt", "mixtures",
                SuperposedOptions, heals=False,
            ),
            _strategy(
                "backspace",
                "<bkspc> takes the last token back; --max-new-tokens bounds the actions",
                "removal", NoOptions, heals=False, joins=False,
            ),
            _strategy(
                "insertion",
                "tokens are inserted anywhere, in no fixed order; for models that were trained so",
                "insertion", InsertionOptions, joins=False,
            ),
        ]
    ),
}  # fmt: skip

# What each drafting strategy drafts from, in order of preference; ``edit`` needs to know the file
# that is rewritten.
DRAFTERS: Mapping[str, tuple[str, ...]] = {
    "suffix": ("suffix", "recycling"),
    "edit": ("cursor", "diff", "suffix", "recycling"),
}


def find_decoder(decoder: Decoder) -> Resolved:
    """Looks a decoder's parts up and validates the strategy's options.

    Raises:
        ConfigError: for an unknown name or option, with the known ones.
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
    return Resolved(
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
