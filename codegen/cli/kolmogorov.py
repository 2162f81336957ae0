"""``codegen eval kolmogorov``: the KoLMogorov test beside its task.

The task itself is run as any other: ``codegen eval run kolmogorov``.
"""

from __future__ import annotations

from typing import Any

import click

from codegen.cli import example, json_option
from codegen.errors import InputError


@click.group()
def kolmogorov() -> None:
    """The KoLMogorov test: compress sequences by programs that make them.

    Ask a model with `codegen eval run kolmogorov`; `score` says how well its programs compress.
    """


@kolmogorov.command(
    epilog=example("codegen eval kolmogorov sample -n 10000 --out data/kolmogorov.jsonl")
)
@click.option("-n", "n", type=click.IntRange(1), default=1000, show_default=True,
              help="Programs to draw.")  # fmt: skip
@click.option("--out", required=True, type=click.Path(dir_okay=False), help="JSONL file to write.")
@click.option("--values", is_flag=True, help="Write the value of each line behind it, as in the "
              "paper's training texts.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True)
@json_option
def sample(n: int, out: str, values: bool, seed: int, as_json: bool) -> dict[str, Any]:
    """Draw programs of the test's language, with their sequences, to train on.

    Each row has an instruction and a program, so that `codegen data` and `codegen finetune` can
    take the file. Of several programs of one sequence the shortest is kept.
    """
    from codegen.evals import kolmogorov as kt
    from codegen.records import Example, write_jsonl

    best: dict[tuple[int, ...], kt.Program] = {}
    for program in kt.sample_programs(n, seed):
        sequence = tuple(program.run())
        known = best.get(sequence)
        if known is None or kt.code_bits(program) < kt.code_bits(known):
            best[sequence] = program
    count = write_jsonl(
        out,
        (
            Example(
                id=f"kolmogorov/{seed}/{number}",
                instruction=kt.instruction(sequence),
                program=program.to_text(with_values=values),
                source="the sampler of codegen.evals.kolmogorov",
                meta={"bits": round(kt.code_bits(program), 2), "items": len(sequence)},
            )
            for number, (sequence, program) in enumerate(best.items())
        ),
    )
    if not as_json:
        click.echo(f"{count} programs in {out}")
    return {"path": out, "programs": count, "drawn": n, "seed": seed}


@kolmogorov.command(epilog=example("codegen eval kolmogorov score runs/kt/samples.jsonl"))
@click.argument("answers", type=click.Path(dir_okay=False))
@click.option("--language", is_flag=True,
              help="Programs may call the functions of the test's language.")  # fmt: skip
@click.option("--learn", type=click.IntRange(1), metavar="N",
              help="Code programs of the language by a prior learned from N drawn ones, in place "
              "of the uniform one.")  # fmt: skip
@click.option("--symbol-bits", type=click.FloatRange(1, 8), default=8.0, show_default=True,
              help="Bits of an item of the sequences; 3 for DNA.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1), help="Sandboxes; default: one a CPU.")
@json_option
def score(
    answers: str,
    language: bool,
    learn: int | None,
    symbol_bits: float,
    workers: int | None,
    as_json: bool,
) -> dict[str, Any]:
    """Run the programs of a JSONL file and say how well they compress.

    Takes the samples of `codegen eval run kolmogorov`; the programs of `sample`; rows with sequence
    (or prompt) and program (or generation); and the paper's files of generations, packed or not.
    Each sample is an item of its own.
    """
    from dataclasses import asdict

    from codegen.cli.progress import Progress
    from codegen.evals import kolmogorov as kt
    from codegen.evals.sandbox import Sandbox

    rows = list(kt.read_answers(answers))
    if not rows:
        raise InputError(f"{answers} holds no answers.")
    prior = kt.UNIFORM
    if learn:
        prior = kt.learn(kt.sample_programs(learn, seed=1), f"learned from {learn} programs")
    with Progress("programs") as progress, Sandbox(workers=workers) as sandbox:
        results = kt.run_answers(rows, sandbox, language=language, on_progress=progress.update)
    found = kt.score_results(results, prior=prior, symbol_bits=symbol_bits)
    if not as_json:
        _print(found)
    return asdict(found)


def _print(found: Any) -> None:
    def line(name: str, value: float | None, note: str = "") -> None:
        text = "-" if value is None else f"{value:.3f}"
        click.echo(f"{name:<24}{text:>8}   {note}".rstrip())

    interval = f"95% {found.accuracy_low:.3f} to {found.accuracy_high:.3f}, {found.items} items"
    line("accuracy", found.accuracy, interval)
    for length, share in found.accuracy_at.items():
        line(f"  first {length} items", share)
    line("programs that run", found.execution)
    line("precision", found.precision, "gzipped right programs / what they make; below 1 is good")
    click.echo("compressed / raw")
    line("  programs, strict", found.rate, "wrong ones by gzip")
    line("  programs, released", found.released_rate, "as the paper's script; can't be decoded")
    line("  best of each", found.best_rate, "program, gzip or raw by item, 2 bits to say which")
    if found.coded_rate is not None:
        line("  programs, coded", found.coded_rate, f"prefix code of the language, {found.prior}")
        line("  programs, paper bits", found.paper_rate, "the paper's count of bits")
    line("  gzip, together", found.gzip)
    line("  gzip, each", found.gzip_each)
    for name, rate in found.baselines.items():
        line(f"  {name}", rate)
    click.echo(", ".join(f"{count} {status}" for status, count in found.statuses.items()))


@kolmogorov.command(epilog=example("codegen eval kolmogorov baselines enwik9.part"))
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option("--pieces", "lengths", type=click.IntRange(1), multiple=True,
              default=(16, 32, 64, 128, 1024), show_default=True,
              help="Also gzip pieces of so many bytes by themselves.")  # fmt: skip
@json_option
def baselines(files: tuple[str, ...], lengths: tuple[int, ...], as_json: bool) -> dict[str, Any]:
    """Compress files by classical means: compressed / raw."""
    from pathlib import Path

    from codegen.evals import kolmogorov as kt

    rows: dict[str, dict[str, float]] = {}
    for file in files:
        data = kt.read_bytes(file)
        row = kt.rates(data)
        for length in lengths:
            if len(data) >= length:
                cut = [data[i : i + length] for i in range(0, len(data) - length + 1, length)]
                row[f"gzip@{length}"] = kt.rate_of_items(cut)
        rows[file] = row
    if not as_json:
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        width = max(len(Path(file).name) for file in files) + 2
        click.echo(" " * width + "".join(f"{name:>11}" for name in names))
        for file, row in rows.items():
            cells = "".join(f"{row[name]:>11.3f}" if name in row else " " * 11 for name in names)
            click.echo(f"{Path(file).name:<{width}}{cells}")
    return {"rates": rows}
