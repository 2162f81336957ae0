"""Checks a query against the words of its question.

A query that ignores a part of its question looks as right as one that does not. So each cue in the
question (never, each, highest, at least, or, 2015, "Moka Pot") must have its counterpart among the
query's clauses, and each aggregate, comparison and order of the query a cue in the question
(:func:`unmet`). Content words that nothing explains (:func:`words_left`) lower the confidence
(:mod:`codegen.sqlnet.trust`) and are named in the answer.

The checks read :class:`codegen.sqlnet.query.Clause`, so they hold for sketches and plans. Limit:
English words only; a demand without a listed word ("overdue") is just an unexplained word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

from codegen.sqlnet.query import DATES, Clause, Column, Table
from codegen.sqlnet.words import Token, number_in_words, number_of, stem, tokenize, words_of


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason not to trust a query: a code for programs, a sentence for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Asked:
    """A question beside the clauses of a query made for it.

    Attributes:
        others: the further tables of the database.
        is_read: whether values were looked up in the database. A value that was not may be any span
            of the question, so cues within it count.
        alike: the likeness of two words in [-1, 1]; without it, only stems are compared.
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
        """The clauses of these kinds."""
        return [clause for clause in self.clauses if clause.kind in kinds]

    @cached_property
    def tokens(self) -> list[Token]:
        """Of the question."""
        return tokenize(self.question)

    @cached_property
    def value_spans(self) -> list[tuple[int, int]]:
        """The spans of the question, in characters, that are values of the query."""
        spans = []
        for clause in self.clauses:
            held = {value.lower().strip() for value in clause.values}
            for text in {text.strip() for text in (*held, *map(str.lower, clause.said))} - {""}:
                pattern = rf"(?<!\w){re.escape(text)}(?!\w)"
                found = re.finditer(pattern, self.question, re.IGNORECASE)
                for start, end in (match.span() for match in found):
                    here = self.question[start:end]
                    if text not in held:  # a cell of another wording: "not Rome" may be Rome
                        parts = re.finditer(r"\w+", here)
                        plain = [p for p in parts if not _is_of_a_sentence(p[0])]
                        spans += [(start + p.start(), start + p.end()) for p in plain]
                    elif not (here.islower() and _is_a_cue(here)):
                        spans.append((start, end))
        if not self.is_read:
            said = {(a, b) for a, b in spans if self.question[a:b].islower()}
            spans = [s for s in spans if s not in said or not _reads_on(self.question, s)]
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
                plain = re.sub(
                    rf"\b{name}\b", lambda m: " " * len(m[0]), plain, flags=re.IGNORECASE
                )
        return plain

    @cached_property
    def cues(self) -> list[Cue]:
        """The cues of the question, in the order of :data:`_CUES`, without overlaps."""
        found: list[Cue] = []
        plain = self.rest
        for kind, pattern in _CUES:
            for match in pattern.finditer(plain):
                if kind != "superlative" or match[0].lower() not in _NOT_SUPERLATIVE:
                    said = match.lastgroup or 0
                    cue = Cue(kind, match[said].strip(), *match.span(said))
                    if not self._is_in_a_name(cue):
                        found.append(cue)
                    plain = plain[: cue.start] + " " * (cue.end - cue.start) + plain[cue.end :]
        return found

    def _is_in_a_name(self, cue: Cue) -> bool:
        """Whether a word of a column's name stands beside a cue that is a word of it too."""
        said = cue.said.lower()
        before = re.findall(r"\w+", self.question[: cue.start].lower())[-1:]
        after = re.findall(r"\w+", self.question[cue.end :].lower())[:1]
        for table in self.tables:
            for column in table.columns:
                words = [word for word in column.words if word.isalnum()]
                pairs = [*pairwise(words)]
                if any((one, said) in pairs for one in before) or any(
                    (said, one) in pairs for one in after
                ):
                    return True
        return False


@dataclass(frozen=True, slots=True)
class Cue:
    """A word or phrase that demands something: its kind, text and place in the question."""

    kind: str
    said: str
    start: int
    end: int


