"""How much UniCode covers, and how the rest is embedded."""

from __future__ import annotations

import ast
import random
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks.unicode import measure
from codegen.methods.unicode import STYLES, to_python
from codegen.methods.unicode.source import gather
from codegen.methods.unicode.write_statements import StatementWriter


def test_human_eval_is_covered_whole(humaneval_rows: list[dict[str, Any]]) -> None:
    programs = [(r["task_id"], r["prompt"] + r["canonical_solution"]) for r in humaneval_rows]
    found = measure(programs)
    assert found.programs == 164
    assert found.unequal == ()
    assert found.uncovered == {}
    assert found.covered_rate == 1.0
    assert measure(programs, STYLES["indent"], annotations="needed").unequal == ()


@pytest.mark.long
def test_stdlib_sample_is_covered() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    paths = sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)
    sample = random.Random(1).sample(paths, 30)
    programs = [(str(p), p.read_text(encoding="utf-8", errors="replace")) for p in sample]
    found = measure(programs)
    assert found.programs > 25
    assert set(found.skipped) <= {"syntax_error", "null_bytes"}
    assert found.unequal == ()
    assert found.covered_rate >= 0.999


def test_skipped_programs_are_named() -> None:
    found = measure([("good", "x = 1"), ("bad", "x ="), ("worse", "def")])
    assert found.programs == 1
    assert found.skipped == {"syntax_error": ("bad", "worse")}
    assert found.nodes == 4  # module, assignment, name, constant


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_what_has_no_form_is_embedded_counted_and_comes_back(style: Any) -> None:
    """A newer Python's node types, played by old ones that the writer is made to forget."""
    program = "if a:\n    while b[c]: d\n    x = e[f + 1] * 2\n    y[0]\n"
    tree = ast.parse(program)
    writer = StatementWriter(style, gather(tree))
    del writer._writers[ast.Subscript]
    del writer._statements[ast.While]
    writer.module(tree)
    text = "\n".join(writer.lines)
    assert text.lower().count("verbatim(") == 3
    # While, b, c, the index, the statement d and its name; e[f + 1]: 5 nodes; y[0]: 3.
    assert writer.uncovered == {"While": 6, "Subscript": 8}
    assert ast.dump(ast.parse(to_python(text))) == ast.dump(tree)
