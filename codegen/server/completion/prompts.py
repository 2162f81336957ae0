"""Builds the model's prompt from the text around the cursor.

The prompt is a window of whole lines around the cursor, in the layout that the model was trained
on: prefix, suffix, middle (PSM), suffix first (SPM), or only the prefix for models without
sentinels. The window fills at least half of the available length. It begins at one of the least
indented lines, such as a top-level definition or a method of a long class, and among these at the
one with the smallest checksum. While the text grows and shrinks, the window keeps that start until
the line is out of reach or a line with a smaller checksum comes into reach. When the start moves,
all states in the cache become approximate; with the first such line as the start, it would move
three times as often.

The sentinels' templates come from the evaluation's prompt styles. A model belongs to a family if
each of the family's sentinels is one token of its vocabulary. Client prompts with sentinels of
other families are parsed (:func:`parse_foreign`).

User text is never tokenized as a control token: text that spells one is tokenized in two parts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from codegen.core.secret_scan import redact
from codegen.decoding.healing import Vocabulary
from codegen.evals.tasks.styles import STYLES
from codegen.models.chat import control_pattern, control_tokens
from codegen.server.completion.postprocess import comment_mark, indentation, scan, whole_characters
from codegen.server.completion.requests import CompletionRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SENTINEL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")
_PART = re.compile(r"\{(prefix|suffix)\}")
# Families trained on both orders, or only on suffix first. With the suffix first, the typed text is
# at the prompt's end, where encoding it costs least.
_SUFFIX_FIRST = ("starcoder", "santacoder", "codellama", "codestral")
# Client layouts without a prompt style: GLM's.
_FOREIGN = ("<|code_prefix|>{prefix}<|code_suffix|>{suffix}<|code_middle|>",)


@dataclass(frozen=True)
class FimFamily:
    """One layout of a model family's sentinels.

    Attributes:
        template: string with ``{prefix}`` and ``{suffix}``.
        ends: strings that end the middle.
    """

    name: str
    template: str
    ends: tuple[str, ...] = ()

    @cached_property
    def parts(self) -> list[str]:
        """Sentinels alternating with ``prefix`` and ``suffix``, beginning with a sentinel."""
        return _PART.split(self.template)

    @property
    def suffix_first(self) -> bool:
        """True if the prefix is at the prompt's end (SPM)."""
        return self.template.endswith("{prefix}")

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Regex that matches a prompt in this layout."""
        named = [
            f"(?P<{part}>.*)" if part in ("prefix", "suffix") else re.escape(part)
            for part in self.parts
        ]
        return re.compile("(?P<before>.*?)" + "".join(named) + r"\Z", re.DOTALL)


class ParsedFimPrompt(NamedTuple):
    """Parsed client prompt with sentinels.

    Attributes:
        prefix, suffix: text around the gap.
        before: text before the first sentinel (other files).
    """

    prefix: str
    suffix: str
    before: str


FAMILIES = [
    FimFamily(style.name, style.template, style.stop)
    for style in STYLES.values()
    if style.ask == "infill"
]
_PATTERNS = [*FAMILIES, *(FimFamily("foreign", template) for template in _FOREIGN)]
# Most specific first: layouts with the prefix between sentinels, then with it at the end.
_PATTERNS.sort(key=lambda family: (family.suffix_first, -len(family.template)))


def find_family(tokenizer: PreTrainedTokenizerBase) -> FimFamily | None:
    """Returns the model's family in its preferred layout; None if absent."""
    vocabulary = tokenizer.get_vocab()
    return preferred([family for family in FAMILIES if _has(vocabulary, family)])


def preferred(families: Sequence[FimFamily]) -> FimFamily | None:
    """Returns the preferred family of a model."""
    if not families:
        return None
    suffix_first = any(name in families[0].name for name in _SUFFIX_FIRST)
    wished = [family for family in families if family.suffix_first == suffix_first]
    return (wished or families)[0]


def _has(vocabulary: dict[str, int], family: FimFamily) -> bool:
    """Returns True if each sentinel is a token; two adjacent ones are two tokens."""
    texts = [part for part in family.parts if part not in ("prefix", "suffix")]
    return all(part in vocabulary for text in texts for part in _SENTINEL.findall(text))