_NUMBER = r"(?:\$?\d[\d,.]*|one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|fifty)"
_LESS = "less fewer lower smaller younger shorter earlier cheaper lighter slower poorer littler"
_SMALL = (
    "least fewest lowest smallest shortest cheapest lightest slowest minimum min bottom narrowest"
)
_LARGE = "most highest largest biggest greatest longest heaviest fastest maximum max priciest"
_ENDS_AS_EST = """
    west east northwest southwest northeast southeast test guest interest request forest contest
    rest nest quest digest invest protest harvest honest modest arrest chest crest priest suggest
    budapest conquest manifest midwest everest request pest vest jest zest attest detest ernest
    bequest inquest wrest congest ingest divest unrest retest pretest tempest
"""
_NOT_SUPERLATIVE = frozenset(_ENDS_AS_EST.split())
_UP, _DOWN = (
    r"(?:higher|more|above|over|greater|older|later|longer|up|larger|bigger)",
    (r"(?:lower|less|fewer|below|under|younger|earlier|shorter|smaller)"),
)
_NO_THAN = r"(?! (?:\w+ )?than\b)"
_GOES_ON = r"(?=\W*\w)"  # "we look after" compares nothing
_OF_A_NUMBER = rf"(?= (?:the |an? )?(?:\w+ (?:of )?)?{_NUMBER})"  # "under the age of 30"
_THE_AVERAGE = r"(?= (?:the |its |their )?(?:average|mean)\b)"
# A phone number, or a room number, is not the number of phones or rooms.
_BEFORE_NUMBER = """
    the a an total average overall what same and by with of in on or for than as to is their its
    each per exact combined different give show find list return count whose which has have had at
    having from every any most least more less over under above below know tell want get
"""
_NUMBER_OF = rf"(?:^|[^\w\s] *|\b(?:{'|'.join(_BEFORE_NUMBER.split())}) +|  +)\bnumbers? of\b"
_PATTERNS = (
    # Questions that no query answers.
    ("chat", r"^\W*(?:hi|hello|hey|thanks|thank you|good morning|how are you)\b"),
    ("opinion", r"\bwhy\b|\bhow (?:come|do i|to|can (?:i|we|you|one|companies)|should)\b"),
    (
        "opinion",
        r"\b(?:should|do you (?:think|know)|recommend(?:ation)?s?|advice|advise|opinion)\b",
    ),
    ("opinion", r"\b(?:a|any|some) (?:good|great|nice|interesting|better|important)\b"),
    ("opinion", r"\bwhat (?:is|are) the (?:meaning|purpose|point|reasons?|causes?)\b"),
    ("future", r"^\W*(?:will|would|could|shall)\b|\b(?:will|going to|predict(?:ed)?|forecast)\b"),
    (
        "writing",
        r"^\W*(?:please )?(?:delete|remove|insert|update|drop|add|create|change|set|rename|cancel"
        r"|increase|write|translate|explain|describe|summari[sz]e)\b",
    ),
    ("someone", r"\b(?:he|she|him|his|her|hers|himself|herself|you|your|i|my)\b(?! \w+ id\b)"),
    # What is in a column at this time, or is not.
    (
        "no value",
        r"(?:\bnot|n['’]t) (?:yet )?(?:know|known|recorded|given|entered|stated|filled)\b",
    ),
    ("state", r"\b(?:still|any ?more|already|so far|yet)\b"),
    # Comparisons, before negation and alternatives, whose words they use.
    ("between", rf"\bbetween\b.+?\band\b|\bfrom {_NUMBER} (?:to|until|through) {_NUMBER}"),
    (
        "at least",
        r"\bat least\b|\b(?:no|not) (?:less|fewer|earlier|lower|younger) than\b|\bsince\b",
    ),
    ("at least", rf"\bminimum of\b|\b(?:or|and) {_UP}\b{_NO_THAN}|\bas of\b"),
    ("at most", r"\bat (?:the )?most\b|\b(?:no|not) (?:more|later|greater|higher|older) than\b"),
    ("at most", rf"\bup to\b|\bmaximum of\b|\b(?:or|and) {_DOWN}\b{_NO_THAN}|\buntil\b"),
    ("less", rf"\b(?:{_LESS.replace(' ', '|')}) than\b|\b(?:under|below){_OF_A_NUMBER}"),
    ("less", rf"\bbefore\b{_GOES_ON}|\bprior to\b"),
    ("compared", r"\b(?:better|worse|nearer|closer|other|rather) than\b"),
    ("less", rf"\b(?:below|under){_THE_AVERAGE}"),
    ("more", rf"\bmore than\b|\b\w+er than\b|\bafter\b{_GOES_ON}|\bexceed(?:s|ed|ing)?\b"),
    ("more", rf"\b(?:above|over){_THE_AVERAGE}"),
    ("more", rf"\b(?:greater|higher|larger|bigger|longer) (?={_NUMBER})"),
    ("more", rf"\b(?:over|above){_OF_A_NUMBER}|\b(?:beyond|past) (?={_NUMBER})"),
    ("unequal", r"\b(?:different from|apart from|besides)\b"),
    # Order, groups, sets.
    ("order", r"\b(?:sorted|ordered|ranked|arranged) (?:\w+ ){0,4}?(?:by|from|in)\b"),
    ("order", r"\b(?:sort|order|rank|arrange) (?:(?:them|these|it|the \w+) )?(?:by|from|in)\b"),
    ("order", r"\b(?:as|de)scending(?: order)?\b|\balphabetical(?:ly)?(?: order)?\b"),
    ("order", r"\bfrom (?:the )?\w+est\b.+?\bto (?:the )?\w+est\b|\breverse (?:order|chrono\w+)\b"),
    ("order", r"\b(?:in|by) (?:\w+ ){0,2}order\b|\bchronological(?:ly)?\b|\branking\b"),
    ("first few", rf"\b(?:top|bottom) {_NUMBER}\b|\b(?:first|last) {_NUMBER}\b(?! (?:round|game))"),
    ("how often", r"\b(?:most|least) (?:often|frequent(?:ly)?|common(?:ly)?|popular)\b"),
    (
        "superlative",
        r"\bmost recent(?:ly)?\b|\b(?:most|least|best|worst|top|fewest)\b|\b\w{2,}est\b",
    ),
    ("superlative", r"\b(?:maximum|minimum|max|min)\b"),
    ("each", r"\b(?:for|in|of|by|from|at|on|to)? ?(?:each|every)\b|\bgroup(?:ed|ing)? by\b"),
    (
        "each",
        r"\bbroken down by\b|\bper\b(?! cent\b)(?: \w+)?|\brespective(?:ly)?\b|\bfor all \w+",
    ),
    ("each", r"\b(?:average|mean|total|sum|count|number)\b[^?]*(?P<said>\bby \w+)\s*\??$"),
    ("distinct", r"\b(?:different|distinct|unique|various|differing)\b"),
    ("both", r"\bboth\b|\bas well as\b|\ball (?:of )?the (?:\w+ )?(?:courses|products|books)\b"),
    ("or", r"\beither\b|\bor\b"),
    ("never", r"\bnever\b|\bno(?=[ -][a-z])\b|\bnot\b|n['’]t\b|\bwithout\b|\bnobody\b|\bnone\b"),
    ("never", r"\bexcept\b|\bexclud(?:e|es|ed|ing)\b|\bneither\b|\bnor\b|\black(?:s|ing)?\b"),
    ("never", r"\bmissing\b|\bnon-?\w*|\bno one\b|\bnothing\b|\bempty\b|\bunknown\b"),
    # Numbers.
    ("share", r"\b(?:percent(?:age)?s?|proportion|fraction|ratio|share)\b"),
    ("arithmetic", r"\bdifference (?:between|in)\b|\bminus\b|\bmultipl\w+|\bcombined with\b"),
    ("arithmetic", r"\b(?:median|variance|standard deviation|growth|trend|correlation)\b"),
    ("count", rf"\bhow many\b|{_NUMBER_OF}|\bcount(?: of)?\b|\bamount of\b|\bhow often\b"),
    ("how much", r"\bhow much\b"),
    ("average", r"\b(?:average|avg|mean|averages)\b"),
    ("total", r"\b(?:total|sum|altogether|together|overall|combined|totals|in all(?=\W*$))\b"),
    # Time that moves.
    ("now", r"\b(?:today|now|yesterday|tomorrow|ago|recent(?:ly)?|upcoming|current(?:ly)?)\b"),
    ("now", r"\b(?:this|last|next|past|previous) (?:year|month|week|quarter|day|decade)s?\b"),
    (
        "month",
        r"\b(?:january|february|march(?= \d)|april|june|july|august|september|october|november"
        r"|december|may (?=\d))\b",
    ),
)
_CUES = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PATTERNS)

