"""Exercism's exercises in other languages than Python as one program and one test for the sandbox.

The sandbox compiles one text per job, so the files of an exercise are put together: in Go as one
file of the package, with all imports; in Rust with the library as a module, named as its crate, and
each file of tests as another; in C++ as one translation unit, with the macros of Catch that the
tests use in place of its header (``support/catch.h``); in JavaScript the program stays a module of
its own, and Jest is replaced by the part of it that the tests use (``support/jest.js``); in Java as
one file, with all imports, run by the parts of JUnit and AssertJ that the tests use
(``support/junit.java``).

What is more lenient than the languages' own tools: in Go and Java an import that only the tests
need; in C++ a function that the header defines without ``inline``. What is stricter: a class in
Java can't have the name of another file's import. Tests in Rust that need cargo or a feature
that is off are left out, as are Catch's benchmarks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codegen.evals.sandbox.languages.base import support
from codegen.evals.sandbox.languages.source import closing_brace, masked

Files = Mapping[str, str]

# --- several files as one text ------------------------------------------------------------------

_MARK = "//==== {} ===="


def joined(files: Files) -> str:
    """Files as one text: each below a line with its name, unless it is the only one."""
    if len(files) == 1:
        return next(iter(files.values()))
    return "".join(f"{_MARK.format(name)}\n{text.rstrip()}\n" for name, text in files.items())


def parted(stubs: Files, program: str) -> dict[str, str]:
    """The files of such a text; a file that it lacks is as in ``stubs``."""
    if len(stubs) == 1:
        return dict.fromkeys(stubs, program)
    marks = "|".join(re.escape(_MARK.format(name)) for name in stubs)
    _, *parts = re.split(rf"^({marks})[ \t]*\n", program, flags=re.M)
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    return {name: texts.get(_MARK.format(name), stub) for name, stub in stubs.items()}


def answered(names: Sequence[str], answer: str) -> dict[str, str]:
    """The code blocks of an answer below a line with a file's name, by that name."""
    found = {}
    for name in names:
        blocks = re.findall(
            rf"^[^\n]*(?<![\w.-]){re.escape(name)}(?![\w.-])[^\n]*\n\s*```[^\n]*\n(.*?)^```",
            answer,
            re.M | re.S,
        )
        if blocks:
            found[name] = blocks[-1]
    return found


# --- Go -----------------------------------------------------------------------------------------

_GO_IMPORT = re.compile(r'^import[ \t]*(?:\(([^)]*)\)|((?:[\w.]+[ \t]+)?"[^"\n]*")[^\n]*)', re.M)
_GO_ONE = re.compile(r'(?:[\w.]+[ \t]+)?"[^"\n]*"')
_GO_PACKAGE = re.compile(r"^package[ \t]+\w+[^\n]*\n", re.M)
_GO_TAG = re.compile(r"^//go:build[ \t]+[^!\n]*$", re.M)  # needs a tag that is not set
_GO_BUILD = re.compile(r"^//go:build[^\n]*$", re.M)
_GO_TEST = re.compile(r"^func\s+Test\w*\s*\(\s*\w+\s+\*testing\.T\s*\)", re.M)
_NO_TESTS = 'func TestNothing(t *testing.T) { t.Fatal("the exercise has no tests") }\n'


def _go(_: str, own: Files, others: Files) -> tuple[str, str]:
    imports: dict[str, None] = {}

    def body(text: str) -> str:
        for found in _GO_IMPORT.finditer(text):
            lines = re.sub(r"//[^\n]*", "", found[1] or found[2])
            imports.update(dict.fromkeys(_GO_ONE.findall(lines)))
        return _GO_BUILD.sub("", _GO_PACKAGE.sub("", _GO_IMPORT.sub("", text), count=1))

    program = "\n".join(body(text) for text in own.values())
    rest = [body(text) for text in others.values() if not _GO_TAG.search(text)]
    if not any(_GO_TEST.search(text) for text in rest):
        imports['"testing"'] = None
        rest.append(_NO_TESTS)
    head = "".join(f"import {one}\n" for one in imports)
    return f"package main\n\n{head}\n{program}", "\n".join(rest)


# --- Rust ---------------------------------------------------------------------------------------

