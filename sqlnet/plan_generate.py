"""Made-up questions with plans, on real or made-up databases, for the training of a plan network.

A kind of plan is drawn, then what fills it, then words for each part, from several ways to say it.
Column words are left out now and then where a value or a verb implies them. A question is kept if
its plan gives rows on the database. Limit: the wording is that of a few dozen templates; it adds
kinds of questions that a data set lacks (dates, NULLs, names in two columns, "never"), and does not
replace one.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

from codegen.errors import InputError
from codegen.paths import child, refuse_foreign
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.joins import Join, PlanError
from codegen.sqlnet.plan import (
    COUNT,
    Companion,
    Item,
    Order,
    PlanValue,
    QueryPlan,
    Selected,
    Test,
    is_identifier,
    label_columns,
    to_statement,
)
from codegen.sqlnet.plan_data import (
    GoldQuestion,
    PlannedQuestion,
    find_database,
    planned_gold,
    read_planned,
    run_rows,
    write_planned,
)
from codegen.sqlnet.plan_features import LinkedSchema
from codegen.sqlnet.query import AGGREGATES

_MAX, _MIN, _SUM, _AVG = (AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))
_PLACES = {"city", "country", "region", "state", "location", "town", "area", "district"}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# The word of a quantity's name -> adjectives for much and for little of it.
_SUPERLATIVES = {
    "price": ("most expensive", "cheapest"),
    "cost": ("most expensive", "cheapest"),
    "fee": ("most expensive", "cheapest"),
    "salary": ("best paid", "worst paid"),
    "age": ("oldest", "youngest"),
    "height": ("tallest", "shortest"),
    "length": ("longest", "shortest"),
    "minutes": ("longest", "shortest"),
    "runtime": ("longest", "shortest"),
    "duration": ("longest", "shortest"),
    "weight": ("heaviest", "lightest"),
    "area": ("largest", "smallest"),
    "size": ("biggest", "smallest"),
    "capacity": ("biggest", "smallest"),
    "population": ("most populous", "least populous"),
    "rating": ("best rated", "worst rated"),
    "born": ("youngest", "oldest"),
    "birth": ("youngest", "oldest"),
    "founded": ("newest", "oldest"),
    "opened": ("newest", "oldest"),
    "built": ("newest", "oldest"),
    "year": ("most recent", "earliest"),
    "date": ("latest", "earliest"),
    "released": ("latest", "earliest"),
}


@dataclass(frozen=True, slots=True)
class MadeUp:
    """A made-up question with its plan."""

    question: str
    plan: QueryPlan


def made_up_questions(
    schema: LinkedSchema, database: Database, count: int, rng: random.Random
) -> Iterator[MadeUp]:
    """Up to ``count`` different questions on a database."""
    writer = _Questions(schema, database, rng)
    seen: set[str] = set()
    for _ in range(4 * count):
        if len(seen) == count:
            return
        found = writer.one()
        if found and found.question not in seen and _has_rows(found.plan, schema, database):
            seen.add(found.question)
            yield found


def _has_rows(plan: QueryPlan, schema: LinkedSchema, database: Database) -> bool:
    try:
        statement = to_statement(plan, schema.graph)
    except PlanError:
        return False
    rows = run_rows(database, statement.text, statement.parameters)
    return bool(rows) and rows[0] not in ((0,), (None,))


@dataclass(frozen=True, slots=True)
class _Said:
    """Tests with the words for them, behind the noun ("with a fee above 5") and before it."""

    tests: tuple[Test, ...] = ()
    behind: str = ""
    before: str = ""


@dataclass(slots=True)
class _Questions:
    schema: LinkedSchema
    database: Database
    rng: random.Random
    _rows: dict[Item, list[object]] = field(default_factory=dict)

    def one(self) -> MadeUp | None:
        """A question, or None where the draw does not work out."""
        kinds: list[tuple[int, Callable[[int], MadeUp | None]]] = [
            (5, self.listed),
            (3, self.counted),
            (3, self.aggregated),
            (2, self.different),
            (3, self.group_counted),
            (2, self.group_aggregated),
            (3, self.having),
            (2, self.ordered),
            (3, self.superlative),
            (3, self.most_children),
            (3, self.never),
            (1, self.both),
            (1, self.above_average),
            (1, self.every_column),
        ]
        kind = self.rng.choices([k for _, k in kinds], [w for w, _ in kinds])[0]
        found = kind(self.rng.randrange(len(self.schema.tables)))
        return None if found is None else MadeUp(self._polished(found.question), found.plan)

    # -- words

    def say(self, *ways: str) -> str:
        return self.rng.choice(ways)

    def noun(self, table: int, plural: bool = True) -> str:
        words = [w for w in self.schema.words[table] if w not in ("ref", "tbl")]
        words = list(words) or list(self.schema.words[table])
        single = _single(words[-1])
        words[-1] = _plural(single) if plural else single
        return " ".join(words)

    def name(self, item: Item) -> str:
        """A column's name; without its last word, if that says nothing."""
        words = list(self.schema.words[self.schema.numbers[item]])
        if len(words) > 1 and words[-1] in ("on", "at", "cm", "kg", "mg"):
            words[-1:] = ["date"] if words[-1] in ("on", "at") else []
        return " ".join(words)

    def labels(self, table: int) -> tuple[Item, ...]:
        return tuple(Item(table, c) for c in label_columns(self.schema.tables[table]))

    # -- what there is

    def columns(self, table: int, fits: Callable[[Item], bool]) -> list[Item]:
        width = len(self.schema.tables[table].columns)
        return [item for c in range(width) if fits(item := Item(table, c))]

    def is_real(self, item: Item) -> bool:
        return self.schema.tables[item.table].columns[item.column].type == "real"

    def is_quantity(self, item: Item) -> bool:
        table = self.schema.tables[item.table]
        return (
            self.is_real(item)
            and not is_identifier(table, item.column)
            and not {0, 1, None}.issuperset(self.rows(item))
        )

    def is_kind(self, item: Item) -> bool:
        """Whether a column holds a few texts that many rows have."""
        rows = self.rows(item)
        texts = [value for value in rows if isinstance(value, str)]
        return (
            not self.is_real(item)
            and item not in self.schema.dates
            and bool(
                texts and len(set(texts)) <= max(2, len(rows) // 2) and max(map(len, texts)) < 40
            )
        )

    def rows(self, item: Item) -> list[object]:
        """A column's values, some hundred at most."""
        if item not in self._rows:
            table = self.schema.tables[item.table]
            quoted = table.columns[item.column].name.replace('"', '""')
            name = table.name.replace('"', '""')
            found = run_rows(self.database, f'SELECT "{quoted}" FROM "{name}" LIMIT 300')
            self._rows[item] = [row[0] for row in found or ()]
        return self._rows[item]

    def children(self, table: int) -> list[Join]:
        return [
            join for join in self.schema.graph.joins if join.parent == table and self._only(join)
        ]

    def _only(self, join: Join) -> bool:
        """Whether no other join is between the same tables."""
        pair = {join.child, join.parent}
        return sum({j.child, j.parent} == pair for j in self.schema.graph.joins) == 1

    def pick(self, items: Sequence[Item]) -> Item | None:
        return self.rng.choice(items) if items else None

    def shown(self, table: int) -> tuple[tuple[Item, ...], str] | None:
        """What is shown of a table's rows: "the price and the stock", or "" for its labels."""
        labels = self.labels(table)
        if labels and self.rng.random() < 0.6:
            return labels, ""
        plain = self.columns(
            table, lambda i: not is_identifier(self.schema.tables[table], i.column) or i.column == 0
        )
        if not plain:
            return None
        count = self.rng.choice((1, 1, 1, 2, 2, 3))
        items = tuple(self.rng.sample(plain, min(count, len(plain))))
        names = [self.name(item) for item in items]
        if len(items) == 1 or self.rng.random() < 0.7:
            names = [_plural(name) for name in names]
        return items, _joined(names)

    # -- tests

    def test(self, table: int) -> _Said | None:
        """One test on a row of a table, in words."""
        kind = self.rng.choice(("text", "text", "number", "number", "date", "null", "parent"))
        if kind == "parent":
            return self._of_parent(table)
        fits = {
            "text": self.is_kind,
            "number": self.is_quantity,
            "date": lambda i: i in self.schema.dates,
            "null": lambda i: any(value is None for value in self.rows(i)),
        }[kind]
        item = self.pick(self.columns(table, fits))
        if item is None:
            return None
        return {"text": self._text, "number": self._number, "date": self._date}.get(
            kind, self._null
        )(item)

    def tests(self, table: int) -> _Said:
        """None, one, or two tests."""
        count = self.rng.choice((0, 1, 1, 1, 2))
        found = [said for _ in range(count) if (said := self.test(table))]
        items = [test.item for said in found for test in said.tests]
        if not found or len(set(items)) < len(items):
            return found[0] if found else _Said()
        return _Said(
            tuple(test for said in found for test in said.tests),
            f" {self.say('and', 'and', 'but')} ".join(s.behind for s in found if s.behind),
            " ".join(s.before for s in found if s.before),
        )

    def _text(self, item: Item) -> _Said:
        texts = sorted({value for value in self.rows(item) if isinstance(value, str) and value})
        value = self.rng.choice(texts)
        name, last = self.name(item), self.schema.words[self.schema.numbers[item]][-1]
        if self.rng.random() < 0.2 and len(texts) > 1:
            other = self.rng.choice([text for text in texts if text != value])
            test = Test(item, "=", (PlanValue(value), PlanValue(other)))
            if last in _PLACES and self.rng.random() < 0.6:
                return _Said((test,), f"{self.say('in', 'from')} {value} or {other}")
            ways = (f"whose {name} is {value} or {other}", f"with {name} {value} or {other}")
            return _Said((test,), self.say(*ways, f"with either {value} or {other} as {name}"))
        if self.rng.random() < 0.15:
            test = Test(item, "!=", (PlanValue(value),))
            place = f"not {self.say('in', 'from')} {value}"
            ways = (f"whose {name} is not {value}", f"with a {name} other than {value}")
            return _Said((test,), place if last in _PLACES else self.say(*ways))
        test = Test(item, "=", (PlanValue(value),))
        ways = [f"whose {name} is {value}", f"with {name} {value}", f"where the {name} is {value}"]
        if last in _PLACES:
            ways += [f"in {value}", f"from {value}", f"located in {value}"]
        elif value[:1].islower() and " " not in value and self.rng.random() < 0.5:
            return _Said((test,), before=value)
        if self.rng.random() < 0.15:
            value_said = f"'{value}'"
            ways = [way.replace(value, value_said) for way in ways]
        return _Said((test,), self.say(*ways))

    def _number(self, item: Item) -> _Said | None:
        numbers = [value for value in self.rows(item) if isinstance(value, (int, float))]
        if not numbers:
            return None
        value, name = self.rng.choice(numbers), self.name(item)
        said = _said_number(value)
        operator = self.rng.choice((">", ">", "<", "<", ">=", "<=", "=", "between"))
        if operator == "between":
            low, high = sorted((value, self.rng.choice(numbers)))
            if low == high:
                return None
            values = (PlanValue(_said_number(low)), PlanValue(_said_number(high)))
            ways = f"with a {name} between", f"whose {name} is between"
            behind = f"{self.say(*ways)} {values[0].text} and {values[1].text}"
            return _Said((Test(item, "between", values),), behind)
        words = {
            ">": ("above", "over", "greater than", "of more than", "higher than", "larger than"),
            "<": ("below", "under", "less than", "lower than", "smaller than", "of less than"),
            ">=": ("of at least", "at least", "of no less than"),
            "<=": ("of at most", "at most", "up to"),
            "=": ("of", "equal to", "of exactly"),
        }[operator]
        behind = f"with a {name} {self.say(*words)} {said}"
        if operator in "<>" and self.rng.random() < 0.4:
            compared = "more than" if operator == ">" else self.say("less than", "fewer than")
            behind = f"{self.say('with', 'that have')} {compared} {said} {_plural(name)}"
        elif self.rng.random() < 0.3:
            behind = f"whose {name} is {self.say(*words).removeprefix('of ')} {said}"
        return _Said((Test(item, operator, (PlanValue(said),)),), behind)

    def _date(self, item: Item) -> _Said | None:
        days = [value for value in self.rows(item) if isinstance(value, str)]
        if not days:
            return None
        day = date.fromisoformat(self.rng.choice(days)[:10])
        name = self.name(item)
        words = self.schema.words[self.schema.numbers[item]]
        first = "".join(words[:1])
        did = first.endswith("ed") and len(words) > 1  # joined on, opened at
        form = self.rng.choice(("year", "year", "month", "month", "day"))
        if form == "year":
            start, said = date(day.year, 1, 1), str(day.year)
            end = date(day.year + 1, 1, 1)
        elif form == "month":
            start, said = day.replace(day=1), f"{_MONTHS[day.month - 1]} {day.year}"
            end = (start + timedelta(32)).replace(day=1)
        else:
            start, end = day, day + timedelta(1)
            said = self.say(day.isoformat(), f"{_MONTHS[day.month - 1]} {day.day}, {day.year}")
        value = PlanValue(said, start.isoformat(), end.isoformat())
        if form == "year" and self.rng.random() < 0.25:
            later = day.year + self.rng.randint(1, 4)
            second = PlanValue(str(later), f"{later}-01-01", f"{later + 1}-01-01")
            ways = (f"between {said} and {later}", f"from {said} to {later}")
            behind = f"{first if did else f'with a {name}'} {self.say(*ways)}"
            return _Said((Test(item, "between", (value, second)),), behind)
        operator = self.rng.choice(("=", "=", "<", ">", ">="))
        on = "on" if form == "day" else "in"
        link = {"=": on, "<": "before", ">": "after", ">=": "since"}[operator]
        if did:
            behind = self.say(f"{first} {link} {said}", f"that were {first} {link} {said}")
        else:
            behind = self.say(f"with a {name} {link} {said}", f"whose {name} is {link} {said}")
        return _Said((Test(item, operator, (value,)),), behind)

    def _null(self, item: Item) -> _Said:
        name = self.name(item)
        if self.rng.random() < 0.7:
            ways = (f"without a {name}", f"with no {name}", f"that have no {name}")
            ways = (*ways, f"whose {name} is missing", f"that are missing a {name}")
            return _Said((Test(item, "is null"),), self.say(*ways))
        ways = (f"that have a {name}", f"with a {name}", f"whose {name} is known")
        return _Said((Test(item, "is not null"),), self.say(*ways))

    def _of_parent(self, table: int) -> _Said | None:
        """A test on the row that a row belongs to: "of the patient Ann Lee"."""
        parents = [j for j in self.schema.graph.joins if j.child == table and self._only(j)]
        if not parents:
            return None
        parent = self.rng.choice(parents).parent
        noun, labels = self.noun(parent, plural=False), self.labels(parent)
        if not labels or self.rng.random() < 0.3:
            item = self.pick(self.columns(parent, self.is_kind))
            if item is None:
                return None
            said = self._text(item)
            if not said.behind:
                return None
            article = "an" if noun[0] in "aeiou" else "a"
            ways = (f"of {article} {noun}", f"of {self.noun(parent)}", f"by {self.noun(parent)}")
            return replace(said, behind=f"{self.say(*ways)} {said.behind}")
        columns = [self.rows(item) for item in labels]
        if not columns[0]:
            return None
        row = self.rng.randrange(min(map(len, columns)))
        texts = [values[row] for values in columns]
        if not all(isinstance(text, str) and text for text in texts):
            return None
        name = " ".join(map(str, texts))
        pairs = zip(labels, map(str, texts), strict=True)
        tests = tuple(Test(item, "=", (PlanValue(text),)) for item, text in pairs)
        ways = (f"of {name}", f"by {name}", f"for {name}", f"from {name}", f"of the {noun} {name}")
        return _Said(tests, self.say(*ways, f"for the {noun} {name}", f"with {noun} {name}"))

    def _phrase(self, table: int, said: _Said) -> str:
        return f"{said.before} {self.noun(table)} {said.behind}"

    # -- kinds of questions

    def listed(self, table: int) -> MadeUp | None:
        shown, said = self.shown(table), self.tests(table)
        if shown is None or (not said.tests and not shown[1]):
            return None
        items, names = shown
        phrase = self._phrase(table, said)
        if names:
            ways = (f"what are the {names} of {phrase}?", f"{names} of {phrase}")
            ways = (*ways, f"list the {names} of {phrase}", f"show me the {names} of all {phrase}")
            ways = (*ways, f"give the {names} of the {phrase}", f"find the {names} for {phrase}")
        else:
            ways = (f"which {phrase} are there?", f"list {phrase}", f"show all {phrase}", phrase)
            ways = (*ways, f"who are the {phrase}?", f"what {phrase} do we have?")
            ways = (*ways, f"names of {phrase}", f"find the names of the {phrase}")
        return MadeUp(self.say(*ways), QueryPlan(_plain(items), where=said.tests))

    def every_column(self, table: int) -> MadeUp | None:
        said = self.tests(table)
        phrase = self._phrase(table, said)
        ways = (f"show all information about {phrase}", f"all details of {phrase}")
        ways = (*ways, f"show everything about the {phrase}")
        return MadeUp(self.say(*ways), QueryPlan((Selected(Item(table)),), where=said.tests))

    def counted(self, table: int) -> MadeUp | None:
        said = self.tests(table)
        phrase = self._phrase(table, said)
        ways = (f"how many {phrase} are there?", f"how many {phrase} do we have?")
        ways = (*ways, f"number of {phrase}", f"count the {phrase}", f"how many {phrase}?")
        return MadeUp(
            self.say(*ways, f"what is the number of {phrase}?"),
            QueryPlan((Selected(Item(table), COUNT),), where=said.tests),
        )

    def _aggregate(self) -> tuple[int, str]:
        aggregate = self.rng.choice((_AVG, _AVG, _SUM, _MAX, _MIN))
        words = {
            _AVG: ("average", "mean"),
            _SUM: ("total", "total", "sum of the"),
            _MAX: ("highest", "maximum", "largest"),
            _MIN: ("lowest", "minimum", "smallest"),
        }[aggregate]
        return aggregate, self.say(*words)

    def aggregated(self, table: int) -> MadeUp | None:
        item = self.pick(self.columns(table, self.is_quantity))
        if item is None:
            return None
        aggregate, word = self._aggregate()
        said = self.tests(table)
        name, phrase = self.name(item), self._phrase(table, said)
        ways = (f"what is the {word} {name} of {phrase}?", f"{word} {name} of all {phrase}")
        ways = (*ways, f"find the {word} {name} of the {phrase}", f"{word} {name} for {phrase}")
        plan = QueryPlan((Selected(item, aggregate),), where=said.tests)
        return MadeUp(self.say(*ways), plan)

    def different(self, table: int) -> MadeUp | None:
        item = self.pick(self.columns(table, self.is_kind))
        if item is None:
            return None
        name, said = _plural(self.name(item)), self.tests(table)
        if any(test.item == item for test in said.tests):
            return None
        word = self.say("different", "distinct", "unique", "different")
        phrase = self._phrase(table, said)
        if self.rng.random() < 0.5:
            plan = QueryPlan((Selected(item, COUNT, True),), where=said.tests)
            ways = (
                f"how many {word} {name} do {phrase} have?",
                f"number of {word} {name} of {phrase}",
            )
            return MadeUp(
                self.say(*ways, f"how many {word} {name} are there among {phrase}?"), plan
            )
        ways = (f"what are the {word} {name} of {phrase}?", f"list the {word} {name} of {phrase}")
        plan = QueryPlan((Selected(item),), distinct=True, where=said.tests)
        return MadeUp(self.say(*ways, f"which {name} do our {phrase} have?"), plan)

    def _group(self, table: int) -> tuple[tuple[Item, ...], str, int] | None:
        """What rows of a table are grouped by, in the singular, and its table: a kind or parent."""
        parents = [j for j in self.schema.graph.joins if j.child == table and self._only(j)]
        if parents and self.rng.random() < 0.6:
            parent = self.rng.choice(parents).parent
            if labels := self.labels(parent):
                return labels, self.noun(parent, plural=False), parent
        item = self.pick(self.columns(table, self.is_kind))
        return None if item is None else ((item,), self.name(item), table)

    def group_counted(self, table: int) -> MadeUp | None:
        group, said = self._group(table), self.tests(table) if self.rng.random() < 0.3 else _Said()
        if group is None:
            return None
        items, each, of = group
        if any(test.item.table == of != table or test.item in items for test in said.tests):
            return None
        phrase = self._phrase(table, said)
        per = self.say("per", "for each", "by", "in each", "for every", "of each")
        ways = [f"number of {phrase} {per} {each}", f"how many {phrase} are there {per} {each}?"]
        ways += [
            f"for each {each}, how many {phrase} are there?",
            f"count the {phrase} {per} {each}",
        ]
        if of != table:
            ways += [
                f"how many {phrase} does each {each} have?",
                f"{_plural(each)} and their number of {phrase}",
            ]
        plan = QueryPlan((*_plain(items), Selected(Item(table), COUNT)), where=said.tests)
        return MadeUp(self.say(*ways), plan)

    def group_aggregated(self, table: int) -> MadeUp | None:
        group, item = self._group(table), self.pick(self.columns(table, self.is_quantity))
        if group is None or item is None:
            return None
        items, each, _ = group
        aggregate, word = self._aggregate()
        name, per = self.name(item), self.say("per", "for each", "by", "in each", "of every")
        ways = (f"{word} {name} {per} {each}", f"what is the {word} {name} {per} {each}?")
        ways = (*ways, f"for each {each}, what is the {word} {name} of the {self.noun(table)}?")
        return MadeUp(self.say(*ways), QueryPlan((*_plain(items), Selected(item, aggregate))))

    def _family(self, table: int) -> tuple[int, int, tuple[Item, ...]] | None:
        """A table with labels, and one whose rows belong to it."""
        joins = [j for j in self.children(table) if self.labels(table)]
        if not joins:
            return None
        return table, self.rng.choice(joins).child, self.labels(table)

    def having(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        parent, child, labels = family
        count = self.rng.randint(1, 6)
        operator = self.rng.choice((">", ">", ">=", ">=", "<", "="))
        said = _NUMERALS[count] if self.rng.random() < 0.6 else str(count)
        words = {">": "more than", ">=": "at least", "<": "fewer than", "=": "exactly"}[operator]
        children = self.noun(child)
        ways = (f"which {self.noun(parent)} have {words} {said} {children}?",)
        ways = (*ways, f"{self.noun(parent)} with {words} {said} {children}")
        ways = (*ways, f"find the {self.noun(parent)} that have {words} {said} {children}")
        test = Test(Item(child), operator, (PlanValue(str(count)),), COUNT)
        return MadeUp(self.say(*ways), QueryPlan(_plain(labels), where=(test,)))

    def ordered(self, table: int) -> MadeUp | None:
        shown, item = self.shown(table), self.pick(self.columns(table, self._is_ordering))
        if shown is None or item is None:
            return None
        items, names = shown
        down = self.rng.random() < 0.5
        said = self.tests(table) if self.rng.random() < 0.3 else _Said()
        phrase, name = self._phrase(table, said), self.name(item)
        what = f"the {names} of {phrase}" if names else f"all {phrase}"
        if down:
            how = (
                f"from highest to lowest {name}",
                f"by {name} in descending order",
                f"{name} descending",
            )
        else:
            how = (f"by {name}", f"by {name} in ascending order", f"from lowest to highest {name}")
        ways = (f"list {what} sorted {self.say(*how)}", f"show {what} ordered {self.say(*how)}")
        plan = QueryPlan(_plain(items), where=said.tests, order=Order(item, 0, down))
        return MadeUp(self.say(*ways, f"{what} {self.say(*how)}"), plan)

    def _is_ordering(self, item: Item) -> bool:
        return self.is_quantity(item) or item in self.schema.dates

    def superlative(self, table: int) -> MadeUp | None:
        item = self.pick(self.columns(table, self._is_ordering))
        shown = self.shown(table)
        if item is None or shown is None:
            return None
        items, names = shown
        down = self.rng.random() < 0.6
        words = self.schema.words[self.schema.numbers[item]]
        known = next((_SUPERLATIVES[w] for w in words if w in _SUPERLATIVES), None)
        said = self.tests(table) if self.rng.random() < 0.3 else _Said()
        if any(test.item == item for test in said.tests):
            return None
        limit = 1 if self.rng.random() < 0.65 else self.rng.randint(2, 9)
        noun = self.noun(table, plural=limit > 1)
        count = "" if limit == 1 else f"{self.rng.choice((str(limit), _NUMERALS[limit]))} "
        if known and self.rng.random() < 0.6:
            phrase = f"{count}{known[0] if down else known[1]} {said.before} {noun} {said.behind}"
        else:
            if item in self.schema.dates:
                most = self.say("latest", "most recent") if down else self.say("earliest", "first")
            else:
                most = (
                    self.say("highest", "largest", "most")
                    if down
                    else self.say("lowest", "smallest")
                )
            most = "highest" if most == "most" else most
            phrase = f"{count}{said.before} {noun} {said.behind} with the {most} {self.name(item)}"
        is_are = "is" if limit == 1 else "are"
        if names:
            ways = (
                f"what {is_are} the {names} of the {phrase}?",
                f"show the {names} of the {phrase}",
            )
        else:
            ways = (
                f"what {is_are} the {phrase}?",
                f"which {is_are} the {phrase}?",
                f"the {phrase}",
            )
            ways = (*ways, f"show the {phrase}", f"find the name of the {phrase}")
        plan = QueryPlan(_plain(items), where=said.tests, order=Order(item, 0, down), limit=limit)
        return MadeUp(self.say(*ways), plan)

    def most_children(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        parent, child, labels = family
        down = self.rng.random() < 0.75
        limit = 1 if self.rng.random() < 0.75 else self.rng.randint(2, 6)
        noun, children = self.noun(parent, plural=limit > 1), self.noun(child)
        most = (
            self.say("most", "most", "largest number of") if down else self.say("fewest", "least")
        )
        if limit == 1:
            ways = (
                f"which {noun} has the {most} {children}?",
                f"{noun} with the {most} {children}",
            )
            ways = (*ways, f"what is the name of the {noun} with the {most} {children}?")
        else:
            said = self.rng.choice((str(limit), _NUMERALS[limit]))
            ways = (f"which {said} {noun} have the {most} {children}?",)
            ways = (*ways, f"the {said} {noun} with the {most} {children}")
        plan = QueryPlan(
            _plain(labels), order=Order(Item(child), COUNT, down), limit=limit, tables=(child,)
        )
        return MadeUp(self.say(*ways), plan)

    def never(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        parent, child, labels = family
        said = self.test(child) if self.rng.random() < 0.3 else _Said()
        if said is None or any(test.item.table == parent for test in said.tests):
            return None
        phrase = self._phrase(child, said)
        no = self.say("have no", "have never had any", "do not have any", "don't have", "never had")
        counts = self.rng.random() < 0.3
        noun = self.noun(parent)
        if counts:
            ways = (f"how many {noun} {no} {phrase}?", f"number of {noun} without {phrase}")
        else:
            ways = (f"which {noun} {no} {phrase}?", f"{noun} without any {phrase}")
            ways = (*ways, f"list the {noun} that {no} {phrase}", f"{noun} with no {phrase}")
        tests = said.tests
        companion = Companion("never", (child,), tests)
        shown = (Selected(Item(parent), COUNT),) if counts else _plain(labels)
        return MadeUp(self.say(*ways), QueryPlan(shown, companion=companion))

    def both(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        parent, child, labels = family
        others = [
            j.parent for j in self.schema.graph.joins if j.child == child and j.parent != parent
        ]
        items = self.columns(child, self.is_kind)
        for other in others:
            items += self.labels(other)[:1]
        item = self.pick(items)
        if item is None:
            return None
        texts = sorted({value for value in self.rows(item) if isinstance(value, str) and value})
        if len(texts) < 2:
            return None
        one, two = self.rng.sample(texts, 2)
        noun, children = self.noun(parent), self.noun(child)
        ways = (f"which {noun} have both {one} and {two} {children}?",)
        ways = (
            *ways,
            f"{noun} with both {one} and {two}",
            f"{noun} that have {one} as well as {two} {children}",
        )
        first, second = (Test(item, "=", (PlanValue(text),)) for text in (one, two))
        tables = tuple(sorted({child, item.table}))
        plan = QueryPlan(
            _plain(labels),
            tables=tables,
            where=(first,),
            companion=Companion("both", (parent, *tables), (second,)),
        )
        return MadeUp(self.say(*ways), plan)

    def above_average(self, table: int) -> MadeUp | None:
        item, shown = self.pick(self.columns(table, self.is_quantity)), self.shown(table)
        if item is None or shown is None:
            return None
        items, names = shown
        up = self.rng.random() < 0.7
        words = (
            self.say("above", "higher than", "greater than", "larger than")
            if up
            else self.say("below", "lower than", "less than")
        )
        what = f"the {names} of {self.noun(table)}" if names else self.noun(table)
        name = self.name(item)
        ways = (
            f"{what} whose {name} is {words} average",
            f"which {what} have a {name} {words} the average?",
        )
        ways = (*ways, f"list {what} with a {name} {words} the average {name}")
        companion = Companion("scalar", item=item, operator=">" if up else "<", aggregate=_AVG)
        return MadeUp(self.say(*ways), QueryPlan(_plain(items), companion=companion))

    def _polished(self, text: str) -> str:
        """One blank between words, who for that where it is said of people, a capital or none."""
        text = re.sub(r"\s+", " ", text).strip().replace(" ?", "?").replace(" ,", ",")
        if self.rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
        if self.rng.random() < 0.3:
            text = text.rstrip("?")
        if self.rng.random() < 0.15:
            text = text.lower()
        return text


def _plain(items: Sequence[Item]) -> tuple[Selected, ...]:
    return tuple(Selected(item) for item in items)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _single(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _plural(phrase: str) -> str:
    if phrase.endswith(("s", "x", "ch", "sh")):
        return phrase if phrase.endswith("s") and not phrase.endswith("ss") else phrase + "es"
    if phrase.endswith("y") and phrase[-2:-1] not in "aeiou":
        return phrase[:-1] + "ies"
    return phrase + "s"


def _said_number(value: float) -> str:
    return f"{value:.12g}"


# -- all of it together


@dataclass(frozen=True, slots=True)
class Prepared:
    """What :func:`prepare` wrote.

    Attributes:
        sources: source -> questions to train on.
        held_out: questions on the databases that are held out.
        left: reason -> gold questions without a plan.
    """

    sources: Mapping[str, int]
    held_out: int
    left: Mapping[str, int]


def prepare(
    golds: Sequence[GoldQuestion],
    folders: Sequence[str | Path],
    out: str | Path,
    *,
    schemas: Mapping[str, Sequence[str]] | None = None,
    held_out: float = 0.08,
    on_each: int = 40,
    on_made_up: int = 250,
    seed: int = 0,
) -> Prepared:
    """Writes ``plans.jsonl`` and ``held_out.jsonl``, and made-up databases in ``databases``.

    Args:
        golds: questions with gold SQL.
        folders: where their SQLite files are.
        out: the directory.
        schemas: of the made-up databases; see :func:`read_schemas`.
        held_out: share of the gold questions, by whole databases, to be held out of training.
        on_each: made-up questions on each database of gold questions.
        on_made_up: on each made-up one.
        seed: of the draws.

    Raises:
        InputError: if there are no gold questions, none has a plan, a schema can't be filled, or
            ``out`` holds other files by these names.
    """
    if not golds:
        raise InputError("There are no questions.", "Give a file with at least one.")
    out = Path(out)
    for name in ("held_out.jsonl", "plans.jsonl"):
        try:
            read_planned(out / name)  # of an earlier run, to be replaced
        except InputError:
            refuse_foreign(out, name)
    for folder in folders:
        if not Path(folder).is_dir():
            raise InputError(f"{folder} is not a directory.", "Give the databases' directory.")
    planned, left = planned_gold(golds, folders)
    counts = Counter(gold.db_id for gold in golds)
    held: set[str] = set()
    for db_id in sorted(counts, key=lambda name: sha256(f"plans:{name}".encode()).hexdigest()):
        if sum(counts[name] for name in held) < held_out * len(golds):
            held.add(db_id)
    training = [one for one in planned if one.db_id not in held]
    for db_id in sorted(counts.keys() - held):
        training += _made_up_on(db_id, folders, on_each, seed)
    if not planned and not training:
        raise InputError(
            f"None of the {len(golds)} questions has a plan: "
            + ", ".join(f"{count} {reason}" for reason, count in left.items())
            + ".",
            "Check the databases and the questions' db_id.",
        )
    made = out / "databases"
    made.mkdir(parents=True, exist_ok=True)
    for schema, tables in (schemas or {}).items():
        name = f"made_up_{schema}"
        path = child(made, f"{name}.sqlite", "the schemas")
        path.unlink(missing_ok=True)
        fill_database(tables, path, random.Random(f"{seed}:{name}"))
        training += _made_up_on(name, [made], on_made_up, seed)
    rest = [one for one in planned if one.db_id in held]
    write_planned(out / "held_out.jsonl", rest)
    write_planned(out / "plans.jsonl", training)
    return Prepared(Counter(one.source for one in training), len(rest), left)


def _made_up_on(
    db_id: str, folders: Sequence[str | Path], count: int, seed: int
) -> list[PlannedQuestion]:
    database = find_database(folders, db_id)
    if database is None:
        return []
    try:
        schema = LinkedSchema(database.tables, database)
        rng = random.Random(f"{seed}:{db_id}")
        return [
            PlannedQuestion(db_id, one.question, one.plan, "made up")
            for one in made_up_questions(schema, database, count, rng)
        ]
    finally:
        database.close()


# -- made-up databases

_FIRST = """
    Ann Ben Carla David Elena Felix Greta Hugo Irma Jonas Karin Leo Nora Otto Paula Ralf Sara Theo
    Ute Victor Wanda Xenia Yann Zoe Alice Bruno Clara Diego Edith Frank Gina Henry Iris Jack
"""
_LAST = """
    Adler Bauer Costa Dietrich Evans Fischer Gruber Hansen Ivanov Jansen Klein Lopez Moreau Nowak
    Olsen Peters Quinn Richter Sanders Torres Ullman Vogel Walker Young Ziegler Brooks Carter Diaz
"""
_CITIES = "Berlin London Madrid Oslo Rome Vienna Lisbon Dublin Prague Zurich Hamburg Lyon"
_COUNTRIES = "Germany France Spain Norway Italy Austria Portugal Ireland Poland Canada"
_COLUMN = re.compile(r"(?P<name>\w+)(?P<null>\??)(?P<how>[:=*>].*)?")


def read_schemas(path: str | Path) -> dict[str, list[str]]:
    """The tables of each made-up database in a file such as ``recipes/sql_schemas.txt``.

    Raises:
        InputError: if it can't be read, or a table belongs to no database.
    """
    found: dict[str, list[str]] = {}
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}.") from None
    name = ""
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            name = line.strip("[]")
            found[name] = []
        elif name and ":" in line:
            found[name].append(line)
        else:
            raise InputError(f"Line {number} of {path} is neither [NAME] nor a table.")
    return found


def fill_database(tables: Sequence[str], path: str | Path, rng: random.Random) -> None:
    """Makes a SQLite file of made-up tables with 20 to 60 rows each.

    Raises:
        InputError: if a table is not written as the schemas file says.
    """
    connection = sqlite3.connect(path)
    keys: dict[str, tuple[str, list[object]]] = {}
    line = ""
    try:
        for line in tables:
            name, _, rest = line.partition(":")
            _fill_table(connection, name.strip(), rest.split(), keys, rng)
        connection.commit()
    except sqlite3.Error as error:
        raise InputError(f"The table {line!r} can't be made: {error}.") from None
    finally:
        connection.close()


def _fill_table(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    keys: dict[str, tuple[str, list[object]]],
    rng: random.Random,
) -> None:
    count = rng.randint(20, 60)
    declared, references, filled = [], [], []
    for place, column in enumerate(columns):
        match = _COLUMN.fullmatch(column)
        if match is None:
            raise InputError(f"The column {column!r} of {table} is not understood.")
        name, how = match["name"], match["how"] or ""
        is_nullable = bool(match["null"]) or how.endswith("?")
        how = how.rstrip("?").replace("_", " ") if how.startswith(("=", "*")) else how.rstrip("?")
        if how.startswith("*"):
            count = min(count, len(how[1:].split("|")))
        is_key = place == 0 and not how.startswith(">")
        kind = "TEXT"
        if how.startswith(">"):
            target, values = keys[how[1:]]
            used = values[: max(1, int(0.8 * len(values)))]
            filled.append([rng.choice(used) for _ in range(count)])
            kind = "INTEGER" if isinstance(values[0], int) else "TEXT"
            references.append(f'FOREIGN KEY ("{name}") REFERENCES "{how[1:]}" ("{target}")')
        elif is_key and not how:
            start = rng.choice((1, 1, 100, 1000))
            filled.append(list(range(start, start + count)))
            kind = "INTEGER PRIMARY KEY"
        else:
            filled.append([_cell(name, how, i, rng) for i in range(count)])
            if re.match(r":\d", how) or how == ":flag":
                kind = "REAL" if how.endswith(".") else "INTEGER"
            elif how == ":date":
                kind = "DATE"
            kind += " PRIMARY KEY" if is_key else ""
        if is_nullable:
            filled[-1] = [None if rng.random() < 0.25 else value for value in filled[-1]]
        if place == 0:
            keys[table] = str(name), list(filled[-1])
        declared.append(f'"{name}" {kind}')
    filled = [values[:count] for values in filled]
    keys[table] = keys[table][0], filled[0]
    connection.execute(f'CREATE TABLE "{table}" ({", ".join([*declared, *references])})')
    marks = ", ".join("?" * len(columns))
    connection.executemany(
        f'INSERT INTO "{table}" VALUES ({marks})', list(zip(*filled, strict=True))
    )


def _cell(name: str, how: str, row: int, rng: random.Random) -> object:
    if how.startswith("="):
        return rng.choice(how[1:].split("|"))
    if how.startswith("*"):
        values = how[1:].split("|")
        return values[row % len(values)]
    if how == ":flag":
        return rng.randint(0, 1)
    if how == ":date":
        return (date(2018, 1, 1) + timedelta(rng.randrange(2700))).isoformat()
    if how:
        low, _, high = how[1:].rstrip(".").partition("-")
        if how.endswith("."):
            return round(rng.uniform(int(low), int(high)), 2)
        return rng.randint(int(low), int(high))
    first, last = rng.choice(_FIRST.split()), rng.choice(_LAST.split())
    made = {
        "first_name": first,
        "last_name": last,
        "city": rng.choice(_CITIES.split()),
        "country": rng.choice(_COUNTRIES.split()),
        "email": f"{first}.{last}@example.com".lower(),
        "phone": f"555-{rng.randrange(10_000):04}",
        "street_address": f"{rng.randint(1, 99)} {last} Street",
        "username": f"{first.lower()}{rng.randrange(100)}",
    }
    return made.get(name, f"{first} {last}")
