"""Short forms in column names, read as the words that a question spells out.

A model that knows words by their vectors does not see that ``dep_delay`` is a departure delay.
Where a question holds the long form of a column's word and not the short one, the column is read
with the long form, as an alias would have it. The forms are some that databases use much; whatever
is not among them (``st_cd``) still needs an alias.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from codegen.sqlnet.features import MAX_TOKENS, stem
from codegen.sqlnet.schema import Column, Table
from codegen.sqlnet.tokens import tokenize

_FORMS = """
acct account | addr address | alt altitude | amt amount | arr arrival | avg average | bal balance
bday birthday | bldg building | cat category | cnt count | cust customer | dep departure
dept department | desc description | dest destination | dist distance | dob birthday | dur duration
elev elevation | emp employee | fname first name | freq frequency | hr hour | ht height
humid humidity | inv invoice | lang language | lat latitude | lname last name | lng longitude
loc location | lon longitude | long longitude | manuf manufacturer | max maximum | max highest
mfr manufacturer | mgr manager | min minimum | min lowest | mo month | mpg miles per gallon
msg message | nbr number | num number | org organization | orig origin | pct percent
pct percentage | phone telephone | pop population | precip precipitation | prod product
qty quantity | ref reference | sal salary | sec second | spd speed | src source | std standard
sys system | tel telephone | temp temperature | ts timestamp | tz time zone | tzone time zone
txn transaction | usr user | vis visibility | visib visibility | wt weight | yr year
"""


def _forms() -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in _FORMS.strip().splitlines():
        for pair in line.split("|"):
            short, *long = pair.split()
            found.setdefault(short, []).append(tuple(long))
    return found


_LONG = _forms()


def spelled_out(table: Table, question: str) -> Table:
    """The table, its columns' short forms replaced by the long ones that the question holds.

    The names stay what they are: the long forms are aliases.
    """
    words = [token.text.lower() for token in tokenize(question)[:MAX_TOKENS]]
    stems = [stem(word) for word in words]
    asked = set(stems)
    # Few questions hold any long form at all: then no column needs to be looked at.
    long = {s: [f for f in fs if asked.issuperset(map(stem, f))] for s, fs in _LONG.items()}
    held = {short: forms for short, forms in long.items() if forms and short not in words}
    if not held:
        return table
    columns = tuple(_spelled(column, held, stems) for column in table.columns)
    return table if columns == table.columns else replace(table, columns=columns)


def _spelled(column: Column, long: Mapping[str, list[tuple[str, ...]]], stems: list[str]) -> Column:
    words = column.words
    if column.alias or not any(word in long for word in words):
        return column
    found: list[str] = []
    for word in words:
        forms = (form for form in long.get(word, ()) if _stands_in(form, stems))
        found += next(forms, (word,))
    return column if tuple(found) == words else replace(column, alias=" ".join(found))


def _stands_in(form: tuple[str, ...], stems: list[str]) -> bool:
    sought = [stem(word) for word in form]
    starts = range(len(stems) - len(sought) + 1)
    return any(stems[i : i + len(sought)] == sought for i in starts)
