"""Kotlin. As in Java, the compiler starts from an archive of its own loaded classes."""

from __future__ import annotations

import re
from pathlib import Path

from .base import Language, Names, Toolchain, support
from .java import JVM, JVM_LIBRARIES, SMALL_JVM, archive_classes
from .source import in_main

_HOME = "/usr/share/kotlin/kotlinc"
_JARS = (
    *("kotlin-compiler", "kotlin-stdlib", "kotlin-reflect", "kotlin-script-runtime"),
    *("annotations-13.0", "trove4j"),
)
_CLASSES = ":".join(f"{_HOME}/lib/{name}.jar" for name in _JARS)
_ARCHIVE = "kotlinc.jsa"
_KOTLINC = (
    *("-cp", _CLASSES, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-kotlin-home", _HOME),
    *("-nowarn", "-no-reflect"),
)
_HELLO = 'fun main() { println(listOf(1 to "a").map { it.second }.joinToString()) }\n'
_MAIN = r"\bfun\s+main\s*\([^(){}]{0,500}\)\s*(?::\s*Unit\s*)?\{"
_DONE = 'java.io.File(".answers").writeText(System.getenv("CODEGEN_TOKEN"))'
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+([\w.]+)", re.M)


def _archive(toolchain: Toolchain, folder: Path) -> None:
    archive_classes((toolchain.here["java"], *_KOTLINC), folder / _ARCHIVE, "a.kt", _HELLO)


def _names(source: str) -> Names:
    package = _PACKAGE.search(source)
    return {"main": f"{package[1]}.MainKt" if package else "MainKt"}


_COMPILE = (
    *("{java}", f"-XX:SharedArchiveFile={{cache}}/{_ARCHIVE}", "-Xshare:auto", *JVM, "-Xmx512m"),
    *("-Xss16m", *_KOTLINC, "-d", "/tmp/classes.jar", "main.kt"),
)
KOTLIN = Language(
    name="kotlin",
    file="main.kt",
    tools=("java", "kotlinc"),
    install="kotlin openjdk-21-jre-headless",
    version=("{java}", *_KOTLINC, "-version"),
    compile=(_COMPILE,),
    keep=("classes.jar",),
    run=(
        *("{java}", "-Xshare:auto", *JVM, *SMALL_JVM, "-Xmx{memory_mib}m", "-ea"),
        *("-cp", f"/tmp/classes.jar:{_HOME}/lib/kotlin-stdlib.jar", "{main}"),
    ),
    check=_COMPILE,
    shares=("/etc/java-*", "/usr/share/java", "/usr/share/kotlin"),
    environment=JVM_LIBRARIES,
    any_address=True,
    stop=("\nfun ", "\n}"),
    answers=support("answers.kt"),
    answers_last=True,
    guard=in_main(_MAIN, _DONE),
    names=_names,
    prepare=_archive,
)
