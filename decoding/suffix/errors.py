"""The error of the suffix structure that a caller is expected to handle."""

from __future__ import annotations

from codegen.errors import CodegenError


class BudgetError(CodegenError):
    """Tokens do not fit: the sequences that still grow fill the index's budget by themselves."""
