"""Next edits: a model against no edit, repeating the last edit, and continuing a renaming.

On the problems of the tasks ``next-edit`` (real commits; keys without a prefix) and
``next-edit-refactorings`` (files of unseen repositories, refactored; prefix ``refactorings_``), see
:mod:`codegen.evals.tasks.next_edit`: ``exact`` is the fraction of problems with an expected edit
whose resulting file is correct, ``exact_CATEGORY`` the same for one category, ``no_op_right`` the
fraction of states without an expected edit where none is proposed, ``no_op_precision`` the fraction
of answers without an edit that are correct, ``exact_predictable``, ``useful``, ``kept_rate``,
``location``, ``similarity``, ``shown`` and ``parse_rate`` as defined there. ``exact_minus_rename``
is the paired difference to the baseline ``rename``. ``p50_ms`` and ``p95_ms`` are wall times of one
answer at batch 1 with the prompt re-encoded, ``p50_cpu_ms`` CPU times. ``NAME_exact`` and so on are
a baseline's: ``nothing``, ``repeat``, ``rename``.

Without ``-o model=`` or ``-o upstream=`` the model's results are null. ``-o limit=N`` takes N
problems of each task, sampled by the seed. Drafts come from the window's old text (``-o
decoder=sample`` for plain decoding, with the same answers). ``-o decoder=server`` measures the
language server's answers: one thread and a helper for each free core, weights in eight bits, and
renamings in the history continued if the model finds them likely. It also measures jumps:
refactorings whose expected edit is outside the window around the last edit, where the cursor is.
``jump_shown`` is the fraction with a proposal, ``jump_place`` with a proposal that changes a line
of the expected edit, ``jump_exact`` with a proposal that yields the expected file. Both are lower
bounds, since other edits of the file may be correct, too. Edits below the minimum probability of
the model's card are not shown; ``-o min_probability=0`` shows all, and ``curve`` then has, by
minimum probability, the number of problems (``of``), of shown edits (``shown``), and of ``exact``
and ``useful`` ones among these. ``-o source=FILE`` measures the edit states of a file, as ``codegen
eval run next-edit --source``, instead of the tasks: choose the card's value on data other than the
tasks.

``-o upstream=URL -o style=edit-FORMAT`` measures the language server in front of a server with a
model of that format (``zeta2``, ``sweep`` and so on); ``-o model=`` is then its name there.

Intervals are by bootstrap over 14 and 4 repositories: with 4 they are too narrow. The data is read
from the folder that CODEGEN_TEST_DATA names.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lsprotocol.types import Position

from codegen.benchmarks.tools.edit_baselines import BASELINES
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.benchmarks.tools.statistics import clustered_mean
from codegen.core.errors import ConfigError
from codegen.edits.formats import (
    FORMATS,
    EditFormat,
    Unreadable,
    format_for,
    window_lines,
    window_text,
    with_window,
)
from codegen.edits.sessions import difference, lines_of
from codegen.evals import tasks
from codegen.evals.statistics import base_task
from codegen.evals.tasks.next_edit import NextEditProblem, measures
from codegen.generation import Backend, Decoder, SamplingParams, local_backend, open_backend
from codegen.generation.endpoints import NamedEndpoint, find_endpoint
from codegen.models import card_of, load_tokenizer

if TYPE_CHECKING:
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.next_edits.proposals import NextEditor

_PREFIXES = {"next-edit": "", "next-edit-refactorings": "refactorings_"}
_NAMES = {"quiet": "no_op_right", "kept": "kept_rate", "parsed": "parse_rate"}
_FIGURES = ("exact", "kept_rate", "location", "no_op_right", "no_op_precision", "parse_rate",
            "similarity", "shown")  # fmt: skip
_TIMES = ("p50_ms", "p95_ms", "p50_cpu_ms")
_LEAST = tuple(percent / 100 for percent in range(0, 100, 5))
_QUICK = 40
_Answered = tuple[dict[str, float], float, float]  # measures, wall time and CPU time in seconds
_Answer = Callable[[NextEditProblem], _Answered]
_AnswerOf = Callable[[tasks.Task[Any]], _Answer]


@options(
    quick={"limit": _QUICK},
    needs={
        "style decoder max_new_tokens": (
            "without -o model=NAME or -o upstream=URL",
            lambda o: o["model"] or o["upstream"],
        ),
        "max_new_tokens": (
            "on the language server's answers",
            lambda o: not o["upstream"] and o["decoder"] != "server",
        ),
        "min_probability": (
            "without -o decoder=server",
            lambda o: o["model"] and not o["upstream"] and o["decoder"] == "server",
        ),
        "decoder": (
            "with -o upstream, which is measured as decoder=server",
            lambda o: not o["upstream"] or o["decoder"] == "server",
        ),
    },
)
def run(
    *,
    model: str = "",
    upstream: str = "",
    style: str = "auto",
    decoder: str = "edit",
    limit: int = 0,
    max_new_tokens: int = 160,
    min_probability: float = -1.0,
    source: str = "",
    seed: int = 0,
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        model: a model on this machine, or its name on ``upstream``; without either, only the
            baselines are measured.
        upstream: URL of a server, or the name of an endpoint.
        style: the prompt style, which names the format; auto: from the tokens of a model that
            transformers runs here.
        decoder: the strategy, or ``server``, which ``upstream`` implies.
        limit: problems of each task; 0 for all.
        max_new_tokens: maximum tokens per answer.
        min_probability: minimum probability of shown edits; below 0: the model's default.
        source: file of edit states to measure instead of the tasks.
        seed: sampling seed.
    """
    at_least(0, limit=limit)
    at_least(1, max_new_tokens=max_new_tokens)
    runs_here = bool(model) and not upstream and local_backend(model) == "transformers"
    if (model or upstream) and style == "auto" and not runs_here:
        raise ConfigError("This model's format is unknown.", "Pass -o style=edit-FORMAT.")
    form = _form(style, model if runs_here else "")
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "transformers")
    threads = torch.get_num_threads()
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        answer_of: _AnswerOf | None = None
        engine: CompletionEngine | None = None
        editor: NextEditor | None = None
        if upstream or (model and decoder == "server"):
            from codegen.server.next_edits.proposals import NextEditor

            torch.set_num_threads(1)  # the default of `codegen serve`
            engine = _engine(model, upstream)
            stack.callback(engine.stop)
            editor = NextEditor(
                form, min_probability=min_probability if min_probability >= 0 else None
            )
            answer_of = partial(_served, engine=engine, editor=editor)
        elif model:
            answer_of = partial(
                _answers,
                backend=open_backend(local_backend(model), model),
                form=form,
                decoder=Decoder(decoder),
                params=SamplingParams(max_new_tokens=max_new_tokens),
            )
        else:
            report.notes.append("No model was measured: -o model=DIR or -o upstream=URL.")
        for name, prefix in [("next-edit", "")] if source else _PREFIXES.items():
            task = tasks.load(name, source or None)
            _measure(report, task, prefix, answer_of, limit, seed)
        if engine and editor and not source:
            _measure_jumps(report, engine, editor, limit, seed)
    return report.mapping()


