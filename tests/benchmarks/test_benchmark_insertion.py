"""The released code's way of training gives our loss."""

from __future__ import annotations

import numpy as np
import torch

from codegen.benchmarks.tools.in_place import draw, in_place_losses
from codegen.decoding.insertion import InsertionConfig, InsertionLM, Text


def test_masks_in_place_give_the_same_loss() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "dropout": 0.0}
    model = InsertionLM(InsertionConfig(**sizes, vocab_size=20, initializer_range=0.3)).eval()
    rng = np.random.default_rng(0)
    texts = [Text([5, 6], list(range(5, 5 + size))) for size in (1, 4, 9, 12)] * 3
    drawn = [draw(text, rng) for text in texts]
    ours = model(**model.collate([item.removed() for item in drawn])).parts["token"]
    torch.testing.assert_close(in_place_losses(model, drawn).detach(), ours, atol=1e-4, rtol=1e-5)
    assert (ours > 0.1).sum() > 6
