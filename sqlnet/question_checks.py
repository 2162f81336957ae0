"""Checks a query against the words of its question.

A query that ignores a part of its question looks like a correct one. So each cue in the question
(never, each, highest, at least, or, 2015, "Moka Pot") must have a counterpart among the query's
clauses, and each aggregate, comparison and order of the query must have a cue in the question
(:func:`unmet`). ``cues.yaml`` lists the cues and the clauses that meet them. Unexplained content
words lower the confidence (:func:`codegen.sqlnet.calibration.words_left`).

The checks read :class:`codegen.sqlnet.query.Clause`, so they apply to sketches and plans. Limit:
English words only; a restriction that is not listed ("overdue") is just an unexplained word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from codegen.core.config import read_yaml
from codegen.sqlnet.query import DATES, Clause, Table
from codegen.sqlnet.words import WordToken, number_in_words, number_of, stem, tokenize

_TABLE: dict[str, Any] = read_yaml(Path(__file__).with_name("cues.yaml"))


def _pattern(text: str) -> re.Pattern[str]:
    """Compiles a pattern of ``cues.yaml``: joins lines, fills in <names>."""
    parts = _TABLE["parts"]
    for _ in range(2):  # patterns may be nested
        text = re.sub(r"<(\w+)>", lambda m: parts.get(m[1], m[0]), text)
    return re.compile(re.sub(r"\n\s*", "", text), re.IGNORECASE)


_CUES = tuple((kind, _pattern(text)) for one in _TABLE["patterns"] for kind, text in one.items())
_ASCENT, _DESCENT = _pattern(_TABLE["ascent"]), _pattern(_TABLE["descent"])
WORDS = {name: frozenset(text.split()) for name, text in _TABLE.items() if isinstance(text, str)}
LIGHT_WORDS = WORDS["light"]
"""Words without content, or that fit any table."""
RIVALS = [
    [frozenset(map(stem, words.split())) for words in line.split("|")]
    for line in _TABLE["rivals"].strip().splitlines()
]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason not to trust a query: a code for programs, a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Cue:
    """A word or phrase that requires a clause: its kind, text and position in the question."""

    kind: str
    said: str
    start: int
    end: int


@dataclass(frozen=True)
class QuestionContext:
    """A question and the clauses of a query made for it.

    Attributes:
        tables, others: the query's tables, and the database's other ones.
        is_read: True if values were looked up in the database. Other values may be any span
            of the question, so cues within them count.
        alike: the similarity of two words in [-1, 1]; without it, only stems are compared.
        nearest: a word of the question -> the words of the most similar name in the database
            ("borrowed": loans); using that name explains the word.
    """

    question: str
    clauses: tuple[Clause, ...]
    tables: tuple[Table, ...]
    others: tuple[Table, ...] = ()
    is_read: bool = True
    alike: Callable[[str, str], float] | None = field(default=None, compare=False)
    nearest: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)

    def of(self, *kinds: str) -> list[Clause]:
        """Returns the clauses of these kinds."""
        return [clause for clause in self.clauses if clause.kind in kinds]

    @cached_property
    def tokens(self) -> list[WordToken]:
        """Tokens of the question."""
        return tokenize(self.question)

    @cached_property
    def stems(self) -> list[str]:
        """Stems of the question's tokens."""
        return [stem(token.text.lower()) for token in self.tokens]

    @cached_property
    def value_spans(self) -> list[tuple[int, int]]:
        """The spans of the question, in characters, that are values of the query."""
        spans = []
        for clause in self.clauses:
            held = {value.lower().strip() for value in clause.values}
            for text in {text.strip() for text in (*held, *map(str.lower, clause.said))} - {""}:
                pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
                for match in re.finditer(pattern, self.question, re.IGNORECASE):
                    start, here = match.start(), match[0]
                    if text not in held:  # the cell's text differs: "not Rome" may mean Rome
                        for part in re.finditer(r"\w+", here):
                            word = part[0]
                            if not word.islower() or not (word in LIGHT_WORDS or _is_a_cue(word)):
                                spans.append((start + part.start(), start + part.end()))
                    elif not (here.islower() and _is_a_cue(here)):
                        spans.append(match.span())
        return spans

    @cached_property
    def rest(self) -> str:
        """The question with values and names that contain a cue blanked out (numbers become 0).

        A city called Best is not a superlative, nor is a column called "last name".
        """
        text = list(self.question)
        for start, end in self.value_spans:
            is_number = number_of(self.question[start:end]) is not None
            text[start:end] = ("0" if is_number else " ") * (end - start)
        plain = "".join(text)
        used = {clause.column.name for clause in self.clauses if clause.column}
        columns = [column for table in self.tables for column in table.columns]
        names = {c.words for c in columns if len(c.words) > 1 or c.name in used}
        names |= {table.words for table in (*self.tables, *self.others)}
        for words in sorted(names, key=len, reverse=True):
            if any(pattern.search(" ".join(words)) for _, pattern in _CUES):
                name = r"[\W_]+".join(map(re.escape, words))
                plain = re.sub(rf"(?i)\b{name}\b", lambda m: " " * len(m[0]), plain)
        return plain

    @cached_property
    def cues(self) -> list[Cue]:
        """The cues of the question, in ``cues.yaml`` order, without overlaps."""
        found: list[Cue] = []
        plain = self.rest
        for kind, pattern in _CUES:
            for match in pattern.finditer(plain):
                said = match.lastgroup or 0
                cue = Cue(kind, match[said].strip(), *match.span(said))
                found.append(cue)
                plain = plain[: cue.start] + " " * (cue.end - cue.start) + plain[cue.end :]
        return found


