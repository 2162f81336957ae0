"""Training texts to token ids, and where in them the model is asked what.

The loss mask comes from the segments. Each run of segments with the same ``train`` flag is
tokenised on its own, so that no token straddles the border between prompt and response; generation
cuts at the same border. A text with backspaces (:mod:`codegen.methods.backspace`) brings its own
tokens: a token that is taken back keeps its slot, which nothing sees from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from codegen.errors import InputError
from codegen.finetune.attention import Layout, causal, from_stack
from codegen.methods.backspace import Codec, from_text, is_trajectory, require_same, stack_layout
from codegen.models.chat import chat_prompt, end_of_turn
from codegen.records import TrainingText

IGNORE = -100  # the label that torch's cross entropy leaves out
Format = Literal["chat", "plain"]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One example of S slots and T trained actions.

    Attributes:
        example_id: the example that its text was made from.
        ids: [S] the token in each slot.
        nodes: [T] the slot whose output chooses the action, at least 0, rising.
        targets: [T] the right action there.
        then: [T] the slot of the state that the executed action leads to.
        layout: who sees whom.
        domain: what its loss is reported under; empty for none.
        final: whether the last action ends the text, so that its ``then`` is the terminal state.
    """

    example_id: str
    ids: list[int]
    nodes: list[int]
    targets: list[int]
    then: list[int]
    layout: Layout
    domain: str = ""
    final: bool = True

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class Encoding:
    """All examples of a run, and what became of the others.

    Attributes:
        dropped, dropped_tokens: reason -> number of texts left out, and of their tokens.
        cut, cut_tokens: texts shortened to the maximal length, and the tokens they lost.
    """

    examples: list[Encoded] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    dropped_tokens: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    cut_tokens: int = 0

    def counts(self) -> dict[str, Any]:
        """Examples, tokens and mask coverage, for the log and the report."""
        tokens = sum(len(example) for example in self.examples)
        trained = sum(len(example.targets) for example in self.examples)
        return {
            "examples": len(self.examples),
            "tokens": tokens,
            "trained_tokens": trained,
            "mask_coverage": trained / tokens if tokens else 0.0,
            "cut": self.cut,
            "cut_tokens": self.cut_tokens,
            "dropped": dict(self.dropped),
            "dropped_tokens": dict(self.dropped_tokens),
        }

    def drop(self, reason: str, tokens: int) -> None:
        """Counts a text that is left out."""
        self.dropped[reason] += 1
        self.dropped_tokens[reason] += tokens


class Encoder:
    """Encodes texts for one model.

    Args:
        tokenizer: the model's, with the backspace token if the texts have any.
        format: whether the prompt is wrapped in the chat template.
        systems: domain -> system prompt of its texts, for the chat format.
    """

    def __init__(
        self, tokenizer: Any, format: Format, systems: dict[str, str] | None = None
    ) -> None:
        self.tokenizer, self.format, self.systems = tokenizer, format, systems or {}
        self.end = end_of_turn(tokenizer) if format == "chat" else [tokenizer.eos_token_id]
        bos = [tokenizer.bos_token_id]
        self._opening = bos if tokenizer("a").input_ids[:1] == bos else []
        self._codec: Codec | None = None
        self._known: set[str] = set()

    def encode(self, text: TrainingText, domain: str = "") -> Encoded:
        """One text.

        Raises:
            InputError: if its trajectory is unsound, or was made for another tokenizer or format;
                or if the model lacks a special token that it needs.
        """
        if is_trajectory(text):
            return self._trajectory(text, domain)
        for token in text.meta.get("special_tokens", ()):
            self._require(token, text)
        ids: list[int] = []
        nodes: list[int] = []

        def add(new: list[int], train: bool) -> None:
            if train:  # a token that nothing comes before can't be predicted
                nodes.extend(range(max(len(ids) - 1, 0), len(ids) + len(new) - 1))
            ids.extend(new)

        runs = [
            (train, "".join(segment.text for segment in run))
            for train, run in groupby(text.segments, key=lambda segment: segment.train)
        ]
        if self.format == "chat":
            prompt = runs.pop(0)[1] if runs and not runs[0][0] else ""
            add(chat_prompt(self.tokenizer, prompt.strip(), self.systems.get(domain, "")), False)
        else:
            add(self._opening, False)
        for train, run in runs:
            add(self.tokenizer(run, add_special_tokens=False).input_ids, train)
        final = bool(runs and runs[-1][0])
        if final:
            add(self.end, True)
        then = [node + 1 for node in nodes]
        targets = [ids[slot] for slot in then]
        layout = causal(len(ids))
        return Encoded(text.example_id, ids, nodes, targets, then, layout, domain, final)

    def _require(self, token: str, text: TrainingText) -> None:
        if token in self._known:
            return
        if len(self.tokenizer(token, add_special_tokens=False).input_ids) != 1:
            raise InputError(
                f"Text {text.id!r} needs the special token {token}, which the model's tokenizer"
                " does not have.",
                "Choose the model family's style: codegen data infilling --style.",
            )
        self._known.add(token)

    def _trajectory(self, text: TrainingText, domain: str) -> Encoded:
        if self._codec is None:
            self._codec = Codec(self.tokenizer)
        require_same(text, self._codec)
        if text.meta.get("format") != self.format:
            raise InputError(
                f"Text {text.id!r} was made for the format {text.meta.get('format')!r}, the recipe"
                f" has {self.format!r}.",
                "Make the data again with: codegen data backspace --format, or change the recipe.",
            )
        stack = stack_layout(from_text(text))
        return Encoded(
            text.example_id,
            list(stack.tokens),
            list(stack.nodes[:-1]),
            list(stack.labels),
            list(stack.nodes[1:]),
            from_stack(stack),
            domain,
        )


def encode_all(
    texts: Iterable[tuple[str, TrainingText]],
    encoder: Encoder,
    *,
    max_length: int,
    overlong: Literal["drop", "cut"] = "drop",
) -> Encoding:
    """Encodes (domain, text) pairs; what has no trainable token, or is over-long, is counted.

    ``cut`` keeps the first ``max_length`` tokens, so the prompt is whole and the response is not. A
    text with backspaces is never cut.
    """
    encoding = Encoding()
    for domain, text in texts:
        example = encoder.encode(text, domain)
        if len(example) > max_length:
            if overlong == "drop" or is_trajectory(text):
                encoding.drop("too_long", len(example))
                continue
            encoding.cut += 1
            encoding.cut_tokens += len(example) - max_length
            example = _cut(example, max_length)
        if not example.targets:
            encoding.drop("no_trainable_token", len(example))
            continue
        encoding.examples.append(example)
    return encoding


def _cut(example: Encoded, length: int) -> Encoded:
    kept = sum(then < length for then in example.then)
    return Encoded(
        example.example_id,
        example.ids[:length],
        example.nodes[:kept],
        example.targets[:kept],
        example.then[:kept],
        causal(length),
        example.domain,
        final=False,
    )