def _measure(
    report: Report,
    task: tasks.Task[Any],
    prefix: str,
    answer_of: _AnswerOf | None,
    limit: int,
    seed: int,
) -> None:
    """Sets the results of one task."""
    problems = list(task.problems())
    if limit:
        random.Random(seed).shuffle(problems)
        problems = problems[:limit]
    found = {
        key: [measures(problem, baseline(problem.edit)) for problem in problems]
        for key, baseline in BASELINES.items()
    }
    for key, rows in found.items():
        _set(report, f"{prefix}{key}_", problems, rows, seed)
    if answer_of is None:
        for figure in (*_FIGURES, "exact_minus_rename", *_TIMES):
            report.set(prefix + figure, None)
        return
    answer = answer_of(task)
    rows, times = [], []
    for number, problem in enumerate(problems):
        row, wall, cpu = answer(problem)
        rows.append(row)
        times.append((1000 * wall, 1000 * cpu))
        if number % 20 == 19:
            say(f"{task.name}: {number + 1} of {len(problems)}")
    if answers := [row for row in rows if "useful" in row and "probability" in row]:
        report.figures[f"{prefix}curve"] = threshold_curve(answers, len(rows))
    _set(report, prefix, problems, rows, seed)
    _against(report, prefix, problems, rows, found["rename"], seed)
    wall, cpu = np.array(times).T
    for figure, value in zip(
        _TIMES, (np.median(wall), np.percentile(wall, 95), np.median(cpu)), strict=True
    ):
        report.set(prefix + figure, float(value), len(problems))


