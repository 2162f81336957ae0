"""A dataset of the Hugging Face hub, streamed by the ``datasets`` library.

``hub:org/name[:config][:split]``; the split is ``train`` if not given. A single part that is the
name of a common split (``hub:org/name:test``) is taken as the split.

Limit: the description holds no digest, so that a finished directory does not tell that the dataset
has changed on the hub. A run in progress does, by the inputs that it has had.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codegen.data.sources.base import Item
from codegen.data.sources.rows import Columns, RowDefaults, examples_of_rows
from codegen.errors import InputError

TIMEOUT_S = 15.0
_SPLITS = ("train", "test", "validation", "dev")


@dataclass(slots=True)
class HubSource:
    """The rows of one split."""

    name: str
    config: str = ""
    split: str = "train"
    columns: Columns = field(default_factory=Columns)
    language: str = "python"
    licence: str = ""

    def describe(self) -> Mapping[str, Any]:
        """The dataset's name, config and split, and the columns."""
        return {
            "kind": "hub",
            "name": self.name,
            "config": self.config,
            "split": self.split,
            "columns": list(self.columns.required),
            "language": self.language,
            "licence": self.licence,
        }

    def fraction(self) -> float | None:
        """Unknown: a stream has no length."""
        return None

    def __iter__(self) -> Iterator[Item]:
        """Streams the rows."""
        import datasets
        from datasets.exceptions import DatasetsError

        spec = ":".join(part for part in ("hub", self.name, self.config, self.split) if part)
        _check_exists(self.name, spec)
        try:
            rows = datasets.load_dataset(
                self.name, self.config or None, split=self.split, streaming=True
            )
        except (OSError, ValueError, DatasetsError) as error:
            # datasets wraps network, authorisation and spelling errors in these three.
            raise _cannot_open(spec, error) from None
        defaults = RowDefaults(self.name, self.language, self.licence or _licence(rows))
        prefix = spec.removeprefix("hub:")
        numbered = ((f"{prefix}:{number}", row) for number, row in enumerate(rows))
        return examples_of_rows(numbered, self.columns, defaults, spec)


def _check_exists(name: str, spec: str) -> None:
    """Asks the hub once: ``datasets`` tries for half a minute before it says that it can't."""
    from huggingface_hub import HfApi, constants

    if Path(name).exists() or constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE") == "1":
        return
    try:
        HfApi().dataset_info(name, timeout=TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - of whichever HTTP client the hub library uses
        raise _cannot_open(spec, error) from None


def _cannot_open(spec: str, error: BaseException) -> InputError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"Cannot open {spec}: {first}",
        "Check the name, config and split, the network, and HF_TOKEN for gated data.",
    )


def _licence(rows: Any) -> str:
    stated = getattr(getattr(rows, "info", None), "license", None)
    return stated if isinstance(stated, str) else ""


def parse_hub(spec: str) -> tuple[str, str, str]:
    """Splits ``org/name[:config][:split]`` into name, config and split.

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
    return name, config, split or "train"
