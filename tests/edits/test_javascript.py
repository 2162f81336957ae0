"""Refactorings of JavaScript and TypeScript, judged by running the programs and by compilers."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from codegen.core.errors import MachineError
from codegen.edits.refactorings import refactored
from codegen.edits.sessions import apply
from codegen.lintseq.verify import check_for, new_findings

pytest.importorskip("tree_sitter_javascript", reason="pip install 'codegen-toolkit[languages]'")
pytest.importorskip("tree_sitter_typescript", reason="pip install 'codegen-toolkit[languages]'")

from codegen.edits.javascript import REFACTORINGS, script_of

FOLDER = Path(__file__).parents[1] / "programs"
# Names that mean several things; what it prints must not depend on them.
PROGRAM = (FOLDER / "refactorings.js").read_text(encoding="utf-8")
TYPED = (FOLDER / "refactorings.ts").read_text(encoding="utf-8")
PROGRAMS = {"javascript": PROGRAM, "typescript": TYPED}


def pairs(language: str, seeds: int = 60) -> dict[tuple[str, str], str]:
    """All programs before and after, with the kind."""
    program = script_of(PROGRAMS[language], language)
    assert program
    found = {}
    for kind, seed in itertools.product(REFACTORINGS, range(seeds)):
        if made := refactored(program, kind, random.Random(seed)):
            lines, hunks = made
            after = "".join(apply(lines, sorted(hunks)))
            found["".join(lines), after] = kind
    return found


@pytest.mark.long
def test_a_renamed_program_does_the_same() -> None:
    """Run by Node; and a parameter, field or import that is brought back gives the program."""
    from codegen.sandbox import Sandbox
    from codegen.sandbox import ScriptJob as Run

    texts = [PROGRAM]
    for (before, after), kind in pairs("javascript").items():
        if kind in ("rename", "signature"):
            assert before == PROGRAM
            texts.append(after)
        elif kind in ("parameter", "field", "import"):
            assert after == PROGRAM != before
    assert len(texts) > 25
    try:
        with Sandbox(workers=1, languages=["javascript"]) as sandbox:
            outputs = {sandbox.run(Run(text, language="javascript")).stdout for text in texts}
    except MachineError as error:
        pytest.skip(error.message)
    (output,) = outputs
    assert output.startswith('[{"product":6,"size":13},') and output.endswith("]\n/\n")


@pytest.mark.slow
@pytest.mark.parametrize("language", PROGRAMS)
def test_compilers_find_nothing_new(language: str) -> None:
    try:
        check = check_for("strict", language)
        assert check
        found = pairs(language)
        kinds = set(found.values())
        assert kinds == set(REFACTORINGS)
        texts = [text for pair in found for text in pair]
        findings = check(texts)
    except MachineError as error:
        pytest.skip(error.message)
    assert len(texts) > 40
    assert not check([PROGRAMS[language]])[0]
    for before, after in zip(findings[::2], findings[1::2], strict=True):
        assert not new_findings(after, before)


def hunks_of(text: str, kind: str, language: str = "javascript") -> set[str]:
    """What a kind does to a program, line by line."""
    found: set[str] = set()
    program = script_of(text, language)
    if program is None:
        return found
    for seed in range(40):
        if made := refactored(program, kind, random.Random(seed)):
            lines, hunks = made
            found.add(
                " | ".join(
                    "".join(lines[h.start : h.end]).strip() + " -> " + "".join(h.new).strip()
                    for h in hunks
                )
            )
    return found


def test_what_refactorings_do() -> None:
    calls = "function f(a, b) {\n  return a;\n}\nf(1, 2);\n"
    assert hunks_of(calls, "parameter") == {
        "function f(b) { -> function f(a, b) { | f(2); -> f(1, 2);",
        "function f(a) { -> function f(a, b) { | f(1); -> f(1, 2);",
    }
    kept = "class A {\n  constructor(a, b) {\n    this.a = a;\n    use(b);\n  }\n}\n"
    assert hunks_of(kept, "field") == {"constructor(b) { -> constructor(a, b) { |  -> this.a = a;"}
    imports = 'import { a } from "m";\n\nfunction f() {\n  a();\n  return 1;\n}\n'
    row = 'a(); ->  | import { a } from "m"; ->'
    assert {found.strip() for found in hunks_of(imports, "deletion")} == {row}
    assert hunks_of(imports, "import") == {' -> a(); |  -> import { a } from "m";'}
    numbers = "function f(x) {\n  if (x > 40) return 4;\n  return 40;\n}\n"
    assert hunks_of(numbers, "literal") == {
        f"if (x > 40) return 4; -> if (x > {n}) return 4; | return 40; -> return {n};"
        for n in (80, 41, 50, 400)
    }


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("rename", "function f() {\n  const a1 = 1;\n  return { a1 };\n}\n"),  # a property's name
        ("rename", "function f({ a1 }) {\n  return a1;\n}\n"),
        ("rename", "function f(a1) {\n  return eval('a1') + \\n a1;\n}\n"),
        ("rename", "const a1 = 1;\nuse(a1);\n"),  # of the module
        ("signature", "export function f1() {\n  return 1;\n}\nf1();\n"),  # used elsewhere
        ("signature", "function f1() {\n  return 1;\n}\nf1();\nexport { f1 };\n"),
        ("parameter", "function f1(a) {\n  return 1;\n}\nf1(1);\ng(f1);\n"),  # not only called
        ("parameter", "function f1(a, b) {\n  return 1;\n}\nf1(1);\nf1(1, 2);\n"),
        ("parameter", "function f1(a, ...b) {\n  return 1;\n}\nf1(1, 2);\n"),
        ("literal", "function f() {\n  a['some'];\n  b['some'];\n}\ng('some');\n"),
        ("deletion", 'import { a, b } from "m";\n\nfunction f() {\n  a();\n  b();\n}\n'),
        ("deletion", 'import { a } from "m";\n\nfunction f() {\n  const c = a();\n  use(c);\n}\n'),
    ],
)
def test_what_is_not_refactored(kind: str, text: str) -> None:
    assert not hunks_of(text, kind)


def test_members_named_by_a_parameter_keep_their_name() -> None:
    text = "class A {\n  constructor(private size: number) {\n    use(size);\n  }\n}\n"
    assert not hunks_of(text, "rename", "typescript")
    assert hunks_of(text.replace("private ", ""), "rename", "typescript")
