"""Edit sequences of programs in other languages than Python."""

from __future__ import annotations

import importlib
import random
import re
from collections.abc import Iterator

import pytest

from codegen.core import languages
from codegen.core.errors import MachineError
from codegen.core.languages import parser_for
from codegen.core.records import Example
from codegen.lintseq import LintSeq, UnsupportedProgram, resolve
from codegen.lintseq.generator import program_of
from codegen.lintseq.languages import LANGUAGES, error_line
from codegen.lintseq.program import normalize, prepare
from codegen.lintseq.resampling import VerifiedSequence, verified_sequences
from codegen.lintseq.verify import check_for
from codegen.sandbox.languages import find, find_toolchain
from tests.lintseq.language_programs import PROGRAMS

NAMES = [grammar.name for grammar in LANGUAGES]


@pytest.fixture(autouse=True, scope="module")
def grammars() -> None:
    for grammar in LANGUAGES:
        pytest.importorskip(languages.LANGUAGES[grammar.name].grammar[0])


def _programs(language: str) -> list[str]:
    return [program for name, program in PROGRAMS if name == language]


def _states(language: str, program: str, seeds: int, verify: str = "static") -> Iterator[str]:
    prepared = prepare(program, language=language)
    jobs = [(prepared, random.Random(seed)) for seed in range(seeds)]
    for result in verified_sequences(jobs, verify):  # type: ignore[arg-type]
        assert isinstance(result, VerifiedSequence), result
        assert result.sequence.program == normalize(program)
        yield from result.sequence.states


@pytest.mark.parametrize("language", NAMES)
@pytest.mark.parametrize("form", ["diff", "anchored", "chat", "pairs"])
def test_round_trip(language: str, form) -> None:
    for program in _programs(language):
        example = Example("a", "Do it.", program, language)
        texts = list(LintSeq(sequences=4, format=form).generate(example, random.Random(1)))
        for number in range(4):
            name = f"a#lintseq-{number}"
            own = [text for text in texts if text.id.partition(".")[0] == name]
            assert program_of(own) == normalize(program)
        assert texts == list(LintSeq(sequences=4, format=form).generate(example, random.Random(1)))


@pytest.mark.parametrize("language", NAMES)
def test_programs_come_in_several_edits_and_parse_after_each(language: str) -> None:
    grammar = next(grammar for grammar in LANGUAGES if grammar.name == language)
    for program in _programs(language):
        states = set(_states(language, program, 20))
        assert len(states) > 10
        for state in states:
            root = parser_for(grammar.name).parse(state.encode()).root_node
            assert not error_line(root), state


def _installed(language: str) -> None:
    """Skips the test where the language's checker is missing."""
    try:
        find_toolchain(find("javascript" if language == "typescript" else language))
        check = check_for("strict", language)
        assert check is not None
        check([""])
    except MachineError as error:
        pytest.skip(str(error).splitlines()[0])


@pytest.mark.parametrize(
    "language",
    [
        name if name == "javascript" else pytest.param(name, marks=pytest.mark.long)
        for name in NAMES
    ],
)
def test_compilers_accept_every_state(language: str) -> None:
    _installed(language)
    check = check_for("strict", language)
    assert check is not None
    for program in _programs(language):
        states = sorted(set(_states(language, program, 4)))
        for state, found in zip(states, check(states), strict=True):
            assert not found, f"{found}\n{state}"
    assert check(["+ * ("])[0]


