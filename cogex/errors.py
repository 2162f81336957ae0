"""What is wrong with a record, a program or an emulation, by a short stable word."""

from __future__ import annotations


class Invalid(Exception):
    """A record, program, call or output that breaks a rule of CoGEX.

    ``reason`` is what the data engine and the search count by:

    * of the function: ``too_long``, ``syntax_error``, ``newer_python`` (the running Python is too
      old for it), ``no_function``, ``more_than_function`` (another function, a class or statements
      beside it), ``no_return``, ``return_no_dict``, ``no_answer_key``;
    * of the call: ``no_call``, ``bad_call`` (it is no call with literal arguments), ``wrong_name``,
      ``call_mismatch`` (the function does not take these arguments);
    * of the output: ``no_output``, ``unbalanced`` (the braces never close), ``not_literal``,
      ``not_dict``, ``keys_differ`` (not those of any dictionary that the function returns).
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(detail)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)
