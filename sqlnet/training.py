"""Training of the sketch network on questions with queries, and of the plan network on plans.

Both use one thread, AdamW with clipped gradients, and a running mean of the weights, which is
saved; a killed run resumes with the same weights (:mod:`codegen.sqlnet.storage`).

The sketch (:func:`train`): warm-up and cosine decay; each epoch ends with a score on development
questions; training ends early after ``patience`` epochs without a better query match. For the
paper's layout the best epoch is chosen separately for each module, as in the released code
(:data:`BLOCKS`).

Plans (:func:`train_plans`): the loss is a sum of cross-entropies over slots: a set (columns of
SELECT) is compared with the uniform distribution over its members, times their number; a class as
usual; the tables that take part by a sigmoid each. Slots that a plan lacks (an operator without a
test) do not count. An interrupted run may resume with another number of steps.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codegen.core.errors import ConfigError, InputError
from codegen.core.runs import OnProgress
from codegen.sqlnet import plan_network
from codegen.sqlnet.examples import LabeledQuestion, predict, score, targets_of
from codegen.sqlnet.features import collate
from codegen.sqlnet.joins import PlanError
from codegen.sqlnet.layout import losses
from codegen.sqlnet.network import NetworkConfig, SketchNetwork, WordVectors
from codegen.sqlnet.plan import COUNT, ColumnRef, PlanCondition, PlanValue, QueryPlan, the_tree
from codegen.sqlnet.plan_data import PlannedQuestion, find_database
from codegen.sqlnet.plan_features import LinkedSchema, PlanQuestion, WordSimilarity, read_question
from codegen.sqlnet.storage import TrainingProgress, TrainingState, batches, check_range
from codegen.sqlnet.words import number_of, tokenize

# Metric -> regular expression of the weights whose best epoch it selects.
BLOCKS: Mapping[str, Mapping[str, str]] = {
    "shared": {"query_match": ""},
    "paper": {
        "aggregate": "aggregate",
        "select": "select",
        "where": "number|where|operator|value|decoder",
    },
}
WORDS = {"shared": "encoder.word.weight", "paper": "word.weight"}  # word vectors


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Settings of a sketch network's training.

    Attributes:
        network: network settings.
        epochs: maximum passes over the questions.
        batch_size: questions per step.
        learning_rate: peak learning rate.
        alpha: weight of the columns that are in a condition (3 in the paper).
        clip: maximum gradient norm.
        frozen_epochs: initial epochs that do not train word vectors; the paper trains them in a
            second stage.
        mean: decay of the running mean of the weights, in [0, 1).
        patience: epochs without a better query match after which training ends.
    """

    network: NetworkConfig = NetworkConfig()
    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 2e-3
    alpha: float = 3.0
    clip: float = 5.0
    frozen_epochs: int = 0
    mean: float = 0.999
    patience: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        above_zero = ("epochs", "batch_size", "learning_rate", "alpha", "clip", "patience")
        check_range(self, *above_zero, below_one="mean")
        if self.frozen_epochs < 0:
            raise ConfigError(f"frozen_epochs is {self.frozen_epochs}; it must not be below 0.")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of ``metrics.jsonl``: mean losses by slot, and scores on the development set."""

    epoch: int
    losses: Mapping[str, float]
    scores: Mapping[str, float]
    cpu_s: float


def train(
    config: TrainingConfig,
    vectors: WordVectors,
    questions: Sequence[LabeledQuestion],
    development: Sequence[LabeledQuestion],
    out: str | Path,
    *,
    info: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    on_step: OnProgress | None = None,
) -> SketchNetwork:
    """Trains a network and saves it in ``out``, or resumes an interrupted run.

    Args:
        development: questions for choosing the epoch.
        out: directory for the network (:mod:`codegen.sqlnet.network`), ``metrics.jsonl``, and
            ``state/`` until the run ends.
        info: information to save with the network, such as the data source.
        on_step: called after each step with the steps done and the total.

    Raises:
        InputError: if there are fewer questions than a batch, or none to validate on.
        ResumeError: if ``out`` has a run with another configuration or other questions.
    """
    if len(questions) < config.batch_size or not development:
        raise InputError(
            f"{len(questions)} questions to train on and {len(development)} to validate on are too"
            " few.",
            f"Pass at least {config.batch_size} and 1.",
        )
    layout = config.network.layout
    torch.manual_seed(config.seed)
    network = SketchNetwork.build(config.network, vectors)
    identity = {"config": asdict(config), "questions": len(questions), "words": len(vectors.words)}
    state = TrainingState(network.model, Path(out), identity, config, weight_decay=1e-4)
    best = dict.fromkeys(BLOCKS[layout], (-1.0, state.mean))  # the best weights of each block
    epochs: list[dict[str, Any]] = []
    stale = 0
    if found := state.resume(_Progress):
        progress, held = found
        stale, epochs = progress["stale"], progress["epochs"]
        for block, reached in progress["best"].items():
            start = f"best/{block}/"
            best[block] = (
                reached,
                {name.removeprefix(start): v for name, v in held.items() if name.startswith(start)},
            )
    steps = config.epochs * (len(questions) // config.batch_size)

    def losses_of(items: list[LabeledQuestion]) -> dict[str, Tensor]:
        batch = collate([item.question.features for item in items], network.vocabulary)
        targets = targets_of(items)
        states = network.model.encode(batch, targets)
        return losses(network.model, states, targets, batch.column_mask, config.alpha)

    while len(epochs) < config.epochs and stale < config.patience:
        number = len(epochs)
        rng = random.Random(f"{config.seed}:{number}")
        # Dropout depends only on the epoch, so resumed runs give the same weights.
        torch.manual_seed(config.seed * 100_003 + number)
        means, cpu_s = state.train(
            batches(questions, config.batch_size, 50, _padding_key, rng),
            losses_of,
            lambda step: _learning_rate_factor(step / steps),
            frozen=WORDS[layout] if number < config.frozen_epochs else "",
            on_step=(lambda: on_step(state.step, steps)) if on_step else None,
        )
        scores = _scores(network, state, development)
        better = [block for block, (reached, _) in best.items() if scores[block] > reached]
        for block in better:
            best[block] = scores[block], {k: v.clone() for k, v in state.mean.items()}
        stale = 0 if better else stale + 1
        epoch = Epoch(number + 1, means, scores, cpu_s)
        epochs.append(asdict(epoch))
        reached_by = {block: reached for block, (reached, _) in best.items()}
        kept = {f"best/{b}/{k}": v for b, (_, held) in best.items() for k, v in held.items()}
        row = {"stale": stale, "best": reached_by, "epochs": epochs}
        state.save(f"epoch-{epoch.epoch}.safetensors", epochs, row, kept)
        if on_epoch:
            on_epoch(epoch)
    chosen = dict(state.mean)
    for block, (_, weights) in best.items():
        pattern = re.compile(BLOCKS[layout][block])
        chosen.update({k: v for k, v in weights.items() if pattern.search(k)})
    info = {
        "training": asdict(config),
        "best": {b: r for b, (r, _) in best.items()},
        **(info or {}),
    }
    return _finished(network, state, chosen, info)


class _Progress(TrainingProgress):
    stale: int
    best: dict[str, float]
    epochs: list[dict[str, Any]]


def _scores(
    network: SketchNetwork, state: TrainingState, development: Sequence[LabeledQuestion]
) -> dict[str, float]:
    """Scores the mean weights."""
    own = state.put(state.mean)
    network.model.eval()
    scores = score(predict(network, development, greedy=True), development).to_row()
    state.put(own)
    return {name: float(value) for name, value in scores.items() if value is not None}


Trained = TypeVar("Trained", SketchNetwork, plan_network.PlanNetwork)


def _finished(
    network: Trained, state: TrainingState, weights: Mapping[str, Tensor], info: Mapping[str, Any]
) -> Trained:
    """Saves the network with these weights, and removes the run's state."""
    state.put(weights)
    network.model.eval()
    network = replace(network, info={**network.info, **info})
    network.save(state.out)
    state.clear()
    return network


