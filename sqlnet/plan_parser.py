"""Questions on several tables to SQL: the plan network, its candidates, and the one that runs.

    parser = PlanParser.from_pretrained()
    answer = parser.parse("which customers have never ordered anything?", Schema.open("shop.db"))
    answer.best.plan, answer.statement, answer.rows, answer.confidence

The confidence was fitted on databases that the network was not trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from weakref import WeakKeyDictionary

from codegen.errors import InputError
from codegen.sqlnet.databases import DEFAULT_LIMITS, Rows, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.plan_decode import PlanChoice, ScoredPlan, choose_plan, plan_candidates
from codegen.sqlnet.plan_features import LinkedSchema, PlanQuestion, read_question
from codegen.sqlnet.plan_network import PlanNetwork
from codegen.sqlnet.query import Statement
from codegen.sqlnet.schema import Schema

DEFAULT_PLAN_MODEL = Path(__file__).parent / "weights" / "plans"


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """What was understood of a question.

    Attributes:
        candidates: the most probable plans, best first.
        choice: the one that execution chose.
        confidence: that its answer is right, in [0, 1].
    """

    question: PlanQuestion
    candidates: tuple[ScoredPlan, ...]
    choice: PlanChoice
    confidence: float

    @property
    def best(self) -> ScoredPlan:
        """The chosen plan."""
        return self.candidates[self.choice.number]

    @property
    def statement(self) -> Statement | None:
        """Its SQL; None if the plan can't be written as SQL."""
        return self.choice.statement

    @property
    def rows(self) -> Rows | None:
        """Its result; None if it failed or was not run."""
        return self.choice.rows


class PlanParser:
    """Reads questions with a trained plan network."""

    def __init__(self, network: PlanNetwork) -> None:
        self.network = network
        self._linked: WeakKeyDictionary[Database, LinkedSchema] = WeakKeyDictionary()
        self._bare: LinkedSchema | None = None  # the last schema without a database

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> PlanParser:
        """Loads a directory that ``codegen sqlnet train-plans`` made, by default the package's.

        Raises:
            ModelError: if it holds no plan network, or a damaged one.
        """
        return cls(PlanNetwork.load(DEFAULT_PLAN_MODEL if path is None else path))

    def linked(self, schema: Schema) -> LinkedSchema:
        """The schema with its index of cells, which is built once per database."""
        database = schema.database
        found = self._linked.get(database) if database else self._bare
        if found is None or found.tables != schema.tables:
            found = LinkedSchema(schema.tables, database)
            if database:
                self._linked[database] = found
            else:
                self._bare = found
        return found

    def parse(
        self,
        question: str,
        schema: Schema,
        *,
        execute: bool = True,
        reads: bool = True,
        limits: StatementLimits = DEFAULT_LIMITS,
        today: date | None = None,
    ) -> PlanAnswer:
        """Reads a question.

        Args:
            question: in English; its first 80 tokens are read.
            execute: run candidates, if the schema has a database.
            reads: read values to link the question to; needs ``execute``.
            today: the day that "last month" refers to; by default the clock's.

        Raises:
            InputError: if the question has no word.
        """
        linked = self.linked(schema if execute and reads else Schema(schema.tables))
        read = read_question(question, linked, self.network.likeness, today)
        if not read.words:
            raise InputError("The question is empty.", "Name a table or column in it.")
        candidates = plan_candidates(read, self.network.read([read])[0])
        database = schema.database if execute else None
        dialect = schema.database.dialect if schema.database else "sqlite"
        choice = choose_plan(candidates, read, database, limits, dialect)
        slope, intercept = self.network.calibration
        logit = slope * choice.log_probability + intercept
        confidence = 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
        return PlanAnswer(read, tuple(candidates), choice, confidence)
