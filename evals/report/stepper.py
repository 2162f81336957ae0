"""The section that shows how a program came to be, action by action."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from codegen.evals.markup import safe_text
from codegen.evals.report.content import EditSteps
from codegen.evals.report.html import plural, section
from codegen.evals.scoring import STATUSES


def steppers(edit_steps: Sequence[EditSteps]) -> str:
    """The programs to step through; without a script, as lists that open."""
    shown = [steps for steps in edit_steps if steps.states]
    if not shown:
        return ""
    return section(
        "Programs, action by action",
        "<p>How a sample came to be: the program after each action of the model. New lines are "
        "marked with a plus.</p>",
        *(_stepper(number, steps) for number, steps in enumerate(shown)),
        id_="steps",
    )


def _stepper(number: int, steps: EditSteps) -> str:
    items = []
    before: list[str] = []
    for i, state in enumerate(steps.states, 1):
        lines = list(diff_lines(before, state.splitlines()))
        added = sum(kind == "add" for kind, _ in lines)
        removed = sum(kind == "del" for kind, _ in lines)
        change = [f"{plural(added, 'line')} added"] if added else []
        change += [f"{plural(removed, 'line')} removed"] if removed else []
        caption = f"Step {i} of {len(steps.states)}: {', '.join(change) or 'no change'}"
        code = "".join(f'<span class="{kind}">{safe_text(line)}</span>' for kind, line in lines)
        code = code or '<span class="none">(empty)</span>'
        items.append(
            f"<li><details{' open' if i == len(steps.states) else ''}><summary>{caption}</summary>"
            f'<pre class="code" tabindex="0">{code}</pre></details></li>'
        )
        before = state.splitlines()
    kind = steps.verdict if steps.verdict in STATUSES else ""
    return (
        f'<article class="stepper" data-stepper aria-labelledby="stepper-{number}">'
        f'<div class="stepper-head"><h3 id="stepper-{number}">{safe_text(steps.title)}</h3>'
        f'<span class="badge {kind}"><span>{safe_text(steps.verdict)}</span></span></div>'
        f"<details><summary>The prompt</summary><pre>{safe_text(steps.prompt)}</pre></details>"
        '<div class="controls" hidden>'
        '<button type="button" aria-label="Previous step">← Back</button>'
        f'<input type="range" min="0" max="{len(items) - 1}" value="0" aria-label="Step">'
        '<button type="button" aria-label="Next step">Next →</button>'
        '<output aria-live="polite"></output></div>'
        f'<ol class="steps">{"".join(items)}</ol></article>'
    )


def diff_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The lines of ``after`` as ``keep`` or ``add``, with those gone from ``before`` as ``del``."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            yield from (("keep", line) for line in after[j1:j2])
        else:
            yield from (("del", line) for line in before[i1:i2])
            yield from (("add", line) for line in after[j1:j2])
