"""Hooks of the site build (mkdocs.yml). ``python docs/hooks.py`` writes ``docs/numbers.md``."""

import logging
import shutil
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
SHIM = "https://unpkg.com/iframe-worker/shim"
TREE = ROOT / "build" / "docs"  # where mkdocstrings looks for packages


def on_startup(**_: object) -> None:
    """Copies the package, without links but with the ``__init__.py`` that mkdocstrings needs."""
    shutil.rmtree(TREE, ignore_errors=True)
    shutil.copytree(ROOT / "codegen", TREE / "codegen", ignore=_not_python)
    for name in ("evals", "kernels"):
        (TREE / "codegen" / name / "__init__.py").touch()
    for name in ("", "._internal.plugin"):
        logging.getLogger(f"mkdocs.plugins.mkdocs_autorefs{name}").addFilter(_is_reference)


def on_post_page(output: str, page: Any, **_: object) -> str:
    """Loads the search script from the site itself."""
    assert SHIM in output
    return output.replace(SHIM, "../" * page.url.count("/") + "iframe-worker.js")


def on_post_template(output_content: str, **_: object) -> str:
    """Does the same for the 404 page."""
    return output_content.replace(SHIM, "iframe-worker.js")


def _not_python(folder: str, names: list[str]) -> list[str]:
    return [n for n in names if not n.endswith(".py") and not Path(folder, n).is_dir()]


def _is_reference(record: logging.LogRecord) -> bool:
    return "target ':" not in record.getMessage()  # hub:org/name[:config][:split]


_INTRODUCTION = """\
# Numbers

Headline results of the README and the pages, each with the command that prints it, the
machine and the date. Intervals are 95% intervals. Sample sizes and conditions are on the page that
a table links to. *EPYC* and *Xeon* are two shared cores of an AMD EPYC and an Intel Xeon with
AMX; *any*: the machine does not matter. `python docs/hooks.py` makes this page from
`docs/results/numbers.yaml`."""


def numbers() -> str:
    """Returns the page ``numbers.md``, made of ``results/numbers.yaml``."""
    known = yaml.safe_load((ROOT / "docs" / "results" / "numbers.yaml").read_text())
    lines = [_INTRODUCTION]
    pages = dict.fromkeys(figure["page"] for figure in known["figures"])
    for page in pages:
        title = (ROOT / "docs" / page).read_text().partition("\n")[0].removeprefix("# ")
        lines += ["", f"## {title}", "", f"From [{page}]({page}).", ""]
        lines += ["| result | value | command | machine | date |", "|---|---|---|---|---|"]
        for one in known["figures"]:
            if one["page"] == page:
                cells = one["figure"].strip("| ").replace("**", "").split("|")
                labelled = one["figure"].startswith("|")  # a whole row: its first cell is a label
                value = " / ".join(cell.strip() for cell in cells[labelled:])
                where = known["machines"][one["machine"]]
                what = one["what"] + (" (README)" if "readme" in one else "")
                lines.append(f"| {what} | {value} | `{one['command']}` | {where} | {one['date']} |")
    lines += [
        "",
        "## Measured earlier",
        "",
        "Measured by scripts that were removed after commit 426ce475 or the named one.",
    ]
    lines += ["", "| result | value | command | machine | date |", "|---|---|---|---|---|"]
    for one in known["earlier"]:
        where = known["machines"][one["machine"]]
        cells = (one["what"], one["figure"], f"`{one['command']}`", where, str(one["date"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "numbers.md").write_text(numbers())
