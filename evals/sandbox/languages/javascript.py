"""JavaScript in Node.js; and TypeScript, whose types esbuild takes away (nothing checks them)."""

from __future__ import annotations

from dataclasses import replace

from .base import Language
from .source import appended

_ANSWERS = r"""
function codegen_answer(value) {
  const text = (v, depth) => {
    if (depth > 200) return "deep";
    if (v === null || v === undefined) return "null";
    if (typeof v === "number") return String(v === 0 ? 0 : v);
    if (typeof v === "string") return JSON.stringify(v);
    if (typeof v !== "object") return typeof v + " " + String(v);
    const inner = (item) => text(item, depth + 1);
    if (Array.isArray(v)) return "[" + Array.from(v, inner).join(",") + "]";
    if (v instanceof Set) return "set[" + Array.from(v, inner).sort().join(",") + "]";
    const pairs = v instanceof Map ? Array.from(v) : Object.entries(v);
    return "{" + pairs.map(([k, item]) => inner(k) + ":" + inner(item)).sort().join(",") + "}";
  };
  require("node:fs").appendFileSync(".answers", text(value, 0) + "\n");
}
"""

JAVASCRIPT = Language(
    name="javascript",
    title="JavaScript",
    aliases=("js", "nodejs", "node"),
    file="main.js",
    tools=("node",),
    install="nodejs",
    version=("{node}", "--version"),
    # One thread for V8's own work; its heap ends where the job's memory does.
    run=(
        *("{node}", "--single-threaded", "--stack-size=900"),
        *("--max-old-space-size={memory_mib}", "main.js"),
    ),
    check=("{node}", "--check", "main.js"),
    shares=("/usr/share/nodejs", "/usr/share/node_modules", "/etc/ssl/openssl.cnf"),
    any_address=True,
    stop=("\nfunction ", "\n/*", "\n//", "\nconsole.log", "\nclass "),
    answers=_ANSWERS,
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
    title="TypeScript",
    aliases=("ts",),
    file="main.ts",
    tools=("node", "esbuild"),
    install="nodejs esbuild",
    version=("{esbuild}", "--version"),
    compile=(_STRIP,),
    keep=("main.js",),
    check=_STRIP,
    answers="declare var require: any, process: any;"
    + _ANSWERS.replace("(value)", "(value: any)")
    .replace("(v, depth) =>", "(v: any, depth: number): string =>")
    .replace("(item) =>", "(item: any) =>"),
)
