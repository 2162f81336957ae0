"""SQLNet: questions to safe SQL by a sketch, on any database, offline.

Source: Xu, Liu and Song, "SQLNet: Generating Structured Queries From Natural Language Without
Reinforcement Learning" (arXiv 1711.04436). The modules, from the bottom:

- ``words``, ``query`` (tables and the sketch), ``sql`` (statements, and the check that each
  must pass), ``databases`` (read-only), ``schema`` (also users' names for things);
- one table: ``features``, ``layout`` with ``shared_encoder`` and ``paper_model`` (the networks),
  ``network``, ``linking`` (values in the question), ``decode``;
- several tables: ``joins``, ``plan``, ``plan_features``, ``plan_network``, ``plan_decode``;
- both: ``question_checks`` and ``calibration`` (may the answer be returned?), ``explain``,
  ``parser``, ``answers``, ``fallback`` (a language model);
- training: ``examples``, ``plan_data``, ``training``, ``storage``.

Names are imported on first use: some need torch, others sqlglot.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from codegen.sqlnet.parser import SQLNet
    from codegen.sqlnet.query import Column, Query, Statement, Table, UnsafeSQLError
    from codegen.sqlnet.schema import Schema
    from codegen.sqlnet.sql import validate

__all__ = [
    "Column", "Query", "SQLNet", "Schema", "Statement", "Table", "UnsafeSQLError", "validate",
]  # fmt: skip

_MODULES = {
    "query": ("Column", "Query", "Statement", "Table", "UnsafeSQLError"),
    "schema": ("Schema",),
    "sql": ("validate",),
    "parser": ("SQLNet",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
