"""Go, without its build tool. The compiler and linker are called directly, since the build tool
would need a writable cache; the standard library is compiled once for all programs.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from .base import Names, SandboxLanguage, Toolchain, in_main, run_tool, support

_TESTING = "github.com/stretchr/testify/assert"
_GOPATH = "/usr/share/gocode"
_LIST = ("list", "-e", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}={{.Export}}{{end}}")


# Packages of the standard library that single-file programs import, with their dependencies.
_LIBRARY = (
    *("bufio", "bytes", "container/heap", "container/list", "container/ring", "context"),
    *("crypto/md5", "crypto/rand", "crypto/sha1", "crypto/sha256", "crypto/sha512"),
    *("encoding/base64", "encoding/binary", "encoding/csv", "encoding/hex", "encoding/json"),
    *("errors", "flag", "fmt", "hash/crc32", "hash/fnv", "html", "io", "io/ioutil", "log", "maps"),
    *("math", "math/big", "math/bits", "math/cmplx", "math/rand", "math/rand/v2", "net", "net/url"),
    *("os", "os/exec", "os/signal", "path", "path/filepath", "reflect", "regexp", "runtime"),
    *("slices", "sort", "strconv", "strings", "sync", "sync/atomic", "syscall", "testing"),
    *("text/tabwriter", "text/template", "time", "unicode", "unicode/utf16", "unicode/utf8"),
)


def _build_library(toolchain: Toolchain, folder: Path) -> None:
    """Compiles the standard library, and testify if Debian's package is installed; writes the
    location of each compiled import.
    """
    go = toolchain.here["go"]
    environment = {
        "GOCACHE": str(folder / "build"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "GOPATH": _GOPATH,
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
    }
    extra = [_TESTING] if Path(_GOPATH, "src", _TESTING).is_dir() else []
    lines = run_tool(go, *_LIST, *_LIBRARY, *extra, cwd=folder, **environment).split("\n")
    inside = [
        f"packagefile {line.replace(str(folder), toolchain.cache, 1)}"
        for line in lines
        if "=" in line and line.partition("=")[2].startswith(str(folder))
    ]
    (folder / "importcfg").write_text("\n".join(inside) + "\n")
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _names(source: str) -> Names:
    found = re.search(r"^package\s+(\w+)", source, re.M)
    return {"package": found[1] if found else "main"}


_MAIN = r"\bfunc\s+main\s*\(\s*\)\s*\{"
_TEST = re.compile(r"^func\s+(Test\w*)\s*\(\s*\w+\s+\*testing\.T\s*\)", re.M)


def _guard(program: str, test: str) -> str:
    """Makes ``main`` run the tests of a ``go test`` file."""
    tests = _TEST.findall(test)
    if not tests:
        return in_main(_MAIN, "codegen_done()")(program, test)
    text = f"{program}\n{test}"
    text = re.sub(r"^package\s+\w+", "package main", text, count=1, flags=re.M)
    text = re.sub(_MAIN, "func codegen_main() {", text)
    if not re.search(r'"testing"', text):
        text = re.sub(
            r"^package main", 'package main\n\nimport "testing"', text, count=1, flags=re.M
        )
    runs = "".join(f'\t\t\tt.Run("{name}", {name})\n' for name in tests)
    return f"{text}\n{_GO_MAIN.replace('RUNS', runs)}"


# testing.RunTests needs the setup of testing.Main: alone it runs no tests and reports success. The
# inner group finishes after its parallel tests.
_GO_MAIN = """\
func main() {
	codegen_show()
	any := func(string, string) (bool, error) { return true, nil }
	all := func(t *testing.T) {
		if t.Run("all", func(t *testing.T) {
RUNS\t\t}) {
			codegen_done()
		}
	}
	testing.Main(any, []testing.InternalTest{{"tests", all}}, nil, nil)
}
"""
_ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64")
_TOOLS = f"{{root}}/pkg/tool/linux_{_ARCHITECTURE}"
_COMPILE = (
    *(f"{_TOOLS}/compile", "-p", "main", "-complete", "-pack"),
    *("-importcfg", "{cache}/importcfg", "-o", "main.a", "main.go", "{support}"),
)
GO = SandboxLanguage(
    name="go",
    file="main.go",
    tools=("go",),
    install="golang-go golang-github-stretchr-testify-dev",
    version=("{go}", "version"),
    compile=(
        _COMPILE,
        (
            *(f"{_TOOLS}/link", "-s", "-w", "-importcfg", "{cache}/importcfg"),
            *("-o", "main", "main.a"),
        ),
    ),
    keep=("main",),
    run=("/tmp/main",),
    check=_COMPILE,
    root=("env", "GOROOT"),
    shares=("/usr/share/go-*",),
    environment={
        "GOROOT": "{root}",
        "GOCACHE": "/tmp/.go",
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOTELEMETRY": "off",
        "GOMAXPROCS": "2",
    },
    any_address=True,
    stop=("\nfunc", "struct", "\n// "),
    support={"codegen_answers.go": support("codegen_answers.go")},
    guard=_guard,
    names=_names,
    prepare=_build_library,
)
