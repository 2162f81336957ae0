"""``codegen cogex``: finds the program that a model emulates best, and emulates programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from codegen.cli import CommandGroup
from codegen.cli.clients import EndpointOptions, PseudoModelOptions, opened_model
from codegen.cli.options import command, options, print_result
from codegen.core.config import Config, keyed, setting
from codegen.core.errors import ConfigError, InputError, plural
from codegen.core.paths import write_atomic
from codegen.core.terminal import Progress, echo

if TYPE_CHECKING:
    from codegen.cogex.hybrid_execution import HybridRun
    from codegen.cogex.model import Emulation
    from codegen.cogex.program import PseudoProgram
    from codegen.cogex.search import RankedProgram, SearchResult, SearchSettings, SearchTask

_SHOWN = 10  # programs in the table


@click.group(cls=CommandGroup)
def cogex() -> None:
    """Have a model write and emulate pseudo-programs (CoGEX).

    Make training data with `codegen data cogex`, and a model with `codegen finetune cogex`.
    """


cogex_command = partial(command, group=cogex)


class SearchOptions(Config):
    """Options of ``codegen cogex search``; :class:`PseudoModelOptions` has the model's."""

    out: str | None = setting(None, "Output directory.", metavar="DIR", shown="runs/cogex/TASK")
    budget: int = setting(
        100, "Approximate number of emulations; 0: the paper's 300 programs, 1000 problems.", ge=0
    )
    method: Literal["halving", "full"] = setting(
        "halving", "full: all programs on all problems, as published; halving: drop bad ones early."
    )
    test: int = setting(50, "Held-out problems to score the best programs on.", ge=0)
    instruction: str = setting("", "The task's instruction, if TASK is a file.")
    candidates: int | None = keyed(None, "Number of candidate programs.", ge=1)
    items: int | None = keyed(None, "Number of problems for the search.", ge=2)
    share: float = keyed(0.2, "Halving: fraction of full's emulations.", gt=0, le=1)
    threshold: float = keyed(0.0, "Full: minimum score; worse programs are rewritten.", ge=0, le=1)
    tries: int = keyed(5, "Maximum attempts per program.", ge=1)
    best: int = keyed(3, "Number of programs that vote.", ge=1)
    input_column: str = keyed("input", "Input column of a file's rows.")
    answer_column: str = keyed("answer", "Answer column of a file's rows.")
    seed: int = keyed(0, "Random seed.")


@cogex_command(
    example="codegen data cogex families:4000 --out runs/data/cogex\n  codegen finetune cogex\n  "
    "codegen cogex search word_sorting --model runs/cogex/model\n  "
    "codegen cogex search reviews.jsonl --instruction 'Is the review positive?' \\\n"
    "    --endpoint http://localhost:8000/v1 --model my-model --budget 0"
)
@click.argument("task")
@options(PseudoModelOptions, "client")
@options(SearchOptions, "given")
@options(EndpointOptions, "server")
def search(
    task: str,
    client: PseudoModelOptions,
    given: SearchOptions,
    server: EndpointOptions,
) -> Mapping[str, Any]:
    """Find the program that a model emulates best on TASK (CoTACS).

    TASK is a family of problems (word_sorting, coin_flip, large_sum, arithmetic, ...) or a JSONL
    file with an input and an answer per line. The model writes programs and emulates them on other
    problems; its code is never executed. Run the same command again to resume an interrupted
    search.
    """
    from codegen.cogex.search import ProgramSearch, SearchLog, scores_on, split_items

    problems, settings = _problem(task, given)
    folder = Path(given.out or Path("runs", "cogex", Path(task).stem))
    identity = {"task": problems.name, "problems": problems.digest(), **asdict(settings)}
    with (
        opened_model(client, server, given.seed, avoid=(task,)) as (model, about_model),
        SearchLog(folder, {**identity, **about_model}) as log,
        Progress(f"search {problems.name}") as bar,
    ):
        if log.resumed:
            echo(f"Resuming after {plural(log.resumed, 'response')}.", err=True)

        def show(stage: str, done: int, total: int) -> None:
            bar.update(done, total, note=stage)

        train, dev = split_items(problems.items, settings.candidates, given.seed)
        run = ProgramSearch(problems.instruction, train, dev, model, settings, log, show)
        found = run.run()
        tested = scores_on(run, found, problems.test) if found.best and problems.test else None
    summary = {
        "ok": bool(found.best),
        "task": problems.name,
        "instruction": problems.instruction,
        "out": str(folder),
        "programs": [_row(candidate) for candidate in found.ranking],
        "rejected": dict(found.rejected),
        "emulations": found.emulations,
        "emulations_full": found.emulations_full,
        "unanswered": dict(found.failures),
        "examples": found.examples,
        "test": dict(tested) if tested else None,
    }
    write_atomic(folder / "result.json", json.dumps(summary, indent=1) + "\n")
    for place, candidate in enumerate(found.best, 1):
        write_atomic(folder / f"program-{place}.py", candidate.program.text + "\n")
    where = f"--endpoint {server.endpoint} " if server.endpoint else ""
    again = f"codegen cogex run {folder} INPUT {where}--model {client.model}"
    advice = _advice(found, about_model["shots"], again)
    print_result("\n".join([*_search_lines(found, summary), advice]))
    return summary