class _Writer:
    """Random programs, in which each variable has a name of its own, in Go or JavaScript."""

    def __init__(self, language: str, seed: int) -> None:
        self.rng = random.Random(seed)
        self.go = language == "go"
        self.count = 0
        self.lines: list[str] = []

    def block(self, depth: int, known: list[str]) -> None:
        known, tab = list(known), "\t" * depth
        for _ in range(self.rng.randint(1, 4)):
            kind = self.rng.choice(["let", "use", "if", "for", "call"])
            seen = self.rng.choice(known)
            if kind == "let":
                self.count += 1
                name = f"v{self.count}"
                start = f"{name} := {seen} + 1" if self.go else f"const {name} = {seen} + 1;"
                self.lines += [tab + start, f"{tab}use({name}, {seen})"]
                known.append(name)
            elif kind == "if" and depth < 4:
                head = f"if {seen} > 1 {{" if self.go else f"if ({seen} > 1) {{"
                self.lines.append(tab + head)
                self.block(depth + 1, known)
                self.lines.append(tab + "} else {")
                self.block(depth + 1, known)
                self.lines.append(tab + "}")
            elif kind == "for" and depth < 4:
                self.count += 1
                name = f"v{self.count}"
                head = f"for {name} := range {seen} {{"
                self.lines.append(tab + (head if self.go else f"for (const {name} of {seen}) {{"))
                self.lines.append(f"{tab}\tuse({name})")
                self.block(depth + 1, [*known, name])
                self.lines.append(tab + "}")
            else:
                self.lines.append(f"{tab}use({seen}, {self.rng.choice(known)})")

    def program(self) -> str:
        head = "package main" if self.go else "// A program."
        for number in range(3):
            start = f"func f{number}(v0 int) {{" if self.go else f"function f{number}(v0) {{"
            self.lines.append(start)
            self.block(1, ["v0"])
            if number:
                self.lines.append(f"\tf{number - 1}(v0)")
            self.lines.append("}")
        use = "func use(v ...int) {\n}" if self.go else "function use(...v) {\n}"
        return "\n".join([head, "", *self.lines, use, ""])


@pytest.mark.parametrize("language", ["go", "javascript"])
def test_names_of_random_programs_are_declared_and_in_go_used(language: str) -> None:
    """The oracle counts words: names are unique, so no scopes are needed."""
    for seed in range(10):
        program = _Writer(language, seed).program()
        for state in _states(language, program, 3):
            declared = set(re.findall(r"\b(v\d+) :=|const (v\d+) |(f\d+|use)\(.*\{", state))
            names = {name for group in declared for name in group} | {"v0", ""}
            words = re.findall(r"\bv\d+\b|\bf\d+\b|\buse\b", state)
            assert set(words) <= names, state
            assert state.count("{") == state.count("}")
            if language == "go":
                once = {word for word in words if word[0] == "v" and words.count(word) == 1}
                assert not once - {"v0"}, state


@pytest.mark.parametrize(
    ("language", "program", "reason"),
    [
        ("sql", "SELECT 1", "unknown_language"),
        ("go", "", "empty"),
        ("go", "// nothing\n", "comments_only"),
        ("go", "package main\n\nfunc f( {\n", "syntax_error"),
        ("javascript", "let x = '<|diff|>';\n", "contains_marker"),
        ("javascript", "let x = '\0';\n", "null_bytes"),
        ("javascript", "let x = '\ud800';\n", "not_unicode"),
        ("javascript", "(" * 3000 + ")" * 3000, "syntax_error"),
        ("javascript", "x = " + "(" * 3000 + "1" + ")" * 3000, "too_deep"),
    ],
)
def test_reasons(language: str, program: str, reason: str) -> None:
    with pytest.raises(UnsupportedProgram) as caught:
        list(LintSeq().generate(Example("a", "", program, language), random.Random(0)))
    assert caught.value.reason == reason


def test_line_ends_and_letters_of_the_world() -> None:
    program = (
        "const größe = '日本';\r\n\r\n// ünïcode 🎉\r\nfunction f(é) {\r\n  return größe + é;\r\n}"
    )
    states = list(_states("javascript", program, 5))
    assert states[-1] == program.replace("\r\n", "\n") + "\n"
    assert all("größe + é" not in state or "const größe" in state for state in states)


def test_a_long_program_is_read_in_one_piece() -> None:
    program = "".join(f"function f{n}(x) {{\n  return f{n // 2}(x);\n}}\n" for n in range(1, 1500))
    prepared = prepare(program, language="js")
    assert prepared.language == "javascript"
    (result,) = verified_sequences([(prepared, random.Random(0))], "static")
    assert isinstance(result, VerifiedSequence)
    assert result.sequence.program == program


def test_languages_of_one_batch_may_differ() -> None:
    examples = [
        Example("a", "", "x = 1\ny = x\n"),
        *(Example(name, "", _programs(name)[0], name) for name in NAMES),
    ]
    made = LintSeq(audit=0.0).generate_many([(e, random.Random(1)) for e in examples])
    for example, texts in zip(examples, made, strict=True):
        assert isinstance(texts, list)
        assert resolve(texts[0].trained).program == normalize(example.program)
        assert texts == list(LintSeq(audit=0.0).generate(example, random.Random(1)))


def test_a_missing_grammar_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    parser_for.cache_clear()
    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MachineError, match=r"pip install 'codegen-toolkit\[languages\]'"):
        prepare("x", language="go")
