"""``codegen data cogex``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from codegen.cli import example, json_option
from codegen.cli.data.asking import model_options, run_asking, take_model
from codegen.cli.data.options import run_generator, run_options

# The column that holds the program, by mode; Alpaca's answers stand in ``output``.
_PROGRAM_COLUMNS = {"records": "code_prompt", "run": "program", "llm": "output"}


@click.command(
    short_help="Make pseudo-programs with what they give (CoGEX).",
    epilog=example(
        "codegen data cogex families:4000 --out data/cogex\n  "
        "codegen data cogex mbpp.jsonl --out data/run --mode run --instruction-column text \\\n    "
        "--program-column code --call-column test_list\n  "
        "codegen data cogex alpaca.jsonl --out data/llm --mode llm \\\n    "
        "--endpoint http://localhost:8000/v1 --model my-model"
    ),
)
@click.option(
    "--mode",
    type=click.Choice(["records", "run", "llm"]),
    default="records",
    show_default=True,
    help="What the rows are: records to check, functions to run in the sandbox with a call, or "
    "instructions with answers that a model makes programs of.",
)
@click.option("--input-column", default="input", show_default=True, help="Column with the input.")
@click.option(
    "--output-column", default="code_output", show_default=True, help="Mode records: the output."
)
@click.option(
    "--call-column",
    default="",
    help="Mode run: the call, or tests that hold one; by default it follows the function.",
)
@model_options
@run_options
@json_option
def cogex(
    mode: str, input_column: str, output_column: str, call_column: str, **options: Any
) -> Mapping[str, Any]:
    """Make pseudo-programs with what they give (CoGEX).

    SOURCE may also be families[:NAME,...][:COUNT]: problems of our own, with programs that solve
    them (word_sorting, coin_flip, large_sum, arithmetic and others). The program column is
    code_prompt, program or output, by mode. What breaks a rule is left out and counted by the rule.
    """
    from codegen.data import make

    source_of = click.get_current_context().get_parameter_source
    if source_of("program_column") == ParameterSource.DEFAULT:
        options["program_column"] = _PROGRAM_COLUMNS[mode]
    extra = {
        "records": (input_column, output_column),
        "run": (input_column, call_column),
        "llm": (input_column,),
    }[mode]
    options["extra_columns"] = tuple(name for name in extra if name)
    settings = {"mode": mode, "input": input_column, "output": output_column, "call": call_column}
    model, own = take_model(mode, ("llm",), options)
    if model is None:
        return run_generator(make("cogex", **settings), **options)
    return run_asking("cogex", settings, model, own, options)
