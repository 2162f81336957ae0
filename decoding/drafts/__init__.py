"""Drafters guess the next tokens, which a decoding loop verifies in one forward pass.

- ``protocol``: the interface between a loop and its drafters;
- ``cursor`` drafts the new version of a file from the old one, ``diff`` does so for diffs and
  SEARCH/REPLACE blocks;
- ``suffix`` drafts what followed the same text before, ``recycling`` what the target found probable
  after the same token before;
- ``chain`` makes a row's drafters and picks the draft that expects the most tokens; ``planner``
  shortens drafts to what pays;
- ``vllm_proposer`` and ``vllm_worker`` are vLLM plug-ins. Only the last imports torch.
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
