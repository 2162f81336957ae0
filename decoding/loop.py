"""The batched decoding loop: prompts in, tokens out, on unmodified transformers models.

Each row is a prompt with its own cursor, random numbers and end. Rows leave the batch when they
finish, and waiting ones take their place; at the end the rest is compacted. There is one transfer
from the device to the host a round.

With drafters a round can give a row several tokens. Since a row's k-th token is a function of the
logits and of the row's k-th random number alone, a drafted token is accepted if it is the very
token that would have been chosen: what comes out is what plain decoding gives, greedy or sampled,
up to the last bits of logits that were computed in a batch of another shape.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch
from transformers import PreTrainedModel

from codegen.decoding.cache import RowCache
from codegen.decoding.drafts.protocol import Draft
from codegen.decoding.healing import Vocabulary
from codegen.decoding.infinite import Extension, LMInfinite, extended
from codegen.decoding.passes import check_supported, forward
from codegen.decoding.prefill import prefill
from codegen.decoding.sampling import choose
from codegen.decoding.verify import Speculation, Trees

# Compacting and refilling copy the cache, so they wait until a quarter of the rows have finished.
COMPACT_BELOW = 0.75
_NO_DRAFT = Draft()

Finish = Literal["eos", "stop", "length"]


@dataclass
class Row:
    """One sequence being decoded.

    Attributes:
        prompt: token ids, at least one.
        uniforms: the random numbers of its tokens in order, one for each of ``max_new_tokens``.
        rest: bytes that the first tokens must spell (token healing).
        tokens: the generated ids that stand, without the end-of-sequence token; what is there at
            the beginning is gone on from.
        actions: with a backspace token, all ids that were chosen, the end-of-sequence token too.
        finish: why it ended, None while it runs.
    """

    prompt: list[int]
    uniforms: Sequence[float]
    rest: bytes = b""
    tokens: list[int] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    finish: Finish | None = None


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
    adjust: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None = None,
    backspace: int | None = None,
    speculation: Speculation | None = None,
    width: int | None = None,
    infinite: LMInfinite | None = None,
) -> None:
    """Decodes all rows, in place.

    Args:
        model: loaded with ``sdpa`` attention.
        rows: at least one.
        max_new_tokens: most tokens a row; with ``backspace``, most actions.
        temperature, top_p: see :func:`codegen.decoding.sampling.choose`.
        eos: token ids that end a row.
        vocabulary: needed if a row has ``rest``.
        on_token: called with (row number, token id) after each token; true stops that row.
        adjust: called at each step with the logits [B, V] and the row numbers of the batch, of
            which some may have finished; returns the logits to choose from (penalties).
        backspace: the token that takes the last one back (SequenceMatch, arXiv 2306.05426). The
            row's cursor goes back with it, so what was taken back costs no room. It is never chosen
            where only the prompt is left.
        speculation: drafters, one a row; not together with ``adjust`` or ``backspace``.
        width: most rows at once, by default all; the others wait until some have finished.
        infinite: for contexts of any length (:mod:`codegen.decoding.infinite`); ``n_local`` is
            above the longest draft then. Not together with ``backspace``.

    Raises:
        ModelError: if the model can't hold the sequence or its architecture is not supported.
    """
    if speculation and (adjust or backspace is not None):
        raise ValueError("drafts can't be verified with adjusted logits or backspaces")
    if infinite and backspace is not None:
        raise ValueError("what is forgotten can't be taken back")
    if infinite and speculation and infinite.n_local <= speculation.limit:
        raise ValueError(f"n_local must be above the longest draft, {speculation.limit} tokens")
    with extended(model, infinite) if infinite else nullcontext() as extension:
        run = _Run(
            model, rows, max_new_tokens, eos, vocabulary, on_token, backspace, speculation,
            width or len(rows), extension,
        )  # fmt: skip
        _rounds(run, temperature, top_p, adjust)


def _rounds(
    run: _Run,
    temperature: float,
    top_p: float,
    adjust: Callable[[torch.Tensor, Sequence[int]], torch.Tensor] | None,
) -> None:
    """One forward pass after another, until all rows have finished."""
    speculation, clock = run.speculation, run.clock
    while run.batch:
        drafts = run.drafts()
        candidates = speculation.candidates(len(run.batch)) if speculation else 0
        began = clock()
        trees = Trees.of(run.pending, drafts)
        mask = run.place(trees)
        tokens = torch.tensor(trees.tokens, device=run.device)
        logits = forward(run.model, tokens, run.cache, mask, trees.width)  # [B, W, V]
        if adjust:
            logits = adjust(logits[:, 0], run.batch)[:, None]
        run.restrict(logits[:, 0])
        uniforms = torch.tensor(run.uniforms(trees), dtype=torch.float64, device=logits.device)
        flat = logits.flatten(0, 1)
        chosen = choose(flat, uniforms, temperature, top_p).view(*logits.shape[:2], 1)
        if candidates:
            best = logits.topk(candidates).indices
            chosen = torch.cat([chosen, best], dim=-1)
        found = chosen.tolist()
        run.advance(trees, drafts, found, clock() - began)


class _Run:
    """The rows of a batch on their way.

    Attributes:
        batch: numbers of the rows in the cache; finished ones ride along for a while.
        waiting: numbers of those that have not begun.
        pending: what each of them feeds next, not yet in the cache.
        cursors: the slot where that will be.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        rows: Sequence[Row],
        max_new_tokens: int,
        eos: frozenset[int],
        vocabulary: Vocabulary | None,
        on_token: Callable[[int, int], bool] | None,
        backspace: int | None,
        speculation: Speculation | None,
        width: int,
        extension: Extension | None,
    ) -> None:
        self.model, self.width, self.extension = model, width, extension
        self.rows, self.most, self.eos = rows, max_new_tokens, eos
        self.vocabulary, self.on_token, self.backspace = vocabulary, on_token, backspace
        self.speculation = speculation
        self.device = model.device
        longest = max(len(row.prompt) + len(row.tokens) for row in rows)
        drafted = speculation.limit if speculation else 0
        self.capacity = longest + max_new_tokens + drafted
        if extension:
            self.capacity = extension.capacity(longest + max_new_tokens, drafted + 1)
        else:
            check_supported(model, longest + max_new_tokens)
        self.batch: list[int] = []
        self.pending: list[int] = []
        self.cursors: list[int] = []
        self.made = [0] * len(rows)  # choices of each row, in the order of the rows
        self.waiting = list(range(len(rows)))
        self._admit()

    def _admit(self) -> None:
        """Fills the batch up with waiting rows."""
        room = self.width - len(self.batch)
        new, self.waiting = self.waiting[:room], self.waiting[room:]
        given = [self.rows[number].prompt + self.rows[number].tokens for number in new]
        planner = self.speculation.planner if self.speculation else None
        began = self.clock() if planner else 0.0
        cursors = [len(tokens) - 1 for tokens in given]
        if self.extension:
            cache, cursors = self.extension.prefill(self.model, given, self.capacity)
        else:
            cache = RowCache(self.model.config.get_text_config().num_hidden_layers, self.capacity)
            prefill(self.model, cache, given)
        if planner:
            planner.costs.add_prompt(sum(map(len, given)), self.clock() - began)
        if self.batch:
            self.cache.join(cache, len(new))
        else:
            self.cache = cache
        self.batch += new
        self.pending += [tokens[-1] for tokens in given]
        self.cursors += cursors
        if self.speculation:
            for number, tokens in zip(new, given, strict=True):
                self.speculation.begin(number, tokens)

    def place(self, trees: Trees) -> torch.Tensor:
        """Places what is fed next in the cache; returns the attention mask."""
        if self.extension is None:
            return trees.place(self.cache, self.cursors, self.device)
        for i, cursor in enumerate(self.cursors):
            if cursor + trees.width > self.capacity:
                self.cursors[i] = self.extension.forget(self.cache, i, cursor)
        mask = trees.place(self.cache, self.cursors, self.device)
        return self.extension.restrict(mask, self.cache.slots.positions)

    def clock(self) -> float:
        """Seconds. On a CPU those that this thread ran, as others may want the cores too."""
        if self.device.type == "cpu":
            return time.thread_time()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def drafts(self) -> list[Draft]:
        """What is put to the target for each row; nothing while its tokens are restricted."""
        if self.speculation is None:
            return [_NO_DRAFT] * len(self.batch)
        left = {
            number: 0 if self.rows[number].rest else self.most - self.made[number]
            for number in self.batch
            if not self.rows[number].finish
        }
        found = self.speculation.draft(left, len(self.batch), bool(self.waiting))
        return [found.get(number, _NO_DRAFT) for number in self.batch]

    def restrict(self, logits: torch.Tensor) -> None:
        """Forbids, in logits [B, V] of the next tokens, what some rows may not choose."""
        for i, number in enumerate(self.batch):
            row = self.rows[number]
            if self.vocabulary and row.rest and not row.finish:
                logits[i] = _only(logits[i], self.vocabulary.allowed(row.rest))
            if self.backspace is not None and not row.tokens:
                logits[i, self.backspace] = -torch.inf

    def uniforms(self, trees: Trees) -> list[float]:
        """The random number of each node's choice: that of the token it would give the row."""
        found = []
        for number, depths in zip(self.batch, trees.depths, strict=True):
            numbers, made = self.rows[number].uniforms, self.made[number]
            last = len(numbers) - 1
            found += [float(numbers[min(made + depth, last)]) for depth in depths]
        return found

    def advance(
        self,
        trees: Trees,
        drafts: Sequence[Draft],
        chosen: Sequence[Sequence[Sequence[int]]],
        seconds: float,
    ) -> None:
        """Takes each row as far as its draft agrees with what was chosen, and one token more.

        Args:
            trees: what was fed.
            drafts: of each row.
            chosen: [B][W] lists of a node's token and the most probable ones.
            seconds: that the pass took.
        """
        cursors = list(self.cursors)
        grown: list[int] = []  # tokens of each row that ran
        paths: list[list[int]] = [[] for _ in self.batch]
        for i, number in enumerate(self.batch):
            row = self.rows[number]
            if row.finish:  # it writes to one slot again and again
                continue
            before, path, node = len(row.tokens), paths[i], 0
            while True:
                self._take(number, chosen[i][node][0])
                found = trees.children[i].get((node, chosen[i][node][0]))
                if found is None or row.finish:
                    break
                path.append(found)
                node = found
            if self.backspace is not None:
                self.cursors[i] += len(row.tokens) - before or -1
            else:
                self.cursors[i] += 1 + len(path)
                grown.append(1 + len(path))
                self._tell(number, drafts[i], trees.tokens[i], chosen[i], row.tokens[before:])
            self.pending[i] = row.tokens[-1] if row.tokens else row.prompt[-1]
        if self.speculation and self.speculation.planner:
            self.speculation.planner.settle(len(self.batch), trees.width, grown, seconds)
        self.cache.keep(paths, cursors)
        self._compact()

    def _take(self, number: int, token: int) -> None:
        """A row's next token."""
        row = self.rows[number]
        self.made[number] += 1
        if self.backspace is not None:
            row.actions.append(token)
        if token in self.eos:
            row.finish = "eos"
            return
        if token == self.backspace:  # the token before the one taken back is fed once more
            row.tokens.pop()
        else:
            row.tokens.append(token)
        if self.vocabulary and row.rest:
            row.rest = self.vocabulary.after(row.rest, token)
        if self.on_token and self.on_token(number, token):
            row.finish = "stop"
        elif self.made[number] == self.most:
            row.finish = "length"

    def _tell(
        self,
        number: int,
        draft: Draft,
        fed: Sequence[int],
        chosen: Sequence[Sequence[int]],
        emitted: list[int],
    ) -> None:
        """Tells a row's drafter what was accepted."""
        if self.speculation is None:
            return
        self.speculation.tell(number, draft, emitted)
        drafter, nodes = self.speculation.drafters[number], 1 + len(draft)
        if drafter.candidates and len(chosen[0]) > 1:
            successors = [node[1 : 1 + drafter.candidates] for node in chosen[:nodes]]
            drafter.observe(fed[:nodes], successors)
        if self.rows[number].finish:
            drafter.finish()

    def _compact(self) -> None:
        """Drops finished rows once they are many, for waiting ones if there are any."""
        running = [i for i, number in enumerate(self.batch) if not self.rows[number].finish]
        if running and len(running) > COMPACT_BELOW * len(self.batch):
            return
        if running:
            self.cache.select(torch.tensor(running, device=self.device))
        self.batch = [self.batch[i] for i in running]
        self.pending = [self.pending[i] for i in running]
        self.cursors = [self.cursors[i] for i in running]
        if self.waiting:
            self._admit()


def _only(logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Logits with every token but ``ids`` forbidden; unchanged if there are none."""
    if not ids:
        return logits
    masked = torch.full_like(logits, -torch.inf)
    masked[ids] = logits[ids]
    return masked