def _is_a_cue(text: str) -> bool:
    return any(cue.fullmatch(text) for _, cue in _CUES)


def unmet(asked: QuestionContext) -> Iterator[Doubt]:
    """Yields doubts about the question's cues that the query does not meet, then about the query's
    unrequested parts; the most useful doubt first.
    """
    for check in _CHECKED:
        yield from check(asked)


def _cues(asked: QuestionContext) -> Iterator[Doubt]:
    for cue in asked.cues:
        if not is_met(asked, cue):
            says = _TABLE["kinds"][cue.kind].get("says", "I did not understand {said}.")
            yield Doubt("cue", says.format(said=repr(cue.said)))


def is_met(asked: QuestionContext, cue: Cue) -> bool:
    """Returns True if the query has the clause that a cue requires."""
    row = _TABLE["kinds"][cue.kind]
    compared = asked.of("where", "having", "never")
    return (
        bool(asked.of(*row.get("clauses", ())))
        or any(clause.operator in row.get("operators", ()) for clause in compared)
        or any(clause.aggregate in row.get("aggregates", ()) for clause in asked.clauses)
        or ("check" in row and _CHECKS[row["check"]](asked, cue))
    )


def _extreme(asked: QuestionContext, cue: Cue) -> bool:
    """Accepts MAX or MIN of a quantity in the question; not for "who has the highest"."""
    holder = r"who|whose|(?:which|what) (?!is\b|was\b|are\b|were\b)\w+"
    asks = rf"\b(?:with|(?:{holder})\b(?: \w+){{0,6}}) (?:the |an? )?{re.escape(cue.said)}"
    if re.search(asks, asked.rest, re.IGNORECASE):
        return False
    is_large = _is_large(cue.said)
    for clause in asked.of("select", "having"):
        if clause.column and clause.aggregate in ("MAX", "MIN"):
            names = {stem(word) for word in clause.column.words}
            for said, columns in _TABLE["quantities"]:  # the cheapest, by price
                if {*clause.column.words} & {*columns.split()}:
                    names |= {*map(stem, said.split())}
            if names & {*asked.stems} and is_large in (None, clause.aggregate == "MAX"):
                return True
    return False


