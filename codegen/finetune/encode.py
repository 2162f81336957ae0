"""Converts training texts and conversations to token ids and loss masks.

The loss mask follows from a text's segments, without searching for markers. Consecutive trained (or
untrained) segments are tokenized together, so no token straddles the boundary between prompt
and response; generation splits there, too. Trained segments may have different weights; a token
across their boundary gets the larger weight, and the end token has weight 1. A text with backspaces
(:mod:`codegen.methods.backspace`) is already tokenized: a removed token keeps its slot, and later
tokens do not attend to it.

Conversations are rendered by the chat template (:class:`Renderer`). At inference the prompt is the
template's rendering of the earlier messages, up to the start of the answer. So the answer of turn i
is the text that ``render(messages[:i + 1])`` adds to
``render(messages[:i], add_generation_prompt=True)``, up to and including the end-of-turn token. If
each rendering is a prefix of the next, a conversation is one text with a trained part for each
turn. Some templates render earlier turns differently once later ones exist (Qwen 3 drops their
reasoning); then each answer becomes a separate text, identical to inference. If a template marks
the assistant's tokens (``{% generation %}``), only the marked part of each answer and the end of
the turn are trained.

Data never becomes control tokens: a spelled-out control token is split before tokenization, as in
the server. Exceptions are the ``special_tokens`` listed in a text's ``meta``, and assistant
messages, where templates expect some (tool calls).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import numpy as np

from codegen.core.errors import ConfigError, InputError, ModelError
from codegen.core.records import Messages, Segment, TrainingText
from codegen.edits.formats import removed
from codegen.finetune.recipe import Format, Turns
from codegen.methods import backspace
from codegen.models import chat

OPEN = 1 << 40  # `end` of a slot that is visible to all later queries of the row


@dataclass(frozen=True, slots=True, eq=False)
class RowLayout:
    """The attention pattern of a row of S slots.

    Attributes:
        end: int64 [S]; queries ``k <= q < end[k]`` attend to slot k; ``OPEN``: all later queries.
        positions: position ids, int64 [S].
    """

    end: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.end)

    @property
    def is_causal(self) -> bool:
        """True if all earlier slots are visible to every slot and positions start at 0."""
        count = np.arange(len(self))
        return bool((self.end >= len(self)).all() and (self.positions == count).all())

    @property
    def depth(self) -> int:
        """Number of tokens that remain at the end of the row."""
        return int((self.end == OPEN).sum())


def causal(length: int) -> RowLayout:
    """Returns the layout of one document of ``length`` tokens."""
    return RowLayout(np.full(length, OPEN), np.arange(length))


def from_stack(stack: backspace.StackLayout) -> RowLayout:
    """Returns the layout of a trajectory with backspaces."""
    end, positions = np.array(stack.end), np.array(stack.positions)
    # Tokens removed by the last actions are deeper than the last state.
    left = (end == len(end)) & (positions <= stack.positions[stack.nodes[-1]])
    return RowLayout(np.where(left, OPEN, end), positions)


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example of S slots and T trained actions.

    Attributes:
        example_id: id of the source example.
        ids: token of each slot, [S].
        nodes: slot whose output predicts the action, ascending, [T].
        targets: target actions, [T].
        then: slot of the state after the executed action, [T].
        layout: attention pattern.
        domain: name for reporting its loss; empty for none.
        final: whether the last action completes the text; its ``then`` is the terminal state.
        weights: loss weight of each action, [T]; empty if all are 1.
    """

    example_id: str
    ids: list[int]
    nodes: list[int]
    targets: list[int]
    then: list[int]
    layout: RowLayout
    domain: str = ""
    final: bool = True
    weights: Sequence[float] = ()

    @property
    def weight(self) -> float:
        """Total weight of the actions."""
        return math.fsum(self.weights) if self.weights else len(self.targets)

    @classmethod
    def of_stack(
        cls,
        stack: backspace.StackLayout,
        example_id: str = "",
        domain: str = "",
        *,
        final: bool = True,
    ) -> EncodedExample:
        """Builds an example from a trajectory with backspaces."""
        return cls(
            example_id,
            list(stack.tokens),
            list(stack.nodes[:-1]),
            list(stack.labels),
            list(stack.nodes[1:]),
            from_stack(stack),
            domain,
            final,
        )

    @classmethod
    def of_runs(
        cls,
        runs: Iterable[tuple[Sequence[int], bool | Sequence[float]]],
        example_id: str,
        domain: str,
        *,
        final: bool,
    ) -> EncodedExample:
        """Builds an example from (tokens, training flag or token weights) runs."""
        ids: list[int] = []
        nodes: list[int] = []
        weights: list[float] = []
        for new, train in runs:
            if train:
                first = 0 if ids else 1  # the first token of a text cannot be predicted
                nodes.extend(range(len(ids) + first - 1, len(ids) + len(new) - 1))
                weights += [1.0] * len(new[first:]) if train is True else train[first:]
            ids.extend(new)
        then = [node + 1 for node in nodes]
        targets = [ids[slot] for slot in then]
        layout = causal(len(ids))
        weights = weights if any(weight != 1 for weight in weights) else []
        return cls(example_id, ids, nodes, targets, then, layout, domain, final, weights)

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> EncodedExample:
        """Returns the first ``count`` slots of a causal example as a separate example."""
        kept = sum(slot < count for slot in self.then)  # ascending
        return EncodedExample(
            self.example_id,
            self.ids[:count],
            self.nodes[:kept],
            self.targets[:kept],
            self.then[:kept],
            causal(count),
            self.domain,
            final=False,
            weights=self.weights[:kept],
        )

    def to_row(self) -> dict[str, Any]:
        """Returns a table row; ``nodes``, ``targets`` and the layout are empty for plain texts."""
        has_layout = not self.layout.is_causal
        follows = [slot - 1 for slot in self.then] == self.nodes and all(
            slot < len(self) and self.ids[slot] == target
            for slot, target in zip(self.then, self.targets, strict=True)
        )
        return {
            "example_id": self.example_id.encode("utf-8", "replace").decode(),
            "domain": self.domain,
            "ids": self.ids,
            "then": self.then,
            "nodes": [] if follows else self.nodes,
            "targets": [] if follows else self.targets,
            "end": self.layout.end.tolist() if has_layout else [],
            "positions": self.layout.positions.tolist() if has_layout else [],
            "weights": list(self.weights),
            "weight": self.weight,
            "final": self.final,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> EncodedExample:
        """Builds an example from a table row."""
        ids, then = row["ids"], row["then"]
        layout = causal(len(ids))
        if row["end"]:
            layout = RowLayout(np.array(row["end"]), np.array(row["positions"]))
        return cls(
            row["example_id"],
            ids,
            row["nodes"] or [slot - 1 for slot in then],
            row["targets"] or [ids[slot] for slot in then],
            then,
            layout,
            row["domain"],
            row["final"],
            row["weights"],
        )


class TextSpan(NamedTuple):
    """A character range of a text, ``stop`` excluded."""

    start: int
    stop: int


# A Unicode noncharacter, inserted to split text that spells a control token.
_CUT = "\ufdd0"


class RenderedText(NamedTuple):
    """A text and its trained ranges in order; parts between cuts are tokenized separately."""

    text: str
    trained: tuple[TextSpan, ...]

    def runs(self) -> list[tuple[str, bool]]:
        """Returns the parts in text order, and whether each is trained."""
        runs, at = [], 0
        for start, stop in self.trained:
            runs += [(self.text[at:start], False), (self.text[start:stop], True)]
            at = stop
        runs.append((self.text[at:], False))
        return [(piece, flag) for text, flag in runs for piece in text.split(_CUT) if piece]


class Renderer:
    """Renders conversations with a tokenizer's chat template.

    Args:
        turns: ``all``: one text per conversation, or an error; ``split``: one text per answer;
            ``last``: one text for the last answer; ``auto``: ``all``, or ``split`` if the template
            renders earlier turns differently.

    Raises:
        ModelError: if the tokenizer has no chat template.
        ConfigError: if the template does not end the assistant's turns.
    """

    def __init__(self, tokenizer: Any, turns: Turns = "auto") -> None:
        chat.require_template(tokenizer)
        self.tokenizer, self.turns = tokenizer, turns
        self.has_marks = has_generation_marks(tokenizer)
        mark = "\x01answer\x01"
        probe = ({"role": "user", "content": "q"}, {"role": "assistant", "content": mark})
        closing = self._render(probe, Messages("", probe, (False, True))).partition(mark)[2]
        self._control = chat.control_pattern(chat.control_tokens(tokenizer))
        match = chat.control_pattern(chat.control_tokens(tokenizer, special=True)).search(closing)
        if not match:
            raise ConfigError(
                "The model's chat template has no token at the end of an answer, so the model "
                "would not learn to stop.",
                "Use a model with another template, or pass the data as texts with format: plain.",
            )
        self.end = match[0]

    def _guarded(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        if message["role"] == "assistant":
            return message
        pieces = _pieces(self._control, message["content"].replace(_CUT, ""))
        return {**message, "content": _CUT.join(pieces)}

    def texts(self, conversation: Messages) -> list[RenderedText]:
        """Returns the texts of a conversation; empty if no message is trained.

        Raises:
            InputError: if the template rejects the conversation or renders an answer differently
                from inference.
        """
        wanted = [number for number, trained in enumerate(conversation.train) if trained]
        if not wanted:
            return []
        conversation = replace(
            conversation, messages=tuple(map(self._guarded, conversation.messages))
        )
        if self.turns in ("auto", "all"):
            if whole := self._rendered(conversation, wanted):
                return [whole]
            if self.turns == "all":
                raise InputError(
                    f"Conversation {conversation.id!r}: the chat template shows earlier answers "
                    "differently if later messages follow.",
                    "Set turns: auto or split, to train each answer in a separate text.",
                )
        wanted = wanted[-1:] if self.turns == "last" else wanted
        rendered = (self._rendered(conversation, [number]) for number in wanted)
        return [text for text in rendered if text is not None]

    def _rendered(self, conversation: Messages, wanted: Sequence[int]) -> RenderedText | None:
        """Returns one text up to the last wanted answer; None if the renderings disagree."""
        messages = conversation.messages[: wanted[-1] + 1]
        text, trained = self._render(messages, conversation), []
        for number in wanted:
            head = self._render(messages[:number], conversation, opens_answer=True)
            upto = self._render(messages[: number + 1], conversation)
            end = upto.rfind(self.end, len(head))
            if not upto.startswith(head) or end < 0:
                raise InputError(
                    f"Conversation {conversation.id!r}: the chat template renders message "
                    f"{number + 1} differently than at inference, after the generation prompt.",
                    "Set chat_template_kwargs (such as enable_thinking: false), or add or remove "
                    "the message's reasoning_content.",
                )
            stop = end + len(self.end)
            if not text.startswith(upto[:stop]):
                return None
            trained.append(TextSpan(len(head), stop))
        text = text[: trained[-1].stop]
        if self.has_marks:
            trained = self._marked(text, trained, messages, conversation)
        return RenderedText(text, tuple(trained))

    def _marked(
        self,
        text: str,
        answers: Sequence[TextSpan],
        messages: Sequence[Any],
        conversation: Messages,
    ) -> list[TextSpan]:
        """Returns the parts of each answer that the template marks, and the end of the turn."""
        marks = chat.marked_stretches(
            self.tokenizer, messages, conversation.tools, conversation.template_arguments
        )
        kept = []
        for start, stop in answers:
            inside = [(max(start, a), min(stop, b)) for a, b in marks if a < stop and b > start]
            end = stop - len(self.end)
            if inside and inside[-1][1] == end:  # the mark excludes the end of the turn
                inside[-1] = (inside[-1][0], stop)
            elif not inside or inside[-1][1] < stop:
                inside.append((end, stop))
            kept += [TextSpan(*stretch) for stretch in inside]
        return kept

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        conversation: Messages,
        opens_answer: bool = False,
    ) -> str:
        def attempt(given: Sequence[Mapping[str, Any]]) -> str:
            return chat.render(
                self.tokenizer,
                given,
                opens=opens_answer,
                tools=conversation.tools,
                variables=conversation.template_arguments,
            )

        try:
            try:
                return attempt(messages)
            except ModelError:  # DeepSeek's template concatenates call arguments as text
                if not any(message.get("tool_calls") for message in messages):
                    raise
                return attempt([_with_text_arguments(message) for message in messages])
        except ModelError as error:
            raise InputError(f"Conversation {conversation.id!r}: {error.message}") from None


def has_generation_marks(tokenizer: Any) -> bool:
    """Returns True if the chat template marks the assistant's tokens."""
    return bool(re.search(r"\{%-?\s*generation\b", str(tokenizer.chat_template)))


def _with_text_arguments(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [
        {**call, "function": {**f, "arguments": json.dumps(f["arguments"], ensure_ascii=False)}}
        for call in message.get("tool_calls", ())
        if (f := call["function"])
    ]
    return {**message, "tool_calls": calls} if calls else dict(message)


def set_template_arguments(
    tokenizer: Any, arguments: Mapping[str, bool | int | float | str]
) -> None:
    """Sets default values of chat template variables, in place.

    They are stored in the template, which is saved with the model, so every server renders prompts
    as in training.
    """
    if not arguments:
        return
    chat.require_template(tokenizer)
    values = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {json.dumps(value)} %}}{{%- endif %}}"
        for name, value in sorted(arguments.items())
    )
    template = tokenizer.chat_template
    if isinstance(template, dict):
        tokenizer.chat_template = {name: values + text for name, text in template.items()}
    else:
        tokenizer.chat_template = values + template


