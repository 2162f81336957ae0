"""A dataset of the Hugging Face hub, streamed by the ``datasets`` library.

``hub:org/name[:config][:split]``; the split is ``train`` if not given. A single part that is the
name of a common split (``hub:org/name:test``) is taken as the split.

Limit: the description holds no digest, so that a finished directory does not tell that the dataset
has changed on the hub. A run in progress does, by the inputs that it has had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from codegen.data.sources.base import Item
from codegen.data.sources.rows import Columns, RowDefaults, examples_of_rows
from codegen.hub import cannot_open, check_exists, parse_hub

__all__ = ["HubSource", "parse_hub"]


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
            "columns": self.columns.describe(),
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
        check_exists(self.name, spec)
        try:
            rows = datasets.load_dataset(
                self.name, self.config or None, split=self.split, streaming=True
            )
        except (OSError, ValueError, DatasetsError) as error:
            # datasets wraps network, authorisation and spelling errors in these three.
            raise cannot_open(spec, error) from None
        defaults = RowDefaults(self.name, self.language, self.licence or _licence(rows))
        prefix = spec.removeprefix("hub:")
        numbered = ((f"{prefix}:{number}", row) for number, row in enumerate(rows))
        return examples_of_rows(numbered, self.columns, defaults, spec)


def _licence(rows: Any) -> str:
    stated = getattr(getattr(rows, "info", None), "license", None)
    return stated if isinstance(stated, str) else ""
