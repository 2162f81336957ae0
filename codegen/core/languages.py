"""Programming languages: names, comments and grammars, for all packages.

Other properties are in each package's own tables, by language name, such as the sandbox's commands
and the units of LintSeq's edits.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codegen.core.optional_deps import missing

if TYPE_CHECKING:
    from tree_sitter import Parser


@dataclass(frozen=True, slots=True)
class Language:
    """A programming language.

    Attributes:
        name: canonical name; ``aliases`` are other names, such as editors' names.
        title: display name.
        grammar: module and function of its tree-sitter grammar; empty strings if unused.
        comment: prefix of a comment line.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    grammar: tuple[str, str] = ("", "")
    comment: str = "//"


def _grammar(name: str, function: str = "language") -> tuple[str, str]:
    return f"tree_sitter_{name}", function


_JAVASCRIPT = ("js", "jsx", "nodejs", "node", "javascriptreact")
_TYPESCRIPT = _grammar("typescript", "language_typescript")
_TSX = _grammar("typescript", "language_tsx")
LANGUAGES: Mapping[str, Language] = {
    language.name: language
    for language in (
        Language("bash", "Bash", ("sh", "shell"), comment="#"),
        Language("c", "C", (), _grammar("c")),
        Language("cpp", "C++", ("c++", "cc", "cxx"), _grammar("cpp")),
        Language("csharp", "C#", ("c#", "cs")),
        Language("go", "Go", ("golang",), _grammar("go")),
        Language("haskell", "Haskell", ("hs",), comment="--"),
        Language("java", "Java", (), _grammar("java")),
        Language("javascript", "JavaScript", _JAVASCRIPT, _grammar("javascript")),
        Language("kotlin", "Kotlin", ("kt",)),
        Language("lua", "Lua", comment="--"),
        Language("perl", "Perl", ("pl",), comment="#"),
        Language("php", "PHP"),
        Language("python", "Python", ("py", "python3"), _grammar("python"), "#"),
        Language("r", "R", comment="#"),
        Language("ruby", "Ruby", ("rb",), comment="#"),
        Language("rust", "Rust", ("rs",), _grammar("rust")),
        Language("scala", "Scala"),
        Language("swift", "Swift"),
        Language("typescript", "TypeScript", ("ts",), _TYPESCRIPT),
        Language("typescriptreact", "TypeScript with JSX", ("tsx",), _TSX),
    )
}
_BY_NAME = {name: one for one in LANGUAGES.values() for name in (one.name, *one.aliases)}


def find_language(name: str) -> Language | None:
    """Finds a language by name or alias, case-insensitive; None if unknown."""
    return _BY_NAME.get(name.lower())


@functools.cache
def parser_for(name: str) -> Parser:
    """Returns the tree-sitter parser of the language with this canonical name.

    Raises:
        MachineError: if its grammar's package is not installed.
    """
    from tree_sitter import Language as Grammar
    from tree_sitter import Parser

    module, function = LANGUAGES[name].grammar
    try:
        grammar = importlib.import_module(module)
    except ImportError:
        raise missing(module) from None
    return Parser(Grammar(getattr(grammar, function)()))
