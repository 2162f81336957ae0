"""Parses hub names and converts hub errors to one line. Fast to import."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from codegen.core.errors import InputError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT_S = 15.0
_TOKEN_REMEDY = "Log in with `hf auth login`, or set HF_TOKEN to a token with write access."
_REMEDY = "Check the name, config and split, the network, and HF_TOKEN for gated data."
_SPLITS = ("train", "test", "validation", "dev")


def parse_hub(spec: str, default_split: str = "train") -> tuple[str, str, str]:
    """Splits ``org/name[:config][:split]`` into name, config and split.

    A single part that is the name of a common split (``org/name:test``) is taken as the split.

    Raises:
        InputError: if the name is empty or there are too many parts.
    """
    name, *rest = spec.split(":")
    if not name or len(rest) > 2:
        raise InputError(
            f"'hub:{spec}' is not of the form hub:org/name[:config][:split].",
            "For example: hub:openai/openai_humaneval:test",
        )
    if len(rest) == 1 and rest[0] in _SPLITS:
        return name, "", rest[0]
    config, split = (*rest, "", "")[:2]
    return name, config, split or default_split


def check_exists(name: str, spec: str, remedy: str = _REMEDY) -> None:
    """Checks once that the hub has a dataset; ``datasets`` would retry for half a minute.

    Raises:
        InputError: if the hub has no such dataset, or cannot be reached.
    """
    from huggingface_hub import HfApi, constants

    if Path(name).exists() or constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        return
    try:
        HfApi().dataset_info(name, timeout=TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - of whichever HTTP client the hub library uses
        raise cannot_open(spec, error, remedy) from None


def cannot_open(spec: str, error: BaseException, remedy: str = _REMEDY) -> InputError:
    """Returns the error for a dataset that cannot be opened, with the reason's first line."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InputError(f"Cannot open {spec}: {first}.", remedy)


def repository_name(target: str) -> str:
    """Returns ``org/name`` for ``org/name`` or ``hub:org/name``.

    Raises:
        InputError: if it is neither.
    """
    name = target.removeprefix("hub:")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
        raise InputError(
            f"{target!r} is not of the form hub:org/name.", "Write it as hub:me/edits."
        )
    return name


@contextmanager
def hub_errors(api: HfApi, target: str) -> Iterator[None]:
    """Converts errors of an upload to one line without the token.

    Raises:
        InputError: if no token with write access is set, or the hub cannot be reached.
    """
    from huggingface_hub import get_token

    # Versions of huggingface_hub use different HTTP clients; this name exists in all.
    from huggingface_hub.errors import HTTPError

    token = api.token or get_token()
    if not token:
        raise InputError("No token for the hub is set.", _TOKEN_REMEDY)
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        raise _explained(error, target, str(token)) from None


def _explained(error: Exception, target: str, token: str) -> InputError:
    """Converts the library's error to one line without the token."""
    message = next((line for line in str(error).splitlines() if line.strip()), "")
    message = (message or type(error).__name__).replace(token, "***").strip()
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        remedy = f"The token has no write access to it. {_TOKEN_REMEDY}"
    elif status is not None:
        remedy = "Run the same command again later; uploaded files are not resent."
    else:
        remedy = "Check the network (and HF_ENDPOINT, HF_HUB_OFFLINE) and run the command again."
    return InputError(f"Cannot push to {target}: {message}", remedy)
