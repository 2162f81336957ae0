"""LintSeq: program -> sequence of insert-only edits that keep it lint-clean -> program.

Source: Piterbarg, Pinto and Fergus, "Training Language Models on Synthetic Edit Sequences Improves
Code Synthesis", ICLR 2025 (arXiv 2410.02749), and its reference code. The pieces, from the bottom:
``edits`` (data), ``text_format`` (text form and resolver), ``units``, ``scopes``, ``dependencies``,
``weights`` (what depends on what in a program), ``program``, ``sampling``, ``verify``,
``generator``.
"""

from codegen.lintseq.edits import Edit, EditSequence, Hunk, states
from codegen.lintseq.errors import UnsupportedProgram, VerificationFailed
from codegen.lintseq.generator import LintSeq, edit_sequence, edit_sequences, generate
from codegen.lintseq.program import Prepared, normalise, prepare
from codegen.lintseq.sampling import sample_edits
from codegen.lintseq.text_format import (
    MARKER,
    Malformed,
    Resolution,
    format_edits,
    parse_edits,
    resolve,
)

__all__ = [
    "MARKER",
    "Edit",
    "EditSequence",
    "Hunk",
    "LintSeq",
    "Malformed",
    "Prepared",
    "Resolution",
    "UnsupportedProgram",
    "VerificationFailed",
    "edit_sequence",
    "edit_sequences",
    "format_edits",
    "generate",
    "normalise",
    "parse_edits",
    "prepare",
    "resolve",
    "sample_edits",
    "states",
]
