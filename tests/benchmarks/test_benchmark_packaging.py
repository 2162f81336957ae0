"""The benchmarks are reached by a link from a checkout."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_folder_is_reached_by_a_link_and_leaves_its_bare_name_to_others() -> None:
    link = ROOT / "codegen" / "benchmarks"
    assert link.is_symlink() and link.readlink() == Path("..", "benchmarks")
    assert not (ROOT / "benchmarks" / "__init__.py").exists()
