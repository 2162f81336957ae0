"""Detects secrets that must not enter a cache or a prompt: files by name, strings by pattern.

Files on the list get no completions and are not used as context. In *other* files, strings that
look like secrets are replaced before tokenization, so that no suggestion can reproduce them. The
edited document is unchanged if the model runs on the user's machine, because each document has its
own caches; for another machine it is redacted, too.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

REDACTED = "<REDACTED>"

# From the lists of coding assistants; lower case.
_NAMES = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass",
    ".git-credentials", ".htpasswd", ".dockercfg", "credentials", "credentials.*", "secrets.*",
    "*.secret", "*.secrets", "*token*.json", "service-account*.json", "id_rsa*", "id_dsa*",
    "id_ecdsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.p8", "*.cer", "*.crt",
    "*.der", "*.jks", "*.keystore", "*.truststore", "*.kdbx", "*.gpg", "*.pgp", "*.asc", "*.ovpn",
    "*.tfstate", "*.tfstate.*", "*.tfvars", "*.sqlite", "*.sqlite3", "*.db", "*.bak", "*.dump",
)  # fmt: skip
_FOLDERS = frozenset({".git", ".hg", ".svn", ".ssh", ".gnupg", ".aws", ".azure", ".kube"})

_KNOWN = re.compile(
    # A key up to its end, or up to its last line if truncated.
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.{0,20000}?-----END [A-Z ]*PRIVATE KEY-----"
    r"|[^\n]*(?:\n[ \t\"'#]*[A-Za-z0-9+/=]+(?:[\"'][ \t,+\\]*)?[ \t\r]*(?=\n|\Z))*)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{40,}|\bglpat-[\w-]{20,}"
    r"|\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[\w-]{35}"
    r"|\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[\w-]{50,}"
    r"|(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}",
    re.DOTALL | re.MULTILINE,
)
_KEY_END = re.compile(r"-----END [A-Z ]*PRIVATE KEY-----")
_KEY_LINE = re.compile(r"[ \t\"'#]*[A-Za-z0-9+/=]{1,80}(?:[\"'][ \t,+\\]*)?[ \t\r]*")
# A line of only base64, as in a key; each such line counts as a secret.
_LINE = re.compile(r"^[ \t]*([A-Za-z0-9+/]{40,80}={0,2})[ \t\r]*$", re.MULTILINE)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]+):([^\s/@]+)(?=@)")
# Repetitions are bounded, because a match is tried at each position of a text.
_ASSIGNED = re.compile(
    r"""(?ix)(?:password|passwd|secret|token|api[_-]?key|private[_-]?key|credential)[\w.-]{0,40}
    ["']?\s{0,20}[:=]\s{0,20}(?P<quote>["'])(?P<value>[^"'\r\n]{6,})(?P=quote)"""
)
_LONG = re.compile(r"""(?<=["'])[A-Za-z0-9+/=_-]{24,}(?=["'])""")
_BITS = 3.8  # entropy per character; words and identifiers have less


def is_secret(name: str, more: tuple[str, ...] = ()) -> bool:
    """Returns True if a file may contain secrets, by its name.

    Args:
        name: path or URI; no file is opened.
        more: user's patterns for the file's name or its whole path.
    """
    text = unquote(urlsplit(name).path) if "://" in name else name
    path = PurePosixPath(text.replace("\\", "/").lower())
    if any(part in _FOLDERS for part in path.parts):
        return True
    patterns = (*_NAMES, *(pattern.lower() for pattern in more))
    return any(fnmatch(path.name, p) or fnmatch(str(path), p) for p in patterns)


def secret_spans(text: str) -> list[tuple[int, int]]:
    """Returns the character ranges that look like secrets, in order, without overlaps."""
    spans = [match.span() for match in _KNOWN.finditer(text)]
    spans += [match.span(2) for match in _URL_PASSWORD.finditer(text)]
    spans += [match.span("value") for match in _ASSIGNED.finditer(text)]
    spans += _private_keys(text)
    spans += [match.span() for match in _LONG.finditer(text) if _random(match[0])]
    spans += [match.span(1) for match in _LINE.finditer(text) if _random(match[1])]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        elif text[start:end] != REDACTED:
            merged.append((start, end))
    return merged


def _private_keys(text: str) -> Iterator[tuple[int, int]]:
    """Yields the spans of private keys, even of those whose first lines are missing."""
    for match in _KEY_END.finditer(text):
        start = text.rfind("\n", 0, match.start()) + 1
        while start:
            above = text.rfind("\n", 0, start - 1) + 1
            if not _KEY_LINE.fullmatch(text, above, start - 1):
                break
            start = above
        yield start, match.end()


def redact(text: str) -> str:
    """Replaces everything that looks like a secret."""
    return without_spans(text, secret_spans(text), 0, len(text))


def without_spans(text: str, spans: Sequence[tuple[int, int]], first: int, last: int) -> str:
    """Returns the characters of a text from ``first`` to ``last`` with these spans replaced."""
    parts, at = [], first
    for start, end in spans:
        if start < last and end > first:
            parts += [text[at:start], REDACTED]
            at = end
    return "".join([*parts, text[at:last]])


def _random(text: str) -> bool:
    """Returns True if the characters look random: high entropy, and digits among letters."""
    counts = Counter(text)
    bits = -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
    mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return mixed and bits >= _BITS
