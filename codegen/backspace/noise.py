"""Where wrong tokens come from: ``uniform``, ``syntax`` (see there) and ``model``.

A noise is made for one target and then asked at the positions drawn. The paper compares uniform
tokens with in-domain ones and finds the latter to give the more consistent gains.

A token is wrong if it is not the next one of the text's own tokenisation. It may still spell what
comes next: ``foo`` before ``foo_bar``, where that is one token. A model that writes by the
tokenizer's habit can't go on to ``foo_bar`` from there.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

from codegen.backspace.tokens import Codec, Target

MODEL_TOP_K = 20


class Noise(Protocol):
    """Wrong tokens for one target."""

    def wrong_tokens(self, at: int, most: int, rng: random.Random) -> list[int]:
        """At most ``most`` ordinary tokens at a clean position, the first of them a wrong one.

        Empty if this noise knows none there.
        """
        ...


class Uniform:
    """Ordinary tokens, all equally likely."""

    def __init__(self, codec: Codec, target: Target) -> None:
        self._ordinary, self._target = codec.ordinary, target

    def wrong_tokens(self, at: int, most: int, rng: random.Random) -> list[int]:
        """See :class:`Noise`."""
        right = self._target.clean[at]
        first = rng.choice(self._ordinary)
        while first == right:
            first = rng.choice(self._ordinary)
        return [first, *(rng.choice(self._ordinary) for _ in range(most - 1))]


class FromModel:
    """What the model itself would wrongly write: drawn from its 20 likeliest wrong tokens.

    The first is not the right token, the others go on from it freely; each by the model's own
    probabilities, renormalised. One forward pass a token, in float32 on the CPU.

    Limit: another build of torch, or another number of threads, may round otherwise, and could in
    rare cases draw another token.
    """

    def __init__(self, codec: Codec, target: Target) -> None:
        self._codec, self._target = codec, target

    def wrong_tokens(self, at: int, most: int, rng: random.Random) -> list[int]:
        """See :class:`Noise`."""
        written = [*self._target.prompt, *self._target.clean[:at]]
        run: list[int] = []
        while len(run) < most:
            scores = _scores(self._codec, written + run)
            if not run:
                scores[self._target.clean[at]] = float("-inf")
            top = scores.topk(MODEL_TOP_K)
            weights = top.values.softmax(-1).tolist()
            run.append(rng.choices(top.indices.tolist(), weights)[0])
        return run


def _scores(codec: Codec, ids: list[int]) -> Any:
    """Float32 logits after some tokens, [vocabulary]; -inf for all but ordinary tokens."""
    import torch

    model = _load_model(codec.name)
    with torch.inference_mode():
        logits = model(torch.tensor([ids]), logits_to_keep=1, use_cache=False).logits[0, -1].float()
    ordinary = torch.tensor(codec.ordinary)
    return torch.full((max(len(logits), len(codec.tokenizer)),), float("-inf")).index_copy_(
        0, ordinary, logits[ordinary]
    )


@lru_cache(maxsize=1)
def _load_model(name: str) -> Any:
    import torch

    from codegen.models import load

    return load(name, dtype=torch.float32, device="cpu").model


def _syntax(codec: Codec, target: Target) -> Noise:
    from codegen.backspace.syntax import Syntax

    return Syntax(codec, target)


NOISES: dict[str, Callable[[Codec, Target], Noise]] = {
    "uniform": Uniform,
    "syntax": _syntax,
    "model": FromModel,
}
