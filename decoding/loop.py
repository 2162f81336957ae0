"""The decoding loop, which generates tokens from prompts with any strategy.

Each round has three steps. A :class:`Strategy` proposes each row's next input: its last token
alone, or a tree of drafted tokens below it. One forward pass encodes all rows. From the logits the
strategy verifies which tokens each row gets, and they are committed to the rows and to the cache.
Finished rows leave the batch, and waiting rows take their place.

The loop, :func:`rounds`, is a generator of forward passes; read its ``yield from`` like ``await``.
:func:`decode` runs its passes one by one; the editor's server runs several requests' passes
together (:mod:`codegen.decoding.passes`).

:class:`Strategy` itself is plain decoding. A row's k-th token depends only on the logits and on the
row's k-th random number, so the other rows of the batch do not change it, up to the last bits of
logits computed in a batch of another shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from codegen.decoding.device import download, padded_width, upload, wait
from codegen.decoding.healing import Vocabulary
from codegen.decoding.long_context import LMInfinite, extended
from codegen.decoding.passes import Passes, check_attention_only, check_supported, run_alone
from codegen.decoding.sampling import allow_only, choose
from codegen.decoding.sequences import CachedRows, Row, Sequences, Trees

__all__ = ["BackspaceDecoding", "Batch", "NewTokens", "Row", "Strategy", "decode"]

# Compacting and refilling copy the cache, so they wait until a quarter of the rows have finished.
COMPACT_BELOW = 0.75
OWN = -1  # the node of a token that the target adds itself

Walk = Iterator[tuple[int, int]]
"""The tokens that a row gets in a round, each with its node; the last node is :data:`OWN`."""


@dataclass(frozen=True, slots=True)
class NewTokens:
    """Tokens that a round added to a row.

    Attributes:
        path: the accepted draft nodes, ascending.
        tokens: the new tokens, without an end of sequence.
        step: number of slots by which the row's cursor moves.
    """

    path: list[int]
    tokens: list[int]
    step: int


class Strategy:
    """Rule for choosing tokens. The base class samples one token per row and round.

    Attributes:
        limit: maximum drafted tokens per row and round.
        forgets: True if the middle of a row's context may be dropped
            (:mod:`codegen.decoding.long_context`).
        backspace: the token that removes the last one, if any.
        passes_of: forward passes per row; empty if each token takes one.
    """

    limit = 0
    forgets = True
    backspace: int | None = None
    passes_of: Sequence[int] = ()

    def rounds(self, batch: Batch) -> Passes[None]:
        """Decodes the batch; overridden by strategies that do not decode round by round."""
        return rounds(batch, self)

    def start(self, batch: Batch) -> None:
        """Called before anything is encoded."""

    def clock(self, device: torch.device) -> float:
        """Returns the time in seconds if the strategy times passes, else 0; the device is idle."""
        return 0.0

    def begin(
        self, batch: Batch, numbers: Sequence[int], given: Sequence[list[int]], seconds: float
    ) -> None:
        """Called when rows have joined the batch.

        Args:
            batch: the batch, with the new rows last.
            numbers: the numbers of the new rows.
            given: the new rows' tokens.
            seconds: time spent encoding these tokens.
        """

    def propose(self, batch: Batch) -> Trees:
        """Proposes the next input of each row of the batch."""
        return batch.following or batch.trees(torch.tensor(batch.pending)[:, None])

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        """Changes the logits [B, V] of the rows' next tokens in place."""

    def verify(self, batch: Batch, trees: Trees, logits: torch.Tensor) -> Sequence[Walk]:
        """Returns each row's tokens. If a token ends the row, the rest of its walk is ignored.

        Args:
            batch: the rows, including finished ones that have not left yet.
            trees: the proposed trees.
            logits: logits after each node, [B, W, V].
        """
        self.adjust(batch, logits[:, 0])
        chosen = batch.choose(logits, trees.places)
        return [iter([(token, OWN)]) for token in batch.follow(trees, chosen)]

    def commit(self, batch: Batch, trees: Trees, grown: Sequence[NewTokens | None]) -> None:
        """Called after the rows got tokens; None for rows that had finished before."""

    def select(self, rows: Sequence[int]) -> None:
        """Keeps only these rows of the batch, in this order."""


class BackspaceDecoding(Strategy):
    """Plain decoding with a token that removes the last one (SequenceMatch, arXiv 2306.05426).

    The row's cursor moves back too, so a removed token frees its slot. The backspace is forbidden
    while the completion is empty.

    Args:
        token: the backspace's id.
    """

    forgets = False

    def __init__(self, token: int) -> None:
        self.backspace = token

    def adjust(self, batch: Batch, logits: torch.Tensor) -> None:
        """Forbids the backspace at the start of a completion."""
        for i, number in enumerate(batch.numbers):
            if not batch.rows[number].tokens:
                logits[i, self.backspace] = -torch.inf


