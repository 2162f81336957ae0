"""Training texts to token ids and labels.

The loss mask comes from the segments. Each run of segments with the same ``train`` flag is
tokenised on its own, so that no token straddles the border between prompt and response; generation
cuts at the same border.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from codegen.models.chat import chat_prompt, end_of_turn
from codegen.records import TrainingText

IGNORE = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example: token ids and labels of equal length; untrained positions are labelled -100."""

    example_id: str
    ids: list[int]
    labels: list[int]


@dataclass
class Encoding:
    """All examples of a run, and what became of the others.

    Attributes:
        dropped: reason -> number of texts left out.
        cut: texts shortened to the maximal length.
    """

    examples: list[Encoded] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0

    def counts(self) -> dict[str, Any]:
        """Examples, tokens and mask coverage, for the log and the report."""
        tokens = sum(len(example.ids) for example in self.examples)
        trained = sum(label != IGNORE for e in self.examples for label in e.labels)
        return {
            "examples": len(self.examples),
            "tokens": tokens,
            "trained_tokens": trained,
            "mask_coverage": trained / tokens if tokens else 0.0,
            "cut": self.cut,
            "dropped": dict(self.dropped),
        }


def encode_all(
    texts: Iterable[TrainingText],
    tokenizer: Any,
    *,
    format: Literal["chat", "plain"],
    max_length: int,
    overlong: Literal["drop", "cut"] = "drop",
) -> Encoding:
    """Encodes texts; one without a trainable token, or over-long, is dropped and counted."""
    encoding = Encoding()
    end = end_of_turn(tokenizer) if format == "chat" else [tokenizer.eos_token_id]
    for text in texts:
        example = encode(text, tokenizer, end, chat=format == "chat")
        if len(example.ids) > max_length:
            if overlong == "drop":
                encoding.dropped["too_long"] += 1
                continue
            encoding.cut += 1
            example = Encoded(
                example.example_id, example.ids[:max_length], example.labels[:max_length]
            )
        if all(label == IGNORE for label in example.labels):
            encoding.dropped["no_trainable_token"] += 1
            continue
        encoding.examples.append(example)
    return encoding


def encode(text: TrainingText, tokenizer: Any, end: list[int], *, chat: bool) -> Encoded:
    """Encodes one text; ``end`` is the token sequence that closes a trained response."""
    ids: list[int] = []
    labels: list[int] = []

    def add(new: list[int], train: bool) -> None:
        ids.extend(new)
        labels.extend(new if train else [IGNORE] * len(new))

    runs = [
        (train, "".join(segment.text for segment in run))
        for train, run in groupby(text.segments, key=lambda segment: segment.train)
    ]
    if chat:
        prompt = runs.pop(0)[1] if runs and not runs[0][0] else ""
        add(chat_prompt(tokenizer, prompt.strip()), False)
    elif tokenizer.bos_token_id is not None and _adds_bos(tokenizer):
        add([tokenizer.bos_token_id], False)
    for train, run in runs:
        add(tokenizer(run, add_special_tokens=False).input_ids, train)
    if runs and runs[-1][0]:
        add(end, True)
    return Encoded(text.example_id, ids, labels)


def _adds_bos(tokenizer: Any) -> bool:
    ids = tokenizer("a").input_ids
    return bool(ids) and ids[0] == tokenizer.bos_token_id
