"""The suffix index: time to append and draft, bytes per token, against arctic-inference.

What: modules of the running Python's standard library in the embedded model's tokens are stored,
and drafts of up to 32 tokens are requested at contexts of 64 and of 512 tokens, in modules that are
not stored (``new``) and in stored ones (``known``, where the match is as long as the context).
``append_us`` is the time per token of storing whole modules, ``append_one_us`` a call with one
token; ``speculate_us`` the mean over the four groups, each of which is also reported
(``speculate_64_new_us`` ...). All are CPU time, calls from Python included; ``..._p50_us`` and
``..._p90_us`` are quantiles of single calls by the wall clock, in a second pass.
``bytes_per_token`` is the growth of the process's resident memory, ``nbytes_per_token`` as reported
by the structure.

Each measurement runs in its own process, ours and the peer in turn; of ``repeats`` runs, the one
with the median time to append is reported.

Against: ``arctic``, the suffix tree of ``arctic-inference`` (its compiled core, called as its own
cache does) with its default depth of 64: it uses only the last 64 tokens of a context.

Acceptance of the drafts: benchmark ``drafts``.

Limits: one corpus, one tokenizer, and a structure larger than a core's cache.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from codegen.benchmarks.tools.arctic import INSTALL, find_arctic
from codegen.benchmarks.tools.code_tokens import Code
from codegen.benchmarks.tools.fresh import fresh
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.timing import tree_rss_mib

_LENGTHS = (64, 512)
GROUPS = ("64_new", "64_known", "512_new", "512_known")
DEPTH = 64  # maximum depth of arctic's tree
LIMIT, FACTOR = 32, 1.0
_SINGLE = 3000  # tokens appended one by one
_MIB = 2**20

Job = dict[str, Any]


@options(quick={"tokens": 150_000, "contexts": 200})
def run(
    quick: bool = False, *, seed: int = 0, tokens: int = 500_000, contexts: int = 800
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: 150,000 tokens, 200 contexts, one run.
        seed: seed of the module order.
        tokens: number of stored tokens.
        contexts: contexts per length, in new and in known modules.
    """
    at_least(1, tokens=tokens, contexts=contexts)
    repeats = 1 if quick else 3
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit")
    job = _job(seed, tokens, contexts)
    peer = find_arctic()
    if peer is None:
        report.install["arctic-inference"] = INSTALL
    else:
        report.versions |= {f"peer {name}": text for name, text in peer.versions.items()}
    runs: dict[str, list[Job]] = {"": [], "arctic": []}
    for number in range(repeats):
        runs[""].append(fresh(measure, job))
        if peer is not None:
            runs["arctic"].append(peer.measure({**job, "depth": DEPTH}))
        say(f"run {number + 1} of {repeats} done")
    _report(report, job, runs)
    return report.mapping()


def _job(seed: int, tokens: int, contexts: int) -> Job:
    """Returns modules to store, and contexts in them and in others."""
    library = Code().library(seed, 10**9 if tokens > 2_000_000 else 4 * tokens)
    files = [text for text in library if len(text) > max(_LENGTHS) + 40]
    stored: list[list[int]] = []
    while len(files) > 1 and sum(map(len, stored)) < tokens:
        stored.append(files.pop())
    groups = [
        _contexts(texts, length, contexts) for length in _LENGTHS for texts in (files, stored)
    ]
    single = max(files, key=len)[:_SINGLE]
    return {"files": stored, "single": single, "contexts": groups, "limit": LIMIT, "factor": FACTOR}


def _contexts(texts: Sequence[list[int]], length: int, count: int) -> list[list[int]]:
    """Returns contexts evenly spaced over modules and over positions in a module."""
    found = []
    for number in range(count):
        text = texts[number % len(texts)]
        room = len(text) - 40 - length  # leaves text after the context
        start = (number * 7919) % (room + 1)
        found.append(text[start : start + length])
    return found


def measure(job: Job) -> Job:
    """Measures our index, as the peer's worker measures the peer."""
    import numpy as np

    from codegen.decoding.suffix import COMPILED, SuffixIndex

    files: list[Any] = [np.array(tokens, dtype=np.int32) for tokens in job["files"]]
    single: list[Any] = [np.array([token], dtype=np.int32) for token in job["single"]]
    contexts: Any = [[np.array(c, dtype=np.int32) for c in group] for group in job["contexts"]]
    total = sum(map(len, files))
    gc.collect()
    before = tree_rss_mib()
    index = SuffixIndex()
    began = time.process_time()
    for tokens in files:
        index.add(tokens)
    append = time.process_time() - began
    grown = (tree_rss_mib() - before) * _MIB
    nbytes = index.nbytes
    sequence = index.start()
    began = time.process_time()
    for token in single:
        index.append(sequence, token)
    one = time.process_time() - began
    index.remove(sequence)
    groups = []
    for group in contexts:
        calls: list[float] = []
        matched = drafted = 0
        began = time.process_time()
        for context in group:
            index.draft(context, job["limit"], job["factor"])
        cpu = time.process_time() - began
        for context in group:
            start = time.perf_counter_ns()
            draft = index.draft(context, job["limit"], job["factor"])
            calls.append((time.perf_counter_ns() - start) / 1e3)
            matched += draft[4]
            drafted += len(draft[0])
        means = {"match": matched / len(group), "drafted": drafted / len(group)}
        groups.append({"cpu_us": cpu / len(group) * 1e6, "calls_us": calls, **means})
    return {
        "append_us": append / total * 1e6,
        "append_one_us": one / len(single) * 1e6,
        "bytes_per_token": grown / total,
        "nbytes_per_token": nbytes / total,
        "groups": groups,
        "compiled": COMPILED,
    }


def _figures(runs: Sequence[Job]) -> Job | None:
    """Returns the median run's results."""
    if not runs:
        return None
    median = sorted(runs, key=lambda run: run["append_us"])[(len(runs) - 1) // 2]
    figures: Job = {
        "append_us": median["append_us"],
        "append_one_us": median["append_one_us"],
        "speculate_us": fmean(group["cpu_us"] for group in median["groups"]),
        "bytes_per_token": median["bytes_per_token"],
    }
    for name, group in zip(GROUPS, median["groups"], strict=True):
        calls = sorted(group["calls_us"])
        figures[f"speculate_{name}_us"] = group["cpu_us"]
        figures[f"speculate_{name}_p50_us"] = calls[len(calls) // 2]
        figures[f"speculate_{name}_p90_us"] = calls[9 * len(calls) // 10]
    return {key: float(f"{value:.4g}") for key, value in figures.items()}


def _report(report: Report, job: Job, runs: Mapping[str, Sequence[Job]]) -> None:
    ours = _figures(runs[""])
    assert ours is not None
    report.figures |= ours
    last = runs[""][-1]
    report.figures["nbytes_per_token"] = float(f"{last['nbytes_per_token']:.4g}")
    report.figures["compiled"] = last["compiled"]
    report.figures["arctic"] = _figures(runs["arctic"])
    report.samples |= {
        "tokens": sum(map(len, job["files"])),
        "modules": len(job["files"]),
        "contexts": {name: len(group) for name, group in zip(GROUPS, job["contexts"], strict=True)},
        "appended_one_by_one": len(job["single"]),
        "runs": len(runs[""]),
    }
    if not last["compiled"]:
        report.notes.append(
            "The compiled core was not built here: these are the Python version's results. "
            "Install a C++ compiler and reinstall this package."
        )
