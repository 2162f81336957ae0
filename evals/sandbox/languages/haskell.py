"""Haskell by GHC, without optimization."""

from __future__ import annotations

import re
from pathlib import Path

from .base import Language, Names

_MAIN = re.compile(r"^main\b", re.M)
_IMPORT = re.compile(r"^import\b", re.M)
_MODULE = re.compile(r"^module\b", re.M)
_WHERE = re.compile(r"\bwhere\b")
_DONE = """
main :: IO ()
main = codegenMain >> System.Environment.getEnv "CODEGEN_TOKEN" >>= writeFile ".answers"
"""


def _guard(text: str) -> str:
    """``main`` is called by another, which gives back the token."""
    text = _MAIN.sub("codegenMain", text)
    found, module = _IMPORT.search(text), _MODULE.search(text)
    where = _WHERE.search(text, module.end()) if module else None
    at = found.start() if found else where.end() if where else 0
    return f"{text[:at]}\nimport qualified System.Environment\n{text[at:]}\n{_DONE}"


def _names(_: str) -> Names:
    return {"libraries": ":".join(map(str, Path("/usr/lib/ghc/lib").glob("*-ghc-*")))}


HASKELL = Language(
    name="haskell",
    title="Haskell",
    aliases=("hs",),
    file="main.hs",
    tools=("ghc",),
    install="ghc",
    version=("{ghc}", "--version"),
    compile=(
        ("{ghc}", "-O0", "-v0", "-w", "-main-is", "Main", "-o", "main", "main.hs"),
        ("/usr/bin/strip", "main"),
    ),
    keep=("main",),
    run=("/tmp/main",),
    check=("{ghc}", "-fno-code", "-v0", "-w", "main.hs"),
    shares=("/var/lib/ghc", "/usr/share/ghc*", "/usr/include"),
    any_address=True,
    comment="--",
    stop=("\n\n",),
    # Without /proc its compiler does not find its libraries by itself.
    environment={"LD_LIBRARY_PATH": "{libraries}"},
    names=_names,
    guard=_guard,
)
