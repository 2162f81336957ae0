"""Writes a report: one self-contained HTML file, and its numbers as JSON and Markdown next to it.
It fills in the Jinja2 templates in ``assets``.

Values in templates are escaped for HTML or Markdown, with invisible characters as code points,
unless they are this package's markup. The page's content security policy forbids requests and
foreign scripts.
"""

from __future__ import annotations

import base64
import difflib
import functools
import gzip
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

import codegen
from codegen.core.errors import InputError, plural
from codegen.core.paths import write_atomic
from codegen.core.records import Status
from codegen.evals.report import charts
from codegen.evals.report.charts import percent, visible
from codegen.evals.report.content import (
    EditSteps,
    ExtraMeasures,
    LossCurve,
    NamedScore,
    ProblemSamples,
    by_task,
    compare_runs,
    compute,
    headline_ks,
)
from codegen.evals.scoring import STATUSES, ProblemScore, Score

ASSETS = Path(__file__).parent / "assets"
_MARK = "<!-- codegen eval report -->"
_MEANING: Mapping[Status, str] = {
    "passed": "passed all tests",
    "wrong": "a test failed",
    "error": "raised an exception",
    "timeout": "exceeded the time limit",
    "memory": "exceeded the memory limit",
    "crashed": "the interpreter crashed",
    "exited": "exited before the tests were done",
    "output_limit": "exceeded the output limit",
    "syntax_error": "not valid Python",
    "compile_error": "did not compile",
    "empty": "the answer is empty",
    "no_answer": "no program was found in the answer",
    "bad_test": "the problem's test is unusable or tests nothing",
    "refused": "not scored: the tests could be forged more easily than --trust allows",
    "infra_error": "not scored: the sandbox failed",
}
# Title, note, and field of Diversity or PaperRepetition; all but the last are fractions.
_SAMPLE_ROWS = (
    ("Distinct programs", "", "unique_text"),
    ("Distinct after renaming locals", "no comments, docstrings, layout", "unique_form"),
    ("Dissimilarity of two samples", "1 − token edit similarity", "dissimilarity"),
    ("Effective fraction of samples", "Vendi score / samples", "vendi"),
    ("Compile", "", "compiles"),
    ("Ended by themselves", "EGP", "egp"),
    ("Repeated 4-grams", "TR-N", "tr_n"),
    ("Repeated statements", "TR-S", "tr_s"),
    ("Repeated shapes of statements", "names and values ignored", "tr_shape"),
    ("End in a loop", "3 or more copies", "looping"),
    ("Length in lexer tokens", "mean", "tokens"),
)


