"""The ``endpoint`` back-end: completions of a model behind an OpenAI-compatible server.

Chat requests go to ``/chat/completions``, plain ones to ``/completions``, where the server has it.

Limits: no token healing (the server tokenises), no streaming (``on_text`` gets each completion
whole), and the prompt's token count is what the server reports. A server that does not say which
stop string ended an answer leaves ``eos`` and ``stop`` apart only where no stop string was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from codegen.errors import ConfigError
from codegen.generation.asking import Answer, Ask, RequestFailed
from codegen.generation.decoders import TextDecoder, find_decoder
from codegen.generation.endpoint import EndpointClient
from codegen.generation.protocol import (
    Decoder,
    Request,
    SamplingParams,
    request_seed,
    settings_of,
)
from codegen.records import FinishReason, Sample

_WINDOW = 8  # requests drawn ahead for each one in flight


class EndpointGenerator:
    """Generates with an endpoint; implements ``codegen.generation.Generator``."""

    def __init__(self, client: EndpointClient) -> None:
        self.client = client

    def generate(
        self,
        requests: Iterable[Request],
        params: SamplingParams,
        decoder: Decoder,
        on_text: Callable[[int, str], None] | None = None,
    ) -> Iterator[Sample]:
        """Yields the samples window by window, in the order of the requests.

        Raises:
            RequestFailed: naming the problem that got no completion.
            ModelUnusable: if the endpoint can't be used at all.
            ConfigError: for an unknown decoder, or one that does more than read the text.
        """
        reader = find_decoder(decoder)
        if reader.needs == ("penalty",):
            raise ConfigError(
                f"The decoder {decoder.name!r} changes the model's logits, which an endpoint keeps "
                "to itself.",
                "Take a local model, or a server that loads the rule itself (docs/rpg.md).",
            )
        if reader.needs:
            raise ConfigError(
                f"The decoder {decoder.name!r} needs the model's own steps, which an endpoint keeps"
                " to itself.",
                "Take a local model, or a decoder that only reads text, such as 'sample'.",
            )
        model = self.client.endpoint.model
        settings = {**settings_of(model, params, decoder), "endpoint": self.client.endpoint.url}
        remaining = enumerate(requests)
        while window := list(islice(remaining, _WINDOW * self.client.endpoint.concurrency)):
            asks = [_ask(request, params, reader) for _, request in window]
            answers = self.client.ask_many(asks)
            for (number, request), ask, answer in zip(window, asks, answers, strict=True):
                if isinstance(answer, RequestFailed):
                    where = f"{request.problem_id}: " if request.problem_id else ""
                    raise RequestFailed(where + answer.message, answer.remedy)
                if on_text:
                    on_text(number, answer.text)
                finish_reason = _finish_reason(answer, ask)
                decoded = reader.read(answer.text, finish_reason)
                yield Sample(
                    task=request.task,
                    problem_id=request.problem_id,
                    index=request.index,
                    prompt=request.prompt,
                    completion=decoded.completion,
                    finish_reason=finish_reason,
                    settings=settings,
                    seed=ask.seed,
                    prompt_tokens=answer.prompt_tokens,
                    completion_tokens=answer.completion_tokens,
                    actions=decoded.actions,
                    meta=decoded.meta,
                )


def _ask(request: Request, params: SamplingParams, reader: TextDecoder) -> Ask:
    return Ask(
        prompt=request.prompt,
        chat=request.chat,
        max_tokens=params.max_new_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        seed=request_seed(params.seed, request),
        stop=reader.stops(request.stop),
    )


def _finish_reason(answer: Answer, ask: Ask) -> FinishReason:
    if answer.finish_reason == "length":
        return "length"
    return "stop" if answer.stopped_at or ask.stop else "eos"