class Batch:
    """The state of one decoding.

    Attributes:
        rows: all rows.
        sequences: the cached states of the rows in the batch.
        numbers: rows in the batch; finished ones stay until :meth:`compact`.
        waiting: numbers of the rows that have not started.
        pending: the token that each row of the batch feeds next; it is not in the cache yet.
        following: the same tokens and their slots, if already on the device; else None.
        made: tokens chosen so far, by row number.
        known: logits [B, 1, V] of the next tokens, if known without a pass.
        most: maximum tokens per row; with backspaces, maximum actions.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        sequences: Sequences,
        *,
        max_new_tokens: int,
        temperature: float,
        top_p: float,
        eos: frozenset[int],
        vocabulary: Vocabulary | None = None,
        on_token: Callable[[int, int], bool] | None = None,
        width: int | None = None,
    ) -> None:
        self.rows, self.sequences, self.device = rows, sequences, sequences.device
        self.most, self.temperature, self.top_p = max_new_tokens, temperature, top_p
        self.eos, self.vocabulary, self.on_token = eos, vocabulary, on_token
        self.width = width or len(rows)
        self.numbers: list[int] = []
        self.waiting = list(range(len(rows)))
        self.pending: list[int] = []
        self.following: Trees | None = None
        self._chosen: list[int] = []  # the tokens of ``following``
        self._uniforms: torch.Tensor | None = None  # the batch's random numbers, float64 [B, N]
        self.made = [0] * len(rows)
        self.known: torch.Tensor | None = None

    @property
    def length(self) -> int:
        """Maximum tokens per row, including its prompt."""
        return max(len(row.prompt) + len(row.tokens) for row in self.rows) + self.most

    def left(self) -> Mapping[int, int]:
        """Returns the maximum new tokens per running row; 0 while its tokens are restricted."""
        return {
            number: 0 if self.rows[number].rest else self.most - self.made[number]
            for number in self.numbers
            if not self.rows[number].finish
        }

    def trees(self, tokens: torch.Tensor, parents: torch.Tensor | None = None) -> Trees:
        """Builds the batch's trees, still on the host; see :class:`Trees`."""
        made = torch.tensor([self.made[number] for number in self.numbers])
        return Trees(tokens, parents, made=made)

    def follow(self, trees: Trees, chosen: torch.Tensor) -> list[int]:
        """Returns chosen tokens, int64 [B, 1], as a list; the device keeps them for the next pass.

        Args:
            trees: the last tokens, without drafts.
            chosen: the tokens chosen after them.
        """
        self.following = trees.followed(chosen)
        self._chosen = [token for (token,) in download(chosen)]
        return self._chosen

    def choose(self, logits: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Chooses the token after each node, int64 [B, W], by its position's random number.

        Args:
            logits: logits after each node, [B, W, V]; changed in place by :meth:`restrict`.
            places: number of the row's choices before the node, int64 [B, W]; not read at
                temperature 0.
        """
        self.restrict(logits[:, 0])
        if self.temperature == 0:
            return logits.argmax(-1)
        if self._uniforms is None:
            given = [self.rows[number].uniforms for number in self.numbers]
            most = max(map(len, given))
            whole = [[*each, *[each[-1]] * (most - len(each))] for each in given]
            (self._uniforms,) = upload(self.device, torch.tensor(whole, dtype=torch.float64))
        uniforms = self._uniforms.gather(1, places.clamp(max=self._uniforms.shape[1] - 1))
        chosen = choose(logits.flatten(0, 1), uniforms.flatten(), self.temperature, self.top_p)
        return chosen.view(logits.shape[:2])

    def restrict(self, logits: torch.Tensor) -> None:
        """Forbids, in the next tokens' logits [B, V], tokens that do not spell a row's ``rest``."""
        if self.vocabulary:
            given = ((i, self.rows[number]) for i, number in enumerate(self.numbers))
            bound = {i: row.rest for i, row in given if row.rest and not row.finish}
            allow_only(logits, {i: self.vocabulary.allowed(rest) for i, rest in bound.items()})

    def admit(self, strategy: Strategy) -> Passes[None]:
        """Fills the batch with waiting rows."""
        room = self.width - len(self.numbers)
        new, self.waiting = self.waiting[:room], self.waiting[room:]
        given = [self.rows[number].prompt + self.rows[number].tokens for number in new]
        began = strategy.clock(self.device)
        self.known = yield from self.sequences.admit(given)
        wait(self.device)
        seconds = strategy.clock(self.device) - began
        self.following = self._uniforms = None
        self.numbers += new
        self.pending += [tokens[-1] for tokens in given]
        strategy.begin(self, new, given, seconds)

    def advance(self, strategy: Strategy, walks: Sequence[Walk]) -> list[NewTokens | None]:
        """Appends each row's walk; returns the additions, None for rows that had finished."""
        found: list[NewTokens | None] = []
        for i, (number, walk) in enumerate(zip(self.numbers, walks, strict=True)):
            row = self.rows[number]
            if row.finish:  # a finished row keeps writing to one slot
                found.append(None)
                continue
            before, path = len(row.tokens), []
            for token, node in walk:
                self._take(number, token, strategy.backspace)
                if node == OWN or row.finish:
                    break
                path.append(node)
            back = len(row.tokens) < before  # re-feed the previous token
            found.append(NewTokens(path, row.tokens[before:], -1 if back else 1 + len(path)))
            self.pending[i] = row.tokens[-1] if row.tokens else row.prompt[-1]
        for given, token, chosen in zip(found, self.pending, self._chosen, strict=False):
            if given and (given.step, token) != (1, chosen):
                self.following = None
        return found

    def _take(self, number: int, token: int, backspace: int | None) -> None:
        """Appends a row's next token."""
        row = self.rows[number]
        self.made[number] += 1
        if backspace is not None:
            row.actions.append(token)
        if token in self.eos:
            row.finish = "eos"
            return
        if token == backspace:
            row.tokens.pop()
        else:
            row.tokens.append(token)
        if self.vocabulary and row.rest:
            row.rest = self.vocabulary.after(row.rest, token)
        if self.on_token and self.on_token(number, token):
            row.finish = "stop"
        elif self.made[number] == self.most:
            row.finish = "length"

    def compact(self, strategy: Strategy) -> Passes[None]:
        """Drops finished rows once there are many, and admits waiting ones."""
        running = [i for i, number in enumerate(self.numbers) if not self.rows[number].finish]
        if running and len(running) > COMPACT_BELOW * len(self.numbers):
            return
        self.sequences.select(running)
        strategy.select(running)
        self.following = self._uniforms = None
        self.numbers = [self.numbers[i] for i in running]
        self.pending = [self.pending[i] for i in running]
        if self.waiting:
            yield from self.admit(strategy)


def rounds(batch: Batch, strategy: Strategy) -> Passes[None]:
    """Decodes round by round until all rows have finished."""
    strategy.start(batch)
    yield from batch.admit(strategy)
    while batch.numbers:
        trees = strategy.propose(batch)
        if batch.known is None:
            logits = yield from batch.sequences.encode(trees)  # [B, W, V]
        else:
            trees.upload(batch.device)
            logits, batch.known = batch.known, None
        grown = batch.advance(strategy, strategy.verify(batch, trees, logits))
        strategy.commit(batch, trees, grown)
        paths, steps = [g.path if g else [] for g in grown], [g.step if g else 0 for g in grown]
        batch.sequences.keep(trees, paths, steps)
        yield from batch.compact(strategy)


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    eos: frozenset[int],
    vocabulary: Vocabulary | None = None,
    on_token: Callable[[int, int], bool] | None = None,
    strategy: Strategy | None = None,
    width: int | None = None,
    infinite: LMInfinite | None = None,
) -> None:
    """Decodes all rows, in place.

    Args:
        model: loaded with ``sdpa`` or ``eager`` attention.
        rows: at least one row.
        max_new_tokens: maximum tokens per row; with backspaces, maximum actions.
        temperature, top_p: see :func:`codegen.decoding.sampling.choose`.
        eos: token ids that end a row.
        vocabulary: required if a row has ``rest``.
        on_token: called with (row number, token id) after each token; true stops that row.
        strategy: rule for choosing tokens; by default one token per round.
        width: maximum rows in the batch, by default all; the others wait for a place.
        infinite: allows contexts of any length (:mod:`codegen.decoding.long_context`); ``n_local``
            must exceed the strategy's longest draft.

    Raises:
        ModelError: if the sequence is too long for the model, or its architecture is not supported.
        ValueError: if ``infinite`` is set but the strategy needs the whole context.
    """
    strategy = strategy or Strategy()
    if infinite and not strategy.forgets:
        raise ValueError(f"{type(strategy).__name__} needs the whole context")
    if infinite and infinite.n_local <= strategy.limit:
        raise ValueError(f"n_local must be above the longest draft, {strategy.limit} tokens")
    longest = max(len(row.prompt) + len(row.tokens) for row in rows)
    length = longest + max_new_tokens
    with extended(model, infinite) if infinite else nullcontext() as extension:
        if extension:
            sequences = extension.rows(model, length, strategy.limit)
        else:
            check_supported(model, length)
            if strategy.backspace is not None:
                check_attention_only(model, "backspaces")
            drafted = padded_width(1 + strategy.limit, model.device) - 1
            sequences = CachedRows(model, longest, max_new_tokens + drafted)
        batch = Batch(
            rows, sequences, max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
            eos=eos, vocabulary=vocabulary, on_token=on_token, width=width,
        )  # fmt: skip
        run_alone(strategy.rounds(batch))
