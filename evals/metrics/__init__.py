"""Measures of samples besides whether they pass: repetition and diversity.

``text`` splits programs, even invalid ones; ``samples`` measures how much a program repeats itself,
and how similar the samples of one problem are.
"""

from codegen.python_syntax import compiles

from .samples import (
    Diversity,
    Loop,
    Output,
    PaperRepetition,
    expected_unique,
    find_loop,
    measure_diversity,
    paper_repetition,
    vendi_score,
)
from .text import edit_distance, kinds, lex, normal_form, shapes, statements

__all__ = [
    "Diversity",
    "Loop",
    "Output",
    "PaperRepetition",
    "compiles",
    "edit_distance",
    "expected_unique",
    "find_loop",
    "kinds",
    "lex",
    "measure_diversity",
    "normal_form",
    "paper_repetition",
    "shapes",
    "statements",
    "vendi_score",
]