def _learning_rate_factor(done: float) -> float:
    """Returns the learning-rate factor: a cosine up for a tenth of the run, then down to 0."""
    warm = 0.1
    phase = 1 - (done + 0.01) / (warm + 0.01) if done < warm else (done - warm) / (1 - warm)
    return (1 + math.cos(math.pi * phase)) / 2


def _padding_key(question: LabeledQuestion) -> tuple[int, int]:
    """Returns the sort key: questions of similar size need little padding."""
    return len(question.question.table.columns) // 2, len(question.question.tokens)


_SETS = ("select", "where", "group", "order", "second_where", "scalar")
_MOST = (plan_network.MOST_SELECTED, plan_network.MOST_TESTS, plan_network.MOST_GROUPS)
_EQUALS_EITHER = plan_network.OPERATOR_CLASSES.index("= either")
_EVERY_TABLE = 0.3  # weight of the binary losses relative to the others


@dataclass(frozen=True, slots=True)
class PlanTargets:
    """The targets for one question; numbers are indices of its items and mentions.

    Attributes:
        sets: slot -> (item, class) of its members.
        whole: class of each of ``WHOLE_HEADS``.
        pointers: (item, class or mention) by head: ``operator``, ``value``, ...
        limit: mention index, or -1.
        takes_part, second_takes_part, key: item indices.
    """

    sets: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    whole: dict[str, int] = field(default_factory=dict)
    pointers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    limit: int = -1
    takes_part: tuple[int, ...] = ()
    second_takes_part: tuple[int, ...] = ()
    key: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanExample:
    """A question with its plan."""

    question: PlanQuestion
    plan: QueryPlan
    targets: PlanTargets


