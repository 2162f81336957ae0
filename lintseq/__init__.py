"""LintSeq: program -> sequence of insert-only edits that keep it lint-clean -> program.

Source: Piterbarg, Pinto and Fergus, "Training Language Models on Synthetic Edit Sequences Improves
Code Synthesis", ICLR 2025 (arXiv 2410.02749), and its reference code. Modules, bottom up: ``edits``
(data), ``text_format`` (text form and resolver); ``line_pieces``, ``units`` (the pieces of a
program), ``scopes``, ``dependencies`` (rules between pieces), ``program``; ``reference`` (the
published algorithm and its ablation); ``verify``, ``resampling``; ``generator`` (training texts).
"""

from codegen.lintseq.edits import EditSequence, EditStep, UnsupportedProgram, states
from codegen.lintseq.generator import LintSeq, edit_sequence, state_before
from codegen.lintseq.program import normalize, prepare
from codegen.lintseq.resampling import VerificationFailed, sample_edits
from codegen.lintseq.text_format import MARKER, format_edits, parse_edits, resolve

__all__ = [
    "MARKER", "EditStep", "EditSequence", "LintSeq", "UnsupportedProgram", "VerificationFailed",
    "edit_sequence", "format_edits", "normalize", "parse_edits", "prepare", "resolve",
    "sample_edits", "state_before", "states",
]  # fmt: skip
