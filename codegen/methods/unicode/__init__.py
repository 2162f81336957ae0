"""UniCode: pseudo-code of programs, made from Python's AST, and its exact inverse.

Source: Sun et al., "UniCoder: Scaling Code Large Language Model via Universal Code", ACL 2024.
"""

from codegen.generation.plans import Unusable
from codegen.methods.unicode.convert import (
    Annotations,
    Translation,
    UnsupportedProgram,
    same_program,
    to_python,
    to_unicode,
)
from codegen.methods.unicode.generator import RoundTripFailed, UniCode
from codegen.methods.unicode.lexer import UniCodeSyntaxError
from codegen.methods.unicode.prompts import OBJECTIVES, Objective, instruction
from codegen.methods.unicode.words import STYLES, Style, choose_style

__all__ = [
    "OBJECTIVES",
    "Annotations",
    "Objective",
    "RoundTripFailed",
    "STYLES",
    "Style",
    "Translation",
    "UniCode",
    "UniCodeSyntaxError",
    "UnsupportedProgram",
    "Unusable",
    "choose_style",
    "instruction",
    "same_program",
    "to_python",
    "to_unicode",
]
