"""Joins between the tables of a database, and the cheapest tree of them over some tables.

A join comes from a declared foreign key or, if two tables have none, from names: a column named
like another table's key (``customer_id`` for the key of ``customers``) or, between tables that
nothing else connects, the same name in both. A guessed join costs more than a declared one.

Trees of equal cost are different readings of a question (a flight's source or destination
airport); all are returned.

Limit: the tree is exact for up to three tables; for more, it joins all of them by shortest paths to
the best single table.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice, product
from typing import Literal

from codegen.core.errors import CodegenError
from codegen.sqlnet.query import Table
from codegen.sqlnet.words import stem, words_of

# Sums of a few costs are never equal for different kinds of joins.
_COSTS = {"declared": 1.0, "guessed": 1.55, "same name": 2.45}
# Names that columns of unrelated tables share.
_COMMON_WORDS = """
    id name title code type description date year month day time status city country state address
    phone email age sex gender price amount fname lname
"""
_COMMON = frozenset(_COMMON_WORDS.split())
_MOST_ROOTS = 12  # tables tried as the root of a tree
_MOST_TREES = 8
_MOST_SHARING = 8  # maximum tables that one column name connects


class PlanError(CodegenError):
    """Error for a plan that cannot be written as one statement with the same meaning."""


@dataclass(frozen=True, slots=True, order=True)
class TableJoin:
    """A join of rows of ``child`` to one row of ``parent``: indices of tables and their columns.

    With the origin "same name", either row may match several rows of the other table.
    """

    child: int
    child_columns: tuple[int, ...]
    parent: int
    parent_columns: tuple[int, ...]
    origin: Literal["declared", "guessed", "same name"] = "declared"

    @property
    def cost(self) -> float:
        """Cost of the join; a tree's cost is the sum of its joins' costs."""
        return _COSTS[self.origin]

    def repeats(self, table: int) -> bool:
        """Returns True if a row of ``table``, one of the two, may join several rows."""
        return table == self.parent or self.origin == "same name"

    def other(self, table: int) -> int:
        """Returns the table at the other end."""
        return self.parent if table == self.child else self.child


@dataclass(frozen=True, slots=True)
class JoinTree:
    """Joins that connect tables without cycles; none for a single table."""

    tables: frozenset[int]
    joins: frozenset[TableJoin] = frozenset()

    def of(self, table: int) -> list[TableJoin]:
        """Returns the joins at a table, in a fixed order."""
        return sorted(join for join in self.joins if table in (join.child, join.parent))

    def behind(self, join: TableJoin, table: int) -> frozenset[int]:
        """Returns the tables that ``table`` reaches through one of its joins."""
        found, todo = {join.other(table)}, [(join.other(table), join)]
        while todo:
            here, via = todo.pop()
            for further in self.of(here):
                if further != via and further.other(here) not in found:
                    found.add(further.other(here))
                    todo.append((further.other(here), further))
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class JoinGraph:
    """The tables of a database and all joins between two of them."""

    tables: tuple[Table, ...]
    joins: tuple[TableJoin, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "joins", tuple(_joins_of(self.tables)))

    def key(self, table: int) -> int | None:
        """Returns the declared primary key, if it is one column."""
        key = self.tables[table].primary_key
        return key[0] if len(key) == 1 else None

    def trees(self, required: Iterable[int]) -> list[JoinTree]:
        """Finds all trees of least cost over the required tables.

        Raises:
            PlanError: if the tables cannot be connected.
        """
        wanted = sorted(set(required))
        if len(wanted) < 2:
            return [JoinTree(frozenset(wanted))]
        near = [self._nearest(table) for table in wanted]
        sums = [sum(found.cost[v] for found in near) for v in range(len(self.tables))]
        roots = sorted((cost, v) for v, cost in enumerate(sums) if cost < float("inf"))
        if not roots:
            names = " and ".join(self.tables[table].name for table in wanted)
            raise PlanError(f"No key connects {names}.", "Use tables that a foreign key connects.")
        found: dict[frozenset[TableJoin], float] = {}
        for _, root in roots[:_MOST_ROOTS]:
            for paths in islice(product(*(one.paths(root) for one in near)), _MOST_TREES):
                joins = frozenset().union(*paths)
                touched = {table for join in joins for table in (join.child, join.parent)}
                if len(touched) == len(joins) + 1:
                    found[joins] = sum(join.cost for join in joins)
        least = min(found.values())
        equal = sorted((j for j, cost in found.items() if cost == least), key=sorted)
        return [
            JoinTree(frozenset(t for join in joins for t in (join.child, join.parent)), joins)
            for joins in equal
        ]

    def _nearest(self, start: int) -> _Paths:
        cost = [float("inf")] * len(self.tables)
        last: list[list[TableJoin]] = [[] for _ in self.tables]
        at: dict[int, list[TableJoin]] = {}
        for join in self.joins:
            at.setdefault(join.child, []).append(join)
            at.setdefault(join.parent, []).append(join)
        cost[start] = 0.0
        queue = [(0.0, start)]
        while queue:
            here_cost, here = heapq.heappop(queue)
            if here_cost > cost[here]:
                continue
            for join in at.get(here, ()):
                there, there_cost = join.other(here), here_cost + join.cost
                if there_cost < cost[there]:
                    cost[there], last[there] = there_cost, [join]
                    heapq.heappush(queue, (there_cost, there))
                elif there_cost == cost[there]:
                    last[there].append(join)
        return _Paths(start, cost, last)


@dataclass(frozen=True, slots=True)
class _Paths:
    """Shortest paths from one table: the cost to each table, and the last joins on the way."""

    start: int
    cost: Sequence[float]
    last: Sequence[Sequence[TableJoin]]

    def paths(self, end: int) -> list[frozenset[TableJoin]]:
        """Returns the shortest paths to a table, up to ``_MOST_TREES``."""
        return list(islice(self._walk(end), _MOST_TREES))

    def _walk(self, end: int) -> Iterator[frozenset[TableJoin]]:
        if end == self.start:
            yield frozenset()
            return
        for join in self.last[end]:
            for rest in self._walk(join.other(end)):
                yield rest | {join}


def _joins_of(tables: Sequence[Table]) -> Iterator[TableJoin]:
    numbers = {table.name.lower(): number for number, table in enumerate(tables)}
    connected: set[frozenset[int]] = set()
    for child, table in enumerate(tables):
        for key in table.foreign_keys:
            parent = numbers.get(key.table.lower())
            if parent is None or parent == child:
                continue
            targets = _targets(key.targets, tables[parent])
            if len(targets) == len(key.columns):
                connected.add(frozenset((child, parent)))
                yield TableJoin(child, key.columns, parent, targets)
    for pair, joins in _guessed(tables).items():
        if pair not in connected:
            connected.add(pair)
            yield from joins
    part = _parts(len(tables), connected)
    for join in _same_name(tables):
        if part[join.child] != part[join.parent]:
            yield join


def _parts(count: int, connected: Iterable[frozenset[int]]) -> list[int]:
    """Returns the number of each table's connected component."""
    part = list(range(count))
    for one, other in map(sorted, connected):
        old, new = part[other], part[one]
        part = [new if number == old else number for number in part]
    return part


