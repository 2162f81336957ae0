"""Programming languages: names, comments and grammars, for all packages.

What a package needs beyond that is in its own tables, by a language's name: how the sandbox runs
it, what LintSeq's edits are made of, how RPG splits it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codegen.extras import missing

if TYPE_CHECKING:
    from tree_sitter import Parser


@dataclass(frozen=True, slots=True)
class Language:
    """A programming language.

    Attributes:
        name: the canonical name; ``aliases`` are other names, such as those of editors.
        title: the name in prose.
        grammar: module and function of its tree-sitter grammar; empty texts if unused.
        comment: what begins a comment line.
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
    """A language by its name or an alias, in any case; None for an unknown one."""
    return _BY_NAME.get(name.lower())


@functools.cache
def parser_for(name: str) -> Parser:
    """The parser of the language with this canonical name.

    Raises:
        MachineError: if the package of its grammar is not installed.
    """
    from tree_sitter import Language as Grammar
    from tree_sitter import Parser

    module, function = LANGUAGES[name].grammar
    try:
        grammar = importlib.import_module(module)
    except ImportError:
        raise missing(module) from None
    return Parser(Grammar(getattr(grammar, function)()))