def threshold_curve(answers: Sequence[Mapping[str, float]], count: int) -> list[dict[str, float]]:
    """Returns, for each of :data:`_LEAST`, the answers with at least that probability."""
    found = []
    for least in _LEAST:
        shown = [row for row in answers if row["probability"] >= least]
        exact, useful = (sum(row[name] for row in shown) for name in ("exact", "useful"))
        row = {"least": least, "of": count, "shown": len(shown), "exact": exact, "useful": useful}
        found.append(row)
    return found


def _form(style: str, model: str) -> EditFormat:
    """Returns a style's format, which must fit a model on this machine."""
    read = "edit-auto" if style == "auto" else tasks.find_style(style).read
    if not read.startswith("edit-"):
        raise ConfigError(f"{style} is not a next-edit style.", "Choose edit-FORMAT.")
    name = read.removeprefix("edit-")
    if not model:
        return FORMATS.get(name, FORMATS["blocks"])
    return format_for(name, load_tokenizer(model).get_vocab(), card_of(model).style)


def _answers(
    task: tasks.Task[Any],
    backend: Backend,
    form: EditFormat,
    decoder: Decoder,
    params: SamplingParams,
) -> _Answer:
    style = tasks.find_style(f"edit-{form.name}")

    def answer(problem: NextEditProblem) -> _Answered:
        request = task.request(problem, style, 0)
        wall, cpu = time.perf_counter(), time.process_time()
        (completion,) = backend.generate([request], params, decoder)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return _measured(problem, form, completion.text), wall, cpu

    return answer


def _engine(model: str, upstream: str) -> CompletionEngine:
    """Returns the engine of the language server.

    Raises:
        ModelError: if the model does not exist, or the server does not answer.
    """
    from codegen.server.completion.engine import CompletionEngine
    from codegen.server.completion.model_worker import ServedModel
    from codegen.server.completion.upstream import Upstream

    if upstream:
        named = find_endpoint(upstream) or NamedEndpoint(url=upstream)
        endpoint = named.endpoint("any")
        source = Upstream(
            endpoint.base(), model=model or named.model, key=endpoint.api_key(), fim="none"
        )
        source.check()
        return CompletionEngine(source)
    return CompletionEngine(ServedModel.open(model))


def _served(task: tasks.Task[Any], engine: CompletionEngine, editor: NextEditor) -> _Answer:
    from codegen.server.completion.requests import DocumentKey
    from codegen.server.next_edits.answers import answer as ask

    form, threshold = editor.form, editor.threshold_of(engine)

    def answer(problem: NextEditProblem) -> _Answered:
        key = DocumentKey("benchmark", task.name, problem.id)  # a new key, without cached states
        prompt = editor.prompt(engine, problem.edit, hidden=())  # the files are public
        wall, cpu = time.perf_counter(), time.process_time()
        asked = prompt and ask(form, engine, key, prompt, problem.edit, threshold)
        said = asyncio.run(asked) if asked else None
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if said and said.probability < threshold:
            return {"parsed": 1.0, **measures(problem, window_text(problem.edit))}, wall, cpu
        row = _measured(problem, form, said.text if said else None)
        return row | {"probability": said.probability if said else 0.0}, wall, cpu

    return answer


