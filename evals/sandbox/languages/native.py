"""C and C++ by GCC. All programs in C++ share one precompiled header of the standard library, which
takes three quarters off the time to compile one.
"""

from __future__ import annotations

from pathlib import Path

from .base import Language, Names, Toolchain, run_tool
from .source import in_main

_MAIN = r"\bint\s+main\s*\([^(){}]{0,500}\)\s*\{"
_STANDARD = "-std=c++17"
_HEADER = "codegen.h"

_CPP_ANSWERS = r"""
#ifndef CODEGEN_ANSWERS
#define CODEGEN_ANSWERS
#include <bits/stdc++.h>
namespace codegen {
template <typename T, typename = void> struct Text;
template <typename T> std::string text(const T& value) { return Text<T>::of(value); }
inline std::string quoted(const std::string& value) {
  std::ostringstream out;
  out << '"' << std::hex;
  for (unsigned char c : value)
    if (c < 32 || c == '"' || c == '\\') out << '\\' << static_cast<int>(c) << ';';
    else out << c;
  return out.str() + '"';
}
template <typename T> std::string joined(const T& items, const char* ends, bool sorted = false) {
  std::vector<std::string> parts;
  for (const auto& item : items) parts.push_back(text<std::decay_t<decltype(item)>>(item));
  if (sorted) std::sort(parts.begin(), parts.end());
  std::string all(1, ends[0]);
  for (const auto& part : parts) all += part + ",";
  return all + ends[1];
}
template <typename T> struct Text<T, std::enable_if_t<std::is_integral_v<T>>> {
  static std::string of(T value) { return std::to_string(value); }
};
template <typename T> struct Text<T, std::enable_if_t<std::is_floating_point_v<T>>> {
  static std::string of(T value) {
    char buffer[64];
    const double number = static_cast<double>(value);
    if (number == std::floor(number) && std::fabs(number) < 1e15)
      std::snprintf(buffer, sizeof buffer, "%.0f", number + 0.0);
    else
      std::snprintf(buffer, sizeof buffer, "%.17g", number);
    return std::string(buffer) == "-0" ? "0" : buffer;
  }
};
template <> struct Text<std::string> {
  static std::string of(const std::string& value) { return quoted(value); }
};
template <> struct Text<const char*> {
  static std::string of(const char* value) { return quoted(value); }
};
template <> struct Text<std::nullopt_t> {
  static std::string of(std::nullopt_t) { return "null"; }
};
template <typename T> struct Text<std::optional<T>> {
  static std::string of(const std::optional<T>& value) { return value ? text(*value) : "null"; }
};
template <typename A, typename B> struct Text<std::pair<A, B>> {
  static std::string of(const std::pair<A, B>& v) {
    return "(" + text<std::decay_t<A>>(v.first) + "," + text<std::decay_t<B>>(v.second) + ",)";
  }
};
template <typename... Ts> struct Text<std::tuple<Ts...>> {
  static std::string of(const std::tuple<Ts...>& value) {
    return std::apply([](const auto&... v) { return "(" + (("" + text(v) + ",") + ... + ")"); },
                      value);
  }
};
template <typename T, typename A> struct Text<std::vector<T, A>> {
  static std::string of(const std::vector<T, A>& value) {
    if constexpr (std::is_same_v<T, bool>)
      return joined(std::vector<int>(value.begin(), value.end()), "[]");
    else
      return joined(value, "[]");
  }
};
template <typename K, typename V, typename C, typename A> struct Text<std::map<K, V, C, A>> {
  static std::string of(const std::map<K, V, C, A>& v) { return joined(v, "{}", true); }
};
template <typename K, typename V, typename H, typename E, typename A>
struct Text<std::unordered_map<K, V, H, E, A>> {
  static std::string of(const std::unordered_map<K, V, H, E, A>& v) {
    return joined(v, "{}", true);
  }
};
template <typename T, typename C, typename A> struct Text<std::set<T, C, A>> {
  static std::string of(const std::set<T, C, A>& v) { return joined(v, "{}", true); }
};
}  // namespace codegen
template <typename T> void codegen_answer(const T& value) {
  std::ofstream(".answers", std::ios::app)
      << codegen::text<std::decay_t<const T>>(value) << std::endl;
}
#endif
"""


# What the guard's statement needs, in programs that include less.
_GUARDED = ("-include", "stdio.h", "-include", "stdlib.h")
_DONE = (
    '{ FILE* codegen_file = fopen(".answers", "w"); if (codegen_file) { '
    'fputs(getenv("CODEGEN_TOKEN"), codegen_file); fclose(codegen_file); } }'
)


def _precompile(toolchain: Toolchain, folder: Path) -> None:
    """The standard library's headers and what writes answers, parsed once."""
    header = folder / _HEADER
    header.write_text(toolchain.language.header)
    compiled = folder / f"{_HEADER}.gch"
    compiler = toolchain.here["g++"]
    run_tool(compiler, _STANDARD, "-w", "-x", "c++-header", str(header), "-o", str(compiled))
    compiled.chmod(0o644)


def _names(source: str) -> Names:
    """The precompiled header has to come first. To read it takes longer than to compile a program
    that includes little.
    """
    whole = "bits/stdc++.h" in source or f'"{_HEADER}"' in source
    return {"first": _HEADER if whole else "stdlib.h"}


C = Language(
    name="c",
    title="C",
    file="main.c",
    tools=("gcc",),
    install="gcc libc6-dev",
    version=("{gcc}", "--version"),
    compile=(("{gcc}", "-std=gnu17", "-w", *_GUARDED, "-o", "main", "main.c", "-lm"),),
    keep=("main",),
    run=("/tmp/main",),
    check=("{gcc}", "-std=gnu17", "-w", "-fsyntax-only", "main.c"),
    shares=("/usr/include",),
    stop=("\n}",),
    guard=in_main(_MAIN, _DONE),
)
_INCLUDED = (_STANDARD, "-w", "-I{cache}", "-include", "{first}", "-include", "stdio.h")
CPP = Language(
    name="cpp",
    title="C++",
    aliases=("c++", "cc"),
    file="main.cpp",
    tools=("g++",),
    install="g++",
    version=("{g++}", "--version"),
    compile=(("{g++}", *_INCLUDED, "-o", "main", "main.cpp", "-pthread"),),
    keep=("main",),
    run=("/tmp/main",),
    check=("{g++}", *_INCLUDED, "-fsyntax-only", "main.cpp"),
    shares=("/usr/include",),
    stop=("\n}",),
    answers=f'#include "{_HEADER}"',
    header=_CPP_ANSWERS,
    guard=in_main(_MAIN, _DONE),
    names=_names,
    prepare=_precompile,
)
