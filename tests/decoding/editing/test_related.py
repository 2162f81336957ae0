"""Edits of a definition while its use is being typed, on the embedded model."""

from __future__ import annotations

import pytest

from codegen.benchmarks.tools.cache_methods import logits_behind
from codegen.benchmarks.tools.edit_cases import make_case
from codegen.benchmarks.tools.related_edits import RELATED


@pytest.mark.slow
def test_the_statement_at_the_cursor_makes_the_difference() -> None:
    """Plain PIE hardly notices a new parameter; ours is within half a logit of a full recompute."""
    from codegen.models import embedded, load

    if embedded.find() is None:
        pytest.skip("the embedded model is not on this machine")
    loaded = load("embedded")
    model = loaded.model.float()
    for edit in RELATED[::4]:
        before, after = edit.before + edit.rest, edit.after + edit.rest
        case = make_case(loaded.tokenizer, edit.name, before, after)
        right, wrong = (
            loaded.tokenizer.encode(text, add_special_tokens=False)[0]
            for text in (edit.right, edit.wrong)
        )
        logits = logits_behind(model, case)
        lead = {name: float(found[right] - found[wrong]) for name, found in logits.items()}
        assert abs(lead["ours"] - lead["full"]) <= 0.5, edit.name
        assert abs(lead["ignored"] - lead["full"]) > 0.5, edit.name
        if "parameter" in edit.name:
            assert abs(lead["pie"] - lead["full"]) > 1, edit.name
