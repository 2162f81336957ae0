"""Requests to the engine, its answers, and the limits on both.

Unlike :class:`codegen.generation.Request`, a completion request belongs to a document. Shared
fields have the same names, and the sampling parameters are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import NamedTuple

from codegen.errors import CodegenError, ConfigError
from codegen.generation import SamplingParams
from codegen.records import FinishReason
from codegen.server.text import Multiline, StopRule, clean, rule_for, safe_text


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one client may request, and what the server keeps in memory.

    Attributes:
        context_tokens: longest prompt; text farther from the cursor is left out.
        max_tokens: longest completion, in tokens.
        candidates: most candidates of one request.
        document_chars: longest document; longer ones get no completions.
        body_bytes: largest HTTP body and LSP message.
        documents: documents whose caches are kept.
        cache_bytes: keys and values of all documents together; the least recently used go first.
        queue: most waiting requests.
        requests_per_s: mean request rate of one client.
        burst: requests that one client may send at once.
        together: requests that run at the same time and share forward passes.
        deadline_s: longest time for one request; what has been decoded by then is the answer.
        read_s: longest time for a client to send its request.
        conversation_tokens: longest conversation, its answer included.
        conversation_s: longest time for an answer in a conversation.
    """

    context_tokens: int = 1024
    max_tokens: int = 512
    candidates: int = 8
    document_chars: int = 4_000_000
    body_bytes: int = 8_000_000
    documents: int = 64
    cache_bytes: int = 1 << 30
    queue: int = 64
    requests_per_s: float = 50.0
    burst: int = 100
    together: int = 8
    deadline_s: float = 20.0
    read_s: float = 10.0
    conversation_tokens: int = 8192
    conversation_s: float = 600.0

    def __post_init__(self) -> None:
        for field_ in fields(self):
            if getattr(self, field_.name) <= 0:
                raise ConfigError(f"{field_.name} must be above 0.")


class DocumentKey(NamedTuple):
    """Names a document's cache: different clients or workspaces never share one."""

    client: str
    workspace: str
    document: str


class Snippet(NamedTuple):
    """Text of another file.

    Attributes:
        name: of the file; the same one may have several.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request for the text between a prefix and a suffix.

    Attributes:
        prefix, suffix: the text around the cursor, as much of it as the client sent.
        path: of the document; a label, no file is opened.
        snippets: text of other files, the most important last.
        snippet_share: largest share of the prompt's tokens for the snippets.
        repository: the repository's name, for models trained with it in front of the files.
        candidates: number of different candidates to return.
        enough: no further candidate is looked for after one for which this is true; None to look
            for all of them.
        params: sampling of each candidate. Temperature 0 gives the most probable text and, as
            further candidates, its nearest rivals; above 0 each candidate is sampled.
        stop: strings that end a candidate.
        multiline: how far a candidate may extend; None for a raw continuation, which is ended only
            by ``max_new_tokens``, ``stop`` and the end of the sequence, and from which only unsafe
            characters are removed.
        max_lines: most lines of a candidate.
        deadline_s: seconds after which the text decoded so far is the answer.
        settle: whether to encode states again that an edit made approximate and that may have
            decided the answer. False takes the fast answer; :attr:`Completion.settled` says
            whether it is certain.
        tokens: a whole prompt as token ids, such as a conversation's; the text around the cursor
            then only identifies documents without names.
        patient: whether other requests take precedence.
        waits: whether to wait until the deadline for an upstream server that is gone, instead of a
            moment only.
        prediction: text that most of the answer is expected to have. It is used as a draft, which
            changes the answer's time alone.
        least: if above 0, a token of the prediction is chosen wherever the model gives it at least
            this probability, except as the first token of a ``hesitant`` answer: typical acceptance
            with a constant threshold (Cai et al. 2024, arXiv 2401.10774, section 2.3.1).
        hesitant: tokens, by id, that begin an answer only if the model gives them at least this
            probability; otherwise the most probable other token begins it.
        top_k: sample from this many of the most probable tokens; 0 for all.
        marks: special tokens whose names are part of the answer's text; others are not shown.
    """

    key: DocumentKey
    prefix: str
    suffix: str = ""
    language: str = ""
    path: str = ""
    snippets: tuple[Snippet, ...] = ()
    snippet_share: float = 0.25
    repository: str = ""
    candidates: int = 1
    params: SamplingParams = SamplingParams(max_new_tokens=64)
    stop: tuple[str, ...] = ()
    multiline: Multiline | None = "auto"
    max_lines: int = 12
    deadline_s: float = 20.0
    settle: bool = True
    tokens: tuple[int, ...] = ()
    patient: bool = False
    waits: bool = True
    prediction: str = ""
    least: float = 0.0
    hesitant: tuple[tuple[int, float], ...] = ()
    top_k: int = 0
    marks: tuple[str, ...] = ()
    enough: Callable[[Candidate], bool] | None = field(default=None, repr=False)

    @property
    def exact(self) -> bool:
        """Whether decoding must begin with exact states: all but single suggestions."""
        plain = self.candidates == 1 and self.params.temperature == 0
        more = self.tokens or self.prediction or self.top_k
        return bool(more or self.hesitant) or not plain

    def stop_rule(self) -> StopRule | None:
        """Where a candidate ends; None for a raw continuation."""
        if self.multiline is None:
            return None
        return rule_for(self.prefix, self.suffix, self.language, self.multiline, self.max_lines)

    def shown(self, text: str) -> str:
        """The part of a candidate's text that is shown."""
        if self.multiline is None:
            return safe_text(text)
        return clean(text, self.prefix, self.suffix, self.language)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One suggestion.

    Attributes:
        completion_tokens: number of tokens decoded for it.
        finish_reason: why it ended.
    """

    text: str
    completion_tokens: int
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request.

    Attributes:
        candidates: different candidates, best first; empty if nothing is worth suggesting.
        reused, encoded: its tokens, see :class:`codegen.decoding.editing.EditReport`.
        recomputed: reused tokens that were encoded again to settle a doubt.
        seen: number of characters before the cursor that the prompt was made from.
        from_suggestion: whether the answer is an earlier suggestion.
        settled: false if encoding the whole prompt again might give another answer.
        accepted, rejected: tokens drafted from the request's prediction that the model confirmed
            and rejected.
        stages: seconds by stage (``queue``, ``prompt``, ``encode``, ``settle``, ``decode``,
            ``total``).
    """

    candidates: tuple[Candidate, ...]
    prompt_tokens: int = 0
    reused: int = 0
    encoded: int = 0
    recomputed: int = 0
    seen: int = 0
    from_suggestion: bool = False
    settled: bool = True
    accepted: int = 0
    rejected: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Text of the first candidate."""
        return self.candidates[0].text if self.candidates else ""


@dataclass(frozen=True, slots=True)
class Status:
    """The server's state, for editors to show.

    Attributes:
        kind: ``Normal``, ``Inactive`` (nothing is suggested here), ``Warning`` or ``Error``.
        busy: whether the server is still starting.
    """

    kind: str
    message: str
    busy: bool = False


class Superseded(CodegenError):
    """A newer request for the same document came, or the client left."""


class Overloaded(CodegenError):
    """Too many requests are waiting.

    Attributes:
        after_s: seconds after which there should be room.
    """

    def __init__(self, message: str, remedy: str = "", after_s: int = 1) -> None:
        super().__init__(message, remedy)
        self.after_s = after_s


class Unavailable(CodegenError):
    """The upstream server gave no answer before the deadline, or refused."""
