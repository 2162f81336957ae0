"""Questions to SQL with the package's model or your own, on any database.

    parser = SQLNet.from_pretrained()
    schema = Schema.open("shop.db")
    parse = parser.parse("which city does Ann Lee live in?", schema)
    parse.statement()          # SQL text with placeholders, and their values
    parse.confidence           # confidence that the query is correct
    parse.rows                 # the answer

Questions on one table become a sketch (:mod:`codegen.sqlnet.network`), on several a plan
(:mod:`codegen.sqlnet.plan_decode`). No column can be invented, values are parameters, every
statement passes the check in :mod:`codegen.sqlnet.sql`, and the database is read-only.

An answer is returned only if the query uses the question's information
(:mod:`codegen.sqlnet.question_checks`) and the confidence (:mod:`codegen.sqlnet.calibration`) is
high enough; else the parse says what was not understood. Limit: the checks use only words; a
question may need a join that no word shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from weakref import WeakKeyDictionary

from codegen.core.errors import ConfigError, InputError
from codegen.core.records import has_lone_surrogate
from codegen.sqlnet import calibration, decode
from codegen.sqlnet.calibration import PLAN_SLOTS, ConfidenceModel
from codegen.sqlnet.databases import DEFAULT_LIMITS, DatabaseError, ResultSet, StatementLimits
from codegen.sqlnet.databases.files import Database
from codegen.sqlnet.explain import clauses_of, sentence
from codegen.sqlnet.features import EncodedQuestion, encode_question
from codegen.sqlnet.joins import JoinGraph, PlanError
from codegen.sqlnet.linking import Link, Linker, ValueCache, links_of, overlaps, spelled_out
from codegen.sqlnet.network import SketchNetwork
from codegen.sqlnet.plan import ROWS, QueryPlan, SelectItem, the_tree, to_statement
from codegen.sqlnet.plan_decode import PlanAnswer, PlanParser, ScoredPlan, strange_texts
from codegen.sqlnet.plan_features import MAX_PLAN_TOKENS, PlanQuestion
from codegen.sqlnet.query import (
    AGGREGATES,
    OPERATORS,
    Column,
    Query,
    Statement,
    Table,
    UnsafeSQLError,
)
from codegen.sqlnet.question_checks import Doubt, QuestionContext
from codegen.sqlnet.schema import Schema
from codegen.sqlnet.sql import to_sql
from codegen.sqlnet.words import MAX_TOKENS, stem

DEFAULT_MODEL = Path(__file__).parent / "weights" / "default"
_BEAM = 4
_PARTS = ("column", "operator", "value")  # the parts of a condition
_MOST_SIGNS = 2000  # characters of a question that are searched for cues
_NEAR = 0.2  # minimum WordSimilarity of a word and a name that it may mean
_TIE = math.log(3)  # readings whose probabilities differ by less than this factor are tied
_QUANTITIES = tuple(AGGREGATES.index(name) for name in ("MAX", "MIN", "SUM", "AVG"))
_COUNT = AGGREGATES.index("COUNT")


@dataclass(frozen=True, slots=True)
class Slot:
    """A filled slot as text, with its probability."""

    name: str
    content: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Interpretation:
    """One way to read a question.

    Attributes:
        query: the filled sketch; for several tables, a plan.
        table: table of the query; for a plan, of the first column shown.
        confidence: the network's probability of the whole query.
        slots: the query's slots.
        links: values in the question, with the table's values that replaced them.
        sentence: the query in plain words.
        graph: the joins of a plan's database.
    """

    query: Query | QueryPlan
    table: Table
    confidence: float
    slots: tuple[Slot, ...]
    links: tuple[Link, ...] = ()
    sentence: str = ""
    graph: JoinGraph | None = field(default=None, compare=False, repr=False)

    def statement(self, dialect: str = "sqlite") -> Statement:
        """Returns the SQL in one of sqlglot's dialects, with placeholders, and their values.

        Raises:
            PlanError: if a plan cannot be written as SQL.
        """
        if isinstance(self.query, Query):
            return to_sql(self.query, self.table, dialect)
        assert self.graph
        return to_statement(self.query, self.graph, dialect)


@dataclass(frozen=True, slots=True)
class Parse:
    """Interpretations of a question.

    Attributes:
        readings: best first, at least one.
        confidence: confidence that the answer is correct; see :mod:`codegen.sqlnet.calibration`.
        doubts: reasons not to trust the best reading, most important first; empty if trusted.
        words: each content word of the question, and its interpretation ("": unused).
        signs: inputs of the confidence.
        notes: other remarks.
        rows: the best reading's result; None if it failed or was not run.
        failure: reason for the failure.
    """

    question: str
    readings: tuple[Interpretation, ...]
    confidence: float = 0.0
    doubts: tuple[Doubt, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    signs: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: ResultSet | None = None
    failure: str = ""

    @property
    def abstained(self) -> str:
        """Reason not to trust the best reading, in a sentence; "" if it may be trusted."""
        return self.doubts[0].text if self.doubts else ""

    @property
    def best(self) -> Interpretation:
        """Best reading."""
        return self.readings[0]

    @property
    def query(self) -> Query | QueryPlan:
        """Query of the best reading."""
        return self.best.query

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Slots of the best reading."""
        return self.best.slots

    def statement(self, dialect: str = "sqlite") -> Statement:
        """Returns the best reading's statement; see :meth:`Interpretation.statement`."""
        return self.best.statement(dialect)


