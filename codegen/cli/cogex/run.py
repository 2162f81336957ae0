"""``codegen cogex run``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.cli.cogex.models import model_options, opened_model
from codegen.errors import ConfigError, InputError
from codegen.terminal import visible

if TYPE_CHECKING:
    from codegen.cogex.faithfulness import Faithfulness
    from codegen.cogex.hybrid import HybridRun
    from codegen.cogex.model import Emulation, PseudoModel
    from codegen.cogex.program import PseudoProgram

_NEW = "new"


@click.command(
    epilog=example(
        "codegen cogex run runs/cogex/word_sorting 'List: pear fig apple'\n  "
        "codegen cogex run new 'pear fig apple' --instruction 'Sort the words.'\n  "
        "codegen cogex run program.py 'pear fig apple' --instruction 'Sort the words.' "
        "--mode hybrid"
    ),
)
@click.argument("program")
@click.argument("input")
@model_options
@click.option("--instruction", default="", help="What the task is; a search knows it.")
@click.option(
    "--call", default="", metavar="CALL", help="The call; by default the model writes it."
)
@click.option(
    "--mode",
    type=click.Choice(["emulate", "hybrid"]),
    default="emulate",
    show_default=True,
    help="hybrid also runs what is defined in the sandbox, asks the model for each undefined "
    "helper, and compares.",
)
@click.option("--temperature", type=click.FloatRange(0, 100), default=0.05, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def run(
    program: str,
    input: str,
    instruction: str,
    call: str,
    mode: str,
    temperature: float,
    seed: int,
    as_json: bool,
    **chosen: Any,
) -> Mapping[str, Any]:
    """Have a model emulate PROGRAM on INPUT.

    PROGRAM is a Python file with one function; the directory of a search, whose best program is
    taken; or new: the model writes one for the --instruction. The exit code is 1 if there is no
    answer.
    """
    from codegen.cogex.faithfulness import Faithfulness, faithfulness
    from codegen.cogex.model import Ask

    if program == _NEW:
        if not instruction or call:
            raise ConfigError("A new program needs an --instruction, and no --call.")
        ask = Ask(instruction, input)
    else:
        text, known = _read(program)
        ask = Ask(
            instruction or known or "Run the program.", input, _parsed(program, text).text, call
        )
    with opened_model(**chosen, seed=seed) as asked:
        work = asked.model.emulate if ask.program else asked.model.solve
        ((_, emulation),) = work([ask], temperature)
        ran, compared = None, Faithfulness()
        if mode == "hybrid":
            parsed = _parsed("What the model wrote", emulation.program)
            ran = _hybrid(asked.model, parsed, call or emulation.call, temperature)
            compared = faithfulness(parsed, emulation.output, ran)
    if not as_json:
        if not ask.program:
            click.echo(visible(emulation.program) + "\n")
        click.echo("\n".join(_lines(emulation, ran, compared)))
    return _summary(emulation, ran, compared)


def _parsed(name: str, text: str) -> PseudoProgram:
    from codegen.cogex import Invalid, parse_program

    try:
        return parse_program(text)
    except Invalid as error:
        reason = f"{error.reason}: {error.detail}"
        raise InputError(f"{name} is no pseudo-program ({reason}).") from None


def _hybrid(model: PseudoModel, parsed: PseudoProgram, call: str, heat: float) -> HybridRun:
    from codegen.cogex.hybrid import LeafCall, LeafReader, run_hybrid
    from codegen.evals.sandbox import Sandbox

    answer = LeafReader(model, heat)

    def ask_leaf(leaf: LeafCall) -> Any:
        click.echo(f"Asking the model for {str(leaf)[:200]}", err=True)
        return answer(leaf)

    with Sandbox(workers=1) as sandbox:
        return run_hybrid(parsed, call, sandbox, ask_leaf)


def _read(path: str) -> tuple[str, str]:
    """The program's text, and the instruction if the path is that of a search."""
    place = Path(path)
    try:
        if not place.is_dir():
            return place.read_text("utf-8"), ""
        found = json.loads((place / "result.json").read_text("utf-8"))
        if not found["programs"]:
            raise InputError(f"The search in {path} found no program.")
        return found["programs"][0]["program"], found["instruction"]
    except OSError as error:
        raise InputError(
            f"Cannot read {error.filename}: {error.strerror}.",
            "Give a Python file, or the directory of a finished search.",
        ) from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} can't be read.", "Give UTF-8 text.") from None


def _summary(emulation: Emulation, ran: HybridRun | None, compared: Faithfulness) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "ok": not emulation.failure or bool(ran and not ran.failure),
        "program": emulation.program,
        "call": emulation.call,
        "output": _plain(emulation.output),
        "failure": emulation.failure,
        "text": emulation.text,
    }
    if ran:
        summary["hybrid"] = {
            "call": ran.call,
            "output": _plain(ran.output),
            "failure": ran.failure,
            "detail": ran.detail,
            "steps": [
                {"line": step.line, "code": step.code, "values": _plain(step.values)}
                for step in ran.steps
            ],
            "helpers": [{"call": leaf.call, "value": _plain(leaf.value)} for leaf in ran.leaves],
        }
        summary["faithful"] = dict(compared.right)
        summary["faithfulness"] = compared.share
    return summary


def _plain(value: Any) -> Any:
    """A literal as JSON; what JSON has no word for as Python writes it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if isinstance(value, (str, int, float, type(None))) and finite else repr(value)


def _lines(emulation: Emulation, ran: HybridRun | None, compared: Faithfulness) -> Iterator[str]:
    yield f">>> {visible(emulation.call)}"
    if emulation.failure:
        yield f"The emulation has no answer ({emulation.failure}): {visible(emulation.text[:500])}"
    for key, value in emulation.output.items():
        mark = ""
        if key in compared.right:
            mark = "   (as Python)" if compared.right[key] else "   (not as Python)"
        yield f"  {visible(key)}: {visible(repr(value))}{mark}"
    if ran is None:
        return
    yield "Run in part:"
    for step in ran.steps:
        yield f"  line {step.line}: {visible(step.code.splitlines()[0])}"
        for name, value in step.values.items():
            yield f"    {name} = {visible(repr(value))}"
    for leaf in ran.leaves:
        yield f"  the model: {visible(leaf.call)} gives {visible(repr(leaf.value))}"
    if ran.failure:
        yield f"The run ended early ({ran.failure}): {visible(ran.detail)}"
    else:
        yield f"  answer: {visible(repr(ran.output['answer']))}"
    if compared.share is not None:
        right, all_ = sum(compared.right.values()), len(compared.right)
        yield f"Faithfulness: {right} of {all_} intermediates are what Python computes."
