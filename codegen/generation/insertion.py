"""The decoder ``insertion``: models that write in no fixed order (``codegen.decoding.insertion``).

A prompt is a prefix that the answer follows. With the option ``gap`` it is a text in which that
marker is wherever something is missing; the completion is then the text with all gaps filled, and
``meta`` has what was put into each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.errors import ConfigError, ModelError
from codegen.generation.decoders import InsertionOptions
from codegen.generation.protocol import (
    Completion,
    OnText,
    Request,
    SamplingParams,
    cut_at_stop,
    request_seed,
)

if TYPE_CHECKING:
    from codegen.decoding.insertion import Filled, GapRow, Text
    from codegen.models import LoadedModel


def fill_requests(
    loaded: LoadedModel,
    requests: Iterable[Request],
    params: SamplingParams,
    options: InsertionOptions,
    batch_size: int,
    on_text: OnText | None = None,
) -> Iterator[Completion]:
    """Yields the completions batch by batch, in the order of the requests.

    A text has no beginning before its end, so ``on_text`` gets each whole; stop strings cut the
    answer to a prefix.

    Raises:
        ModelError: if the model writes from left to right, or cannot fill gaps.
        ConfigError: for a prompt without the gap marker.
    """
    from codegen.decoding.insertion import FillingModel, FillOptions, FixedMaskLM, GapRow, Insertion
    from codegen.decoding.loop import decode

    model = loaded.model
    if not isinstance(model, FillingModel):
        raise ModelError(
            f"The decoder insertion cannot be used: {loaded.name!r} writes from left to right.",
            "Choose another decoder, or train one: codegen finetune ilm_star_easy.",
        )
    if options.gap and isinstance(model, FixedMaskLM):
        raise ModelError(f"The model {loaded.name!r} has a fixed length and fills no gaps.")
    own = options.model_dump(exclude={"gap"})
    fill_options = FillOptions(**own)
    waiting, number = iter(requests), 0
    while batch := list(islice(waiting, batch_size)):
        texts = [_text(loaded.tokenizer, request, options.gap) for request in batch]
        seeds = [request_seed(params.seed, request) for request in batch]
        rngs = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
        rows = [GapRow.of(text) for text in texts]
        decode(
            model,
            rows,
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            eos=frozenset(),
            strategy=Insertion(fill_options, rngs),
        )
        for request, row, seed in zip(batch, rows, seeds, strict=True):
            completion = _completion(loaded, number, request, row, options.gap, seed)
            if on_text and completion.text:
                on_text(number, completion.text)
            number += 1
            yield completion


def _text(tokenizer: Any, request: Request, gap: str) -> Text:
    from codegen.decoding.insertion import Text

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False).input_ids if text else []

    if not gap:
        return Text(encode(request.prompt))
    if gap not in request.prompt:
        where = f"{request.problem_id}: " if request.problem_id else ""
        raise ConfigError(
            f"{where}The prompt has no gap marker {gap!r}.",
            f"Put {gap!r} where something is missing.",
        )
    first, *rest = (encode(piece) for piece in request.prompt.split(gap))
    body, open_slots = list(first), [False] * len(first) + [True]
    for piece in rest:
        if not piece:
            continue
        body += piece
        open_slots += [False] * (len(piece) - 1) + [True]
    if rest and rest[-1]:
        open_slots[-1] = False
    return Text([], body, open_slots)


def _completion(
    loaded: LoadedModel, number: int, request: Request, row: GapRow, gap: str, seed: int
) -> Completion:
    decode, text, filled = loaded.tokenizer.decode, row.text, row.filled
    assert filled is not None
    completion = decode(filled.body)
    reason = "eos" if filled.finished else "length"
    meta: dict[str, Any] = {"steps": filled.steps}
    if gap:
        meta["gaps"] = [decode(ids) for ids in _gaps(text, filled)]
    elif (cut := cut_at_stop(completion, request.stop)) != completion:
        completion, reason = cut, "stop"
    return Completion(
        number,
        request,
        completion,
        finish_reason=reason,
        seed=seed,
        prompt_tokens=len(text.prefix) + len(text.body),
        completion_tokens=len(filled.body) - len(text.body),
        meta=meta,
    )


def _gaps(text: Text, filled: Filled) -> Iterator[list[int]]:
    """The tokens that were put into each open slot."""
    runs: list[list[int]] = [[]]
    for token, given in zip(filled.body, filled.given, strict=True):
        if given:
            runs.append([])
        else:
            runs[-1].append(token)
    return (run for run, is_open in zip(runs, text.slots, strict=True) if is_open)
