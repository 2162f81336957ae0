"""Rust by rustc, without crates."""

from __future__ import annotations

import re

from .base import Language
from .source import in_main

_ANSWERS = r"""
mod codegen {
    pub trait Text { fn text(&self) -> String; }
    macro_rules! plain { ($($t:ty),*) => { $(impl Text for $t {
        fn text(&self) -> String { format!("{:?}", self) }
    })* } }
    plain!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, bool, char, String, ());
    macro_rules! float { ($($t:ty),*) => { $(impl Text for $t {
        fn text(&self) -> String {
            if *self == 0.0 { String::from("0.0") } else { format!("{:?}", self) }
        }
    })* } }
    float!(f32, f64);
    impl Text for str { fn text(&self) -> String { format!("{:?}", self) } }
    impl<T: Text + ?Sized> Text for &T { fn text(&self) -> String { (**self).text() } }
    fn joined<'a, T: Text + 'a>(items: impl Iterator<Item = &'a T>) -> Vec<String> {
        items.map(|item| item.text()).collect()
    }
    impl<T: Text> Text for Vec<T> {
        fn text(&self) -> String { format!("[{}]", joined(self.iter()).join(",")) }
    }
    impl<T: Text> Text for [T] {
        fn text(&self) -> String { format!("[{}]", joined(self.iter()).join(",")) }
    }
    impl<T: Text, const N: usize> Text for [T; N] {
        fn text(&self) -> String { format!("[{}]", joined(self.iter()).join(",")) }
    }
    impl<T: Text> Text for Option<T> {
        fn text(&self) -> String {
            self.as_ref().map_or(String::from("None"), |v| format!("Some({})", v.text()))
        }
    }
    impl<T: Text, E: Text> Text for Result<T, E> {
        fn text(&self) -> String {
            match self {
                Ok(v) => format!("Ok({})", v.text()),
                Err(e) => format!("Err({})", e.text()),
            }
        }
    }
    impl<K: Text, V: Text> Text for std::collections::HashMap<K, V> {
        fn text(&self) -> String {
            let mut parts: Vec<String> =
                self.iter().map(|(k, v)| format!("{}:{}", k.text(), v.text())).collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
    }
    impl<T: Text> Text for std::collections::HashSet<T> {
        fn text(&self) -> String {
            let mut parts = joined(self.iter());
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
    }
    macro_rules! tuple { ($($n:ident),+) => { impl<$($n: Text),+> Text for ($($n,)+) {
        #[allow(non_snake_case)]
        fn text(&self) -> String {
            let ($($n,)+) = self;
            format!("({})", [$($n.text()),+].join(","))
        }
    } } }
    tuple!(A); tuple!(A, B); tuple!(A, B, C); tuple!(A, B, C, D); tuple!(A, B, C, D, E);
    pub fn answer<T: Text>(value: T) {
        use std::io::Write;
        let mut file =
            std::fs::OpenOptions::new().create(true).append(true).open(".answers").unwrap();
        writeln!(file, "{}", value.text()).unwrap();
    }
}
#[allow(unused_imports)]
use codegen::answer as codegen_answer;
"""

_MAIN = r"\bfn\s+main\s*\(\s*\)\s*\{"
_DONE = 'std::fs::write(".answers", std::env::var("CODEGEN_TOKEN").unwrap()).unwrap();'
_TEST = re.compile(r"#\[test\]((?:\s*#\[[^\]]{0,200}\]){0,9})\s*(?:pub\s+)?fn\s+(\w+)\s*\(\s*\)")
_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:pub\s+)?mod\s+(\w+)")


def _guard(text: str) -> str:
    """The functions of a module of tests are called by ``main``, one after another."""
    module = _MODULE.search(text)
    tests = [found[2] for found in _TEST.finditer(text)]
    if not tests:
        return in_main(_MAIN, _DONE)(text)
    text = _TEST.sub(r"\1 pub fn codegen_\2()", text)
    prefix = f"{module[1]}::" if module else ""
    text = _MODULE.sub(r"mod \1", text)
    text = re.sub(_MAIN, "fn codegen_replaced() {", text)
    calls = "".join(f"{prefix}codegen_{name}(); " for name in tests)
    return f"{text}\nfn main() {{ {calls}{_DONE} }}\n"


_RUSTC = ("{rustc}", "--edition", "2021", "--cap-lints", "allow")
RUST = Language(
    name="rust",
    title="Rust",
    aliases=("rs",),
    file="main.rs",
    tools=("rustc",),
    install="rustc",
    root=("--print", "sysroot"),
    version=("{rustc}", "--version"),
    compile=(
        (
            *_RUSTC,
            *("-C", "debuginfo=0", "-C", "strip=symbols", "-C", "linker=/usr/bin/gcc"),
            *("-o", "main", "main.rs"),
        ),
    ),
    keep=("main",),
    run=("/tmp/main",),
    check=(*_RUSTC, "--emit=metadata", "-o", "main.rmeta", "main.rs"),
    environment={"LD_LIBRARY_PATH": "{rustc.home}/lib"},
    stop=("\n}",),
    answers=_ANSWERS,
    answers_last=True,
    guard=_guard,
)