_RUST_FEATURE = re.compile(r"#\[cfg\(feature[^\]\n]*\]")
_RUST_FUNCTION = re.compile(r"((?:#\[[^\]\n]*\]\s*)+)(?:pub\s+)?fn\s+(\w+)\s*\(\s*\)")
_RUST_ATTRIBUTE = re.compile(r"#\[(?:test|ignore[^\]\n]*)\]")
_RUST_MODULE = re.compile(r"^([ \t]*)(?:pub[ \t]+)?mod[ \t]+(\w+)[ \t]*\{", re.M)
_RUST_FILE = re.compile(r"^[ \t]*((?:pub[ \t]+)?mod[ \t]+(\w+))[ \t]*;", re.M)
_RUST_EXPORTED = re.compile(r"#\[macro_export[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*macro_rules!\s*(\w+)")
_RUST_CARGO = "simple_trybuild"
_RUST_RUN = """
fn main() {
    let codegen_tests: &[(&str, fn())] = &[%s];
    let mut codegen_failed = 0;
    for (name, test) in codegen_tests {
        if std::panic::catch_unwind(*test).is_err() {
            eprintln!("FAILED {}", name);
            codegen_failed += 1;
        }
    }
    if codegen_failed > 0 || codegen_tests.is_empty() {
        eprintln!("{} of {} tests failed", codegen_failed, codegen_tests.len());
        std::process::exit(1);
    }
}
"""


def _rust(exercise: str, own: Files, others: Files) -> tuple[str, str]:
    crate = exercise.replace("-", "_")
    (library,) = own.values()

    def included(found: re.Match[str]) -> str:
        text = others.get(f"src/{found[2]}.rs")
        return found[0] if text is None else f"{found[1]} {{\n{text}\n}}"

    library = _RUST_FILE.sub(included, library.replace("#[test]", "#[cfg(any())]"))
    library = re.sub(r"\bcrate::", f"crate::{crate}::", library)
    exported = "".join(f"pub use crate::{name};\n" for name in _RUST_EXPORTED.findall(library))
    modules, calls = [], []
    for number, text in enumerate(text for path, text in others.items() if path[:6] == "tests/"):
        text = _without_features(text)
        names = _rust_tests(text)
        calls += [(name, f"codegen_{number}::{name}") for name in names]
        text = re.sub(rf"(?<![\w:]){crate}(?=::| as )", f"crate::{crate}", text)
        text = _RUST_MODULE.sub(r"\1pub mod \2 {", text)
        text = _RUST_ATTRIBUTE.sub("", text)
        last = "|".join(name.rpartition(":")[2] for name in names)
        text = re.sub(rf"^([ \t]*)(fn[ \t]+(?:{last})[ \t]*\()", r"\1pub \2", text, flags=re.M)
        modules.append(f"mod codegen_{number} {{\n{text}\n}}\n")
    rows = ", ".join(f'("{name}", {path})' for name, path in calls)
    return f"pub mod {crate} {{\n{library}\n{exported}}}\n", "".join(modules) + _RUST_RUN % rows


def _without_features(text: str) -> str:
    """Tests of Rust without what is compiled only for a feature."""
    while found := _RUST_FEATURE.search(text):
        code = masked(text)
        brace, semicolon = code.find("{", found.end()), code.find(";", found.end())
        is_use = re.match(r"\s*use\b", code[found.end() :])
        end = semicolon if is_use else closing_brace(code, brace)
        text = text[: found.start()] + text[end + 1 :]
    return text


def _rust_tests(text: str) -> list[str]:
    """The paths of the functions that are tests, in order."""
    code = masked(text)
    modules = [
        (found[2], found.start(), closing_brace(code, found.end() - 1))
        for found in _RUST_MODULE.finditer(code)
    ]
    tests = []
    for found in _RUST_FUNCTION.finditer(code):
        end = closing_brace(code, code.find("{", found.end()))
        if "#[test]" not in found[1] or _RUST_CARGO in code[found.end() : end]:
            continue
        around = [name for name, start, close in modules if start < found.start() < close]
        tests.append("::".join([*around, found[2]]))
    return tests


# --- C++ ----------------------------------------------------------------------------------------

_CPP_OWN = re.compile(
    r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]*)"|<(catch2/catch\.hpp)>)[^\n]*', re.M
)
_CPP_RUN = """
int main() {
    if (codegen_catch::run_all() != 0) std::exit(1);
    return 0;
}
"""


