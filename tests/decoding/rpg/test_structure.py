"""The structure tracker against ``tokenize``, against itself cut in other ways, and on samples."""

from __future__ import annotations

import io
import keyword
import random
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen.core.errors import ConfigError
from codegen.decoding.rpg.languages import LANGUAGES, PYTHON, LexerSpec, find_language
from codegen.decoding.rpg.structure import Signature, StructureTracker, StructureUnit

SAMPLES = yaml.safe_load((Path(__file__).parents[2] / "programs/rpg_samples.yaml").read_text())


def tokenized(text: str) -> list[tuple[object, ...]]:
    """Signatures of a valid Python program from the standard library's own tokens."""
    found: list[tuple[object, ...]] = []
    symbols: list[object] = []
    around: list[list[object]] = []  # the symbols before each open bracket
    start = before = 0
    code_line = -1
    groups = {")": b"()", "]": b"[]", "}": b"{}"}

    def end(indented: bool) -> None:
        nonlocal symbols, before
        if symbols:
            found.append((start - before, *symbols) if indented else tuple(symbols))
            before = start if indented else before
        symbols = []

    for token in _tokens(text):
        margin = token.line[: token.start[1]]
        if token.type == tokenize.COMMENT:
            if not around and not margin.strip() and code_line != token.start[0]:
                start = len(margin.expandtabs(8))
                symbols.append(b"CMT")
                end(True)
        elif token.type == tokenize.NEWLINE:
            end(True)
        elif token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP):
            code_line = token.end[0]
            if not around and not symbols and not margin.strip():
                start = len(margin.expandtabs(8))
            if token.string in ("(", "[", "{"):
                around.append(symbols)
                symbols = []
            elif token.string in groups:
                symbols = [*around.pop(), groups[token.string]]
            elif token.string == "," and around:
                end(False)
            elif token.string == ";" and not around:
                end(True)
            elif token.type == tokenize.NAME:
                known = keyword.iskeyword(token.string)
                symbols.append(token.string.encode() if known else b"NAME")
            elif token.type == tokenize.OP:
                symbols.append(token.string.encode())
            else:
                symbols.append(b"NUM" if token.type == tokenize.NUMBER else b"STR")
    return found


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """The program's tokens; an f-string is one, as it was before Python 3.12."""
    opens, closes = (getattr(tokenize, f"FSTRING_{end}", None) for end in ("START", "END"))
    depth = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        depth += token.type == opens
        if not depth:
            yield token
        elif depth == 1 and token.type == closes:
            yield token._replace(type=tokenize.STRING)
        depth -= token.type == closes


def comparable(signature: tuple[object, ...]) -> tuple[object, ...]:
    """``..`` of a relative import is one symbol to the tracker; long signatures are folded."""
    symbols: list[object] = []
    for symbol in signature[:40]:
        symbols += [b"."] * len(symbol) if symbol in (b"..", b"...") else [symbol]
    return tuple(symbols[:40])


def library(count: int) -> list[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    random.Random(5).shuffle(paths)
    return paths[:count]


@pytest.mark.slow
def signatures(text: str, language: LexerSpec) -> list[Signature]:
    """Of a text's items, in the order in which they end."""
    found: list[Signature] = []
    tracker = StructureTracker(language, on_item=lambda item: found.append(item.signature))
    tracker.feed(text.encode() + b"\n")
    return found


def test_python_signatures_are_those_of_tokenize() -> None:
    compared = 0
    for path in library(40):
        try:
            text = path.read_bytes().decode("utf-8").replace("\r\n", "\n")
            compile(text, str(path), "exec", dont_inherit=True)
            expected = [comparable(one) for one in tokenized(text)]
        except (UnicodeDecodeError, SyntaxError, ValueError, tokenize.TokenError):
            continue  # lib2to3's tests hold files that are no Python
        assert [comparable(one) for one in signatures(text, PYTHON)] == expected, path
        compared += len(expected)
    assert compared > 5000


def items(text: bytes, language: LexerSpec, cuts: list[int]) -> list[StructureUnit]:
    found: list[StructureUnit] = []
    tracker = StructureTracker(language, on_item=found.append)
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        tracker.feed(text[start:end])
    tracker.feed(b"\n")
    return found


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_items_do_not_depend_on_how_the_text_is_cut(
    language: LexerSpec, data: st.DataObject
) -> None:
    sample = SAMPLES[language.name].encode()
    start = data.draw(st.integers(0, len(sample) - 1))
    text = sample[start:] + sample[: data.draw(st.integers(0, len(sample)))]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=40)))
    expected = items(text, language, [])
    assert items(text, language, cuts) == expected
    assert items(text, language, list(range(1, len(text)))) == expected


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.name)
@given(
    pieces=st.lists(
        st.sampled_from(
            [
                "'",
                '"',
                '"""',
                "'''",
                "`",
                "```",
                "\\",
                "\n",
                "\r\n",
                "#",
                "//",
                "/*",
                "*/",
                "(",
                ")",
                "[",
                "]",
                "{",
                "}",
                ",",
                ";",
                "/",
                "r#",
                'R"(',
                "é",
                "0x",
                "1e",
                ".",
                "..",
                "=",
                "def ",
                "return",
                "if",
                "x",
                " ",
                "\t",
                "'a",
                "\x00",
            ]
        ),
        max_size=30,
    ),
    cuts=st.integers(0, 2**32),
)
@settings(max_examples=80, deadline=None)
def test_any_text_is_taken_and_cut_anywhere(
    language: LexerSpec, pieces: list[str], cuts: int
) -> None:
    text = "".join(pieces).encode()
    places = [i for i in range(1, len(text)) if cuts >> (i % 32) & 1]
    assert items(text, language, places) == items(text, language, [])


