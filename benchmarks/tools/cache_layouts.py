"""The embedded model as it is served, in any order of prefix and suffix.

It was not trained to fill in the middle; unused special tokens are its sentinels. That shows what
an order does to a cache, not how well the model fills in.
"""

from __future__ import annotations

from typing import Any

from codegen.server.prompts import Family

FORCED: dict[str, Family | None] = {
    "prefix": None,
    "psm": Family("forced-psm", "<gh_stars>{prefix}<issue_start>{suffix}<issue_comment>"),
    "spm": Family("forced-spm", "<issue_start>{suffix}<gh_stars>{prefix}<issue_comment>"),
}


def served_model(layout: str, context: int = 1024) -> Any:
    """A :class:`codegen.server.model.CompletionModel` in one of :data:`FORCED`."""
    from codegen.models import load
    from codegen.server.model import CompletionModel
    from codegen.server.prompts import Prompter
    from codegen.server.requests import ServerLimits

    model = CompletionModel(load("embedded"), limits=ServerLimits(context_tokens=context))
    model.family = FORCED[layout]
    model.prompter = Prompter(model.tokenizer, model.family, model.vocabulary, model.limit)
    return model