def _is_large(said: str) -> bool | None:
    """Returns True if a superlative means the maximum; None if unclear."""
    word = said.lower().split()[0]
    return word in WORDS["largest"] or (None if word not in WORDS["smallest"] else False)


def _alternatives(asked: QuestionContext, _cue: Cue) -> bool:
    """Accepts an OR, or one condition with two values."""
    where = asked.of("where", "having", "never")
    return any(clause.connective == "or" for clause in where[1:]) or any(
        clause.operator != "between" and len(clause.values) > 1 for clause in where
    )


def _listed(asked: QuestionContext, cue: Cue) -> bool:
    """Accepts a plain list of items and their values: the names of each product."""
    tables = {stem(word) for table in asked.tables for word in table.words}
    is_list = not any(clause.aggregate for clause in asked.clauses)
    said = [stem(t.text.lower()) for t in asked.tokens if t.start >= cue.start]
    return is_list and bool({*said[1:4]} & tables)


def _told_apart(asked: QuestionContext, _cue: Cue) -> bool:
    """Accepts DISTINCT, or a group by the shown column, which lists each value once."""
    groups = {(c.table, c.column.name) for c in asked.of("group") if c.column}
    return bool(groups & _shown(asked)) or any(clause.distinct for clause in asked.clauses)


def _shown(asked: QuestionContext) -> set[tuple[str, str]]:
    """Returns the columns that the query shows unchanged."""
    shown = asked.of("select")
    return {(c.table, c.column.name) for c in shown if c.column and not c.aggregate}


def _counted(asked: QuestionContext, cue: Cue) -> bool:
    """Accepts a column of numbers, which may contain counts."""
    columns = [clause.column for clause in asked.clauses if clause.column]
    is_named = "number" in cue.said and any({"number", "numbers"} & {*c.words} for c in columns)
    return is_named or any(map(_is_number, asked.of("select", "order")))


def _is_number(clause: Clause) -> bool:
    column = clause.column
    return column is not None and column.type == "real" and not (clause.identifier or clause.dated)


def _quantity(asked: QuestionContext, _cue: Cue) -> bool:
    """Accepts an aggregate, or a numeric column if a condition or an order selects rows."""
    is_chosen = bool(asked.of("where", "order"))
    return any(c.aggregate or (is_chosen and _is_number(c)) for c in asked.of("select"))


def _totalled(asked: QuestionContext, _cue: Cue) -> bool:
    """Accepts COUNT only for a total number: total revenue is not the number of rows."""
    is_number = re.search(r"\b(?:number|count|how many)\b", asked.question, re.IGNORECASE)
    return bool(is_number) and any(clause.aggregate == "COUNT" for clause in asked.clauses)


def _two(asked: QuestionContext, _cue: Cue) -> bool:
    """Accepts two values, or two shown columns."""
    return sum(len(c.values) for c in asked.of("where")) > 1 or len(asked.of("select")) > 1


def _dated(asked: QuestionContext, cue: Cue) -> bool:
    """Accepts a condition on a date; for relative times, not an equality."""
    dates = [clause for clause in asked.of("where") if clause.dated and clause.values]
    return any(clause.operator != "=" or cue.kind == "month" for clause in dates)


_CHECKS: dict[str, Callable[[QuestionContext, Cue], bool]] = {
    check.__name__.lstrip("_"): check
    for check in (
        *(_extreme, _listed, _told_apart, _two, _alternatives),
        *(_counted, _quantity, _totalled, _dated),
    )
}


