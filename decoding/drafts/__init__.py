"""Drafters: what may come next, for a decoding loop to verify in one forward pass.

``protocol`` is the little that a loop and its drafters say to each other; ``cursor`` drafts a file
that is rewritten from the file as it was, ``diff`` does so for diffs and SEARCH/REPLACE blocks,
``suffix`` drafts what followed the same text before, ``recycling`` what the target found probable
before; ``chain`` makes a row's drafters and lets the one draft that expects most; ``planner`` cuts
drafts to what pays; ``vllm_proposer`` and ``vllm_worker`` are vLLM's plug-ins. Only the last
imports torch.
"""

from codegen.decoding.drafts.chain import DrafterChain, DrafterMaker
from codegen.decoding.drafts.cursor import CursorDrafter
from codegen.decoding.drafts.diff import DiffDrafter
from codegen.decoding.drafts.planner import (
    Account,
    FixedCosts,
    PassCosts,
    PlannedDrafter,
    Planner,
    SharedCosts,
)
from codegen.decoding.drafts.protocol import Context, Draft, Drafter
from codegen.decoding.drafts.recycling import RecyclingDrafter
from codegen.decoding.drafts.suffix import SuffixDrafter

__all__ = [
    "Account",
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
    "SharedCosts",
    "SuffixDrafter",
]
