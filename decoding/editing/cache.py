"""A cache that follows a text's edits: Positional Integrity Encoding (PIE) with repairs.

When tokens in the middle of a cached sequence change, :meth:`EditableCache.update` encodes only the
new ones. Tokens after the edit keep their states, and their keys are rotated to the new positions
(He et al., PIE, arXiv 2407.03157). These states are approximate, as they were encoded after the old
text. If a definition changes while the user types a use of it, PIE alone is little better than
ignoring the edit; re-encoding the typed line fixes that. So the last tokens are always re-encoded
if stale, and :meth:`recompute` encodes all stale tokens, from left to right, when there is time.

Beyond the paper: an update encodes all new tokens in one pass; moved runs of tokens are found (cut
and paste); states of removed tokens are kept for a while. If the text before a token is the same as
when the token was encoded (after undo, redo or typing a suggestion), the token's states are known
to be exact.
"""

from __future__ import annotations

import copy
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache
from codegen.decoding.editing.forward import (
    DecodeStep,
    begin,
    check_agreement,
    forward,
    step_rows,
    to_tensor,
)
from codegen.decoding.editing.plan import (
    EditPolicy,
    EditReport,
    Ledger,
    Marks,
    ReusePlan,
    Tokens,
    common_prefix,
    prefix_marks,
)
from codegen.decoding.editing.rotation import Support, examine
from codegen.decoding.passes import Drafts, Pass, Passes, run_alone

if TYPE_CHECKING:
    from codegen.decoding.sequences import Trees

_KNOWN_LOGITS = 8
_SPARE = 512  # unused slots that are always allowed
_agreeing: weakref.WeakSet[PreTrainedModel | DecodeStep] = weakref.WeakSet()

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True, eq=False)
class PassRequest:
    """A forward pass that a cache needs next.

    Attributes:
        cache: the cache.
        places: ascending positions of its sequence to encode, int64 [Q].
        keep: number of last positions whose logits are returned.
    """

    cache: EditableCache
    places: NDArray[np.int64]
    keep: int

    @property
    def size(self) -> int:
        """Number of encoded tokens."""
        return len(self.places)

    def run(self) -> torch.Tensor:
        """Runs the pass; returns logits [keep, V]."""
        return EditableCache.run_passes([self])[0]


