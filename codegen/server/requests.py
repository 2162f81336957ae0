"""What is asked of the engine and what it answers: plain data between protocols and model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from codegen.errors import CodegenError
from codegen.server.stops import Multiline

Finish = Literal["stop", "length", "eos"]


class DocumentKey(NamedTuple):
    """Whose cache: documents of different clients or workspaces never share one."""

    client: str
    workspace: str
    document: str


class Snippet(NamedTuple):
    """Text of another file."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request for text between a prefix and a suffix.

    Attributes:
        key: the document's.
        prefix, suffix: the text around the cursor, as much as is known of it.
        language: as editors name it.
        path: of the document; a label.
        snippets: of other files.
        max_tokens: of each candidate.
        candidates: how many different ones.
        temperature: 0 for the most probable text and, as further candidates, its nearest rivals;
            above 0 each candidate is drawn.
        top_p: see :func:`codegen.decoding.sampling.choose`.
        seed: of the drawing.
        stop: strings that end a candidate.
        multiline: how far a candidate goes; None for raw continuation, which ends only by
            ``max_tokens``, ``stop`` and the end of the sequence; only unsafe characters are
            taken out of it.
        max_lines: of a candidate.
        deadline_s: time after which what there is is the answer.
        settle: whether states that an edit made approximate are encoded again where they may have
            decided the answer. False takes the fast answer, :attr:`Completion.settled` says
            whether it can be trusted.
    """

    key: DocumentKey
    prefix: str
    suffix: str = ""
    language: str = ""
    path: str = ""
    snippets: tuple[Snippet, ...] = ()
    max_tokens: int = 64
    candidates: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    multiline: Multiline | None = "auto"
    max_lines: int = 12
    deadline_s: float = 20.0
    settle: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """One suggestion.

    Attributes:
        text: to insert at the cursor.
        tokens: number that the model made for it.
        finish: why it ended.
    """

    text: str
    tokens: int
    finish: Finish


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer.

    Attributes:
        candidates: different ones, best first; none if there is nothing worth it.
        prompt_tokens: of the whole prompt.
        reused, moved, encoded: of them, see :class:`codegen.decoding.editing.EditReport`.
        recomputed: of the reused ones, those encoded again to settle a doubt.
        seen: how many characters before the cursor the prompt was made from.
        from_suggestion: whether an earlier suggestion was the answer, without the model.
        settled: false if encoding everything again might give another answer.
        stages: seconds by stage (``queue``, ``prompt``, ``encode``, ``settle``, ``decode``,
            ``total``).
    """

    candidates: tuple[Candidate, ...]
    prompt_tokens: int = 0
    reused: int = 0
    moved: int = 0
    encoded: int = 0
    recomputed: int = 0
    seen: int = 0
    from_suggestion: bool = False
    settled: bool = True
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The first candidate's."""
        return self.candidates[0].text if self.candidates else ""


class Superseded(CodegenError):
    """A newer request for the same document, or the end of the client, made this one useless."""


class Overloaded(CodegenError):
    """Too many requests wait."""
