"""The sandbox in other frameworks, one module each; each imports its framework.

``verl``: a reward function. ``verifiers``: a taskset. ``openenv``: an environment. ``inspect_ai``:
a sandbox provider, a scorer, and our runs as logs. (For TRL there is
:class:`codegen.rewards.SandboxReward`; clients of SandboxFusion need no more than the service's
URL.)

Programs are tested by the services that ``CODEGEN_SANDBOX_URL`` names (several with commas), or
else by a sandbox in this process; see docs/sandbox_service.md.
"""
