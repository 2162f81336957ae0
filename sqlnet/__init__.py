"""SQLNet: questions to safe SQL by a sketch, on any database, offline.

Source: Xu, Liu and Song, "SQLNet: Generating Structured Queries From Natural Language Without
Reinforcement Learning" (arXiv 1711.04436). The modules, from the bottom: ``words``, ``query``
(tables and the sketch), ``sql`` (statements and the gate that all of them pass), ``databases``
(read-only), ``schema``; ``features``, ``vectors`` (of words), ``layout`` with ``shared`` and
``paper`` (the networks), ``calibration``, ``network``; ``linking`` (what of a database a question
speaks of), ``decode`` (from logits to queries), ``parser`` (all of it together), ``fallback`` (a
language model where one sketch is not enough); ``examples``, ``metrics``, ``training``.

The names below are imported when they are first used: some need torch, others sqlglot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codegen.sqlnet.databases import DatabaseError
    from codegen.sqlnet.parser import Parse, Reading, SQLNet
    from codegen.sqlnet.query import (
        AGGREGATES,
        OPERATORS,
        Column,
        Condition,
        Query,
        Statement,
        Table,
        UnsafeSQLError,
        queries_match,
    )
    from codegen.sqlnet.schema import Schema
    from codegen.sqlnet.sql import to_sql, validate

__all__ = [
    "AGGREGATES",
    "Column",
    "Condition",
    "DatabaseError",
    "OPERATORS",
    "Parse",
    "Query",
    "Reading",
    "SQLNet",
    "Schema",
    "Statement",
    "Table",
    "UnsafeSQLError",
    "queries_match",
    "to_sql",
    "validate",
]

_MODULES = {
    "query": (
        *("AGGREGATES", "OPERATORS", "Column", "Condition", "Query", "Statement", "Table"),
        *("UnsafeSQLError", "queries_match"),
    ),
    "databases": ("DatabaseError",),
    "schema": ("Schema",),
    "sql": ("to_sql", "validate"),
    "parser": ("Parse", "Reading", "SQLNet"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
