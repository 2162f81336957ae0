"""Compilers as hostile input's first reader: what is led to loop, to fill memory or to read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from codegen.errors import SandboxError
from codegen.evals.sandbox import Job, Sandbox
from codegen.evals.sandbox.jobs import Limits
from codegen.evals.sandbox.languages import MissingToolchainError, programs

BOMBS: list[tuple[str, str, str]] = [
    ("c", "devices", '#include "/dev/random"\nint main() { return 0; }\n'),
    ("c", "zeros", '#include "/dev/zero"\nint main() { return 0; }\n'),
    (
        "c",
        "macros",
        "#define A x,x,x,x,x,x,x,x\n#define B A,A,A,A,A,A,A,A\n#define C B,B,B,B,B,B,B,B\n"
        "#define D C,C,C,C,C,C,C,C\n#define E D,D,D,D,D,D,D,D\n#define F E,E,E,E,E,E,E,E\n"
        "#define G F,F,F,F,F,F,F,F\n#define H G,G,G,G,G,G,G,G\nint x[] = {H,H,H,H};\n",
    ),
    ("c", "large", "int x[1 << 30] = {1};\nint main() { return x[5]; }\n"),
    (
        "cpp",
        "templates",
        "template <int N> struct A { static const int v = A<N + 1>::v + A<N + 2>::v; };\n"
        "int main() { return A<0>::v; }\n",
    ),
    (
        "cpp",
        "constexpr",
        "constexpr int f(int n) { int x = 0; for (;;) x ^= n; return x; }\n"
        "static_assert(f(1) == 0);\nint main() {}\n",
    ),
    (
        "rust",
        "const",
        "const fn f() -> u64 { let mut x = 1u64; while x != 0 { x = x.wrapping_mul(3) | 1; } x }\n"
        'const X: u64 = f();\nfn main() { println!("{}", X); }\n',
    ),
    ("rust", "macro", "macro_rules! a { () => { a!(); a!() } }\nfn main() { a!(); }\n"),
    ("rust", "include", 'fn main() { print!("{}", include_str!("/dev/zero")); }\n'),
    (
        "java",
        "constants",
        "class A { "
        + 'static final String a0 = "xxxxxxxxxxxxxxxx"; '
        + " ".join(f"static final String a{i} = a{i - 1} + a{i - 1};" for i in range(1, 40))
        + " public static void main(String[] a) {} }\n",
    ),
    (
        "csharp",
        "constants",
        'class A { const string a0 = "xxxxxxxxxxxxxxxx"; '
        + " ".join(f"const string a{i} = a{i - 1} + a{i - 1};" for i in range(1, 40))
        + " static void Main() { System.Console.Write(a39); } }\n",
    ),
    (
        "kotlin",
        "constants",
        'const val a0 = "xxxxxxxxxxxxxxxx"\n'
        + "\n".join(f"const val a{i} = a{i - 1} + a{i - 1}" for i in range(1, 40))
        + "\nfun main() { println(a39) }\n",
    ),
    (
        "scala",
        "constants",
        'object A extends App { final val a0 = "xxxxxxxxxxxxxxxx"\n'
        + "\n".join(f"final val a{i} = a{i - 1} + a{i - 1}" for i in range(1, 40))
        + "\nprintln(a39) }\n",
    ),
    (
        "swift",
        "types",
        "let x = "
        + " + ".join(f"[{i}: [{i}.0, {i}]].count" for i in range(30))
        + ' - ("1" + 2) * [1, "a", 2.5].map { $0 * 2 + 1 - 3 / 4 }\n',
    ),
    (
        "java",
        "processor",
        "import java.util.*;\nimport javax.annotation.processing.*;\n"
        '@SupportedAnnotationTypes("*") class A extends AbstractProcessor {\n'
        "  static { while (true) {} }\n"
        "  public boolean process(Set<? extends javax.lang.model.element.TypeElement> a, "
        "RoundEnvironment b) { return missing; } }\n",
    ),
    ("go", "array", "package main\n\nvar x = [1 << 40]byte{1}\n\nfunc main() { println(x[5]) }\n"),
]


@pytest.fixture(scope="module")
def short_compile() -> object:
    with pytest.MonkeyPatch.context() as patch:
        limits = Limits(cpu_s=3.0, memory_mib=512, output_bytes=16 << 20, file_mib=32)
        patch.setattr(programs, "COMPILE", limits)
        yield


@pytest.mark.long
@pytest.mark.usefixtures("short_compile")
@pytest.mark.parametrize(
    ("name", "source"), [(n, s) for n, _, s in BOMBS], ids=[f"{n}-{t}" for n, t, _ in BOMBS]
)
def test_a_compile_bomb_is_a_compile_error(name: str, source: str) -> None:
    try:
        opened = Sandbox(workers=1, languages=[name])
    except MissingToolchainError as error:
        pytest.skip(str(error))
    with opened as sandbox:
        outcome = sandbox.run(Job(source, mode="stdio", expected_stdout=None, language=name))
        assert outcome.status == "compile_error", outcome
        assert 0 < len(outcome.message) < 2500
        assert sandbox.run(Job("def f():\n    return 1\n", test="assert f() == 1\n")).passed


def test_a_compiler_reads_no_file_of_the_host(tmp_path: Path) -> None:
    secret = os.urandom(12).hex()
    (tmp_path / "secret.h").write_text(f"#error {secret}\n")
    try:
        opened = Sandbox(workers=1, languages=["c"])
    except (MissingToolchainError, SandboxError) as error:
        pytest.skip(str(error))
    with opened as sandbox:
        source = f'#include "{tmp_path}/secret.h"\nint main() {{ return 0; }}\n'
        outcome = sandbox.run(Job(source, mode="stdio", language="c"))
        assert outcome.status == "compile_error"
        assert secret not in outcome.message
        # What an earlier compiler has left is gone.
        source = '#include "/tmp/main.c"\n#include "/tmp/main"\n'
        assert sandbox.run(Job(source, mode="stdio", language="c")).status == "compile_error"
