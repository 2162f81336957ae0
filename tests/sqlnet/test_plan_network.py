"""The plan network: what must not change its answer does not; training resumes to the bit."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codegen.core.errors import InputError, ModelError, ResumeError
from codegen.sqlnet.answers import equal_rows
from codegen.sqlnet.databases.files import SqliteDatabase
from codegen.sqlnet.explain import clauses_of, sentence
from codegen.sqlnet.joins import PlanError
from codegen.sqlnet.network import random_vectors
from codegen.sqlnet.plan import ColumnRef, to_statement
from codegen.sqlnet.plan_data import PlannedQuestion, run_rows
from codegen.sqlnet.plan_decode import PlanParser, plan_candidates
from codegen.sqlnet.plan_features import LinkedSchema, read_question
from codegen.sqlnet.plan_network import PlanConfig, PlanNetwork
from codegen.sqlnet.query import Table
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.training import (
    PlanTrainingConfig,
    Stage,
    new_network,
    plan_examples,
    plan_targets,
    train_plans,
)
from codegen.sqlnet.words import tokenize

from .clinic import planned_questions, sure_scores

SMALL = PlanConfig(width=32, layers=2, heads=2, dropout=0.1)


@pytest.fixture(scope="module")
def planned(database: SqliteDatabase) -> list[PlannedQuestion]:
    return planned_questions(database)


@pytest.fixture(scope="module")
def network(planned: list[PlannedQuestion]) -> PlanNetwork:
    """With random weights."""
    words = sorted({t.text.lower() for one in planned for t in tokenize(one.question)})
    return new_network(SMALL, random_vectors(words, 16, 0), planned, seed=0)


def test_the_order_of_tables_and_columns_makes_no_difference(
    database: SqliteDatabase, network: PlanNetwork, planned: list[PlannedQuestion]
) -> None:
    rng = random.Random(3)
    moved = []
    for table in database.tables:
        kept = list(range(len(table.columns)))
        rng.shuffle(kept)
        place = {old: new for new, old in enumerate(kept)}
        keys = tuple(
            replace(key, columns=tuple(place[c] for c in key.columns)) for key in table.foreign_keys
        )
        moved.append(
            replace(
                table,
                columns=tuple(table.columns[c] for c in kept),
                primary_key=tuple(place[c] for c in table.primary_key),
                foreign_keys=keys,
            )
        )
    rng.shuffle(moved)
    first = LinkedSchema(database.tables, database)
    second = LinkedSchema(moved, database)
    for one in planned[:12]:
        found = []
        for schema in (first, second):
            question = read_question(one.question, schema, network.likeness)
            best = plan_candidates(question, network.read([question])[0], 1)[0]
            said = sentence(clauses_of(best.plan, schema.tables))
            found.append((sorted(said.replace(",", "").split()), round(best.log_probability, 3)))
        assert found[0] == found[1]


def test_a_question_alone_is_read_as_in_a_batch(
    database: SqliteDatabase, network: PlanNetwork, planned: list[PlannedQuestion]
) -> None:
    schema = LinkedSchema(database.tables, database)
    alone = LinkedSchema(database.tables[:1], database)
    questions = [read_question(one.question, schema, network.likeness) for one in planned[:5]]
    questions.append(read_question("how many?", alone, network.likeness))
    together = network.read(questions)
    for question, batched in zip(questions, together, strict=True):
        for name, value in network.read([question])[0].items():
            np.testing.assert_allclose(value, batched[name], atol=2e-4, err_msg=name)


def test_a_saved_network_reads_the_same(
    tmp_path: Path, database: SqliteDatabase, network: PlanNetwork
) -> None:
    half = replace(network, model=network.model.half().float())  # what a file holds
    half.save(tmp_path)
    question = read_question("how many doctors?", LinkedSchema(database.tables), half.likeness)
    for name, value in PlanNetwork.load(tmp_path).read([question])[0].items():
        np.testing.assert_array_equal(value, half.read([question])[0][name])


@pytest.mark.parametrize("damage", ["config.json", "words.txt", "model.safetensors"])
def test_a_damaged_directory_is_named(tmp_path: Path, network: PlanNetwork, damage: str) -> None:
    network.save(tmp_path)
    (tmp_path / damage).write_text("{}")
    with pytest.raises(ModelError, match=str(tmp_path)):
        PlanNetwork.load(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(ModelError, match="missing"):
        PlanNetwork.load(tmp_path)


def test_a_run_that_is_cut_off_resumes_with_the_same_weights(
    tmp_path: Path, database: SqliteDatabase, planned: list[PlannedQuestion]
) -> None:
    folder = Path(database.name).parent
    config = PlanTrainingConfig(SMALL, steps=4, batch_size=8, every=2)
    words = sorted({t.text.lower() for one in planned for t in tokenize(one.question)})

    def run(out: str, on_stage: Callable[[Stage], None] | None = None) -> PlanNetwork:
        network = new_network(SMALL, random_vectors(words, 16, 0), planned, seed=0)
        examples, _ = plan_examples(planned, [folder], network.likeness)
        return train_plans(config, network, examples, tmp_path / out, on_stage=on_stage)

    def cut(_stage: Stage) -> None:
        raise KeyboardInterrupt

    whole = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", cut)
    other = replace(config, learning_rate=0.5)
    network = new_network(SMALL, random_vectors(words, 16, 0), planned, seed=0)
    examples, _ = plan_examples(planned, [folder], network.likeness)
    with pytest.raises(ResumeError, match="another configuration"):
        train_plans(other, network, examples, tmp_path / "parts")
    parts = run("parts")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parts.model.state_dict()[name]), name
    assert not (tmp_path / "parts" / "state").exists()


def test_too_few_questions_are_refused(
    tmp_path: Path, database: SqliteDatabase, network: PlanNetwork, planned: list[PlannedQuestion]
) -> None:
    folder = Path(database.name).parent
    examples, _ = plan_examples(planned[:3], [folder], network.likeness)
    with pytest.raises(InputError, match="3 questions are too few for batches of 32"):
        train_plans(PlanTrainingConfig(SMALL), network, examples, tmp_path)
    with pytest.raises(InputError, match=r"No nowhere\.sqlite"):
        plan_examples([replace(planned[0], db_id="nowhere")], [folder], network.likeness)


def test_gold_scores_decode_to_the_gold_plan(
    database: SqliteDatabase, network: PlanNetwork, planned: list[PlannedQuestion]
) -> None:
    """Scores made of the targets of a plan give a plan with the same answer back."""
    schema = LinkedSchema(database.tables, database)
    right, tried = 0, 0
    for one in planned:
        question = read_question(one.question, schema, network.likeness)
        targets = plan_targets(question, one.plan)
        if targets is None:
            continue
        sure = sure_scores(question, targets, network)
        best = plan_candidates(question, sure, 1)[0]
        tried += 1
        wanted = to_statement(one.plan, schema.graph)
        try:
            found = to_statement(best.plan, schema.graph)
        except PlanError:
            continue
        rows = [run_rows(database, s.text, s.parameters) for s in (wanted, found)]
        assert rows[0] is not None and rows[1] is not None
        right += equal_rows(rows[1], rows[0], ordered=one.plan.order is not None)
    assert tried > 20 and right >= 0.95 * tried  # the rest: values that are no mention


def test_more_columns_than_there_are_likely_ones_still_give_a_plan(
    database: SqliteDatabase, network: PlanNetwork
) -> None:
    schema = LinkedSchema(database.tables, database)
    question = read_question("which doctors", schema, network.likeness)
    (scores,) = network.read([question])
    scores["select"] = np.full_like(scores["select"], -60.0)
    scores["select"][-1, 0] = 60.0
    scores["selected"] = np.array([-60.0, -60.0, -60.0, -60.0, 60.0])
    plan = plan_candidates(question, scores, 1)[0].plan
    assert [shown.item for shown in plan.select] == [question.item(len(question.items) - 1)]


def test_a_schema_of_two_hundred_tables_is_cut_to_those_that_count(network: PlanNetwork) -> None:
    from codegen.sqlnet.query import Column

    tables = [
        Table(
            f"table {n}",
            (Column("id", "real"), *(Column(f"field {n} {c}") for c in range(9))),
            primary_key=(0,),
        )
        for n in range(200)
    ]
    tables[137] = Table("singers", (Column("id", "real"), Column("stage name")), primary_key=(0,))
    schema = LinkedSchema(tables)
    question = read_question("what are the stage names of singers?", schema, network.likeness)
    assert schema.items.index(ColumnRef(137, 1)) in question.items
    assert len(question.items) <= 154


@pytest.mark.long
def test_it_learns_a_small_world(tmp_path: Path, database: SqliteDatabase) -> None:
    planned, schema = planned_questions(database), LinkedSchema(database.tables, database)
    words = sorted({t.text.lower() for one in planned for t in tokenize(one.question)})
    config = PlanTrainingConfig(
        PlanConfig(width=64, layers=2, heads=4, dropout=0.1), steps=500, batch_size=24
    )
    network = new_network(config.network, random_vectors(words, 32, 0), planned, seed=0)
    examples, _ = plan_examples(planned, [Path(database.name).parent], network.likeness)
    parser = PlanParser(train_plans(config, network, examples, tmp_path))
    right = 0
    for one in planned:
        wanted = to_statement(one.plan, schema.graph)
        found = parser.parse(one.question, Schema.of(database)).statement
        if found:
            rows = [run_rows(database, s.text, s.parameters) for s in (wanted, found)]
            right += bool(rows[0] and rows[1]) and equal_rows(rows[1], rows[0], ordered=False)  # type: ignore[arg-type]
    assert right >= 0.9 * len(planned)
