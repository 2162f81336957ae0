"""Secret files by name, secrets by look; ordinary code stays as it is."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from codegen.core.secret_scan import REDACTED, is_secret, redact


@pytest.mark.parametrize(
    "name",
    [
        "/home/me/app/.env", "file:///c%3A/app/.env.local", "C:\\app\\id_rsa", "server.PEM",
        "file:///repo/.git/config", "~/.aws/credentials", "/x/.ssh/known_hosts", "a/secrets.yaml",
        "file:///x/%2Eenv",
    ],
)  # fmt: skip
def test_secret_files(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["/a/main.py", "file:///a/tokenizer.py", "untitled:1", "keys.py"])
def test_other_files(name: str) -> None:
    assert not is_secret(name)


def test_the_users_own_patterns() -> None:
    assert is_secret("file:///repo/private/x.py", ("*/private/*",))
    assert not is_secret("file:///repo/public/x.py", ("*/private/*",))


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("AWS = 'AKIAIOSFODNN7EXAMPLE'", "AKIAIOSFODNN7EXAMPLE"),
        ("password = 'correct horse'", "correct horse"),
        ('"api_key": "abcdef123456"', "abcdef123456"),
        ("db = 'postgres://me:hunter22@host/db'", "hunter22"),
        ("t = 'ghp_" + "a1B2" * 9 + "'", "a1B2a1B2"),
        ("k = 'q8Zr1LwX0vPp93Kd7TnYb5Me2HsUc4Ga'", "q8Zr1LwX0vPp93Kd7TnYb5Me2HsUc4Ga"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n", "MIIE"),
    ],
)
def test_secrets_are_replaced(text: str, secret: str) -> None:
    assert secret not in redact(text)
    assert REDACTED in redact(text)


def test_real_modules_stay_as_they_are() -> None:
    import argparse
    import http.client
    import json.decoder
    import zipfile

    for module in (argparse, http.client, json.decoder, zipfile):
        text = inspect.getsource(module)
        assert redact(text) == text


PIECES = [
    "a.",
    "token.",
    "token-",
    "token=",
    "token ",
    "token:\t",
    "password",
    "eyJ-",
    "eyJaaaaaaaaaa-",
    "eyJaaaaaaaaaaa.",
    "://a:",
    "://",
    "-----BEGIN A",
    "-----BEGIN PRIVATE KEY",
    "sk-",
    "hf_",
    "A-",
    "'",
    '"a',
    "x" * 23 + "'",
]


def test_redacting_takes_linear_time() -> None:
    """A quadratic pattern takes far longer for so much text than this bound."""
    script = (
        "import sys; from codegen.core.secret_scan import redact\n"
        "for piece in sys.argv[1:]:\n"
        "    for end in ('', ' ', \"'\", '='):\n"
        "        redact(piece * (50_000 // len(piece)) + end)\n"
    )
    subprocess.run([sys.executable, "-c", script, *PIECES], check=True, timeout=60)
