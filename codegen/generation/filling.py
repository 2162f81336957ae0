"""The decoder ``insertion``: models that write in no fixed order (``codegen.decoding.insertion``).

A prompt is a prefix that the answer follows. With the option ``gap`` it is a text in which that
mark stands wherever something is missing; the completion is then the text with all gaps filled, and
``meta`` has what was put into each.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from codegen.errors import ConfigError, ModelError
from codegen.generation.protocol import (
    Completion,
    OnText,
    Request,
    SamplingParams,
    request_seed,
)

if TYPE_CHECKING:
    from codegen.decoding.insertion import Filled, FillOptions, Text
    from codegen.models import LoadedModel

NAME = "insertion"


@dataclass(frozen=True, slots=True)
class Settings:
    """The decoder's options; see :class:`codegen.decoding.insertion.FillOptions` for their meaning.

    Attributes:
        gap: the mark of a gap in the prompt; empty if prompts are prefixes.
    """

    gap: str = ""
    stages: int = 2
    slot_temperature: float = 0.0
    stop_threshold: float = 0.5
    insist: bool = False
    insertions: int = 1
    least_share: float = 0.5
    steps: int = 0
    order: str = "confident"

    @classmethod
    def read(cls, options: Mapping[str, Any]) -> Settings:
        """Checks options.

        Raises:
            ConfigError: naming the option that is unknown or has a value that it can't have.
        """
        defaults = {field.name: field.default for field in fields(cls)}
        for name, value in options.items():
            if name not in defaults:
                near = difflib.get_close_matches(name, defaults, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise ConfigError(
                    f"The decoder {NAME!r} has no option {name!r}.",
                    f"{hint}Options are: {', '.join(defaults)}.",
                )
            allowed = _ALLOWED[name]
            if not allowed.fits(value):
                raise ConfigError(f"Option {name} of the decoder {NAME!r} is {value!r}.",
                                  f"It must be {allowed.words}.")  # fmt: skip
        return cls(**options)

    def fill_options(self, params: SamplingParams) -> FillOptions:
        """With the parameters that all decoders have."""
        from codegen.decoding.insertion import FillOptions

        own = {field.name: getattr(self, field.name) for field in fields(self)}
        del own["gap"]
        return FillOptions(
            max_new_tokens=params.max_new_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            **own,
        )


@dataclass(frozen=True, slots=True)
class _Allowed:
    fits: Callable[[Any], bool]
    words: str


def _number(low: float, high: float, *, whole: bool = False) -> _Allowed:
    def fits(value: Any) -> bool:
        kinds = int if whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    return _Allowed(fits, f"a {'whole ' * whole}number from {low:g} to {high:g}")


_ALLOWED = {
    "gap": _Allowed(lambda value: isinstance(value, str), "a text"),
    "stages": _number(1, 2, whole=True),
    "slot_temperature": _number(0, 100),
    "stop_threshold": _number(0, 1),
    "insist": _Allowed(lambda value: isinstance(value, bool), "true or false"),
    "insertions": _number(1, 1024, whole=True),
    "least_share": _number(1e-6, 1),
    "steps": _number(0, 100_000, whole=True),
    "order": _Allowed(lambda value: value in ("confident", "random"), "confident or random"),
}


def fill_requests(
    loaded: LoadedModel,
    requests: Iterable[Request],
    params: SamplingParams,
    settings: Settings,
    batch_size: int,
    on_text: OnText | None = None,
) -> Iterator[Completion]:
    """Yields the completions batch by batch, in the order of the requests.

    A text has no beginning before its end, so ``on_text`` gets each whole; stop strings cut the
    answer to a prefix.

    Raises:
        ModelError: if the model writes from left to right, or can't do what was asked.
        ConfigError: for a prompt without the gap marker.
    """
    from codegen.decoding.insertion import FillingModel, FixedMaskLM

    model = loaded.model
    if not isinstance(model, FillingModel):
        raise ModelError(
            f"The model {loaded.name!r} writes from left to right; {NAME} is no decoder for it.",
            "Choose another decoder, or train one by recipes/ilm_star_easy.yaml.",
        )
    if settings.gap and isinstance(model, FixedMaskLM):
        raise ModelError(f"The model {loaded.name!r} has a fixed length and fills no gaps.")
    options = settings.fill_options(params)
    waiting, number = iter(requests), 0
    while batch := list(islice(waiting, batch_size)):
        texts = [_text(loaded.tokenizer, request, settings.gap) for request in batch]
        seeds = [request_seed(params.seed, request) for request in batch]
        rngs = [np.random.Generator(np.random.Philox(seed)) for seed in seeds]
        filled = model.fill(texts, options, rngs)
        for request, text, seed, result in zip(batch, texts, seeds, filled, strict=True):
            completion = _completion(loaded, number, request, text, result, settings.gap, seed)
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
    loaded: LoadedModel, number: int, request: Request, text: Text, filled: Filled, gap: str,
    seed: int,
) -> Completion:  # fmt: skip
    decode = loaded.tokenizer.decode
    completion = decode(filled.body)
    reason = "eos" if filled.finished else "length"
    meta: dict[str, Any] = {"steps": filled.steps}
    if gap:
        meta["gaps"] = [decode(ids) for ids in _gaps(text, filled)]
    elif cuts := [at for stop in request.stop if (at := completion.find(stop)) >= 0]:
        completion, reason = completion[: min(cuts)], "stop"
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
    """What was put into each open slot."""
    runs: list[list[int]] = [[]]
    for token, given in zip(filled.body, filled.given, strict=True):
        if given:
            runs.append([])
        else:
            runs[-1].append(token)
    return (run for run, is_open in zip(runs, text.slots, strict=True) if is_open)
