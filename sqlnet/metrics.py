"""How good predicted queries are: query match with its breakdown, and execution accuracy.

Query match is WikiSQL's official equality (``Query.__eq__``: condition order and the case of values
don't count). For outputs of the sketch it equals logical-form accuracy. Execution accuracy runs
both queries and compares what they give. Breakdown as in the paper's Table 2, and finer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from codegen.sqlnet.databases.base import Database
from codegen.sqlnet.decode import best_query
from codegen.sqlnet.errors import DatabaseError
from codegen.sqlnet.examples import Labelled
from codegen.sqlnet.guided import candidates, choose
from codegen.sqlnet.network import Network
from codegen.sqlnet.query import Query
from codegen.sqlnet.sql import to_sql

BATCH = 128


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares of n questions, in [0, 1]; ``execution`` is None where nothing was run."""

    n: int
    query_match: float
    aggregate: float
    select: float
    where: float
    number: float
    columns: float
    execution: float | None = None

    def to_row(self) -> dict[str, float | int | None]:
        """As JSON values."""
        return asdict(self)


def predict(network: Network, items: Sequence[Labelled], *, type_masks: bool = True) -> list[Query]:
    """The most probable query of each question."""
    found = []
    for start in range(0, len(items), BATCH):
        asked = [item.asked for item in items[start : start + BATCH]]
        for one, slots in zip(asked, network.read(asked, type_masks=type_masks), strict=True):
            found.append(best_query(slots, one.text, one.tokens))
    return found


def predict_guided(
    network: Network, items: Sequence[Labelled], databases: Mapping[str, Database], beam: int = 4
) -> list[Query]:
    """The query of each question that is chosen by running it on its table's database."""
    found = []
    for start in range(0, len(items), BATCH):
        asked = [item.asked for item in items[start : start + BATCH]]
        for one, slots in zip(asked, network.read(asked, beam=beam), strict=True):
            listed = candidates(slots, one.text, one.tokens, beam)
            chosen, _ = choose(listed, one.table, databases[one.table.name])
            found.append(chosen.query)
    return found


def score(
    predicted: Sequence[Query],
    items: Sequence[Labelled],
    databases: Mapping[str, Database] | None = None,
) -> Scores:
    """Scores predictions against gold queries; runs both if there are databases."""
    pairs = list(zip(predicted, (item.query for item in items), strict=True))

    def share(test: Callable[[Query, Query], bool]) -> float:
        return sum(test(found, gold) for found, gold in pairs) / max(1, len(pairs))

    execution = None
    if databases is not None:
        same = sum(
            _same_result(found, item, databases[item.asked.table.name])
            for found, item in zip(predicted, items, strict=True)
        )
        execution = same / max(1, len(pairs))
    return Scores(
        n=len(pairs),
        query_match=share(Query.matches),
        aggregate=share(lambda a, b: a.aggregate == b.aggregate),
        select=share(lambda a, b: a.select == b.select),
        where=share(lambda a, b: _where(a).matches(_where(b))),
        number=share(lambda a, b: len(a.conditions) == len(b.conditions)),
        columns=share(lambda a, b: _columns(a) == _columns(b)),
        execution=execution,
    )


def _where(query: Query) -> Query:
    return Query(0, 0, query.conditions)


def _columns(query: Query) -> set[int]:
    return {condition.column for condition in query.conditions}


def _same_result(predicted: Query, item: Labelled, database: Database) -> bool:
    if predicted.matches(item.query):
        return True
    table = item.asked.table
    try:
        found, gold = (
            database.execute(to_sql(query, table, database.dialect)).rows
            for query in (predicted, item.query)
        )
    except DatabaseError:
        return False
    return sorted(found, key=repr) == sorted(gold, key=repr)
