"""The KoLMogorov test: can a model compress a sequence by writing a program that makes it?

A model gets a sequence of bytes and writes a program, as short as possible, whose ``output`` is
that sequence. ``language`` has the small language of the synthetic part and its random programs;
``scoring`` makes prompts, reads answers, runs them in the sandbox and counts bits.

Source: Yoran et al., "The KoLMogorov Test", ICLR 2025 (arXiv 2503.13992). Written from the
description; the authors' code and data are CC-BY-NC and not part of this package.
"""

from .language import Line, Program, Ref, parse, prelude, sample_program, sample_programs
from .scoring import (
    LENGTH,
    Answer,
    Result,
    Scores,
    as_comment,
    find_program,
    instruction,
    paper_bits,
    pieces,
    read_answers,
    run_answers,
    score_results,
    sequence_in,
)

__all__ = [
    "LENGTH",
    "Answer",
    "Line",
    "Program",
    "Ref",
    "Result",
    "Scores",
    "as_comment",
    "find_program",
    "instruction",
    "paper_bits",
    "parse",
    "pieces",
    "prelude",
    "read_answers",
    "run_answers",
    "sample_program",
    "sample_programs",
    "score_results",
    "sequence_in",
]
