"""Program search (CoTACS): the published algorithm, and successive halving."""

from codegen.cogex.search.halving import Round, cost_of, plan_rounds
from codegen.cogex.search.log import Draw, SearchLog, Try
from codegen.cogex.search.programs import (
    Candidate,
    Emulator,
    Found,
    ProgramSearch,
    majority,
    scores_on,
    split_items,
)
from codegen.cogex.search.settings import SearchSettings, within_budget

__all__ = [
    "Candidate",
    "Draw",
    "Emulator",
    "Found",
    "ProgramSearch",
    "Round",
    "SearchLog",
    "SearchSettings",
    "Try",
    "cost_of",
    "majority",
    "plan_rounds",
    "scores_on",
    "split_items",
    "within_budget",
]
