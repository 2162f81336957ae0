"""Rewards: completions -> numbers with reasons, for reinforcement and for scored samples.

A reward sees each sample with the verdict of its tests, which ran in the sandbox, out of the
program's reach: a policy cannot forge it. ``builtin`` has the interface and the built-in rewards;
other packages add theirs by an entry point (:mod:`codegen.plugins`). ``judge`` runs the tests while
a model samples, also for TRL (:class:`SandboxReward`); ``tests`` counts how many pass; ``suspects``
is a linter of tricks.
"""

from .builtin import Reward, Scored, passed, program_of, rewards_of, write_rewards
from .judge import Judge, SandboxReward

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
