"""Java, Kotlin and Scala. Each compiler starts from an archive of its own loaded classes, which all
programs share. Those in Java also share the parts of JUnit and AssertJ that tests of exercises use
(``support/junit.java``).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from .base import Language, Names, Toolchain, run_tool, support
from .source import in_main, main_of

_CLASS = re.compile(r"\b(?:class|enum|record|interface)\s+([A-Za-z_$][\w$]*)")
_PUBLIC = re.compile(
    r"^[ \t]*public\s+(?:final\s+|abstract\s+)*(?:class|enum|record|interface)\s+(\w+)", re.M
)
_JAVA_MAIN = (
    r"\bstatic\s+(?:public\s+)?void\s+main\s*\([^(){}]{0,500}\)\s*(?:throws\s[\w.,\s]{1,500})?\{"
)
# One thread for the collector and the compiler, and nothing that only long runs repay.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=1")
_SMALL_JVM = ("-XX:ReservedCodeCacheSize=32m", "-XX:CompressedClassSpaceSize=64m", "-Xss16m")
# Without /proc its launcher does not find its libraries by itself.
_LIBRARIES = {"LD_LIBRARY_PATH": "{java.home}/lib:{java.home}/lib/jli"}
_JAVA_ARCHIVE = "javac.jsa"
_JAVAC = ("-m", "jdk.compiler/com.sun.tools.javac.Main")
# What tests use comes first, so that a program can't replace it.
_JAVA_JARS = "/usr/share/java/javatuples.jar:/usr/share/java/json-latest.jar"
_PATH = ("-cp", f"{{cache}}/junit:/tmp:{_JAVA_JARS}")
_PART = re.compile(r"^//==== (\S+)\n", re.M)


def _from_archive(name: str) -> tuple[str, ...]:
    """The beginning of a compiler's command."""
    start = ("{java}", f"-XX:SharedArchiveFile={{cache}}/{name}", "-Xshare:auto")
    return (*start, *_JVM, "-Xmx512m", "-Xss16m")


def _java_names(source: str) -> Names:
    """The class that has ``main``, and the file, which has the name of its public class."""
    found = main_of(_JAVA_MAIN, source)
    classes = [m[1] for m in _CLASS.finditer(source, 0, found.start() if found else len(source))]
    public = _PUBLIC.search(source)
    return {"main": classes[-1] if classes else "Main", "file": public[1] if public else "Main"}


def _archive_classes(compiler: Sequence[str], archive: Path, file: str, program: str) -> None:
    """Runs a compiler once and keeps its classes as the JVM has them in memory.

    Args:
        compiler: the command, from ``java``; it takes ``-d`` and files.
        archive: the file to make.
        file: the name of the program to compile, ``program`` its text.
    """
    with tempfile.TemporaryDirectory() as work:
        Path(work, file).write_text(program)
        java, *options = compiler
        dump = f"-XX:ArchiveClassesAtExit={archive}"
        run_tool(java, dump, *_JVM, *options, "-d", work, f"{work}/{file}")