def spell(text: str, language: str) -> list[str]:
    return [
        " ".join(s.decode() if isinstance(s, bytes) else str(s) for s in signature)
        for signature in signatures(text, find_language(language))
    ]


def test_signatures_of_braces() -> None:
    assert spell(SAMPLES["javascript"], "js")[:9] == [
        "NAME : NUM", "NUM",  # elements that a comma ends, the inner bracket's too
        "const NAME = {}",
        "export function NAME () {",
        "if () {", "return NAME ?? NAME ?. NAME", "}",
        "else {", "NAME",
    ]  # fmt: skip
    assert spell("if (a) { x(); } else if (b) { y = 1; }\n", "c++") == [
        "if () {", "NAME ()", "}", "else if () {", "NAME = NUM", "}",
    ]  # fmt: skip
    assert spell("x := []int{1, 2}\nfor _, a := range x {\n\tf(a)\n}\n", "go") == [
        "NUM", "NAME := [] NAME {}", "for NAME , NAME := range NAME {", "NAME ()", "}",
    ]  # fmt: skip
    assert spell('import (\n\t"fmt"\n\t"os"\n)\n', "go") == ["STR", "STR", "import ()"]
    assert spell("match a { B => c, D(e) => { f() } }\n", "rust") == [
        "match NAME {", "NAME => NAME ,", "NAME () => {", "NAME ()", "}", "}",
    ]  # fmt: skip
    assert spell("fn f<'a>(x: &'a str) { g('b', r#\"c\"#) }\n", "rust")[0] == ("fn NAME < ' > () {")


def repeats(text: str, language: str = "python") -> tuple[int, int, tuple[bytes, ...]] | None:
    tracker = StructureTracker(find_language(language))
    tracker.feed(text.encode())
    found = tracker.repetition()
    return (found.square.period, found.square.copies, found.anchors) if found else None


def test_repetitions_are_seen_where_a_copy_would_begin() -> None:
    chain = "if a == 1:\n    b = 1\n" + "elif a == 2:\n    b = 2\n" * 3
    assert repeats(chain) == (2, 3, (b"elif",))
    assert repeats(chain + "elif a == 3:\n") is None, "a body begins no copy"
    assert repeats(chain + "elif") is None, "a copy has begun"
    assert repeats("x = 1\ny = 2\n") == (1, 2, (b"y", b"x"))
    assert repeats("f(1)\n" * 3 + "  ") is None, "indented otherwise"
    assert repeats("a = [f(1), f(2), f(3), ") == (1, 3, (b"f",))
    assert repeats("a = [f(1), f(2), f(3)") is None
    assert repeats('a = "x, x, x, ') is None, "inside a string"
    assert repeats("  g();\n" * 4, "java") == (1, 4, (b"g",))


def counted(text: str, language: str = "python") -> float:
    tracker = StructureTracker(find_language(language))
    tracker.feed(text.encode())
    found = tracker.repetition()
    assert found
    return tracker.weight(found.square)


def each(form: str, values: Sequence[object]) -> str:
    return "".join(form.replace("?", str(value)) for value in values)


NAMES = ("one", "two", "three", "four", "five")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("f(x)\n" * 4, 4.0),
        (each("f(x?)\n", range(5)), 1 + 0.25 + 3),  # a step is known from the second on
        (each("f(x?)\n", [3, 5, 4, 9, 1]), 1 + 4 * 0.25),
        (each("f('?')\n", "abcde"), 1 + 0.25 + 3),
        (each("f(?)\n", NAMES), 1.0),
        (each("f(?)\n", [f"{n}, {i}" for i, n in enumerate(NAMES)]), 1 + 3 * 0.5),
        (each("f(?)\n", [*[7] * 4, "one"]), 1 + 3 / 2),  # what says something new halves
        ("a = [" + each("?, ", range(5)), 1 + 3 * 0.25),
        ("a = [" + each("?, ", [3, 5, 4, 9, 1]), 1.0),
        ("a = [" + "0, " * 5, 1 + 4 * 0.5),
        ("a = {" + each("'key?': 'v?', ", range(5)), 1 + 0.125 + 3 * 0.5),
        (each("def get_?(self):\n    return self.?\n", NAMES), 1 + 3 * 0.5),  # a block
        (each("def ?(): ...\n", NAMES), 1.0),  # of which one statement says nothing
        ("f(x)\n" * 40, 40.0),  # more copies than are looked at
        (each("def get_?(self):\n    return self.?\n", NAMES * 8), 1 + 38 * 0.5),
    ],
)
def test_a_copy_counts_by_how_little_it_says(text: str, expected: float) -> None:
    assert counted(text) == pytest.approx(expected)


def test_languages_by_name() -> None:
    assert find_language("TS").name == "javascript"
    with pytest.raises(ConfigError, match="python, javascript, java, go, cpp, rust"):
        find_language("cobol")
