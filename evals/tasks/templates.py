"""Fills in the Jinja2 templates of a task's file, which may be a stranger's."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from codegen.errors import ConfigError, InputError
from codegen.templates import TemplateFailure, TemplateProcess, serve

ALL_CPU_S = 300  # for all templates of a task
MOST_ALL_TEXT = 512 << 20  # characters, likewise


class Templates:
    """The templates of one task."""

    def __init__(self) -> None:
        self._process = TemplateProcess(__file__)
        self._left = MOST_ALL_TEXT

    def fill(self, text: str, columns: Mapping[str, object], key: str, place: str) -> str:
        """A template filled in; text without braces is given back.

        Args:
            key, place: the key of the task's file and the row, for errors.

        Raises:
            ConfigError: if it is not a valid template.
            InputError: if it cannot be filled in with this row, or not within the limits.
        """
        if "{" not in text:
            return text
        try:
            found = self._process.fill(text, columns)
            self._left -= len(found)
            if self._left < 0:
                raise TemplateFailure(
                    f"all texts together exceed {MOST_ALL_TEXT >> 20} Mi characters"
                )
        except TemplateFailure as error:
            if error.is_invalid:
                raise ConfigError(f"The template of {key} is not valid: {error}.") from None
            raise InputError(
                f"{place}: the template of {key} can't be filled in: {error}."
            ) from None
        return found


def _main() -> None:
    """The child; see :func:`codegen.templates.serve`."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    jinja = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    compiled = lru_cache(maxsize=64)(jinja.from_string)

    def filled(text: str, columns: dict[str, Any]) -> str:
        return compiled(text).render(columns)

    serve(filled, ALL_CPU_S)


if __name__ == "__main__":
    _main()
