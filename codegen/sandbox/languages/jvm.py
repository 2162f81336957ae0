"""Java, Kotlin and Scala. Each compiler starts from an archive of its loaded classes, which all
programs share.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from .base import Names, SandboxLanguage, Toolchain, in_main, main_of, run_tool, support

# One thread for the collector and the compiler, without optimizations for long runs.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=1")
_RUN = (
    *("{java}", "-Xshare:auto", *_JVM, "-XX:ReservedCodeCacheSize=32m"),
    *("-XX:CompressedClassSpaceSize=64m", "-Xss16m", "-Xmx{memory_mib}m"),
)
# Without /proc its launcher does not find its libraries.
_LIBRARIES = {"LD_LIBRARY_PATH": "{java.home}/lib:{java.home}/lib/jli"}


def _compiler(archive: str) -> tuple[str, ...]:
    """Returns the command of a compiler whose classes are in an archive."""
    shared = f"-XX:SharedArchiveFile={{cache}}/{archive}"
    return ("{java}", shared, "-Xshare:auto", *_JVM, "-Xmx512m", "-Xss16m")


def _archived(
    archive: str, compiler: tuple[str, ...], file: str, program: str
) -> Callable[[Toolchain, Path], None]:
    """Returns a function that runs a compiler once and archives its classes.

    Args:
        compiler: options of a compiler that takes ``-d`` and files.
        file: name of the program to compile; ``program`` is its source.
    """

    def prepare(toolchain: Toolchain, folder: Path) -> None:
        with tempfile.TemporaryDirectory() as work:
            Path(work, file).write_text(program)
            dump = f"-XX:ArchiveClassesAtExit={folder / archive}"
            run_tool(toolchain.here["java"], dump, *_JVM, *compiler, "-d", work, f"{work}/{file}")

    return prepare


_CLASS = re.compile(r"\b(?:class|enum|record|interface)\s+([A-Za-z_$][\w$]*)")
_PUBLIC = re.compile(
    r"^[ \t]*public\s+(?:final\s+|abstract\s+)*(?:class|enum|record|interface)\s+(\w+)", re.M
)
_JAVA_MAIN = (
    r"\bstatic\s+(?:public\s+)?void\s+main\s*\([^(){}]{0,500}\)\s*(?:throws\s[\w.,\s]{1,500})?\{"
)
_JAVAC = ("-m", "jdk.compiler/com.sun.tools.javac.Main")
_JAVA_PATH = ("-cp", "/tmp:/usr/share/java/javatuples.jar")
_JAVA_HELLO = (
    "import java.util.*;\nclass A { static List<String> f(Map<String, Integer> m) {\n"
    "  return new ArrayList<>(m.keySet()); } }\n"
)
_JAVA_COMPILER = (
    *(*_compiler("javac.jsa"), *_JAVAC, "-proc:none", "-nowarn", "-encoding", "UTF-8"),
    *(*_JAVA_PATH, "-d", "/tmp"),
)


def _java_names(source: str) -> Names:
    """Returns the class that has ``main``, and the file, named after its public class."""
    found = main_of(_JAVA_MAIN, source)
    classes = [m[1] for m in _CLASS.finditer(source, 0, found.start() if found else len(source))]
    public = _PUBLIC.search(source)
    return {"main": classes[-1] if classes else "Main", "file": public[1] if public else "Main"}


JAVA = SandboxLanguage(
    name="java",
    file="{file}.java",
    tools=("java", "javac"),
    install="openjdk-21-jdk-headless libjavatuples-java",
    version=("{javac}", "-version"),
    compile=((*_JAVA_COMPILER, "{file}.java", "{support}"),),
    check=(*_JAVA_COMPILER, "{file}.java"),
    keep=("*.class",),
    run=(*_RUN, "-ea", *_JAVA_PATH, "{main}"),
    shares=("/etc/java-*", "/usr/share/java"),
    environment=_LIBRARIES,
    any_address=True,
    stop=("\n    }\n", "\n}"),
    support={"CodegenAnswers.java": support("CodegenAnswers.java")},
    guard=in_main(_JAVA_MAIN, "CodegenAnswers.done();"),
    names=_java_names,
    prepare=_archived("javac.jsa", _JAVAC, "A.java", _JAVA_HELLO),
)


_KOTLIN = "/usr/share/kotlin/kotlinc"
_KOTLIN_JARS = (
    *("kotlin-compiler", "kotlin-stdlib", "kotlin-reflect", "kotlin-script-runtime"),
    *("annotations-13.0", "trove4j"),
)
_KOTLINC = (
    *("-cp", ":".join(f"{_KOTLIN}/lib/{name}.jar" for name in _KOTLIN_JARS)),
    *("org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-kotlin-home", _KOTLIN),
    *("-nowarn", "-no-reflect"),
)
_KOTLIN_HELLO = 'fun main() { println(listOf(1 to "a").map { it.second }.joinToString()) }\n'
_KOTLIN_MAIN = r"\bfun\s+main\s*\([^(){}]{0,500}\)\s*(?::\s*Unit\s*)?\{"
_KOTLIN_DONE = 'java.io.File(".answers").writeText(System.getenv("CODEGEN_TOKEN"))'
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+([\w.]+)", re.M)
_KOTLIN_COMPILE = (*_compiler("kotlinc.jsa"), *_KOTLINC, "-d", "/tmp/classes.jar", "main.kt")


def _kotlin_names(source: str) -> Names:
    package = _PACKAGE.search(source)
    return {"main": f"{package[1]}.MainKt" if package else "MainKt"}


KOTLIN = SandboxLanguage(
    name="kotlin",
    file="main.kt",
    tools=("java", "kotlinc"),
    install="kotlin openjdk-21-jre-headless",
    version=("{java}", *_KOTLINC, "-version"),
    compile=(_KOTLIN_COMPILE,),
    keep=("classes.jar",),
    run=(*_RUN, "-ea", "-cp", f"/tmp/classes.jar:{_KOTLIN}/lib/kotlin-stdlib.jar", "{main}"),
    check=_KOTLIN_COMPILE,
    shares=("/etc/java-*", "/usr/share/java", "/usr/share/kotlin"),
    environment=_LIBRARIES,
    any_address=True,
    stop=("\nfun ", "\n}"),
    answers=support("answers.kt"),
    answers_last=True,
    guard=in_main(_KOTLIN_MAIN, _KOTLIN_DONE),
    names=_kotlin_names,
    prepare=_archived("kotlinc.jsa", _KOTLINC, "a.kt", _KOTLIN_HELLO),
)


_SCALA = "/usr/share/java/scala-{}.jar"
_SCALA_JARS = (
    *("library-2.11", "reflect-2.11", "compiler-2.11", "xml_2.11", "parser-combinators_2.11"),
)
_SCALAC = (
    *("-cp", ":".join(map(_SCALA.format, _SCALA_JARS))),
    *("scala.tools.nsc.Main", "-nowarn", "-usejavacp"),
)
_SCALA_HELLO = 'object A extends App { println(List(1 -> "a").toMap.map(_._2).mkString(",")) }\n'
_OBJECT = re.compile(r"\bobject\s+(\w+)")
_SCALA_MAIN = (
    r"\bdef\s+main\s*\([^(){}]{0,500}\)\s*(?::\s*Unit\s*)?=?\s*\{"
    r"|\bobject\s+\w+\s+extends\s+App\s*\{"
)
_SCALA_DONE = (
    'java.nio.file.Files.write(java.nio.file.Paths.get(".answers"), '
    'System.getenv("CODEGEN_TOKEN").getBytes); ()'
)
_SCALA_COMPILE = (*_compiler("scalac.jsa"), *_SCALAC, "-d", "/tmp", "main.scala")


def _scala_names(source: str) -> Names:
    """Returns the object that has ``main``."""
    found = main_of(_SCALA_MAIN, source)
    objects = [m[1] for m in _OBJECT.finditer(source, 0, found.end() if found else len(source))]
    return {"main": objects[-1] if objects else "Main"}


SCALA = SandboxLanguage(
    name="scala",
    file="main.scala",
    tools=("java", "scalac"),
    install="scala openjdk-21-jre-headless",
    version=("{scalac}", "-version"),
    compile=(_SCALA_COMPILE,),
    keep=("*.class",),
    run=(*_RUN, "-cp", f"/tmp:{_SCALA.format('library-2.11')}", "{main}"),
    check=_SCALA_COMPILE,
    shares=("/etc/java-*", "/usr/share/java"),
    environment=_LIBRARIES,
    any_address=True,
    stop=("\n    }\n",),
    answers=support("answers.scala"),
    answers_last=True,
    guard=in_main(_SCALA_MAIN, _SCALA_DONE),
    names=_scala_names,
    prepare=_archived("scalac.jsa", _SCALAC, "a.scala", _SCALA_HELLO),
)
