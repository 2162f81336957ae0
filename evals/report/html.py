"""The pieces that all sections of the page are built of. Arguments that hold HTML say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from codegen.evals.charts import swatch
from codegen.evals.markup import safe_text


def section(heading: str, *parts: str, id_: str) -> str:
    """A section with a heading; ``heading`` and ``parts`` are HTML, empty parts are left out."""
    inside = "\n".join(part for part in parts if part)
    return f'<section aria-labelledby="{id_}">\n<h2 id="{id_}">{heading}</h2>\n{inside}\n</section>'


def table(head: Sequence[str], rows: Iterable[str], *, kind: str = "", label: str) -> str:
    """A table in a region that scrolls by itself; ``head`` and ``rows`` are HTML."""
    columns = "".join(head)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'
        f'<table class="{kind}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def th(text: str, kind: str = "", scope: str = "col") -> str:
    """A header cell; ``text`` is HTML."""
    return f'<th scope="{scope}" class="{kind}">{text}</th>'


def legend(names: Sequence[str]) -> str:
    """The runs' names, each with the colour and marker of its line."""
    items = "".join(f"<li>{swatch(i)}{safe_text(name)}</li>" for i, name in enumerate(names))
    return f'<ul class="legend">{items}</ul>'


def percent(value: float, digits: int = 1) -> str:
    """0.125 as ``12.5%``."""
    return f"{100 * value:.{digits}f}%"


def interval(low: float | None, high: float | None) -> str:
    """An interval in percent, or that there is none."""
    if low is None or high is None:
        return "not defined"
    return f"{100 * low:.1f}\N{EN DASH}{100 * high:.1f}%"


def signed(value: float) -> str:
    """A difference in percentage points with its sign."""
    sign = "\N{MINUS SIGN}" if round(value, 3) < 0 else "+"
    return f"{sign}{abs(100 * value):.1f}"


def p_value(value: float) -> str:
    """A p-value as text, not escaped."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
