"""The KoLMogorov test: can a model compress a sequence by writing a program that makes it?

A model gets a sequence of bytes and writes a program, as short as possible, whose ``output`` is
that sequence. ``functions`` and ``language`` define the small language of the synthetic part and
its random programs, ``coding`` counts bits (of a decodable code, and of classical compressors),
``scoring`` makes prompts, reads answers and runs them in the sandbox.

Source: Yoran et al., "The KoLMogorov Test", ICLR 2025 (arXiv 2503.13992). Written from the
description; the authors' code and data are CC-BY-NC and not part of this package.
"""

from .coding import (
    COMPRESSORS,
    UNIFORM,
    Prior,
    code_bits,
    learn,
    order_k_bits,
    paper_bits,
    rate_of_items,
    rates,
)
from .language import Line, Program, Ref, parse, sample_program, sample_programs
from .scoring import (
    LENGTH,
    Answer,
    Result,
    Scores,
    as_comment,
    find_program,
    instruction,
    pieces,
    prelude,
    read_answers,
    run_answers,
    score_results,
    sequence_in,
)

__all__ = [
    "COMPRESSORS",
    "LENGTH",
    "UNIFORM",
    "Answer",
    "Line",
    "Prior",
    "Program",
    "Ref",
    "Result",
    "Scores",
    "as_comment",
    "code_bits",
    "find_program",
    "instruction",
    "learn",
    "order_k_bits",
    "paper_bits",
    "parse",
    "pieces",
    "prelude",
    "rate_of_items",
    "rates",
    "read_answers",
    "run_answers",
    "sample_program",
    "sample_programs",
    "score_results",
    "sequence_in",
]
