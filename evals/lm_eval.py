"""Runs our tasks in lm-evaluation-harness: its models and command line, our prompts and sandbox.

``write_task`` writes a task file for the harness that references the functions below:
:func:`documents` returns the prompts, :func:`process_results` scores the answers to one problem in
the sandbox. The harness's own code tasks run programs in the harness's process.

Written for the task format of lm-evaluation-harness 0.4.13 (``custom_dataset``,
``process_results``), which is not imported here.

Limits: problems are scored one at a time, as the harness passes them; the harness has no token
healing; tasks that need one of our decoders (edit sequences) are not supported.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from codegen.core.errors import ConfigError, InputError, SandboxError
from codegen.core.paths import write_atomic
from codegen.core.records import Verdict
from codegen.evals import tasks
from codegen.evals.statistics import default_ks, pass_at_k
from codegen.evals.tasks.exchange import foreign_sample
from codegen.sandbox import Outcome
from codegen.sandbox.verdicts import scored, shared_sandbox

_TEMPLATE = """\
# Written by `codegen eval lm-eval`.
task: {name}
custom_dataset: !function codegen.evals.lm_eval.documents
dataset_kwargs: {arguments}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{reference}}}}"
num_fewshot: 0
generation_kwargs: {generation}
filter_list:
  - name: all
    filter:
      - {{function: take_first_k, k: 1}}
process_results: !function codegen.evals.lm_eval.process_results
metric_list:
  - {{metric: pass@1, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1}}
"""

_METRIC = """\
# Written by `codegen eval code-eval`.
from codegen.adapters.code_eval import CodeEval  # noqa: F401
"""
_GENERATION = {"max_gen_toks": 512, "do_sample": False}  # lm_eval's --gen_kwargs override it


def write_task(
    out: str | Path, benchmark: str, style: str, *, source: str | None = None
) -> tuple[Path, str]:
    """Writes the harness's task file for one of our tasks.

    Args:
        style: name of a built-in prompt style. Chat styles need ``--apply_chat_template``.
        source: source of the task's data instead of the default one.

    Returns:
        The file's path and the task's name in the harness.

    Raises:
        ConfigError: for an unknown task or style, a style that the task does not support, or a task
            that needs one of our decoders.
    """
    if benchmark.startswith(tasks.FILE):
        benchmark = tasks.FILE + str(Path(benchmark.removeprefix(tasks.FILE)).absolute())
    task = _load(benchmark, source)
    if task.decoder:
        raise ConfigError(
            f"The task {benchmark!r} needs the decoder {task.decoder!r}, which the harness does "
            "not have.",
            "Use `codegen eval run`.",
        )
    request = task.request(task.problems()[0], tasks.find_style(style), 0)
    stem = Path(benchmark.removeprefix(tasks.FILE)).stem
    name = "codegen_" + "".join(c if c.isalnum() else "_" for c in stem)
    generation = {
        # The harness's models reject an empty list.
        **({"until": list(request.stop)} if request.stop else {}),
        **_GENERATION,
    }
    text = _TEMPLATE.format(
        name=name,
        arguments=json.dumps({"benchmark": benchmark, "style": style, "source": source}),
        generation=json.dumps(generation),
    )
    return _write(Path(out) / f"{name}.yaml", text), name


def write_code_eval(out: str | Path) -> Path:
    """Writes the metric ``code_eval`` for ``evaluate.load`` in the directory ``out``."""
    return _write(Path(out) / "code_eval" / "code_eval.py", _METRIC)


def _write(path: Path, text: str) -> Path:
    mark = text.partition("\n")[0].encode()
    if path.is_file() and not path.read_bytes().startswith(mark):
        raise InputError(f"{path} was not written by this command.", "Choose another --out.")
    write_atomic(path, text)
    return path


def documents(
    benchmark: str, style: str, source: str | None = None, **_: object
) -> dict[str, Iterable[Any]]:
    """Returns the problems for the harness's ``custom_dataset``; extra arguments are ignored."""
    from datasets import Dataset

    task = _load(benchmark, source)
    asked = tasks.find_style(style)
    rows = [
        {
            "problem_id": problem.id,
            "prompt": task.request(problem, asked, 0).prompt,
            "reference": task.reference(problem),
            "benchmark": benchmark,
            "source": source,
            "style": style,
        }
        for problem in task.problems()
    ]
    return {"test": Dataset.from_list(rows)}


def process_results(document: dict[str, Any], results: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns pass@k of one problem's answers, for the harness's ``process_results``.

    Raises:
        NotScored: if the sandbox failed.
        SandboxError: if the problem's own reference fails here, which makes a score meaningless.
    """
    task = _load(document["benchmark"], document["source"])
    problem = next(p for p in task.problems() if p.id == document["problem_id"])
    if task.needs_preparation:
        task.prepare([problem], shared_sandbox("in_sandbox"))
    programs = [
        task.program(
            problem, foreign_sample(task.name, problem.id, number, document["style"], answer)
        )
        for number, answer in enumerate(results[0])
    ]
    reference = "" if problem.id in task.reference_exceptions else task.reference(problem)

    def run(keys: Sequence[str]) -> Iterator[tuple[str, Verdict | Outcome]]:
        return task.judge(((key, problem, key) for key in keys), shared_sandbox("in_sandbox"))

    # Where the reference passes, tests that fail to run are the program's fault.
    found = scored(run, {reference, *programs} - {""}, unscored=("infra_error",))
    if reference and not found[reference].passed:
        raise SandboxError(
            f"The reference solution of {problem.id} fails here: {found[reference].message}.",
            "See `codegen doctor` and `codegen eval check`.",
        )
    c = sum(bool(program) and found[program].passed for program in programs)
    return {f"pass@{k}": pass_at_k(len(programs), c, k) for k in default_ks(len(programs))}


@functools.cache
def _load(benchmark: str, source: str | None) -> tasks.Task[Any]:
    return tasks.load(benchmark, source)