_SAYS = {
    "chat": "This is not a question about the data.",
    "opinion": "{said} asks for an opinion or an explanation; a database holds neither.",
    "future": "{said} asks for what is not in the data yet.",
    "writing": "{said} asks for more than an answer; the database is only read.",
    "someone": "I do not know whom {said} means.",
    "share": "I did not understand {said}: shares and ratios are not computed.",
    "arithmetic": "I did not understand {said}: columns are not computed with.",
    "now": "I did not understand {said}: no condition on a date was found for it.",
    "count": "{said} asks for a number, and the query found counts nothing.",
    "average": "{said} asks for an average, and the query found has none.",
    "total": "{said} asks for a sum, and the query found has none.",
}


def unmet(asked: Asked) -> Iterator[Doubt]:
    """What the question demands and the query lacks, then what the query does unasked; the most
    useful doubt first.
    """
    found = [*_contradictions(asked)]
    yield from found or _not_narrowed(asked)


def _contradictions(asked: Asked) -> Iterator[Doubt]:
    kinds = {cue.kind for cue in asked.cues}
    for cue in asked.cues:
        if not _MET.get(cue.kind, _never)(asked, cue):
            said = repr(cue.said)
            text = _SAYS.get(cue.kind, "I did not understand {said}.")
            yield Doubt("cue", text.format(said=said))
    yield from _values(asked)
    yield from _not_shown(asked)
    yield from _said_otherwise(asked)
    yield from _shared_extremes(asked)
    yield from _shown_unasked(asked)
    yield from _misordered(asked)
    yield from _unasked(asked, kinds)


def _not_shown(asked: Asked) -> Iterator[Doubt]:
    """The products "with their prices", where no price is shown."""
    shown = {clause.column.name for clause in asked.of("select") if clause.column}
    for match in re.finditer(r"\b(?:with|and) (?:their|its) (\w+(?: \w+)?)", asked.rest.lower()):
        said = [stem(word) for word in match[1].split()]
        columns = [column for table in asked.tables for column in table.columns]
        meant = {c.name for c in columns if {*map(stem, c.words)} & {said[0], said[-1]}}
        if meant and not meant & shown:
            yield Doubt("cue", f"The query found does not show {match[1]!r}.")

    halves = [(c.table, half) for c in asked.of("select") if (half := _half_of_a_name(c.column))]
    if len(halves) == 1 and not re.search(
        r"\b(?:first|last|given|family) ?name|surname", asked.question, re.I
    ):
        ((table, half),) = halves
        columns = (c for t in asked.tables if t.name == table for c in t.columns)
        if any(_half_of_a_name(column) not in ("", half) for column in columns):
            yield Doubt("cue", f"The query found shows the {half} name alone.")


def _shown_unasked(asked: Asked) -> Iterator[Doubt]:
    """Depots' names for "parcels heavier than 29 kg"."""
    if re.search(r"\b(?:who|whom|whose|where|when)\b", asked.rest, re.IGNORECASE):
        return
    said = {token.text.lower() for token in asked.tokens if token.text.isalpha()}
    shown = [clause for clause in asked.of("select") if clause.column and not clause.aggregate]
    names = {clause.table for clause in shown}
    if len(names) != 1 or len(shown) != len(asked.of("select")):
        return
    of = {table.name: [("", table.words)] for table in asked.tables}
    parts = of.pop(shown[0].table, [])
    parts = parts + [("", clause.column.words) for clause in shown if clause.column]
    named = [name for name, part in of.items() if any(_is_word_of(w, part) for w in said)]
    if named and not any(
        _taken_for(word, parts, asked) or _is_word_of(word, parts) for word in said
    ):
        yield Doubt(
            "cue", f"The question asks for {named[0]}; the query found shows {shown[0].table}."
        )


def _is_word_of(word: str, parts: Sequence[tuple[str, tuple[str, ...]]]) -> bool:
    return any(stem(word) in map(stem, words) for _, words in parts)


def _half_of_a_name(column: Column | None) -> str:
    words = {*column.words} if column else set()
    if words & {"first", "fname", "firstname", "given"}:
        return "first"
    return "last" if words & {"last", "lname", "lastname", "surname"} else ""


_AFFIXES = frozenset({"on", "at", "id", "no", "code", "date", "time", "is", "has"})


def _said_otherwise(asked: Asked) -> Iterator[Doubt]:
    """Who "left", where left_on is not used; the "manager", where manager_id is not."""
    used = {clause.column.name for clause in asked.clauses if clause.column}
    known = {stem(stem(word)) for table in asked.tables for word in table.words}
    known |= {stem(stem(w)) for c in asked.clauses if c.column for w in c.column.words}
    said = {stem(stem(t.text.lower())): t.text for t in tokenize(asked.rest) if t.text.isalpha()}
    for table in asked.tables:
        for column in table.columns:
            words = [word for word in column.words if word.isalnum()]
            bare = [stem(stem(word)) for word in words if word not in _AFFIXES]
            if column.name in used or len(bare) != 1 or len(words) == 1:
                continue
            is_known = any(word.startswith(bare[0]) for word in known)  # rented: rentals
            if bare[0] in said and not is_known:
                text = f"The question says {said[bare[0]]!r}; the query found does not use"
                yield Doubt("cue", f"{text} {column.name}.")
    cues = [cue for cue in asked.cues if cue.kind in ("average", "total")]
    parts = _parts(asked)
    for clause in asked.of("select"):
        if cues and clause.aggregate == "SUM" and not _is_said_at_all(asked, clause):
            assert clause.column
            text = (
                f"The query found adds up {clause.column.name}, which the question does not name."
            )
            yield Doubt("cue", text)
        for cue in cues if clause.aggregate in ("SUM", "AVG") else ():
            behind = (t.text.lower() for t in asked.tokens if t.start >= cue.end)
            word = next((w for w in behind if w.isalpha() and w not in LIGHT_WORDS), "")
            if word and not _is_a_cue(word) and not _taken_for(word, parts, asked):
                yield Doubt("cue", f"I did not understand {word!r}.")


