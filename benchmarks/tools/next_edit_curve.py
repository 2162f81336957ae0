"""Plots costs and gains by the minimum probability of next edits, from a benchmark result.

``python -m codegen.benchmarks.tools.next_edit_curve RESULT.json PICTURE.svg [--prefix
refactorings_]``, where the result is from ``codegen bench next_edit -o decoder=server -o
min_probability=0 --json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from codegen.evals.report.charts import Axis, Series, line_chart, percent, standalone

_FEWEST = 10  # minimum edits for a point of the curve


def curve_picture(curve: Sequence[Mapping[str, float]]) -> str:
    """Returns the curve as a standalone SVG file."""
    first, rows = curve[0], [row for row in curve if row["shown"] >= _FEWEST]
    fractions = [("shown, of all", "shown", "of"), ("right in part, of shown", "useful", "shown"),
                 ("exact, of shown", "exact", "shown")]  # fmt: skip
    series = [
        Series(name, [(row["least"], row[part] / row[whole]) for row in rows])
        for name, part, whole in fractions
    ]
    described = [f"{s.name}: from {s.points[0][1]:.0%} to {s.points[-1][1]:.0%}" for s in series]
    return standalone(
        line_chart(
            series,
            Axis("Minimum probability of an edit", lambda value: f"{value:.2g}"),
            Axis("Edits", lambda value: percent(value, 0)),
            id_="next-edit-curve",
            title=f"Edits by minimum probability, {first['of']:.0f} edit states",
            description="; ".join(described),
            legend=True,
        )
    )


@click.command()
@click.argument("result", type=click.Path(exists=True, path_type=Path))
@click.argument("picture", type=click.Path(path_type=Path))
@click.option("--prefix", default="", help="Prefix of result keys, such as refactorings_.")
def main(result: Path, picture: Path, prefix: str) -> None:
    """Draw the curve of RESULT as PICTURE."""
    curve = json.loads(result.read_text(encoding="utf-8"))[f"{prefix}curve"]
    picture.write_text(curve_picture(curve), encoding="utf-8")


if __name__ == "__main__":
    main()
