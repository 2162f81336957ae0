"""Drafters: what may come next, for a decoding loop to verify in one forward pass.

``protocol`` is the little that a loop and its drafters say to each other; ``cursor`` drafts a file
that is rewritten from the file as it was, ``diff`` does so for diffs and SEARCH/REPLACE blocks,
``suffix`` drafts what followed the same text before, ``recycling`` what the target found probable
before; ``chain`` lets the first of several draft that is expected to pay; ``making`` makes a row's
drafters; ``vllm_proposer`` and ``vllm_worker`` are vLLM's plug-ins. Only the last imports torch.
"""

from codegen.decoding.drafts.chain import DrafterChain
from codegen.decoding.drafts.cursor import CursorDrafter
from codegen.decoding.drafts.diff import DiffDrafter
from codegen.decoding.drafts.making import DrafterMaker
from codegen.decoding.drafts.planner import FixedCosts, PassCosts, PlannedDrafter, Planner
from codegen.decoding.drafts.protocol import Context, Draft, Drafter
from codegen.decoding.drafts.recycling import RecyclingDrafter
from codegen.decoding.drafts.suffix import SuffixDrafter

__all__ = [
    "Context",
    "CursorDrafter",
    "DiffDrafter",
    "Draft",
    "Drafter",
    "DrafterChain",
    "DrafterMaker",
    "FixedCosts",
    "PassCosts",
    "PlannedDrafter",
    "Planner",
    "RecyclingDrafter",
    "SuffixDrafter",
]
