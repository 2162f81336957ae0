"""The checks of languages other than Python.

``syntax``: tree-sitter finds no error. ``compiler``: the language's own checker finds none. It runs
in the sandbox, since a program can make its compiler read files and fill memory. If a checker is
slow to start, one process checks many states: V8 (JavaScript, only syntax), TypeScript's compiler
(types, but not the modules that a program imports) and javac (types). Go, Rust, C and C++ have one
process per state.
"""

from __future__ import annotations

import atexit
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path

from codegen.core.errors import MachineError
from codegen.core.languages import parser_for
from codegen.lintseq.languages import GRAMMARS, error_line
from codegen.lintseq.verify import Check, LintMessage, batches
from codegen.sandbox import Limits, Sandbox, ScriptJob

_LIMITS = Limits(cpu_s=120.0, memory_mib=2048, output_bytes=16 << 20, processes=256)
_MOST_STATES = 200
_MOST_CHARACTERS = 1_000_000
_PLACE = re.compile(r"(?:main|Main)\.\w+:(\d+)")

# Language -> the language and file name (in the folder ``drivers``) of the program that checks it.
# It reads states separated by null characters, and writes a line for each: empty if the state is
# clean, else the line of its first error, a tab and the message.
_DRIVERS = {
    "java": ("java", "Main.java"),
    "javascript": ("javascript", "v8.js"),
    "typescript": ("javascript", "tsc.js"),
}


def syntax_check(language: str) -> Check:
    """Returns the check that a language's grammar accepts each state."""
    parser = parser_for(GRAMMARS[language].name)

    def check(states: Sequence[str]) -> list[list[LintMessage]]:
        lines = [error_line(parser.parse(state.encode()).root_node) for state in states]
        return [
            [LintMessage(line, "syntax-error", "syntax error")] if line else [] for line in lines
        ]

    return check


def compiler_check(language: str) -> Check:
    """Returns the check that a language's compiler accepts each state.

    Raises:
        MissingToolchainError: if a tool is missing; names the package to install.
        SandboxError: if no sandbox can be opened.
    """
    if language in _DRIVERS:
        host, name = _DRIVERS[language]
        driver = (Path(__file__).parent / "drivers" / name).read_text(encoding="utf-8")
        return functools.partial(_check_together, sandbox_for(host, os.getpid()), host, driver)
    return functools.partial(_check_each, sandbox_for(language, os.getpid()), language)


@functools.cache
def sandbox_for(language: str, owner: int) -> Sandbox:  # noqa: ARG001 - a fork opens its own
    """Returns this process's open sandbox for a language."""
    sandbox = Sandbox(workers=1, languages=[language])
    sandbox.__enter__()
    atexit.register(sandbox.close)
    return sandbox


def _check_each(sandbox: Sandbox, language: str, states: Sequence[str]) -> list[list[LintMessage]]:
    found = []
    for state in states:
        # A state is a part of a program, but rustc needs a whole one.
        lacks_main = language == "rust" and not re.search(r"\bfn main\b", state)
        outcome = sandbox.check(state + "fn main() {}\n" * lacks_main, language)
        place = _PLACE.search(outcome.message)
        line = int(place[1]) if place else 0
        found.append([] if outcome.passed else [LintMessage(line, "compiler", outcome.message)])
    return found


def _check_together(
    sandbox: Sandbox, host: str, driver: str, states: Sequence[str]
) -> list[list[LintMessage]]:
    found: list[list[LintMessage]] = []
    for part in batches(states, len, _MOST_CHARACTERS, _MOST_STATES):
        found += _check_batch(sandbox, host, driver, part)
    return found


def _check_batch(
    sandbox: Sandbox, host: str, driver: str, states: Sequence[str]
) -> list[list[LintMessage]]:
    """Checks states together; if the checker fails, tries each separately."""
    script = ScriptJob(driver, stdin="\0".join(states), limits=_LIMITS, language=host)
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
    return [
        [LintMessage(0, "compiler", f"the checker failed: {outcome.message or outcome.stderr}")]
    ]


def _finding(line: str) -> list[LintMessage]:
    number, tab, message = line.partition("\t")
    return [LintMessage(int(number), "compiler", message)] if tab else []
