"""The KoLMogorov test: the sampler's programs, their code, and a model's real programs.

What: programs of the sampler (``sequence_items``, ``lines``, ``paper_bits``; ``paper_rate``,
``uniform_rate`` and ``learned_rate``, program bits / sequence bits by the paper's count and by the
prefix code under its priors; ``gzip_rate`` of all sequences together and ``gzip_each_rate``;
``code_round_trips``, the share that is decoded again). With ``-o answers=FILE``, a file of answers
such as the paper's 500 of o1-mini, the figures of ``codegen eval kolmogorov score``, as
``answers_...``.

Against: gzip.

Limits: the paper's own tables are not compared with.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping
from dataclasses import asdict

from codegen.benchmarks.tools.arithmetic import decode, encode
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report
from codegen.errors import InputError
from codegen.evals import kolmogorov as kt
from codegen.evals.sandbox import Sandbox

_ANSWERS = ("accuracy", "execution", "precision", "rate", "released_rate", "best_rate", "gzip",
            "gzip_each", "program_characters")  # fmt: skip


def run(
    quick: bool = False, *, programs: int = 4000, answers: str = "", seed: int = 0
) -> Mapping[str, object]:
    """Measures.

    Args:
        quick: 500 programs.
        programs: to draw.
        answers: a file of answers to run in the sandbox.
        seed: of the sampler.
    """
    if programs < 2:
        raise InputError("programs must be at least 2.")
    count = 500 if quick else programs
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit")
    say(f"{count} programs of the sampler")
    _sampler(report, count, seed)
    if answers:
        rows = list(kt.read_answers(answers))
        say(f"{len(rows)} answers")
        with Sandbox() as sandbox:
            found = asdict(kt.score_results(kt.run_answers(rows, sandbox)))
        for name in _ANSWERS:
            report.set(f"answers_{name}", found[name], n=len(rows))
    else:
        for name in _ANSWERS:
            report.set(f"answers_{name}", None)
        report.notes.append("No answers were scored: give a file with -o answers=FILE.")
    return report.mapping()


def _sampler(report: Report, count: int, seed: int) -> None:
    drawn = list(kt.sample_programs(count, seed))
    prior = kt.learn(kt.sample_programs(count, seed + 1))
    data = [bytes(program.run()) for program in drawn]
    items = sum(map(len, data))
    paper = sum(map(kt.paper_bits, drawn))
    report.set("sequence_items", items / count, n=count)
    report.set("lines", sum(len(program.lines) + 1 for program in drawn) / count, n=count)
    report.set("paper_bits", paper / count, n=count)
    report.set("paper_rate", paper / 8 / items, n=count)
    began = time.process_time()
    codes = [encode(program) for program in drawn]
    again = sum(decode(bits) == p for bits, p in zip(codes, drawn, strict=True))
    spent = time.process_time() - began
    report.set("uniform_rate", sum(map(len, codes)) / 8 / items, n=count)
    learned = sum(len(encode(program, prior)) for program in drawn)
    report.set("learned_rate", learned / 8 / items, n=count)
    report.set("code_round_trips", again / count, n=count)
    report.set("code_ms", 1000 * spent / count, n=count)
    report.set("gzip_rate", len(gzip.compress(b"".join(data), mtime=0)) / items, n=count)
    report.set("gzip_each_rate", kt.rate_of_items(data), n=count)
