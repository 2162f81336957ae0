"""The section in which every sample can be looked at: problems to sort and search, and a viewer.

The samples stand in the page as compressed blocks, one a problem, that the page's script unpacks
when the problem is opened; so a page with tens of thousands of samples opens at once. A block is
gzipped JSON in base64, which holds no character that means anything in HTML; its text enters the
page as text, never as markup.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from codegen.evals.markup import safe_text
from codegen.evals.report.comparisons import by_task
from codegen.evals.report.content import ProblemSamples, ScoredRun
from codegen.evals.report.html import plural, section, table, th
from codegen.evals.scoring import ProblemScore


def problems(runs: Sequence[ScoredRun]) -> str:
    """The problems of each task, how many of their samples passed, and the samples themselves."""
    blocks: list[str] = []
    parts = [
        _task(number, task, group, blocks)
        for number, (task, group) in enumerate(by_task(runs).items())
    ]
    shown = sum(len(problem.samples) for run in runs for problem in run.samples.values())
    lead = "How many of the samples of each problem passed."
    if shown:
        lead += f" Open a problem to read its samples: {plural(shown, 'sample')} are in this page."
    noscript = (
        "<noscript><p>The samples are compressed in this page and need JavaScript to be read; they "
        "are also in the runs’ JSONL files.</p></noscript>"
        if shown
        else ""
    )
    store = (
        f'<script type="text/plain" id="blocks">{chr(10).join(blocks)}</script>' if blocks else ""
    )
    return section(
        "Problems and samples", f"<p>{lead}</p>", noscript, *parts, store, id_="problems"
    )


def _task(number: int, task: str, group: Sequence[ScoredRun], blocks: list[str]) -> str:
    scores = [{p.problem_id: p for p in run.score.problems} for run in group]
    ids = list(dict.fromkeys(id_ for score in scores for id_ in score))
    rows = []
    for place, id_ in enumerate(ids):
        block = ""
        if any(id_ in run.samples for run in group):
            block = f' data-block="{len(blocks)}"'
            blocks.append(pack([run.samples.get(id_) for run in group]))
        cells = "".join(_cell(score.get(id_)) for score in scores)
        spread = _spread([score.get(id_) for score in scores]) if len(group) > 1 else ""
        rows.append(f"<tr{block}>{th_sorted(safe_text(id_), place)}{cells}{spread}</tr>")
    head = [th("Problem"), *(th(safe_text(run.name), "num") for run in group)]
    if len(group) > 1:
        head.append(th("Gap", "num gap"))
    label = f"Passed samples by problem of {safe_text(task)}"
    listed = table(head, rows, kind="problems sortable", label=label)
    names = safe_text(json.dumps([run.name for run in group]))
    return (
        f'<div class="explorer" data-explorer="{number}" data-runs="{names}">'
        f'<h3>{safe_text(task)} <span class="muted">{plural(len(ids), "problem")}</span></h3>'
        f"{_controls(number, len(group))}"
        f'<details class="listing"{" open" if len(ids) <= _OPEN_UP_TO else ""}>'
        f"<summary>The list of problems</summary>{listed}</details>"
        '<div class="viewer" hidden></div></div>'
    )


_OPEN_UP_TO = 400  # problems


def th_sorted(text: str, place: int) -> str:
    """The header of a row, with its place for sorting; ``text`` is HTML."""
    return f'<th scope="row" data-value="{place}">{text}</th>'


def _cell(problem: ProblemScore | None) -> str:
    if problem is None or not problem.n:
        return '<td class="heat muted" data-value="-1">none</td>'
    heat = math.ceil(5 * problem.c / problem.n)
    rate = problem.c / problem.n
    return f'<td class="heat h{heat}" data-value="{rate:.6g}">{problem.c} / {problem.n}</td>'


def _spread(found: Sequence[ProblemScore | None]) -> str:
    """How far apart the runs are on a problem."""
    rates = [problem.c / problem.n for problem in found if problem is not None and problem.n]
    gap = max(rates) - min(rates) if len(rates) > 1 else 0.0
    text = f"{100 * gap:.0f}" if gap else ""
    return f'<td class="num gap muted" data-value="{gap:.6g}">{text}</td>'


def _controls(number: int, runs: int) -> str:
    """Search and filters; the script shows them."""
    kinds = [("all", "all problems"), ("none", "none passed"), ("some", "some passed")]
    kinds.append(("every", "all passed"))
    if runs > 1:
        kinds.append(("differ", "runs differ"))
    options = "".join(f'<option value="{value}">{text}</option>' for value, text in kinds)
    return (
        '<div class="tools" hidden>'
        f'<label for="search-{number}" class="unseen">Search problems</label>'
        f'<input type="search" id="search-{number}" placeholder="Search problems" '
        'autocomplete="off" spellcheck="false">'
        f'<label for="which-{number}" class="unseen">Which problems</label>'
        f'<select id="which-{number}">{options}</select>'
        f'<label class="check"><input type="checkbox" id="deep-{number}"> also in prompts, '
        'programs, answers and outputs</label><output aria-live="polite"></output></div>'
    )


def pack(runs: Sequence[ProblemSamples | None]) -> str:
    """The samples of one problem in all runs of its task, as base64 of gzipped JSON.

    The JSON is one object a run, or null: the prompt, and rows of (index, status, message, program,
    answer, actions, finish reason, tokens, CPU seconds, MiB, trust, output). A program that is
    prompt and answer joined is written as 1, one that is the answer as 2.
    """
    rows = [None if run is None else {"p": run.prompt, "s": list(_rows(run))} for run in runs]
    text = json.dumps(rows, separators=(",", ":"))  # lone surrogates become escapes
    packed = gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _rows(run: ProblemSamples) -> Iterator[list[Any]]:
    for view in run.samples:
        program: str | int = view.program
        if view.program and view.program == run.prompt + view.answer:
            program = 1
        elif view.program and view.program == view.answer:
            program = 2
        yield [
            view.index,
            view.status,
            view.message,
            program,
            view.answer,
            view.actions,
            view.finish_reason,
            view.tokens,
            round(view.cpu_s, 3),
            round(view.memory_mib, 1),
            view.trust,
            view.output,
        ]
