"""Languages other than Python: their grammars, pieces and dependency rules.

``program_graph`` defines and applies language tables; the other modules contain the tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from codegen.core import languages
from codegen.lintseq.languages.java import JAVA
from codegen.lintseq.languages.javascript import JAVASCRIPT, TYPESCRIPT
from codegen.lintseq.languages.native import CPP, GO, RUST, C
from codegen.lintseq.languages.program_graph import Grammar, ProgramUnits, error_line, read

LANGUAGES = (C, CPP, GO, JAVA, JAVASCRIPT, RUST, TYPESCRIPT)
# By language name and alias.
GRAMMARS: Mapping[str, Grammar] = {
    name: grammar
    for grammar in LANGUAGES
    for name in (grammar.name, *languages.LANGUAGES[grammar.name].aliases)
}

__all__ = ["GRAMMARS", "LANGUAGES", "Grammar", "ProgramUnits", "error_line", "read"]
