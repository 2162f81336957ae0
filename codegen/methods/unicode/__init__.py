"""UniCode: pseudo-code of programs, made from Python's AST or by a model.

Source: Sun et al., "UniCoder: Scaling Code Large Language Model via Universal Code", ACL 2024.
"""

from codegen.generation.plans import Unusable
from codegen.methods.unicode.generator import UniCode
from codegen.methods.unicode.prompts import OBJECTIVES, Objective, instruction
from codegen.methods.unicode.words import STYLES, Style, choose_style
from codegen.methods.unicode.write_statements import Translation, UnsupportedProgram, to_unicode

__all__ = [
    "OBJECTIVES",
    "STYLES",
    "Objective",
    "Style",
    "Translation",
    "UniCode",
    "UnsupportedProgram",
    "Unusable",
    "choose_style",
    "instruction",
    "to_unicode",
]
