"""How good predicted queries are: query match with its breakdown, execution, and confidence.

Query match is WikiSQL's official equality (:meth:`Query.matches`), for sketches the same as
logical-form accuracy. Execution accuracy runs both queries and compares their rows. The breakdown
follows the paper's Table 2 and adds operators and values, on questions whose condition columns are
right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from codegen.sqlnet.databases import DatabaseError
from codegen.sqlnet.databases.files import Database, SqliteDatabase
from codegen.sqlnet.decode import (
    Choice,
    ScoredQuery,
    Slots,
    best_query,
    candidates,
    choose,
    slot_probabilities,
    with_mentions,
)
from codegen.sqlnet.examples import Labelled, WikiTable
from codegen.sqlnet.features import EncodedQuestion
from codegen.sqlnet.linking import Linker
from codegen.sqlnet.network import Network
from codegen.sqlnet.query import Query
from codegen.sqlnet.sql import to_sql

BATCH = 128
BEAM = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares of n questions, in [0, 1]; ``execution`` is None where nothing was run.

    ``operators`` and ``values`` are shares of the questions whose condition columns are right.
    """

    n: int
    query_match: float
    aggregate: float
    select: float
    where: float
    number: float
    columns: float
    operators: float
    values: float
    execution: float | None = None

    def to_row(self) -> dict[str, float | int | None]:
        """As JSON values."""
        return asdict(self)


def predict(network: Network, items: Sequence[Labelled], *, greedy: bool = False) -> list[Query]:
    """The query of each question.

    Args:
        greedy: fill one slot after another, as in the paper; else take the query with the highest
            joint probability.
    """
    if greedy:
        read = _read(network, items, beam=1)
        return [best_query(slots, encoded.text, encoded.tokens) for encoded, slots in read]
    read = _read(network, items, beam=BEAM)
    return [_likeliest(slots, encoded).query for encoded, slots in read]


def predict_guided(
    network: Network,
    items: Sequence[Labelled],
    databases: Mapping[str, Database],
    *,
    link: bool = False,
) -> list[Choice]:
    """The query of each question, chosen by running candidates.

    Args:
        databases: by table name.
        link: also link values to the table's, as the parser does.
    """
    found = []
    for encoded, read in _read(network, items, beam=BEAM):
        database, slots = databases[encoded.table.name], read
        linker = Linker(database, encoded.table) if link else None
        if linker:
            slots = with_mentions(slots, linker.mentioned(encoded))
        listed = candidates(slots, encoded.text, encoded.tokens, BEAM, table=encoded.table)
        found.append(choose(listed, encoded.table, database, linker=linker))
    return found


def databases_of(
    items: Sequence[Labelled], tables: Mapping[str, WikiTable]
) -> dict[str, Database] | None:
    """A database in memory for the table of each question; None if the tables have no rows."""
    names = {item.question.table.name for item in items}
    held = {name: tables[name] for name in names}
    if not any(table.rows for table in held.values()):
        return None
    return {
        name: SqliteDatabase.from_table(table.table, table.rows) for name, table in held.items()
    }


def _read(
    network: Network, items: Sequence[Labelled], beam: int
) -> Iterator[tuple[EncodedQuestion, Slots]]:
    for start in range(0, len(items), BATCH):
        encoded = [item.question for item in items[start : start + BATCH]]
        yield from zip(encoded, network.read(encoded, beam=beam), strict=True)


def _likeliest(slots: Slots, encoded: EncodedQuestion) -> ScoredQuery:
    return candidates(slots, encoded.text, encoded.tokens, BEAM, 1, encoded.table)[0]


def outcomes(
    network: Network,
    items: Sequence[Labelled],
    databases: Mapping[str, Database] | None = None,
) -> list[dict[str, list[tuple[float, bool]]]]:
    """For each question, by kind of slot: (log-probability of the prediction, whether it is right).

    Operators and values are judged where their column is right. With databases there is also
    ``guided``, the query chosen by running with linked values, which is right if its answer is. For
    :mod:`codegen.sqlnet.trust`.
    """
    found = [
        _outcome(slots, _likeliest(slots, encoded), item.query)
        for item, (encoded, slots) in zip(items, _read(network, items, BEAM), strict=True)
    ]
    if databases is not None:
        choices = predict_guided(network, items, databases, link=True)
        for held, item, choice in zip(found, items, choices, strict=True):
            database = databases[item.question.table.name]
            right = _same_result(choice.candidate.query, item, database)
            held["guided"] = [(choice.log_probability, right)]
    return found


def _outcome(
    slots: Slots, candidate: ScoredQuery, gold: Query
) -> dict[str, list[tuple[float, bool]]]:
    query = candidate.query
    wanted = {condition.column: condition for condition in gold.conditions}
    found: dict[str, list[tuple[float, bool]]] = {"column": [], "operator": [], "value": []}
    probabilities = slot_probabilities(slots, candidate)
    for condition, (column, operator, value) in zip(
        query.conditions, probabilities.conditions, strict=True
    ):
        held = wanted.get(condition.column)
        found["column"].append((column, held is not None))
        if held:
            found["operator"].append((operator, held.operator == condition.operator))
            found["value"].append((value, held.value.lower() == condition.value.lower()))
    return found | {
        "select": [(probabilities.select, query.select == gold.select)],
        "aggregate": [(probabilities.aggregate, query.aggregate == gold.aggregate)],
        "number": [(probabilities.number, len(query.conditions) == len(gold.conditions))],
        "query": [(candidate.log_probability, query.matches(gold))],
    }


def score(
    predicted: Sequence[Query],
    items: Sequence[Labelled],
    databases: Mapping[str, Database] | None = None,
) -> Scores:
    """Scores predictions against gold queries; runs both if there are databases."""
    pairs = list(zip(predicted, (item.query for item in items), strict=True))

    def share(test: Callable[[Query, Query], bool]) -> float:
        return sum(test(found, gold) for found, gold in pairs) / max(1, len(pairs))

    columns_right = [pair for pair in pairs if _columns(pair[0]) == _columns(pair[1])]

    def share_of_right(part: Callable[[Query], set[tuple[int, object]]]) -> float:
        same = sum(part(found) == part(gold) for found, gold in columns_right)
        return same / max(1, len(columns_right))

    execution = None
    if databases is not None:
        same = sum(
            _same_result(found, item, databases[item.question.table.name])
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
        operators=share_of_right(lambda q: {(c.column, c.operator) for c in q.conditions}),
        values=share_of_right(lambda q: {(c.column, c.value.lower()) for c in q.conditions}),
        execution=execution,
    )


def _where(query: Query) -> Query:
    return Query(0, 0, query.conditions)


def _columns(query: Query) -> set[int]:
    return {condition.column for condition in query.conditions}


def _same_result(predicted: Query, item: Labelled, database: Database) -> bool:
    if predicted.matches(item.query):
        return True
    table = item.question.table
    try:
        found, gold = (
            database.execute(to_sql(query, table, database.dialect)).rows
            for query in (predicted, item.query)
        )
    except DatabaseError:
        return False
    return sorted(found, key=repr) == sorted(gold, key=repr)