def _values(asked: QuestionContext) -> Iterator[Doubt]:
    """Yields doubts about numbers, quoted and capitalized words that the query does not use."""
    limits = [value for clause in asked.of("limit") for value in clause.values]
    used = {number_of(v) for c in asked.clauses for v in (*c.values, *c.said, *limits)}
    held = " | ".join(v.lower() for c in asked.clauses for v in (*c.values, *c.said))
    tables = (*asked.tables, *asked.others)
    names = {w for t in tables for named in (t, *t.columns) for w in named.words}
    names |= {*map(stem, names)}
    unused = []
    for match in re.finditer(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)|“([^”]+)”", asked.question):
        text = next(filter(None, match.groups()))
        if not is_value(asked, match.start() + 1, match.end() - 1) and text.lower() not in held:
            unused.append(text)
    for match in re.finditer(r"(?<![\w.,])\$?\d+(?:,\d+)*(?:\.\d+)?(?!\w)", asked.question):
        said = match[0]
        if not is_value(asked, *match.span()) and not {number_of(said), said} & {*used, *names}:
            unused.append(said)
    for said in re.findall(r"[a-z]+(?:-[a-z]+)?", asked.rest.lower()):
        number = number_in_words(said)
        if number and number > 1 and not {number, said} & {*used, *names}:
            unused.append(said)
    for said in (*unused, *_proper_names(asked, names, held)):
        yield Doubt("value", f"The query does not use {said!r}; no column was found for it.")


def _proper_names(asked: QuestionContext, names: set[str], held: str) -> Iterator[str]:
    words = [token for token in asked.tokens if token.text.isalpha()]
    if sum(token.text[0].isupper() for token in words) > max(4, 0.6 * len(words)):
        return  # title case: capitals do not show names
    for before, token in pairwise(asked.tokens):
        text, lower = token.text, token.text.lower()
        if not text[0].isupper() or before.text in ".?!:" or lower in LIGHT_WORDS or len(text) < 2:
            continue
        if is_value(asked, token.start, token.end) or stem(lower) in names:
            continue
        if not re.search(rf"\b{re.escape(lower)}\b", held):
            yield text


def is_value(asked: QuestionContext, start: int, end: int) -> bool:
    """Returns True if a span of the question, in characters, is in a value of the query."""
    return any(a <= start and end <= b for a, b in asked.value_spans)


def _not_shown(asked: QuestionContext) -> Iterator[Doubt]:
    """Detects "products with their prices" without a shown price."""
    shown = {clause.column.name for clause in asked.of("select") if clause.column}
    columns = [column for table in asked.tables for column in table.columns]
    for match in re.finditer(r"\b(?:with|and) (?:their|its) (\w+(?: \w+)?)", asked.rest.lower()):
        said = [stem(word) for word in match[1].split()]
        meant = {c.name for c in columns if {*map(stem, c.words)} & {said[0], said[-1]}}
        if meant and not meant & shown:
            yield Doubt("cue", f"The query found does not show {match[1]!r}.")


def _shown_unasked(asked: QuestionContext) -> Iterator[Doubt]:
    """Detects unrequested columns, such as depot names for "parcels heavier than 29 kg"."""
    shown = asked.of("select")
    if re.search(r"\b(?:who|whom|whose|where|when)\b", asked.rest, re.IGNORECASE):
        return
    if any(c.aggregate or not c.column for c in shown) or len({c.table for c in shown}) != 1:
        return
    words = {table.name: {*map(stem, table.words)} for table in asked.tables}
    own = words.pop(shown[0].table, set())
    own |= {stem(word) for clause in shown if clause.column for word in clause.column.words}
    named = [name for name, stems in words.items() if stems & {*asked.stems}]
    if named and not own & {*asked.stems}:
        text = f"The question asks for {named[0]}; the query found shows {shown[0].table}."
        yield Doubt("cue", text)


