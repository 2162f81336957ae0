"""EQSPEC and EXSPEC: batched speculative decoding with left padding, as a peer of our row cursors.

Source: Zhang et al., *Batch Speculative Decoding Done Right* (arXiv 2510.22876 v3). Rows that
accept different numbers of tokens are brought to one length again after each round:

- EQSPEC shifts every row's states so that all rows end in the same column (:func:`eqspec`);
- EXSPEC keeps a pool of unpadded rows and batches those of equal length, which needs no padding;
  where too few are alike it pads as EQSPEC does (:func:`exspec`).

Greedy. Repaired against the released code: a draft that is accepted whole gives its bonus token too
(K + 1 tokens a round); the end is looked for among new tokens alone; padding is known by place and
not by a token id, so prompts may hold that id; finished rows leave at once. The drafters are those
of the loop, which keep their state, so that all methods verify drafts of the same kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel

from codegen.decoding.drafts import Context, Drafter
from codegen.decoding.passes import cache_argument, check_supported

States = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values of each layer, [B, H, N, D]


@dataclass(slots=True)
class Tally:
    """What a run took.

    Attributes:
        passes: forward passes that verify.
        fed: tokens in them, padding of short drafts among them.
        realigned: tokens whose states were moved to another column.
        padded: columns that held nothing of their row, summed over rows and passes.
        grouped: passes of EXSPEC without padding.
    """

    passes: int = 0
    fed: int = 0
    realigned: int = 0
    padded: int = 0
    grouped: int = 0


@dataclass(slots=True)
class _Row:
    """A row: its tokens, of which the states of all but the latest are known."""

    tokens: list[int]
    drafter: Drafter
    prompt: int
    states: States = field(default_factory=list)  # [1, H, len(tokens) - 1, D]; EXSPEC's
    done: bool = False

    @property
    def made(self) -> list[int]:
        return self.tokens[self.prompt :]


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends rows and drafts: most new tokens, most drafted ones (K), ids that end a row."""

    max_new_tokens: int
    draft_tokens: int
    eos: frozenset[int] = frozenset()


@torch.inference_mode()
def eqspec(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    drafters: Sequence[Drafter],
    limits: Limits,
) -> tuple[list[list[int]], Tally]:
    """All prompts in one batch, realigned after each round; the new tokens of each.

    Args:
        model: loaded with ``sdpa`` attention.
        prompts: token ids, at least one each.
        drafters: one a prompt.
        limits: see :class:`Limits`.
    """
    rows, tally = _begin(model, prompts, drafters, limits), Tally()
    active = list(rows)
    states = _padded_prefill(model, active)
    while active:
        before = [len(row.tokens) for row in active]
        width = max(before)
        states = _round(model, active, states, limits, tally)
        running = [i for i, row in enumerate(active) if not row.done]
        begins = [width - n for n in before]  # p_i, the padding so far
        kept = [len(active[i].tokens) - 1 for i in running]
        longest = max(kept, default=0)
        places = [(i, begins[i], n) for i, n in zip(running, kept, strict=True)]
        tally.realigned += _moved(places, longest)
        states = _right_aligned(states, places, longest)
        active = [active[i] for i in running]
    return [row.made for row in rows], tally


@torch.inference_mode()
def exspec(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    drafters: Sequence[Drafter],
    limits: Limits,
    *,
    batch: int,
    window: int,
) -> tuple[list[list[int]], Tally]:
    """Batches of rows of equal length out of a pool.

    Args:
        model, prompts, drafters, limits: see :func:`eqspec`.
        batch: rows of a pass.
        window: rows of the pool that may be batched; finished ones make room for later ones.
    """
    rows, tally = _begin(model, prompts, drafters, limits), Tally()
    waiting, pool = list(rows), []
    while waiting or pool:
        new, waiting = waiting[: window - len(pool)], waiting[window - len(pool) :]
        for row in new:
            row.states = _padded_prefill(model, [row])
        pool += new
        size = min(batch, len(pool))
        length, count = Counter(len(row.tokens) for row in pool).most_common(1)[0]
        grouped = count >= size
        chosen = [row for row in pool if not grouped or len(row.tokens) == length][:size]
        before = [len(row.tokens) for row in chosen]
        width = max(before)
        if not grouped:
            tally.realigned += sum(n - 1 for n in before if n != width)
        tally.grouped += grouped
        states = [
            tuple(torch.cat([_left_padded(part, width - 1) for part in parts]) for parts in
                  zip(*(row.states[layer] for row in chosen), strict=True))
            for layer in range(len(chosen[0].states))
        ]  # fmt: skip
        states = _round(model, chosen, states, limits, tally)  # type: ignore[arg-type]
        for i, (row, n) in enumerate(zip(chosen, before, strict=True)):
            row.states = _right_aligned(
                states, [(i, width - n, len(row.tokens) - 1)], len(row.tokens) - 1
            )
        pool = [row for row in pool if not row.done]
    return [row.made for row in rows], tally


def _begin(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    drafters: Sequence[Drafter],
    limits: Limits,
) -> list[_Row]:
    check_supported(model, max(map(len, prompts)) + limits.max_new_tokens)
    for prompt, drafter in zip(prompts, drafters, strict=True):
        drafter.begin(prompt, Context())
    return [
        _Row(list(prompt), drafter, len(prompt))
        for prompt, drafter in zip(prompts, drafters, strict=True)
    ]