def plan_targets(question: PlanQuestion, plan: QueryPlan) -> PlanTargets | None:
    """Builds the targets of a plan; None if the network lacks slots for it."""
    places = {question.item(place): place for place in range(len(question.items))}
    try:
        tree = the_tree(question.schema.graph, plan.required(), plan.keys)
        return _Targets(question, places).of(plan, sorted(tree.tables))
    except (PlanError, KeyError):
        return None


class _Targets:
    def __init__(self, question: PlanQuestion, places: dict[ColumnRef, int]) -> None:
        self.question, self.places = question, places
        self.sets: dict[str, list[tuple[int, int]]] = {name: [] for name in _SETS}
        self.pointers: dict[str, list[tuple[int, int]]] = {}

    def of(self, plan: QueryPlan, tables: Sequence[int]) -> PlanTargets | None:
        parts = (plan.select, plan.where, plan.group)
        if any(len(part) > most for part, most in zip(parts, _MOST, strict=True)):
            return None
        if plan.order is None and plan.limit is not None:
            return None
        if len({(t.item, t.aggregate) for t in plan.where}) < len(plan.where):
            return None
        for selected in plan.select:
            distinct = selected.distinct and selected.aggregate == COUNT
            kind = plan_network.ITEM_HEADS["select"] - 1 if distinct else selected.aggregate
            self.sets["select"].append((self.places[selected.item], kind))
        for test in plan.where:
            self.sets["where"].append((self.places[test.item], test.aggregate))
            if not self._test(test, "operator", "value", "other_value"):
                return None
        self.sets["group"] = [(self.places[item], 0) for item in plan.group]
        ordering, limit = 0, -1
        if plan.order:
            self.sets["order"] = [(self.places[plan.order.item], plan.order.aggregate)]
            ordering = 1 + plan.order.descending
            if plan.limit is not None:
                ordering += 2 if plan.limit == 1 else 4
                if plan.limit > 1:
                    limit = self._mention(PlanValue(str(plan.limit)), plan.order.item)
        whole = {
            "selected": len(plan.select) - 1,
            "tests": len(plan.where),
            "groups": len(plan.group),
            "ordering": ordering,
            "distinct": int(plan.distinct),
            "any_of": int(plan.any_of) if len(plan.where) > 1 else -1,
            "companion": 0,
            "second_tests": -1,
            "scalar_aggregate": -1,
        }
        second = self._companion(plan, whole)
        if second is None:
            return None
        return PlanTargets(
            self.sets,
            whole,
            self.pointers,
            limit,
            tuple(self.places[ColumnRef(t)] for t in tables),
            second,
            tuple(self.places[item] for item in plan.keys if item in self.places),
        )

    def _companion(self, plan: QueryPlan, whole: dict[str, int]) -> tuple[int, ...] | None:
        companion = plan.companion
        if companion is None:
            return ()
        if len(companion.where) > plan_network.MOST_SECOND:
            return None
        whole["companion"] = plan_network.COMPANIONS.index(companion.kind)
        whole["second_tests"] = len(companion.where)
        for test in companion.where:
            if test.aggregate:
                return None
            self.sets["second_where"].append((self.places[test.item], 0))
            heads = ("second_operator", "second_value", "second_other_value")
            if not self._test(test, *heads):
                return None
        if companion.item is not None:
            place = self.places[companion.item]
            self.sets["scalar"] = [(place, 0)]
            operator = plan_network.OPERATOR_CLASSES.index(companion.operator)
            self.pointers.setdefault("second_operator", []).append((place, operator))
            whole["scalar_aggregate"] = companion.aggregate
        tables = {*companion.tables, *(test.item.table for test in companion.where)}
        return tuple(self.places[ColumnRef(t)] for t in sorted(tables))

    def _test(self, test: PlanCondition, operator: str, value: str, other: str) -> bool:
        place = self.places[test.item]
        kind = plan_network.OPERATOR_CLASSES.index(test.operator)
        if len(test.values) == 2 and test.operator == "=":
            kind = _EQUALS_EITHER
        elif len(test.values) > (2 if test.operator == "between" else 1):
            return False
        self.pointers.setdefault(operator, []).append((place, kind))
        for head, wanted in zip((value, other), test.values, strict=False):
            if (mention := self._mention(wanted, test.item)) >= 0:
                self.pointers.setdefault(head, []).append((place, mention))
        return True

    def _mention(self, value: PlanValue, item: ColumnRef) -> int:
        """Returns the index of the mention that matches a value, or -1."""
        text, number = value.text.strip().casefold(), number_of(value.text)
        best, found = 0, -1
        for place, mention in enumerate(self.question.found):
            cell = mention.cells.get(item)
            score = 0
            if cell is not None and cell.casefold() == text:
                score = 3
            elif mention.text.casefold() == text or (
                value.start and (mention.start, mention.end) == (value.start, value.end)
            ):
                score = 2
            elif number is not None and mention.number == number:
                score = 1
            if score > best:
                best, found = score, place
        return found


