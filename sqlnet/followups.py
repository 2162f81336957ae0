"""The forms of a follow-up and the change of plan for each: rules for :mod:`codegen.sqlnet.chat`.

A line becomes a sequence of words and marks (a value, a number, a period, a column, a table); a
form is a regular expression over the whole sequence, so that no word is ignored. Its rule returns
the changed plan and a description of the change, or raises if the line is ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice

from codegen.errors import CodegenError
from codegen.sqlnet.plan import (
    COUNT,
    ROWS,
    Item,
    Order,
    PlanValue,
    QueryPlan,
    Selected,
    Test,
    is_identifier,
    is_repeated,
    label_columns,
    the_tree,
)
from codegen.sqlnet.plan_features import LinkedSchema, Mention, mentions_of
from codegen.sqlnet.query import AGGREGATES
from codegen.sqlnet.words import stem, tokenize

_MOST_VARIANTS = 96  # sequences tried for a line
_INVOLVED = "The previous question is too complex for this; ask a complete question."
_OF_WHICH = "Of the previous {}, or of all? Ask a complete question."
_MOST_TOKENS = 40


class NotUnderstood(CodegenError):
    """A follow-up can't be taken as a change of the last plan; the message says why."""


def is_list(plan: QueryPlan) -> bool:
    """Whether a plan lists rows, without groups or aggregates."""
    return not (plan.group or any(shown.aggregate for shown in plan.select))


# --- the words of a follow-up ---------------------------------------------------------------------