def _is_said_at_all(asked: Asked, clause: Clause) -> bool:
    """Whether a word of the question names the column that is added up, or counts."""
    assert clause.column
    part = [("column", clause.column.words)]
    words = (token.text.lower() for token in asked.tokens if token.text.isalpha())
    return any(cue.kind == "count" for cue in asked.cues) or any(
        _taken_for(word, part, asked) for word in words
    )


def _shared_extremes(asked: Asked) -> Iterator[Doubt]:
    """The members on the dearest plan are several, though one plan is the dearest."""
    limits = [value for clause in asked.of("limit") for value in clause.values]
    shown = {clause.table for clause in asked.of("select")}
    for clause in asked.of("order") if limits == ["1"] else ():
        for table in asked.tables:
            is_one_of_many = any(key.table == clause.table for key in table.foreign_keys)
            if not clause.aggregate and table.name in shown - {clause.table} and is_one_of_many:
                name = clause.column.name if clause.column else clause.table
                yield Doubt("cue", f"Several {table.name} may share the same {name}.")


_AGES = frozenset({"age", "ages", "years", "old", "experience"})
_OLD, _NEW = ("oldest", "earliest"), ("youngest", "newest", "latest", "most recent")


def _misordered(asked: Asked) -> Iterator[Doubt]:
    """The oldest hotel by the highest year, the biggest stadium by its name, a descent upwards."""
    barred, shown = asked.of("never"), {clause.table for clause in asked.of("select")}
    if barred and all(c.column is None and c.table in shown for c in barred):
        yield Doubt("cue", f"The query found asks for {barred[0].table} without {barred[0].table}.")
    orders = [clause for clause in asked.of("order") if clause.column]
    if len(orders) != 1:
        return
    (order,) = orders
    assert order.column
    upward, downward = (re.search(p, asked.rest, re.I) for p in (_ASCENT, _DESCENT))
    if found := (upward if order.operator == "desc" and not downward else None) or (
        downward if order.operator == "asc" and not upward else None
    ):
        yield Doubt("cue", f"The query found does not sort {found[0]!r}.")
    said = [cue.said.lower() for cue in asked.cues if cue.kind == "superlative"]
    if len(said) != 1 or order.aggregate == "COUNT":
        return
    word, words = said[0], {*order.column.words}
    of_time = word.startswith((*_OLD, *_NEW))
    if order.column.type == "text" and not (order.dated or of_time):
        yield Doubt("cue", f"{word!r} asks for a quantity; {order.column.name} is a text.")
        return
    if of_time and order.column.type == "real" and not _is_of_time(order):
        yield Doubt("cue", f"{word!r} asks for a time; {order.column.name} is none.")
        return
    if of_time:
        is_down = word.startswith(_NEW) != bool(words & _AGES)
    elif (is_down := _is_large(word)) is None or order.dated or words & _RANKS:
        return
    if is_down != (order.operator == "desc"):
        end = "lowest" if is_down else "highest"
        yield Doubt("cue", f"The query found takes {word!r} for the {end} {order.column.name}.")


def _is_of_time(clause: Clause) -> bool:
    words = {*clause.column.words} if clause.column else set()
    named = words & {*_AGES, "since", "built", "start", "end", "version", "edition", "season"}
    return clause.dated or bool(named) or any(word.endswith("ed") for word in words)


_ASCENT = r"\bascending\b|\bincreasing\b|\b(?:low|lowest|small|smallest) to (?:the )?\w+\b"
_DESCENT = r"\bdescending\b|\bdecreasing\b|\b(?:high|highest|large|largest) to (?:the )?\w+\b"
_RANKS = frozenset({"rank", "ranking", "position", "place", "time"})  # 1 is the highest


def _not_narrowed(asked: Asked) -> Iterator[Doubt]:
    """Words that may narrow the rows (unpaid, goalkeepers), where the query takes all of them; what
    is asked for, where the query shows something else.
    """
    left = [w for w in words_left(asked) if stem(stem(w.lower())) not in _CONNECTING]
    heads = _ASKED_FOR.findall(asked.rest) + _COUNTED.findall(asked.rest)
    if any(clause.aggregate == "COUNT" for clause in asked.of("order")):
        heads += _MOST.findall(asked.rest)
    if unread := [word for word in left if word in heads]:
        yield _not_understood(unread)
        return
    if asked.of("where", "having", "never", "group", "order"):
        return
    names = {stem(word) for _, words in _parts(asked) for word in words}
    if len(asked.tables) > 1:  # the join may be what a verb says: received, awarded
        left = [word for word in left if not word.endswith("ed")]
    pairs = (f"{a.text}{b.text}".lower() for a, b in pairwise(asked.tokens))
    joined = " ".join(pair for pair in pairs if stem(pair) in names)  # high schoolers
    if left := [word for word in left if word.lower() not in joined]:
        yield _not_understood(left)


def _not_understood(words: Sequence[str]) -> Doubt:
    return Doubt("words", f"I did not understand {' and '.join(map(repr, words[:3]))}.")


_ASKED_FOR = re.compile(r"\bwhat (?:is|are|was|were) the (?:\w+ ){0,2}?(\w+) of\b", re.IGNORECASE)
_COUNTED = re.compile(r"\b(?:how many|number of) (?:different |distinct )?(\w+)", re.IGNORECASE)
_MOST = re.compile(r"\b(?:most|fewest|least) (\w+)", re.IGNORECASE)
_WEAK = """
    after before come came belong correspond ever happen occur offered carry keep look live got work
    time full code id method way types around world
"""
_CONNECTING = frozenset(stem(stem(word)) for word in _WEAK.split())