def write_report(
    runs: Sequence[NamedScore],
    out: str | Path,
    *,
    title: str = "Evaluation report",
    subtitle: str = "",
    losses: Sequence[LossCurve] = (),
    edit_steps: Sequence[EditSteps] = (),
    notes: Sequence[str] = (),
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Writes the report to ``out`` (HTML), and next to it as JSON and as Markdown (``.md``).

    The JSON contains all numbers; the samples are in the page, and in the runs' own files.

    Args:
        runs: scored runs in display order; the first is the baseline of comparisons.
        losses: curves over training steps.
        notes: the caller's sentences, shown with the result's limits.
        versions: versions of the caller's software, added to the scores' versions.

    Returns:
        The path of the HTML file.

    Raises:
        InputError: if there are no runs, two have the same name, or the report would overwrite
            a file that is not an earlier report's.
    """
    out = Path(out)
    names = [run.name for run in runs]
    if not names:
        raise InputError("A report needs at least one scored run.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Two runs have the name {twice!r}.", "Pass runs as NAME=DIR.")
    content, summary = out.with_suffix(".json"), out.with_suffix(".md")
    if out in (content, summary):
        kind = "JSON" if out == content else "Markdown"
        raise InputError(f"The report's {kind} would overwrite {out}.", "Choose an .html file.")
    _refuse_overwrite("page", out, _is_page)
    _refuse_overwrite("content", content, _is_report)
    _refuse_overwrite("summary", summary, _is_summary)
    comparisons = compare_runs(runs)
    further = {run.name: compute(run) for run in runs}
    data = {
        "title": title,
        "subtitle": subtitle,
        "runs": [
            {
                "name": run.name,
                "score": _finite(asdict(run.score)),
                "settings_fingerprint": _fingerprint(run.score),
                "further": _finite(asdict(further[run.name])),
            }
            for run in runs
        ],
        "comparisons": [{**asdict(pair), "significant": pair.significant} for pair in comparisons],
        "losses": _finite([asdict(curve) for curve in losses]),
        "edit_steps": [asdict(steps) for steps in edit_steps],
        "notes": list(notes),
        "versions": {"codegen": codegen.__version__, **(versions or {})},
    }
    explorers, blocks = _explorers(runs)
    shown: dict[str, object] = {
        "title": title,
        "subtitle": subtitle,
        "runs": runs,
        "tasks": by_task(runs),
        "ks": headline_ks(runs),
        "comparisons": comparisons,
        "further": further,
        "seen": [s for s in STATUSES if any(run.score.statuses.get(s) for run in runs)],
        "groups": list(dict.fromkeys(label for run in runs for label in run.score.groups)),
        "measures": list(dict.fromkeys(name for run in runs for name in run.score.measures)),
        "losses": [curve for curve in losses if curve.points],
        "steppers": [steps for steps in edit_steps if steps.states],
        "explorers": explorers,
        "blocks": Markup("\n").join(map(Markup, blocks)),
        "sample_count": sum(len(p.samples) for run in runs for p in run.samples.values()),
        "settings": _settings(runs),
        "notes": notes,
        "versions": versions or {},
        **_functions_of(further),
    }
    write_atomic(content, json.dumps(data, indent=1, allow_nan=False) + "\n")
    write_atomic(summary, templates(_as_markdown).get_template("summary.md.jinja").render(shown))
    write_atomic(out, templates(as_text).get_template("page.html").render(shown))
    return out


def _refuse_overwrite(what: str, path: Path, is_ours: Callable[[bytes], bool]) -> None:
    """Raises an error for a file that is not a report's, such as a run's ``score.json``."""
    if path.is_file() and not is_ours(path.read_bytes()):
        raise InputError(
            f"The report's {what} would overwrite {path}, which is not a report.",
            "Choose another --out.",
        )


def _is_page(content: bytes) -> bool:
    return b'<p class="kicker">Evaluation report</p>' in content  # written by page.html


def _is_report(content: bytes) -> bool:
    try:
        row = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and {"title", "runs", "comparisons"} <= row.keys()


def _is_summary(content: bytes) -> bool:
    return content.partition(b"\n")[0].strip() == _MARK.encode()


def _finite(value: object) -> object:
    """Returns the value with null instead of NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache
def templates(show: Callable[[object], str], *folders: Path) -> Environment:
    """Returns the templates' environment, in which ``show`` formats each displayed value.

    Args:
        show: :func:`as_text` for HTML.
        folders: folders of extra templates, which may use the report's templates.
    """
    made: Any = Environment(
        loader=FileSystemLoader([*folders, ASSETS]),
        autoescape=True,
        finalize=show,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {
        "csp_hash": _csp_hash,
        "percent": lambda value: Markup(percent(value)),
        "signed": lambda value: Markup(_signed(value)),
        "p_value": _p_value,
        "p_equals": _p_equals,
        "coefficient": lambda value: f"{value:.3f}".replace("-", "\N{MINUS SIGN}"),
        "plural": plural,
        "words": lambda name: name.replace("_", " "),
        "plain": _plain,
    }
    made.globals |= {
        "mark": Markup(_MARK),
        "style": Markup((ASSETS / "report.css").read_text(encoding="utf-8")),
        "script": Markup((ASSETS / "report.js").read_text(encoding="utf-8")),
        "toolkit_version": codegen.__version__,
        "meaning": _MEANING,
        "sample_rows": _SAMPLE_ROWS,
        "swatch": charts.swatch,
        "pass_chart": charts.pass_chart,
        "loss_chart": charts.loss_chart,
        "verdict_chart": charts.verdict_chart,
        "interval": lambda low, high: Markup(_interval(low, high)),
        "with_estimate": lambda runs, k: [run for run in runs if k in run.score.estimates],
        "with_curve": lambda runs: [run for run in runs if len(run.score.estimates) > 1],
        "samples_of_each": _samples_of_each,
        "any_clusters": lambda runs: any(
            e.clusters < e.m for run in runs for e in run.score.estimates.values()
        ),
        "any_thinned": lambda curves: any(map(charts.is_thinned, curves)),
        "steps_of": lambda steps: list(steps_of(steps.states)),
    }
    return made


def _functions_of(further: Mapping[str, ExtraMeasures]) -> dict[str, Callable[..., object]]:
    """Returns template functions that read the extra measures."""

    def drawn_of_each(runs: Sequence[NamedScore]) -> int | None:
        """Returns the rarefaction's sample size, if it is the same for all runs."""
        ks = {d.k for run in runs if (d := further[run.name].diversity) is not None}
        return ks.pop() if len(ks) == 1 else None

    return {
        "with_repetition": lambda runs: [run for run in runs if further[run.name].repetition],
        "measured": lambda run, name: _measured(further[run.name], name),
        "drawn_of_each": drawn_of_each,
    }


def as_text(value: object) -> str:
    """Returns a value's displayed text, not yet escaped."""
    return value if isinstance(value, Markup) else visible(value)


_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:-])")