def _misordered(asked: QuestionContext) -> Iterator[Doubt]:
    """Detects wrong orders: the oldest hotel by the highest year, the biggest by its name."""
    barred, shown = asked.of("never"), {clause.table for clause in asked.of("select")}
    if barred and all(c.column is None and c.table in shown for c in barred):
        yield Doubt("cue", f"The query found requests {barred[0].table} without {barred[0].table}.")
    orders = [clause for clause in asked.of("order") if clause.column]
    if len(orders) != 1 or (column := orders[0].column) is None:
        return
    is_down, dated, words = orders[0].operator == "desc", orders[0].dated, {*column.words}
    said = (_ASCENT if is_down else _DESCENT).search(asked.rest)
    if said and not (_DESCENT if is_down else _ASCENT).search(asked.rest):
        yield Doubt("cue", f"The query found does not sort {said[0]!r}.")
    cues = [cue.said.lower() for cue in asked.cues if cue.kind == "superlative"]
    if len(cues) != 1 or orders[0].aggregate == "COUNT":
        return
    word, is_old = cues[0], cues[0].split()[0] in WORDS["oldest"]
    of_time = is_old or word in {*WORDS["newest"], "most recent"}
    is_time = dated or words & WORDS["times"] or any(word.endswith("ed") for word in words)
    if column.type == "text" and not (dated or of_time):
        yield Doubt("cue", f"{word!r} means a quantity, but {column.name} contains text.")
    elif of_time and column.type == "real" and not is_time:
        yield Doubt("cue", f"{word!r} means a time, but {column.name} is not one.")
    elif of_time or not (dated or words & WORDS["ranks"]):
        wants_down = is_old == bool(words & WORDS["ages"]) if of_time else _is_large(word)
        if wants_down not in (None, is_down):
            end = "lowest" if wants_down else "highest"
            yield Doubt("cue", f"The query found takes {word!r} for the {end} {column.name}.")


def _unasked(asked: QuestionContext) -> Iterator[Doubt]:
    """Detects aggregates and comparisons without a cue; identifiers instead of quantities."""
    kinds = {cue.kind for cue in asked.cues}
    for clause in asked.of("select"):
        column = clause.column
        name = column.alias or column.name if column else "rows"
        does = _TABLE["does"].get(clause.aggregate)
        if does and not kinds & {*does["asked_by"]}:
            text = f"The query found {does['says'].format(name=name)}, which the question does not"
            yield Doubt("unasked", f"{text} ask for.")
        if clause.aggregate in ("SUM", "AVG", "MAX", "MIN") and clause.identifier:
            yield Doubt("identifier", f"{name} identifies rows; it is not a quantity.")
        is_named = column and {*map(stem, column.words)} <= {*asked.stems}
        is_named = is_named or any(t.text.lower() in WORDS["identifying"] for t in asked.tokens)
        if not clause.aggregate and clause.identifier and not is_named:
            yield Doubt("identifier", f"The query found shows only {name}, an identifier.")
    for clause in asked.of("where"):
        name, sign = clause.column.name if clause.column else "", clause.operator.rstrip("=")
        asked_by = _TABLE["compared_by"].get(sign)
        if clause.operator == "=" and (clause.table, name) in _shown(asked):
            text = f"The query found shows {name}, which the question already says."
            yield Doubt("unasked", text)
        if asked_by and not kinds & {*asked_by}:
            value = clause.values[0] if clause.values else ""
            text = f"The query found compares with {value!r}, which the question does not ask for."
            yield Doubt("unasked", text)


def _counts_another(asked: QuestionContext) -> Iterator[Doubt]:
    """Detects a count of rows where a column contains the number of copies."""
    found = re.search(r"\b(?:how many|number of) ([a-z]+)", asked.rest, re.IGNORECASE)
    counts = [c for c in asked.of("select") if c.aggregate == "COUNT" and not c.distinct]
    word = stem(found[1].lower()) if found else ""
    if not found or not counts or word in {stem(w) for t in asked.tables for w in t.words}:
        return
    for table in (*asked.tables, *asked.others):
        if table in asked.others and [*map(stem, table.words)] == [word]:
            yield Doubt("cue", f"{found[0]!r} asks for {table.name}, which the query omits.")
        for column in table.columns:
            is_quantity = column.type == "real" and not {*column.words} & DATES
            if is_quantity and [*map(stem, column.words)] == [word]:
                text = f"{found[0]!r} may mean the column {column.name}, which contains numbers;"
                yield Doubt("cue", f"{text} the query found counts rows.")
                return


_CHECKED = (_cues, _values, _not_shown, _shown_unasked, _misordered, _unasked, _counts_another)