def _prepare_java(toolchain: Toolchain, folder: Path) -> None:
    program = "import java.util.*;\nclass A { static List<String> f(Map<String, Integer> m) {\n"
    program += "  return new ArrayList<>(m.keySet()); } }\n"
    java = toolchain.here["java"]
    _archive_classes((java, *_JAVAC), folder / _JAVA_ARCHIVE, "A.java", program)
    _, *parts = _PART.split(toolchain.language.header)
    with tempfile.TemporaryDirectory() as work:
        files = [Path(work, name) for name in parts[::2]]
        for file, text in zip(files, parts[1::2], strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
        run_tool(java, *_JVM, *_JAVAC, "-d", str(folder / "junit"), *map(str, files))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


_JAVA_COMPILER = (
    *_from_archive(_JAVA_ARCHIVE),
    *(*_JAVAC, "-proc:none", "-nowarn", "-encoding", "UTF-8"),
    *(*_PATH, "-d", "/tmp"),
)
JAVA = Language(
    name="java",
    file="{file}.java",
    tools=("java", "javac"),
    install="openjdk-21-jdk-headless libjavatuples-java",
    version=("{javac}", "-version"),
    compile=((*_JAVA_COMPILER, "{file}.java", "{support}"),),
    check=(*_JAVA_COMPILER, "{file}.java"),
    keep=("*.class",),
    run=(
        *("{java}", "-Xshare:auto", *_JVM, *_SMALL_JVM, "-Xmx{memory_mib}m", "-ea"),
        *(*_PATH, "{main}"),
    ),
    shares=("/etc/java-*", "/usr/share/java"),
    environment=_LIBRARIES,
    any_address=True,
    stop=("\n    }\n", "\n}"),
    support={"CodegenAnswers.java": support("CodegenAnswers.java")},
    guard=in_main(_JAVA_MAIN, "CodegenAnswers.done();"),
    header=support("junit.java"),
    names=_java_names,
    prepare=_prepare_java,
)


def _archiving(
    archive: str, compiler: Sequence[str], file: str, program: str
) -> Callable[[Toolchain, Path], None]:
    """The preparation of a compiler that is given to ``java``."""

    def prepare(toolchain: Toolchain, folder: Path) -> None:
        _archive_classes((toolchain.here["java"], *compiler), folder / archive, file, program)

    return prepare


_KOTLIN_HOME = "/usr/share/kotlin/kotlinc"
_KOTLIN_JARS = (
    *("kotlin-compiler", "kotlin-stdlib", "kotlin-reflect", "kotlin-script-runtime"),
    *("annotations-13.0", "trove4j"),
)
_KOTLIN_CLASSES = ":".join(f"{_KOTLIN_HOME}/lib/{name}.jar" for name in _KOTLIN_JARS)
_KOTLIN_ARCHIVE = "kotlinc.jsa"
_KOTLINC = (
    *("-cp", _KOTLIN_CLASSES, "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"),
    *("-kotlin-home", _KOTLIN_HOME, "-nowarn", "-no-reflect"),
)
_KOTLIN_HELLO = 'fun main() { println(listOf(1 to "a").map { it.second }.joinToString()) }\n'
_KOTLIN_MAIN = r"\bfun\s+main\s*\([^(){}]{0,500}\)\s*(?::\s*Unit\s*)?\{"
_KOTLIN_DONE = 'java.io.File(".answers").writeText(System.getenv("CODEGEN_TOKEN"))'
_PACKAGE = re.compile(r"^[ \t]*package[ \t]+([\w.]+)", re.M)


def _kotlin_names(source: str) -> Names:
    package = _PACKAGE.search(source)
    return {"main": f"{package[1]}.MainKt" if package else "MainKt"}


_KOTLIN_COMPILE = (
    *_from_archive(_KOTLIN_ARCHIVE),
    *(*_KOTLINC, "-d", "/tmp/classes.jar", "main.kt"),
)
KOTLIN = Language(
    name="kotlin",
    file="main.kt",
    tools=("java", "kotlinc"),
    install="kotlin openjdk-21-jre-headless",
    version=("{java}", *_KOTLINC, "-version"),
    compile=(_KOTLIN_COMPILE,),
    keep=("classes.jar",),
    run=(
        *("{java}", "-Xshare:auto", *_JVM, *_SMALL_JVM, "-Xmx{memory_mib}m", "-ea"),
        *("-cp", f"/tmp/classes.jar:{_KOTLIN_HOME}/lib/kotlin-stdlib.jar", "{main}"),
    ),
    check=_KOTLIN_COMPILE,
    shares=("/etc/java-*", "/usr/share/java", "/usr/share/kotlin"),
    environment=_LIBRARIES,
    any_address=True,
    stop=("\nfun ", "\n}"),
    answers=support("answers.kt"),
    answers_last=True,
    guard=in_main(_KOTLIN_MAIN, _KOTLIN_DONE),
    names=_kotlin_names,
    prepare=_archiving(_KOTLIN_ARCHIVE, _KOTLINC, "a.kt", _KOTLIN_HELLO),
)

_PARTS = ("library-2.11", "reflect-2.11", "compiler-2.11", "xml_2.11", "parser-combinators_2.11")
_SCALA_CLASSES = ":".join(f"/usr/share/java/scala-{name}.jar" for name in _PARTS)
_SCALA_LIBRARY = "/usr/share/java/scala-library-2.11.jar"
_SCALA_ARCHIVE = "scalac.jsa"
_SCALAC = ("-cp", _SCALA_CLASSES, "scala.tools.nsc.Main", "-nowarn", "-usejavacp")
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


def _scala_names(source: str) -> Names:
    """The object that has ``main``."""
    found = main_of(_SCALA_MAIN, source)
    objects = [m[1] for m in _OBJECT.finditer(source, 0, found.end() if found else len(source))]
    return {"main": objects[-1] if objects else "Main"}


_SCALA_COMPILE = (*_from_archive(_SCALA_ARCHIVE), *_SCALAC, "-d", "/tmp", "main.scala")
SCALA = Language(
    name="scala",
    file="main.scala",
    tools=("java", "scalac"),
    install="scala openjdk-21-jre-headless",
    version=("{scalac}", "-version"),
    compile=(_SCALA_COMPILE,),
    keep=("*.class",),
    run=(
        *("{java}", "-Xshare:auto", *_JVM, *_SMALL_JVM, "-Xmx{memory_mib}m"),
        *("-cp", f"/tmp:{_SCALA_LIBRARY}", "{main}"),
    ),
    check=_SCALA_COMPILE,
    shares=("/etc/java-*", "/usr/share/java"),
    environment=_LIBRARIES,
    any_address=True,
    stop=("\n    }\n",),
    answers=support("answers.scala"),
    answers_last=True,
    guard=in_main(_SCALA_MAIN, _SCALA_DONE),
    names=_scala_names,
    prepare=_archiving(_SCALA_ARCHIVE, _SCALAC, "a.scala", _SCALA_HELLO),
)
