"""C and C++ with GCC; Rust with rustc, without crates; unoptimized Haskell (GHC) and Swift.

All C++ programs share one precompiled header of the standard library, which saves three quarters of
the compile time. The parts of Swift's compiler are called one by one, since its driver does not
start without ``/proc``.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from .base import Names, SandboxLanguage, Toolchain, appended, in_main, run_tool, support

_MAIN = r"\bint\s+main\s*\([^(){}]{0,500}\)\s*\{"
_STANDARD = "-std=c++17"
_HEADER = "codegen.h"
# Includes that the guard's statement needs, if the program lacks them.
_GUARDED = ("-include", "stdio.h", "-include", "stdlib.h")
_DONE = (
    '{ FILE* codegen_file = fopen(".answers", "w"); if (codegen_file) { '
    'fputs(getenv("CODEGEN_TOKEN"), codegen_file); fclose(codegen_file); } }'
)


def _precompile(toolchain: Toolchain, folder: Path) -> None:
    """Parses the standard library's headers and the code that writes answers, once."""
    header = folder / _HEADER
    header.write_text(toolchain.language.header)
    compiled = folder / f"{_HEADER}.gch"
    compiler = toolchain.here["g++"]
    run_tool(compiler, _STANDARD, "-w", "-x", "c++-header", str(header), "-o", str(compiled))
    compiled.chmod(0o644)


def _names(source: str) -> Names:
    """Selects the precompiled header if the program includes the whole library; otherwise reading
    it takes longer than compiling.
    """
    whole = "bits/stdc++.h" in source or f'"{_HEADER}"' in source
    return {"first": _HEADER if whole else "stdlib.h"}


C = SandboxLanguage(
    name="c",
    file="main.c",
    tools=("gcc",),
    install="gcc libc6-dev",
    version=("{gcc}", "--version"),
    compile=(("{gcc}", "-std=gnu17", "-w", *_GUARDED, "-o", "main", "main.c", "-lm"),),
    keep=("main",),
    run=("/tmp/main",),
    check=("{gcc}", "-std=gnu17", "-w", "-fsyntax-only", "main.c"),
    shares=("/usr/include",),
    stop=("\n}",),
    guard=in_main(_MAIN, _DONE),
)
_INCLUDED = (_STANDARD, "-w", "-I{cache}", "-include", "{first}", "-include", "stdio.h")
CPP = SandboxLanguage(
    name="cpp",
    file="main.cpp",
    tools=("g++",),
    install="g++",
    version=("{g++}", "--version"),
    compile=(("{g++}", *_INCLUDED, "-o", "main", "main.cpp", "-pthread"),),
    keep=("main",),
    run=("/tmp/main",),
    check=("{g++}", *_INCLUDED, "-fsyntax-only", "main.cpp"),
    shares=("/usr/include",),
    stop=("\n}",),
    answers=f'#include "{_HEADER}"',
    header=support("answers.h"),
    guard=in_main(_MAIN, _DONE),
    names=_names,
    prepare=_precompile,
)


_RUST_MAIN = r"\bfn\s+main\s*\(\s*\)\s*\{"
_RUST_DONE = 'std::fs::write(".answers", std::env::var("CODEGEN_TOKEN").unwrap()).unwrap();'
_RUST_TEST = re.compile(
    r"#\[test\]((?:\s*#\[[^\]]{0,200}\]){0,9})\s*(?:pub\s+)?fn\s+(\w+)\s*\(\s*\)"
)
_RUST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub\s+)?mod\s+(\w+)")


def _rust_guard(program: str, test: str) -> str:
    """Makes ``main`` call the functions of a test module in order."""
    module = _RUST_MODULE.search(test)
    tests = [found[2] for found in _RUST_TEST.finditer(test)]
    if not tests:
        return in_main(_RUST_MAIN, _RUST_DONE)(program, test)
    test = _RUST_TEST.sub(r"\1 pub fn codegen_\2()", test)
    prefix = f"{module[1]}::" if module else ""
    test = _RUST_MODULE.sub(r"mod \1", test)
    text = re.sub(_RUST_MAIN, "fn codegen_replaced() {", f"{program}\n{test}")
    calls = "".join(f"{prefix}codegen_{name}(); " for name in tests)
    return f"{text}\nfn main() {{ {calls}{_RUST_DONE} }}\n"


