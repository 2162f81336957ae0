"""``codegen data unicode``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from codegen.cli import example, json_option
from codegen.cli.data.asking import model_options, run_asking, take_model
from codegen.cli.data.options import run_generator, run_options


def _names(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


@click.command(
    short_help="Make pseudo-code between question and program (UniCoder).",
    epilog=example(
        "codegen data unicode humaneval --out data/unicode\n  "
        "codegen data unicode pairs.jsonl --out data/llm --mode llm \\\n    "
        "--endpoint http://localhost:8000/v1 --model my-model"
    ),
)
@click.option(
    "--mode",
    type=click.Choice(["ast", "llm", "hybrid"]),
    default="ast",
    show_default=True,
    help="Who writes the pseudo-code: the syntax tree, a model, or both (the model comments).",
)
@click.option(
    "--objectives",
    default="qa,qp,pa,uot",
    show_default=True,
    callback=_names,
    help="Texts for each example: question to answer, to pseudo-code, pseudo-code to answer, both.",
)
@click.option(
    "--styles",
    default="mix",
    show_default=True,
    callback=_names,
    help="Forms of pseudo-code: mix (all), or of braces, begin_end, indent; each with _lower.",
)
@click.option("--template", type=click.Choice(["plain", "alpaca"]), default="plain")
@model_options
@click.option(
    "--min-score",
    type=click.IntRange(0, 5),
    default=0,
    show_default=True,
    help="Mode llm: have each text graded, keep these grades; 0: no grades. 4 is strict.",
)
@click.option(
    "--snippets",
    is_flag=True,
    help="Mode llm: programs inspire new tasks (OSS-Instruct); no instruction is read.",
)
@run_options
@json_option
def unicode(
    mode: str,
    objectives: tuple[str, ...],
    styles: tuple[str, ...],
    template: str,
    **options: Any,
) -> Mapping[str, Any]:
    """Put pseudo-code between questions and programs (UniCoder).

    Modes llm and hybrid ask a model. Its answers are kept in a file: run again after Ctrl-C, or
    with other objectives, and none is paid for twice.
    """
    from codegen.data import make

    settings: dict[str, Any] = {
        "mode": mode,
        "objectives": objectives,
        "styles": styles,
        "template": template,
    }
    more = ("min_score", "snippets")
    model, own = take_model(mode, ("llm", "hybrid"), options, more)
    if model is None:
        return run_generator(make("unicode", **settings), **options)
    if own["snippets"]:
        options["instruction_column"] = ""  # the model invents the instruction
    return run_asking("unicode", settings | {name: own[name] for name in more}, model, own, options)