class TextEncoder:
    """Encodes texts for one model.

    Args:
        tokenizer: the model's tokenizer.
        format: ``chat`` wraps the prompt in the chat template.
        systems: domain -> system prompt of its texts, for the chat format.
        infilling: encode for an infilling model: the trained part is the body without end token.
        turns: split of conversations into texts (:class:`Renderer`).

    Attributes:
        codec: tokenizer with a backspace token, set when a text with backspaces is encoded.
        trained: tokens whose embeddings need training.
    """

    def __init__(
        self,
        tokenizer: Any,
        format: Format,
        systems: Mapping[str, str] | None = None,
        *,
        infilling: bool = False,
        turns: Turns = "auto",
    ) -> None:
        self.tokenizer, self.format, self.systems = tokenizer, format, systems or {}
        self.infilling = infilling
        self.turns: Turns = turns
        self._renderer: Renderer | None = None
        self._control = {
            special: chat.control_tokens(tokenizer, special=special) for special in (False, True)
        }
        self.end = chat.end_of_turn(tokenizer) if format == "chat" else [tokenizer.eos_token_id]
        bos = [tokenizer.bos_token_id]
        self._opening = bos if tokenizer("a").input_ids[:1] == bos else []
        self._patterns: dict[tuple[bool, tuple[str, ...]], re.Pattern[str]] = {}
        self._known: dict[str, bool] = {}
        self.codec: backspace.Codec | None = None
        self.trained: set[str] = set()

    def examples(self, row: TrainingText | Messages, domain: str = "") -> list[EncodedExample]:
        """Returns a row's examples: one for a text, one or more for a conversation.

        Raises:
            InputError: see :meth:`encode`; for a conversation, if the format is not ``chat``, or
                its rendering differs from inference.
        """
        if isinstance(row, TrainingText):
            return [self.encode(row, domain)]
        if self.format != "chat" or self.infilling:
            raise InputError(f"Conversation {row.id!r} needs a chat model.", "Set format: chat.")
        self._renderer = self._renderer or Renderer(self.tokenizer, self.turns)
        if (system := self.systems.get(domain)) and row.messages[0]["role"] != "system":
            messages = ({"role": "system", "content": system}, *row.messages)
            row = replace(row, messages=messages, train=(False, *row.train))
        return [
            EncodedExample.of_runs(
                ((self._ids(run), train) for run, train in text.runs()),
                row.id,
                domain,
                final=True,
            )
            for text in self._renderer.texts(row)
        ]

    def encode(self, text: TrainingText, domain: str = "") -> EncodedExample:
        """Encodes one text.

        Raises:
            InputError: if the trajectory is invalid or made for another tokenizer or format, the
                model lacks a required special token, or the text looks like several turns of a
                conversation or, for infilling, is not a prompt and a response.
        """
        if self.infilling:
            _require_flags(text, "An infilling model")
            return self._body(text, domain)
        if backspace.is_trajectory(text):
            _require_flags(text, "A text with backspaces")
            return self._trajectory(text, domain)
        if error := removed(text.meta.get("format")):
            raise error
        text = self._in_own_tokens(text)
        kept = tuple(text.meta.get("special_tokens", ()))
        for token in kept:
            self._require(token, text)
        self.trained.update(text.meta.get("trained_tokens", ()))
        runs = [list(run) for _, run in groupby(text.segments, key=lambda s: bool(s.train))]
        opening = self._opening
        if self.format == "chat":
            _require_one_answer(text)
            prompt = "".join(s.text for s in runs.pop(0)) if runs and not runs[0][0].train else ""
            opening = self._chat_prompt(prompt.strip(), self.systems.get(domain, ""), kept)
        final = bool(runs and runs[-1][0].train)
        encoded = [(opening, False), *(self._run(run, kept) for run in runs)]
        if final:
            encoded.append((self.end, True))
        return EncodedExample.of_runs(encoded, text.example_id, domain, final=final)

    def _chat_prompt(self, prompt: str, system: str, kept: tuple[str, ...]) -> list[int]:
        pattern = self._pattern(kept, special=False)
        if not pattern.search(prompt):
            return chat.chat_prompt(self.tokenizer, prompt, system)
        turns = [{"role": "system", "content": system}] if system else []
        turns.append({"role": "user", "content": prompt})
        return chat.conversation(self.tokenizer, turns, pattern)[1]

    def _run(
        self, run: Sequence[Segment], kept: tuple[str, ...]
    ) -> tuple[list[int], bool | list[float]]:
        """Returns the tokens of segments, and their training flag or token weights."""
        text = "".join(segment.text for segment in run)
        trained = bool(run[0].train)
        pieces = _pieces(self._pattern(kept, special=trained), text)
        if not trained or all(segment.train == 1 for segment in run):
            return [token for piece in pieces for token in self._ids(piece)], trained
        if not self.tokenizer.is_fast:
            raise InputError(
                "Segments with weights need a tokenizer that maps tokens to characters.",
                "Use true and false for train, or a model with a fast tokenizer.",
            )
        of_character = [float(segment.train) for segment in run for _ in segment.text]
        ids: list[int] = []
        weights: list[float] = []
        at = 0
        for piece in pieces:
            encoded = self.tokenizer(piece, add_special_tokens=False, return_offsets_mapping=True)
            ids += encoded.input_ids
            for start, end in encoded.offset_mapping:
                weights.append(max(of_character[at + start : at + max(end, start + 1)]))
            at += len(piece)
        return ids, weights

    def _pattern(self, kept: tuple[str, ...], *, special: bool) -> re.Pattern[str]:
        """Returns a pattern that matches text that must not become a control token."""
        if (special, kept) not in self._patterns:
            tokens = [token for token in self._control[special] if token not in kept]
            self._patterns[special, kept] = chat.control_pattern(tokens)
        return self._patterns[special, kept]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def _in_own_tokens(self, text: TrainingText) -> TrainingText:
        """Replaces a text's ``special_tokens``, if the tokenizer lacks them, by the first of its
        ``other_tokens`` that the tokenizer has.
        """
        tokens = text.meta.get("special_tokens", ())
        others = text.meta.get("other_tokens", ())
        if not others or all(map(self._has, tokens)):
            return text
        fitting = (one for one in others if len(one) == len(tokens) and all(map(self._has, one)))
        known = next(fitting, tokens)
        names = dict(zip(tokens, known, strict=True))
        pattern = re.compile("|".join(map(re.escape, tokens)))
        segments = tuple(
            one._replace(text=pattern.sub(lambda match: names[match[0]], one.text))
            for one in text.segments
        )
        trained = [names[token] for token in text.meta.get("trained_tokens", ())]
        meta = {**text.meta, "special_tokens": known, "trained_tokens": trained}
        return replace(text, segments=segments, meta=meta)

    def _has(self, token: str) -> bool:
        if token not in self._known:
            self._known[token] = len(self._ids(token)) == 1
        return self._known[token]

    def _require(self, token: str, text: TrainingText) -> None:
        if not self._has(token):
            raise InputError(
                f"Text {text.id!r} needs the special token {token}, which the model's tokenizer"
                " does not have.",
                "Make the data for the model's family: codegen data infilling --style auto, or "
                "edits --format auto.",
            )

    def _trajectory(self, text: TrainingText, domain: str) -> EncodedExample:
        if self.codec is None:
            self.codec = backspace.Codec(self.tokenizer)
        backspace.require_same(text, self.codec)
        if text.meta.get("format") != self.format:
            raise InputError(
                f"Text {text.id!r} was made for format {text.meta.get('format')!r}, but the recipe"
                f" has {self.format!r}.",
                "Regenerate the data with: codegen data backspace --format, or change the recipe.",
            )
        return EncodedExample.of_stack(
            backspace.stack_layout(backspace.from_text(text)), text.example_id, domain
        )

    def _body(self, text: TrainingText, domain: str) -> EncodedExample:
        if text.text != text.prompt + text.trained:
            raise InputError(
                f"Text {text.id!r} has untrained segments within its response.",
                "An infilling model needs a prompt and a response that is trained as a whole.",
            )
        prefix, body = self._ids(text.prompt), self._ids(text.trained)
        ids = [*prefix, *body]
        slots = list(range(len(prefix), len(ids)))
        layout = causal(len(ids))
        return EncodedExample(text.example_id, ids, slots, body, slots, layout, domain, False)

    def tokens(self, text: TrainingText) -> list[int]:
        """Returns the tokens of a text's prompt and response, which are both trained.

        Raises:
            InputError: for a text with weights.
        """
        _require_flags(text, "curriculum.mode: decompose")
        parts = _pieces(self._pattern((), special=True), text.text)
        ids = [token for part in parts for token in self._ids(part)]
        return [*ids, self.tokenizer.eos_token_id]


def _require_flags(text: TrainingText, what: str) -> None:
    if any(segment.train not in (0, 1) for segment in text.segments):
        raise InputError(
            f"Text {text.id!r} has weights. {what} does not support them.",
            "Use true and false for train.",
        )


def _require_one_answer(text: TrainingText) -> None:
    flags = [bool(segment.train) for segment in text.segments]
    answer = text.segments[flags.index(True) :] if True in flags else ()
    if any(segment.train is False for segment in answer):
        raise InputError(
            f"Text {text.id!r} has an untrained segment after a trained one, which format: chat "
            "would put into the same answer.",
            "Pass conversations as messages; for a part of an answer set train: 0.0, not false.",
        )


def _pieces(control: re.Pattern[str], text: str) -> list[str]:
    """Splits the text inside each spelled-out control token."""
    cuts = [match.start() + 1 for match in control.finditer(text)]
    return [text[start:stop] for start, stop in pairwise([0, *cuts, len(text)])]
