r"""A grammar, in GBNF, of statements on a schema that the gate may accept.

GBNF is llama.cpp's notation; vLLM reads it too, and :mod:`codegen.decoding` constrains local models
by it. A constrained model writes one SELECT of known parts over the schema's names, or ``CANNOT
ANSWER:`` and a reason. Which column belongs to which table is not in the grammar; the gate
(:func:`codegen.sqlnet.sql.validate`) checks it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from sqlglot.tokens import Tokenizer

from codegen.sqlnet.query import Table
from codegen.sqlnet.words import quoted

CANNOT = "CANNOT ANSWER"
"""A model's answer if the database lacks what the question asks for."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_KEYWORDS = frozenset(word for words in Tokenizer.KEYWORDS for word in words.upper().split())
_RULES = r"""
root ::= query | "CANNOT ANSWER: " [^\n]+
query ::= select (set select)? order? limit?
set ::= " UNION " | " INTERSECT " | " EXCEPT "
select ::= "SELECT " "DISTINCT "? expr (", " expr)* " FROM " source join* where? group?
source ::= table (" AS " alias)?
join ::= (" JOIN " | " LEFT JOIN ") source " ON " column " = " column
where ::= " WHERE " cond
group ::= " GROUP BY " column (", " column)* (" HAVING " cond)?
order ::= " ORDER BY " expr (" ASC" | " DESC")? (", " expr (" ASC" | " DESC")?)?
limit ::= " LIMIT " [1-9] [0-9]? [0-9]?
cond ::= test ((" AND " | " OR ") test)*
test ::= "NOT "? (compared | "EXISTS (" query ")" | "(" cond ")")
compared ::= expr (comparison | between | null | among | like)
comparison ::= (" = " | " <> " | " < " | " <= " | " > " | " >= ") (expr | "(" query ")")
between ::= " BETWEEN " value " AND " value
null ::= " IS NULL" | " IS NOT NULL"
among ::= " NOT"? " IN (" (query | value (", " value)*) ")"
like ::= " NOT"? " LIKE " text
expr ::= term ((" + " | " - " | " * " | " / ") term)?
term ::= aggregate | column | value
aggregate ::= "COUNT(*)" | ("COUNT" | "SUM" | "AVG" | "MIN" | "MAX") "(" "DISTINCT "? column ")"
column ::= ((table | alias) ".")? name
alias ::= "T" [1-9]
value ::= "-"? [0-9]+ ("." [0-9]+)? | text
text ::= "'" ([^'\x00-\x1f] | "''")* "'"
"""


def gbnf_of(tables: Sequence[Table]) -> str:
    """The grammar over these tables, at least one."""
    namespaces = {(table.namespace, table.name) for table in tables}
    names = (column.name for table in tables for column in table.columns)
    full = [(f"{quoted(ns)}." if ns else "") + quoted(name) for ns, name in sorted(namespaces)]
    bare = [name for ns, name in sorted(namespaces) if not ns and _is_bare(name)]
    columns = sorted(set(names))
    plain = [name for name in columns if _is_bare(name)]
    return (
        _RULES.strip()
        + f"\ntable ::= {_alternatives([*full, *bare])}"
        + f"\nname ::= {_alternatives([*map(quoted, columns), *plain])}\n"
    )


def _is_bare(name: str) -> bool:
    return bool(_BARE.fullmatch(name)) and name.upper() not in _KEYWORDS


def _alternatives(texts: Iterable[str]) -> str:
    return " | ".join(json.dumps(text, ensure_ascii=False) for text in texts)
