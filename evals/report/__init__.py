"""The report: one HTML file that needs nothing else, and the same content as JSON.

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
from codegen.evals.report.content import DataCounts, EditSteps, LossCurve, ScoredRun
from codegen.evals.report.page import write_report

__all__ = [
    "DataCounts",
    "EditSteps",
    "LossCurve",
    "PairedResult",
    "ScoredRun",
    "SummaryRow",
    "compare_runs",
    "headline_ks",
    "loss_picture",
    "summary_rows",
    "write_report",
]
