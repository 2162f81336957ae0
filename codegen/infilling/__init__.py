"""Fill-in-the-middle data: a part of a program is asked for between what stands around it.

Source: Bavarian et al., "Efficient Training of Language Models to Fill in the Middle", 2022 (arXiv
2207.14255); spans of the syntax tree: Gong et al., "Structure-Aware Fill-in-the-Middle Pretraining
for Code", 2025 (arXiv 2506.00204).
"""

from codegen.infilling.generator import Infilling, Unsuitable
from codegen.infilling.spans import KINDS, Span, spans_of

__all__ = ["KINDS", "Infilling", "Span", "Unsuitable", "spans_of"]
