"""SQLNet: questions to safe SQL by a sketch, on any database, offline.

Source: Xu, Liu and Song, "SQLNet: Generating Structured Queries From Natural Language Without
Reinforcement Learning" (arXiv 1711.04436). The pieces, from the bottom: ``query`` (the sketch),
``schema``, ``sql`` (statements and the gate that all of them pass), ``databases`` (read-only),
``tokens``, ``features``, ``vectors``, ``contextual`` (vectors from an encoder), ``layout`` with
``shared`` and ``paper`` (the networks), ``network``, ``decode``, ``guided`` (choice by running),
``calibration``, ``ranking`` (of tables), ``linking`` (of values), ``abbreviations``, ``scope``,
``parser`` (all of it together), ``fallback`` (a language model where one sketch is not enough),
``wikisql``, ``examples``, ``training``, ``metrics``.

``SQLNet``, ``Parse`` and ``Reading`` import torch, when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from codegen.sqlnet.errors import DatabaseError, UnsafeSQLError
from codegen.sqlnet.query import AGGREGATES, OPERATORS, Condition, Query, queries_match
from codegen.sqlnet.schema import Column, Schema, Table
from codegen.sqlnet.sql import Statement, to_sql, validate

if TYPE_CHECKING:
    from codegen.sqlnet.parser import Parse, Reading, SQLNet

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


def __getattr__(name: str) -> Any:
    if name in ("Parse", "Reading", "SQLNet"):
        from codegen.sqlnet import parser

        return getattr(parser, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
