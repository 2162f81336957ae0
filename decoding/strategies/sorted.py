"""Sorted drafts (S2D): a nested draft model whose first layers are drafts of their own.

Source: Kavehzadeh et al., *S2D: Sorted Speculative Decoding for More Efficient Deployment of Nested
Large Language Models* (arXiv 2407.01955). Sorted fine-tuning (``codegen.finetune``, ``loss:
sorted``) teaches the sub-models of a few depths to share one norm and one head.

:class:`Nested` splits such a model into stages of a few layers, with an exit after each. The
sub-model of depth d is the embedding, the first d layers, and the model's own final norm and head
(section 3). A stage is the model's own body with some of its layers and no norm, so everything
that the architecture does around its layers still happens.

:class:`Ladder` drafts each token at the first exit that is sure of it. In the deeper layers such a
token has no states yet; its hidden state waits there. When a later token goes deeper, all waiting
states go with it, in order and at their own positions. So every layer's states are those of the
full model, whatever exits were taken (section 3.3), and deeper layers hold shorter prefixes.

:class:`SortedDrafter` drafts with the ladder for the decoding loop, one row each.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel

from codegen.decoding.cache import KVCache
from codegen.decoding.device import download
from codegen.decoding.drafts.protocol import Context, Draft, Drafter, common_prefix
from codegen.decoding.passes import (
    cache_argument,
    check_architecture,
    check_attention_only,
    layer_masks,
    logits_agree,
)
from codegen.errors import ModelError

_CHECKED = 5  # tokens
_BLOCK = 1024  # tokens of one pass through a stage
_ROOM = 256  # slots to begin with
DEFAULT_THRESHOLD = 0.5  # the published script's, of all exits but the last


class Parts(NamedTuple):
    """The parts of a model that sub-models are made of.

    Attributes:
        body: the model without its head.
        layers: the body's layers.
        norm: applied after the last layer.
        head: from hidden states [..., D] to logits [..., V].
    """

    body: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    head: nn.Module


def parts_of(model: PreTrainedModel) -> Parts:
    """The parts of a model built like Llama.

    Raises:
        ModelError: for other architectures.
    """
    body: Any = model.base_model
    layers, norm = getattr(body, "layers", None), getattr(body, "norm", None)
    head: Any = model.get_output_embeddings()
    if not isinstance(layers, nn.ModuleList) or norm is None or head is None:
        raise ModelError(
            f"{type(model).__name__} can't be split into sub-models: unlike Llama, it is not "
            "made of layers, one norm and a head.",
            "Use a model of the Llama, Mistral or Qwen family.",
        )
    return Parts(body, layers, norm, head)


def default_exits(model: PreTrainedModel) -> tuple[int, ...]:
    """The exit depths that a model was trained for; else only its full depth."""
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
        limit: most tokens of a sequence; None for any number.

    Raises:
        ModelError: for exits that the model does not have, and if its stages one after another
            compute other logits than the model (checked on a few tokens).
    """

    def __init__(self, model: PreTrainedModel, exits: Sequence[int] | None = None) -> None:
        check_architecture(model)
        check_attention_only(model, "exits after a part of the layers")
        config = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        if len(kinds) > 1:
            raise ModelError(
                f"{type(model).__name__} can't be split into sub-models: it has several kinds of "
                f"layers ({', '.join(sorted(kinds))})."
            )
        parts = parts_of(model)
        depth = len(parts.layers)
        self.exits = tuple(exits or default_exits(model))
        if list(self.exits) != sorted(set(self.exits)) or not 0 < self.exits[0] <= depth or (
            self.exits[-1] > depth):  # fmt: skip
            raise ModelError(
                f"The draft has {depth} layers; it can't exit after {list(self.exits)}.",
                "Give ascending depths within them.",
            )
        self.layers, self.device = depth, model.device
        self._norm, self._head = parts.norm, parts.head
        self._cache_argument = cache_argument(type(parts.body))
        borders = zip((0, *self.exits), self.exits, strict=False)
        self._stages: list[Any] = [_stage(parts, first, end) for first, end in borders]
        limits = [getattr(config, "max_position_embeddings", None)]
        if getattr(config, "use_sliding_window", True):
            limits.append(getattr(config, "sliding_window", None))
        self.limit: int | None = min((limit for limit in limits if limit), default=None)
        self._check(model)

    def embed(self, tokens: Sequence[int]) -> torch.Tensor:
        """Token ids as input of the first stage: int64 [1, N]."""
        return torch.tensor([list(tokens)], dtype=torch.long, device=self.device)

    def run(self, stage: int, given: torch.Tensor, cache: KVCache, start: int) -> torch.Tensor:
        """Runs a row's tokens through a stage, and writes the layers' states into the cache.

        Args:
            stage: its number.
            given: int64 [1, N] ids for the first stage, hidden states [1, N, D] for the others.
            cache: the row's cache; the stage's layers hold its first ``start`` tokens.
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
        """Logits [..., V] of hidden states [..., D], at any exit."""
        return self._head(self._norm(hidden))

    @torch.inference_mode()
    def _check(self, model: PreTrainedModel) -> None:
        """Compares the stages' logits with the model's: scaling of either would be lost."""
        if self.exits[-1] != self.layers:
            return
        size = model.config.get_text_config().vocab_size
        tokens = torch.linspace(1, size - 1, _CHECKED).long().tolist()
        hidden, cache = self.embed(tokens), KVCache(self.layers, _CHECKED)
        for stage in range(len(self.exits)):
            hidden = self.run(stage, hidden, cache, 0)
        wanted = model(self.embed(tokens), use_cache=False).logits
        if not logits_agree(model, self.logits(hidden), wanted):
            raise ModelError(
                f"{type(model).__name__} can't be split into sub-models: its layers one after "
                "another give other logits than the model (scaled embeddings or logits?)."
            )


def _stage(parts: Parts, first: int, end: int) -> nn.Module:
    """The body with layers first .. end - 1 and no norm; weights are shared."""
    stage = copy.copy(parts.body)
    stage._modules = dict(parts.body._modules)
    stage._modules["layers"] = nn.ModuleList(parts.layers[first:end])
    stage._modules["norm"] = nn.Identity()
    return stage


class Step(NamedTuple):
    """A drafted token.

    Attributes:
        token: the most probable one at its exit.
        probability: the token's probability at that exit.
        exit: the exit's number, from 0.
    """

    token: int
    probability: float
    exit: int


class Ladder:
    """One row's tokens on a nested model.

    Args:
        nested: the model.
        thresholds: one per exit except the last; an exit is taken if its largest probability is
            above its threshold.

    Attributes:
        tokens: the row's tokens.
        filled: per stage, how many tokens its layers hold.
        ran: per stage, how many tokens it has encoded, counting repeats after cuts.
    """

    def __init__(self, nested: Nested, thresholds: Sequence[float]) -> None:
        if len(thresholds) != len(nested.exits) - 1:
            raise ValueError(f"{len(nested.exits)} exits have {len(nested.exits) - 1} thresholds")
        self.nested, self.thresholds = nested, tuple(thresholds)
        self.tokens: list[int] = []
        self.filled = [0] * len(nested.exits)
        self.ran = [0] * len(nested.exits)
        self.cache = KVCache(nested.layers, _ROOM)
        # After each stage except the last, the hidden states [1, N, D] that the next stage lacks:
        # tokens filled[stage + 1] .. filled[stage] - 1.
        self._waiting: list[list[torch.Tensor]] = [[] for _ in nested.exits[:-1]]
        # The token that was drafted last, which the device has already: ids, int64 [1, 1].
        self._drafted: tuple[list[int], torch.Tensor] = ([], torch.empty(1, 0))

    def extend(self, tokens: Sequence[int]) -> None:
        """Appends tokens; nothing is computed yet."""
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
    def next(self) -> Step:
        """The next token by the first exit that is sure; the row is not extended.

        Raises:
            ValueError: if no token was added since the last call.
        """
        if self.filled[0] == len(self.tokens):
            raise ValueError("the last token is encoded already: add one, or cut it off first")
        self.cache.reserve(len(self.tokens))
        stage = 0
        while True:
            logits = self.nested.logits(self._climb(stage)).float()
            values, ids = torch.softmax(logits, -1).max(-1, keepdim=True)
            ((probability, token),) = download(torch.stack([values.double(), ids.double()], 1))
            if stage == len(self.thresholds) or probability > self.thresholds[stage]:
                self._drafted = [int(token)], ids[None]
                return Step(int(token), probability, stage)
            stage += 1

    def _climb(self, stage: int) -> torch.Tensor:
        """Runs waiting tokens through a stage; returns the last one's hidden state [D]."""
        filled, end = self.filled[stage], len(self.tokens)
        if stage:
            given = torch.cat(self._waiting[stage - 1], 1)
            self._waiting[stage - 1] = []
        else:
            tokens, (drafted, ids) = self.tokens[filled:], self._drafted
            given = ids if tokens == drafted else self.nested.embed(tokens)
        parts = [
            self.nested.run(stage, part, self.cache, filled + _BLOCK * number)
            for number, part in enumerate(given.split(_BLOCK, 1))
        ]
        self.filled[stage] = end
        self.ran[stage] += end - filled
        if stage < len(self._waiting):
            self._waiting[stage] += parts
        return parts[-1][0, -1]