def _as_markdown(value: object) -> Markup:
    """Returns one line with Markdown and HTML characters escaped."""
    if isinstance(value, Markup):
        return value
    return Markup(_SPECIAL.sub(r"\\\1", " ".join(visible(value).split())))


def _csp_hash(content: str) -> Markup:
    digest = hashlib.sha256(content.encode()).digest()
    return Markup(f"sha256-{base64.b64encode(digest).decode()}")


def _interval(low: float | None, high: float | None) -> str:
    """Formats an interval in percent; "not defined" without one."""
    if low is None or high is None:
        return "not defined"
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}%"


def _signed(value: float) -> str:
    """Formats a difference in percentage points with its sign."""
    points = round(100 * value, 1)
    sign = "\N{MINUS SIGN}" if points < 0 else "+" if points else ""
    return f"{sign}{abs(points):.1f}"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_equals(value: float) -> str:
    text = _p_value(value)
    return (text if value < 0.001 else f"= {text}").replace(" ", "\N{NO-BREAK SPACE}")


def _samples_of_each(run: NamedScore) -> str:
    sizes = sorted({problem.n for problem in run.score.problems}) or [0]
    return str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}\N{EN DASH}{sizes[-1]}"


def _measured(further: ExtraMeasures, name: str) -> str:
    """Returns a measure of the samples; empty if it is missing."""
    for group in (further.diversity, further.repetition):
        if hasattr(group, name):
            value = getattr(group, name)
            return f"{value:,.1f}" if name == "tokens" else percent(value)
    return ""


