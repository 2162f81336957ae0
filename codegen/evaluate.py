"""Wires a model to a task: loads it, asks it as it was taught, and writes the samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.generation.protocol import Decoder, SamplingParams

if TYPE_CHECKING:
    from codegen.evals.tasks import PromptStyle, Task
    from codegen.generation import Generator
    from codegen.models import ModelCard


@dataclass(frozen=True, slots=True)
class SampledRun:
    """Where the samples are, and how the model was asked."""

    path: Path
    model: str
    origin: str
    style: str
    decoder: str
    dtype: str
    parameters: int


def sample_task(
    task: Task[Any],
    model: str,
    params: SamplingParams,
    *,
    n: int,
    out: str | Path,
    style: str | PromptStyle | None = None,
    decoder: Decoder | None = None,
    limit: int | None = None,
    batch_size: int = 40,
    backend: str = "hf",
    vllm_options: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SampledRun:
    """Makes ``n`` samples a problem with a model, or goes on with what ``out`` holds.

    Args:
        task: from :func:`codegen.evals.tasks.load`.
        model: a name as :func:`codegen.models.load` takes it.
        params: how tokens are chosen.
        style: the prompt style or its name, by default the task's own, else the one the model was
            tuned for (its model card).
        decoder: likewise.
        batch_size: rows decoded together; also what a kill can cost.
        backend: ``hf`` or ``vllm``.
        vllm_options: vLLM's own, see :class:`codegen.generation.vllm_generator.VllmGenerator`.
    """
    from codegen.evals.run import run
    from codegen.evals.tasks import find_style
    from codegen.generation.decoders import find_decoder

    if decoder:
        find_decoder(decoder)  # a typo should not cost a model load
    if style:
        asked = find_style(style) if isinstance(style, str) else style
        task.request(task.problems()[0], asked, 0)  # nor a style that the task does not take
    asked_model = (
        _in_vllm(model, batch_size, vllm_options, decoder)
        if backend == "vllm"
        else _in_transformers(model, batch_size)
    )
    card = asked_model.card
    chosen = style or task.style or card.style
    chosen = find_style(chosen) if isinstance(chosen, str) else chosen
    decoder = decoder or Decoder(card.decoder)
    path = run(
        task,
        asked_model.generator,
        params,
        decoder,
        n=n,
        style=chosen,
        out=out,
        limit=limit,
        shard_size=batch_size,
        settings={"model": model, **asked_model.settings, "backend": backend},
        about={"model_parameters": asked_model.parameters},
        on_progress=on_progress,
    )
    origin, dtype = asked_model.settings["model_origin"], asked_model.settings["dtype"]
    parameters = asked_model.parameters
    return SampledRun(path, model, origin, chosen.name, decoder.name, dtype, parameters)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model ready to be asked, with what the run's settings say of it."""

    generator: Generator
    card: ModelCard
    parameters: int
    settings: Mapping[str, Any]


def _in_transformers(model: str, batch_size: int) -> _Asked:
    from codegen.generation.hf import HFGenerator
    from codegen.models import count_parameters, load

    loaded = load(model)
    settings = {
        "model_origin": loaded.origin,
        "model_fingerprint": loaded.fingerprint,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "device": loaded.model.device.type,
    }
    generator = HFGenerator(loaded, batch_size)
    return _Asked(generator, loaded.card, count_parameters(loaded.model), settings)


def _in_vllm(
    model: str, batch_size: int, options: Mapping[str, Any] | None, decoder: Decoder | None
) -> _Asked:
    from codegen.generation.vllm_generator import VllmGenerator, accept

    generator = VllmGenerator(model, batch_size=batch_size, options=options)
    reader = accept(decoder or Decoder(generator.card.decoder))
    engine = generator.engine(bool(reader.drafts))
    settings = {
        "model_origin": generator.origin,
        "model_fingerprint": generator.fingerprint,
        "dtype": engine.dtype,
        "device": engine.device,
        **({"vllm_options": dict(options)} if options else {}),
    }
    return _Asked(generator, generator.card, generator.parameters, settings)