@dataclass(slots=True)
class Tally:
    """Counts of a drafter's tokens, by exit.

    Attributes:
        drafted: tokens drafted at the exit.
        reached: those of them that the target verified, as all before them were accepted.
        accepted: those of them that were accepted.
        encoded: tokens that the stage before the exit encoded, including prompts.
    """

    drafted: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    accepted: list[int] = field(default_factory=list)
    encoded: list[int] = field(default_factory=list)


class SortedDrafter(Drafter):
    """Drafts chains with a nested model that has the target's tokenizer.

    Each row runs the draft model by itself, so a batch does not share its passes. Nothing is
    drafted beyond the draft model's longest sequence.

    Args:
        nested: the draft model.
        tokens: most tokens of a draft.
        thresholds: see :class:`Ladder`; or one for all exits. At 1 all tokens go to the last exit.
        least: a draft ends when the product of its probabilities falls to this.
        tally: collects counts by exit, over any number of rows.
    """

    def __init__(
        self,
        nested: Nested,
        *,
        tokens: int = 5,
        thresholds: Sequence[float] = (DEFAULT_THRESHOLD,),
        least: float = 0.0,
        tally: Tally | None = None,
    ) -> None:
        shallow = len(nested.exits) - 1
        if len(thresholds) not in (1, shallow):
            raise ValueError(f"{len(nested.exits)} exits need {shallow} thresholds, or one for all")
        self.nested, self.tokens, self.least = nested, tokens, least
        self.thresholds = tuple(thresholds) * shallow if len(thresholds) == 1 else tuple(thresholds)
        self.tally = tally or Tally()
        for counts in (self.tally.drafted, self.tally.reached, self.tally.accepted,
                       self.tally.encoded):  # fmt: skip
            counts.extend([0] * (len(nested.exits) - len(counts)))
        self.begin((), Context())

    def begin(self, prompt: Sequence[int], context: Context) -> None:
        """Starts again; the prompt is encoded by the first draft."""
        self._row = list(prompt)
        self._ladder = Ladder(self.nested, self.thresholds)
        self._draft: list[tuple[int, int]] = []  # tokens with their exits

    def draft(self, limit: int) -> Draft:
        """A chain; each token is the most probable one at the first exit that is sure of it."""
        self._draft = []
        if not self._row:
            return Draft()
        ladder = self._ladder
        ladder.cut(min(common_prefix(ladder.tokens, self._row), len(self._row) - 1))
        ladder.extend(self._row[len(ladder.tokens) :])
        most = min(limit, self.tokens)
        if self.nested.limit is not None:
            most = min(most, self.nested.limit - len(self._row) + 1)
        tokens: list[int] = []
        probabilities: list[float] = []
        together = 1.0
        before = list(ladder.ran)
        while len(tokens) < most:
            if tokens:
                ladder.extend(tokens[-1:])
            step = ladder.next()
            together *= step.probability
            tokens.append(step.token)
            probabilities.append(together)
            self._draft.append((step.token, step.exit))
            self.tally.drafted[step.exit] += 1
            if together <= self.least:
                break
        for stage, (now, then) in enumerate(zip(ladder.ran, before, strict=True)):
            self.tally.encoded[stage] += now - then
        return Draft.chain(tokens, probabilities)

    def accept(self, tokens: Sequence[int]) -> None:
        """Appends tokens; the next draft first cuts off what was not accepted."""
        for (drafted, exit_), token in zip(self._draft, tokens, strict=False):
            self.tally.reached[exit_] += 1
            if drafted != token:
                break
            self.tally.accepted[exit_] += 1
        self._draft = []
        self._row += tokens