def _advice(found: SearchResult, shots: int, again: str) -> str:
    """Returns the next step: ``again`` if a program worked, else what to change."""
    if any(candidate.right for candidate in found.ranking):
        return f"Use it with: {again}"
    if "not_asked" in found.rejected:
        return "Lower -o shots=, because prompts are too long for the model."
    if shots:
        return (
            "Fine-tune a model with `codegen finetune cogex` and search with --model "
            "runs/cogex/model, or use a larger model."
        )
    return "Train the model on more records, or raise -o tries= and --budget."


def _problem(task: str, given: SearchOptions) -> tuple[SearchTask, SearchSettings]:
    """Loads the task's problems; search settings that are not given follow from the budget."""
    from codegen.cogex.search import CANDIDATES, ITEMS, SearchSettings, load_task, within_budget

    number, size = CANDIDATES, ITEMS
    if given.budget:
        number, size = within_budget(given.budget, given.method, given.share)
    number, size = given.candidates or number, given.items or size
    if number >= size:
        raise ConfigError(
            f"{number} candidates need more than {size} problems, because each is written for one "
            "problem and ranked on others.",
            "Raise -o items= or lower -o candidates=.",
        )
    shared = given.model_dump(include={"method", "share", "threshold", "tries", "best", "seed"})
    columns = given.model_dump(
        include={"test", "instruction", "input_column", "answer_column", "seed"}
    )
    return load_task(task, items=size, **columns), SearchSettings(number, **shared)


def _row(candidate: RankedProgram) -> dict[str, Any]:
    from codegen.evals.statistics import wilson

    low, high = wilson(candidate.score, candidate.items) if candidate.items else (0.0, 1.0)
    return {
        "name": candidate.program.name,
        "digest": candidate.program.digest,
        "score": round(candidate.score, 4),
        "interval": [round(low, 4), round(high, 4)],
        "right": candidate.right,
        "items": candidate.items,
        "written": candidate.written,
        "unanswered": dict(candidate.failures),
        "program": candidate.program.text,
    }


def _search_lines(found: SearchResult, summary: Mapping[str, Any]) -> Iterator[str]:
    yield from _reasons("{} programs broke a rule", found.rejected, found)
    if not found.ranking:
        yield "All candidates break a rule, so there is no ranking."
        return
    yield f"{'rank':>4}  {'score':>6}  {'95% interval':>14}  {'tried':>5}  {'written':>7}  program"
    for rank, row in enumerate(summary["programs"][:_SHOWN], 1):
        low, high = row["interval"]
        yield (
            f"{rank:>4}  {row['score']:>6.3f}  {f'{low:.2f} to {high:.2f}':>14}  {row['items']:>5}"
            f"  {row['written']:>7}  {row['name']}  {row['digest']}"
        )
    yield (
        f"{found.emulations} emulations; the published method would take {found.emulations_full}, "
        "counting each copy of a program."
    )
    yield from _reasons("{} of them gave no answer", found.failures, found)
    if not any(candidate.right for candidate in found.ranking):
        yield "No program solved any problem, so the ranking is meaningless."
    if tested := summary["test"]:
        items = tested["items"]
        yield (
            f"On {items} other problems: best program {_share(tested['best'], items)}, majority of "
            f"{len(found.best)} {_share(tested['vote'], items)}."
        )


def _reasons(text: str, counts: Mapping[str, int], found: SearchResult) -> Iterator[str]:
    """Yields the counts by reason, then the examples of reasons that have one."""
    if counts:
        listed = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
        yield f"{text.format(sum(counts.values()))}: {listed}."
    for reason in sorted(counts):
        if detail := found.examples.get(reason):
            yield f"  {reason}: {detail[:200]}"


def _share(count: int, total: int) -> str:
    from codegen.evals.statistics import wilson

    low, high = wilson(count / total, total)
    return f"{count / total:.3f} [{low:.2f}, {high:.2f}]"


