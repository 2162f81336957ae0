"""CoGEX: pseudo-programs that a model writes and emulates.

A record is an instruction, a Python function that may call undefined helpers, a call of it, and
the call's output dictionary. Nothing is evaluated in this process: outputs are parsed as literals,
and programs run in the caller's sandbox.

Source: Weir, Khalifa, Qiu, Weller, Clark, "Learning to Reason via Program Generation, Emulation,
and Search", NeurIPS 2024, arXiv 2405.16337.
"""

from codegen.cogex.literals import Invalid, parse_output
from codegen.cogex.program import parse_program
from codegen.cogex.record import CogexRecord, check_record, read_record, text_of

__all__ = [
    "CogexRecord",
    "Invalid",
    "check_record",
    "parse_output",
    "parse_program",
    "read_record",
    "text_of",
]
