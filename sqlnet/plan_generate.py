"""Made-up questions with plans, on real or made-up databases, to train a plan network on.

A kind of plan is drawn, then what fills it, then words for each part, from several ways to say it.
A question is kept if its plan gives rows on the database. Limit: a few dozen templates; they add
kinds of questions that a data set lacks (dates, NULLs, names in two columns, "never"), and do not
replace one.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from codegen.config import read_yaml
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
from codegen.sqlnet.words import quoted

_MAX, _MIN, _SUM, _AVG = (AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))
_PLACES = {"city", "country", "region", "state", "location", "town", "area", "district"}
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

# The ways to say each part of a question, and adjectives for much and for little of a quantity.
_WAYS: dict[str, Any] = read_yaml(Path(__file__).with_name("wordings.yaml"))


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

    def say(self, ways: str | list[str], **parts: str) -> str:
        """One of the ways, separated by "|" if they are one text, with its parts filled in."""
        ways = ways.split("|") if isinstance(ways, str) else ways
        return self.rng.choice(ways).strip().format(**parts)

    def noun(self, table: int, plural: bool = True) -> str:
        words = [w for w in self.schema.words[table] if w not in ("ref", "tbl")]
        words = words or list(self.schema.words[table])
        single = _single(words[-1])
        words[-1] = _plural(single) if plural else single
        return " ".join(words)

    def words(self, item: Item) -> tuple[str, ...]:
        return self.schema.words[self.schema.numbers[item]]

    def name(self, item: Item) -> str:
        """A column's name; without its last word, if that says nothing."""
        words = list(self.words(item))
        if len(words) > 1 and words[-1] in ("on", "at", "cm", "kg", "mg"):
            words[-1:] = ["date"] if words[-1] in ("on", "at") else []
        return " ".join(words)

    def labels(self, table: int) -> tuple[Item, ...]:
        return tuple(Item(table, c) for c in label_columns(self.schema.tables[table]))

    # -- what there is

    def columns(self, table: int, fits: Callable[[Item], bool]) -> list[Item]:
        width = len(self.schema.tables[table].columns)
        return [item for c in range(width) if fits(item := Item(table, c))]

    def is_quantity(self, item: Item) -> bool:
        return (
            self.schema.is_real(item)
            and not is_identifier(self.schema.tables[item.table], item.column)
            and not {0, 1, None}.issuperset(self.rows(item))
        )

    def is_kind(self, item: Item) -> bool:
        """Whether a column holds a few texts that many rows have."""
        rows = self.rows(item)
        texts = [value for value in rows if isinstance(value, str)]
        return (
            not self.schema.is_real(item)
            and item not in self.schema.dates
            and any(texts)
            and len(set(texts)) <= max(2, len(rows) // 2)
            and max(map(len, texts)) < 40
        )

    def texts(self, item: Item) -> list[str]:
        return sorted({value for value in self.rows(item) if isinstance(value, str) and value})

    def rows(self, item: Item) -> list[object]:
        """A column's values, some hundred at most."""
        if item not in self._rows:
            table = self.schema.tables[item.table]
            names = quoted(table.columns[item.column].name), quoted(table.name)
            found = run_rows(self.database, "SELECT {} FROM {} LIMIT 300".format(*names))
            self._rows[item] = [row[0] for row in found or ()]
        return self._rows[item]

    def parents(self, table: int) -> list[Join]:
        return [j for j in self.schema.graph.joins if j.child == table and self._only(j)]

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
        fits, say = {
            "text": (self.is_kind, self._text),
            "number": (self.is_quantity, self._number),
            "date": (lambda i: i in self.schema.dates, self._date),
            "null": (lambda i: any(value is None for value in self.rows(i)), self._null),
        }[kind]
        item = self.pick(self.columns(table, fits))
        return None if item is None else say(item)

    def tests(self, table: int) -> _Said:
        """None, one, or two tests."""
        count = self.rng.choice((0, 1, 1, 1, 2))
        found = [said for _ in range(count) if (said := self.test(table))]
        items = [test.item for said in found for test in said.tests]
        if not found or len(set(items)) < len(items):
            return found[0] if found else _Said()
        return _Said(
            tuple(test for said in found for test in said.tests),
            f" {self.say('and | and | but')} ".join(s.behind for s in found if s.behind),
            " ".join(s.before for s in found if s.before),
        )

    def maybe_tests(self, table: int) -> _Said:
        return self.tests(table) if self.rng.random() < 0.3 else _Said()

    def _text(self, item: Item) -> _Said:
        texts = self.texts(item)
        value = self.rng.choice(texts)
        name, is_place = self.name(item), self.words(item)[-1] in _PLACES
        if self.rng.random() < 0.2 and len(texts) > 1:
            other = self.rng.choice([text for text in texts if text != value])
            test = Test(item, "=", (PlanValue(value), PlanValue(other)))
            if is_place and self.rng.random() < 0.6:
                return _Said((test,), f"{self.say('in | from')} {value} or {other}")
            return _Said((test,), self.say(_WAYS["either"], name=name, value=value, other=other))
        if self.rng.random() < 0.15:
            test = Test(item, "!=", (PlanValue(value),))
            place = f"not {self.say('in | from')} {value}"
            return _Said(
                (test,), place if is_place else self.say(_WAYS["is_not"], name=name, value=value)
            )
        test, ways = Test(item, "=", (PlanValue(value),)), _WAYS["is_value"]
        if is_place:
            ways = ways + _WAYS["in_place"]
        elif value[:1].islower() and " " not in value and self.rng.random() < 0.5:
            return _Said((test,), before=value)
        if self.rng.random() < 0.15:
            value = f"'{value}'"
        return _Said((test,), self.say(ways, name=name, value=value))

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
            between = self.say("with a {name} between | whose {name} is between", name=name)
            behind = f"{between} {values[0].text} and {values[1].text}"
            return _Said((Test(item, "between", values),), behind)
        words = _WAYS["compared"][operator]
        behind = f"with a {name} {self.say(words)} {said}"
        if operator in "<>" and self.rng.random() < 0.4:
            compared = "more than" if operator == ">" else self.say("less than | fewer than")
            behind = f"{self.say('with | that have')} {compared} {said} {_plural(name)}"
        elif self.rng.random() < 0.3:
            behind = f"whose {name} is {self.say(words).removeprefix('of ')} {said}"
        return _Said((Test(item, operator, (PlanValue(said),)),), behind)

    def _date(self, item: Item) -> _Said | None:
        days = [found for value in self.rows(item) if (found := _day(value))]
        if not days:
            return None
        day, name, words = self.rng.choice(days), self.name(item), self.words(item)
        first = words[0]
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
            said = self.say(f"{day} | {_MONTHS[day.month - 1]} {day.day}, {day.year}")
        value = PlanValue(said, start.isoformat(), end.isoformat())
        if form == "year" and self.rng.random() < 0.25:
            later = day.year + self.rng.randint(1, 4)
            second = PlanValue(str(later), f"{later}-01-01", f"{later + 1}-01-01")
            years = self.say(f"between {said} and {later} | from {said} to {later}")
            behind = f"{first if did else f'with a {name}'} {years}"
            return _Said((Test(item, "between", (value, second)),), behind)
        operator = self.rng.choice(("=", "=", "<", ">", ">="))
        on = "on" if form == "day" else "in"
        link = {"=": on, "<": "before", ">": "after", ">=": "since"}[operator]
        ways = "{first} {when} | that were {first} {when}"
        if not did:
            ways = "with a {name} {when} | whose {name} is {when}"
        behind = self.say(ways, first=first, name=name, when=f"{link} {said}")
        return _Said((Test(item, operator, (value,)),), behind)

    def _null(self, item: Item) -> _Said:
        name = self.name(item)
        if self.rng.random() < 0.7:
            return _Said((Test(item, "is null"),), self.say(_WAYS["missing"], name=name))
        return _Said((Test(item, "is not null"),), self.say(_WAYS["given"], name=name))

    def _of_parent(self, table: int) -> _Said | None:
        """A test on the row that a row belongs to: "of the patient Ann Lee"."""
        if not (parents := self.parents(table)):
            return None
        parent = self.rng.choice(parents).parent
        noun, labels = self.noun(parent, plural=False), self.labels(parent)
        if not labels or self.rng.random() < 0.3:
            item = self.pick(self.columns(parent, self.is_kind))
            said = self._text(item) if item else _Said()
            if not said.behind:
                return None
            article = "an" if noun[0] in "aeiou" else "a"
            parts = {"one": f"{article} {noun}", "all": self.noun(parent)}
            of = self.say("of {one} | of {all} | by {all}", **parts)
            return replace(said, behind=f"{of} {said.behind}")
        columns = [self.rows(item) for item in labels]
        if not columns[0]:
            return None
        row = self.rng.randrange(min(map(len, columns)))
        texts = [str(values[row]) for values in columns if isinstance(values[row], str)]
        if len(texts) < len(labels) or not all(texts):
            return None
        pairs = zip(labels, texts, strict=True)
        tests = tuple(Test(item, "=", (PlanValue(text),)) for item, text in pairs)
        return _Said(tests, self.say(_WAYS["of_row"], name=" ".join(texts), noun=noun))

    def _phrase(self, table: int, said: _Said) -> str:
        return f"{said.before} {self.noun(table)} {said.behind}"

    # -- kinds of questions

    def listed(self, table: int) -> MadeUp | None:
        shown, said = self.shown(table), self.tests(table)
        if shown is None or (not said.tests and not shown[1]):
            return None
        items, names = shown
        ways = _WAYS["names_of"] if names else _WAYS["rows_of"]
        question = self.say(ways, names=names, phrase=self._phrase(table, said))
        return MadeUp(question, QueryPlan(_plain(items), where=said.tests))

    def every_column(self, table: int) -> MadeUp | None:
        said = self.tests(table)
        question = self.say(_WAYS["every_column"], phrase=self._phrase(table, said))
        return MadeUp(question, QueryPlan((Selected(Item(table)),), where=said.tests))

    def counted(self, table: int) -> MadeUp | None:
        said = self.tests(table)
        question = self.say(_WAYS["counted"], phrase=self._phrase(table, said))
        return MadeUp(question, QueryPlan((Selected(Item(table), COUNT),), where=said.tests))

    def _aggregate(self) -> tuple[int, str]:
        aggregate = self.rng.choice((_AVG, _AVG, _SUM, _MAX, _MIN))
        return aggregate, self.say(_WAYS["aggregate_words"][AGGREGATES[aggregate]])

    def aggregated(self, table: int) -> MadeUp | None:
        item = self.pick(self.columns(table, self.is_quantity))
        if item is None:
            return None
        aggregate, word = self._aggregate()
        said = self.tests(table)
        phrase = self._phrase(table, said)
        question = self.say(_WAYS["aggregated"], word=word, name=self.name(item), phrase=phrase)
        return MadeUp(question, QueryPlan((Selected(item, aggregate),), where=said.tests))

    def different(self, table: int) -> MadeUp | None:
        item = self.pick(self.columns(table, self.is_kind))
        if item is None:
            return None
        said = self.tests(table)
        if any(test.item == item for test in said.tests):
            return None
        word = self.say("different | distinct | unique | different")
        counts = self.rng.random() < 0.5
        ways = _WAYS["different_counted"] if counts else _WAYS["different"]
        name, phrase = _plural(self.name(item)), self._phrase(table, said)
        selected = Selected(item, COUNT, True) if counts else Selected(item)
        plan = QueryPlan((selected,), distinct=not counts, where=said.tests)
        return MadeUp(self.say(ways, word=word, name=name, phrase=phrase), plan)

    def _group(self, table: int) -> tuple[tuple[Item, ...], str, int] | None:
        """What rows of a table are grouped by, in the singular, and its table: a kind or parent."""
        parents = self.parents(table)
        if parents and self.rng.random() < 0.6:
            parent = self.rng.choice(parents).parent
            if labels := self.labels(parent):
                return labels, self.noun(parent, plural=False), parent
        item = self.pick(self.columns(table, self.is_kind))
        return None if item is None else ((item,), self.name(item), table)

    def group_counted(self, table: int) -> MadeUp | None:
        group, said = self._group(table), self.maybe_tests(table)
        if group is None:
            return None
        items, each, of = group
        if any(test.item.table == of != table or test.item in items for test in said.tests):
            return None
        per = self.say("per | for each | by | in each | for every | of each")
        ways = _WAYS["group_counted"] + _WAYS["children_counted"] * (of != table)
        parts = {"phrase": self._phrase(table, said), "per": per, "each": each}
        plan = QueryPlan((*_plain(items), Selected(Item(table), COUNT)), where=said.tests)
        return MadeUp(self.say(ways, **parts, all=_plural(each)), plan)

    def group_aggregated(self, table: int) -> MadeUp | None:
        group, item = self._group(table), self.pick(self.columns(table, self.is_quantity))
        if group is None or item is None:
            return None
        items, each, _ = group
        aggregate, word = self._aggregate()
        per = self.say("per | for each | by | in each | of every")
        parts = {"word": word, "name": self.name(item), "per": per, "each": each}
        question = self.say(_WAYS["group_aggregated"], **parts, noun=self.noun(table))
        return MadeUp(question, QueryPlan((*_plain(items), Selected(item, aggregate))))

    def _family(self, table: int) -> tuple[int, tuple[Item, ...]] | None:
        """A table whose rows belong to those of this one, and this one's labels."""
        joins = [j for j in self.schema.graph.joins if j.parent == table and self._only(j)]
        labels = self.labels(table)
        return (self.rng.choice(joins).child, labels) if joins and labels else None

    def having(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        child, labels = family
        count = self.rng.randint(1, 6)
        operator = self.rng.choice((">", ">", ">=", ">=", "<", "="))
        said = _NUMERALS[count] if self.rng.random() < 0.6 else str(count)
        words = {">": "more than", ">=": "at least", "<": "fewer than", "=": "exactly"}[operator]
        parts = {"noun": self.noun(table), "words": words, "count": said}
        test = Test(Item(child), operator, (PlanValue(str(count)),), COUNT)
        question = self.say(_WAYS["having"], **parts, children=self.noun(child))
        return MadeUp(question, QueryPlan(_plain(labels), where=(test,)))

    def ordered(self, table: int) -> MadeUp | None:
        shown, item = self.shown(table), self.pick(self.columns(table, self._is_ordering))
        if shown is None or item is None:
            return None
        items, names = shown
        down = self.rng.random() < 0.5
        said = self.maybe_tests(table)
        phrase, name = self._phrase(table, said), self.name(item)
        what = f"the {names} of {phrase}" if names else f"all {phrase}"
        orders = [self.say(_WAYS["down"] if down else _WAYS["up"], name=name) for _ in range(3)]
        verbs = ("list {} sorted {}", "show {} ordered {}", "{} {}")
        questions = [verb.format(what, order) for verb, order in zip(verbs, orders, strict=True)]
        plan = QueryPlan(_plain(items), where=said.tests, order=Order(item, 0, down))
        return MadeUp(self.rng.choice(questions), plan)

    def _is_ordering(self, item: Item) -> bool:
        return self.is_quantity(item) or item in self.schema.dates

    def superlative(self, table: int) -> MadeUp | None:
        item = self.pick(self.columns(table, self._is_ordering))
        shown = self.shown(table)
        if item is None or shown is None:
            return None
        items, names = shown
        down = self.rng.random() < 0.6
        superlatives = _WAYS["superlatives"]
        known = next((superlatives[w] for w in self.words(item) if w in superlatives), None)
        said = self.maybe_tests(table)
        if any(test.item == item for test in said.tests):
            return None
        limit = 1 if self.rng.random() < 0.65 else self.rng.randint(2, 9)
        noun = self.noun(table, plural=limit > 1)
        count = "" if limit == 1 else f"{self.rng.choice((str(limit), _NUMERALS[limit]))} "
        if known and self.rng.random() < 0.6:
            phrase = f"{count}{known[0] if down else known[1]} {said.before} {noun} {said.behind}"
        else:
            if item in self.schema.dates:
                most = self.say("latest | most recent" if down else "earliest | first")
            else:
                most = self.say("highest | largest | highest" if down else "lowest | smallest")
            phrase = f"{count}{said.before} {noun} {said.behind} with the {most} {self.name(item)}"
        are = "is" if limit == 1 else "are"
        ways = _WAYS["the_names"] if names else _WAYS["the_rows"]
        plan = QueryPlan(_plain(items), where=said.tests, order=Order(item, 0, down), limit=limit)
        return MadeUp(self.say(ways, are=are, names=names, phrase=phrase), plan)

    def most_children(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        child, labels = family
        down = self.rng.random() < 0.75
        limit = 1 if self.rng.random() < 0.75 else self.rng.randint(2, 6)
        most = self.say("most | most | largest number of" if down else "fewest | least")
        parts = {"noun": self.noun(table, plural=limit > 1), "children": self.noun(child)}
        if limit == 1:
            question = self.say(_WAYS["one_with_most"], **parts, most=most)
        else:
            count = self.rng.choice((str(limit), _NUMERALS[limit]))
            question = self.say(_WAYS["few_with_most"], **parts, most=most, count=count)
        order = Order(Item(child), COUNT, down)
        return MadeUp(question, QueryPlan(_plain(labels), (child,), order=order, limit=limit))

    def never(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        child, labels = family
        said = self.test(child) if self.rng.random() < 0.3 else _Said()
        if said is None or any(test.item.table == table for test in said.tests):
            return None
        no = self.say("have no | have never had any | do not have any | don't have | never had")
        counts = self.rng.random() < 0.3
        ways = _WAYS["never_counted"] if counts else _WAYS["never"]
        question = self.say(ways, noun=self.noun(table), no=no, phrase=self._phrase(child, said))
        shown = (Selected(Item(table), COUNT),) if counts else _plain(labels)
        companion = Companion("never", (child,), said.tests)
        return MadeUp(question, QueryPlan(shown, companion=companion))

    def both(self, table: int) -> MadeUp | None:
        if (family := self._family(table)) is None:
            return None
        child, labels = family
        items = self.columns(child, self.is_kind)
        for join in self.schema.graph.joins:
            if join.child == child and join.parent != table:
                items += self.labels(join.parent)[:1]
        item = self.pick(items)
        texts = self.texts(item) if item else []
        if item is None or len(texts) < 2:
            return None
        one, two = self.rng.sample(texts, 2)
        parts = {"noun": self.noun(table), "children": self.noun(child), "one": one, "two": two}
        first, second = (Test(item, "=", (PlanValue(text),)) for text in (one, two))
        tables = tuple(sorted({child, item.table}))
        companion = Companion("both", (table, *tables), (second,))
        plan = QueryPlan(_plain(labels), tables=tables, where=(first,), companion=companion)
        return MadeUp(self.say(_WAYS["both"], **parts), plan)

    def above_average(self, table: int) -> MadeUp | None:
        item, shown = self.pick(self.columns(table, self.is_quantity)), self.shown(table)
        if item is None or shown is None:
            return None
        items, names = shown
        up = self.rng.random() < 0.7
        words = self.say(
            "above | higher than | greater than | larger than"
            if up
            else "below | lower than | less than"
        )
        what = f"the {names} of {self.noun(table)}" if names else self.noun(table)
        companion = Companion("scalar", item=item, operator=">" if up else "<", aggregate=_AVG)
        question = self.say(_WAYS["beside_average"], what=what, name=self.name(item), words=words)
        return MadeUp(question, QueryPlan(_plain(items), companion=companion))

    def _polished(self, text: str) -> str:
        """One blank between words; at random a capital, no question mark, or all in lower case."""
        text = re.sub(r"\s+", " ", text).strip().replace(" ?", "?").replace(" ,", ",")
        if self.rng.random() < 0.5:
            text = text[:1].upper() + text[1:]
        if self.rng.random() < 0.3:
            text = text.rstrip("?")
        if self.rng.random() < 0.15:
            text = text.lower()
        return text


def _day(value: object) -> date | None:
    """The day that a cell of a column of dates begins with, if a next month follows it."""
    try:
        found = date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found and found.year < date.max.year else None


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
        sources: source -> number of training questions.
        held_out: number of questions on held-out databases.
        left: reason -> number of gold questions without a plan.
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
        schemas: of the made-up databases; see :func:`read_schemas`.
        held_out: share of the gold questions, by whole databases, to hold out of training.
        on_each: made-up questions for each database of gold questions.
        on_made_up: for each made-up database.

    Raises:
        InputError: if there are no gold questions, none has a plan, a schema can't be filled, or
            ``out`` holds other files by these names.
    """
    if not golds:
        raise InputError("There are no questions.", "Give a file with at least one.")
    out = Path(out)
    for name in ("held_out.jsonl", "plans.jsonl"):
        try:
            read_planned(out / name)  # an earlier run's may be replaced
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
_COLUMN = re.compile(
    r"(?P<name>\w+)(?P<null>\??)(?P<how>(?:[=*].+|>\w+|:(?:date|flag|\d+-\d+\.?))\??)?"
)


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
    keys: dict[str, tuple[str, list[object]]] = {}
    line = ""
    try:
        with closing(sqlite3.connect(path)) as connection:
            for line in tables:
                name, _, rest = line.partition(":")
                _fill_table(connection, name.strip(), rest.split(), keys, rng)
            connection.commit()
    except (sqlite3.Error, ValueError) as error:
        raise InputError(f"The table {line!r} can't be made: {error}.") from None


def _fill_table(
    connection: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    keys: dict[str, tuple[str, list[object]]],
    rng: random.Random,
) -> None:
    if not columns:
        raise ValueError("it has no columns")
    count = rng.randint(20, 60)
    declared, references, filled = [], [], []
    for place, column in enumerate(columns):
        match = _COLUMN.fullmatch(column)
        if match is None:
            raise ValueError(f"the column {column!r} is not understood")
        name, how = match["name"], match["how"] or ""
        is_nullable = bool(match["null"]) or how.endswith("?")
        how = how.rstrip("?").replace("_", " ") if how.startswith(("=", "*")) else how.rstrip("?")
        if how.startswith("*"):
            count = min(count, len(how[1:].split("|")))
        is_key = place == 0 and not how.startswith(">")
        kind = "TEXT"
        if how.startswith(">"):
            if how[1:] not in keys:
                raise ValueError(f"no table {how[1:]!r} comes before it")
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
        low, high = map(int, how[1:].rstrip(".").split("-"))
        return round(rng.uniform(low, high), 2) if how.endswith(".") else rng.randint(low, high)
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
