"""Small models for :mod:`codegen.data.sources.small_functions`, and scores of their programs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from codegen.benchmarks.evidence.harness import save_llama
from codegen.data.sources.small_functions import SmallFunction
from codegen.decoding.loop import BackspaceDecoding, Row, decode
from codegen.evals.metrics import normal_form
from codegen.models.pretrained import train_byte_bpe
from codegen.sandbox import Job, Limits, Sandbox


def start_model(
    folder: Path,
    texts: Iterable[str],
    *,
    hidden: int,
    layers: int,
    seed: int,
    special: Sequence[str] = (),
) -> Path:
    """Creates a random Llama with a byte-level BPE of the corpus and some special tokens."""
    if not (folder / "config.json").exists():
        tokenizer = train_byte_bpe(texts, 400, special)
        tokenizer.save_pretrained(folder)
        save_llama(folder, len(tokenizer), hidden=hidden, layers=layers, positions=1024, seed=seed)
    return folder


def write(
    loaded: Any,
    prompts: Sequence[str],
    *,
    n: int,
    budget: int,
    seed: int,
    begun: Sequence[Sequence[int]] = (),
    backspace: int | None = None,
) -> Iterator[list[Row]]:
    """Yields the decoded rows of each prompt, ``n`` samples at temperature 1.

    Args:
        loaded: from :func:`codegen.models.load`.
        prompts: plain strings.
        budget: maximum actions per sample.
        begun: per prompt, the first tokens of its completion.
        backspace: id of the token that removes the previous one.
    """
    tokenizer = loaded.tokenizer
    rng = random.Random(seed)
    rows = []
    for number, prompt in enumerate(prompts):
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        forced = list(begun[number]) if begun else []
        for _ in range(n):
            rows.append(Row(ids, [rng.random() for _ in range(budget)], tokens=list(forced)))
    decode(
        loaded.model, rows, max_new_tokens=budget, temperature=1.0, top_p=1.0,
        eos=frozenset([tokenizer.eos_token_id]), width=250,
        strategy=None if backspace is None else BackspaceDecoding(backspace),
    )  # fmt: skip
    for start in range(0, len(rows), n):
        yield rows[start : start + n]


def judge(
    sandbox: Sandbox, asked: Sequence[SmallFunction], programs: Sequence[Sequence[str]]
) -> list[list[bool]]:
    """Returns, per function, True for each of its programs that is correct."""
    jobs: dict[tuple[int, str], Job] = {}
    for number, (function, written) in enumerate(zip(asked, programs, strict=True)):
        for program in written:
            job = Job(program, test=function.test, limits=Limits(cpu_s=2))
            jobs[number, program] = job
    verdicts = {key: outcome.status == "passed" for key, outcome in sandbox.map(jobs.items())}
    return [[verdicts[i, program] for program in written] for i, written in enumerate(programs)]


def diversity(programs: Sequence[Sequence[str]]) -> float:
    """Returns the mean number of different syntax trees among the samples of a function."""
    return fmean(len({normal_form(program) for program in written}) for written in programs)