_RUSTC = ("{rustc}", "--edition", "2021", "--cap-lints", "allow")
RUST = SandboxLanguage(
    name="rust",
    file="main.rs",
    tools=("rustc",),
    install="rustc",
    root=("--print", "sysroot"),
    version=("{rustc}", "--version"),
    compile=(
        (
            *_RUSTC,
            *("-C", "debuginfo=0", "-C", "strip=symbols", "-C", "linker=/usr/bin/gcc"),
            *("-o", "main", "main.rs"),
        ),
    ),
    keep=("main",),
    run=("/tmp/main",),
    check=(*_RUSTC, "--emit=metadata", "-o", "main.rmeta", "main.rs"),
    environment={"LD_LIBRARY_PATH": "{rustc.home}/lib"},
    stop=("\n}",),
    answers=support("answers.rs"),
    answers_last=True,
    guard=_rust_guard,
)


_HS_MAIN = re.compile(r"^main\b", re.M)
_HS_IMPORT = re.compile(r"^import\b", re.M)
_HS_MODULE = re.compile(r"^module\b", re.M)
_HS_WHERE = re.compile(r"\bwhere\b")
_HS_DONE = """
main :: IO ()
main = codegenMain >> System.Environment.getEnv "CODEGEN_TOKEN" >>= writeFile ".answers"
"""


def _haskell_guard(program: str, test: str) -> str:
    """Calls ``main`` from a new ``main`` that returns the token."""
    text = _HS_MAIN.sub("codegenMain", f"{program}\n{test}")
    found, module = _HS_IMPORT.search(text), _HS_MODULE.search(text)
    where = _HS_WHERE.search(text, module.end()) if module else None
    at = found.start() if found else where.end() if where else 0
    return f"{text[:at]}\nimport qualified System.Environment\n{text[at:]}\n{_HS_DONE}"


def _haskell_names(_: str) -> Names:
    return {"libraries": ":".join(map(str, Path("/usr/lib/ghc/lib").glob("*-ghc-*")))}


HASKELL = SandboxLanguage(
    name="haskell",
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
    stop=("\n\n",),
    # Without /proc its compiler does not find its libraries.
    environment={"LD_LIBRARY_PATH": "{libraries}"},
    names=_haskell_names,
    guard=_haskell_guard,
)


_SWIFT = "{swiftc.home}"
_SWIFT_LIB = f"{_SWIFT}/lib/swift/linux"
_SWIFT_FRONTEND = (
    *(f"{_SWIFT}/bin/swift-frontend", "-frontend", "-primary-file", "main.swift", "-Onone"),
    *("-suppress-warnings", "-disable-objc-interop", "-module-name", "main"),
    *("-resource-dir", f"{_SWIFT}/lib/swift", "-plugin-path", f"{_SWIFT}/lib/swift/host/plugins"),
    *("-module-cache-path", "/tmp/modules"),
)
_SWIFT_COMPILE = (*_SWIFT_FRONTEND, "-c", "-o", "main.o")
_SWIFT_LINK = (
    *("/usr/bin/gcc", "-pie", "-o", "main", f"{_SWIFT_LIB}/{platform.machine()}/swiftrt.o"),
    *("main.o", "@main.autolink", f"-L{_SWIFT_LIB}", f"-Wl,-rpath,{_SWIFT_LIB}"),
    "-lswiftCore",
)
_SWIFT_DONE = """import Glibc
do {
    let codegenFile = fopen(".answers", "w")!
    fputs(String(cString: getenv("CODEGEN_TOKEN")), codegenFile)
    fclose(codegenFile)
}"""

SWIFT = SandboxLanguage(
    name="swift",
    file="main.swift",
    tools=("swiftc",),
    install="swiftlang",
    version=(f"{_SWIFT}/bin/swift-frontend", "-version"),  # the driver would leave a directory
    compile=(
        _SWIFT_COMPILE,
        (f"{_SWIFT}/bin/swift-autolink-extract", "main.o", "-o", "main.autolink"),
        _SWIFT_LINK,
    ),
    keep=("main",),
    run=("/tmp/main",),
    check=(*_SWIFT_FRONTEND, "-typecheck"),
    shares=("/usr/libexec/swift", "/usr/include"),
    # Without /proc its tools do not find their libraries.
    environment={"LD_LIBRARY_PATH": f"{_SWIFT_LIB}:{_SWIFT}/lib/swift/host:{_SWIFT}/lib"},
    any_address=True,
    stop=("\n}",),
    answers=support("answers.swift"),
    answers_last=True,
    guard=appended(_SWIFT_DONE),
)
