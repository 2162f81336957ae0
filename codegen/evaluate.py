"""Samples a task with a model, with the prompt style and decoder that it was tuned for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.core.errors import ConfigError
from codegen.core.generation import Backend, Completion, Decoder, SamplingParams
from codegen.core.runs import OnProgress

if TYPE_CHECKING:
    from codegen.evals.tasks import PromptStyle, Task


SQLNET = "sqlnet"
"""Model name of the bundled SQL sketch, for tasks with databases."""


class SqlnetBackend(Backend):
    """Backend that answers questions of a database task with :class:`codegen.sqlnet.SQLNet`.

    Args:
        task: a task of :mod:`codegen.evals.tasks.sql`.

    Raises:
        ConfigError: for another task.
    """

    kind = model = SQLNET
    independent = True

    def __init__(self, task: Task[Any]) -> None:
        from codegen.evals.tasks.sql import Spider
        from codegen.sqlnet import SQLNet

        if not isinstance(task, Spider):
            raise ConfigError(
                f"sqlnet cannot answer the task {task.name!r}.",
                "Choose spider, bird or everyday.",
            )
        self._problems = {problem.id: problem for problem in task.problems()}
        self._parser = SQLNet.from_pretrained()

    def generate(self, requests, params, decoder, on_text=None):
        """Returns each question's SQL statement, or the reason it is missing."""
        from codegen.evals.tasks.sql import schema_of
        from codegen.sqlnet.fallback import CANNOT
        from codegen.sqlnet.sql import with_values

        for number, request in enumerate(requests):
            problem = self._problems[request.problem_id]
            parse = self._parser.parse(problem.prompt, schema_of(problem.database), top_k=1)
            reason = parse.abstained or parse.failure
            text = f"{CANNOT}: {reason}" if reason else with_values(parse.statement())
            yield Completion(number, request, text)


@dataclass(frozen=True, slots=True)
class SampledRun:
    """Paths and settings of a run's samples."""

    path: Path
    model: str
    origin: str
    style: str
    decoder: str
    dtype: str
    parameters: int


def style_of_task(
    task: Task[Any], name: str, known: Mapping[str, PromptStyle] | None = None
) -> PromptStyle:
    """Returns a prompt style for a task.

    Args:
        known: the user's own styles.

    Raises:
        ConfigError: if the name is unknown, or the task does not support the style.
    """
    from codegen.evals.tasks import find_style

    style = find_style(name, known)
    task.request(task.problems()[0], style, 0)
    return style


def usual_style(task: Task[Any], model: str, opened: Backend) -> str:
    """Returns the model's code style if it suits the task, else the opened model's style."""
    from codegen.evals.tasks import CodeTask, find_style
    from codegen.models.pretrained import MODELS

    if model in MODELS and isinstance(task, CodeTask):
        best, asks = MODELS[model].code_style, task.asks
        is_function = not task.languages and task.entry_point(task.problems()[0])
        if find_style(best).ask == asks[0] and (is_function or len(asks) == 1):
            return best
    return opened.style


@dataclass(frozen=True, slots=True)
class TaskSampling:
    """Sampling settings of a task.

    Attributes:
        n: samples per problem.
        temperature, top_p, seed: see :class:`codegen.core.generation.SamplingParams`.
        max_new_tokens: maximum tokens per sample; None for the style's maximum answer length.
        style: a prompt style from :func:`style_of_task`, or its name; None for the task's style,
            else the style the model was tuned for (its model card).
        decoder: None for the decoder that the model was tuned for.
        limit: use only the first ``limit`` problems.
    """

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_new_tokens: int | None = None
    style: str | PromptStyle | None = None
    decoder: Decoder | None = None
    limit: int | None = None


def sample_task(
    task: Task[Any],
    model: str,
    sampling: TaskSampling,
    *,
    out: str | Path,
    batch_size: int = 40,
    backend: str | Backend = "transformers",
    options: Mapping[str, Any] | None = None,
    opener: Callable[..., Backend] | None = None,
    after: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> SampledRun:
    """Samples a task with a model, or resumes the run in ``out``.

    Args:
        task: the task, from :func:`codegen.evals.tasks.load`.
        model: model name for the backend.
        batch_size: sequences decoded together; a killed run loses at most one batch of samples.
        backend: backend name (``codegen.core.plugins``) or an open backend.
        options: options for opening the backend by name.
        opener: opens the backend by name; by default
            :func:`codegen.generation.open_backend`.
        after: see :func:`codegen.evals.run.run`.

    Raises:
        IncompleteRun: if individual requests to a server failed.
    """
    from codegen.evals.run import run
    from codegen.evals.tasks import find_style
    from codegen.generation import backend_class, open_backend
    from codegen.generation.decoders import supported

    # A typo is reported before loading the model.
    style = sampling.style
    if isinstance(style, str):
        style = style_of_task(task, style)
    if sampling.decoder:
        kind = backend_class(backend) if isinstance(backend, str) else backend
        supported(sampling.decoder, kind)
    if isinstance(backend, str):
        by_name = opener or open_backend
        opened = by_name(backend, model, batch_size=batch_size, **(options or {}))
    else:
        opened, backend = backend, backend.kind
    loaded = getattr(opened, "loaded", None)  # a server's tokens are unknown
    tokens = loaded.tokenizer.get_vocab() if loaded else {}
    if style is None:
        of_task = task.style_for(tokens, opened.style) if loaded else task.style
        style = find_style(of_task or usual_style(task, model, opened))
    if loaded:
        task.check_style(style, tokens)
    most = style.max_new_tokens if sampling.max_new_tokens is None else sampling.max_new_tokens
    decoder = sampling.decoder or Decoder(opened.decoder)
    identity = opened.identity(decoder)
    about = {**opened.about, "model_parameters": opened.parameters}
    path = run(
        task,
        opened,
        SamplingParams(most, sampling.temperature, sampling.top_p, sampling.seed),
        decoder,
        n=sampling.n,
        style=style,
        out=out,
        limit=sampling.limit,
        shard_size=batch_size,
        settings={"model": model, **identity, "backend": backend},
        about={name: value for name, value in about.items() if value},
        after=after,
        on_progress=on_progress,
    )
    return SampledRun(
        path,
        model,
        identity.get("model_origin", backend),
        style.name,
        decoder.name,
        identity.get("dtype", ""),
        opened.parameters or 0,
    )