class SQLNet:
    """A question parser that uses trained networks."""

    def __init__(
        self,
        network: SketchNetwork,
        trusted: ConfidenceModel | None = None,
        plans: PlanParser | None = None,
    ) -> None:
        """Creates a parser; ``plans`` parses questions on several tables (default: built in)."""
        self.network, self._plans = network, plans
        self.trust = trusted or calibration.load(DEFAULT_MODEL)
        self._held: WeakKeyDictionary[Database, ValueCache] = WeakKeyDictionary()

    @classmethod
    def from_pretrained(cls, path: str | Path | None = None) -> SQLNet:
        """Loads a directory that ``codegen sqlnet train`` made, by default the package's model.

        Raises:
            ModelError: if the directory has no network, or a corrupt one.
        """
        return cls(SketchNetwork.load(DEFAULT_MODEL if path is None else path))

    @property
    def plans(self) -> PlanParser:
        """Parser of questions on several tables."""
        self._plans = self._plans or PlanParser.from_pretrained()
        return self._plans

    def parse(
        self,
        question: str,
        schema: Schema,
        *,
        table: str | None = None,
        top_k: int = 3,
        execute: bool = True,
        min_confidence: float | None = None,
        limits: StatementLimits = DEFAULT_LIMITS,
    ) -> Parse:
        """Parses a question.

        Args:
            question: English question; its first 200 tokens are read.
            table: use only this table.
            execute: look up values in the schema's database, if it has one, and run up to a dozen
                statements to choose a reading.
            min_confidence: abstain below it; by default the fitted threshold. 0 never abstains.

        Raises:
            InputError: if the question is empty, or the table is unknown.
            ConfigError: if an option is out of range.
        """
        database = schema.database if execute else None
        _check(question, top_k, min_confidence)
        if table is None and len(schema.tables) > 1:
            found = _planned(self, question, schema, database, top_k, limits)
        else:
            one = schema.table(table)
            found = self._sketched(question, one, schema, database, top_k, limits)
        parse = found.parse
        confidence = self.trust.confidence(parse.signs)
        least = self.trust.threshold if min_confidence is None else min_confidence
        doubts = list(parse.doubts)
        if least > 0:
            doubts += found.doubts
            if confidence < least:
                doubts += _left(found.asked)
                below = f"the confidence is {confidence:.2f}, below {least:g}."
                doubts.append(Doubt("confidence", f"I am not sure {found.unsure}: {below}"))
            elif found.rival and not doubts and _competes(found.asked, found.rival):
                first, second = parse.readings[:2]
                if _differ(parse.rows, second, database, limits):
                    texts = f"{first.sentence}; or {second.sentence}"
                    doubts.append(Doubt("readings", f"It can be read in two ways: {texts}."))
        words = tuple(calibration.explained(found.asked))
        return replace(parse, confidence=confidence, doubts=tuple(doubts), words=words)

    def _sketched(
        self,
        question: str,
        table: Table,
        schema: Schema,
        database: Database | None,
        top_k: int,
        limits: StatementLimits,
    ) -> _Found:
        """Parses a question on one table."""
        # The network reads abbreviated names spelled out.
        encoded = encode_question(question, spelled_out(table, question))
        (slots,) = self.network.read([encoded], beam=_BEAM)
        encoded = replace(encoded, table=table)
        linker = None
        if database:
            linker = Linker(database, encoded.table, self._held.setdefault(database, ValueCache()))
            slots = decode.with_mentions(slots, linker.mentioned(encoded.text, encoded.tokens))
        listed = _sensible(
            decode.candidates(slots, encoded.text, encoded.tokens, _BEAM, table=encoded.table),
            encoded,
        )
        if database:
            choice = decode.choose(listed, encoded.table, database, limits, linker)
        else:
            choice = decode.likeliest(listed)
        query, said = choice.candidate.query, listed[choice.number].query
        readings = [_reading(encoded, slots, choice.candidate, said)]
        order = sorted(range(len(listed)), key=lambda i: (i != choice.number, i != choice.other))
        is_close = choice.other is not None and choice.margin <= _TIE
        rival = None
        for i in order[1:]:
            if len(readings) >= max(top_k, 1 + is_close):
                break
            plain = listed[i].query
            linked = linker.link(plain) if linker else plain
            if linked not in [reading.query for reading in readings]:
                other = replace(listed[i], query=linked)
                readings.append(_reading(encoded, slots, other, plain))
                if is_close and rival is None:
                    rival = self._asked(encoded, plain, plain, schema.tables, linker is not None)
        asked = self._asked(encoded, query, said, schema.tables, linker is not None)
        parse = Parse(
            question,
            tuple(readings),
            signs=self._signs(asked, slots, choice, linker, len(readings[0].links)),
            notes=_notes(encoded),
            rows=choice.rows,
            failure=choice.failure,
        )
        doubts = chain(
            self._language(encoded, query),
            calibration.doubts(asked),
            _not_there(query, encoded, linker),
        )
        weakest = min(readings[0].slots, key=lambda slot: slot.confidence)
        return _Found(parse, asked, rival, doubts, f"about the {weakest.name} ({weakest.content})")

    def _asked(
        self,
        encoded: EncodedQuestion,
        query: Query,
        said: Query,
        tables: Sequence[Table],
        is_read: bool,
    ) -> QuestionContext:
        """Pairs the question with the query, with abbreviated names spelled out."""
        table = spelled_out(encoded.table, encoded.text)
        others = tuple(other for other in tables if other.name != table.name)
        clauses = query.clauses(table, said)
        end = encoded.tokens[-1].end if encoded.tokens else 0
        text = encoded.text[: min(end, _MOST_SIGNS)]
        return QuestionContext(text, clauses, (table,), others, is_read, self.network.likeness)

    def _signs(
        self,
        asked: QuestionContext,
        slots: decode.SlotScores,
        choice: decode.ExecutedChoice,
        linker: Linker | None,
        relinked: int,
    ) -> dict[str, float]:
        found = decode.slot_probabilities(slots, choice.candidate)
        query = choice.candidate.query
        kinds = {
            part: min((condition[i] for condition in found.conditions), default=0.0)
            for i, part in enumerate(_PARTS)
        }
        kinds |= {"select": found.select, "aggregate": found.aggregate, "number": found.number}
        kinds |= {"run": choice.log_probability, "table": 0.0}
        empty = choice.rows is not None and not decode.gives_something(choice.rows, query)
        return calibration.signs(
            *(asked, kinds, choice.margin),
            several=bool(asked.others),
            empty=empty,
            conditions=len(query.conditions),
            aggregated=query.aggregate != 0,
            rows_unread=linker is None,
            elsewhere=_elsewhere(query, linker),
            relinked=relinked,
        )

    def _language(self, encoded: EncodedQuestion, query: Query) -> Iterator[Doubt]:
        """Yields doubts if the question is not English, or not about the table."""
        table = spelled_out(encoded.table, encoded.text)
        names = {word for column in table.columns for word in column.words}
        words = [token.text.lower() for token in encoded.tokens]
        yield from _foreign(words, names, self.network.vocabulary)
        if not query.conditions and not overlaps(encoded.text, [table])[0]:
            text = "No word of the question names the table, a column or a value."
            yield Doubt("subject", text)


