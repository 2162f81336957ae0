"""Sorted drafts (S2D): a nested draft model whose first layers are drafts of their own.

Source: Kavehzadeh et al., *S2D: Sorted Speculative Decoding for More Efficient Deployment of Nested
Large Language Models* (arXiv 2407.01955). Sorted fine-tuning (``codegen.finetune``, ``loss:
sorted``) teaches the sub-models of a few depths to share one norm and one head. ``nested`` cuts
such a model into its stages, ``ladder`` climbs them until a token is sure, and ``drafter`` drafts
for the decoding loop with it.
"""

from codegen.decoding.s2d.drafter import SortedDrafter, Tally
from codegen.decoding.s2d.ladder import Ladder, Step
from codegen.decoding.s2d.nested import Nested, Parts, default_exits, parts_of

__all__ = [
    "Ladder",
    "Nested",
    "Parts",
    "SortedDrafter",
    "Step",
    "Tally",
    "default_exits",
    "parts_of",
]
