"""inspect_ai (0.3): a sandbox provider, a scorer, and our runs as logs.

- ``sandbox="codegen"`` in a task: tools and solvers run commands in this sandbox, without Docker. A
  sample's files are kept between commands as an archive that only the sandbox opens; processes end
  with the command that started them. There is no network.
- :func:`tests_pass`: a scorer with tests that the program cannot access. A sample's ``metadata``
  has the columns of custom tasks (:mod:`codegen.evals.tasks.custom`): ``tests``, or ``calls`` and
  ``expected``, or ``stdin`` and ``stdout``.
- :func:`write_log`: writes a scored run of ``codegen eval`` as a log for ``inspect view``.

The entry point ``inspect_ai`` registers the provider when both packages are installed.
"""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, overload

import anyio
from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    write_eval_log,
)
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import (
    CORRECT,
    INCORRECT,
    NOANSWER,
    Score,
    Scorer,
    Target,
    accuracy,
    scorer,
    stderr,
)
from inspect_ai.solver import TaskState
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
    sandboxenv,
)

from codegen.adapters import judge_rows, read_problem
from codegen.core.errors import InputError
from codegen.core.records import UNJUDGED, Verdict, read_jsonl
from codegen.evals.run import SAMPLES, SCORED, VERDICTS
from codegen.evals.scoring import read_score
from codegen.evals.tasks.exchange import read_samples
from codegen.sandbox import Limits, Outcome, ScriptJob
from codegen.sandbox.verdicts import run_jobs

_CPU_S = 60.0
_MEMORY_MIB = 2048
_FILE_MIB = 256
_STATE, _ANSWER, _CONTENT, _ORDER, _INPUT = "state.tgz", "answer", "content", "order", "input"

# Runs in the sandbox: unpacks the sample's files, runs the command, and packs them.
_DO = """
import json, os, shutil, signal, subprocess, sys, tarfile
order = json.load(open("order"))
ours = {*os.listdir("."), "content", "answer", "state.tgz"}
home = os.path.abspath("work")
os.makedirs(home, exist_ok=True)
if os.path.exists("state.tgz"):
    with tarfile.open("state.tgz") as archive:
        archive.extractall(".", filter="fully_trusted")
path = os.path.join(home, order["path"])
answer = {"done": True}
try:
    if order["do"] == "write":
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copyfile("input", path)
    elif order["do"] == "read":
        shutil.copyfile(path, "content")
    else:
        process = subprocess.Popen(
            order["cmd"], cwd=path, env={**os.environ, **order["env"]}, start_new_session=True,
            stdin=open("input", "rb"),
        )
        try:
            answer["code"] = process.wait(order["timeout"])
        except subprocess.TimeoutExpired:
            answer["error"] = "TimeoutError"
            process.kill()
except OSError as error:
    answer["error"], answer["message"] = type(error).__name__, str(error)
def kept(entry):
    if entry.name in ours or not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        return None
    if not entry.issym():  # the archive keeps the mode of a file that may not be read
        os.chmod(entry.name, entry.mode | 0o700)
    return entry
if order["do"] != "read":
    with tarfile.open("state.tgz", "w:gz", compresslevel=1) as archive:
        for name in os.listdir("."):
            archive.add(name, filter=kept)
json.dump(answer, open("answer", "w"))
sys.stdout.flush()
os._exit(0)
"""
_ERRORS: dict[str, type[OSError]] = {
    error.__name__: error
    for error in (FileNotFoundError, IsADirectoryError, PermissionError, NotADirectoryError)
}


@sandboxenv(name="codegen")
class CodegenSandbox(SandboxEnvironment):
    """The sandbox of one sample; keeps its files between commands."""

    def __init__(self) -> None:
        super().__init__()
        self._state = b""
        self._lock = anyio.Lock()

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        """Returns one environment per sample."""
        return {"default": CodegenSandbox()}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        """Does nothing, since no process or file is left."""

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        """Runs a command; see the base class.

        A command that takes ``timeout`` seconds is killed and not retried; its changes to files are
        kept.
        """
        if user is not None:
            raise SandboxUserUnsupportedError(f"The sandbox cannot run commands as user {user!r}.")
        given = input.encode() if isinstance(input, str) else input or b""
        order: dict[str, Any] = {"do": "exec", "path": cwd or ".", "cmd": cmd}
        order |= {"env": env or {}, "timeout": timeout}
        outcome, answer = await self._do(order, given, timeout)
        if outcome.status == "output_limit":
            limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR
            raise OutputLimitExceededError(limit, outcome.stdout)
        if outcome.status == "timeout" or answer.get("error") == "TimeoutError":
            raise TimeoutError(f"The command took more than {timeout or _CPU_S:g} s.")
        error = answer.get("error")
        if error == "PermissionError":
            raise PermissionError(answer["message"])
        if error is not None:
            return ExecResult(False, 127, outcome.stdout, f"{outcome.stderr}{answer['message']}\n")
        code = answer.get("code")
        if code is None:  # hit a limit, or the command killed its runner
            code = -signal.SIGKILL
        code = code if code >= 0 else 128 - code  # as a shell reports a signal
        return ExecResult(code == 0, code, outcome.stdout, outcome.stderr or outcome.message)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        """Writes a file; see the base class."""
        given = contents.encode() if isinstance(contents, str) else contents
        await self._file({"do": "write", "path": file}, given)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        """Reads a file; see the base class."""
        outcome = await self._file({"do": "read", "path": file}, b"")
        content = outcome.files.get(_CONTENT)
        if content is None or len(content) > SandboxEnvironmentLimits.MAX_READ_FILE_SIZE:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        return content.decode("utf-8") if text else content

    async def _file(self, order: dict[str, Any], given: bytes) -> Outcome:
        outcome, answer = await self._do(order, given, None)
        if error := answer.get("error"):
            raise _ERRORS.get(error, OSError)(answer.get("message", order["path"]))
        if not answer:
            raise OSError(f"{order['path']}: {outcome.message or outcome.stderr[-200:]}")
        return outcome

    async def _do(
        self, order: dict[str, Any], given: bytes, timeout: int | None
    ) -> tuple[Outcome, dict[str, Any]]:
        async with self._lock:
            files = {_ORDER: json.dumps(order).encode(), _INPUT: given}
            if self._state:
                files[_STATE] = self._state
            limits = Limits(
                cpu_s=float(timeout or _CPU_S) + 1,
                memory_mib=_MEMORY_MIB,
                output_bytes=SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE,
                file_mib=_FILE_MIB,
            )
            script = ScriptJob(_DO, files=files, fetch=[_STATE, _ANSWER, _CONTENT], limits=limits)
            outcome = (await anyio.to_thread.run_sync(lambda: run_jobs({0: script})))[0]
            if order["do"] != "read" and _STATE in outcome.files:
                self._state = outcome.files[_STATE]
        try:
            answer = json.loads(outcome.files.get(_ANSWER, b"{}"))
        except (ValueError, RecursionError):  # the command overwrote the file
            answer = {}
        if answer and order["do"] != "read" and _STATE not in outcome.files:
            raise OSError(f"The sample's files exceed {_FILE_MIB // 2} MiB when compressed.")
        return outcome, answer if isinstance(answer, dict) else {}


