"""JSON over HTTP to a model's server: one POST, and what its outcome means for a retry.

The standard library's client: proxies come from the environment (never for loopback), certificates
from the system or ``SSL_CERT_FILE``, redirects are refused so that a key stays with its host.

Limit: each request opens a connection of its own.
"""

from __future__ import annotations

import email.utils
import ipaddress
import json
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from functools import cache
from http.client import HTTPException
from typing import Any

MOST_BYTES = 64 * 2**20  # of one response
_RETRIED = frozenset({408, 409, 425, 429})


class Failure(Exception):
    """A POST without a usable response.

    Attributes:
        status: of HTTP, 0 if there was none.
        transient: whether trying again may help.
        unreachable: whether no server was there at all.
        untrusted: whether its certificate was refused.
        wait_s: how long the server asks to wait.
        code: the error code in an OpenAI-style error object.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        transient: bool = False,
        unreachable: bool = False,
        untrusted: bool = False,
        wait_s: float = 0.0,
        code: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.transient = transient
        self.unreachable = unreachable
        self.untrusted = untrusted
        self.wait_s = wait_s
        self.code = code


def post_json(url: str, body: Mapping[str, Any], key: str, timeout_s: float) -> Any:
    """Posts a JSON object and returns the decoded JSON response.

    Args:
        url: http or https.
        body: the object.
        key: a bearer token, or empty.
        timeout_s: for connecting, for each wait for bytes, and for the body as a whole.

    Raises:
        Failure: whatever goes wrong.
    """
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers["User-Agent"] = "codegen-toolkit"
    request = urllib.request.Request(url, json.dumps(body).encode("ascii"), headers)
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with _opener(is_loopback(url)).open(request, timeout=timeout_s) as response:
            raw = _read(response.read1, timeout_s)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, key) from None
    except urllib.error.URLError as error:
        # urllib wraps what happens up to sending the request, so a timeout here is one to connect.
        failure = _no_connection(error.reason, timeout_s)
        failure.unreachable |= isinstance(error.reason, TimeoutError)
        raise failure from None
    except (OSError, HTTPException) as error:
        raise _no_connection(error, timeout_s) from None
    except UnicodeError:  # a host name that IDNA refuses
        raise Failure("its host name is not valid", unreachable=True) from None
    try:
        row = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Failure(f"its response is not JSON ({_short(error)})", transient=True) from None
    if isinstance(row, dict) and row.get("error"):
        words, code = _error_words(raw)
        raise Failure(f"it reports {_safe(words, key)}", transient=True, code=code)
    return row


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any
    ) -> None:
        return None  # the response then counts as an error with its status


@cache
def _opener(direct: bool) -> urllib.request.OpenerDirector:
    proxies = urllib.request.ProxyHandler({} if direct else None)
    return urllib.request.build_opener(proxies, _NoRedirect)


def _read(read_some: Callable[[int], bytes], timeout_s: float) -> bytes:
    """The body; the socket's own timeout would let a server drip bytes for ever."""
    deadline = time.monotonic() + timeout_s
    parts: list[bytes] = []
    size = 0
    while part := read_some(65536):
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise Failure(f"its response is larger than {MOST_BYTES >> 20} MiB")
        if time.monotonic() > deadline:
            raise TimeoutError
    return b"".join(parts)


def _refused(error: urllib.error.HTTPError, key: str) -> Failure:
    words, code = "", ""
    try:
        raw = error.read(65536)
        words, code = _error_words(raw)
    except (OSError, HTTPException):
        pass  # the status alone must do
    if 300 <= error.code < 400:
        words = f"a redirect to {error.headers.get('Location', 'nowhere')}"
    return Failure(
        f"HTTP {error.code}" + (f": {_safe(words, key)}" if words else ""),
        status=error.code,
        transient=error.code in _RETRIED or error.code >= 500,
        wait_s=retry_after(error.headers.get("Retry-After", ""), time.time()),
        code=code,
    )


def _error_words(raw: bytes) -> tuple[str, str]:
    """The message and code of an error body: OpenAI's object, or the text as it is."""
    text = raw.decode("utf-8", "replace")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return text, ""
    inner = row.get("error", row) if isinstance(row, dict) else row
    if isinstance(inner, dict):
        message = inner.get("message") or inner.get("detail") or text
        return str(message), str(inner.get("code") or inner.get("type") or "")
    return str(inner), ""


def _no_connection(reason: Any, timeout_s: float) -> Failure:
    if isinstance(reason, TimeoutError):
        return Failure(f"no response within {timeout_s:g} s", transient=True)
    if isinstance(reason, ssl.SSLCertVerificationError):
        words = f"its certificate is not trusted ({reason.verify_message})"
        return Failure(words, untrusted=True)
    # Refused, unknown host, no route; a connection that breaks later has another class.
    gone = isinstance(reason, OSError) and not isinstance(
        reason, (ConnectionResetError, BrokenPipeError, ConnectionAbortedError, ssl.SSLError)
    )
    words = getattr(reason, "strerror", None) or _short(reason) or type(reason).__name__
    return Failure(f"no connection ({words})", transient=True, unreachable=gone)


def retry_after(value: str, now: float) -> float:
    """Seconds to wait by a Retry-After header (seconds or an HTTP date); 0 if there is none."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError):
            return 0.0
    return seconds if 0 < seconds < float("inf") else 0.0


def _safe(words: str, key: str) -> str:
    """A server's words; some repeat the key."""
    return _short(words.replace(key, "***") if key else words)


def _short(value: object, most: int = 300) -> str:
    text = " ".join(str(value).split()).rstrip(".")
    return text if len(text) <= most else text[: most - 3] + "..."