def steps_of(states: Sequence[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yields each state's caption and its lines, each with its kind."""
    before: list[str] = []
    for number, state in enumerate(states, 1):
        lines = list(diff_lines(before, state.splitlines()))
        change = []
        for kind, done in (("add", "added"), ("del", "removed")):
            if count := sum(kind == one for one, _ in lines):
                change.append(f"{plural(count, 'line')} {done}")
        yield f"Step {number} of {len(states)}: {', '.join(change) or 'no change'}", lines
        before = state.splitlines()


_MOST_ALIKE = 500_000  # maximum pairs of equal lines to compare


def diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the lines of ``after`` as ``keep`` or ``add``, and the removed ones as ``del``.

    If repetitive texts would take minutes to compare, all lines are removed and added.
    """
    counts = Counter(after)
    alike = sum(counts[line] for line in before)
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    whole = [("replace", 0, len(before), 0, len(after))]
    for tag, i1, i2, j1, j2 in matcher.get_opcodes() if alike <= _MOST_ALIKE else whole:
        if tag == "equal":
            yield from (("keep", line) for line in after[j1:j2])
        else:
            yield from (("del", line) for line in before[i1:i2])
            yield from (("add", line) for line in after[j1:j2])


def _settings(runs: Sequence[NamedScore]) -> list[tuple[str, list[str]]]:
    """Returns each setting with its values in all runs."""
    flat = [_flat_settings(run.score) for run in runs]
    names = dict.fromkeys(name for values in flat for name in values)
    return [(name, [values.get(name, "") for values in flat]) for name in names]


def _flat_settings(score: Score) -> dict[str, str]:
    rows: dict[str, object] = {"task": score.task, "task data": score.source, **score.settings}
    rows["fingerprint of these settings"] = _fingerprint(score)[:16]
    rows["samples scored"] = score.samples
    rows["distinct programs run"] = score.programs
    rows |= {f"sandbox {name.replace('_', ' ')}": value for name, value in score.sandbox.items()}
    rows |= {f"version of {name}": value for name, value in score.versions.items()}
    return {name.replace("_", " "): _plain(value) for name, value in rows.items()}


def _fingerprint(score: Score) -> str:
    """Returns a hash of the settings that two scores of the same experiment share."""
    shared = [score.task, score.source, dict(score.settings), dict(score.sandbox)]
    return hashlib.sha256(json.dumps(shared, sort_keys=True, default=str).encode()).hexdigest()


def _plain(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class _Row:
    """A problem: index of its sample block, if any, its score in each run, and their spread."""

    id: str
    block: int | None
    scores: Sequence[ProblemScore | None]
    gap: float


@dataclass(frozen=True, slots=True)
class _Explorer:
    """The problems of one task."""

    task: str
    runs: Sequence[NamedScore]
    rows: Sequence[_Row]

    @property
    def names(self) -> str:
        """The runs' names as JSON."""
        return json.dumps([run.name for run in self.runs])


def _explorers(runs: Sequence[NamedScore]) -> tuple[list[_Explorer], list[str]]:
    """Returns each task's problems, and the packed samples that their rows index."""
    blocks: list[str] = []
    explorers = []
    for task, group in by_task(runs).items():
        scores = [{p.problem_id: p for p in run.score.problems} for run in group]
        rows = []
        for id_ in dict.fromkeys(id_ for score in scores for id_ in score):
            block = None
            if any(id_ in run.samples for run in group):
                block = len(blocks)
                blocks.append(pack([run.samples.get(id_) for run in group]))
            of_problem = [score.get(id_) for score in scores]
            rates = [problem.c / problem.n for problem in of_problem if problem and problem.n]
            gap = max(rates) - min(rates) if len(rates) > 1 else 0.0
            rows.append(_Row(id_, block, of_problem, gap))
        explorers.append(_Explorer(task, group, rows))
    return explorers, blocks


def pack(runs: Sequence[ProblemSamples | None]) -> str:
    """Packs the samples of one problem in all runs of its task, as base64 of gzipped JSON.

    A page with tens of thousands of samples thus opens quickly. Base64 has no HTML special
    characters; the script inserts strings as text, never as markup.

    The JSON has one object per run, or null: the prompt, and rows of (index, status, message,
    program, answer, actions, finish reason, tokens, CPU seconds, MiB, trust, output). A program
    that equals prompt + answer is written as 1; one that equals the answer, as 2.
    """
    rows = [None if run is None else {"p": run.prompt, "s": list(_rows(run))} for run in runs]
    text = json.dumps(rows, separators=(",", ":"))  # lone surrogates become escapes
    packed = gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0)
    return base64.b64encode(packed).decode("ascii")


def _rows(run: ProblemSamples) -> Iterator[list[object]]:
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