class CogexRunOptions(Config):
    """Options of ``codegen cogex run``; :class:`PseudoModelOptions` has the model's."""

    instruction: str = setting("", "The task's instruction; a search directory has its own.")
    call: str = setting("", "The call to emulate, such as f(x).", shown="the model writes it")
    mode: Literal["emulate", "hybrid"] = setting(
        "emulate", "hybrid: compare with a sandbox run that emulates only undefined functions."
    )
    temperature: float = keyed(0.05, "Sampling temperature.", ge=0, le=100)
    seed: int = keyed(0, "Random seed.")


@cogex_command(
    example="codegen cogex run runs/cogex/word_sorting 'List: pear fig apple'\n  "
    "codegen cogex run new 'pear fig apple' --instruction 'Sort the words.' --mode hybrid"
)
@click.argument("program")
@click.argument("input")
@options(PseudoModelOptions, "client")
@options(CogexRunOptions, "given")
@options(EndpointOptions, "server")
def run(
    program: str,
    input: str,
    client: PseudoModelOptions,
    given: CogexRunOptions,
    server: EndpointOptions,
) -> Mapping[str, Any]:
    """Have a model emulate PROGRAM on INPUT.

    PROGRAM is a Python file with one function, the directory of a search (its best program is
    used), or new: the model writes a program for --instruction. The exit code is 1 if unanswered.
    """
    from codegen.cogex.hybrid_execution import emulated_leaf, run_hybrid
    from codegen.cogex.model import ModelQuery
    from codegen.sandbox.verdicts import choose_sandbox

    if program == "new":
        if not given.instruction or given.call:
            raise ConfigError("PROGRAM new requires --instruction and excludes --call.")
        query = ModelQuery(given.instruction, input)
    else:
        text, known = _read(program)
        instruction = given.instruction or known or "Run the program."
        query = ModelQuery(instruction, input, _parsed(program, text).text, given.call)
    with opened_model(client, server, given.seed) as (model, _):
        work = model.emulate if query.program else model.solve
        ((_, emulation),) = work([query], given.temperature)
        ran = None
        if given.mode == "hybrid":
            parsed = _parsed("The model's response", emulation.program)
            with choose_sandbox(workers=1) as sandbox:
                answer = partial(emulated_leaf, model, given.temperature)
                ran = run_hybrid(parsed, given.call or emulation.call, sandbox, answer)
    if not query.program:
        print_result(emulation.program + "\n")
    print_result("\n".join(_run_lines(emulation, ran)))
    summary = {"ok": not emulation.failure, **_plain(asdict(emulation))}
    if ran:
        summary["ok"] |= not ran.failure
        summary["hybrid"] = _plain(asdict(ran))
    return summary


def _parsed(name: str, text: str) -> PseudoProgram:
    from codegen.cogex import Invalid, parse_program

    try:
        return parse_program(text)
    except Invalid as error:
        reason = f"{error.reason}: {error.detail}"
        raise InputError(f"{name} is not a pseudo-program ({reason}).") from None


def _read(path: str) -> tuple[str, str]:
    """Returns the program's code, and its instruction if the path is the directory of a search."""
    place = Path(path)
    try:
        if not place.is_dir():
            return place.read_text("utf-8"), ""
        found = json.loads((place / "result.json").read_text("utf-8"))
        if not found["programs"]:
            raise InputError(f"The search in {path} found no program.")
        return found["programs"][0]["program"], found["instruction"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"Cannot read {path} ({type(error).__name__}: {error}).",
            "Pass a Python file (UTF-8) or the directory of a finished search.",
        ) from None


def _plain(value: Any) -> Any:
    """Converts a literal to a JSON value, or to its repr if JSON cannot represent it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    finite = not isinstance(value, float) or abs(value) < float("inf")
    return value if isinstance(value, (str, int, float, type(None))) and finite else repr(value)


def _run_lines(emulation: Emulation, ran: HybridRun | None) -> Iterator[str]:
    from codegen.cogex.literals import same_value

    yield f">>> {emulation.call}"
    if emulation.failure:
        yield f"The emulation gave no answer: {emulation.failure}"
        if emulation.text:
            yield f"The model wrote: {emulation.text[:500]}"
    for key, value in emulation.output.items():
        differs = ran is not None and not same_value(value, {**ran.values, **ran.output}.get(key))
        mark = "   (differs from the partial run)" if differs else ""
        yield f"  {key}: {value!r}{mark}"
    if ran is None:
        return
    yield "Partial run:"
    for step in ran.steps:
        yield f"  line {step.line}: {step.code.splitlines()[0]}"
        for name, value in step.values.items():
            yield f"    {name} = {value!r}"
    for leaf in ran.leaves:
        yield f"  the model: {leaf.call} returns {leaf.value!r}"
    if ran.failure:
        yield f"The run ended early ({ran.failure}): {ran.detail}"
    else:
        yield f"  answer: {ran.output['answer']!r}"
