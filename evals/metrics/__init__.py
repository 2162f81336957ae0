"""Measures of the samples themselves, beside whether they pass: repetition and diversity.

``text`` takes programs apart (also broken ones), ``repetition`` measures how much a program repeats
itself, ``diversity`` how much the samples of one problem repeat one another.
"""

from .diversity import Diversity, behaviours, expected_unique, measure_diversity, vendi_score
from .repetition import (
    Loop,
    Output,
    PaperRepetition,
    ReleasedRepetition,
    find_loop,
    paper_repetition,
    released_repetition,
)
from .text import compiles, edit_distance, kinds, lex, normal_form, shapes, statements

__all__ = [
    "Diversity",
    "Loop",
    "Output",
    "PaperRepetition",
    "ReleasedRepetition",
    "behaviours",
    "compiles",
    "edit_distance",
    "expected_unique",
    "find_loop",
    "kinds",
    "lex",
    "measure_diversity",
    "normal_form",
    "paper_repetition",
    "released_repetition",
    "shapes",
    "statements",
    "vendi_score",
]
