"""Sorted drafts (S2D): a nested draft model whose first layers can draft by themselves.

Source: Kavehzadeh et al., *S2D: Sorted Speculative Decoding for More Efficient Deployment of Nested
Large Language Models* (arXiv 2407.01955). Sorted fine-tuning (``codegen.finetune``, ``loss:
sorted``) teaches the sub-models of a few depths to share one norm and one head.

:class:`Nested` splits such a model into stages of a few layers, with an exit after each. The
sub-model of depth d is the embedding, the first d layers, and the model's own final norm and head
(section 3). A stage is the model's own body with some of its layers and no norm, so the
architecture's computations around the layers still run.

:class:`NestedRow` drafts each token at the first exit that is confident. The deeper layers lack
such a token's states; its hidden state is queued for them. When a later token goes deeper, all
queued states go with it, in order and at their own positions. So every layer's states equal the
full model's, regardless of the exits taken (section 3.3), and deeper layers have shorter prefixes.

:class:`SortedDrafter` has one :class:`NestedRow`, its ladder, for one row of the decoding loop. The
host decides whether a token needs deeper layers, which is free on a CPU. On other devices
:class:`SortedSpeculation` launches a whole draft at one depth and reads it with the round's result;
the next draft's depth is the ladder's choice for most of this draft's tokens.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from codegen.core.errors import ModelError
from codegen.decoding.cache import KVCache
from codegen.decoding.device import download, padded_width
from codegen.decoding.drafts.protocol import Context, Draft, Drafter, common_prefix
from codegen.decoding.loop import Batch, Walk
from codegen.decoding.passes import (
    cache_argument,
    check_architecture,
    check_attention_only,
    layer_masks,
    logits_agree,
    sliding_window,
)
from codegen.decoding.sequences import CachedRows, Trees
from codegen.decoding.strategies.speculative import Speculation, children_of, walk

_CHECKED = 5  # tokens to compare
BLOCK = 1024  # maximum tokens per pass through a stage
ROOM = 256  # initial slots
_UNKNOWN = -1  # a token that is only on the device
DEFAULT_THRESHOLD = 0.5  # from the published script, for all exits but the last


class ModelParts(NamedTuple):
    """The parts of a model from which sub-models are built.

    Attributes:
        body: the model without its head.
        layers: the body's layers.
        norm: applied after the last layer.
        head: maps hidden states [..., D] to logits [..., V].
    """

    body: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    head: nn.Module


def parts_of(model: PreTrainedModel) -> ModelParts:
    """Returns the parts of a model built like Llama.

    Raises:
        ModelError: for other architectures.
    """
    body: Any = model.base_model
    layers, norm = getattr(body, "layers", None), getattr(body, "norm", None)
    head: Any = model.get_output_embeddings()
    if not isinstance(layers, nn.ModuleList) or norm is None or head is None:
        raise _unsplittable(model, "unlike Llama, it is not made of layers, one norm and a head")
    return ModelParts(body, layers, norm, head)


def _unsplittable(model: PreTrainedModel, reason: str) -> ModelError:
    return ModelError(
        f"{type(model).__name__} cannot be split into sub-models: {reason}.",
        "Use a model of the Llama, Mistral or Qwen family.",
    )


def default_exits(model: PreTrainedModel) -> tuple[int, ...]:
    """Returns the exit depths that a model was trained for, or only its full depth."""
    config = model.config.get_text_config()
    given = getattr(config, "exit_layers", None) or [config.num_hidden_layers]
    return tuple(given)


class Nested:
    """A model with exits; shared by all rows.

    Args:
        model: loaded with ``sdpa`` attention.
        exits: depths, ascending, by default :func:`default_exits`; every token exits at the last.

    Attributes:
        exits: see above.
        limit: maximum tokens per sequence; None for any number.

    Raises:
        ModelError: if the model lacks an exit, or its stages, run in sequence, compute other logits
            than the model (checked on a few tokens).
    """

    def __init__(self, model: PreTrainedModel, exits: Sequence[int] | None = None) -> None:
        check_architecture(model)
        check_attention_only(model, "early exits")
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if len(kinds) > 1:
            found = ", ".join(sorted(kinds))
            raise _unsplittable(model, f"it has several layer types ({found})")
        parts = parts_of(model)
        depth = len(parts.layers)
        self.exits = tuple(exits or default_exits(model))
        if list(self.exits) != sorted(set(self.exits)) or not 0 < self.exits[0] <= depth or (
            self.exits[-1] > depth):  # fmt: skip
            raise ModelError(
                f"The draft has {depth} layers; it cannot exit after {list(self.exits)}.",
                "Choose ascending depths up to that number.",
            )
        self.layers, self.device = depth, model.device
        self._norm, self._head = parts.norm, parts.head
        self._cache_argument = cache_argument(type(parts.body))
        borders = zip((0, *self.exits), self.exits, strict=False)
        self._stages: list[Any] = [_stage(parts, first, end) for first, end in borders]
        limits = getattr(config, "max_position_embeddings", None), sliding_window(model)
        self.limit: int | None = min((limit for limit in limits if limit), default=None)
        self._check(model)

    def embed(self, tokens: Sequence[int]) -> torch.Tensor:
        """Converts token ids to the first stage's input: int64 [1, N]."""
        return torch.tensor([list(tokens)], dtype=torch.long, device=self.device)

    def run(self, stage: int, given: torch.Tensor, cache: KVCache, start: int) -> torch.Tensor:
        """Runs a row's tokens through a stage, and writes the layers' states into the cache.

        Args:
            stage: number of the stage.
            given: int64 [1, N] ids for the first stage, hidden states [1, N, D] for the others.
            cache: the row's cache; the stage's layers have its first ``start`` tokens.
            start: the position of the first given token.

        Returns:
            Hidden states [1, N, D] after the stage's last layer.
        """
        count = given.shape[1]
        positions = torch.arange(start, start + count, device=self.device)[None]
        cache.place(positions, start + count)
        options: dict[str, Any] = {self._cache_argument: cache}
        options["inputs_embeds" if stage else "input_ids"] = given
        body = self._stages[stage]
        mask = layer_masks(body, cache, cache.mask())
        return body(
            position_ids=positions, attention_mask=mask, use_cache=True, **options
        ).last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Computes logits [..., V] of hidden states [..., D], at any exit."""
        return self._head(self._norm(hidden)).to(self.device)

    @torch.inference_mode()
    def _check(self, model: PreTrainedModel) -> None:
        """Checks that the stages' logits equal the model's, which may scale inputs or logits."""
        if self.exits[-1] != self.layers:
            return
        size = model.config.get_text_config().vocab_size
        tokens = torch.linspace(1, size - 1, _CHECKED).long().tolist()
        hidden, cache = self.embed(tokens), KVCache(self.layers, _CHECKED)
        for stage in range(len(self.exits)):
            hidden = self.run(stage, hidden, cache, 0)
        wanted = model(self.embed(tokens), use_cache=False).logits
        if not logits_agree(model, self.logits(hidden), wanted):
            raise _unsplittable(
                model,
                "its layers, run one by one, compute other logits than the model (it may scale "
                "embeddings or logits)",
            )


def _stage(parts: ModelParts, first: int, end: int) -> nn.Module:
    """Builds the body with layers first .. end - 1 and no norm; weights are shared."""
    stage = copy.copy(parts.body)
    stage._modules = dict(parts.body._modules)
    stage._modules["layers"] = nn.ModuleList(parts.layers[first:end])
    stage._modules["norm"] = nn.Identity()
    return stage


class DraftedToken(NamedTuple):
    """A drafted token.

    Attributes:
        token: the most likely token at its exit.
        probability: the token's probability at that exit.
        exit: the exit's number, from 0.
    """

    token: int
    probability: float
    exit: int


class NestedRow:
    """One row's tokens on a nested model.

    Args:
        nested: the model.
        thresholds: one per exit except the last; an exit is taken if its largest probability is
            above its threshold.

    Attributes:
        tokens: the row's tokens.
        filled: number of tokens in each stage's layers.
        ran: number of tokens that each stage has encoded, counting repeats after cuts; the drafter
            reads and clears it after each draft.
    """

    def __init__(self, nested: Nested, thresholds: Sequence[float]) -> None:
        if len(thresholds) != len(nested.exits) - 1:
            raise ValueError(f"{len(nested.exits)} exits need {len(nested.exits) - 1} thresholds")
        self.nested, self.thresholds = nested, tuple(thresholds)
        self.tokens: list[int] = []
        self.filled = [0] * len(nested.exits)
        self.ran = [0] * len(nested.exits)
        self.cache = KVCache(nested.layers, ROOM)
        # After each stage except the last, the hidden states [1, N, D] that the next stage lacks:
        # tokens filled[stage + 1] .. filled[stage] - 1.
        self._waiting: list[list[torch.Tensor]] = [[] for _ in nested.exits[:-1]]

    def extend(self, tokens: Sequence[int]) -> None:
        """Appends tokens without encoding them."""
        self.tokens += tokens

    def cut(self, length: int) -> None:
        """Cuts the row to its first ``length`` tokens."""
        del self.tokens[length:]
        for stage, waiting in enumerate(self._waiting):
            kept = min(self.filled[stage], length) - self.filled[stage + 1]
            if waiting:
                states = torch.cat(waiting, 1)[:, : max(kept, 0)]
                self._waiting[stage] = [states] if kept > 0 else []
        self.filled = [min(filled, length) for filled in self.filled]

    @torch.inference_mode()
    def next(self) -> DraftedToken:
        """Returns the next token from the first confident exit; does not extend the row.

        Raises:
            ValueError: if no token was added since the last call.
        """
        if self.filled[0] == len(self.tokens):
            raise ValueError("the last token is encoded already; add a token or cut the row first")
        self.cache.reserve(len(self.tokens))
        stage = 0
        while True:
            best = self._best(self._climb(stage))  # the token and its probability
            ((token, probability),) = download(best)
            if stage == len(self.thresholds) or probability > self.thresholds[stage]:
                return DraftedToken(int(token), probability, stage)
            stage += 1

    @torch.inference_mode()
    def ahead(self, count: int, last: int, given: torch.Tensor) -> torch.Tensor:
        """Drafts tokens that all exit at ``last``, without a copy to the host.

        The row is extended by all but the last token; pass these tokens to :meth:`tell` later.

        Args:
            count: number of tokens.
            last: the exit's number.
            given: the row's unencoded tokens, int64 [1, N] on the device.

        Returns:
            float64 [count, 2 + last]: each token, and the largest probability at each exit up to
            ``last``.
        """
        self.cache.reserve(len(self.tokens) + count - 1)
        passed: list[list[torch.Tensor]] = [[] for _ in range(last)]
        found = []
        for number in range(count):
            if number:
                self.extend([_UNKNOWN])
            for stage in range(last):
                passed[stage].append(self._climb(stage, given))
            found.append(self._best(self._climb(last, given)))
            given = found[-1][:, :1].long()
        # Per exit, the head's weights are read once for all tokens.
        sure = [self._best(torch.cat(hidden))[:, 1:] for hidden in passed]
        drafted = torch.cat(found)
        return torch.cat([drafted[:, :1], *sure, drafted[:, 1:]], 1)

    def tell(self, tokens: Sequence[int]) -> None:
        """Sets the row's last tokens, which :meth:`ahead` appended as unknown."""
        self.tokens[len(self.tokens) - len(tokens) :] = tokens

    def _best(self, hidden: torch.Tensor) -> torch.Tensor:
        """Returns the most likely token after each hidden state [N, D], and its probability:
        float64 [N, 2].
        """
        logits = self.nested.logits(hidden).float()
        values, ids = torch.softmax(logits, -1).max(-1)
        return torch.stack([ids.double(), values.double()], 1)

    def _climb(self, stage: int, given: torch.Tensor | None = None) -> torch.Tensor:
        """Runs waiting tokens through a stage; returns the last one's hidden state [1, D].

        Args:
            stage: number of the stage.
            given: the waiting tokens on the device for the first stage, int64 [1, N].
        """
        filled, end = self.filled[stage], len(self.tokens)
        if stage:
            given = torch.cat(self._waiting[stage - 1], 1)
            self._waiting[stage - 1] = []
        elif given is None:
            given = self.nested.embed(self.tokens[filled:])
        parts = [
            self.nested.run(stage, part, self.cache, filled + BLOCK * number)
            for number, part in enumerate(given.split(BLOCK, 1))
        ]
        self.filled[stage] = end
        self.ran[stage] += end - filled
        if stage < len(self._waiting):
            self._waiting[stage] += parts
        return parts[-1][:, -1]


