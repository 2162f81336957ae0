"""SQLNet: questions to safe SQL by a sketch, on any database, offline.

Source: Xu, Liu and Song, "SQLNet: Generating Structured Queries From Natural Language Without
Reinforcement Learning" (arXiv 1711.04436). The modules, from the bottom:

- ``words``, ``query`` (tables and the sketch), ``sql`` (statements, and the gate that every one
  passes), ``databases`` (read-only), ``schema`` (also what people call things);
- one table: ``features``, ``layout`` with ``shared`` and ``paper`` (the networks), ``network``,
  ``linking`` (values in the question), ``decode``;
- several tables: ``joins``, ``plan``, ``plan_features``, ``plan_network``, ``plan_decode``;
- both: ``cues`` and ``trust`` (may the answer be given?), ``explain``, ``parser``, ``answers``,
  ``fallback`` (a language model);
- training: ``examples``, ``plan_data``, ``training``, ``storage``.

Names are imported on first use: some need torch, others sqlglot.
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
    "to_sql",
    "validate",
]

_MODULES = {
    "query": (
        *("AGGREGATES", "OPERATORS", "Column", "Condition", "Query", "Statement", "Table"),
        "UnsafeSQLError",
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
