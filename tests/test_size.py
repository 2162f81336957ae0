"""The size of the project stays within its budgets, and CONTRIBUTING.md has it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from size import BUDGETS, MARKS, ROOT, code_lines, measure

if subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True).returncode:
    pytest.skip("not a git checkout", allow_module_level=True)


def test_docstrings_comments_and_blank_lines_are_not_counted() -> None:
    source = '"""Module.\n\nMore."""\n\n# comment\nx = """a\n\nb"""\n\n'
    source += 'def f():\n    "One."\n    return 1\n'
    assert code_lines(source) == 3 + 2  # a string that is a value counts with each of its lines


@pytest.mark.slow
def test_the_budgets_hold_and_the_table_is_current() -> None:
    found = measure().totals
    over = {name: count for name, count in found.items() if count > BUDGETS[name]}
    assert not over, f"{over} against {BUDGETS}; a new part pays for its lines by what it replaces"
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = text.split(MARKS[0])[1].split(MARKS[1])[0]
    for name, count in found.items():
        row = re.search(rf"^\| {re.escape(name)} \| ([\d,]+) \|", shown, re.MULTILINE)
        assert row, f"CONTRIBUTING.md has no row {name!r}: run python tests/size.py --write"
        told = int(row[1].replace(",", ""))
        assert abs(told - count) <= 0.03 * count + 2, f"{name}: run python tests/size.py --write"
