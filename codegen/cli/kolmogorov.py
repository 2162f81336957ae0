"""``codegen eval kolmogorov``: the KoLMogorov test beside its task.

``codegen eval run kolmogorov`` samples the task itself.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from codegen.cli import Group
from codegen.cli.options import command, options
from codegen.config import Config, setting
from codegen.errors import InputError, plural
from codegen.paths import read_packed
from codegen.terminal import Progress, echo


@click.group(cls=Group)
def kolmogorov() -> None:
    """The KoLMogorov test: compress sequences with programs that generate them.

    Sample a model with `codegen eval run kolmogorov`; `score` reports how well its programs
    compress.
    """


class SampleOptions(Config):
    """The options of ``codegen eval kolmogorov sample``."""

    n: int = setting(1000, "Programs to draw.", flags=("-n",), ge=1)
    out: str = setting(..., "JSONL file to write.", metavar="FILE")
    values: bool = setting(
        False, "Append the value of each line as a comment, as in the paper's training texts."
    )
    seed: int = setting(0, "Random seed.")


@command(
    group=kolmogorov,
    example="codegen eval kolmogorov sample -n 10000 --out data/kolmogorov.jsonl",
)
@options(SampleOptions, "given")
def sample(given: SampleOptions, as_json: bool) -> dict[str, Any]:
    """Draw programs of the test's language, with their sequences, as training data.

    Each row has an instruction and a program, so `codegen data` and `codegen finetune` can read the
    file. For each sequence only the shortest program is kept.
    """
    from codegen.evals import kolmogorov as kt
    from codegen.records import Example, write_jsonl

    best: dict[tuple[int, ...], kt.Program] = {}
    for program in kt.sample_programs(given.n, given.seed):
        sequence = tuple(program.run())
        known = best.get(sequence)
        if known is None or kt.code_bits(program) < kt.code_bits(known):
            best[sequence] = program
    count = write_jsonl(
        given.out,
        (
            Example(
                id=f"kolmogorov/{given.seed}/{number}",
                instruction=kt.instruction(sequence),
                program=program.to_text(with_values=given.values),
                source="the sampler of codegen.evals.kolmogorov",
                meta={"bits": round(kt.code_bits(program), 2), "items": len(sequence)},
            )
            for number, (sequence, program) in enumerate(best.items())
        ),
        replace=False,
    )
    if not as_json:
        echo(f"{plural(count, 'program')} in {given.out}")
    return {"path": given.out, "programs": count, "drawn": given.n, "seed": given.seed}


class ScoreOptions(Config):
    """The options of ``codegen eval kolmogorov score``."""

    language: bool = setting(False, "Programs may call the functions of the test's language.")
    learn: int | None = setting(
        None,
        "Encode programs of the language with a prior learned from N drawn programs, not the "
        "uniform one.",
        metavar="N",
        ge=1,
    )
    symbol_bits: float = setting(8.0, "Bits per item of the sequences; 3 for DNA.", ge=1, le=8)
    workers: int | None = setting(None, "Number of sandboxes.", shown="one per CPU", ge=1)


@command(group=kolmogorov, example="codegen eval kolmogorov score runs/kt/samples.jsonl")
@click.argument("answers", type=click.Path(dir_okay=False))
@options(ScoreOptions, "given")
def score(answers: str, given: ScoreOptions, as_json: bool) -> dict[str, Any]:
    """Run the programs of a JSONL file and report how well they compress.

    Reads the samples of `codegen eval run kolmogorov`, the programs of `sample`, rows with sequence
    (or prompt) and program (or generation), and the paper's files of generations, packed or not.
    Each sample counts as one item.
    """
    from codegen.evals import kolmogorov as kt
    from codegen.evals.sandbox import Sandbox

    rows = list(kt.read_answers(answers))
    if not rows:
        raise InputError(f"{answers} holds no answers.")
    prior = kt.UNIFORM
    if learn := given.learn:
        prior = kt.learn(kt.sample_programs(learn, seed=1), f"learned from {learn} programs")
    with Progress("programs") as progress, Sandbox(workers=given.workers) as sandbox:
        results = kt.run_answers(
            rows, sandbox, language=given.language, on_progress=progress.update
        )
    found = kt.score_results(results, prior=prior, symbol_bits=given.symbol_bits)
    if not as_json:
        _print(found)
    return asdict(found)


def _print(found: Any) -> None:
    def line(name: str, value: float | None, note: str = "") -> None:
        text = "-" if value is None else f"{value:.3f}"
        echo(f"{name:<24}{text:>8}   {note}".rstrip())

    interval = f"95% {found.accuracy_low:.3f} to {found.accuracy_high:.3f}, {found.items} items"
    line("accuracy", found.accuracy, interval)
    for length, share in found.accuracy_at.items():
        line(f"  first {length} items", share)
    line("programs that run", found.execution)
    line("precision", found.precision, "gzipped correct programs / their output; lower is better")
    echo("compressed / raw")
    line("  programs, strict", found.rate, "wrong programs count as gzip")
    line("  programs, released", found.released_rate, "as in the paper's script; not decodable")
    line("  best of each", found.best_rate, "program, gzip or raw per item, plus 2 bits")
    if found.coded_rate is not None:
        line("  programs, coded", found.coded_rate, f"prefix code of the language, {found.prior}")
        line("  programs, paper bits", found.paper_rate, "the paper's count of bits")
    line("  gzip, together", found.gzip)
    line("  gzip, each", found.gzip_each)
    for name, rate in found.baselines.items():
        line(f"  {name}", rate)
    echo(", ".join(f"{count} {status}" for status, count in found.statuses.items()))


@command(group=kolmogorov, example="codegen eval kolmogorov baselines enwik9.part")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option(
    "--pieces",
    "lengths",
    type=click.IntRange(1),
    multiple=True,
    default=(16, 32, 64, 128, 1024),
    show_default=True,
    help="Also gzip pieces of this many bytes one by one. Repeatable.",
)
def baselines(files: tuple[str, ...], lengths: tuple[int, ...], as_json: bool) -> dict[str, Any]:
    """Compress files with classical methods and print compressed / raw."""
    from codegen.evals import kolmogorov as kt

    rows: dict[str, dict[str, float]] = {}
    for file in files:
        data = read_packed(Path(file))
        if not data:
            raise InputError(f"{file} is empty.", "Give a file with at least one byte.")
        row = kt.rates(data)
        for length in lengths:
            if len(data) >= length:
                cut = [data[i : i + length] for i in range(0, len(data) - length + 1, length)]
                row[f"gzip@{length}"] = kt.rate_of_items(cut)
        rows[file] = row
    if not as_json:
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        width = max(len(Path(file).name) for file in files) + 2
        echo(" " * width + "".join(f"{name:>11}" for name in names))
        for file, row in rows.items():
            cells = "".join(f"{row[name]:>11.3f}" if name in row else " " * 11 for name in names)
            echo(f"{Path(file).name:<{width}}{cells}")
    return {"rates": rows}
