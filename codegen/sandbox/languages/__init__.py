"""Programming languages of the sandbox besides Python.

``find`` looks up a language, ``find_toolchain`` its installation. To add one, write a
:class:`SandboxLanguage` and add it to :data:`LANGUAGES`, or register it as an entry point
(:mod:`codegen.core.plugins`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from codegen.core import plugins
from codegen.core.errors import ConfigError, nearest

from .base import MissingToolchainError, SandboxLanguage, Toolchain, find_toolchain
from .csharp import CSHARP
from .go import GO
from .jvm import JAVA, KOTLIN, SCALA
from .native import CPP, HASKELL, RUST, SWIFT, C
from .scripting import BASH, JAVASCRIPT, LUA, PERL, PHP, RUBY, TYPESCRIPT, R

LANGUAGES: Mapping[str, SandboxLanguage] = {
    language.name: language
    for language in (
        *(BASH, C, CPP, CSHARP, GO, HASKELL, JAVA, JAVASCRIPT, KOTLIN, LUA, PERL, PHP, R, RUBY),
        *(RUST, SCALA, SWIFT, TYPESCRIPT),
    )
}
# A program in each language that prints "hello".
HELLO: Mapping[str, str] = {
    "bash": "echo hello\n",
    "c": '#include <stdio.h>\nint main() { puts("hello"); }\n',
    "cpp": '#include <iostream>\nint main() { std::cout << "hello\\n"; }\n',
    "csharp": 'class A { static void Main() { System.Console.WriteLine("hello"); } }\n',
    "go": 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n',
    "haskell": 'main = putStrLn "hello"\n',
    "java": 'class A { public static void main(String[] a) { System.out.println("hello"); } }\n',
    "javascript": 'console.log("hello");\n',
    "kotlin": 'fun main() { println("hello") }\n',
    "lua": 'print("hello")\n',
    "perl": 'print "hello\\n";\n',
    "php": '<?php echo "hello\\n";\n',
    "r": 'cat("hello\\n")\n',
    "ruby": 'puts "hello"\n',
    "rust": 'fn main() { println!("hello"); }\n',
    "scala": 'object A extends App { println("hello") }\n',
    "swift": 'print("hello")\n',
    "typescript": 'const text: string = "hello"; console.log(text);\n',
}
_BY_NAME = {
    name: language for language in LANGUAGES.values() for name in (language.name, *language.aliases)
}


def find(name: str) -> SandboxLanguage:
    """Returns a language by its name or alias, ignoring case.

    Raises:
        ConfigError: for an unknown language; lists the known ones.
    """
    if found := _BY_NAME.get(name.lower()):
        return found
    added = plugins.names("languages")
    if name.lower() in added:
        return plugins.load("languages", name.lower())
    known = ", ".join((*LANGUAGES, *added))
    raise ConfigError(
        f"The sandbox does not support the language {name!r}.",
        f"{nearest(name, [*_BY_NAME, *added])} Choose one of: python, {known}.".lstrip(),
    )


def installed() -> Iterator[Toolchain]:
    """Yields the toolchains that are installed here."""
    for language in LANGUAGES.values():
        try:
            yield find_toolchain(language)
        except MissingToolchainError:
            continue


def toolchains(names: Sequence[str]) -> dict[str, Toolchain]:
    """Returns the toolchains of languages, by canonical name.

    Raises:
        ConfigError: for an unknown language. MissingToolchainError: for one that is not installed.
    """
    return {(language := find(name)).name: find_toolchain(language) for name in names}


__all__ = [
    "HELLO",
    "LANGUAGES",
    "SandboxLanguage",
    "MissingToolchainError",
    "Toolchain",
    "find",
    "find_toolchain",
    "installed",
    "toolchains",
]