def _never(_asked: Asked, _cue: Cue) -> bool:
    return False


def _superlative(asked: Asked, cue: Cue) -> bool:
    """An order; or MAX or MIN of the quantity that is named behind the cue."""
    if asked.of("order"):
        return True
    ends = [c for c in asked.of("select", "having") if c.aggregate in ("MAX", "MIN")]
    superlative = re.escape(cue.said)
    holder = r"who|whose|(?:which|what) (?!is\b|was\b|are\b|were\b)\w+"
    asks_for_holder = rf"(?:with|(?:{holder})\b(?: \w+){{0,6}}) (?:the |an? )?{superlative}"
    if re.search(rf"\b{asks_for_holder}", asked.rest, re.IGNORECASE):
        return False
    for clause in ends:
        if clause.column is None or _goes(clause, cue.said) is False:
            continue
        names = {stem(word) for word in clause.column.words}
        said = {stem(token.text.lower()) for token in asked.tokens}
        near = [stem(t.text.lower()) for t in asked.tokens if t.start >= cue.end][:4]
        others = (column for table in asked.tables for column in table.columns)
        is_other = any(_in_order([stem(w) for w in other.words], near) for other in others)
        is_other |= bool({*near[:1]} & {stem(w) for t in asked.tables for w in t.words} - names)
        if names & {*near} or (names & said and not is_other) or _measures(cue, clause, said):
            return True
    return False


def _measures(cue: Cue, clause: Clause, near: set[str]) -> bool:
    """Whether an adjective means the column without its name: the cheapest, by price."""
    assert clause.column
    if clause.dated:
        return bool({cue.said.split()[-1].lower(), *near} & _OF_TIME)
    words = {*clause.column.words}
    return any(
        words & {*names.split()} and near & {*map(stem, adjectives.split())}
        for adjectives, names in _QUANTITIES
    )


_TIME_WORDS = "oldest youngest latest newest earliest recent recently"
_OF_TIME = frozenset(_TIME_WORDS.split())
_QUANTITIES = (
    ("cheapest expensive priciest costly", "price cost fee amount"),
    ("oldest youngest", "age"),
    ("tallest shortest highest", "height"),
    ("longest shortest", "length duration distance"),
    ("heaviest lightest", "weight"),
    ("fastest slowest", "speed"),
    ("largest biggest smallest", "size area capacity population"),
    ("richest poorest paid", "salary income wage"),
)


def _goes(clause: Clause, said: str) -> bool | None:
    """Whether MAX or MIN is what the word says; None if the word does not say."""
    is_large = _is_large(said)
    return None if is_large is None else clause.aggregate == ("MAX" if is_large else "MIN")


def _is_large(said: str) -> bool | None:
    """Whether a superlative asks for the most of something; None if it does not say."""
    word = said.lower().split()[0]
    if word in _SMALL.split():
        return False
    return True if word in _LARGE.split() else None


def _compares(*operators: str) -> Callable[[Asked, Cue], bool]:
    def met(asked: Asked, _cue: Cue) -> bool:
        return any(clause.operator in operators for clause in asked.of("where", "having", "never"))

    return met


def _between(asked: Asked, _cue: Cue) -> bool:
    operators = [clause.operator for clause in asked.of("where", "having")]
    if "between" in operators:
        return True
    return any(o in (">", ">=") for o in operators) and any(o in ("<", "<=") for o in operators)


def _negated(asked: Asked, _cue: Cue) -> bool:
    return bool(asked.of("never")) or any(
        clause.operator in ("!=", "not contains", "is null")
        for clause in asked.of("where", "having")
    )


def _alternatives(asked: Asked, _cue: Cue) -> bool:
    """An OR, or one condition with two values."""
    where = asked.of("where", "having", "never")
    return any(clause.connective == "or" for clause in where[1:]) or any(
        clause.operator != "between" and len(clause.values) > 1 for clause in where
    )


def _grouped(asked: Asked, cue: Cue) -> bool:
    """A group; or a plain list of what each is said of: the names of each product. For all products
    there is one average price as well, but not one number of orders.
    """
    if asked.of("group"):
        return True
    is_one = any(clause.aggregate for clause in asked.clauses)
    of_all = cue.said.lower().startswith("for all")
    if is_one and not of_all:
        return False
    behind = [stem(t.text.lower()) for t in asked.tokens if t.start >= cue.start][1:4]
    shown = {clause.table for clause in asked.of("select")}
    tables = [table for table in asked.tables if not is_one or table.name in shown]
    return bool({*behind} & {stem(word) for table in tables for word in table.words})


def _told_apart(asked: Asked, _cue: Cue) -> bool:
    """DISTINCT; or a group by what is shown, which gives each value once."""
    groups = {(c.table, c.column.name) for c in asked.of("group") if c.column}
    shown = {(c.table, c.column.name) for c in asked.of("select") if c.column and not c.aggregate}
    return bool(groups & shown) or any(clause.distinct for clause in asked.clauses)


def _counted(asked: Asked, cue: Cue) -> bool:
    """COUNT or SUM anywhere; or a column of numbers, in which somebody has counted."""
    if any(clause.aggregate in ("COUNT", "SUM") for clause in asked.clauses):
        return True
    columns = [clause.column for clause in asked.clauses if clause.column]
    is_named = "number" in cue.said and any({"number", "numbers"} & {*c.words} for c in columns)
    behind = [stem(t.text.lower()) for t in asked.tokens if t.start >= cue.end][:1]
    is_named |= any(c.type == "real" and stem(c.words[0]) in behind for c in columns)
    shown = [c for c in asked.of("select", "order") if c.column and not c.identifier]
    return is_named or any(c.column is not None and c.column.type == "real" for c in shown)


def _is_quantity(asked: Asked, _cue: Cue) -> bool:
    """An aggregate, or a number of the rows that a condition or an order chooses."""
    is_chosen = bool(asked.of("where", "order"))
    return any(
        c.aggregate
        or (is_chosen and c.column and c.column.type == "real" and not (c.dated or c.identifier))
        for c in asked.of("select")
    )