def _reading(
    encoded: EncodedQuestion, slots: decode.SlotScores, candidate: decode.ScoredQuery, said: Query
) -> Interpretation:
    """Describes a candidate; ``said`` is its query with the question's values."""
    query, columns = candidate.query, encoded.table.columns
    found = decode.slot_probabilities(slots, candidate)
    filled = [
        ("select", columns[query.select].name, found.select),
        ("aggregate", AGGREGATES[query.aggregate] or "none", found.aggregate),
        ("conditions", str(len(query.conditions)), found.number),
    ]
    for n, (one, parts) in enumerate(zip(query.conditions, found.conditions, strict=True), 1):
        contents = (columns[one.column].name, OPERATORS[one.operator], one.value)
        for name, content, part in zip(_PARTS, contents, parts, strict=True):
            filled.append((f"{name} {n}", content, part))
    return Interpretation(
        query,
        encoded.table,
        _probability(candidate.log_probability),
        tuple(Slot(name, content, _probability(part)) for name, content, part in filled),
        links_of(said, query, encoded.table),
        sentence(query.clauses(encoded.table, said)),
    )


def _probability(log_probability: float) -> float:
    return math.exp(max(-60.0, log_probability))


@dataclass(frozen=True, slots=True)
class _Found:
    """A network's result for a question, before the checks.

    Attributes:
        parse: parse without confidence; its doubts apply at any requested confidence.
        asked: the question and its best reading.
        rival: the question and its second reading, if nearly as likely.
        doubts: other doubts, computed on demand.
    """

    parse: Parse
    asked: QuestionContext
    rival: QuestionContext | None
    doubts: Iterator[Doubt]
    unsure: str


