"""The errors of this room."""

from __future__ import annotations

from codegen.errors import CodegenError


class DatabaseError(CodegenError):
    """A database can't be opened or read, or a statement on it ran too long."""


class TooSlowError(DatabaseError):
    """A statement was cut off by its time limit."""


class UnsafeSQLError(CodegenError):
    """A statement is not a single SELECT on known tables, columns and functions."""
