"""The report: one self-contained HTML file, and its numbers as JSON and Markdown.

Modules: ``content`` (reads scored runs and computes extra measures), ``charts`` (SVG), ``page``
(fills in the templates in ``assets``).
"""

from codegen.evals.report.charts import loss_picture
from codegen.evals.report.content import (
    EditSteps,
    LossCurve,
    NamedScore,
    PairedResult,
    compare_runs,
    named_folders,
    read_run,
)
from codegen.evals.report.page import diff_lines, steps_of, write_report

__all__ = [
    "EditSteps",
    "LossCurve",
    "PairedResult",
    "NamedScore",
    "compare_runs",
    "diff_lines",
    "loss_picture",
    "named_folders",
    "read_run",
    "steps_of",
    "write_report",
]
