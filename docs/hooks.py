"""Part of the site's build (mkdocs.yml)."""

import logging
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREE = ROOT / "build" / "docs"  # where mkdocstrings looks for packages


def on_startup(**_: object) -> None:
    """Copies the package, without the links and with the ``__init__.py`` that the reader wants."""
    shutil.rmtree(TREE, ignore_errors=True)
    shutil.copytree(ROOT / "codegen", TREE / "codegen", ignore=_not_python)
    for name in ("evals", "kernels"):
        (TREE / "codegen" / name / "__init__.py").touch()
    for name in ("", "._internal.plugin"):
        logging.getLogger(f"mkdocs.plugins.mkdocs_autorefs{name}").addFilter(_is_reference)


def _not_python(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if not n.endswith(".py") and not Path(folder, n).is_dir()]


def _is_reference(record: logging.LogRecord) -> bool:
    return "target ':" not in record.getMessage()  # hub:org/name[:config][:split]
