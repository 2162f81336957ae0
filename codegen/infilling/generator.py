"""The generator of fill-in-the-middle data, as the data engine calls it."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from codegen.errors import CodegenError, ConfigError
from codegen.evals.tasks.styles import STYLES
from codegen.infilling.spans import KINDS, Span, spans_of
from codegen.records import Example, Segment, TrainingText

_SENTINEL = re.compile(r"<[^<>\s{}]+>|\[[A-Z]+\]")


class Unsuitable(CodegenError):
    """An example that is skipped.

    Attributes:
        reason: ``empty``, ``sentinel_in_program`` or ``no_span``.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"No infilling data ({reason}): {detail}")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Infilling:
    """Programs with a part taken out and asked for, in a model family's order and sentinels.

    The trained segment is the middle, which the end of the sequence follows; with ``loss="all"`` it
    is everything, as in pre-training. What stands around it is exactly what the evaluation's prompt
    of the same style shows. In ``meta`` are ``kind``, ``span``, ``style`` and the sentinels
    (``special_tokens``), which fine-tuning looks for in the model's vocabulary.

    Attributes:
        style: a prompt style for infilling (``codegen eval run --style``): prefix or suffix first.
        spans: kinds of spans, separated by commas; each text draws one that the program has.
        loss: ``middle`` or ``all``.
        rate: the share of texts that are infilling; the others are the program, left to right.
        sequences: texts for each example.
    """

    style: str = "fim-qwen"
    spans: str = "line,block,ast,char"
    loss: str = "middle"
    rate: float = 1.0
    sequences: int = 1
    name: str = field(default="infilling", init=False)

    def __post_init__(self) -> None:
        known = [name for name, style in STYLES.items() if style.ask == "infill"]
        if self.style not in known:
            raise ConfigError(
                f"There is no infilling style {self.style!r}.", f"There are: {', '.join(known)}."
            )
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ConfigError(
                f"There is no kind of span {unknown[0]!r}.", f"Choose from: {', '.join(KINDS)}."
            )
        if self.loss not in ("middle", "all"):
            raise ConfigError(f"loss is {self.loss!r}.", "Choose middle or all.")
        if not 0 <= self.rate <= 1:
            raise ConfigError(f"rate is {self.rate}; it must be from 0 to 1.")
        if self.sequences < 1:
            raise ConfigError(f"sequences is {self.sequences}; it must be at least 1.")

    @property
    def kinds(self) -> list[str]:
        """The kinds of spans."""
        return [kind.strip() for kind in self.spans.split(",")]

    @property
    def sentinels(self) -> list[str]:
        """The special tokens of the style."""
        return _SENTINEL.findall(STYLES[self.style].template)

    def generate(self, example: Example, rng: random.Random) -> Iterator[TrainingText]:
        """The texts of one example; text k is the same whatever their number.

        Raises:
            Unsuitable: with the reason.
        """
        program = example.program
        if not program.strip():
            raise Unsuitable("empty", "the program is empty.")
        if found := next((word for word in self.sentinels if word in program), None):
            raise Unsuitable(
                "sentinel_in_program", f"{found} in the program would be read as a sentinel."
            )
        seeds = [rng.getrandbits(64) for _ in range(self.sequences)]
        for number, seed in enumerate(seeds):
            yield self._text(example, number, random.Random(seed))

    def _text(self, example: Example, number: int, rng: random.Random) -> TrainingText:
        program = example.program
        if rng.random() >= self.rate:
            return self._record(example, number, (Segment(program, True),), {"kind": "none"})
        kinds = self.kinds
        rng.shuffle(kinds)
        for kind in kinds:
            if found := spans_of(kind, program, rng):
                span = rng.choice(found)
                break
        else:
            raise Unsuitable("no_span", f"the program has no {' or '.join(self.kinds)}.")
        asked, middle = self._parts(program, span)
        segments = (Segment(asked, self.loss == "all"), Segment(middle, True))
        meta = {
            "kind": kind,
            "span": list(span),
            "style": self.style,
            "special_tokens": self.sentinels,
        }
        return self._record(example, number, segments, meta)

    def _parts(self, program: str, span: Span) -> tuple[str, str]:
        asked = STYLES[self.style].render(prefix=program[: span.start], suffix=program[span.end :])
        return asked, program[span.start : span.end]

    def _record(
        self, example: Example, number: int, segments: tuple[Segment, ...], meta: dict[str, object]
    ) -> TrainingText:
        text_id = f"{example.id}#infilling-{number}"
        return TrainingText(text_id, example.id, self.name, segments, meta)
