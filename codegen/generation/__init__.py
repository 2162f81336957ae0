"""Generation: requests and completions, the backends, and the decoders.

Read :mod:`~codegen.core.generation` first, then :mod:`~codegen.generation.decoders` and one
backend. This module opens backends, by name or by model, and imports no model library.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from codegen.core import plugins
from codegen.core.errors import ConfigError, InputError, ModelError
from codegen.core.generation import (
    Backend,
    Completion,
    Decoder,
    ModelUnusable,
    Request,
    SamplingParams,
    samples,
)

__all__ = [
    "Backend", "Completion", "Decoder", "LocalModel", "Request", "SamplingParams", "backend_class",
    "editor_backend", "local_backend", "open_backend", "samples",
]  # fmt: skip


def backend_class(name: str) -> type[Backend]:
    """Loads a backend's class (:mod:`codegen.core.plugins`) and the packages it needs.

    Raises:
        ConfigError: if the name is unknown.
        CodegenError: if the plugin package is broken.
    """
    return plugins.load("backends", name)


def open_backend(name: str, model: str, **options: Any) -> Backend:
    """Opens a model with the named backend.

    Args:
        options: the backend's own options; None values are omitted.

    Raises:
        ConfigError: if the backend or an option is unknown.
        ModelError: if the model does not exist.
    """
    given = {key: value for key, value in options.items() if value is not None}
    kind = backend_class(name)
    try:
        return kind.open(model, **given)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        option = str(error).rpartition("argument ")[2]
        raise ConfigError(f"The backend {name} has no option {option}.") from None


def local_backend(model: str, decoder: str | None = None) -> str:
    """Returns the name of the backend that runs a model on this machine.

    llama.cpp runs GGUF files and, if installed, ``coder`` and ``coder-1.5b``; our decoders run
    these two with transformers.

    Args:
        decoder: name of the decoder; None for the model's default.

    Raises:
        ModelError: if a GGUF file is missing.
    """
    from codegen.models.gguf import find_gguf
    from codegen.models.pretrained import MODELS

    if model not in MODELS:
        return "llamacpp" if find_gguf(model) else "transformers"
    samples = decoder in (None, "sample") and find_spec("xllamacpp") is not None
    return MODELS[model].backend if samples else "transformers"


def editor_backend(model: str) -> str:
    """Returns the name of the backend that completes in editors, like :func:`local_backend`.

    A pretrained model whose weights are on this machine is run by our own engine: it re-encodes a
    few tokens after an edit, while llama.cpp re-encodes everything after the edit.
    """
    from codegen.models.pretrained import MODELS

    has_weights = model in MODELS and MODELS[model].find() and find_spec("torch")
    return "transformers" if has_weights else local_backend(model)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model on this machine: ``embedded``, ``coder``, a directory, a hub id or a GGUF file.

    A request's random numbers depend only on its own seed. The last bits of its logits depend on
    the other requests in the batch, so only ``batch_size`` 1, the default, yields the same
    completions regardless of other requests.
    """

    model: str = "embedded"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}; it must be at least 1.")

    def identity(self) -> dict[str, Any]:
        """Returns the settings that determine the completions: model, weights and batch size.

        Raises:
            ModelUnusable: if the model does not exist.
        """
        from codegen.models import fingerprint_of
        from codegen.models.gguf import fingerprint, gguf_of

        try:
            file = gguf_of(self.model) if local_backend(self.model) == "llamacpp" else None
            weights = fingerprint(file) if file else fingerprint_of(self.model)
        except (ModelError, InputError) as error:
            raise ModelUnusable(error.message, error.remedy) from error
        name = "gguf" if file else self.model  # independent of the file's location
        return {"model": name, "weights": weights, "batch_size": self.batch_size}

    def open(self) -> Backend:
        """Loads the model and returns its backend.

        Raises:
            ModelUnusable: if it fails to load.
        """
        try:
            kind = local_backend(self.model)
            return open_backend(kind, self.model, batch_size=self.batch_size)
        except (ModelError, InputError) as error:
            raise ModelUnusable(error.message, error.remedy) from error