def _cpp(_: str, own: Files, others: Files) -> tuple[str, str]:
    given = {"test/catch.hpp", *own}

    def body(text: str) -> str:
        """Without the files that are there already, and the macros that repeat in tests."""
        return _CPP_OWN.sub(
            lambda found: "" if found[2] or found[1] in given else found[0], text
        ).replace("#pragma once", "")

    ordered = sorted(own, key=lambda name: not name.endswith((".h", ".hpp")))
    program = "\n".join(body(own[name]) for name in ordered)
    tests = [body(text) for path, text in others.items() if path.endswith("_test.cpp")]
    return program, "\n".join(["", support("catch.h"), *tests, _CPP_RUN])


# --- JavaScript ---------------------------------------------------------------------------------

_JS_IMPORT = re.compile(r"""^import\s+([^'"]+?)\s+from\s+['"]\./[^'"]*['"][ \t]*;?""", re.M)
_JS_AS = re.compile(r"\b(\w+)\s+as\s+(\w+)")
_JS_RUN = """\
const codegen_passed = codegen_load().then((codegen_module) => {
"use strict";
%s
return codegen_run();
});
codegen_passed.then(codegen_done);
"""


def _javascript(_: str, own: Files, others: Files) -> tuple[str, str]:
    (program,) = own.values()

    def bound(found: re.Match[str]) -> str:
        """An import of the program as variables."""
        names = found[1].strip()
        if names.startswith("*"):
            return f"const {names.split()[-1]} = codegen_module;"
        default, brace, rest = names.partition("{")
        lines = []
        if default.strip(" ,\n"):
            lines.append(f"const {default.strip(' ,')} = codegen_module.default;")
        if brace:
            picked = _JS_AS.sub(r"\1: \2", rest)
            lines.append(f"const {{{picked} = codegen_module;")
        return "\n".join(lines)

    tests = [_JS_IMPORT.sub(bound, t) for path, t in others.items() if path.endswith(".spec.js")]
    # As text: it is a module of its own, whose names are not those of the tests.
    text = json.dumps(program)
    return (
        f"const codegen_program = {text};",
        f"{support('jest.js')}\n{_JS_RUN % chr(10).join(tests)}",
    )


# --- Java ---------------------------------------------------------------------------------------

_JAVA_IMPORT = re.compile(r"\bimport\s+(?:static\s+)?[\w.]+(?:\.\*)?\s*;")
_JAVA_KINDS = "class|interface|enum|record|@interface"
# A file can have only one public class, and who may use a class does not matter here.
_JAVA_PUBLIC = re.compile(
    r"\bpublic\s+(?=(?:(?:abstract|final|non-sealed|sealed|static|strictfp)\s+)*"
    rf"(?:{_JAVA_KINDS})\s+\w)"
)
_JAVA_RUN = """
class CodegenMain {
    public static void main(String[] args) throws Exception {
        codegen.Tests.run(%s);
    }
}
"""


def _java(_: str, own: Files, others: Files) -> tuple[str, str]:
    imports: dict[str, None] = {}

    def body(text: str) -> str:
        code = masked(text)
        found = [*_JAVA_IMPORT.finditer(code)]
        imports.update(dict.fromkeys(" ".join(each[0].split()) for each in found))
        for each in sorted([*found, *_JAVA_PUBLIC.finditer(code)], key=re.Match.start)[::-1]:
            text = text[: each.start()] + text[each.end() :]
        return text

    program = [body(text) for text in own.values()]
    tests = {path: text for path, text in others.items() if path.startswith("src/test/")}
    given = [body(text) for path, text in others.items() if path not in tests]
    rest = [body(text) for text in tests.values()]
    classes = [f"{Path(path).stem}.class" for path, text in tests.items() if "@Test" in text]
    test = "\n".join([*given, *rest, _JAVA_RUN % ", ".join(classes)])
    return "\n".join([*imports, *program]), test


# --- all ----------------------------------------------------------------------------------------

# language -> (exercise, its files to complete, its other files) -> the program and its test
TOGETHER: Mapping[str, Callable[[str, Files, Files], tuple[str, str]]] = {
    "cpp": _cpp,
    "go": _go,
    "java": _java,
    "javascript": _javascript,
    "rust": _rust,
}
# The ends of the names of files that hold code.
ENDINGS: Mapping[str, tuple[str, ...]] = {
    "cpp": (".cpp", ".h"),
    "go": (".go",),
    "java": (".java",),
    "javascript": (".js",),
    "python": (".py",),
    "rust": (".rs",),
}
