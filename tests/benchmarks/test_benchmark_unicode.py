"""The benchmark of UniCode, on small corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from codegen.benchmarks import unicode
from codegen.errors import InputError


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = [("good.py", "def f(x):\n    return x + 1\n"), ("bad.py", "def f(:\n")]
    monkeypatch.setattr(unicode, "_library", lambda: iter(programs))


@pytest.mark.slow
def test_corpora_are_counted_each_on_its_own(library: None, tmp_path: Path) -> None:
    file = tmp_path / "mbpp.jsonl"
    file.write_text(json.dumps({"task_id": 7, "code": "x = [1]\nprint(x[0])\n"}) + "\n")
    figures: dict[str, Any] = dict(unicode.run(mbpp=str(file)))
    assert figures["humaneval_equal"] == figures["mbpp_equal"] == figures["stdlib_equal"] == 1.0
    samples = figures["samples"]
    assert samples["humaneval_equal"] == 164
    assert samples["mbpp_equal"] == samples["stdlib_equal"] == 1
    assert samples["stdlib_not_python"] == {"syntax_error": 1}
    # Module, function, arguments, argument, return, sum, x, +, 1.
    assert samples["stdlib_covered"] >= 7
    assert figures["write_ms"] > 0 and figures["read_ms"] > 0


def test_a_file_that_is_not_mbpp(library: None, tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    for name in ("other.jsonl", "missing.jsonl"):
        with pytest.raises(InputError, match=r"mbpp\.jsonl"):
            unicode.run(True, mbpp=str(tmp_path / name))
    with pytest.raises(InputError, match="braces"):
        unicode.run(True, style="curly")
