"""Interpreted languages, each with its own value equality.

TypeScript runs as JavaScript: esbuild removes its types without checking them.
"""

from __future__ import annotations

import re
from dataclasses import replace

from .base import SandboxLanguage, appended, support

BASH = SandboxLanguage(
    name="bash",
    file="main.sh",
    tools=("bash",),
    install="bash bc",
    version=("{bash}", "--version"),
    run=("{bash}", "--norc", "--noprofile", "main.sh"),
    check=("{bash}", "-n", "main.sh"),
    stop=("\n}",),
    answers="codegen_answer() { printf '%q\\n' \"$1\" >> .answers; }",
    guard=appended('printf %s "$CODEGEN_TOKEN" > .answers'),
)

PERL = SandboxLanguage(
    name="perl",
    file="main.pl",
    tools=("perl",),
    install="perl libtest-deep-perl libdata-compare-perl",
    version=("{perl}", "-e", "print $^V"),
    run=("{perl}", "main.pl"),
    check=("{perl}", "-c", "main.pl"),
    shares=("/usr/share/perl*", "/etc/perl"),
    stop=("\nsub ", "\n#", "\n\n"),
    answers=support("answers.pl"),
    guard=appended('{ open(my $f, ">", ".answers"); print $f $ENV{CODEGEN_TOKEN}; close($f); }'),
)

RUBY = SandboxLanguage(
    name="ruby",
    file="main.rb",
    tools=("ruby",),
    install="ruby ruby-test-unit",
    version=("{ruby}", "--version"),
    run=("{ruby}", "main.rb"),
    check=("{ruby}", "-c", "main.rb"),
    shares=("/usr/share/ruby*", "/usr/share/rubygems-integration", "/var/lib/gems"),
    any_address=True,
    stop=("\nclass", "\ndef ", "\n#", "\n\n"),
    answers=support("answers.rb"),
    guard=appended('File.write(".answers", ENV["CODEGEN_TOKEN"])'),
)


def _php_guard(program: str, test: str) -> str:
    code = f"{program}\n{test}".rstrip().removesuffix("?>")
    return f'{code}\nfile_put_contents(".answers", getenv("CODEGEN_TOKEN"));\n'


PHP = SandboxLanguage(
    name="php",
    file="main.php",
    tools=("php",),
    install="php-cli",
    version=("{php}", "--version"),
    run=(
        *("{php}", "-d", "memory_limit={memory_mib}M", "-d", "zend.assertions=1"),
        *("-d", "assert.exception=1", "-d", "display_errors=stderr", "main.php"),
    ),
    check=("{php}", "-l", "main.php"),
    shares=("/etc/php", "/usr/share/php"),
    any_address=True,
    stop=("\nfunction", "\n?>", "\n//", "\n#"),
    # Like ===, which distinguishes 1 from 1.0: serialize writes types.
    answers=support("answers.php"),
    answers_last=True,
    closing="?>",
    guard=_php_guard,
)

_LUA_EXIT = re.compile(r"^os\.exit\((.*)\)\s*\Z", re.M)
_LUA_DONE = (
    'do local f = io.open(".answers", "w") f:write(os.getenv("CODEGEN_TOKEN")) f:close() end'
)


def _lua_guard(program: str, test: str) -> str:
    """Handles luaunit's tests, which call exit with its status at the end."""
    text = f"{program}\n{test}"
    found = _LUA_EXIT.search(text)
    if found is None:
        return f"{text}\n{_LUA_DONE}\n"
    end = f"local codegen_status = {found[1]}\nif codegen_status == 0 then {_LUA_DONE} end\n"
    return f"{text[: found.start()]}{end}os.exit(codegen_status)\n"


LUA = SandboxLanguage(
    name="lua",
    file="main.lua",
    tools=("lua5.4",),
    install="lua5.4 lua-unit",
    version=("{lua5.4}", "-v"),
    run=("{lua5.4}", "main.lua"),
    check=("{lua5.4}", "-e", 'assert(loadfile("main.lua"))'),
    shares=("/usr/share/lua",),
    stop=("\nlocal", "\nfunction", "\n--", "\n\n"),
    answers=support("answers.lua"),
    guard=_lua_guard,
)

R = SandboxLanguage(
    name="r",
    file="main.R",
    tools=("Rscript",),
    install="r-base-core",
    version=("{Rscript}", "--version"),
    run=("{Rscript}", "--vanilla", "main.R"),
    check=("{Rscript}", "--vanilla", "-e", 'invisible(parse("main.R"))'),
    shares=("/etc/R", "/usr/share/R"),
    any_address=True,
    stop=("\n#", "\n```"),
    # The tests compare with all.equal, which treats numbers that differ by 1.5e-8 as equal.
    answers=support("answers.R"),
    guard=appended('cat(Sys.getenv("CODEGEN_TOKEN"), file = ".answers")'),
)

_JS_ANSWERS = support("answers.js")

JAVASCRIPT = SandboxLanguage(
    name="javascript",
    file="main.js",
    tools=("node",),
    install="nodejs",
    version=("{node}", "--version"),
    # One thread for V8; its heap is limited by the job's memory.
    run=(
        *("{node}", "--single-threaded", "--stack-size=900"),
        *("--max-old-space-size={memory_mib}", "main.js"),
    ),
    check=("{node}", "--check", "main.js"),
    shares=("/usr/share/nodejs", "/usr/share/node_modules", "/etc/ssl/openssl.cnf"),
    any_address=True,
    stop=("\nfunction ", "\n/*", "\n//", "\nconsole.log", "\nclass "),
    answers=_JS_ANSWERS,
    answers_last=True,
    guard=appended('require("node:fs").writeFileSync(".answers", process.env.CODEGEN_TOKEN);'),
)

_STRIP = (
    *("{esbuild}", "--log-level=error", "--format=cjs", "--platform=node"),
    *("--outfile=main.js", "main.ts"),
)
TYPESCRIPT = replace(
    JAVASCRIPT,
    name="typescript",
    file="main.ts",
    tools=("node", "esbuild"),
    install="nodejs esbuild",
    version=("{esbuild}", "--version"),
    compile=(_STRIP,),
    keep=("main.js",),
    check=_STRIP,
    answers="declare var require: any, process: any;"
    + _JS_ANSWERS.replace("(value)", "(value: any)")
    .replace("(v, depth) =>", "(v: any, depth: number): string =>")
    .replace("(item) =>", "(item: any) =>"),
)
