"""Rewards: scores of completions, with reasons, for reinforcement learning and scored samples.

A reward gets each sample with the verdict of its tests, which ran in the sandbox, isolated from the
program, so a policy cannot forge it. ``builtin`` has the interface and the built-in rewards; other
packages add rewards through an entry point (:mod:`codegen.core.plugins`). ``judge`` runs the tests
while a model samples, also for TRL (:class:`SandboxReward`); ``suspicious`` is a linter for tricks.
"""

from codegen.rewards.builtin import Reward, Scored, passed, program_of, rewards_of, write_rewards
from codegen.rewards.judge import Judge, SandboxReward

__all__ = [
    "Judge",
    "Reward",
    "SandboxReward",
    "Scored",
    "passed",
    "program_of",
    "rewards_of",
    "write_rewards",
]
