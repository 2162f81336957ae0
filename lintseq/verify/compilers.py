"""The checks of languages other than Python.

``syntax``: tree-sitter finds no error. ``compiler``: the language's own checker finds none. It runs
in the sandbox, since a program can have its compiler read files and fill memory. Where a checker is
slow to start, one process checks many states: V8 (JavaScript, syntax alone), TypeScript's compiler
(types, but not the modules that a program imports) and javac (types). Go, Rust, C and C++ have one
process a state.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
from collections.abc import Sequence

from codegen.errors import MachineError
from codegen.evals.sandbox import Limits, Sandbox, Script
from codegen.lintseq.languages import GRAMMARS, error_line, parser_for
from codegen.lintseq.verify.checks import Check, Finding, batches

_LIMITS = Limits(cpu_s=120.0, memory_mib=2048, output_bytes=16 << 20, processes=256)
_MOST_STATES = 200
_MOST_CHARACTERS = 1_000_000
_PLACE = re.compile(r"(?:main|Main)\.\w+:(\d+)")

# Each reads states that are separated by null characters, and writes a line for each: empty if it
# is clean, else the line of its first error, a tab and the message.
_V8 = r"""
const vm = require("node:vm"), fs = require("node:fs");
if (!vm.SourceTextModule) {
  const flags = ["--experimental-vm-modules", "--no-warnings", __filename];
  const stdio = ["inherit", "inherit", "inherit"];
  process.exit(require("node:child_process").spawnSync(process.execPath, flags, { stdio }).status);
}
function check(text) {
  const code = text.replace(/^#!/, "//");
  try {
    vm.compileFunction(code, ["exports", "require", "module", "__filename", "__dirname"]);
  } catch (error) {
    try {
      new vm.SourceTextModule(code);
    } catch (second) {
      const chosen = /^\s*(import|export)\b/m.test(code) ? second : error;
      const place = /:(\d+)\n/.exec(chosen.stack || "");
      return `${place ? place[1] : 0}\t${chosen.message}`;
    }
  }
  return "";
}
const states = fs.readFileSync(0, "utf8").split("\0");
fs.writeSync(1, states.map((text) => check(text).replace(/\n/g, " ") + "\n").join(""));
"""
_TSC = r"""
const fs = require("node:fs");
const homes = ["/usr/share/nodejs", "/usr/lib/node_modules", "/usr/local/lib/node_modules"];
const home = homes.find((path) => fs.existsSync(path + "/typescript/lib/typescript.js"));
if (!home) { process.stderr.write("no typescript"); process.exit(3); }
const ts = require(home + "/typescript/lib/typescript.js");
const options = {
  noEmit: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, types: [],
  moduleResolution: ts.ModuleResolutionKind.Bundler, skipLibCheck: true, noResolve: true,
};
// Of a program alone nothing is known about the modules and the platform around it.
const elsewhere = new Set([2307, 2580, 2582, 2591, 2792, 7016]);
const host = ts.createCompilerHost(options), read = host.getSourceFile, kept = new Map();
let text = "", program;
host.getSourceFile = (name, ...rest) => {
  if (name === "main.ts") return ts.createSourceFile(name, text, rest[0], true);
  if (!kept.has(name)) kept.set(name, read.call(host, name, ...rest));
  return kept.get(name);
};
function check(state) {
  text = state;
  program = ts.createProgram(["main.ts"], options, host, program);
  const found = ts.getPreEmitDiagnostics(program, program.getSourceFile("main.ts"))
    .find((one) => one.category === ts.DiagnosticCategory.Error && !elsewhere.has(one.code));
  if (!found) return "";
  const line = found.file ? found.file.getLineAndCharacterOfPosition(found.start).line + 1 : 0;
  return `${line}\tTS${found.code} ${ts.flattenDiagnosticMessageText(found.messageText, " ")}`;
}
const states = fs.readFileSync(0, "utf8").split("\0");
fs.writeSync(1, states.map((state) => check(state).replace(/\n/g, " ") + "\n").join(""));
"""
_JAVAC = r"""
import com.sun.source.util.JavacTask;
import java.io.*;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.*;
import javax.tools.*;

public class Main {
    static String check(JavaCompiler compiler, JavaFileManager files, String text) {
        DiagnosticCollector<JavaFileObject> found = new DiagnosticCollector<>();
        List<String> options = List.of("-proc:none", "-nowarn", "-Xlint:none");
        try {
            JavacTask task = (JavacTask) compiler.getTask(
                new StringWriter(), files, found, options, null, List.of(new State(text)));
            task.analyze();
        } catch (IOException | RuntimeException error) {
            return "0\t" + error;
        }
        for (Diagnostic<?> one : found.getDiagnostics())
            if (one.getKind() == Diagnostic.Kind.ERROR)
                return one.getLineNumber() + "\t" + one.getMessage(Locale.ROOT).replace('\n', ' ');
        return "";
    }

    public static void main(String[] arguments) throws IOException {
        JavaCompiler compiler = ToolProvider.getSystemJavaCompiler();
        JavaFileManager files =
            compiler.getStandardFileManager(null, null, StandardCharsets.UTF_8);
        String input = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        StringBuilder out = new StringBuilder();
        for (String text : input.split("\0", -1))
            out.append(check(compiler, files, text)).append('\n');
        PrintStream stream = new PrintStream(System.out, false, "UTF-8");
        stream.print(out);
        stream.flush();
    }

    static class State extends SimpleJavaFileObject {
        final String text;
        State(String text) {
            super(URI.create("string:///State.java"), Kind.SOURCE);
            this.text = text;
        }
        @Override public CharSequence getCharContent(boolean ignore) { return text; }
        @Override public boolean isNameCompatible(String name, Kind kind) { return true; }
    }
}
"""
# Language -> the language of its checker's program, and the program.
_DRIVERS = {
    "java": ("java", _JAVAC),
    "javascript": ("javascript", _V8),
    "typescript": ("javascript", _TSC),
}


def syntax_check(language: str) -> Check:
    """The check that a language's grammar accepts each state."""
    parser = parser_for(GRAMMARS[language])

    def check(states: Sequence[str]) -> list[list[Finding]]:
        lines = [error_line(parser.parse(state.encode()).root_node) for state in states]
        return [[Finding(line, "syntax-error", "syntax error")] if line else [] for line in lines]

    return check


def compiler_check(language: str) -> Check:
    """The check that a language's compiler accepts each state.

    Raises:
        MissingToolchainError: naming the package to install.
        SandboxError: if no sandbox can be opened.
    """
    if language in _DRIVERS:
        host, driver = _DRIVERS[language]
        return functools.partial(_check_together, sandbox_for(host, os.getpid()), host, driver)
    return functools.partial(_check_each, sandbox_for(language, os.getpid()), language)


@functools.cache
def sandbox_for(language: str, owner: int) -> Sandbox:  # noqa: ARG001 - a fork opens its own
    """The open sandbox of this process for a language."""
    sandbox = Sandbox(workers=1, languages=[language])
    sandbox.__enter__()
    atexit.register(sandbox.close)
    return sandbox


def _check_each(sandbox: Sandbox, language: str, states: Sequence[str]) -> list[list[Finding]]:
    found = []
    for state in states:
        # A state is a part of a program, and rustc asks for a whole one.
        lacks_main = language == "rust" and not re.search(r"\bfn main\b", state)
        outcome = sandbox.check(state + "fn main() {}\n" * lacks_main, language)
        place = _PLACE.search(outcome.message)
        line = int(place[1]) if place else 0
        found.append([] if outcome.passed else [Finding(line, "compiler", outcome.message)])
    return found


def _check_together(
    sandbox: Sandbox, host: str, driver: str, states: Sequence[str]
) -> list[list[Finding]]:
    found: list[list[Finding]] = []
    for part in batches(states, len, _MOST_CHARACTERS, _MOST_STATES):
        found += _check_batch(sandbox, host, driver, part)
    return found


def _check_batch(
    sandbox: Sandbox, host: str, driver: str, states: Sequence[str]
) -> list[list[Finding]]:
    """If the checker fails on all states, each is tried alone."""
    script = Script(driver, stdin="\0".join(states), limits=_LIMITS, language=host)
    outcome = sandbox.run(script)
    if outcome.exit_code == 3 and outcome.stderr == "no typescript":
        raise MachineError(
            "TypeScript's compiler is not installed here.",
            "Debian, Ubuntu: apt install node-typescript; or: npm install -g typescript@5",
        )
    lines = outcome.stdout.split("\n")[:-1]
    if outcome.passed and len(lines) == len(states):
        return [_finding(line) for line in lines]
    if len(states) > 1:
        return [_check_batch(sandbox, host, driver, [state])[0] for state in states]
    return [[Finding(0, "compiler", f"the checker failed: {outcome.message or outcome.stderr}")]]


def _finding(line: str) -> list[Finding]:
    number, tab, message = line.partition("\t")
    return [Finding(int(number), "compiler", message)] if tab else []
