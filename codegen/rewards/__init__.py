"""Rewards: completions -> numbers with reasons, for reinforcement and for scored samples.

A reward sees each sample with the verdict of its tests, which ran in the sandbox, out of the
program's reach: a policy cannot forge it. ``base`` says what a reward is, ``builtin`` has the
built-in ones; other packages add theirs by an entry point (:mod:`codegen.plugins`). ``judge`` runs
the tests while a model samples, ``tests`` counts how many pass, ``suspects`` is a linter of tricks;
``trainers`` has the reward function for TRL (:class:`SandboxReward`).
"""

from .base import Reward, Scored, rewards_of, write_rewards
from .builtin import passed, program_of
from .judge import Judge, Judged
from .trainers import SandboxReward, Submissions

__all__ = [
    "Judge",
    "Judged",
    "Reward",
    "SandboxReward",
    "Scored",
    "Submissions",
    "passed",
    "program_of",
    "rewards_of",
    "write_rewards",
]