def plan_examples(
    planned: Iterable[PlannedQuestion],
    folders: Sequence[str | Path],
    likeness: WordSimilarity,
    on_question: Callable[[int], None] | None = None,
) -> tuple[list[PlanExample], int]:
    """Returns questions linked to databases, with targets, and the number without targets.

    Raises:
        InputError: if a database is in none of the folders.
    """
    found: list[PlanExample] = []
    left, held = 0, ""
    schema: LinkedSchema | None = None
    for number, one in enumerate(sorted(planned, key=lambda one: one.db_id)):
        if schema is None or one.db_id != held:
            database = find_database(folders, one.db_id)
            if database is None:
                raise InputError(
                    f"No {one.db_id}.sqlite in {', '.join(map(str, folders))}.",
                    "Pass the folder that contains it.",
                )
            schema, held = LinkedSchema(database.tables, database), one.db_id
            database.close()
        question = read_question(one.question, schema, likeness)
        targets = plan_targets(question, one.plan) if question.words else None
        if targets is None:
            left += 1
        else:
            found.append(PlanExample(question, one.plan, targets))
        if on_question:
            on_question(number + 1)
    return found, left


def new_network(
    config: plan_network.PlanConfig,
    vectors: WordVectors,
    planned: Iterable[PlannedQuestion],
    seed: int,
) -> plan_network.PlanNetwork:
    """Creates a network with random weights; words in two or more questions get an offset."""
    counts = Counter(
        word for one in planned for word in {t.text.lower() for t in tokenize(one.question)}
    )
    order = sorted(range(len(vectors.words)), key=lambda row: counts[vectors.words[row]] < 2)
    words = [vectors.words[row] for row in order]
    trained = sum(counts[word] >= 2 for word in words)
    torch.manual_seed(seed)
    matrix = np.ascontiguousarray(vectors.matrix[order], dtype=np.float32)
    return plan_network.PlanNetwork.build(config, words, matrix, trained)