def _planned(
    parser: SQLNet,
    question: str,
    schema: Schema,
    database: Database | None,
    top_k: int,
    limits: StatementLimits,
) -> _Found:
    """Parses a question on several tables."""
    answer = parser.plans.parse(question, schema, execute=database is not None, limits=limits)
    choice = answer.choice
    order = sorted(range(len(answer.candidates)), key=lambda i: i != choice.number)
    rivals = [i for i in order[1:] if _is_written(answer.candidates[i].plan, answer)]
    margin = min(
        (choice.log_probability - answer.candidates[i].log_probability for i in rivals[:1]),
        default=6.0,
    )
    is_close = margin <= _TIE and bool(rivals)
    kept = [choice.number, *rivals[: max(top_k - 1, int(is_close))]]
    readings = tuple(_plan_reading(answer, i) for i in kept)
    alike = parser.network.likeness
    asked = _plan_asked(answer, answer.best, alike)
    rival = _plan_asked(answer, answer.candidates[kept[1]], alike) if is_close else None
    notes = []
    if answer.question.spans and answer.question.spans[-1].end < len(question.rstrip(" ?.!")):
        notes.append(f"Only the first {MAX_PLAN_TOKENS} tokens of the question were read.")
    if database and _is_tied(answer, database, limits):
        notes.append("More rows have the same value as the last one shown.")
    parse = Parse(
        question,
        readings,
        doubts=() if choice.statement else (Doubt("joins", choice.failure),),
        signs=_plan_signs(asked, answer, margin, len(readings[0].links)),
        notes=tuple(notes),
        rows=choice.rows,
        failure=choice.failure,
    )
    doubts = chain(
        _plan_language(answer, parser.plans.network.vocabulary),
        calibration.doubts(asked),
        _no_cells(answer),
        _other_ways(answer, asked),
    )
    weakest = min(readings[0].slots, key=lambda slot: slot.confidence)
    return _Found(parse, asked, rival, doubts, f"about the {weakest.name}")


