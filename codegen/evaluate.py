"""Wires a model to a task: loads it, asks it as it was taught, and writes the samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen.generation.protocol import Decoder, SamplingParams

if TYPE_CHECKING:
    from codegen.evals.tasks import Task


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
    style: str | None = None,
    decoder: Decoder | None = None,
    limit: int | None = None,
    batch_size: int = 40,
    on_progress: Callable[[int, int], None] | None = None,
) -> SampledRun:
    """Makes ``n`` samples a problem with a model, or goes on with what ``out`` holds.

    Args:
        task: from :func:`codegen.evals.tasks.load`.
        model: a name as :func:`codegen.models.load` takes it.
        params: how tokens are chosen.
        style: the prompt style, by default the one the model was tuned for (its model card).
        decoder: likewise.
        batch_size: rows decoded together; also what a kill can cost.
    """
    from codegen.evals.run import run
    from codegen.generation.decoders import find_decoder
    from codegen.generation.hf import HFGenerator
    from codegen.models import count_parameters, load

    if decoder:
        find_decoder(decoder)  # a typo should not cost a model load
    loaded = load(model)
    style = style or loaded.card.style
    decoder = decoder or Decoder(loaded.card.decoder)
    dtype = str(loaded.model.dtype).removeprefix("torch.")
    path = run(
        task,
        HFGenerator(loaded, batch_size),
        params,
        decoder,
        n=n,
        style=style,
        out=out,
        limit=limit,
        shard_size=batch_size,
        settings={
            "model": model,
            "model_origin": loaded.origin,
            "model_fingerprint": loaded.fingerprint,
            "dtype": dtype,
            "device": loaded.model.device.type,
            "backend": "hf",
        },
        on_progress=on_progress,
    )
    parameters = count_parameters(loaded.model)
    return SampledRun(path, model, loaded.origin, style, decoder.name, dtype, parameters)
