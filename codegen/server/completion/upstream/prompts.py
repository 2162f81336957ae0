"""Builds the body of a request to an upstream server from the text around the cursor.

Without a tokenizer, windows are measured in characters. A window begins at the same line as the
local model's (:func:`codegen.server.completion.prompts.window_start`). Other files come first,
oldest first, so that the prompt's beginning stays the same while the user types, and the server's
prefix cache stays valid.

Document text is never tokenized as a control token: text that spells one is split. Strings that
look like secrets are removed from other files, and from the document itself if the server is on
another machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from codegen.core.secret_scan import redact
from codegen.server.completion.postprocess import comment_mark, whole_characters
from codegen.server.completion.prompts import FimFamily, one_line, window_start
from codegen.server.completion.requests import CompletionRequest, Snippet

Kind = Literal["infill", "suffix", "sentinels", "fim", "prefix", "chat"]

_SUFFIX_SHARE = 0.25  # fraction of the window without other files
# Marks before a file's name and before the repository's, by family.
_MARKS = {"qwen": ("<|file_sep|>", "<|repo_name|>"), "starcoder": ("<file_sep>", "<repo_name>")}
_MOST_STOPS = 4  # maximum of OpenAI's API
CURSOR = "<CURSOR>"
_INSTRUCTION = (
    f"Complete the code at {CURSOR}. Reply with the text that replaces {CURSOR} and nothing else: "
    "no explanation, no Markdown, and nothing of the text before or after it."
)


@dataclass(frozen=True)
class RequestStyle:
    """Way to request a completion from a server.

    Attributes:
        kind: ``infill`` (llama.cpp's route), ``suffix`` (OpenAI's field), ``sentinels`` (in a raw
            prompt), ``fim`` (Mistral's route), ``prefix`` (only the text before the cursor) or
            ``chat`` (an instruction).
        url: URL of the route.
        native: whether the route accepts llama.cpp's own fields.
        family: family of the sentinels.
        tokens: name of the field for the maximum tokens.
        temperature: whether the server accepts a temperature.
    """

    kind: Kind
    url: str
    native: bool = False
    family: FimFamily | None = None
    tokens: str = "max_tokens"
    temperature: bool = True

    @property
    def words(self) -> str:
        """A description for the status line."""
        return {
            "infill": "/infill",
            "suffix": "completions with a suffix",
            "sentinels": f"sentinels of {self.family.name if self.family else ''}",
            "fim": "/v1/fim/completions",
            "prefix": "only the text before the cursor",
            "chat": "chat",
        }[self.kind]


@dataclass(frozen=True, slots=True)
class Window:
    """Text to send.

    Attributes:
        snippets: excerpts of other files that fit.
        path, language, repository: properties of the document.
        seen: number of characters before the cursor in the prefix.
    """

    prefix: str
    suffix: str
    snippets: tuple[Snippet, ...]
    path: str
    language: str
    repository: str
    seen: int


def window(request: CompletionRequest, chars: int, *, remote: bool) -> Window:
    """Returns the text around a request's cursor.

    Args:
        chars: maximum characters of the prompt.
        remote: whether the server is on another machine, which must not receive secrets.
    """
    snippets: list[Snippet] = []
    left = int(chars * request.snippet_share)
    for snippet in reversed(request.snippets):
        left -= len(snippet.text)
        if left < 0:
            break
        snippets.insert(0, Snippet(_name(snippet.name), whole_characters(redact(snippet.text))))
    room = chars - sum(len(snippet.text) for snippet in snippets)
    suffix = request.suffix[: int(room * _SUFFIX_SHARE)]
    if len(suffix) < len(request.suffix) and "\n" in suffix:
        suffix = suffix[: suffix.rindex("\n") + 1]  # whole lines
    room -= len(suffix)
    prefix = request.prefix
    if len(prefix) > room:
        prefix = prefix[window_start(prefix, len(prefix) - room, len(prefix) - room // 2) :]
    if remote:
        prefix, suffix = redact(prefix), redact(suffix)
    seen = min(len(request.prefix), room + 1)
    path = request.path.rpartition("/")[2] if "://" in request.path else request.path
    return Window(
        whole_characters(prefix),
        whole_characters(suffix),
        tuple(snippets),
        _name(path),
        request.language,
        _name(request.repository),
        seen,
    )


def body(
    way: RequestStyle, text: Window, *, tokens: int, temperature: float, stops: tuple[str, ...]
) -> Any:
    """Returns the JSON object that requests one completion."""
    asked: dict[str, Any] = {"n_predict" if way.native else way.tokens: tokens}
    if way.temperature:
        asked["temperature"] = temperature
    if stops and way.kind != "chat":
        asked["stop"] = list(stops[:_MOST_STOPS])
    if way.kind == "infill":
        extra = [{"filename": one.name, "text": one.text} for one in text.snippets]
        asked |= {
            "input_prefix": text.prefix,
            "input_suffix": text.suffix,
            "input_extra": extra,
            "prompt": "",
        }
    elif way.kind == "chat":
        asked["messages"] = [
            {"role": "system", "content": _INSTRUCTION},
            {"role": "user", "content": _question(text)},
        ]
    elif way.kind == "sentinels":
        asked["prompt"] = _filled(way.family, text)
    else:
        asked["prompt"] = _files(text, plain) + plain(text.prefix)
        if way.kind != "prefix":
            asked["suffix"] = plain(text.suffix)
    return asked


def _filled(family: FimFamily | None, text: Window) -> str:
    assert family
    parts = {"prefix": plain(text.prefix), "suffix": plain(text.suffix)}
    marks = next((marks for name, marks in _MARKS.items() if name in family.name), None)
    return _files(text, plain, marks) + "".join(parts.get(part, part) for part in family.parts)


def _files(text: Window, safe: Callable[[str], str], marks: tuple[str, str] | None = None) -> str:
    """Returns other files' text and this file's name, after marks or in comments."""
    if not text.snippets:
        return ""
    begin = marks[0] if marks else f"{comment_mark(text.language)} "
    files, last = "", ""
    if marks and text.repository:
        files = f"{marks[1]}{safe(text.repository)}\n"
    for name, part in text.snippets:
        files += f"{safe(part)}\n" if name == last else f"{begin}{safe(name)}\n{safe(part)}\n"
        last = name
    return f"{files}{begin}{safe(text.path or 'current file')}\n"


def _question(text: Window) -> str:
    def safe(part: str) -> str:
        return plain(part).replace(CURSOR, "< CURSOR>")

    name = safe(text.path) or "the file"
    code = f"{safe(text.prefix)}{CURSOR}{safe(text.suffix)}"
    return f"{_files(text, safe)}{name} ({text.language or 'code'}):\n\n{code}"


# Strings that code models' tokenizers map to one token.
_CONTROL = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<\uff5c[^<>\uff5c\s]{1,40}\uff5c>"
    r"|</?s>|<(?:unk|pad|bos|eos|EOT|PRE|SUF|MID|reponame|filename)>|<(?:start|end)_of_turn>"
    r"|<(?:fim|issue|jupyter|commit|gh|repo|file|empty)[-_][a-z_]+>"
    r"|\[/?(?:INST|SUFFIX|PREFIX|MIDDLE|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]"
)


def plain(text: str) -> str:
    """Inserts a space into text that spells a control token."""
    return _CONTROL.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def host_of(url: str) -> str:
    """Returns host and port, for messages."""
    return urlsplit(url).netloc


def _name(name: str) -> str:
    return whole_characters(one_line(name))


_FENCE = re.compile(r"\s*```[^\n]*\n")


def code_of(answer: str, prefix: str) -> str:
    """Extracts the text to insert from a chat model's response, which may still grow."""
    fence = _FENCE.match(answer)
    if fence or answer.lstrip().startswith("```"):
        answer = answer[fence.end() :] if fence else ""
        answer = answer.partition("\n```")[0]
    answer = answer.replace(CURSOR, "")
    line = prefix[prefix.rfind("\n") + 1 :]
    for begun in (line, line.lstrip()):  # models often repeat the current line first
        if begun and answer.startswith(begun):
            return answer[len(begun) :]
    return answer
