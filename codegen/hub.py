"""Parsing and checking names of datasets on the Hugging Face hub. Light to import."""

from __future__ import annotations

import os
from pathlib import Path

from codegen.errors import InputError

TIMEOUT_S = 15.0
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
        InputError: if the hub has no such dataset, or can't be reached.
    """
    from huggingface_hub import HfApi, constants

    if Path(name).exists() or constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        return
    try:
        HfApi().dataset_info(name, timeout=TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - of whichever HTTP client the hub library uses
        raise cannot_open(spec, error, remedy) from None


def cannot_open(spec: str, error: BaseException, remedy: str = _REMEDY) -> InputError:
    """The error for a dataset that can't be opened, with the first line of the reason."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InputError(f"Cannot open {spec}: {first}.", remedy)
