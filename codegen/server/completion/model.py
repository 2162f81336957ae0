"""The model behind the server, loaded once and shared by all documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

from codegen.core.errors import ModelError
from codegen.decoding.drafts import DrafterMaker
from codegen.decoding.healing import Vocabulary
from codegen.server.completion.prompts import Prompter, find_family
from codegen.server.completion.requests import ServerLimits, Status

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from codegen.decoding.editing import DecodeStep, EditableCache
    from codegen.models import LoadedModel

Precision = Literal["auto", "full"]
# Tokens per forward pass when encoding a context; requests can be cancelled between passes.
_CHUNK = 32
_SAMPLE = "def mean(values):\n    return sum(values) / len(values)\n"
_COMPILED_CHUNK = 64  # with our kernels, whose time per token does not depend on the token count


class CompletionModel:
    """A loaded model, prepared for completions.

    Args:
        limits: only its token limits are used.
        precision: ``auto`` decodes with quantized weights and an optimized pass for few tokens, if
            that is faster; ``full`` runs the model unchanged.

    Raises:
        ModelError: if its cache cannot be edited.
    """

    remote = False

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        limits: ServerLimits | None = None,
        precision: Precision = "auto",
    ) -> None:
        from codegen.generation.transformers import TransformersBackend

        limits = limits or ServerLimits()
        backend = TransformersBackend(loaded)
        self.name = loaded.name
        self.device = str(loaded.model.device)
        self.status = Status("Normal", f"{loaded.name} is ready.")
        self.on_status: Callable[[Status], None] | None = None  # never called
        self.fingerprint = loaded.fingerprint
        self.min_probability = loaded.card.min_probability
        self.tokenizer = loaded.tokenizer
        self.model = loaded.model
        self.vocabulary: Vocabulary = backend.vocabulary
        self.eos = backend.eos
        added = loaded.tokenizer.added_tokens_decoder
        self.special = {token: str(name) for token, name in added.items()}
        self.family = find_family(loaded.tokenizer)
        most = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
        self.limit = min(limits.context_tokens, most or limits.context_tokens)
        self.drafters = DrafterMaker.of(loaded.tokenizer, self.vocabulary.tokens)
        self.prompter = Prompter(loaded.tokenizer, self.family, self.vocabulary, self.limit)
        self.step = _step(loaded.model, precision)
        self._sample: list[int] = loaded.tokenizer(_SAMPLE)["input_ids"][:_CHUNK]
        few = self.step is None or self.step.most == _CHUNK
        self.chunk = _CHUNK if few else _COMPILED_CHUNK
        cache = self._checked_cache()
        self.longest = min(limits.conversation_tokens, cache.longest or limits.conversation_tokens)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        dtype: torch.dtype | None = None,
        limits: ServerLimits | None = None,
        precision: Precision = "auto",
    ) -> Self:
        """Loads a model; ``dtype`` defaults to the fastest on this machine.

        For an adapter on a CPU, that is float32: its merged weights have fast kernels.

        Raises:
            ModelError: if a required part is missing; names it and the remedy.
        """
        import torch

        from codegen.models import load
        from codegen.models.loading import is_adapter, resolve

        if precision == "auto" and is_adapter(resolve(name)[0]) and not torch.cuda.is_available():
            dtype = dtype or torch.float32
        return cls(load(name, dtype=dtype), limits=limits, precision=precision)

    def _checked_cache(self) -> EditableCache:
        """Creates a cache; raises at startup if it cannot be edited.

        A model whose logits change too much with quantized weights keeps its original weights:
        weight rows with outliers, as in Qwen2, lose more in 8 bits.
        """
        from codegen.decoding.editing import DecodeStep, plain_product

        try:
            return self.cache()
        except ModelError:
            if self.step is None or not self.step.quantized:
                raise
            self.step = DecodeStep(self.model, plain_product, most=self.step.most)
            return self.cache()

    def cache(self) -> EditableCache:
        """Creates an empty cache for one document."""
        from codegen.decoding.editing import EditableCache, EditPolicy

        policy = EditPolicy(chunk=self.chunk)
        return EditableCache(self.model, policy=policy, step=self.step, sample=self._sample)


def _step(model: PreTrainedModel, precision: Precision) -> DecodeStep | None:
    """Returns the model's short pass, if any; adds quantized weights unless ``full``.

    In a short pass, the weights are read once for several documents.
    """
    from codegen.decoding.editing import DecodeStep, can_step, plain_product
    from codegen.kernels import cpu
    from codegen.models.quantization import add_quantized_weights, quantized_product

    if precision == "full":
        return None
    if can_step(model):
        return DecodeStep(
            model,
            lambda layers: quantized_product(layers) or plain_product(layers),
            most=None if cpu.preferable(model.dtype) else _CHUNK,  # our kernels accept any number
        )
    add_quantized_weights(model)
    return None