def parse_foreign(prompt: str) -> ParsedFimPrompt | None:
    """Parses a prompt in any family's layout; None if none matches."""
    for family in _PATTERNS:
        found = family.pattern.match(prompt)
        if found:
            return ParsedFimPrompt(found["prefix"], found["suffix"], found["before"])
    return None


_CHARS_A_TOKEN = 5  # above the mean of code, so that text cut by characters still has enough tokens
_SUFFIX_SHARE = 0.25
_LINE_START = re.compile(r"(?:\A|(?<=\n)|(?<=\r)(?!\n))")
_CODE_LINE = re.compile(r"(?:\A|(?<=\n)|(?<=\r)(?!\n))([ \t]*)[^\s)\]}][^\r\n]*")
_FILE_MARKS = ("<|file_sep|>", "<file_sep>")
# Sentinel before a repository's name -> terminator of the name.
_REPOSITORY_MARKS = {"<|repo_name|>": "\n", "<repo_name>": ""}


@dataclass(frozen=True, slots=True)
class Prompt:
    """Prompt tokens and their properties.

    Attributes:
        ids: token ids.
        rest: bytes that the first new tokens must spell (token healing).
        taken: tokens that healing removed.
        statement: start and end token of the cursor's statement, up to the cursor; its states must
            not stay stale. Suffix tokens may follow.
        seen: number of characters before the cursor in the prompt.
        quote: quote of the string or comment in which the cursor's line begins, or empty.
    """

    ids: list[int]
    rest: bytes
    taken: list[int]
    statement: tuple[int, int]
    seen: int
    quote: str


class _Encoded(NamedTuple):
    ids: list[int]
    starts: list[int]  # character offset of each token


