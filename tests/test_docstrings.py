"""Every name that a package exports has a docstring; elsewhere one must say more than the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def packages() -> list[Path]:
    roots = [ROOT / name for name in ("cogex", "decoding", "evals", "kernels", "lintseq", "sqlnet")]
    found = [file for root in [ROOT / "codegen", *roots] for file in root.rglob("__init__.py")]
    return sorted(file for file in found if not any(p.is_symlink() for p in file.parents))


def exported(package: Path) -> Iterator[tuple[Path, str]]:
    """The names that an ``__init__.py`` imports from its modules, with their files."""
    for node in ast.walk(ast.parse(package.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("codegen."):
            parts = (node.module or "").split(".")[1:]
            base = ROOT / "codegen" / Path(*parts)
            file = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base
            if file.is_file() and base.resolve().parent == package.resolve().parent:
                yield from ((file, alias.name) for alias in node.names)


def undocumented(file: Path, name: str) -> Iterator[str]:
    """The definition of a name, and the methods and properties of a class, that lack docstrings."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, _NAMED) or node.name != name or name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{file.relative_to(ROOT)}:{node.lineno} {name}"
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if (
                    isinstance(member, _NAMED)
                    and not member.name.startswith("_")
                    and ast.get_docstring(member) is None
                ):
                    yield f"{file.relative_to(ROOT)}:{member.lineno} {name}.{member.name}"


@pytest.mark.parametrize("package", packages(), ids=lambda file: str(file.relative_to(ROOT)))
def test_exported_names_have_docstrings(package: Path) -> None:
    assert [gap for file, name in exported(package) for gap in undocumented(file, name)] == []


def module_references() -> Iterator[tuple[str, Path]]:
    """References to modules in docstrings, and the path that each must have."""
    for file in ROOT.rglob("*.py"):
        top, *_ = parts = file.relative_to(ROOT).parts
        if (
            top.startswith(".")
            or top in ("build", "tests")
            or any(p.is_symlink() for p in file.parents)
        ):
            continue
        for reference in re.findall(r":mod:`~?([\w.]+)`", file.read_text(encoding="utf-8")):
            dots = len(reference) - len(reference.lstrip("."))
            names = reference.lstrip(".").split(".")
            if dots:
                yield f"{'/'.join(parts)}: {reference}", file.parents[dots - 1].joinpath(*names)
            elif names[0] == "codegen":
                yield f"{'/'.join(parts)}: {reference}", ROOT.joinpath(*names)


def test_modules_that_docstrings_name_exist() -> None:
    found = list(module_references())
    assert len(found) > 100
    assert [
        at for at, path in found if not (path.is_dir() or path.with_suffix(".py").is_file())
    ] == []
