"""Recursive speculative decoding (RSD): a draft model's trees, sampled without replacement.

Source: Jeon et al., *Recursive Speculative Decoding: Accelerating LLM Inference via Sampling
Without Replacement* (arXiv 2402.14160). ``trees`` draws them, with constant branching (RSD-C) or by
stochastic beam search (RSD-S); ``loop`` decodes with two transformers models, and walks down by
recursive rejection (:func:`codegen.kernels.accept.accept_tree`), after which what is emitted
follows the target's distribution exactly.
"""

from codegen.decoding.rsd.loop import Tally, decode
from codegen.decoding.rsd.trees import ConstantBranching, Shape, StochasticBeam, Tree

__all__ = [
    "ConstantBranching",
    "Shape",
    "StochasticBeam",
    "Tally",
    "Tree",
    "decode",
]
