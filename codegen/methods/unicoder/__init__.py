"""UniCode: pseudo-code of programs, made from Python's AST or by a model.

Source: Sun et al., "UniCoder: Scaling Code Large Language Model via Universal Code", ACL 2024.
"""

from codegen.generation.request_chains import Unusable
from codegen.methods.unicoder.generator import UniCode
from codegen.methods.unicoder.prompts import instruction
from codegen.methods.unicoder.words import STYLES, Style
from codegen.methods.unicoder.write_statements import UntranslatableProgram, to_unicode

__all__ = [
    "STYLES",
    "Style",
    "UniCode",
    "UntranslatableProgram",
    "Unusable",
    "instruction",
    "to_unicode",
]