class Prompter:
    """Builds prompts for one model.

    Args:
        family: the model's sentinels; None for only the prefix.
        vocabulary: the model's vocabulary, for token healing.
        limit: the model's maximum number of tokens.

    Attributes:
        control: regex for text that spells a control token.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        family: FimFamily | None,
        vocabulary: Vocabulary,
        limit: int,
    ) -> None:
        core: Any = tokenizer.backend_tokenizer
        self._core = core
        self._vocabulary = vocabulary
        self.family = family
        self.limit = limit
        known = tokenizer.get_vocab()
        self.control = control_pattern(control_tokens(tokenizer))
        first = tokenizer("").input_ids
        self._first = [token for token in first if token != tokenizer.eos_token_id]
        starts = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        self._alone = self._first or [next(token for token in starts if token is not None)]
        self._file_mark = next((known[mark] for mark in _FILE_MARKS if mark in known), None)
        marks = [mark for mark in _REPOSITORY_MARKS if mark in known]
        self._repository_mark = marks[0] if marks else ""
        self._known = known
        self._pieces: list[str | list[int]] = []
        for part in family.parts if family else ["prefix"]:
            ids = self._core.encode(part, add_special_tokens=False).ids if part else []
            self._pieces.append(part if part in ("prefix", "suffix") else ids)

    def build(self, request: CompletionRequest) -> Prompt:
        """Builds the prompt of a request."""
        if request.tokens:
            end = len(request.tokens)
            return Prompt(list(request.tokens), b"", [], (end, end), 0, "")
        room = self.limit - request.params.max_new_tokens - len(self._first) - 8
        head = self._snippets(request, int(room * request.snippet_share))
        room -= len(head)
        suffix: list[int] = []
        if self.family:
            most = int(room * _SUFFIX_SHARE)
            suffix = self.encode(request.suffix[: most * _CHARS_A_TOKEN]).ids[:most]
            marks = [piece for piece in self._pieces if not isinstance(piece, str)]
            room -= len(suffix) + sum(map(len, marks))
        seen = min(len(request.prefix), room * _CHARS_A_TOKEN)
        prefix, window = self._prefix(request.prefix, room)
        # Scan the whole prefix: the window may begin within a string.
        text = request.prefix
        line = max(text.rfind("\n"), text.rfind("\r")) + 1
        above = scan(text[:line], request.language)
        quote = above.quote or "/*" * above.comment
        statement = scan(text, request.language).statement - (len(text) - len(window))
        size = sum(start >= statement for start in prefix.starts)
        filled, end = self._filled(prefix.ids, suffix)
        ids = [*self._first, *head, *filled]
        end += len(ids) - len(filled)
        again = end - size, end
        if self.family:
            return Prompt(ids, b"", [], again, seen, quote)
        healed = self._vocabulary.heal(ids or self._alone)
        return Prompt(healed.ids, healed.rest, healed.taken, again, seen, quote)

    def encode(self, text: str) -> _Encoded:
        """Tokenizes a user's text without control tokens."""
        text = whole_characters(text)
        ids: list[int] = []
        starts: list[int] = []
        at = 0
        cuts = [found.start() + 1 for found in self.control.finditer(text)]
        for cut in [*cuts, len(text)]:
            encoding = self._core.encode(text[at:cut], add_special_tokens=False)
            ids += encoding.ids
            starts += [at + start for start, _ in encoding.offsets]
            at = cut
        return _Encoded(ids, starts)

    def _prefix(self, text: str, room: int) -> tuple[_Encoded, str]:
        """Returns the tokens of the last lines that fit, and their text."""
        text = text[-room * _CHARS_A_TOKEN :]
        encoded = self.encode(text)
        if len(encoded.ids) <= room:
            return encoded, text
        text = text[window_start(text, encoded.starts[-room], encoded.starts[-room // 2]) :]
        encoded = self.encode(text)
        # Cutting may change the first tokens and increase their number.
        extra = max(0, len(encoded.ids) - room)
        return _Encoded(encoded.ids[extra:], encoded.starts[extra:]), text

    def _snippets(self, request: CompletionRequest, room: int) -> list[int]:
        """Returns the tokens of the last snippets that fit whole, and of this file's name."""
        kept: list[tuple[str, list[int], list[int]]] = []
        for name, text in reversed(request.snippets):
            text = redact(text[: room * _CHARS_A_TOKEN]) + "\n"
            one = name, self._header(name, request.language), self.encode(text).ids
            room -= len(one[1]) + len(one[2])
            if room < 0:
                break
            kept.insert(0, one)
        if not kept:
            return []
        ids: list[int] = []
        if request.repository and self._repository_mark:
            name = f"{one_line(request.repository)}{_REPOSITORY_MARKS[self._repository_mark]}"
            ids = [self._known[self._repository_mark], *self.encode(name).ids]
        last = ""
        for name, header, text in kept:
            ids += text if name == last else [*header, *text]
            last = name
        return [*ids, *self._header(request.path or "current file", request.language)]

    def _header(self, name: str, language: str) -> list[int]:
        """Returns the tokens that precede a file's text."""
        if self._file_mark is not None:
            return [self._file_mark, *self.encode(f"{one_line(name)}\n").ids]
        return self.encode(f"{comment_mark(language)} {one_line(name)}\n").ids

    def _filled(self, prefix: list[int], suffix: list[int]) -> tuple[list[int], int]:
        """Returns the prompt around the cursor, and the end of the prefix in it."""
        parts = {"prefix": prefix, "suffix": suffix}
        ids: list[int] = []
        end = 0
        for piece in self._pieces:
            ids += parts[piece] if isinstance(piece, str) else piece
            if piece == "prefix":
                end = len(ids)
        return ids, end


def one_line(name: str) -> str:
    """Converts a client's name to a single line for a prompt."""
    return " ".join(name.split())[:200]


def window_start(text: str, first: int, last: int) -> int:
    """Returns the start of a window between two offsets: of the least indented lines, the one with
    the smallest checksum; else the next line, else the first character.
    """
    lines = [
        (indentation(found[1]), crc32(found[0].encode("utf-8", "replace")), found.start())
        for found in _CODE_LINE.finditer(text, first)
        if found.start() <= last
    ]
    if lines:
        return min(lines)[2]
    found = _LINE_START.search(text, first)
    return found.start() if found else first