def _is_tied(answer: PlanAnswer, database: Database, limits: StatementLimits) -> bool:
    """Returns True if the limit cuts off a row tied with the last one shown."""
    plan, choice = answer.best.plan, answer.choice
    if not (choice.rows and plan.limit and plan.order) or len(choice.rows.rows) < plan.limit:
        return False
    key = SelectItem(plan.order.item, plan.order.aggregate)
    longer = replace(plan, select=(*plan.select, key), limit=plan.limit + 1)
    try:
        statement = to_statement(longer, answer.question.schema.graph, database.dialect)
        rows = database.execute(statement, limits).rows
    except (PlanError, DatabaseError, UnsafeSQLError):
        return False
    return len(rows) > plan.limit and rows[-1][-1] == rows[-2][-1]


def _is_written(plan: QueryPlan, answer: PlanAnswer) -> bool:
    try:
        to_statement(plan, answer.question.schema.graph)
    except PlanError:
        return False
    return True


def _said(answer: PlanAnswer, candidate: ScoredPlan) -> dict[str, str]:
    """Returns the question's wording of a plan's values, by the value in the database."""
    found = {}
    for number in candidate.used:
        mention = answer.question.found[number]
        number_said = mention.number
        found |= dict.fromkeys(mention.cells.values(), mention.text)
        if number_said is not None:
            found[f"{number_said:.12g}"] = mention.text
    return found


def _plan_asked(
    answer: PlanAnswer, candidate: ScoredPlan, alike: Callable[[str, str], float]
) -> QuestionContext:
    read, plan = answer.question, candidate.plan
    tables = read.schema.tables
    used = set(plan.required())
    if plan.companion:
        used |= {*plan.companion.tables, *(test.item.table for test in plan.companion.where)}
    end = read.spans[-1].end
    return QuestionContext(
        read.text[: min(end, _MOST_SIGNS)],
        clauses_of(plan, tables, _said(answer, candidate)),
        tuple(spelled_out(tables[t], read.text) for t in sorted(used)),
        tuple(table for t, table in enumerate(tables) if t not in used),
        alike=alike,
        nearest=_nearest(read),
    )


def _nearest(read: PlanQuestion) -> dict[str, tuple[str, ...]]:
    """Returns the most similar name for each word that no name of the database contains."""
    names = [read.schema.words[number] for number in read.items]
    return {
        word: names[row.argmax()]
        for word, row in zip(read.words, read.likeness, strict=True)
        if row.max(initial=0.0) >= _NEAR and stem(word) not in read.schema.named
    }


def _plan_reading(answer: PlanAnswer, number: int) -> Interpretation:
    candidate = answer.candidates[number]
    read, plan = answer.question, candidate.plan
    said = _said(answer, candidate)
    clauses = clauses_of(plan, read.schema.tables, said)
    texts = {test.item: test.values for test in plan.where if not test.aggregate}
    links = tuple(
        Link(read.schema.tables[item.table].columns[item.column].name, said[value.text], value.text)
        for item, values in texts.items()
        for value in values
        if said.get(value.text, value.text).lower() != value.text.lower()
    )
    return Interpretation(
        plan,
        read.schema.tables[plan.select[0].item.table],
        _probability(candidate.log_probability),
        tuple(Slot(name, "", _probability(p)) for name, p in candidate.slots.items()),
        links,
        sentence(clauses),
        read.schema.graph,
    )