def _aggregated(*names: str) -> Callable[[Asked, Cue], bool]:
    def met(asked: Asked, _cue: Cue) -> bool:
        return any(clause.aggregate in names for clause in asked.clauses)

    return met


def _summed(asked: Asked, _cue: Cue) -> bool:
    """SUM; COUNT only for a total number: total revenue is not the number of rows."""
    names = {clause.aggregate for clause in asked.clauses}
    is_number = bool(re.search(r"\b(?:number|count|how many)\b", asked.question, re.IGNORECASE))
    return "SUM" in names or ("COUNT" in names and is_number)


def _all_of(asked: Asked, _cue: Cue) -> bool:
    """Two values, or two things shown."""
    values = sum(len(clause.values) for clause in asked.of("where"))
    return values > 1 or len(asked.of("select")) > 1


def _has(kind: str) -> Callable[[Asked, Cue], bool]:
    return lambda asked, _cue: bool(asked.of(kind))


def _limited(asked: Asked, _cue: Cue) -> bool:
    return bool(asked.of("order")) and bool(asked.of("limit"))


def _dated(asked: Asked) -> list[Clause]:
    return [clause for clause in asked.of("where") if clause.dated]


_MET: dict[str, Callable[[Asked, Cue], bool]] = {
    "between": _between,
    "at least": _compares(">=", "between"),
    "at most": _compares("<=", "between"),
    "less": _compares("<", "<=", "between"),
    "more": _compares(">", ">=", "between"),
    "compared": _compares("<", "<=", ">", ">=", "!="),
    "unequal": _negated,
    "no value": _compares("is null"),
    "state": lambda asked, _cue: bool(asked.of("where", "having", "never")),
    "order": _has("order"),
    "first few": _limited,
    "how often": _has("order"),
    "superlative": _superlative,
    "each": _grouped,
    "distinct": _told_apart,
    "both": _all_of,
    "or": _alternatives,
    "never": _negated,
    "count": _counted,
    "how much": _is_quantity,
    "average": _aggregated("AVG"),
    "total": _summed,
    "now": lambda asked, _cue: any(c.values and c.operator != "=" for c in _dated(asked)),
    "month": lambda asked, _cue: any(c.values for c in _dated(asked)),
}

_ASKED_BY = {
    "COUNT": ("count", "total", "how often"),
    "SUM": ("total", "count"),
    "AVG": ("average",),
    "MAX": ("superlative", "at most", "order"),
    "MIN": ("superlative", "at least", "order"),
}
_DOES = {
    "COUNT": "counts rows",
    "SUM": "adds up {name}",
    "AVG": "averages {name}",
    "MAX": "takes the highest {name}",
    "MIN": "takes the lowest {name}",
}
_COMPARED_BY = {
    ">": ("more", "at least", "between", "now", "compared"),
    "<": ("less", "at most", "between", "now", "compared"),
}


def _unasked(asked: Asked, kinds: set[str]) -> Iterator[Doubt]:
    """Aggregates and comparisons without a cue; identifiers in place of what is asked for."""
    words = {stem(token.text.lower()) for token in asked.tokens}
    for clause in asked.of("select"):
        name = clause.column.alias or clause.column.name if clause.column else "rows"
        wanted = _ASKED_BY.get(clause.aggregate)
        if wanted and not kinds & {*wanted}:
            does = _DOES[clause.aggregate].format(name=name)
            yield Doubt("unasked", f"The query found {does}, which the question does not ask for.")
        if clause.aggregate == "COUNT" and not clause.distinct:
            yield from _counts_another(asked)
        if clause.column is None:
            continue
        if clause.column.words[0] in ("is", "has") and not _is_named(asked, clause):
            yield Doubt(
                "unasked", f"The query found uses {name}, which the question does not name."
            )
        if clause.aggregate in ("SUM", "AVG", "MAX", "MIN") and clause.identifier:
            yield Doubt("identifier", f"{name} identifies rows; it is not a quantity.")
        if not clause.aggregate and clause.identifier:
            is_named = {stem(word) for word in clause.column.words} <= words
            if not is_named and not any(t.text.lower() in _ID_WORDS for t in asked.tokens):
                yield Doubt("identifier", f"The query found gives {name}, an identifier, alone.")
    shown = {(c.table, c.column.name) for c in asked.of("select") if c.column and not c.aggregate}
    for clause in asked.of("where"):
        column = clause.column
        if column and (clause.table, column.name) in shown:
            compares = clause.operator in (">", "<", ">=", "<=") and len(shown) == 1
            if clause.operator == "=" or (compares and _is_a_verb(asked, clause)):
                text = f"The query found gives {column.name}, which the question already says."
                yield Doubt("unasked", text)
        if clause.identifier and clause.operator in (">", "<", ">=", "<="):
            name = clause.column.name if clause.column else ""
            yield Doubt("identifier", f"{name} identifies rows; it is not compared by size.")
        wanted = _COMPARED_BY.get(clause.operator.rstrip("="))
        if wanted and not kinds & {*wanted}:
            value = clause.values[0] if clause.values else ""
            yield Doubt(
                "unasked",
                f"The query found compares with {value!r}, which the question does not ask for.",
            )


def _is_a_verb(asked: Asked, clause: Clause) -> bool:
    """Whether a column's name is what the rows that the question names did: vans bought after."""
    table = next((table for table in asked.tables if table.name == clause.table), None)
    names = {stem(word) for word in table.words} if table else set()
    pairs = pairwise(stem(token.text.lower()) for token in asked.tokens)
    words = {stem(word) for word in clause.column.words} if clause.column else set()
    return any(one in names and other in words - names for one, other in pairs)


def _is_named(asked: Asked, clause: Clause) -> bool:
    """Whether a yes-or-no column is shown or counted as the question says: "is it a business"."""
    assert clause.column
    said = {token.text.lower() for token in asked.tokens}
    return not clause.distinct and {*map(stem, clause.column.words[1:])} <= {*map(stem, said)}


_NUMBERING = "id ids code codes number numbers no identifier key"
_ID_WORDS = frozenset(_NUMBERING.split())


