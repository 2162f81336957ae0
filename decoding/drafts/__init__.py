"""Drafters guess the next tokens, which a decoding loop verifies in one forward pass.

- ``protocol``: the interface between a loop and its drafters;
- ``edits`` drafts the new version of a file from the old one, also in diffs and SEARCH/REPLACE
  blocks;
- ``lookup`` drafts continuations of the same earlier text, or the target's latest candidates after
  the same token;
- ``chain`` builds a row's drafters and picks the draft with the most expected tokens; ``planner``
  trims drafts to the profitable length;
- ``vllm_proposer`` and ``vllm_worker`` are vLLM plugins. Only the last imports torch.
"""

from codegen.decoding.drafts.chain import DrafterChain, DrafterMaker
from codegen.decoding.drafts.edits import CursorDrafter, DiffDrafter
from codegen.decoding.drafts.lookup import RecyclingDrafter, SuffixDrafter
from codegen.decoding.drafts.planner import (
    DraftAccount,
    FixedCosts,
    PassCosts,
    PlannedDrafter,
    Planner,
    SharedCosts,
)
from codegen.decoding.drafts.protocol import Context, Draft, Drafter

__all__ = [
    "DraftAccount", "Context", "CursorDrafter", "DiffDrafter", "Draft", "Drafter", "DrafterChain",
    "DrafterMaker", "FixedCosts", "PassCosts", "PlannedDrafter", "Planner", "RecyclingDrafter",
    "SharedCosts", "SuffixDrafter",
]  # fmt: skip
