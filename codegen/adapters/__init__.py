"""The sandbox in other frameworks, one module each; each imports its framework.

``verl``: a reward function. ``verifiers``: a taskset. ``openenv``: an environment. ``code_eval``: a
metric of ``evaluate``. ``inspect_ai``: a sandbox provider, a scorer, and our runs as logs. (For TRL
there is :class:`codegen.rewards.SandboxReward`; clients of SandboxFusion need no more than the
service's URL.)

:mod:`codegen.sandbox.verdicts` selects the sandbox; see docs/sandbox_service.md.
"""