def _counts_another(asked: Asked) -> Iterator[Doubt]:
    """How many copies there are is not the number of rows, where a column says copies."""
    found = re.search(r"\b(?:how many|number of) ((?:\w+ ?){1,3})", asked.rest, re.IGNORECASE)
    if not found:
        return
    first = stem(found[1].split()[0].lower())
    others = [table.name for table in asked.others if [*map(stem, table.words)] == [first]]
    tables = {stem(word) for table in asked.tables for word in table.words}
    if others and first not in tables:
        yield Doubt(
            "cue", f"{found[0].strip()!r} asks for {others[0]}, which the query leaves out."
        )
    columns = [column for table in asked.others for column in table.columns]
    if any([*map(stem, column.words)] == [first] for column in columns) and not (
        first in tables or _taken_for(found[1].split()[0].lower(), _parts(asked), asked)
    ):
        yield Doubt(
            "cue", f"{found[0].strip()!r} asks for something that the query does not count."
        )
    for table in asked.tables:
        for column in table.columns:
            names = [stem(word) for word in column.words]
            is_quantity = (
                column.type == "real" and first.isalpha() and not ({*column.words} & DATES)
            )
            if is_quantity and names == [first] and first not in tables:
                yield Doubt(
                    "cue",
                    f"{found[0].strip()!r} may ask for the column {column.name}, which says how"
                    " many; the query found counts rows.",
                )
                return


def _values(asked: Asked) -> Iterator[Doubt]:
    """Numbers, quoted and capitalized words that the query does not use."""
    spans = asked.value_spans
    limits = {number_of(value) for clause in asked.of("limit") for value in clause.values}
    used = {number_of(v) for c in asked.clauses for v in (*c.values, *c.said)}
    held = " | ".join(v.lower() for c in asked.clauses for v in (*c.values, *c.said))
    names = _name_stems((*asked.tables, *asked.others))
    for match in re.finditer(r"\"([^\"]+)\"|(?<!\w)'([^']+)'(?!\w)|“([^”]+)”", asked.question):
        text = next(filter(None, match.groups()))
        if not _covered(match.start() + 1, match.end() - 1, spans) and text.lower() not in held:
            yield _unused(text)
    for match in re.finditer(r"(?<![\w.,])\$?\d+(?:,\d+)*(?:\.\d+)?(?!\w)", asked.question):
        number = number_of(match[0])
        if (
            not _covered(match.start(), match.end(), spans)
            and number not in limits | used
            and match[0].lower() not in names
        ):
            yield _unused(match[0])
    for match in re.finditer(r"[a-z]+(?:-[a-z]+)?", asked.rest.lower()):
        number = number_in_words(match[0])
        if number and number > 1 and number not in limits | used and match[0] not in names:
            yield _unused(match[0])
    yield from _proper_names(asked, names, held)


def _unused(said: str) -> Doubt:
    return Doubt("value", f"The query does not use {said!r}; no column was found for it.")


def _proper_names(asked: Asked, names: set[str], held: str) -> Iterator[Doubt]:
    words = [token for token in asked.tokens if token.text.isalpha()]
    capitals = sum(token.text[0].isupper() for token in words)
    if not words or capitals > max(4, 0.6 * len(words)):
        return  # a headline
    for before, token in zip([None, *asked.tokens], asked.tokens, strict=False):
        text, lower = token.text, token.text.lower()
        begins = before is None or before.text in ".?!:"
        if not text[0].isupper() or begins or lower in LIGHT_WORDS or len(text) < 2:
            continue
        if _covered(token.start, token.end, asked.value_spans) or stem(lower) in names:
            continue
        if not re.search(rf"\b{re.escape(lower)}\b", held):
            yield _unused(text)


def _is_a_cue(text: str) -> bool:
    return any(cue.fullmatch(text) for _, cue in _CUES)


def _is_of_a_sentence(word: str) -> bool:
    return word.islower() and (word in LIGHT_WORDS or _is_a_cue(word))


def _reads_on(question: str, span: tuple[int, int]) -> bool:
    """Whether what follows a stretch belongs to it: attractions are available at each park."""
    words = question[slice(*span)].split()
    return len(words) > 2 and bool({*words} & _SENTENCE_WORDS)


_OF_SENTENCES = "are was were is has have had that which each every do does did all with and"
_SENTENCE_WORDS = frozenset(_OF_SENTENCES.split())


def _covered(start: int, end: int, spans: Iterable[tuple[int, int]]) -> bool:
    return any(a <= start and end <= b for a, b in spans)


def _name_stems(tables: Iterable[Table]) -> set[str]:
    names = {word for table in tables for word in table.words}
    names |= {word for table in tables for column in table.columns for word in column.words}
    return {stem(word) for word in names} | names


# Words without content of their own, or that fit any table.
_LIGHT_ONES = """
    a about above across all also am among an and any anybody anyone anything are as asked at
    available be been being by called can contain contains containing corresponding could data
    database details did do does doing done entire entries entry exact exactly exist exists find for
    found from get gets give given had has have having held hold holding how i if in include
    includes including information into is it its itself just kind kinds know known let like list
    listed lists made make many me more much must name named names need of on one ones only our out
    over overall own please possible provide record recorded records report result return row rows s
    say seen select set shall show shown shows some somebody someone something stored such tell than
    that the their them then there these they thing things this those through to together total type
    under up us use used using value values very want was we were what when where which while who
    whom whose will with within would
"""
LIGHT_WORDS = frozenset(_LIGHT_ONES.split())


def explained(asked: Asked) -> list[tuple[str, str]]:
    """Each content word of the question, and what it was taken for ("": unused)."""
    parts = _parts(asked)
    found = []
    for token in asked.tokens:
        word = token.text.lower()
        if not token.text.isalnum():
            continue
        if _covered(token.start, token.end, asked.value_spans):
            found.append((token.text, "a value"))
        elif cue := next((c for c in asked.cues if c.start <= token.start < c.end), None):
            met = _MET.get(cue.kind, _never)(asked, cue)
            found.append((token.text, cue.kind if met else ""))
        elif word not in LIGHT_WORDS and not word.isdigit():
            found.append((token.text, _taken_for(word, parts, asked)))
    return found


