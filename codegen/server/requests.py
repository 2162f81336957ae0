"""Requests to the engine, its answers, and the limits on both.

A completion request is not :class:`codegen.generation.Request`, which has one text and no document;
what both have goes by the same names, and the sampling parameters are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import NamedTuple

from codegen.errors import CodegenError, ConfigError
from codegen.generation import SamplingParams
from codegen.records import FinishReason
from codegen.server.text import Multiline, StopRule, clean, rule_for, safe_text


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one client may request, and what the server holds in memory.

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
        text: a part of it.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One request for the text between a prefix and a suffix.

    Attributes:
        key: of the document.
        prefix, suffix: the text around the cursor, as much of it as the client sent.
        language: the editor's name for the language.
        path: of the document; a label, no file is opened.
        snippets: text of other files, the most important last.
        snippet_share: most of the prompt's tokens that they take.
        repository: its name, for models that were trained with it in front of its files.
        candidates: how many different candidates to return.
        params: of each candidate. Temperature 0 gives the most probable text and, as further
            candidates, its nearest rivals; above 0 each candidate is sampled.
        stop: strings that end a candidate.
        multiline: how far a candidate may go; None for a raw continuation, which ends only by
            ``max_new_tokens``, ``stop`` and the end of the sequence, and of which only unsafe
            characters are removed.
        max_lines: of a candidate.
        deadline_s: time after which what has been decoded is the answer.
        settle: whether states that an edit made approximate are encoded again where they may have
            decided the answer. False takes the fast answer; :attr:`Completion.settled` says
            whether it is certain.
        tokens: a whole prompt, made already, such as a conversation's; the text around the cursor
            then only tells documents without names apart.
        patient: whether requests that are not go first.
        waits: whether it waits until its deadline for a server that is gone, as an editor's does,
            and not for a moment only.
        prediction: the text that the answer is expected to be for the most part; it is drafted
            from, which changes the answer's time alone.
        logprobs: for how many of the most probable tokens, at each token, their log-probabilities
            are wanted beside the token's own; None for none at all.
        presence_penalty, frequency_penalty: taken from the logits of tokens that the answer has,
            once and for each time (OpenAI's API).
        logit_bias: added to the logits of tokens, by id.
        top_k: draw from so many of the most probable tokens; 0 for all.
        marks: special tokens whose names belong to the answer's text; others give none.
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
    logprobs: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    top_k: int = 0
    marks: tuple[str, ...] = ()

    @property
    def changes_logits(self) -> bool:
        """Whether the logits are changed before a token is chosen."""
        penalties = self.presence_penalty or self.frequency_penalty
        return bool(penalties or self.logit_bias or self.top_k)

    @property
    def exact(self) -> bool:
        """Whether the answer takes exact states to begin with: all but single suggestions."""
        plain = self.candidates == 1 and self.params.temperature == 0
        more = self.tokens or self.prediction or self.logprobs is not None or self.changes_logits
        return bool(more) or not plain

    def stop_rule(self) -> StopRule | None:
        """Where a candidate ends; None for a raw continuation."""
        if self.multiline is None:
            return None
        return rule_for(self.prefix, self.suffix, self.language, self.multiline, self.max_lines)

    def shown(self, text: str) -> str:
        """What is shown of a candidate's text."""
        if self.multiline is None:
            return safe_text(text)
        return clean(text, self.prefix, self.suffix, self.language)


class TokenLogprob(NamedTuple):
    """A token of an answer.

    Attributes:
        token: its bytes.
        logprob: the natural logarithm of the probability that the model gave it, at temperature 1.
        top: the most probable tokens in its place, with theirs.
    """

    token: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One suggestion.

    Attributes:
        text: to insert at the cursor.
        completion_tokens: how many tokens the model decoded for it.
        finish_reason: why it ended.
        logprobs: of the tokens of the text, if they were wanted.
    """

    text: str
    completion_tokens: int
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to one request.

    Attributes:
        candidates: different ones, best first; empty if nothing is worth suggesting.
        prompt_tokens: length of the prompt.
        reused, moved, encoded: of them, see :class:`codegen.decoding.editing.EditReport`.
        recomputed: of the reused ones, those encoded again to settle a doubt.
        seen: characters before the cursor that the prompt was made from.
        from_suggestion: whether an earlier suggestion was the answer, without the model.
        settled: false if encoding the whole prompt again might give another answer.
        accepted, rejected: tokens drafted from the request's prediction that the model confirmed,
            and that it refused.
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
    accepted: int = 0
    rejected: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Text of the first candidate."""
        return self.candidates[0].text if self.candidates else ""


@dataclass(frozen=True, slots=True)
class Status:
    """What an editor may show.

    Attributes:
        kind: ``Normal``, ``Inactive`` (nothing is suggested here), ``Warning`` or ``Error``.
        message: one line.
        busy: whether to wait.
    """

    kind: str
    message: str
    busy: bool = False


class Superseded(CodegenError):
    """A newer request for the same document, or the client's end, made this one useless."""


class Overloaded(CodegenError):
    """Too many requests are waiting.

    Attributes:
        after_s: seconds after which there should be room.
    """

    def __init__(self, message: str, remedy: str = "", after_s: int = 1) -> None:
        super().__init__(message, remedy)
        self.after_s = after_s


class Unavailable(CodegenError):
    """The server that completions come from gave no answer before the deadline, or refused."""
