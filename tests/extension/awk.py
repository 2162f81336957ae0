"""A language of the sandbox: AWK."""

from codegen.core import languages
from codegen.sandbox.languages import SandboxLanguage
from codegen.sandbox.languages.base import appended

AWK = SandboxLanguage(
    name="awk",
    known_as=languages.Language("awk", "AWK", comment="#"),
    file="main.awk",
    tools=("mawk",),
    install="mawk",
    version=("{mawk}", "-W", "version"),
    run=("{mawk}", "-f", "main.awk"),
    check=("{mawk}", "-W", "dump", "-f", "main.awk"),
    stop=("\nfunction ", "\nBEGIN"),
    # The tests have passed if the program reaches its end, where it writes the token.
    guard=appended('BEGIN { printf "%s", ENVIRON["CODEGEN_TOKEN"] > ".answers" }'),
)
