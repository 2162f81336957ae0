"""Both layouts of the network: properties that hold whatever the weights are."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from codegen.sqlnet.decode import SlotScores, best_query, candidates, slots
from codegen.sqlnet.examples import LabeledQuestion, Question, label, targets_of
from codegen.sqlnet.features import EncodedQuestion, collate, encode_question
from codegen.sqlnet.layout import BiLSTM, losses
from codegen.sqlnet.paper_model import PaperSQLNet
from codegen.sqlnet.query import Column, Condition, Query, Table
from codegen.sqlnet.shared_encoder import SharedSQLNet

LAYOUTS = [SharedSQLNet, PaperSQLNet]
UNSEEN = ("select.2.bias", "value_score.bias")  # see test_the_loss_reaches_every_weight
WORDS = ("who", "what", "city", "name", "player", "1996", "age", "the")
VOCABULARY = {word: i for i, word in enumerate(WORDS, 1)}
TABLE = Table("t", (Column("player name"), Column("age", "real"), Column("home city")))
WIDE = Table("w", tuple(Column(word, "real") for word in WORDS))


def network(layout: Callable[..., Any]) -> Any:
    torch.manual_seed(0)
    vectors = torch.randn(len(VOCABULARY) + 1, 16)
    vectors[0] = 0
    return layout(vectors, hidden=24).eval()


def read(model: Any, *asked: EncodedQuestion, beam: int = 1) -> list[SlotScores]:
    batch = collate([one.features for one in asked], VOCABULARY)
    return slots(model, batch, [item.table for item in asked], beam=beam)


def question(text: str, table: Table, *conditions: Condition) -> LabeledQuestion:
    return label([Question("0", text, table, Query(0, 3, conditions))])[0]


ITEMS = [
    question("who played in 1996-97?", TABLE, Condition(2, 0, "1996-97")),
    question("city", WIDE),
    question("the Age of Ann Lee", TABLE, Condition(1, 0, "ann lee"), Condition(2, 1, "nowhere")),
]


def test_the_lstm_equals_torchs_own_on_packed_rows() -> None:
    torch.manual_seed(0)
    ours, theirs = BiLSTM(5, 8, 2), nn.LSTM(5, 4, 2, batch_first=True, bidirectional=True)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    for layer, way, name in product(range(2), ("", "_reverse"), names):
        own = (ours.backwards if way else ours.forwards)[layer]
        getattr(theirs, f"{name}_l{layer}{way}").data.copy_(getattr(own, f"{name}_l0"))
    inputs, lengths = torch.randn(6, 9, 5), torch.tensor([9, 1, 4, 2, 3, 7])
    state = torch.randn(4, 6, 4), torch.randn(4, 6, 4)
    for begin in (None, state):
        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        outputs, (last, _) = theirs(packed, begin)
        expected, _ = pad_packed_sequence(outputs, batch_first=True)
        found, found_last = ours(inputs, lengths, begin)
        real = (torch.arange(9) < lengths[:, None])[..., None]
        torch.testing.assert_close(found * real, expected)
        torch.testing.assert_close(found_last, torch.cat([last[-2], last[-1]], dim=-1))
    torch.testing.assert_close(ours.last(inputs, lengths), ours(inputs, lengths)[1])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_question_is_read_alike_alone_and_in_a_batch(layout: Any) -> None:
    model = network(layout)
    together = read(model, *(item.question for item in ITEMS))
    for item, found in zip(ITEMS, together, strict=True):
        (alone,) = read(model, item.question)
        for name in ("select", "aggregate", "where", "number", "operator"):
            torch.testing.assert_close(
                getattr(found, name), getattr(alone, name), atol=1e-5, rtol=1e-4
            )
        assert best_query(found, item.question.text, item.question.tokens) == best_query(
            alone, item.question.text, item.question.tokens
        )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_permuting_the_columns_permutes_the_outputs(layout: Any) -> None:
    model = network(layout)
    order = [2, 0, 1]
    permuted = Table("t", tuple(TABLE.columns[i] for i in order))
    text = "what is the home city of player Ann Lee?"
    (found,) = read(model, encode_question(text, TABLE))
    (other,) = read(model, encode_question(text, permuted))
    for name in ("select", "aggregate", "where", "operator"):
        torch.testing.assert_close(
            getattr(found, name)[order], getattr(other, name), atol=1e-5, rtol=1e-4
        )
    torch.testing.assert_close(found.number, other.number, atol=1e-5, rtol=1e-4)


def loss_of(model: Any, items: list[LabeledQuestion]) -> Any:
    batch = collate([item.question.features for item in items], VOCABULARY)
    parts = losses(model, model.encode(batch), targets_of(items), batch.column_mask, 3.0)
    return sum(parts.values())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_loss_reaches_every_weight(layout: Any) -> None:
    """The released code copied column names out of the graph: their encoders never learnt.

    The biases in ``UNSEEN`` add the same to all scores of one softmax, which does not see it:
    their gradient is a rounding error, and may be nothing at all.
    """
    model = network(layout)
    loss_of(model, ITEMS).backward()
    idle = [
        name
        for name, weight in model.named_parameters()
        if name not in UNSEEN
        and weight.requires_grad
        and (weight.grad is None or not weight.grad.abs().sum() > 0)
    ]
    assert idle == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_gold_conditions_does_not_change_the_loss(layout: Any) -> None:
    model = network(layout)
    first, second = Condition(0, 0, "ann lee"), Condition(1, 1, "3")
    text = "the Age of Ann Lee over 3"
    one = loss_of(model, [question(text, TABLE, first, second)])
    two = loss_of(model, [question(text, TABLE, second, first)])
    assert one.item() == pytest.approx(two.item(), rel=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_slices_of_the_question_and_types_are_kept(layout: Any) -> None:
    for seed, text in product(range(5), ["who", "the Age of Ann-Lee é 3?", "a " * 150]):
        torch.manual_seed(seed)
        model = layout(torch.zeros(len(VOCABULARY) + 1, 16), hidden=24).eval()
        asked = encode_question(text, TABLE)
        (found,) = read(model, asked)
        query = best_query(found, text, asked.tokens)
        for condition in query.conditions:
            assert condition.value and condition.value in text
            assert TABLE.columns[condition.column].type == "real" or condition.operator == 0
        assert TABLE.columns[query.select].type == "real" or query.aggregate in (0, 3)


@pytest.mark.long
@pytest.mark.parametrize("layout", [SharedSQLNet, PaperSQLNet])
def test_a_few_questions_are_learnt_by_heart(layout: Any) -> None:
    torch.manual_seed(2)
    model = layout(torch.randn(len(VOCABULARY) + 1, 16), hidden=48, dropout=0.0)
    items = [
        question("what age is Ann Lee", TABLE, Condition(0, 0, "Ann Lee")),
        question("who lives in Bonn", TABLE, Condition(2, 0, "Bonn")),
        question("how many are over 30 in Rome", TABLE, Condition(1, 1, "30")),
        question("how many players", TABLE),
    ]
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(200):
        optimiser.zero_grad()
        loss_of(model, items).backward()
        optimiser.step()
    model.eval()
    for item, found in zip(items, read(model, *(item.question for item in items)), strict=True):
        assert best_query(found, item.question.text, item.question.tokens).matches(item.query)


def test_candidates_are_the_most_probable_queries() -> None:
    """Against all queries that the beams allow, scored one by one."""
    model = network(SharedSQLNet)
    asked = encode_question("the age of Ann Lee", TABLE)
    (found,) = read(model, asked, beam=2)
    listed = candidates(found, asked.text, asked.tokens, beam=18, most=2000)
    scores = [candidate.log_probability for candidate in listed]
    assert scores == sorted(scores, reverse=True)
    assert len({candidate.query for candidate in listed}) == len(listed)
    for candidate in listed[:200]:
        query = candidate.query
        expected = float(found.select[query.select]) + float(
            found.aggregate[query.select, query.aggregate]
        )
        expected += float(found.number[len(query.conditions)])
        used = {condition.column: condition for condition in query.conditions}
        for column in range(len(TABLE.columns)):
            probability = float(found.where[column].exp())
            if column not in used:
                expected += math.log1p(-probability)
                continue
            condition = used[column]
            spans = found.values[column, condition.operator]
            texts = [
                (asked.text[asked.tokens[s.first].start : asked.tokens[s.last].end], s)
                for s in spans
            ]
            best = max(s.log_probability for text, s in texts if text == condition.value)
            expected += math.log(probability)
            expected += float(found.operator[column, condition.operator]) + best
        assert candidate.log_probability == pytest.approx(expected, abs=1e-4)