def _parts(asked: Asked) -> list[tuple[str, tuple[str, ...]]]:
    """What the query uses, with the words that name it."""
    parts = [(f"table {table.name}", table.words) for table in asked.tables]
    for clause in asked.clauses:
        if clause.column:
            parts.append((f"column {clause.column.name}", clause.column.words))
        for value in clause.values:
            parts.append((f"value {value}", words_of(value)))
    return parts


_ALIKE = 0.75
# Words with similar vectors and different meanings: sets of synonyms, each line a group of rivals.
_RIVALS = tuple(
    tuple(frozenset(map(stem, words.split())) for words in line.split("|"))
    for line in """
    revenue sales turnover proceeds | profit margin gain | budget | cost expense spending
    arrival arrive arrived | departure depart departed
    birth born | death died dead
    buyer customer client | seller supplier vendor
    start begin opening opened | end finish closing closed
    win won winner | loss lost loser | draw tie
    home | away
    import imported | export exported
    income salary wage | tax
    height | weight | width | length | depth
    mother | father
    husband | wife
    teacher | student pupil
    author writer | publisher | editor
    actor actress | director | producer
    borrowed | returned
    received | sent
    latitude | longitude
    sunrise | sunset
    north | south | east | west
    male man men boy | female woman women girl
    """.strip().splitlines()
)


def _are_rivals(one: str, other: str) -> bool:
    a, b = stem(one), stem(other)
    places = [[n for n, s in enumerate(sets) if w in s] for sets in _RIVALS for w in (a, b)]
    return any(p and q and p != q for p, q in zip(places[::2], places[1::2], strict=True))


def _taken_for(word: str, parts: Sequence[tuple[str, tuple[str, ...]]], asked: Asked) -> str:
    bare = stem(word)
    for part, words in parts:
        if bare in {stem(one) for one in words}:
            return part
    for part, words in parts:
        if asked.nearest.get(word) == words and not any(_are_rivals(word, w) for w in words):
            return part
        plain = [one for one in words if one not in LIGHT_WORDS]
        if asked.alike and any(
            asked.alike(word, one) >= _ALIKE and not _are_rivals(word, one) for one in plain
        ):
            return part
    return ""


def words_left(asked: Asked) -> list[str]:
    """The content words of the question that nothing in the query explains."""
    return [word for word, part in explained(asked) if not part]


def named_but_unused(asked: Asked) -> list[str]:
    """Columns of the query's tables, and other tables, that the question names in full and the
    query does not use.
    """
    used = {clause.column.name.lower() for clause in asked.clauses if clause.column}
    known = {w for c in asked.clauses if c.column for w in map(stem, c.column.words)}
    known |= {stem(w) for table in asked.tables for w in table.words}
    said = [stem(token.text.lower()) for token in tokenize(asked.rest) if token.text.isalnum()]
    found = []
    for table in asked.tables:
        for column in table.columns:
            names = [stem(word) for word in column.words]
            if column.name.lower() not in used and _in_order(names, said) and {*names} - known:
                found.append(column.name)
    for table in asked.others:
        names = [stem(word) for word in table.words]
        if _in_order(names, said) and {*names} - known:
            found.append(table.name)
    return found


def _in_order(names: Sequence[str], said: Sequence[str]) -> bool:
    size = len(names)
    return any(list(said[i : i + size]) == list(names) for i in range(len(said) - size + 1))


def grounding(asked: Asked, *, of_plan: bool = False) -> dict[str, float]:
    """How well the question's words name the query's columns: some of
    :data:`codegen.sqlnet.trust.SIGNS`.

    With ``of_plan``, "which students" names the column of their names, and a cell the column that
    holds it.
    """
    said = {stem(token.text.lower()) for token in asked.tokens}

    def share(words: Sequence[str]) -> float:
        return sum(stem(word) in said for word in words) / len(words)

    shares, unnamed, by_cell = [], 0, set()
    for clause in asked.of("select"):
        if clause.column:
            is_named = of_plan and not clause.aggregate and _is_its_name(asked, clause, said)
            shares.append(1.0 if is_named else share(clause.column.words))
    for clause in asked.of("where", "having"):
        if of_plan and _is_said(asked, clause):
            by_cell.add(clause.table)
        elif clause.column:
            unnamed += not share(clause.column.words)
    tables = [1.0 if table.name in by_cell else share(table.words) for table in asked.tables]
    return {
        "table_named": min(tables),
        "select_named": min(shares, default=1.0),
        "columns_unnamed": float(unnamed),
        "who": float(any(_of_another_sort(asked.question, c) for c in asked.of("select"))),
    }


_NAMES = "name names title fullname full first last firstname lastname fname lname"
_NAMING = frozenset(_NAMES.split())


def _is_its_name(asked: Asked, clause: Clause, said: set[str]) -> bool:
    """Whether a column names the rows of a table that the question speaks of, or asks who."""
    assert clause.column
    table = next((t for t in asked.tables if t.name == clause.table), None)
    own = {stem(word) for word in table.words} if table else set()
    rest = {word for word in clause.column.words if stem(word) not in own}
    return rest <= _NAMING and bool(said & {*own, "who", "whom"})


def _is_said(asked: Asked, clause: Clause) -> bool:
    """Whether a condition's values are texts of the database that the question has in full."""
    return (
        asked.is_read
        and bool(clause.values)
        and clause.operator in ("=", "!=")
        and all(number_of(value) is None for value in clause.values)
        and all(
            re.search(rf"(?<!\w){re.escape(value.strip())}(?!\w)", asked.question, re.IGNORECASE)
            for value in clause.values
        )
    )


def _of_another_sort(question: str, clause: Clause) -> bool:
    """Whether who, when or where is answered by a column of another sort."""
    found = re.search(r"\b(who|whom|when|where)\b", question.lower())
    if not found or clause.column is None:
        return bool(found and found[1] != "when" and clause.aggregate)
    if found[1] == "when":
        return not (clause.dated or clause.column.type == "real")
    return clause.dated or clause.column.type == "real"
