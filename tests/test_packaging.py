"""The packages at the root share one import name (see CONTRIBUTING.md)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.processes import python, run

ROOT = Path(__file__).parents[1]
ROOTED = ("lintseq", "decoding", "cogex", "sqlnet", "evals", "kernels")


@pytest.mark.parametrize("name", ROOTED)
def test_packages_at_the_root_are_reached_by_links(name: str) -> None:
    link = ROOT / "codegen" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..", name)


def test_two_packages_leave_their_bare_names_to_others() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert not (ROOT / "evals" / "__init__.py").exists()


@pytest.mark.long
def test_transformers_works_from_the_root_beside_hugging_faces_kernels(tmp_path: Path) -> None:
    """Python run from the root has our kernels/ on its path; an installed `kernels` must win."""
    package = tmp_path / "kernels"
    package.mkdir()
    (package / "__init__.py").touch()  # for machines without it; our folder has no such file
    script = (
        f"import sys; sys.path.append({str(tmp_path)!r})\n"
        "import kernels; assert kernels.__file__\n"
        "from transformers import LlamaForCausalLM\n"
        "import codegen.evals.statistics, codegen.kernels\n"
    )
    done = python(script, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_is_light() -> None:
    script = (
        "import sys, codegen, codegen.core.records, codegen.generation\n"
        "heavy = {'torch', 'transformers', 'numpy', 'rich', 'datasets'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = python(script)
    assert done.returncode == 0, done.stderr


def test_the_versions_agree() -> None:
    import tomllib
    from importlib.metadata import version

    from codegen import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == __version__ == version("codegen-toolkit")
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


PEERS = {
    "verifiers==0.4.0": ("models", "rl", "serve"),
    "nemo-gym==0.7.0": ("models", "rl", "serve"),
    "verl==0.9.1": ("mcp", "serve"),  # needs an older transformers
    "inspect-ai==0.3.285": ("mcp", "models", "rl", "serve"),
    "evaluate==0.4.6": ("mcp", "models", "rl", "serve"),
    "lm_eval==0.4.13": ("mcp", "models", "rl", "serve"),
    "openenv==0.10.0": ("models", "rl", "serve"),
    "harbor==0.26.0": ("mcp", "models", "rl", "serve"),
}


@pytest.mark.long
@pytest.mark.parametrize("peer", PEERS)
def test_it_can_be_installed_with(peer: str, tmp_path: Path) -> None:
    if not (uv := shutil.which("uv")):
        pytest.skip("uv is not installed")
    (tmp_path / "peer.in").write_text(peer)
    python = "3.13.14" if peer.startswith("nemo") else "3.12"
    command = [uv, "pip", "compile", "-q", "--python-version", python, "pyproject.toml"]
    for extra in ("", *PEERS[peer]):
        chosen = ["--extra", extra] if extra else []
        done = run(*command, tmp_path / "peer.in", *chosen, cwd=ROOT)
        assert done.returncode == 0, f"{peer} and {extra or 'the base package'}: {done.stderr}"