def plan_losses(
    scores: dict[str, Tensor],
    batch: plan_network.PlanBatch,
    targets: Sequence[PlanTargets],
    tables: list[int],
) -> dict[str, Tensor]:
    """Computes each slot's loss, summed over its members and averaged over the questions.

    Args:
        tables: number of tables per question.
    """
    size, wide = len(targets), batch.tables.shape[1]

    def place(b: int, item: int) -> int:
        """Returns an item's position in the padded batch."""
        return item if item < tables[b] else item - tables[b] + wide

    found: dict[str, Tensor] = {}

    def add_class(name: str, classes: Sequence[int]) -> None:
        wanted = torch.tensor(classes)
        if (wanted >= 0).any():
            total = functional.cross_entropy(scores[name], wanted, ignore_index=-1, reduction="sum")
            found[name] = total / size

    for name in _SETS:
        members = [
            (b, place(b, item) * scores[name].shape[-1] + kind)
            for b, target in enumerate(targets)
            for item, kind in target.sets[name]
        ]
        if members:
            rows, columns = map(torch.tensor, zip(*members, strict=True))
            chances = scores[name].flatten(1).log_softmax(-1)
            found[name] = -chances[rows, columns].sum() / size
    for name in targets[0].whole:
        add_class(name, [target.whole[name] for target in targets])
    heads = {name for target in targets for name in target.pointers}
    for name in sorted(heads):
        members = [
            (b, place(b, item), kind)
            for b, target in enumerate(targets)
            for item, kind in target.pointers.get(name, ())
        ]
        rows, items, kinds = map(torch.tensor, zip(*members, strict=True))
        total = functional.cross_entropy(scores[name][rows, items], kinds, reduction="sum")
        found[name] = total / size
    add_class("limit", [target.limit for target in targets])
    start = batch.mask.shape[1] - scores["key"].shape[1]
    there = batch.mask[:, start:].float()
    is_table = torch.zeros_like(there)
    is_table[:, :wide] = there[:, :wide]
    second = torch.tensor([[float(target.whole["companion"] > 0)] for target in targets])
    for name, kept in (
        ("takes_part", is_table),
        ("second_takes_part", is_table * second),
        ("key", there - is_table),
    ):
        wanted = torch.zeros_like(there)
        for b, target in enumerate(targets):
            for item in getattr(target, name):
                wanted[b, place(b, item)] = 1
        each = functional.binary_cross_entropy_with_logits(
            scores[name][..., 0].clamp(min=-30), wanted, reduction="none"
        )
        found[name] = _EVERY_TABLE * (each * kept).sum() / size
    return found


