"""Bash."""

from __future__ import annotations

from .base import Language
from .source import appended

BASH = Language(
    name="bash",
    title="Bash",
    aliases=("sh", "shell"),
    file="main.sh",
    tools=("bash",),
    install="bash bc",
    version=("{bash}", "--version"),
    run=("{bash}", "--norc", "--noprofile", "main.sh"),
    check=("{bash}", "-n", "main.sh"),
    comment="#",
    stop=("\n}",),
    answers="codegen_answer() { printf '%q\\n' \"$1\" >> .answers; }",
    guard=appended('printf %s "$CODEGEN_TOKEN" > .answers'),
)