def _guessed(tables: Sequence[Table]) -> dict[frozenset[int], list[TableJoin]]:
    """Returns the joins that names suggest, by pair of tables."""
    named: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    prefixed: dict[tuple[str, ...], list[tuple[int, int]]] = {}  # stemmed words, then the last
    for number, table in enumerate(tables):
        for column, described in enumerate(table.columns):
            words = words_of(described.name)
            named.setdefault(words, []).append((number, column))
            if len(words) > 1:
                said = (*map(stem, words[:-1]), words[-1])
                prefixed.setdefault(said, []).append((number, column))
    found: dict[frozenset[int], list[TableJoin]] = {}
    for parent, table in enumerate(tables):
        if (key := _named_key(table)) is None:
            continue
        words = words_of(table.columns[key].name)
        says_nothing = len(words) == 1 and words[0] in _COMMON | {"key", "no", "number"}
        places = set() if says_nothing else set(named[words])
        places |= set(prefixed.get((*map(stem, words_of(table.name)), words[-1]), ()))
        for child, column in sorted(places):
            if child != parent and tables[child].columns[column].type == table.columns[key].type:
                join = TableJoin(child, (column,), parent, (key,), "guessed")
                found.setdefault(frozenset((child, parent)), []).append(join)
    ordered = sorted(found.items(), key=lambda pair_and_joins: sorted(pair_and_joins[0]))
    return {pair: _one_way(tables, joins) for pair, joins in ordered}


def _one_way(tables: Sequence[Table], joins: list[TableJoin]) -> list[TableJoin]:
    """Assigns a key that two tables share to the table that it is named after."""
    if len({join.parent for join in joins}) < 2:
        return joins
    key = tables[joins[0].child].columns[joins[0].child_columns[0]].name
    said = {stem(word) for word in words_of(key)}
    return [max(joins, key=lambda join: stem(words_of(tables[join.parent].name)[0]) in said)]


def _same_name(tables: Sequence[Table]) -> Iterator[TableJoin]:
    """Yields joins on the first uncommon column name that two tables share."""
    places: dict[str, list[tuple[int, int]]] = {}
    for number, table in enumerate(tables):
        for column, described in enumerate(table.columns):
            words = words_of(described.name)
            last = words[-1:]
            is_key = len(words) > 1 and {*last} <= {"id", "code", "key", "no", "number"}
            if is_key or not (_COMMON.issuperset(last) or len("".join(last)) < 6):
                places.setdefault(described.name.lower(), []).append((number, column))
    met: set[tuple[int, int]] = set()
    for found in places.values():
        if len(found) > _MOST_SHARING:
            continue
        for (one, column), (other, same) in combinations(found, 2):
            if (one, other) not in met:
                met.add((one, other))
                yield TableJoin(one, (column,), other, (same,), "same name")


def _targets(names: Sequence[str], table: Table) -> tuple[int, ...]:
    if not names:
        return table.primary_key
    lower = [column.name.lower() for column in table.columns]
    return tuple(lower.index(name.lower()) for name in names if name.lower() in lower)


def _named_key(table: Table) -> int | None:
    """Returns the primary key, or else the first column if it is named like one."""
    if len(table.primary_key) == 1:
        return table.primary_key[0]
    refers = any(0 in key.columns for key in table.foreign_keys)
    first = words_of(table.columns[0].name)
    is_key = first[-1] in ("id", "code") and not refers
    return 0 if is_key and not table.primary_key else None
