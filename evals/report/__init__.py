"""The report: one HTML file that needs nothing else, and its numbers as JSON and Markdown.

The page makes no request (its content security policy forbids all), reads well without JavaScript,
and shows no text of a model or user unescaped. Its template, style sheet and script are files in
``report_assets``.
"""

from codegen.evals.report.background import loss_picture
from codegen.evals.report.comparisons import (
    PairedResult,
    SummaryRow,
    compare_runs,
    headline_ks,
    summary_rows,
)
from codegen.evals.report.content import (
    DataCounts,
    EditSteps,
    LossCurve,
    ProblemSamples,
    SampleView,
    ScoredRun,
)
from codegen.evals.report.page import write_report
from codegen.evals.report.reading import read_run

__all__ = [
    "DataCounts",
    "EditSteps",
    "LossCurve",
    "PairedResult",
    "ProblemSamples",
    "SampleView",
    "ScoredRun",
    "SummaryRow",
    "compare_runs",
    "headline_ks",
    "loss_picture",
    "read_run",
    "summary_rows",
    "write_report",
]
