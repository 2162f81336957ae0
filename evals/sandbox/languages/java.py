"""Java. The compiler starts from an archive of its own loaded classes, which all programs share."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .base import Language, Names, Toolchain, run_tool, support
from .source import in_main, main_of

_CLASS = re.compile(r"\b(?:class|enum|record|interface)\s+([A-Za-z_$][\w$]*)")
_PUBLIC = re.compile(
    r"^[ \t]*public\s+(?:final\s+|abstract\s+)*(?:class|enum|record|interface)\s+(\w+)", re.M
)
_MAIN = (
    r"\bstatic\s+(?:public\s+)?void\s+main\s*\([^(){}]{0,500}\)\s*(?:throws\s[\w.,\s]{1,500})?\{"
)
# One thread for the collector and the compiler, and nothing that only long runs repay.
JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=1")
SMALL_JVM = ("-XX:ReservedCodeCacheSize=32m", "-XX:CompressedClassSpaceSize=64m", "-Xss16m")
# Without /proc its launcher does not find its libraries by itself.
JVM_LIBRARIES = {"LD_LIBRARY_PATH": "{java.home}/lib:{java.home}/lib/jli"}
_ARCHIVE = "javac.jsa"
_JAVAC = ("-m", "jdk.compiler/com.sun.tools.javac.Main")
_PATH = ("-cp", "/tmp:/usr/share/java/javatuples.jar")


def _names(source: str) -> Names:
    """The class that has ``main``, and the file, which has the name of its public class."""
    found = main_of(_MAIN, source)
    classes = [m[1] for m in _CLASS.finditer(source, 0, found.start() if found else len(source))]
    public = _PUBLIC.search(source)
    return {"main": classes[-1] if classes else "Main", "file": public[1] if public else "Main"}


def archive_classes(compiler: Sequence[str], archive: Path, file: str, program: str) -> None:
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
        run_tool(java, dump, *JVM, *options, "-d", work, f"{work}/{file}")


def _archive(toolchain: Toolchain, folder: Path) -> None:
    program = "import java.util.*;\nclass A { static List<String> f(Map<String, Integer> m) {\n"
    program += "  return new ArrayList<>(m.keySet()); } }\n"
    archive_classes((toolchain.here["java"], *_JAVAC), folder / _ARCHIVE, "A.java", program)


_COMPILER = (
    *("{java}", f"-XX:SharedArchiveFile={{cache}}/{_ARCHIVE}", "-Xshare:auto", *JVM),
    *("-Xmx512m", "-Xss16m", *_JAVAC, "-proc:none", "-nowarn", "-encoding", "UTF-8"),
    *(*_PATH, "-d", "/tmp"),
)
JAVA = Language(
    name="java",
    file="{file}.java",
    tools=("java", "javac"),
    install="openjdk-21-jdk-headless libjavatuples-java",
    version=("{javac}", "-version"),
    compile=((*_COMPILER, "{file}.java", "{support}"),),
    check=(*_COMPILER, "{file}.java"),
    keep=("*.class",),
    run=(
        *("{java}", "-Xshare:auto", *JVM, *SMALL_JVM, "-Xmx{memory_mib}m", "-ea"),
        *(*_PATH, "{main}"),
    ),
    shares=("/etc/java-*", "/usr/share/java"),
    environment=JVM_LIBRARIES,
    any_address=True,
    stop=("\n    }\n", "\n}"),
    support={"CodegenAnswers.java": support("CodegenAnswers.java")},
    guard=in_main(_MAIN, "CodegenAnswers.done();"),
    names=_names,
    prepare=_archive,
)