def _plan_signs(
    asked: QuestionContext, answer: PlanAnswer, margin: float, relinked: int
) -> dict[str, float]:
    best, rows = answer.best, answer.choice.rows
    kinds = {sign: best.slots.get(slot, 0.0) for sign, slot in PLAN_SLOTS.items()}
    tests = best.plan.where
    return calibration.signs(
        *(asked, kinds | {"run": answer.choice.log_probability}, max(-6.0, margin)),
        several=True,
        planned=True,
        empty=rows is not None and not any(v is not None for row in rows.rows for v in row),
        conditions=len(tests),
        aggregated=any(one.aggregate for one in (*best.plan.select, *tests)),
        rows_unread=rows is None,
        elsewhere=sum(len(answer.question.found[n].cells) > 1 for n in best.used),
        relinked=relinked,
    )


def _plan_language(answer: PlanAnswer, vocabulary: Container[str]) -> Iterator[Doubt]:
    """Yields doubts if the question is not English, or not about the database."""
    read = answer.question
    names = {word for item in read.items for word in read.schema.words[item]}
    yield from _foreign(read.words, names, vocabulary)
    is_named = read.table_signs[:, :2].any() or read.column_signs[:, 8:10].any()
    if not is_named and not any(mention.cells for mention in read.found):
        text = "No word of the question names a table, a column or a value."
        yield Doubt("subject", text)


def _foreign(
    words: Sequence[str], names: Container[str], vocabulary: Container[str]
) -> Iterator[Doubt]:
    """Yields a doubt if most words are unknown."""
    known = [word in vocabulary or word in names for word in words if word.isalpha()]
    if known and sum(known) < len(known) / 2:
        text = "Most words of the question are unknown: the model reads English."
        yield Doubt("language", text)


def _no_cells(answer: PlanAnswer) -> Iterator[Doubt]:
    """Yields doubts about strings in a plan that their column lacks."""
    schema = answer.question.schema
    for item, value in strange_texts(answer.best.plan, answer.question):
        column = schema.tables[item.table].columns[item.column]
        yield _no_such_value(column, value, list(schema.cells_of(item)))


def _other_ways(answer: PlanAnswer, asked: QuestionContext) -> Iterator[Doubt]:
    """Yields doubts about joined tables that the question does not mention and other tables could
    replace: Ann's purchases are not her reviews.
    """
    schema, plan = answer.question.schema, answer.best.plan
    try:
        tree = the_tree(schema.graph, plan.required(), plan.keys)
    except PlanError:
        return
    ends = {item.table for item in plan.items() if item.column != ROWS}
    known = {stem(word) for table in ends for word in schema.words[table]}
    said = {stem(token.text.lower()) for token in asked.tokens}
    for table in sorted(tree.tables - ends) if ends else ():
        words = schema.words[table]
        own = {*map(stem, words)} - known
        if own & said or not own or words in asked.nearest.values():
            continue
        if not _connected_without(table, ends, schema.graph):
            continue
        names = " and ".join(sorted(schema.tables[end].name for end in ends))
        text = f"The query found joins {names} with {schema.tables[table].name}"
        yield Doubt("joins", f"{text}, which the question does not mention.")


def _connected_without(table: int, ends: set[int], graph: JoinGraph) -> bool:
    """Returns True if tables connect without ``table``; for one table, if another refers to it."""
    if len(ends) == 1:
        found = (j for j in graph.joins if j.parent in ends and j.child not in {table, *ends})
        return next(found, None) is not None
    reached = {min(ends)}
    todo = [*reached]
    while todo:
        here = todo.pop()
        for join in graph.joins:
            if here in (join.child, join.parent):
                there = join.other(here)
                if there != table and there not in reached:
                    reached.add(there)
                    todo.append(there)
    return ends <= reached


def _check(question: str, top_k: int, min_confidence: float | None) -> None:
    if not isinstance(question, str) or not question.strip():
        raise InputError("The question is empty.", "Ask about a table or column.")
    if has_lone_surrogate(question):
        raise InputError("The question is not valid UTF-8.", "Enter it again.")
    if top_k < 1:
        raise ConfigError(f"top_k is {top_k}; it must be at least 1.")
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise ConfigError(f"min_confidence is {min_confidence}; it must be in [0, 1].")


