"""Part of the site's build: what looks like a reference in Markdown and is none."""

import logging


def _is_reference(record: logging.LogRecord) -> bool:
    return "target ':" not in record.getMessage()  # hub:org/name[:config][:split]


def on_startup(**_: object) -> None:
    """Called by mkdocs."""
    for name in (
        "mkdocs.plugins.mkdocs_autorefs",
        "mkdocs.plugins.mkdocs_autorefs._internal.plugin",
    ):
        logging.getLogger(name).addFilter(_is_reference)
