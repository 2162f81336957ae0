"""Recursive speculative decoding (RSD): a draft model's trees, sampled without replacement.

Source: Jeon et al., *Recursive Speculative Decoding: Accelerating LLM Inference via Sampling
Without Replacement* (arXiv 2402.14160). ``trees`` draws them, with constant branching (RSD-C) or by
stochastic beam search (RSD-S); ``accept`` walks down by recursive rejection, after which what is
emitted follows the target's distribution exactly; ``loop`` decodes with two transformers models.
"""

from codegen.decoding.rsd.accept import Accepted, accept
from codegen.decoding.rsd.loop import Tally, decode
from codegen.decoding.rsd.trees import ConstantBranching, Shape, StochasticBeam, Tree

__all__ = [
    "Accepted",
    "ConstantBranching",
    "Shape",
    "StochasticBeam",
    "Tally",
    "Tree",
    "accept",
    "decode",
]
