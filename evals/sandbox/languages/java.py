"""Java. The compiler starts from an archive of its own loaded classes, which all programs share."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from .base import Language, Names, Toolchain, run_tool
from .source import in_main

_SUPPORT = r"""
import java.lang.reflect.Array;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;

class CodegenAnswers {
    static void answer(Object value) {
        try {
            byte[] line = (text(value) + "\n").getBytes(StandardCharsets.UTF_8);
            Files.write(Paths.get(".answers"), line,
                StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        } catch (java.io.IOException error) {
            throw new RuntimeException(error);
        }
    }

    static void done() {
        try {
            Files.write(Paths.get(".answers"),
                System.getenv("CODEGEN_TOKEN").getBytes(StandardCharsets.UTF_8));
        } catch (java.io.IOException error) {
            throw new RuntimeException(error);
        }
    }

    private static String joined(Iterable<?> items, boolean sorted) {
        List<String> parts = new ArrayList<>();
        for (Object item : items) parts.add(text(item));
        if (sorted) Collections.sort(parts);
        return String.join(",", parts);
    }

    static String text(Object v) {
        if (v == null) return "null";
        if (v instanceof Number) {
            double number = ((Number) v).doubleValue();
            if (v instanceof Float || v instanceof Double)
                return number == Math.rint(number) && Math.abs(number) < 1e15
                    ? String.valueOf((long) number) : String.valueOf(number);
            return v.toString();
        }
        if (v instanceof String) {
            StringBuilder out = new StringBuilder("\"");
            for (char c : ((String) v).toCharArray())
                if (c < 32 || c == '"' || c == '\\') out.append('\\').append((int) c).append(';');
                else out.append(c);
            return out.append('"').toString();
        }
        if (v instanceof Optional)
            return ((Optional<?>) v).isPresent() ? "some " + text(((Optional<?>) v).get()) : "none";
        if (v instanceof Map) {
            List<String> parts = new ArrayList<>();
            for (Map.Entry<?, ?> item : ((Map<?, ?>) v).entrySet())
                parts.add(text(item.getKey()) + ":" + text(item.getValue()));
            Collections.sort(parts);
            return "{" + String.join(",", parts) + "}";
        }
        if (v instanceof Iterable) return "[" + joined((Iterable<?>) v, v instanceof Set) + "]";
        if (v.getClass().isArray()) {
            List<Object> items = new ArrayList<>();
            for (int i = 0; i < Array.getLength(v); i++) items.add(Array.get(v, i));
            return "[" + joined(items, false) + "]";
        }
        return v.getClass().getSimpleName() + " " + v;
    }
}
"""
_CLASS = re.compile(r"\b(?:class|enum|record|interface)\s+([A-Za-z_$][\w$]*)")
_PUBLIC = re.compile(
    r"^[ \t]*public\s+(?:final\s+|abstract\s+)*(?:class|enum|record|interface)\s+(\w+)", re.M
)
_MAIN = (
    r"\bstatic\s+(?:public\s+)?void\s+main\s*\([^(){}]{0,500}\)\s*(?:throws\s[\w.,\s]{1,500})?\{"
)
# One thread for the collector and the compiler, and nothing that only long runs repay.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ActiveProcessorCount=1")
_SMALL = ("-XX:ReservedCodeCacheSize=32m", "-XX:CompressedClassSpaceSize=64m", "-Xss16m")
_ARCHIVE = "javac.jsa"
_JAVAC = ("-m", "jdk.compiler/com.sun.tools.javac.Main")
_CLASSES = "/usr/share/java/javatuples.jar"


def _names(source: str) -> Names:
    """The class that has ``main``, and the file, which has the name of its public class."""
    found = re.search(_MAIN, source)
    classes = [m[1] for m in _CLASS.finditer(source, 0, found.start() if found else len(source))]
    public = _PUBLIC.search(source)
    return {"main": classes[-1] if classes else "Main", "file": public[1] if public else "Main"}


def _archive(toolchain: Toolchain, folder: Path) -> None:
    """Runs the compiler once and keeps its classes as the JVM has them in memory."""
    with tempfile.TemporaryDirectory() as work:
        program = "import java.util.*;\nclass A { static List<String> f(Map<String, Integer> m) {\n"
        program += "  return new ArrayList<>(m.keySet()); } }\n"
        Path(work, "A.java").write_text(program)
        archive = f"-XX:ArchiveClassesAtExit={folder / _ARCHIVE}"
        run_tool(
            *(toolchain.here["java"], archive, *_JVM, *_JAVAC, "-d", work, f"{work}/A.java"),
        )


_COMPILER = (
    *("{java}", f"-XX:SharedArchiveFile={{cache}}/{_ARCHIVE}", "-Xshare:auto", *_JVM),
    *("-Xmx512m", "-Xss16m", *_JAVAC, "-proc:none", "-nowarn", "-encoding", "UTF-8"),
    *("-cp", f"/tmp:{_CLASSES}", "-d", "/tmp"),
)
JAVA = Language(
    name="java",
    title="Java",
    file="{file}.java",
    tools=("java", "javac"),
    install="openjdk-21-jdk-headless libjavatuples-java",
    version=("{javac}", "-version"),
    compile=((*_COMPILER, "{file}.java", "{support}"),),
    check=(*_COMPILER, "{file}.java"),
    keep=("*.class",),
    run=(
        *("{java}", "-Xshare:auto", *_JVM, *_SMALL, "-Xmx{memory_mib}m", "-ea"),
        *("-cp", f"/tmp:{_CLASSES}", "{main}"),
    ),
    shares=("/etc/java-*", "/usr/share/java"),
    # Without /proc its launcher does not find its libraries by itself.
    environment={"LD_LIBRARY_PATH": "{java.home}/lib:{java.home}/lib/jli"},
    any_address=True,
    stop=("\n    }\n", "\n}"),
    support={"CodegenAnswers.java": _SUPPORT},
    guard=in_main(_MAIN, "CodegenAnswers.done();"),
    names=_names,
    prepare=_archive,
)