@scorer(metrics=[accuracy(), stderr()])
def tests_pass() -> Scorer:
    """Scores a program by tests that it cannot access; see the module docstring.

    A sandbox failure is a sample error, not a score.
    """

    async def score(state: TaskState, target: Target) -> Score:
        row = {"tests": target.text, **state.metadata} if target.text else dict(state.metadata)
        problem = read_problem({**row, "id": str(state.sample_id)}, "A sample's metadata")
        answer = state.output.completion
        (verdict,) = await anyio.to_thread.run_sync(lambda: judge_rows([problem], answer))
        return _score(verdict, answer)

    return score


def _score(verdict: Verdict | Outcome, answer: str, **facts: float) -> Score:
    value = CORRECT if verdict.status == "passed" else INCORRECT
    return Score(
        value=NOANSWER if verdict.status in ("empty", "no_answer") else value,
        answer=answer,
        explanation=f"{verdict.status}: {verdict.message}".rstrip(": "),
        metadata={"status": verdict.status, "trust": verdict.trust, **facts},
    )


def write_log(run: str | os.PathLike[str], out: str | os.PathLike[str]) -> EvalLog:
    """Writes a scored run of ``codegen eval`` as an inspect_ai log.

    Args:
        run: a directory with ``score.json``, ``verdicts.jsonl`` and the samples.
        out: path of the log, which ends in ``.eval`` or ``.json``.

    Raises:
        InputError: if the run cannot be read, or is not completely scored.
    """
    folder = Path(run)
    score = read_score(folder)
    file = next((folder / n for n in (SCORED, SAMPLES) if (folder / n).is_file()), None)
    if file is None or not (folder / VERDICTS).is_file():
        raise InputError(f"{folder} lacks samples or verdicts.", "Score the run without --out.")
    verdicts = {(v.problem_id, v.index): v for v in read_jsonl(Verdict, folder / VERDICTS)}
    model = str(score.settings.get("model", "unknown"))
    samples = []
    for sample in read_samples(file):
        verdict = verdicts.get((sample.problem_id, sample.index))
        if verdict is None:
            raise InputError(
                f"{file}: sample {sample.index} of {sample.problem_id} has no verdict."
            )
        scored = _score(verdict, sample.completion, cpu_s=verdict.cpu_s)
        reason = "max_tokens" if sample.finish_reason == "length" else "stop"
        samples.append(
            EvalSample(
                id=sample.problem_id,
                epoch=sample.index + 1,
                input=sample.prompt,
                target="",
                output=ModelOutput.from_content(model, sample.completion, stop_reason=reason),
                # A failure of the sandbox or the tests is not a score.
                scores={} if verdict.status in UNJUDGED else {"tests_pass": scored},
            )
        )
    ids = sorted({sample.id for sample in samples}, key=str)
    metrics = {
        f"pass@{k}": EvalMetric(name=f"pass@{k}", value=estimate.value)
        for k, estimate in score.estimates.items()
    }
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            task=score.task,
            task_attribs={"source": score.source, "complete": score.complete},
            dataset=EvalDataset(name=score.task, samples=len(ids), sample_ids=ids),
            model=model,
            config=EvalConfig(epochs=max((s.epoch for s in samples), default=1)),
            metadata={"settings": dict(score.settings), "sandbox": dict(score.sandbox)},
        ),
        plan=EvalPlan(name="codegen eval"),
        results=EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples),
            scores=[EvalScore(name="tests_pass", scorer="tests_pass", metrics=metrics)],
        ),
        samples=samples,
    )
    write_eval_log(log, str(out))
    return log
