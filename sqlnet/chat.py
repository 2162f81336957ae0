"""A thread of questions to one database: "only those from Berlin", "and by status", "undo".

    chat = Chat(SQLNet.from_pretrained(), Schema.open("shop.db"))
    chat.ask("how many customers are there?").rows
    chat.ask("only those from Berlin")  # .kept, .changed and .asked say what was carried over

A follow-up changes the plan of the last answer (:mod:`codegen.sqlnet.plan`) by a rule of
:mod:`codegen.sqlnet.followups`. No language model guesses: every word must fit the rule's pattern,
every value must be a cell of one column that the thread can mean, and results are checked against
the last ones where possible. Anything else is a new question for the parser
(:mod:`codegen.sqlnet.parser`), which must name what it is about: "what is the average age?" may
mean all rows or those of the thread.

Limits: English; one change per turn; plans have no groups by month and no arithmetic.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice

from codegen.errors import CodegenError, ConfigError, plural
from codegen.sqlnet.cues import LIGHT_WORDS
from codegen.sqlnet.databases import DEFAULT_LIMITS, Rows, StatementLimits
from codegen.sqlnet.explain import clauses_of, sentence
from codegen.sqlnet.followups import Change, NotUnderstood, Reading, is_list, readings
from codegen.sqlnet.parser import SQLNet
from codegen.sqlnet.plan import COUNT, ROWS, Item, QueryPlan, Selected, Test, to_statement
from codegen.sqlnet.plan_features import Mention
from codegen.sqlnet.query import OPERATORS, Query, Statement
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.words import stem, tokenize

_UNDO = frozenset({"undo", "go back", "back", "undo that"})
_RESET = frozenset({"start over", "reset", "new question", "clear", "start again"})
_REFERRING = frozenset(
    {"them", "those", "these", "they", "it", "its", "their", "theirs", "ones", "same", "others"}
    | {"instead", "again", "previous", "this", "such"}
)
_CHANGES = re.compile(
    r"(?:only|just|what about|how about|also|without|except|sort(?:ed)?|top|by|per|same|reverse)\b",
    re.IGNORECASE,
)
_ONE = re.compile(r"\b(?:which|that|this|each|same|first|last) ones?\b", re.IGNORECASE)
_COMMON = frozenset({"only", "just", "except", "sorted", "sort", "order"})


@dataclass(frozen=True, slots=True)
class Turn:
    """The result of one line.

    Attributes:
        plan: None if nothing was understood.
        asked: the plan in plain words.
        is_new: whether it is a new question, with nothing carried over.
        kept: what is carried over, in plain words; "" if nothing.
        changed: what this line changed.
        statement, rows: the SQL and its result.
        doubt: why there is no answer; "" if there is one. The thread is then unchanged.
    """

    text: str
    plan: QueryPlan | None = None
    asked: str = ""
    is_new: bool = True
    kept: str = ""
    changed: str = ""
    statement: Statement | None = None
    rows: Rows | None = None
    doubt: str = ""
    note: str = ""


@dataclass
class Chat:
    """One thread.

    Attributes:
        parser: with a plan network.
        limits: of each statement.
        today: the day that "last month" refers to; by default the clock's.
        turns: the answers that "undo" may return to, latest last.
    """

    parser: SQLNet
    schema: Schema
    limits: StatementLimits = DEFAULT_LIMITS
    today: date | None = None
    turns: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.schema.database is None:
            raise ConfigError("A thread requires a database.", "Open a file: Schema.open.")
        if self.parser.plans is None:
            raise ConfigError("This model has no plan network.", "Use the package's model.")
        self._linked = self.parser.plans.linked(self.schema)
        self._failed: tuple[str, bool] | None = None  # a line without an answer; whether a question

    def ask(self, text: str) -> Turn:
        """Answers one line: a new question, or one that changes the last answer.

        Raises:
            InputError: if it is empty.
        """
        plain = " ".join(text.lower().split()).strip(" .!?")
        if plain in _UNDO or plain in _RESET:
            return self._back(text, plain in _RESET)
        found: list[Reading] = []
        try:
            found = [*readings(text, self._linked, self.today)]
            if found:
                self._check_thread(text)
            turn = self._changed(text, found) if found else self._new(text)
        except CodegenError as error:
            turn = Turn(text, is_new=False, doubt=f"{error.message} {error.remedy}".strip())
        if not turn.doubt:
            self.turns.append(turn)
            self._failed = None
        elif not found and not _CHANGES.match(text):
            self._failed = text, True
        elif self._failed is None:
            self._failed = text, False
        return turn

    def _check_thread(self, text: str) -> None:
        """Checks that a follow-up has an answer to refer to.

        After a line without an answer, only a rewording of it, which shares a word with it, may
        refer to the answer before.
        """
        if not self.turns:
            raise NotUnderstood("There is no answer before it that it could refer to.")
        if self._failed is None:
            return
        line, was_new = self._failed
        both = ({t.text.lower() for t in tokenize(one) if t.text.isalnum()} for one in (text, line))
        words, before = both
        if was_new or not (words & before) - LIGHT_WORDS - _REFERRING - _COMMON:
            raise NotUnderstood(
                f"{line!r} got no answer, so it is not clear what this refers to.",
                f"Say it otherwise, or 'undo' to go on with: {self.turns[-1].asked}.",
            )

    def _back(self, text: str, all_of_it: bool) -> Turn:
        if not self.turns:
            return Turn(text, doubt="There is nothing to go back to.")
        if all_of_it or self._failed is None:
            del self.turns[0 if all_of_it else -1 :]
        self._failed = None
        if not self.turns:
            return Turn(text, changed="the thread is empty; ask anything")
        return replace(self.turns[-1], text=text, changed="back to the answer before", note="")

    def _new(self, text: str) -> Turn:
        """A question of its own."""
        last = self.turns[-1].plan if self.turns else None
        if last and (lead := _CHANGES.match(text)):
            raise NotUnderstood(
                f"I did not understand this change: {lead[0].lower()!r} and what?",
                "`help` shows the forms; or ask a complete question.",
            )
        words = [token.text.lower() for token in tokenize(text)]
        said = next((word for word in words if word in _REFERRING), None) or _ONE.search(text)
        if last and said:
            said = said if isinstance(said, str) else said[0].lower()
            raise NotUnderstood(
                f"I did not understand what {said!r} refers to here.",
                "Ask a complete question, or use one of the forms of `help`.",
            )
        parse = self.parser.parse(text, self.schema, top_k=1, limits=self.limits)
        best = parse.best
        plan = best.query if isinstance(best.query, QueryPlan) else self._plan_of(best.query)
        doubt = parse.abstained or parse.failure
        if (
            not doubt
            and last
            and (_is_narrowed(last) or last.select[0].item.table not in plan.required())
        ):
            stems = {stem(word) for word in words}
            shown = {s.item.table for s in plan.select}
            named = [stems & {*map(stem, self._linked.tables[table].words)} for table in shown]
            if not all(named):
                names = " and ".join(sorted(self._linked.tables[table].name for table in shown))
                doubt = f"All {names}, or the previous ones? Name them, or say 'of them'."
        if doubt:
            return Turn(text, plan, best.sentence, doubt=doubt)
        statement = parse.statement(self._dialect)
        return Turn(text, plan, best.sentence, statement=statement, rows=parse.rows)

    def _changed(self, text: str, found: Sequence[Reading]) -> Turn:
        """The last answer with one change."""
        last = self.turns[-1]
        assert last.plan
        plans: dict[QueryPlan, str] = {}
        failure: NotUnderstood | None = None
        for reading in found:
            try:
                plan, said = reading.rule(Change(self._linked, last.plan, reading))
                plans.setdefault(plan, said)
            except NotUnderstood as error:
                failure = failure or error
        if not plans:
            assert failure
            raise failure
        if len(plans) > 1:
            ways = "; or ".join(self._in_words(plan) for plan in islice(plans, 2))
            raise NotUnderstood(f"It can be understood in two ways: {ways}.")
        ((plan, changed),) = plans.items()
        assert self.schema.database
        statement = to_statement(plan, self._linked.graph, self._dialect)
        rows = self.schema.database.execute(statement, self.limits)
        note = _checked(last, plan, rows)
        kept = self._kept(last.plan, plan)
        return Turn(
            text, plan, self._in_words(plan), False, kept, changed, statement, rows, note=note
        )

    @property
    def _dialect(self) -> str:
        return self.schema.database.dialect if self.schema.database else "sqlite"

    def _in_words(self, plan: QueryPlan) -> str:
        return sentence(clauses_of(plan, self._linked.tables))

    def _kept(self, old: QueryPlan, new: QueryPlan) -> str:
        """The tests, groups and order that both plans have, in plain words; "" for none."""
        both = replace(
            new,
            select=(Selected(Item(new.select[0].item.table)),),
            where=tuple(test for test in new.where if test in old.where),
            group=tuple(item for item in new.group if item in old.group),
            order=new.order if new.order == old.order else None,
            limit=new.limit if new.limit == old.limit else None,
        )
        is_bare = not (_is_narrowed(both) or both.group or both.order)
        return "" if is_bare else self._in_words(both)

    def _plan_of(self, query: Query) -> QueryPlan:
        """The plan of a query on the only table."""
        selected = Item(0, ROWS if query.counts_rows else query.select)
        tests = []
        for condition in query.conditions:
            item = Item(0, condition.column)
            whole = Mention(0, 0, condition.value, frozenset())
            value = whole.value_for(item, self._linked.tables[0], False)
            tests.append(Test(item, OPERATORS[condition.operator], (value,)))
        return QueryPlan((Selected(selected, query.aggregate),), where=tuple(tests))


def _is_narrowed(plan: QueryPlan) -> bool:
    return bool(plan.where or plan.companion or plan.limit is not None)


def _checked(last: Turn, plan: QueryPlan, rows: Rows) -> str:
    """A note if this answer has fewer rows than the last.

    Raises:
        NotUnderstood: if one counts what the other lists, and the numbers differ.
    """
    old, before = last.plan, last.rows
    if old is None or before is None or before.cut or rows.cut:
        return ""
    for counted, listed in ((rows, before), (before, rows)):
        of_count, of_list = (plan, old) if counted is rows else (old, plan)
        same_tests = (of_count.where, of_count.companion) == (of_list.where, of_list.companion)
        is_count = [s.aggregate for s in of_count.select] == [COUNT] and not of_count.group
        if same_tests and is_count and is_list(of_list) and of_list.limit is None:
            number = counted.rows[0][0] if counted.rows else None
            if number != len(listed.rows):
                raise NotUnderstood(
                    f"There are {number} of them, but the list has {len(listed.rows)} rows: "
                    "several share what is shown."
                )
    same = (old.where, old.companion, old.limit) == (plan.where, plan.companion, plan.limit)
    if same and is_list(old) and is_list(plan) and len(rows.rows) < len(before.rows):
        return f"{plural(len(rows.rows), 'row')}; the answer before had {len(before.rows)}."
    return ""