def _sensible(
    found: Sequence[decode.ScoredQuery], encoded: EncodedQuestion
) -> list[decode.ScoredQuery]:
    """Returns candidates, without aggregates of identifiers if other candidates exist; COUNT counts
    rows, unless the question means rows with a value.
    """
    columns = encoded.table.columns
    clauses = [candidate.query.clauses(encoded.table)[0] for candidate in found]
    kept = [
        candidate
        for candidate, clause in zip(found, clauses, strict=True)
        if not (candidate.query.aggregate in _QUANTITIES and clause.identifier)
    ]
    return [
        replace(
            candidate,
            query=replace(
                candidate.query,
                counts_rows=candidate.query.aggregate == _COUNT
                and not _is_had(columns[candidate.query.select].words, encoded.text),
            ),
        )
        for candidate in kept or found
    ]


def _is_had(words: Sequence[str], question: str) -> bool:
    """Returns True if a question means rows with a value: "with an email address"."""
    had = re.search(r"\b(?:have|has|had|having|with)\b((?: \w+){1,4})", question.lower())
    said = {stem(word) for word in had[1].split()} if had else set()
    return {stem(word) for word in words} <= said


def _not_there(query: Query, encoded: EncodedQuestion, linker: Linker | None) -> Iterator[Doubt]:
    """Yields doubts about missing values, and about cells in the question that are not used."""
    if linker is None:
        return
    columns = encoded.table.columns
    for condition in query.conditions:
        if linker.selects(condition) is False:
            held = linker.values(condition.column) or ()
            yield _no_such_value(columns[condition.column], condition.value, held)
    used = " | ".join(condition.value.casefold() for condition in query.conditions)
    names = {word for column in columns for word in column.words}
    names |= {column.name.casefold() for column in columns}
    for column, spans in linker.mentioned(encoded.text, encoded.tokens).items():
        for first, last in spans:
            text = encoded.text[encoded.tokens[first].start : encoded.tokens[last].end]
            if text.casefold() not in used and text.casefold() not in names:
                said = f"{text!r} is a {columns[column].name}, which the query does not use."
                yield Doubt("value", said)


def _no_such_value(column: Column, value: str, held: Sequence[str]) -> Doubt:
    near = " or ".join(map(repr, get_close_matches(value, held, 2, 0.6)))
    text = f"No {column.name} is {value!r}"
    return Doubt("value", f"{text}; did you mean {near}?" if near else f"{text}.")


def _competes(asked: QuestionContext, rival: QuestionContext) -> bool:
    """Returns True if another reading meets the question's cues, and matches its words as well."""
    named = [calibration.grounding(each)["select_named"] for each in (asked, rival)]
    return named[1] >= named[0] and not next(calibration.doubts(rival), None)


def _differ(
    rows: ResultSet | None,
    other: Interpretation,
    database: Database | None,
    limits: StatementLimits,
) -> bool:
    """Returns True if another reading has another answer, or if there is no database."""
    if database is None:
        return True
    try:
        found = database.execute(other.statement(database.dialect), limits)
    except (DatabaseError, UnsafeSQLError):
        return False
    is_new = rows is not None and found.rows != rows.rows
    return is_new and decode.gives_something(found, other.query)


def _elsewhere(query: Query, linker: Linker | None) -> int:
    """Counts values of conditions that also occur in other columns."""
    if linker is None:
        return 0
    columns = [c for c, column in enumerate(linker.table.columns) if column.type == "text"]
    values = [(condition.column, condition.value.casefold()) for condition in query.conditions]
    return sum(any(v in linker.folded(c) for c in columns if c != own) for own, v in values)


def _left(asked: QuestionContext) -> Iterator[Doubt]:
    """Yields doubts about the question's words that the query omits."""
    if left := calibration.words_left(asked):
        yield calibration.not_understood(left)
    for name in calibration.named_but_unused(asked):
        yield Doubt("words", f"The question names {name}, which the query does not use.")


def _notes(encoded: EncodedQuestion) -> tuple[str, ...]:
    is_cut = len(encoded.tokens) == MAX_TOKENS
    return (f"Only the first {MAX_TOKENS} tokens of the question were read.",) if is_cut else ()
