"""The ``llamacpp`` backend: GGUF files, run by llama.cpp.

A child process serves the file (:mod:`codegen.models.llamacpp`) and the ``openai`` backend sends it
the requests. The weights stay quantized.

Tokens are sampled as in the ``transformers`` backend: temperature, then top-p, without llama.cpp's
other filters. A request's random numbers come from its seed, but llama.cpp's rounding depends on
the other sequences in the batch, and on the length of the cached prompt. With one slot, prompts are
therefore encoded whole, and equal seeds produce equal text. With several slots they often do not,
and prompt states are reused.

Limits: no decoders except readers, since llama.cpp exposes no logits; no token healing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from codegen.core.config import parse_config
from codegen.core.errors import ModelError
from codegen.core.generation import (
    Decoder,
    ModelUnusable,
    RequestFailed,
)
from codegen.generation.endpoints import Endpoint
from codegen.generation.openai import OpenAIBackend
from codegen.models.gguf import fingerprint, gguf_of
from codegen.models.llamacpp import LlamaOptions, LlamaServer

_MOST_SLOTS = 8  # by default; each has memory for a whole context
_DAY_S = 86400.0
_BODY = (("samplers", '["temperature", "top_p"]'),)
_REPEATABLE = (("cache_prompt", "false"),)


class LlamaBackend(OpenAIBackend):
    """Completes requests with a GGUF file.

    Args:
        server: process that runs the file; stopped with this object.
    """

    kind = "llamacpp"

    def __init__(self, server: LlamaServer) -> None:
        # A local request may wait a long time, and retrying a failed one does not help.
        endpoint = Endpoint(
            server.url,
            server.model,
            concurrency=server.options.slots,
            timeout_s=_DAY_S,
            retries=0,
            body=_BODY + (_REPEATABLE if server.options.slots == 1 else ()),
        )
        super().__init__(endpoint, server.api_key)
        self.server = server
        self.about = {}  # the server's port changes at each start
        self.style = "chat" if server.header.chat_template else "continue"
        self.parameters = server.header.parameters if server.header.shards == 1 else None

    @classmethod
    def open(cls, model: str, **options: Any) -> LlamaBackend:
        """Opens a GGUF file, a directory with one, or a pretrained model.

        Args:
            options: ``batch_size``, the number of concurrent requests, up to 8 decoded together
                unless ``slots`` is larger; ``options``, see :class:`LlamaOptions`.
        """
        chosen = _options(**options)
        path = gguf_of(model)
        if path is None:
            raise ModelError(
                f"{model!r} is not a GGUF file.",
                "Pass a file that ends in .gguf, or use --backend transformers.",
            )
        return cls(LlamaServer(path, chosen))

    def identity(self, decoder: Decoder) -> dict[str, Any]:
        """Returns the weights' identity, without their path."""
        return {"model": self.model, "model_fingerprint": fingerprint(self.server.path)}

    def generate(self, requests, params, decoder, on_text=None):
        """See :class:`OpenAIBackend`.

        Raises:
            ModelUnusable: if llama.cpp exited; contains the reason.
        """
        try:
            for made in super().generate(requests, params, decoder, on_text):
                if made.error and self.server.ended():
                    raise made.error
                yield replace(made, error=self._explained(made.error)) if made.error else made
        except (ModelUnusable, RequestFailed) as error:
            if not self.server.ended():
                if "no connection" not in error.message:
                    raise
                raise ModelUnusable(
                    f"{self.server.path}: no connection to llama.cpp's process on 127.0.0.1.",
                    "Bring the loopback interface up: ip link set lo up.",
                ) from error
            raise ModelUnusable(
                f"{self.server.path} stopped: {self.server.reason()}.",
                "Finished samples are kept. A smaller --batch-size or context needs less memory.",
            ) from error

    def _explained(self, error: RequestFailed) -> RequestFailed:
        """Omits the server from an error, since the user did not start it."""
        words = error.message.partition(f"{self.model!r}: ")[2] or error.message
        remedy = "Set a larger -o engine.context=TOKENS." if "context size" in words else ""
        return RequestFailed(f"{self.model}: {words}", error.remedy or remedy)


def _options(batch_size: int = 1, options: Mapping[str, Any] | None = None) -> LlamaOptions:
    given = {"slots": min(batch_size, _MOST_SLOTS), **(options or {})}
    return parse_config(LlamaOptions, given, "-o engine")
