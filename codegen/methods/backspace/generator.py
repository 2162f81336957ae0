"""Generator of backspace data.

The segments of a text contain the instruction and the *clean* program, for other trainers. ``meta``
has the trajectory (:class:`codegen.methods.backspace.Trajectory`): ``actions``, ``labels``,
``prompt_tokens``, ``bkspc``; also ``tokenizer``, ``tokenizer_fingerprint``, ``format``, and the
counts ``tokens`` (of the clean completion, with EOS), ``noised`` (runs of wrong tokens),
``backspaces`` and ``no_candidate``.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from codegen.core.config import Config, keyed, setting
from codegen.core.errors import ConfigError, ModelError, require_known
from codegen.core.records import Example, Segment, TrainingText
from codegen.methods.backspace.actions import NoisyTrajectory, add_noise, to_meta
from codegen.methods.backspace.noise import NOISES, Noise
from codegen.methods.backspace.tokens import Codec, Format, Target, UnsuitableExample, load_codec


class Backspace(Config):
    """Make programs with wrong tokens and the backspaces that remove them (SequenceMatch)."""

    model: str = setting(
        "embedded", "Model whose tokenizer is used: embedded, a directory or a hub id."
    )
    eta: float = setting(
        0.001, "Probability of a mistake before each token; 0.001 in the paper.", ge=0, le=1
    )
    span: int = setting(1, "Maximum number of wrong tokens in a row; 1 in the paper.", ge=1)
    noise: str = setting(
        "uniform",
        "Kinds of mistakes, in order of preference: uniform, syntax (Python).",
        metavar="KIND,...",
    )
    format: Format = setting(
        "plain", "Prompt format; must match the recipe that trains on the data."
    )
    max_tokens: int = keyed(
        0, "Maximum tokens per text, with backspaces; longer ones are dropped; 0: no limit.", ge=0
    )
    sequences: int = setting(1, "Training examples per program.", ge=1)

    @property
    def name(self) -> str:
        """Name of the method."""
        return "backspace"

    def _check(self) -> None:
        kinds = self._kinds
        for kind in kinds:
            require_known("noise", kind, NOISES)
        if len(set(kinds)) < len(kinds):
            raise ConfigError(f"noise is {self.noise!r}; remove the repeated kind.")

    @property
    def _kinds(self) -> list[str]:
        return [kind.strip() for kind in self.noise.split(",")]

    def config(self) -> dict[str, object]:
        """Returns the options and the tokenizer's fingerprint.

        Raises:
            ConfigError: if the tokenizer cannot be loaded.
        """
        fingerprint = load_codec(self.model).fingerprint
        return {**self.model_dump(), "name": self.name, "tokenizer_fingerprint": fingerprint}

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """Yields the texts of one example; text k does not depend on ``sequences``.

        Raises:
            UnsuitableExample: if the example is invalid, or all its texts are too long.
            ConfigError: if the model's tokenizer cannot be loaded or is unsuitable.
        """
        codec = load_codec(self.model)
        try:
            target = codec.target(example.instruction, example.program, self.format)
            noises = [NOISES[kind](codec, target) for kind in self._kinds]
            seeds = [rng.getrandbits(64) for _ in range(self.sequences)]
            results = [self._noised(codec, target, noises, random.Random(seed)) for seed in seeds]
        except ModelError as error:
            raise ConfigError(error.message, error.remedy) from error
        most = self.max_tokens or math.inf
        fitting = [
            (k, found) for k, found in enumerate(results) if len(found.trajectory.actions) <= most
        ]
        if not fitting:
            detail = f"{len(results[0].trajectory.actions)} actions, limit {self.max_tokens}."
            raise UnsuitableExample("too_long", detail)
        left_out = len(results) - len(fitting)
        for k, noised in fitting:
            yield self._text(example, k, codec, target, noised, left_out)

    def _noised(
        self, codec: Codec, target: Target, noises: list[Noise], rng: random.Random
    ) -> NoisyTrajectory:
        def propose(at: int, most: int) -> list[int]:
            for noise in noises:
                if wrong := noise.wrong_tokens(at, most, rng):
                    return wrong
            return []

        noised = add_noise(
            target.prompt,
            target.clean,
            propose,
            rng,
            bkspc=codec.bkspc,
            eta=self.eta,
            span=self.span,
        )
        if noised.trajectory.clean != [*target.prompt, *target.clean]:
            detail = "the actions do not replay to the program."
            raise UnsuitableExample("replay_mismatch", detail)
        return noised

    def _text(
        self,
        example: Example,
        number: int,
        codec: Codec,
        target: Target,
        noised: NoisyTrajectory,
        left_out: int,
    ) -> TrainingText:
        return TrainingText(
            id=f"{example.id}#backspace-{number}",
            example_id=example.id,
            generator=self.name,
            segments=(Segment(example.instruction + "\n", False), Segment(target.text, True)),
            meta={
                "tokenizer": codec.name,
                "tokenizer_fingerprint": codec.fingerprint,
                "format": self.format,
                **to_meta(noised.trajectory),
                "tokens": len(target.clean),
                "noised": noised.events,
                "backspaces": noised.wrong,
                "no_candidate": noised.no_candidate,
                "failed_sequences": left_out,
            },
        )
