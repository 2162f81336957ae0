"""C# with Mono. Its asserts, which normally only print, throw exceptions."""

from __future__ import annotations

from pathlib import Path

from .base import SandboxLanguage, Toolchain, in_main, run_tool, support

# Without /proc, the C library does not know the bounds of the first thread's stack.
_STACK = "stack.so"
_MAIN = r"\bstatic\s+(?:public\s+)?(?:async\s+)?(?:void|int|Task)\s+Main\s*\([^(){}]{0,500}\)\s*\{"
_DONE = (
    'System.IO.File.WriteAllText("/tmp/.answers", '
    'System.Environment.GetEnvironmentVariable("CODEGEN_TOKEN"));'
)
_LISTENER = """
class CodegenListener : System.Diagnostics.DefaultTraceListener {
    public override void Fail(string message) { Fail(message, ""); }
    public override void Fail(string message, string detail) {
        throw new System.Exception("Assertion failed. " + message + " " + detail);
    }
}
"""
_STRICT = (
    "System.Diagnostics.Debug.Listeners.Clear(); "
    "System.Diagnostics.Debug.Listeners.Add(new CodegenListener());"
)


def _build_stack(toolchain: Toolchain, folder: Path) -> None:
    source = folder / "stack.c"
    source.write_text(toolchain.language.header)
    made = folder / _STACK
    run_tool(toolchain.here["gcc"], "-shared", "-fPIC", "-O1", "-o", str(made), str(source))
    made.chmod(0o755)


def _guard(program: str, test: str) -> str:
    """Makes failed asserts stop the program, and ``Main`` return the token at its end."""
    return in_main(_MAIN, _DONE, first=f" {_STRICT}")(program, test) + _LISTENER


_COMPILE = (
    *("{mono}", "/usr/lib/mono/4.5/mcs.exe", "-d:DEBUG", "-r:System.Numerics.dll", "-warn:0"),
    *("-out:main.exe", "main.cs"),
)
CSHARP = SandboxLanguage(
    name="csharp",
    file="main.cs",
    tools=("mono", "mcs", "gcc"),
    install="mono-mcs gcc libc6-dev",
    version=("{mono}", "--version"),
    compile=(_COMPILE,),
    keep=("main.exe",),
    run=("{mono}", "main.exe"),
    check=_COMPILE,
    shares=("/etc/mono",),
    environment={"LD_PRELOAD": f"{{cache}}/{_STACK}"},
    any_address=True,
    header=support("stack.c"),
    prepare=_build_stack,
    stop=("\n    }\n",),
    answers=support("answers.cs"),
    answers_last=True,
    guard=_guard,
)