def _measure_jumps(
    report: Report, engine: CompletionEngine, asking: NextEditor, limit: int, seed: int
) -> None:
    """Sets the results of edits expected far from the last edit; see the module's docstring."""
    from codegen.server.completion.requests import DocumentKey
    from codegen.server.context.document import TextDocument
    from codegen.server.next_edits.history import Tracker
    from codegen.server.next_edits.proposals import VIEWS, NextEditor

    far = []
    for problem in tasks.load("next-edit-refactorings").problems():
        edit = problem.edit
        if not edit.history or edit.category == "nothing":
            continue
        last = edit.history[-1]
        line = last.line + max(0, len(lines_of(last.new)) - 1)
        top, bottom = VIEWS[0].window(line, len(lines_of(edit.text)))
        hunks = difference(window_lines(edit), lines_of(edit.target))
        due = [(edit.window[0] + hunk.start, edit.window[0] + hunk.end) for hunk in hunks]
        if not any(top <= start < bottom for start, _ in due):
            far.append((problem, line, due))
    random.Random(seed).shuffle(far)
    rows, walls = [], []
    for problem, line, due in far[:limit] if limit else far:
        editor = NextEditor(asking.form, min_probability=asking.min_probability)
        document = TextDocument(problem.edit.text, version=1)
        editor.trackers[problem.id] = Tracker(done=list(problem.edit.history))
        key = DocumentKey("benchmark", "jumps", problem.id)
        asked = editor.propose(
            engine, key, document, Position(line, 0), problem.edit.path, problem.edit.language
        )
        began = time.perf_counter()
        found = asyncio.run(asked)
        walls.append(1000 * (time.perf_counter() - began))
        row = {"shown": 0.0, "place": 0.0, "exact": 0.0}
        if found:
            start, end = (
                found.place.start.line,
                max(found.place.end.line, found.place.start.line + 1),
            )
            lines = lines_of(problem.edit.text)
            after = "".join([*lines[:start], found.text, *lines[found.place.end.line :]])
            row["shown"] = 1.0
            row["place"] = float(any(a < end and start < max(b, a + 1) for a, b in due))
            row["exact"] = float(after == with_window(problem.edit, problem.edit.target))
        rows.append((row, base_task(problem.id)))
    for name in ("shown", "place", "exact"):
        key = f"refactorings_jump_{name}"
        if not rows:
            report.set(key, None)
            continue
        values, clusters = zip(*((row[name], cluster) for row, cluster in rows), strict=True)
        report.set(key, clustered_mean(values, clusters, seed), len(rows))
    for name, share in (("p50", 50), ("p95", 95)):
        value = float(np.percentile(walls, share)) if walls else None
        report.set(f"refactorings_jump_{name}_ms", value, len(rows))


def _measured(problem: NextEditProblem, form: EditFormat, answer: str | None) -> dict[str, float]:
    try:
        window = None if answer is None else form.read(problem.edit, answer)
    except Unreadable:
        window = None
    return {"parsed": float(window is not None), **measures(problem, window)}


def _set(
    report: Report,
    prefix: str,
    problems: Sequence[NextEditProblem],
    rows: Sequence[Mapping[str, float]],
    seed: int,
) -> None:
    """Sets the results of one system on one task; ``exact`` counts only expected edits."""
    for name in dict.fromkeys(key for row in rows for key in row):
        if name in ("exact_nothing", "exact_blind", "probability"):
            continue
        pairs = [
            (row[name], base_task(problem.id))
            for problem, row in zip(problems, rows, strict=True)
            if name in row and (name != "exact" or problem.edit.category != "nothing")
        ]
        key = prefix + _NAMES.get(name, name)
        if not pairs:  # few problems, none with an expected edit
            report.set(key, None)
            continue
        values, clusters = zip(*pairs, strict=True)
        report.set(key, clustered_mean(values, clusters, seed), len(values))


def _against(
    report: Report,
    prefix: str,
    problems: Sequence[NextEditProblem],
    rows: Sequence[Mapping[str, Any]],
    others: Sequence[Mapping[str, Any]],
    seed: int,
) -> None:
    pairs = [
        (row["exact"] - other["exact"], base_task(problem.id))
        for problem, row, other in zip(problems, rows, others, strict=True)
        if problem.edit.category != "nothing"
    ]
    if not pairs:
        report.set(f"{prefix}exact_minus_rename", None)
        return
    values, clusters = zip(*pairs, strict=True)
    difference = clustered_mean(values, clusters, seed)
    report.set(f"{prefix}exact_minus_rename", difference, len(values))