class EditableCache:
    """One model's cached states for one text.

    :meth:`update`, :meth:`extend` and :meth:`recompute` run their forward passes themselves;
    :meth:`updating`, :meth:`extending` and :meth:`recomputing` yield the passes to a driver, which
    batches several caches.

    The sequence is the last context given to :meth:`update`, followed by the tokens added by
    :meth:`extend`. A cache must not be used by several threads at once; several caches may share a
    model.

    Args:
        model: a decoder-only model with rotary positions, loaded with ``sdpa`` attention.
        policy: rules for reuse and repair.
        step: runs passes of few tokens instead of the model.
        sample: token ids of typical text to check the step with.

    Attributes:
        kv: keys and values by slot.
        ledger: the sequence, and the slot of each position.

    Raises:
        ModelError: if the model's architecture does not support editing in the cache.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        policy: EditPolicy | None = None,
        step: DecodeStep | None = None,
        sample: Sequence[int] = (),
    ) -> None:
        self.model = model
        self._step = step
        self.policy = policy or EditPolicy()
        self._support: Support = examine(model)
        for one in (model, step):
            if one is not None and one not in _agreeing:
                check_agreement(model, self._support, step if one is step else None, sample)
                _agreeing.add(one)
        self._device = model.device
        self.kv = KVCache(self._support.rotations, device=self._device)
        self.ledger = Ledger()
        self._logits: torch.Tensor | None = None
        self._known: OrderedDict[int, torch.Tensor] = OrderedDict()
        self._context = 0  # number of tokens of the last update
        self._context_logits: torch.Tensor | None = None
        self._start_changed = False  # True if changed since all states were exact

    def __len__(self) -> int:
        """Returns the number of tokens of the sequence."""
        return len(self.ledger.order)

    @property
    def token_ids(self) -> list[int]:
        """The sequence's token ids."""
        return self.ledger.sequence.tolist()

    @property
    def exact(self) -> bool:
        """True if all states equal those of encoding the whole sequence, up to rounding."""
        return bool(self.ledger.exact.all())

    @property
    def inexact(self) -> int:
        """Number of tokens that :meth:`recompute` would encode."""
        return int(np.count_nonzero(~self.ledger.exact))

    @property
    def longest(self) -> int | None:
        """Maximum tokens per sequence; None if unlimited."""
        return self._support.limit

    @property
    def nbytes(self) -> int:
        """Bytes of the cached states."""
        return self.kv.nbytes

    @property
    def logits(self) -> torch.Tensor:
        """Logits [V] of the next token.

        After :meth:`truncate` to a length whose logits were not kept, the last token is
        re-encoded.

        Raises:
            ValueError: if the sequence is empty.
        """
        if self._logits is None:
            if not len(self):
                raise ValueError("an empty sequence has no next token; call update first")
            run_alone(self._encode(np.array([len(self) - 1]), None))
        assert self._logits is not None
        return self._logits

    def in_doubt(self, logits: torch.Tensor) -> bool:
        """Returns True if stale states may have changed the most likely token.

        Stale states shift logits by some tenths, and by more if the sequence's start has changed.
        If two tokens are nearly as likely, only :meth:`recompute` makes the choice certain.

        Args:
            logits: logits of one or several tokens, [V] or [Q, V].
        """
        if self.exact:
            return False
        policy = self.policy
        least = policy.doubt_after_start if self._start_changed else policy.doubt
        best = logits.reshape(-1, logits.shape[-1]).topk(2).values
        return bool((best[:, 0] - best[:, 1]).min() < least)

    def update(
        self,
        token_ids: Sequence[int],
        *,
        tail: int | None = None,
        statement: tuple[int, int] | None = None,
        stop: Stop | None = None,
    ) -> EditReport:
        """Changes the sequence to ``token_ids``; encodes new tokens and repairs some stale ones.

        Args:
            token_ids: the whole new context, at least one token.
            tail: number of tokens at the end that are re-encoded if stale: the cursor's line and
                its surrounding statement. None for ``policy.tail``.
            statement: start and end of another range that is re-encoded if stale: the cursor's
                statement, in prompts where it is not at the end.
            stop: called between forward passes; if it returns true, the update ends early.

        Raises:
            ModelError: if the sequence is too long for the model.
            ValueError: if ``token_ids`` is empty.
        """
        return run_alone(self.updating(token_ids, tail=tail, statement=statement, stop=stop))

    def updating(
        self,
        token_ids: Sequence[int],
        *,
        tail: int | None = None,
        statement: tuple[int, int] | None = None,
        stop: Stop | None = None,
    ) -> Passes[EditReport]:
        """Yields the passes of :meth:`update`."""
        began = time.perf_counter()
        if not len(token_ids):
            raise ValueError("a context needs at least one token")
        self._support.check_length(len(token_ids))
        policy = self.policy
        tokens = np.asarray(token_ids, dtype=np.int64)
        again = np.zeros(len(tokens), dtype=bool)
        again[max(0, len(tokens) - (policy.tail if tail is None else tail)) :] = True
        again[slice(*(statement or (0, 0)))] = True
        shared = common_prefix(self.ledger.sequence[: policy.start], tokens[: policy.start])
        same_start = shared == min(policy.start, len(self), len(tokens))
        self._start_changed = not same_start or (self._start_changed and not self.exact)
        plan = self.ledger.plan(tokens, again, policy)
        known = self._known.get(int(plan.marks[-1]))
        if known is None:
            plan.fresh[-1] = True
        moved = self._arrange(plan)
        places = np.flatnonzero(plan.fresh)
        self._context, self._context_logits = len(tokens), known
        self._logits = known
        complete = yield from self._encode(places, stop)
        encoded = int(np.count_nonzero(places < len(self)))
        return EditReport(
            reused=len(self) - encoded,
            moved=moved,
            encoded=encoded,
            stale=self.ledger.stale,
            exact=complete and self.exact,
            seconds=time.perf_counter() - began,
            complete=complete,
        )

    def fork(self) -> EditableCache:
        """Returns an independent cache in the same state; the states are copied."""
        twin = copy.copy(self)
        twin.kv = self.kv.copy()
        twin.ledger = copy.deepcopy(self.ledger)
        twin._known = self._known.copy()
        return twin

    def recompute(self, *, stop: Stop | None = None) -> bool:
        """Encodes all tokens that are not exact, from left to right.

        After an interruption by ``stop``, the next call continues.

        Args:
            stop: called between forward passes; returns true to stop.

        Returns:
            True if all states are exact.
        """
        return run_alone(self.recomputing(stop=stop))

    def recomputing(self, *, stop: Stop | None = None) -> Passes[bool]:
        """Yields the passes of :meth:`recompute`."""
        places = np.flatnonzero(~self.ledger.exact)
        if len(places):
            self._context_logits = None
        return (yield from self._encode(places, stop))

    def extend(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Appends tokens, such as decoded or drafted ones.

        Returns:
            Logits [Q, V] after each added token.

        Raises:
            ModelError: if the sequence is too long for the model.
            ValueError: if ``token_ids`` is empty.
        """
        return run_alone(self.extending(token_ids))

    def extending(self, token_ids: Sequence[int]) -> Passes[torch.Tensor]:
        """Yields the passes of :meth:`extend`."""
        if not len(token_ids):
            raise ValueError("no tokens were given")
        before = len(self)
        self._support.check_length(before + len(token_ids))
        added = np.asarray(token_ids, dtype=np.int64)
        tokens = np.concatenate([self.ledger.sequence, added])
        known = self.ledger.marks
        marks = np.concatenate([known, prefix_marks(added, known)])
        self._place(self.ledger.order, tokens, marks)
        index = np.arange(before, len(tokens))
        logits = yield from self._forward(index, len(index))
        self._remember(logits[-1].clone())  # the caller may change the result
        return logits

    def truncate(self, length: int) -> None:
        """Cuts the sequence to its first ``length`` tokens.

        Raises:
            ValueError: if the sequence is not that long.
        """
        if not 0 <= length <= len(self):
            raise ValueError(f"cannot cut {len(self)} tokens to {length}")
        if length == len(self):
            return
        self._cut(length)
        if length == self._context:
            self._logits = self._context_logits
        elif length:
            self._logits = self._known.get(int(self.ledger.marks[-1]))

    @torch.inference_mode()
    def _arrange(self, plan: ReusePlan) -> int:
        """Applies a plan and rotates moved keys; returns the number of moved tokens."""
        ledger = self.ledger
        kept = np.flatnonzero(~plan.fresh)
        order = np.full(len(plan.tokens), -1, dtype=np.int64)
        order[kept] = plan.slots[kept]
        self._place(order, plan.tokens, plan.marks)
        slots = ledger.order[kept]
        astray = ledger.turned_for[slots] != kept
        slots, places = slots[astray], kept[astray]
        if len(slots) and self.policy.rotate:
            shifts = places - ledger.encoded_at[slots]
            ledger.turned_for[slots] = -1  # invalid until all layers are rotated
            try:
                self.kv.move(self._tensor(slots), self._tensor(shifts))
            except BaseException:
                self._cut(min(ledger.valid, int(places[0])))
                raise
        ledger.turned_for[slots] = places
        return len(slots)

    def _place(self, order: NDArray[np.int64], tokens: Tokens, marks: Marks) -> None:
        """Sets the sequence's tokens.

        Args:
            order: the tokens' slots, int64 [N'], N' <= N; -1 or no entry: take an empty slot.
            tokens: int64 [N].
            marks: marks of the tokens.
        """
        ledger = self.ledger
        order = np.concatenate([order, np.full(len(tokens) - len(order), -1, dtype=np.int64)])
        missing = np.flatnonzero(order < 0)
        free = ledger.free()
        if len(free) < len(missing):
            self.kv.reserve(self.kv.capacity + len(missing) - len(free))
            ledger.grow(self.kv.capacity)
            free = ledger.free()
        order[missing] = free[: len(missing)]
        ledger.arrange(order, tokens, marks)
        ledger.forget(self.policy.keep_removed)
        self._compact()
        self._publish()

    @torch.inference_mode()
    def _compact(self) -> None:
        """Frees memory when less than half of the slots are used."""
        held = self.ledger.held()
        if self.kv.capacity <= 2 * len(held) + _SPARE:
            return
        self.kv.take(self._tensor(held))
        self.ledger.take(held)
        self.ledger.grow(self.kv.capacity)

    def _publish(self) -> None:
        """Copies the ledger's positions to the cache's slots."""
        self.kv.slots.position_of = self._tensor(self.ledger.positions())

    def _encode(self, places: NDArray[np.int64], stop: Stop | None) -> Passes[bool]:
        """Encodes these positions of the sequence, in order; returns True if all were encoded.

        Otherwise the sequence is cut before the first position without states.
        """
        chunk = self.policy.chunk
        for start in range(0, len(places), chunk):
            if stop is not None and stop():
                self._cut(self.ledger.valid)
                return False
            part = places[start : start + chunk]
            logits = yield from self._forward(part, 1)
            if part[-1] == len(self) - 1:
                self._remember(logits[-1])
        return True

    def _forward(self, places: NDArray[np.int64], keep: int) -> Passes[torch.Tensor]:
        """Runs one pass over these positions; each attends to all positions before it.

        Args:
            places: ascending positions of the sequence, int64 [Q].
            keep: number of last positions with logits.

        Returns:
            Logits [keep, V].
        """
        ledger = self.ledger
        ledger.begin(places)
        try:
            # Resumed with the logits by run_alone() or the server's Schedule.round().
            logits = yield PassRequest(self, places, keep)
        except BaseException:  # including GeneratorExit
            self._cut(ledger.valid)
            raise
        ledger.encoded(places)
        return logits

    @staticmethod
    @torch.inference_mode()
    def run_passes(requests: Sequence[Pass]) -> list[torch.Tensor]:
        """Runs passes of different caches, together if the caches share a step.

        Returns:
            Each request's logits [keep, V].
        """
        edited = [one for one in requests if isinstance(one, PassRequest)]
        step = edited[0].cache._step if edited else None
        if (
            step is None
            or len(requests) == 1
            or len(edited) < len(requests)
            or any(one.cache._step is not step or one.size > step.most for one in edited)
        ):
            return [
                one.cache._run(one.places, one.keep) if isinstance(one, PassRequest) else one.run()
                for one in requests
            ]
        found: list[torch.Tensor] = []
        for these in _batches(edited, step.together):
            rows = []
            for one in these:
                kv, ledger = one.cache.kv, one.cache.ledger
                rows.append(step_rows(kv, ledger, begin(kv, ledger, one.places), one.keep))
            found += step(rows)
        return found

    def _run(self, places: NDArray[np.int64], keep: int) -> torch.Tensor:
        """Runs the model on these positions; returns logits [keep, V]."""
        return forward(self.model, self.kv, self.ledger, places, keep, self._step)

    def _cut(self, length: int) -> None:
        """Cuts the sequence to ``length`` tokens, if it is longer."""
        if length == len(self):
            return
        self.ledger.cut(length)
        self._publish()
        self._logits = None

    def _remember(self, logits: torch.Tensor) -> None:
        """Stores the logits [V] of the token after the sequence."""
        self._logits = logits
        if len(self) == self._context:
            self._context_logits = logits
        if not self.exact:
            return
        mark = int(self.ledger.marks[-1])
        self._known[mark] = logits
        self._known.move_to_end(mark)
        while len(self._known) > _KNOWN_LOGITS:
            self._known.popitem(last=False)

    def _tensor(self, values: NDArray[np.int64]) -> torch.Tensor:
        return to_tensor(values, self._device)


class EditedRow:
    """The text of an :class:`EditableCache` as the only row of a decoding loop.

    The row's prompt is the context in the cache. The cache's owner removes the decoded tokens.

    Args:
        cache: the cache, which contains the context.
    """

    drafts: Drafts = "trees"

    def __init__(self, cache: EditableCache) -> None:
        self.cache, self.device = cache, cache.model.device
        self._context, self._logits = len(cache), cache.logits
        self._length = 0  # tokens before the last encoded node 0

    def admit(self, given: Sequence[list[int]]) -> Passes[torch.Tensor]:
        """Encodes the tokens after the context."""
        (tokens,) = given
        logits = self._logits
        self.cache.truncate(self._context)
        if behind := tokens[self._context :]:
            logits = (yield from self.cache.extending(behind))[-1]
        self._length = len(self.cache) - 1
        return logits.clone()[None, None]  # the strategy may change the result

    def encode(self, trees: Trees) -> Passes[torch.Tensor]:
        """Encodes chains; see :class:`codegen.decoding.sequences.Sequences`."""
        assert trees.parents is None
        self._length = len(self.cache)
        return (yield from self.cache.extending(trees.tokens[0].tolist()))[None]

    def keep(self, trees: Trees, paths: Sequence[Sequence[int]], steps: Sequence[int]) -> None:
        """Keeps the accepted tokens; see :class:`codegen.decoding.sequences.Sequences`."""
        self.cache.truncate(self._length + steps[0])

    def select(self, rows: Sequence[int]) -> None:
        """Does nothing, as a single row cannot be dropped."""


def _batches(requests: Sequence[PassRequest], most: int) -> list[list[PassRequest]]:
    """Splits requests, in order, into batches of up to ``most`` tokens or one request."""
    found: list[list[PassRequest]] = []
    rows = most
    for one in requests:
        if rows + len(one.places) > most:
            found.append([])
            rows = 0
        found[-1].append(one)
        rows += len(one.places)
    return found