@dataclass(slots=True)
class ExitCounts:
    """Counts of a drafter's tokens, by exit.

    Attributes:
        drafted: tokens drafted at the exit.
        reached: drafted tokens that the target verified, as all before them were accepted.
        accepted: drafted tokens that were accepted.
        encoded: tokens that the stage before the exit encoded, including prompts.
    """

    drafted: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    encoded: list[int] = field(default_factory=list)


class SortedDrafter(Drafter):
    """Drafter of chains from a nested model that has the target's tokenizer.

    Each row runs the draft model by itself, so a batch does not share its passes. Drafts do not
    exceed the draft model's maximum sequence length.

    Args:
        nested: the draft model.
        tokens: maximum tokens per draft.
        thresholds: see :class:`NestedRow`; or one for all exits. At 1 all tokens go to the last
            exit.
        least: a draft ends when the product of its probabilities falls to this value.
        tally: collects counts by exit, over any number of rows.
    """

    def __init__(
        self,
        nested: Nested,
        *,
        tokens: int = 5,
        thresholds: Sequence[float] = (DEFAULT_THRESHOLD,),
        least: float = 0.0,
        tally: ExitCounts | None = None,
    ) -> None:
        shallow = len(nested.exits) - 1
        if len(thresholds) not in (1, shallow):
            raise ValueError(f"{len(nested.exits)} exits need {shallow} thresholds, or one for all")
        self.nested, self.tokens, self.least = nested, tokens, least
        self.thresholds = tuple(thresholds) * shallow if len(thresholds) == 1 else tuple(thresholds)
        self.tally = tally or ExitCounts()
        for counts in (self.tally.drafted, self.tally.reached, self.tally.accepted,
                       self.tally.encoded):  # fmt: skip
            counts.extend([0] * (len(nested.exits) - len(counts)))
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Restarts with a prompt, which the first draft encodes."""
        self._row = list(prompt)
        self.ladder = NestedRow(self.nested, self.thresholds)
        self._steps: list[DraftedToken] = []  # tokens of the current draft
        self._exit = len(self.thresholds)  # exit of the next draft launched ahead
        self._length = self.tokens  # maximum length of that draft

    def draft(self, limit: int) -> Draft:
        """Drafts a chain; each token is the most likely one at the first confident exit."""
        most = self.most(limit)
        self.lacking()
        steps: list[DraftedToken] = []
        together = 1.0
        while len(steps) < most:
            if steps:
                self.ladder.extend([steps[-1].token])
            steps.append(self.ladder.next())
            together *= steps[-1].probability
            if together <= self.least:
                break
        return self._drafted(steps)

    def most(self, limit: int) -> int:
        """Returns the maximum length of the next draft."""
        most = min(limit, self.tokens) if self._row else 0
        if self.nested.limit is not None:
            most = min(most, self.nested.limit - len(self._row) + 1)
        return most

    def lacking(self) -> list[int]:
        """Returns the row's last tokens that are not yet encoded; cuts off rejected ones."""
        ladder = self.ladder
        ladder.cut(min(common_prefix(ladder.tokens, self._row), max(len(self._row) - 1, 0)))
        ladder.extend(self._row[len(ladder.tokens) :])
        return self._row[ladder.filled[0] :]

    def ahead(self, limit: int, given: torch.Tensor) -> torch.Tensor:
        """Starts a draft on the device until :meth:`read_ahead`; see :meth:`NestedRow.ahead`.

        Args:
            limit: maximum tokens, at least 1.
            given: the tokens :meth:`lacking`, int64 [1, N] on the device.
        """
        return self.ladder.ahead(min(limit, self._length), self._exit, given)

    def read_ahead(self, found: Sequence[Sequence[float]]) -> Draft:
        """Reads the result of :meth:`ahead`; decides depth and length of the next such draft.

        The depth is the ladder's choice for most tokens, or the exit after this draft's if no exit
        was confident. The length is at most one more than the number of tokens up to which this
        draft's product of probabilities is above ``least``.
        """
        steps = [DraftedToken(int(token), sure[-1], self._exit) for token, *sure in found]
        self.ladder.tell([step.token for step in steps[:-1]])
        draft = self._drafted(steps)
        exits = sorted(self._wanted(sure) for _, *sure in found)
        self._exit = min(exits[len(exits) // 2], len(self.thresholds))
        likely = sum(together > self.least for together in draft.probabilities)
        self._length = min(1 + likely, self.tokens)
        return draft

    def _wanted(self, sure: Sequence[float]) -> int:
        """Returns the first exit whose probability is above its threshold, or the next exit."""
        pairs = enumerate(zip(sure, self.thresholds, strict=False))
        return next((exit_ for exit_, (p, least) in pairs if p > least), len(sure))

    def _drafted(self, steps: list[DraftedToken]) -> Draft:
        """Builds a draft and counts its tokens."""
        self._steps = steps
        for step in steps:
            self.tally.drafted[step.exit] += 1
        for stage, ran in enumerate(self.ladder.ran):
            self.tally.encoded[stage] += ran
        self.ladder.ran = [0] * len(self.ladder.ran)
        probabilities = list(accumulate((step.probability for step in steps), operator.mul))
        return Draft.chain([step.token for step in steps], probabilities)

    def accept(self, tokens: Sequence[int]) -> None:
        """Appends tokens; the next draft first cuts off the rejected tokens."""
        for step, token in zip(self._steps, tokens, strict=False):
            self.tally.reached[step.exit] += 1
            if step.token != token:
                break
            self.tally.accepted[step.exit] += 1
        self._steps = []
        self._row += tokens


class SortedSpeculation(Speculation):
    """Speculative decoding with one :class:`SortedDrafter` per row.

    Args:
        drafters: one per row, in order.
        limit: maximum tokens per draft.
        ahead: True launches a whole draft and reads it with the round's result, so that a round
            copies once in each direction; None: on devices other than the CPU.
    """

    drafters: Sequence[SortedDrafter]  # pyrefly: ignore[bad-override-mutable-attribute]

    def __init__(
        self, drafters: Sequence[SortedDrafter], limit: int = 16, ahead: bool | None = None
    ) -> None:
        super().__init__(drafters, limit=limit)
        self._wanted = ahead
        self._ahead: torch.Tensor | None = None  # this round's drafts, by node, [B, W, ...]
        self._sizes: list[tuple[int, ...]] = []  # shape of each draft, (tokens, columns)

    def propose(self, batch: Batch) -> Trees:
        """Drafts with the nested models; see :class:`Strategy`."""
        self._ahead = None
        if batch.known is not None or not (
            batch.device.type != "cpu" if self._wanted is None else self._wanted
        ):
            return super().propose(batch)
        assert isinstance(batch.sequences, CachedRows)
        left = batch.left()
        ours = [self.drafters[number] for number in batch.numbers]
        counts = [
            drafter.most(min(self.limit, left.get(number, 0) - 1))
            for number, drafter in zip(batch.numbers, ours, strict=True)
        ]
        given = [
            drafter.lacking() if count > 0 else [pending]
            for drafter, count, pending in zip(ours, counts, batch.pending, strict=True)
        ]
        most = max(map(len, given))
        trees = batch.trees(torch.tensor([[0] * (most - len(row)) + row for row in given]))
        batch.sequences.make_room(padded_width(1 + max(0, *counts), batch.device))
        trees.cursors = torch.tensor(batch.sequences.cursors)
        trees.upload(batch.device)  # the only transfer to the device
        drafts = [
            drafter.ahead(count, row[None, most - len(lacking) :]) if count > 0 else None
            for drafter, count, row, lacking in zip(ours, counts, trees.tokens, given, strict=True)
        ]
        longest = max((len(draft) for draft in drafts if draft is not None), default=0)
        width = padded_width(1 + longest, batch.device)
        self._ahead = trees.tokens.new_zeros(
            len(ours), width, 1 + len(self.drafters[0].nested.exits), dtype=torch.float64
        )
        for row, draft in zip(self._ahead, drafts, strict=True):
            if draft is not None:
                row[1 : 1 + len(draft), : draft.shape[1]] = draft
        self._sizes = [(0, 0) if draft is None else draft.shape for draft in drafts]
        drafted = self._ahead[:, 1:, 0].long()
        return replace(trees, tokens=torch.cat([trees.tokens[:, -1:], drafted], 1))

    def verify(self, batch: Batch, trees: Trees, logits: torch.Tensor) -> list[Walk]:
        """Verifies the drafts; see :class:`Strategy`."""
        if self._ahead is None:
            return super().verify(batch, trees, logits)
        chosen = batch.choose(logits, trees.places)  # [B, W]
        found = download(torch.cat([chosen[..., None].double(), self._ahead], -1))
        walks = []
        self.drafts = []
        for number, nodes, (count, columns) in zip(batch.numbers, found, self._sizes, strict=True):
            drafted = [node[1 : 1 + columns] for node in nodes[1 : 1 + count]]
            draft = self.drafters[number].read_ahead(drafted) if count else Draft()
            tokens = [int(node[0]) for node in nodes]
            self.drafts.append(draft)
            walks.append(walk(children_of(draft), tokens.__getitem__))
        return walks