def _round(
    model: PreTrainedModel, rows: list[_Row], states: States, limits: Limits, tally: Tally
) -> States:
    """Drafts, verifies and extends the rows; the states with those of what was fed.

    Args:
        model: verifies.
        rows: of the batch.
        states: of all but their newest tokens, ending in one column.
        limits, tally: see there.
    """
    drafts = []
    for row in rows:
        left = limits.max_new_tokens - (len(row.tokens) - row.prompt)
        draft = row.drafter.draft(min(limits.draft_tokens, left - 1)) if left > 1 else None
        if draft is not None and not draft.is_chain:
            raise ValueError("EQSPEC and EXSPEC verify chains")
        drafts.append(draft.tokens if draft else [])
    fed = 1 + max(map(len, drafts))
    tokens = [
        [row.tokens[-1], *draft, *[row.tokens[-1]] * (fed - 1 - len(draft))]
        for row, draft in zip(rows, drafts, strict=True)
    ]
    lengths = [len(row.tokens) for row in rows]
    logits, states = _forward(model, tokens, states, lengths)
    best = logits.argmax(-1).tolist()
    tally.passes += 1
    tally.fed += fed * len(rows)
    tally.padded += sum(max(lengths) - n for n in lengths)
    for row, draft, choices in zip(rows, drafts, best, strict=True):
        emitted: list[int] = []
        for place, choice in enumerate(choices):
            if choice in limits.eos:
                row.done = True
                break
            emitted.append(choice)
            if len(row.made) + len(emitted) == limits.max_new_tokens:
                row.done = True
            if row.done or place >= len(draft) or draft[place] != choice:
                break
        row.tokens += emitted
        row.drafter.accept(emitted)
    return states


def _forward(
    model: PreTrainedModel, tokens: list[list[int]], states: States, lengths: Sequence[int]
) -> tuple[torch.Tensor, States]:
    """Logits [B, Q, V] of tokens that follow the states, and these with theirs.

    ``lengths`` are the rows' tokens up to the first fed one; columns before a row's are padding.
    """
    device = model.device
    given = torch.tensor(tokens, device=device)
    fed = given.shape[1]
    before = states[0][0].shape[2] if states else 0
    first = torch.tensor(lengths, device=device)[:, None] - 1  # position of the first fed token
    queries = torch.arange(fed, device=device)
    columns = torch.arange(before + fed, device=device)
    seen = (columns >= before - first)[:, None, :] & (columns <= before + queries[:, None])
    # What is fed in place of padding sees itself, as a row of nothing would be no distribution.
    seen |= columns == before + queries[:, None]
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(states):
        cache.update(keys, values, layer)
    output = model(
        input_ids=given,
        position_ids=(first + queries).clamp(min=0),
        attention_mask=seen[:, None],
        use_cache=True,
        **{cache_argument(type(model)): cache},
    )
    found = []
    for layer in cache.layers:
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        assert keys is not None and values is not None
        found.append((keys, values))
    return output.logits, found


def _padded_prefill(model: PreTrainedModel, rows: list[_Row]) -> States:
    """States of all tokens but the latest, padded on the left."""
    longest = max(len(row.tokens) for row in rows) - 1
    if longest == 0:
        config = model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // (
            config.num_attention_heads
        )
        shape = len(rows), config.num_key_value_heads, 0, width
        nothing = torch.zeros(shape, dtype=model.dtype, device=model.device)
        return [(nothing, nothing)] * config.num_hidden_layers
    tokens = [[0] * (longest + 1 - len(row.tokens)) + row.tokens[:-1] for row in rows]
    # The first column's position is below 0 where it is padding.
    lengths = [len(row.tokens) - longest for row in rows]
    return _forward(model, tokens, [], lengths)[1]


def _left_padded(states: torch.Tensor, width: int) -> torch.Tensor:
    """[B, H, width, D], with zeros in front."""
    return torch.nn.functional.pad(states, (0, 0, width - states.shape[2], 0))


def _moved(places: Sequence[tuple[int, int, int]], width: int) -> int:
    """Tokens of the rows whose padding changes; 0 if that of all is cut off alike."""
    if len({(first, length) for _, first, length in places}) <= 1:
        return 0
    return sum(length for _, first, length in places if width - length != first)


def _right_aligned(states: States, places: Sequence[tuple[int, int, int]], width: int) -> States:
    """Rows (number, first column, length) of the states, each to end in column ``width``."""
    if not places:
        return []
    if not _moved(places, width):
        start = places[0][1] if len({length for *_, length in places}) == 1 else 0
        rows = torch.tensor([number for number, *_ in places], device=states[0][0].device)
        return [
            (keys[rows, :, start : start + width], values[rows, :, start : start + width])
            for keys, values in states
        ]

    def aligned(part: torch.Tensor) -> torch.Tensor:
        return torch.cat(
            [_left_padded(part[i : i + 1, :, first : first + n], width) for i, first, n in places]
        )

    return [(aligned(keys), aligned(values)) for keys, values in states]
