"""LintSeq: program -> sequence of insert-only edits that keep it lint-clean -> program.

Source: Piterbarg, Pinto and Fergus, "Training Language Models on Synthetic Edit Sequences Improves
Code Synthesis", ICLR 2025 (arXiv 2410.02749), and its reference code. The pieces, from the bottom:
``edits`` (data), ``text_format`` and ``hunk_text`` (text form and resolver), ``tokens``,
``arguments``, ``lines``, ``units`` (the pieces of a program), ``scopes``, ``dependencies``,
``signatures``, ``weights`` (what depends on what), ``program``, ``sampling``, ``verify``,
``repair``, ``formats`` (training texts), ``generator``. ``reference`` is the published algorithm,
``randseq`` its ablation.
"""

from codegen.lintseq.edits import Edit, EditSequence, Hunk, states
from codegen.lintseq.errors import UnsupportedProgram, VerificationFailed
from codegen.lintseq.formats import (
    FORMATS,
    Format,
    program_of,
    state_before,
    training_texts,
)
from codegen.lintseq.generator import LintSeq, edit_sequence, generate
from codegen.lintseq.program import Prepared, normalise, prepare
from codegen.lintseq.randseq import random_sequence
from codegen.lintseq.reference import reference_sequence
from codegen.lintseq.repair import edit_sequences
from codegen.lintseq.sampling import sample_edits
from codegen.lintseq.text_format import (
    MARKER,
    Malformed,
    Mended,
    Resolution,
    format_edits,
    parse_edits,
    resolve,
)

__all__ = [
    "FORMATS",
    "MARKER",
    "Edit",
    "EditSequence",
    "Format",
    "Hunk",
    "LintSeq",
    "Malformed",
    "Mended",
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
    "program_of",
    "random_sequence",
    "reference_sequence",
    "resolve",
    "sample_edits",
    "state_before",
    "states",
    "training_texts",
]