_AGGREGATE_WORDS = {
    "average": "AVG", "mean": "AVG", "avg": "AVG", "total": "SUM", "sum": "SUM", "highest": "MAX",
    "maximum": "MAX", "largest": "MAX", "lowest": "MIN", "minimum": "MIN", "smallest": "MIN",
}  # fmt: skip
_COMPARISONS = {
    ">": "more than|over|above|greater than|higher than|larger than|after|later than|exceeding",
    "<": "less than|under|below|fewer than|lower than|smaller than|before|earlier than",
    ">=": "at least|no less than|since",
    "<=": "at most|no more than|up to|until",
}
_HIGH = ("highest", "largest", "biggest", "most", "greatest", "maximum", "latest")
_LOW = ("lowest", "smallest", "least", "fewest", "minimum", "earliest")
_DOWN = (
    "descending|desc|in descending order|highest first|largest first|most first|latest first"
    "|newest first|biggest first|from high to low|z to a|from z to a"
)
_UP = (
    "ascending|asc|in ascending order|lowest first|smallest first|fewest first|earliest first"
    "|oldest first|least first|from low to high|a to z|from a to z|alphabetically"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to take a line: the rule, the pattern's parts, and what its marks stand for.

    Attributes:
        rule: gives the changed plan and says what it changed.
        parts: the pattern's named groups.
        values, names, words: what each mark stands for, and the words of a name's mark.
    """

    rule: Callable[[Change], tuple[QueryPlan, str]]
    parts: dict[str, str]
    values: dict[str, Mention]
    names: dict[str, tuple[Item, ...]]
    words: dict[str, str]


def readings(text: str, schema: LinkedSchema, today: date | None) -> Iterator[Reading]:
    """The ways to take a line as a follow-up, by the first rule that matches."""
    spans = [token for token in tokenize(text) if token.text not in ",.?!;:'\"`"]
    if not 0 < len(spans) <= _MOST_TOKENS:
        return
    values: dict[str, Mention] = {}
    names: dict[str, tuple[Item, ...]] = {}
    said: dict[str, str] = {}
    ways: list[list[tuple[int, str]]] = [
        [(i + 1, spans[i].text.lower())] for i in range(len(spans))
    ]
    for number, mention in enumerate(mentions_of(text, spans, schema, today)):
        for kind in _kinds(mention):
            values[f"<{kind}{number}>"] = mention
            ways[mention.first].append((mention.last + 1, f"<{kind}{number}>"))
    stems = [stem(token.text.lower()) for token in spans]
    for first in range(len(spans)):
        for last in range(first, min(first + 4, len(spans))):
            for kind, items in _named(schema, tuple(stems[first : last + 1])):
                mark = f"<{kind}{first}x{last}>"
                names[mark] = items
                said[mark] = text[spans[first].start : spans[last].end]
                ways[first].append((last + 1, mark))
    lines = [" ".join(marks) for marks in islice(_paths(ways, 0), _MOST_VARIANTS)]
    for rule, pattern in _RULES:
        found = []
        for line in lines:
            if match := pattern.fullmatch(line):
                parts = {k.rstrip("23"): v for k, v in match.groupdict().items() if v}
                found.append(Reading(rule, parts, values, names, said))
        if found:
            yield from found
            return


def _kinds(mention: Mention) -> Iterator[str]:
    """v: a cell; n: a number; d: a period of time."""
    if mention.cells:
        yield "v"
    if mention.number is not None:
        yield "n"
    if mention.start:
        yield "d"


def _paths(ways: Sequence[Sequence[tuple[int, str]]], first: int) -> Iterator[list[str]]:
    """The sequences of marks and words for a line, longest marks first."""
    if first == len(ways):
        yield []
        return
    for end, mark in sorted(ways[first], key=lambda way: -way[0]):
        for rest in _paths(ways, end):
            yield [mark, *rest]


def _named(schema: LinkedSchema, stems: tuple[str, ...]) -> Iterator[tuple[str, tuple[Item, ...]]]:
    """c: columns with this name, alone or after their table's name; t: tables."""
    columns: list[Item] = []
    tables: list[Item] = []
    for number in schema.named.get(stems[-1], ()):
        item, own = schema.items[number], schema.stems[number]
        if item.column == ROWS:
            tables += [item] * (own == stems)
            continue
        of_table = schema.stems[schema.numbers[Item(item.table)]]
        short = own[len(of_table) :] if own[: len(of_table)] == of_table else own
        columns += [item] * (stems in (own, short, (*of_table, *short)))
    if columns:
        yield "c", tuple(columns)
    elif stems == ("nam",):  # "name" means a table's label columns
        labels = [Item(t, c) for t, one in enumerate(schema.tables) for c in label_columns(one)]
        if labels:
            yield "c", tuple(labels)
    if tables:
        yield "t", tuple(tables)


# --- the rules ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A plan, and a line that changes it."""

    schema: LinkedSchema
    plan: QueryPlan
    reading: Reading

    @property
    def main(self) -> int:
        """The table whose rows are listed or counted."""
        return self.plan.select[0].item.table

    def changed(self, **fields: object) -> QueryPlan:
        """The plan with other parts, its tables kept."""
        new = replace(self.plan, **fields)  # type: ignore[arg-type]
        used = {item.table for item in new.items()}
        return replace(new, tables=tuple(sorted({*self.plan.tables, self.main} - used)))

    # -- what marks stand for

    def column(self, mark: str) -> Item:
        """The column that a name means in the plan.

        Raises:
            NotUnderstood: if it may mean none or several.
        """
        return self._one(self.reading.names[mark], self.reading.words[mark])

    def _one(self, items: Sequence[Item], said: str) -> Item:
        """The item in, by preference, the main table, the plan's other tables, or a table with one
        row for each row of the main one.
        """
        tables = self.plan.required()
        for chosen in (
            [item for item in items if item.table == self.main],
            [item for item in items if item.table in tables],
            [item for item in items if self.belongs(item.table)],
        ):
            if len({item.table for item in chosen}) > 1:
                break
            if len(chosen) == 1 or (chosen and self._are_a_label(chosen)):
                return chosen[0]
            if chosen:
                break
        names = " or ".join(self.full_name(item) for item in items[:3])
        if len(items) == 1:
            raise NotUnderstood(f"The previous question does not mention {names} ({said!r}).")
        raise NotUnderstood(f"I do not know what {said!r} means here: {names}?")

    def _are_a_label(self, items: Sequence[Item]) -> bool:
        table = self.schema.tables[items[0].table]
        return [item.column for item in items] == label_columns(table)

    def belongs(self, table: int) -> bool:
        """Whether a table has one row for each row of the main one."""
        try:
            tree = the_tree(self.schema.graph, {self.main, table}, self.plan.keys)
        except CodegenError:
            return False
        return not is_repeated({self.main}, tree, frozenset())

    def full_name(self, item: Item) -> str:
        """Table and column, as the database has them."""
        table = self.schema.tables[item.table]
        return f"{table.name}.{table.columns[item.column].name}"

    def name_of(self, item: Item) -> str:
        """A column's name in words."""
        table = self.schema.tables[item.table]
        return table.name if item.column == ROWS else " ".join(table.columns[item.column].words)

    def is_number(self, item: Item) -> bool:
        """Whether a column holds quantities."""
        table = self.schema.tables[item.table]
        is_real = item.column != ROWS and table.columns[item.column].type == "real"
        return is_real and not is_identifier(table, item.column)

    def periods(self, tables: Collection[int]) -> list[Item]:
        """The columns of tables that hold dates or years."""
        numbers = (item for item in self.schema.items if self.is_number(item))
        years = [item for item in numbers if "year" in self.name_of(item).split()]
        return sorted(item for item in {*self.schema.dates, *years} if item.table in tables)

    def marks(self, part: str, kinds: str = "a-z") -> list[str]:
        """The marks in a part of the pattern."""
        return re.findall(rf"<[{kinds}][^>]+>", self.reading.parts[part])

    def counts_rows(self) -> bool:
        """Whether the plan gives the number of rows of the main table, and no more."""
        return self.plan.select == (Selected(Item(self.main), COUNT),)

    # -- tests

    def tested(self) -> tuple[Item, list[Mention]]:
        """The column and the values of "<v1> or <v2>"; a column's name may be beside them."""
        found = [self.reading.values[mark] for mark in self.marks("values", "v")]
        shared = set(found[0].cells).intersection(*(mention.cells for mention in found))
        if mark := self.reading.parts.get("column"):
            named = self.column(mark)
            if named not in shared:
                raise NotUnderstood(f"No {self.name_of(named)} is {found[0].text!r}.")
            return named, found
        tested = {t.item for t in self.plan.where if t.operator == "=" and not t.aggregate}
        if len(both := tested & shared) == 1 and self.reading.rule in (_other_value, _how_many_of):
            return both.pop(), found
        said = " and ".join(mention.text for mention in found)
        return self._one(sorted(shared), said), found

    def values_of(self, item: Item, mentions: Sequence[Mention]) -> tuple[PlanValue, ...]:
        """What mentions are as values of a column."""
        table = self.schema.tables[item.table]
        return tuple(m.value_for(item, table, item in self.schema.dates) for m in mentions)

    def may_be_narrowed(self, item: Item) -> None:
        """Refuses a further test where it would be ambiguous."""
        plan = self.plan
        if plan.limit is not None:
            raise NotUnderstood(_OF_WHICH.format(plan.limit))
        rows = [test for test in plan.where if not test.aggregate]
        if plan.any_of and len(rows) > 1:
            raise NotUnderstood("The previous question has alternatives; ask a complete question.")
        companion = plan.companion
        if companion and (companion.kind in ("union", "scalar") or item.table != self.main):
            raise NotUnderstood(_INVOLVED)

    def with_test(self, test: Test) -> QueryPlan:
        """The plan with a further test."""
        if test in self.plan.where:
            raise NotUnderstood("That is so already.")
        return self.changed(where=(*self.plan.where, test))


def _only(change: Change) -> tuple[QueryPlan, str]:
    item, found = change.tested()
    change.may_be_narrowed(item)
    name = change.name_of(item)
    if any(test.item == item and test.operator == "=" for test in change.plan.where):
        raise NotUnderstood(f"The {name} is fixed already.", f"Say: what about {found[0].text}?")
    values = change.values_of(item, found)
    return change.with_test(Test(item, "=", values)), f"only where {name} is {_either(values)}"


def _without(change: Change) -> tuple[QueryPlan, str]:
    item, found = change.tested()
    change.may_be_narrowed(item)
    name = change.name_of(item)
    if any(test.item == item for test in change.plan.where):
        raise NotUnderstood(f"There is a condition on the {name} already.")
    if item.table != change.main:
        raise NotUnderstood(
            f"{change.full_name(item)} belongs to another table; ask a complete question."
        )
    values = change.values_of(item, found)
    return change.with_test(Test(item, "!=", values)), f"not where {name} is {_either(values)}"


def _either(values: Sequence[PlanValue]) -> str:
    return " or ".join(value.text for value in values)


def _other_value(change: Change) -> tuple[QueryPlan, str]:
    """What about Rome: in place of the value of its column, or in addition."""
    item, found = change.tested()
    plan, values = change.plan, change.values_of(item, found)
    fixed = [t for t in plan.where if t.item == item and not t.aggregate]
    said = f"the {change.name_of(item)} is {_either(values)}"
    if not fixed:
        change.may_be_narrowed(item)
        if plan.companion:
            raise NotUnderstood(_INVOLVED)
        return change.with_test(Test(item, "=", values)), said
    if len(fixed) > 1 or fixed[0].operator != "=":
        raise NotUnderstood(f"The condition on the {change.name_of(item)} is not a single value.")
    if fixed[0].values == values:
        raise NotUnderstood("That is so already.")
    where = tuple(replace(t, values=values) if t is fixed[0] else t for t in plan.where)
    return change.changed(where=where), f"{said}, not {_either(fixed[0].values)}"


def _other_period(change: Change) -> tuple[QueryPlan, str]:
    """What about 2016: in place of the period, or in addition."""
    plan, mention = change.plan, change.reading.values[change.reading.parts["values"]]
    fits = change.periods(plan.required())
    fixed = [test for test in plan.where if test.item in fits and not test.aggregate]
    if len(fixed) > 1 or (fixed and fixed[0].operator == "between"):
        raise NotUnderstood("The previous question has several periods; ask a complete question.")
    if not fixed and len(fits) != 1:
        raise NotUnderstood(f"I do not know which date should be in {mention.text}.")
    item = fixed[0].item if fixed else fits[0]
    values = change.values_of(item, [mention])
    said = f"the {change.name_of(item)} is {mention.text}"
    if fixed:
        where = tuple(replace(t, values=values) if t is fixed[0] else t for t in plan.where)
        return change.changed(where=where), said
    change.may_be_narrowed(item)
    return change.with_test(Test(item, "=", values)), said


def _compared(change: Change) -> tuple[QueryPlan, str]:
    parts, plan = change.reading.parts, change.plan
    marks = change.marks("values", "nd")
    found = [change.reading.values[mark] for mark in marks]
    is_period = any(mark.startswith("<d") for mark in marks)
    operator = "between" if len(found) > 1 else next(
        (sign for sign, words in _COMPARISONS.items() if parts.get("operator") in words.split("|")),
        "=",
    )  # fmt: skip
    aggregates = [shown for shown in plan.select if shown.aggregate]
    if mark := parts.get("column"):
        item, aggregate = change.column(mark), 0
    elif plan.grouped() and len(aggregates) == 1 and not is_period:
        item, aggregate = aggregates[0].item, aggregates[0].aggregate
    else:
        shown = {s.item for s in plan.select} | ({plan.order.item} if plan.order else set())
        tables = plan.required()
        fits = change.periods(tables) if is_period else [*filter(change.is_number, sorted(shown))]
        if len(fits) != 1:
            raise NotUnderstood(f"What should be {parts.get('operator', 'in')} {found[0].text}?")
        (item,), aggregate = fits, 0
    is_fit = item in change.periods([item.table]) if is_period else change.is_number(item)
    if not aggregate and not is_fit:
        raise NotUnderstood(f"{change.full_name(item)} can't be compared with {found[0].text!r}.")
    change.may_be_narrowed(item)
    if any(t.item == item and t.aggregate == aggregate for t in plan.where):
        raise NotUnderstood(f"There is a condition on the {change.name_of(item)} already.")
    values = change.values_of(Item(item.table) if aggregate else item, found)
    said = " and ".join(value.text for value in values)
    name = "number" if aggregate else change.name_of(item)
    return (
        change.with_test(Test(item, operator, values, aggregate)),
        f"only where the {name} is {operator} {said}",
    )


def _grouped(change: Change) -> tuple[QueryPlan, str]:
    plan = change.plan
    if plan.order or plan.limit is not None or plan.companion:
        raise NotUnderstood(_INVOLVED)
    items = [_of_group(change, mark) for mark in change.marks("by")]
    aggregates = [shown for shown in plan.select if shown.aggregate]
    if change.reading.parts.get("many"):
        if not is_list(plan):
            raise NotUnderstood(
                "The previous question already has numbers; ask a complete question."
            )
        aggregates = [Selected(Item(change.main), COUNT)]
    if not aggregates:
        raise NotUnderstood("Grouped or sorted? Say 'how many by ...', or 'sorted by ...'.")
    if plan.grouped() and not change.reading.parts.get("instead"):
        raise NotUnderstood("The answer is grouped already.", "Say: by ... instead.")
    if any(item in [test.item for test in plan.where] for item in items):
        raise NotUnderstood(f"The {change.name_of(items[0])} is fixed already.")
    if any(test.aggregate for test in plan.where):
        raise NotUnderstood("The groups have a condition; ask a complete question.")
    shown = tuple(Selected(item) for item in items)
    said = " and ".join(change.name_of(item) for item in items)
    select = (*shown, *aggregates)
    new = replace(change.changed(select=select, group=tuple(items)), distinct=False)
    return new, f"for each {said}"


def _of_group(change: Change, mark: str) -> Item:
    if mark.startswith("<c"):
        return change.column(mark)
    (table, *more) = change.reading.names[mark]
    labels = label_columns(change.schema.tables[table.table])
    if more or len(labels) != 1 or not (
        table.table == change.main or change.belongs(table.table)
    ):  # fmt: skip
        raise NotUnderstood(f"I do not know which column names {change.reading.words[mark]!r}.")
    return Item(table.table, labels[0])


def _no_such_group(change: Change) -> tuple[QueryPlan, str]:
    unit = change.reading.parts["unit"]
    raise NotUnderstood(f"No column is a {unit}, and dates are not grouped by {unit} here.")


def _sorted(change: Change) -> tuple[QueryPlan, str]:
    plan, parts = change.plan, change.reading.parts
    if plan.companion and plan.companion.kind not in ("never", "scalar"):
        raise NotUnderstood("The previous answer can't be sorted; ask a complete question.")
    if plan.limit is not None:
        raise NotUnderstood(_OF_WHICH.format(plan.limit))
    down = bool(parts.get("down"))
    aggregates = [shown for shown in plan.select if shown.aggregate]
    if parts.get("number"):
        if len(aggregates) != 1 or not plan.grouped():
            raise NotUnderstood("There is no number for each row to sort by.")
        if not (down or parts.get("up")):
            raise NotUnderstood("The highest or the lowest first?")
        order, name = Order(aggregates[0].item, aggregates[0].aggregate, down), "number"
    else:
        item = change.column(parts["column"])
        if plan.grouped() and item not in plan.grouped():
            raise NotUnderstood(f"The groups have no {change.name_of(item)}.")
        if aggregates and not plan.grouped():
            raise NotUnderstood("A single number can't be sorted.")
        order, name = Order(item, 0, down), change.name_of(item)
    direction = "from high to low" if down else "from low to high"
    return change.changed(order=order), f"sorted by {name}, {direction}"


def _reversed(change: Change) -> tuple[QueryPlan, str]:
    plan = change.plan
    if plan.order:
        flipped = replace(plan.order, descending=not plan.order.descending)
        return change.changed(order=flipped), "the order is reversed"
    ends = {AGGREGATES.index("MAX"): AGGREGATES.index("MIN")}
    ends |= {low: high for high, low in ends.items()}
    if len(plan.select) == 1 and plan.select[0].aggregate in ends and not plan.group:
        shown = replace(plan.select[0], aggregate=ends[plan.select[0].aggregate])
        return change.changed(select=(shown,)), "the other end"
    raise NotUnderstood("There is no order that could be reversed.")


def _first(change: Change) -> tuple[QueryPlan, str]:
    plan = change.plan
    mark = change.reading.parts.get("number")
    number = change.reading.values[mark].number if mark else 1.0
    if plan.order is None:
        raise NotUnderstood("The first by what? First say how to sort them.")
    if number is None or not 1 <= number <= 1000 or number != int(number):
        raise NotUnderstood(f"{number:g} is not a number of rows.")
    return change.changed(limit=int(number)), f"the first {int(number)} alone"


def _most(change: Change) -> tuple[QueryPlan, str]:
    """Which of them has the highest price."""
    plan = change.plan
    item = change.column(change.reading.parts["column"])
    if not is_list(plan) or plan.order or plan.limit is not None:
        raise NotUnderstood("This works only after a plain list; ask a complete question.")
    if not (change.is_number(item) or item in change.schema.dates):
        raise NotUnderstood(f"{change.full_name(item)} has no highest value.")
    change.may_be_narrowed(item)
    if plan.companion:
        raise NotUnderstood(_INVOLVED)
    down = change.reading.parts["end"] in _HIGH
    new = change.changed(order=Order(item, 0, down), limit=1)
    return new, f"the one with the {change.reading.parts['end']} {change.name_of(item)}"


def _how_many(change: Change) -> tuple[QueryPlan, str]:
    plan = change.plan
    if not is_list(plan) or plan.limit is not None:
        raise NotUnderstood("Of what? The previous answer is not a plain list.")
    if plan.companion and plan.companion.kind not in ("never", "scalar"):
        raise NotUnderstood("The previous answer can't be counted; ask a complete question.")
    shown = plan.select[0]
    if plan.distinct and len(plan.select) == 1 and shown.item.column != ROWS:
        select = Selected(shown.item, COUNT, distinct=True)
    else:
        select = Selected(Item(change.main), COUNT)
    return replace(change.changed(select=(select,), order=None), distinct=False), "their number"


def _how_many_of(change: Change) -> tuple[QueryPlan, str]:
    """How many in Rome, after a number of all or of those in Oslo."""
    if [shown.aggregate for shown in change.plan.select] != [COUNT]:
        raise NotUnderstood("How many of what? The previous question has no number.")
    return _other_value(change)


def _listed(change: Change) -> tuple[QueryPlan, str]:
    """Which ones: what was counted."""
    plan = change.plan
    shown = plan.select[0]
    if len(plan.select) > 1 or shown.aggregate != COUNT or plan.group:
        raise NotUnderstood("Which ones do you mean? The previous question counts nothing.")
    if shown.item.column != ROWS:
        return change.changed(select=(Selected(shown.item),), distinct=shown.distinct), "the list"
    labels = label_columns(change.schema.tables[change.main])
    items = [Item(change.main, column) for column in labels] or [Item(change.main)]
    return change.changed(select=tuple(map(Selected, items))), "the list"


def _also(change: Change) -> tuple[QueryPlan, str]:
    if not is_list(change.plan):
        raise NotUnderstood("Columns can be added only to a plain list.")
    if change.plan.distinct:
        raise NotUnderstood("The list has each value once; with more columns it is another list.")
    shown = change.plan.select
    items = [item for item in _with_labels(change) if Selected(item) not in shown]
    if not items:
        raise NotUnderstood("It is shown already.")
    said = " and ".join(change.name_of(item) for item in items)
    return change.changed(select=(*shown, *map(Selected, items))), f"also the {said}"


def _their(change: Change) -> tuple[QueryPlan, str]:
    plan = change.plan
    if plan.group or not (is_list(plan) or change.counts_rows()) or plan.distinct:
        raise NotUnderstood("The previous answer is not a plain list.")
    for mark in change.marks("columns"):
        if (said := change.reading.words[mark].lower()) in _AGGREGATE_WORDS:  # also of a column
            raise NotUnderstood(f"The {said} of what? Name the column.")
    labels = label_columns(change.schema.tables[change.main])
    names = [Item(change.main, column) for column in labels]
    items = [item for item in _with_labels(change) if item not in names]
    said = " and ".join(change.name_of(item) for item in items) or "names"
    select = tuple(map(Selected, [*names, *items]))  # with the columns that identify a row
    return change.changed(select=select), f"their {said}"


def _with_labels(change: Change) -> list[Item]:
    """The columns that the line names; "name" may be a first and a last name."""
    found: list[Item] = []
    for mark in change.marks("columns"):
        item = change.column(mark)
        labels = label_columns(change.schema.tables[item.table])
        same = [i for i in change.reading.names[mark] if i.table == item.table]
        is_label = len(same) > 1 and [i.column for i in same] == labels
        found += same if is_label else [item]
    return list(dict.fromkeys(found))


def _aggregated(change: Change) -> tuple[QueryPlan, str]:
    plan, parts = change.plan, change.reading.parts
    item = change.column(parts["column"])
    if (
        plan.group
        or not (is_list(plan) or change.counts_rows())
        or plan.limit is not None
        or plan.distinct
    ):
        raise NotUnderstood("Of what? The previous answer is not a plain list.")
    if not change.is_number(item):
        raise NotUnderstood(f"{change.full_name(item)} is not a quantity.")
    if item.table != change.main:
        raise NotUnderstood(
            f"{change.full_name(item)} belongs to another table; ask a complete question."
        )
    name = _AGGREGATE_WORDS[parts["aggregate"]]
    shown = Selected(item, AGGREGATES.index(name))
    said = f"their {parts['aggregate']} {change.name_of(item)}"
    return change.changed(select=(shown,), order=None), said


# --- the patterns ---------------------------------------------------------------------------------

# <v1> is a value, <n1> a number, <d1> a period, <c1x2> a column, <t1x2> a table. A group whose name
# ends in 2 or 3 is the same part at another place.
_C, _T = r"<c\d+x\d+>", r"<t\d+x\d+>"
_LEAD = r"(?:(?:and|but|now|then|ok|okay|so|please) )*"
_THEM = rf"(?:those|these|them|they|(?:the|those|these) (?:ones|{_T}))"
_WHICH = (
    r"(?:(?:only|just)(?: show| list)?(?: me)?|keep(?: only)?|(?:show|list)(?: me)? (?:only|just)"
    rf"|which(?: ones?| of {_THEM})?|of {_THEM} only|of {_THEM} which|who)"
)
_ARE = r"(?:(?:which|that|who|whose|where)? ?(?:are|is|was|were|live|lives|located|based) )?"
_IN = r"(?:(?:from|in|at|on|of|with|for|by|to) )?"
_VALUES = r"(?P<values><v\d+>(?: (?:or|and) (?:from |in |the )?<v\d+>)*)"
_COLUMN = rf"(?:(?:the |a |an |their )?(?P<column>{_C}) (?:is |are |of |= )?)?"
_VALUE_OF = rf"(?:whose |where )?(?:the )?{_COLUMN}{_VALUES}"
_END = rf"(?: ones| only| {_T})?"
_OPERATOR = "|".join(_COMPARISONS.values())
_ABOUT = r"(?:what about|how about|(?:the )?same (?:for|in|from|with)|for|in|from)"
_UNIT = r"(?P<unit>day|week|month|quarter|year|decade)"
_PER = r"(?:by|per|for each|for every|in each) (?:the )?"
_SPLIT = (
    r"(?:(?:group|break|broken|split|show|count)(?:ed)?(?: down| up)? )?"
    r"(?:(?:that|it|them|those|this) )?(?:broken down )?"
)
_WORDS = "|".join(_AGGREGATE_WORDS)

_Rule = Callable[[Change], tuple[QueryPlan, str]]
_PATTERNS: tuple[tuple[_Rule, str], ...] = (
    (_without, rf"{_WHICH} (?:{_THEM} )?{_ARE}not {_IN}{_VALUE_OF}{_END}"),
    (_without, r"(?:all )?(?:except|without|excluding|but not|not|leave out|other than) "
               rf"(?:{_THEM} )?{_ARE}{_IN}{_VALUE_OF}{_END}"),
    (_only, rf"{_WHICH} (?:{_THEM} )?{_ARE}{_IN}{_VALUE_OF}{_END}"),
    (_other_value, rf"{_ABOUT} (?:{_THEM} )?{_IN}{_VALUE_OF}{_END}(?: instead)?"),
    (_how_many_of, rf"how many(?: of {_THEM})?(?: are)?(?: there)? (?:from|in|at) {_VALUE_OF}"),
    (_other_value, rf"(?P<and>and|now|then) {_IN}{_VALUE_OF}{_END}(?: instead)?"),
    (_other_period, rf"(?:{_ABOUT}|and|now|then) (?:in |for )?(?P<values><d\d+>)(?: instead)?"),
    (_compared, rf"{_WHICH} (?:{_THEM} )?{_ARE}(?:(?:with|whose|where|have|has|had|having) )?"
                rf"(?:the |a |an |their )?(?:(?P<column>{_C}) (?:is |are |of |that is )?)?"
                rf"(?:(?P<operator>{_OPERATOR}) (?P<values><[nd]\d+>)"
                r"|(?:in |on |from )(?P<values2><d\d+>)"
                r"|between (?P<values3><[nd]\d+> and <[nd]\d+>))"
                rf"(?: (?P<column2>{_C}))?"),
    (_no_such_group, rf"{_SPLIT}{_PER}{_UNIT}"),
    (_grouped, rf"(?P<many>how many(?: of {_THEM})?(?: are there)? )?{_SPLIT}{_PER}"
               rf"(?P<by>(?:{_C}|{_T})(?: and (?:{_C}|{_T}))?)(?P<instead> instead)?"),
    (_sorted, r"(?:sort|order|rank|arrange)(?:ed)?(?: (?:them|it|those|these|that|the list))?"
              rf" by (?:the |their )?(?:(?P<column>{_C})|(?P<number>number|count|total|average))"
              rf"(?: (?:(?P<down>{_DOWN})|(?P<up>{_UP})))?"),
    (_reversed, r"(?:(?:the )?other way (?:round|around)|backwards|(?:in )?(?:the )?opposite order"
                r"|(?:in )?reversed?(?: (?:it|them|(?:the )?order))?)"),
    (_first, r"(?:(?:only|just|show|keep)(?: me)? )*(?:the )?(?:first|top) "
             rf"(?:(?P<number><n\d+>)|one)(?: (?:only|ones|rows|of {_THEM}))?"),
    (_most, rf"(?:which|who|what)(?: ones?| of {_THEM})? (?:has|have|is|with) the "
            rf"(?P<end>{'|'.join((*_HIGH, *_LOW))}) (?P<column>{_C})"),
    (_how_many, rf"(?:how many(?: (?:of )?(?:{_THEM}|they|there|ones))?"
                r"(?: are there| are they| are those| is that| in total| are these)*"
                rf"|count {_THEM})"),
    (_listed, r"(?:which(?: ones)?(?: are (?:they|those|these))?|who are (?:they|those|these)"
              rf"|(?:list|show)(?: me)? (?:{_THEM}|which ones)|what are they)"),
    (_aggregated, r"(?:(?:what is|what s|what are|show|give)(?: me)? )?"
                  rf"(?:their (?P<aggregate>{_WORDS}) (?P<column>{_C})"
                  rf"|(?:the )?(?P<aggregate2>{_WORDS}) (?P<column2>{_C}) of (?:all )?{_THEM})"),
    (_also, r"(?:also|add|along with|together with|with)(?: show| list)?(?: me)? "
            rf"(?:their |its |the )*(?P<columns>{_C}(?: and (?:their |the )?{_C})*)"
            r"(?: too| as well)?"),
    (_also, rf"(?P<and>and) (?:also )?(?:their |its |the )?(?P<columns>{_C})(?: too| as well)?"),
    (_their, r"(?:(?:what|who) (?:is|are|s)|show|list|give|tell)(?: me)? "
             rf"(?:(?:only |just )?(?:their|its) (?P<columns>{_C}(?: and (?:their )?{_C})*)"
             rf"|(?:only |just )?the (?P<columns2>{_C}(?: and (?:the )?{_C})*)"
             rf" (?:of|for) (?:all )?{_THEM})"),
)  # fmt: skip
# A leading "and" is part of some patterns, and optional before the others.
_RULES = tuple(
    (rule, re.compile(pattern if "?P<and>" in pattern else _LEAD + pattern))
    for rule, pattern in _PATTERNS
)
