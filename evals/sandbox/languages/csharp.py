"""C# by Mono's compiler and runtime."""

from __future__ import annotations

import re

from .base import Language
from .source import in_main

_SUPPORT = r"""
using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.IO;

static class CodegenAnswers {
    public static void Answer(object value) { File.AppendAllText(".answers", Text(value) + "\n"); }

    public static void Done() {
        File.WriteAllText(".answers", Environment.GetEnvironmentVariable("CODEGEN_TOKEN"));
    }

    public static string Text(object v) {
        if (v == null) return "null";
        if (v is bool) return (bool)v ? "true" : "false";
        if (v is float || v is double || v is decimal) {
            double number = Convert.ToDouble(v);
            return number == Math.Floor(number) && Math.Abs(number) < 1e15
                ? ((long)number).ToString() : number.ToString("R", CultureInfo.InvariantCulture);
        }
        if (v is string) {
            var text = new System.Text.StringBuilder("\"");
            foreach (char c in (string)v)
                if (c < 32 || c == '"' || c == '\\') text.Append('\\').Append((int)c).Append(';');
                else text.Append(c);
            return text.Append('"').ToString();
        }
        if (v is IDictionary) {
            var parts = new List<string>();
            foreach (DictionaryEntry item in (IDictionary)v)
                parts.Add(Text(item.Key) + ":" + Text(item.Value));
            parts.Sort(string.CompareOrdinal);
            return "{" + string.Join(",", parts) + "}";
        }
        if (v is IEnumerable) {
            var parts = new List<string>();
            foreach (object item in (IEnumerable)v) parts.Add(Text(item));
            return "[" + string.Join(",", parts) + "]";
        }
        return Convert.ToString(v, CultureInfo.InvariantCulture);
    }
}

// An assert that ends the program; Mono's prints and goes on.
class CodegenListener : System.Diagnostics.TraceListener {
    public override void Write(string message) {}
    public override void WriteLine(string message) {}
    public override void Fail(string message) { throw new Exception("an assert failed"); }
    public override void Fail(string message, string detail) { Fail(message); }
}
"""

_MAIN = r"\bstatic\s+(?:public\s+)?(?:void|int)\s+Main\s*\([^)]*\)\s*\{"
_LISTEN = (
    "System.Diagnostics.Debug.Listeners.Clear(); "
    "System.Diagnostics.Debug.Listeners.Add(new CodegenListener());"
)


def _guard(text: str) -> str:
    """Asserts that fail end the program; Mono's print and go on."""
    text = in_main(_MAIN, "CodegenAnswers.Done();")(text)
    return re.sub(_MAIN, lambda found: f"{found[0]} {_LISTEN}", text)


_MCS = (
    *("{mono}", "/usr/lib/mono/4.5/mcs.exe", "-nologo", "-warn:0", "-d:DEBUG"),
    *("-r:System.Numerics.dll", "-r:System.Core.dll"),
)
CSHARP = Language(
    name="csharp",
    title="C#",
    aliases=("cs", "c#"),
    file="main.cs",
    tools=("mcs", "mono"),
    install="mono-mcs mono-runtime libmono-system-core4.0-cil libmono-system-numerics4.0-cil",
    version=("{mono}", "--version"),
    compile=((*_MCS, "-out:main.exe", "main.cs", "{support}"),),
    keep=("main.exe",),
    run=("{mono}", "main.exe"),
    check=(*_MCS, "-target:library", "-out:main.dll", "main.cs"),
    shares=("/etc/mono", "/usr/share/.mono"),
    environment={"MONO_GC_PARAMS": "max-heap-size=512m", "MONO_REGISTRY_PATH": "/tmp"},
    any_address=True,
    own_proc=True,
    stop=("\n    }\n",),
    support={"CodegenAnswers.cs": _SUPPORT},
    guard=_guard,
)
