"""The instruction texts that training data and evaluation share.

A model is thus asked as it was taught.
"""

from __future__ import annotations


def function_instruction(signature: str, docstring: str) -> str:
    """The instruction that asks for one Python function.

    The wording is that of HumanEvalPack's ``instruction`` field (HumanEvalSynthesize, Muennighoff
    et al. 2023), which the LintSeq reference code uses as its HumanEval prompt.

    Args:
        signature: the function's header without ``def`` and colon, ``name(args) -> type``.
        docstring: its docstring, dedented.
    """
    header = f"Write a Python function `{signature}` to solve the following problem:"
    return f"{header}\n{docstring.strip()}"
