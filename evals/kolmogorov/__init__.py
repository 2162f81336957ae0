"""The KoLMogorov test: can a model compress a sequence by writing a program that makes it?

A model is shown a sequence of bytes and writes the shortest program that it can whose ``output`` is
that sequence. ``language`` and ``functions`` are the small language of the synthetic part,
``sampler`` draws programs of it, ``coding`` counts their bits (with a code that can be decoded),
``data`` asks and reads answers, ``scoring`` runs them in the sandbox, ``baselines`` are classical
compressors.

Source: Yoran et al., "The KoLMogorov Test", ICLR 2025 (arXiv 2503.13992). Written from the
description; the authors' code and data are CC-BY-NC and not part of this package.
"""

from .baselines import COMPRESSORS, order_k_bits, rate_of_items, rates
from .coding import UNIFORM, Prior, code_bits, decode, encode, learn, paper_bits
from .data import (
    LENGTH,
    Answer,
    as_comment,
    find_program,
    instruction,
    pieces,
    read_answers,
    read_bytes,
    sequence_in,
)
from .language import Line, Program, Ref, parse
from .sampler import sample_program, sample_programs
from .scoring import Result, Scores, prelude, run_answers, score_results

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
    "decode",
    "encode",
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
    "read_bytes",
    "run_answers",
    "sample_program",
    "sample_programs",
    "score_results",
    "sequence_in",
]
