"""Scala. As in Java, the compiler starts from an archive of its own loaded classes."""

from __future__ import annotations

import re
from pathlib import Path

from .base import Language, Names, Toolchain, support
from .java import JVM, JVM_LIBRARIES, SMALL_JVM, archive_classes
from .source import in_main, main_of

_JAVA = "/usr/share/java"
_JARS = ("library-2.11", "reflect-2.11", "compiler-2.11", "xml_2.11", "parser-combinators_2.11")
_CLASSES = ":".join(f"{_JAVA}/scala-{name}.jar" for name in _JARS)
_LIBRARY = f"{_JAVA}/scala-library-2.11.jar"
_ARCHIVE = "scalac.jsa"
_SCALAC = ("-cp", _CLASSES, "scala.tools.nsc.Main", "-nowarn", "-usejavacp")
_HELLO = 'object A extends App { println(List(1 -> "a").toMap.map(_._2).mkString(",")) }\n'
_OBJECT = re.compile(r"\bobject\s+(\w+)")
_MAIN = (
    r"\bdef\s+main\s*\([^(){}]{0,500}\)\s*(?::\s*Unit\s*)?=?\s*\{"
    r"|\bobject\s+\w+\s+extends\s+App\s*\{"
)
_DONE = (
    'java.nio.file.Files.write(java.nio.file.Paths.get(".answers"), '
    'System.getenv("CODEGEN_TOKEN").getBytes); ()'
)


def _archive(toolchain: Toolchain, folder: Path) -> None:
    archive_classes((toolchain.here["java"], *_SCALAC), folder / _ARCHIVE, "a.scala", _HELLO)


def _names(source: str) -> Names:
    """The object that has ``main``."""
    found = main_of(_MAIN, source)
    objects = [m[1] for m in _OBJECT.finditer(source, 0, found.end() if found else len(source))]
    return {"main": objects[-1] if objects else "Main"}


_COMPILE = (
    *("{java}", f"-XX:SharedArchiveFile={{cache}}/{_ARCHIVE}", "-Xshare:auto", *JVM, "-Xmx512m"),
    *("-Xss16m", *_SCALAC, "-d", "/tmp", "main.scala"),
)
SCALA = Language(
    name="scala",
    file="main.scala",
    tools=("java", "scalac"),
    install="scala openjdk-21-jre-headless",
    version=("{scalac}", "-version"),
    compile=(_COMPILE,),
    keep=("*.class",),
    run=(
        *("{java}", "-Xshare:auto", *JVM, *SMALL_JVM, "-Xmx{memory_mib}m"),
        *("-cp", f"/tmp:{_LIBRARY}", "{main}"),
    ),
    check=_COMPILE,
    shares=("/etc/java-*", _JAVA),
    environment=JVM_LIBRARIES,
    any_address=True,
    stop=("\n    }\n",),
    answers=support("answers.scala"),
    answers_last=True,
    guard=in_main(_MAIN, _DONE),
    names=_names,
    prepare=_archive,
)
