"""What of a model's text is shown.

In order: characters that no code needs and that could deceive or drive a terminal are taken out;
what would close brackets that nobody opened is cut; what stands behind the cursor anyway is not
suggested again; lines that only repeat are cut. Nothing may be left.
"""

from __future__ import annotations

import re

from codegen.server.brackets import CLOSERS, Open, scan

# C0 and C1 controls but for tab and line ends, bidirectional controls, invisible characters, what
# stands for broken ones, tags.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffd\ud800-\udfff\U000e0000-\U000e007f]"
)
_BREAK = re.compile(r"\r\n|\r|\n")
_FEWEST = 3  # characters of a line that counts as repeated


def safe_text(text: str) -> str:
    """Without control, invisible and direction-changing characters, and lone surrogates."""
    return _UNSAFE.sub("", text)


def clean(text: str, prefix: str, suffix: str, language: str = "") -> str:
    """What is shown of a suggestion; empty if nothing is worth it."""
    text = safe_text(text)
    text = _without_extra_closers(text, prefix, language)
    text = _without_next_lines(text, suffix)
    text = _without_rest_of_line(text, suffix, language)
    text = _without_loops(text)
    return text.rstrip() if text.strip() else ""


def _without_extra_closers(text: str, prefix: str, language: str) -> str:
    """Cut before the first bracket that closes nothing of the prefix or of the text itself."""
    if not any(closer in text for closer in CLOSERS):
        return text
    before = scan(prefix, language)
    if before.quote or before.comment:
        return text
    if not scan(prefix + text, language).extra[len(before.extra) :]:
        return text
    allowed = len(before.extra)
    for at, char in enumerate(text):
        if char in CLOSERS and len(scan(prefix + text[: at + 1], language).extra) > allowed:
            return text[:at]
    return text


def _without_next_lines(text: str, suffix: str) -> str:
    """Cut where the lines behind the cursor begin to be repeated."""
    rest, *following = re.split(_BREAK, suffix)
    nexts = [line.strip() for line in following if len(line.strip()) >= _FEWEST][:2]
    if not nexts:
        return text
    lines = re.split(_BREAK, text)
    if len(lines) == 1 and not rest.strip() and text.strip() == nexts[0]:
        return ""
    at = 0
    for number, line in enumerate(lines):
        if number or not rest.strip():
            same = line.strip() == nexts[0]
            # A common line such as `return x` may come twice; two in a row hardly do.
            goes_on = number + 1 < len(lines) and len(nexts) > 1
            if same and (not goes_on or lines[number + 1].strip() in ("", nexts[1])):
                return text[:at].rstrip() if number else ""
        at += len(line)
        found = _BREAK.match(text, at)
        at = found.end() if found else at
    return text


def _without_rest_of_line(text: str, suffix: str, language: str) -> str:
    """Without an end that stands behind the cursor already."""
    rest = re.split(_BREAK, suffix, maxsplit=1)[0].rstrip()
    if not rest.strip():
        return text
    first = re.split(_BREAK, text, maxsplit=1)[0]
    body = text.rstrip()
    for size in range(min(len(rest), len(body)), 0, -1):
        if not body.endswith(rest[:size]):
            continue
        whole = size == len(rest)
        if whole and set(rest.strip()) <= CLOSERS | {":", ";", ",", "'", '"'}:
            # The closers behind the cursor may belong to what the text opens itself.
            opened = scan(body, language)
            return body if _balanced(opened, rest) else body[:-size]
        if whole or size >= _FEWEST:
            return body[:-size]
    # A line that goes on with the very words behind the cursor.
    if len(rest) >= _FEWEST and rest in first:
        return text[: first.index(rest)]
    return text


def _balanced(opened: Open, rest: str) -> bool:
    """Whether a text needs all its closers itself, so that those behind the cursor are others."""
    return not opened.extra and not opened.brackets and rest.strip()[:1] in CLOSERS


def _without_loops(text: str) -> str:
    """Cut where a line comes a third time in a row, or two lines a third time in turn."""
    lines = text.splitlines(keepends=True)
    for period in (1, 2, 3):
        for at in range(2 * period, len(lines) - period + 1):
            block = [line.strip() for line in lines[at : at + period]]
            before = [line.strip() for line in lines[at - 2 * period : at]]
            if any(block) and before == block * 2:
                return "".join(lines[: at - period]).rstrip()
    return text