@dataclass(frozen=True, slots=True)
class PlanTrainingConfig:
    """Settings of a plan network's training.

    Attributes:
        network: network settings.
        steps: total number of steps.
        batch_size: questions per step.
        learning_rate: peak learning rate.
        clip: maximum gradient norm.
        mean: decay of the running mean of the weights, in [0, 1).
        every: steps between saved states.
    """

    network: plan_network.PlanConfig = plan_network.PlanConfig()
    steps: int = 6000
    batch_size: int = 32
    learning_rate: float = 1e-3
    clip: float = 2.0
    mean: float = 0.998
    every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        above_zero = ("steps", "batch_size", "learning_rate", "clip", "every")
        check_range(self, *above_zero, below_one="mean")


@dataclass(frozen=True, slots=True)
class Stage:
    """One line of ``metrics.jsonl``: mean losses by slot since the last one, and CPU seconds."""

    step: int
    losses: dict[str, float]
    cpu_s: float


def train_plans(
    config: PlanTrainingConfig,
    network: plan_network.PlanNetwork,
    examples: Sequence[PlanExample],
    out: str | Path,
    *,
    on_stage: Callable[[Stage], None] | None = None,
) -> plan_network.PlanNetwork:
    """Trains a network and saves it in ``out``, or resumes an interrupted run.

    ``on_stage`` is called after each saved state.

    Raises:
        InputError: if there are fewer questions than a batch, or the loss is not a number.
        ResumeError: if the directory has another run.
    """
    if len(examples) < config.batch_size:
        raise InputError(
            f"{len(examples)} questions are too few for batches of {config.batch_size}.",
            "Pass more questions, or set a smaller batch size.",
        )
    identity = {
        "config": asdict(config) | {"steps": 0},  # a resumed run may have other steps
        "questions": len(examples),
        "words": len(network.words),
    }
    state = TrainingState(network.model, Path(out), identity, config, weight_decay=1e-3)
    found = state.resume(_PlanProgress)
    stages = found[0]["stages"] if found else []

    def losses(items: list[PlanExample]) -> dict[str, Tensor]:
        batch = plan_network.plan_batch([item.question for item in items], network.vocabulary)
        tables = [item.question.tables for item in items]
        return plan_losses(network.model(batch), batch, [item.targets for item in items], tables)

    while state.step < config.steps:
        first = state.step
        chosen = list(_batches(config, examples, first, min(config.steps, first + config.every)))
        torch.manual_seed(config.seed * 100_003 + first)  # for dropout, the same after resuming
        means, cpu = state.train(chosen, losses, lambda step: _plan_pace(step, config.steps))
        stage = Stage(state.step, means, cpu)
        stages.append(asdict(stage))
        state.save(f"step-{state.step}.safetensors", stages, {"stages": stages})
        if on_stage:
            on_stage(stage)
    cpu_s = sum(stage["cpu_s"] for stage in stages)
    info = {"training": asdict(config), "questions": len(examples), "cpu_s": cpu_s}
    return _finished(network, state, state.mean, info)


def _batches(
    config: PlanTrainingConfig, examples: Sequence[PlanExample], first: int, last: int
) -> Iterator[list[PlanExample]]:
    """Yields the batches of a range of steps, which depend only on seed and step."""
    chosen: list[list[PlanExample]] = []
    for step in range(first, last):
        epoch, number = divmod(step, len(examples) // config.batch_size)
        if step == first or number == 0:
            rng = random.Random(f"{config.seed}:{epoch}")
            chosen = batches(examples, config.batch_size, 40, _plan_size, rng)
        yield chosen[number]


class _PlanProgress(TrainingProgress):
    stages: list[dict[str, Any]]


def _plan_size(example: PlanExample) -> int:
    """Returns the sort key: examples of similar size need little padding."""
    return len(example.question.relations)


def _plan_pace(step: int, steps: int) -> float:
    """Returns the learning-rate factor: 150 warmup steps, then 1, then linear to 0 (30%)."""
    return min(1.0, (step + 1) / 150, (steps - step) / max(1.0, 0.3 * steps))
