"""Forged rewards of a policy that knows cheats: a usual reward against the sandbox's.

What: the experiment of ``codegen.benchmarks.evidence.reward_hacking`` on its world of numbers with
one seed: GRPO from a model trained on correct programs, wrong ones and four cheats.
``hacked_share_in_process`` is the fraction of the last steps' samples that the usual reward
(program and tests in one process) accepts and the hidden tests reject; ``hacked_share_isolated``
the same for the sandbox's reward. ``pass_before`` and ``pass_after`` are the fractions that pass
hidden tests in the first and the last steps of training on the sandbox's reward. ``rewards_per_s``:
distinct programs that ``codegen.rewards.Judge`` rewards per second.

Against: the same trainer with the usual reward.

Limits: one small world; docs/reward_hacking.md has two worlds, three rewards and three seeds. With
``quick`` both runs end after a few steps, before cheats dominate.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from codegen.benchmarks.evidence import reward_hacking
from codegen.benchmarks.tools.machine import versions
from codegen.benchmarks.tools.notes import say
from codegen.benchmarks.tools.report import Report, at_least, options
from codegen.evals.tasks import find_style
from codegen.evals.tasks.custom import CustomTask
from codegen.rewards import Judge
from codegen.rewards.judge import sample_of

WORLD = "numbers"
QUICK_STEPS, QUICK_FIRST_STEPS = 10, 60


@options(quick={"steps": QUICK_STEPS, "programs": 300})
def run(
    quick: bool = False, *, steps: int = 150, programs: int = 1000, seed: int = 0
) -> Mapping[str, object]:
    """Runs the benchmark.

    Args:
        quick: 10 steps, from a model trained for 60.
        steps: GRPO steps with each reward.
        programs: number of programs to reward for ``rewards_per_s``.
        seed: seed of training texts, models and samples.
    """
    import torch

    at_least(1, steps=steps, programs=programs)
    torch.set_num_threads(1)
    report = Report(seed=seed)
    report.versions |= versions("codegen-toolkit", "torch", "trl")
    rate = rewards_per_s(programs)
    report.set("rewards_per_s", rate, n=programs)
    say(f"{rate:.0f} rewards per second")
    with tempfile.TemporaryDirectory() as folder:
        first = QUICK_FIRST_STEPS if quick else reward_hacking.FIRST_STEPS
        found = {
            reward: reward_hacking.reinforce(Path(folder), WORLD, reward, seed, steps, first)
            for reward in ("one_process", "sandbox")
        }
    samples = reward_hacking.PROMPTS * reward_hacking.GROUP
    window = samples * min(steps, reward_hacking.WINDOW)
    for key, reward in (("in_process", "one_process"), ("isolated", "sandbox")):
        report.set(f"hacked_share_{key}", found[reward]["last"]["forged"], n=window)
    report.set("pass_before", found["sandbox"]["first"]["right"], n=window)
    report.set("pass_after", found["sandbox"]["last"]["right"], n=window)
    report.notes.append("One seed; docs/reward_hacking.md has intervals over seeds.")
    return report.mapping()


def rewards_per_s(programs: int) -> float:
    """Returns how many distinct programs, half of them correct, are rewarded per second."""
    row = {"id": "p", "prompt": "p", "tests": [f"assert f({x}) == {x * x}" for x in range(5)]}
    task = CustomTask("custom", "", [CustomTask.problem_of("row", row)], "")
    texts = [
        f"def f(x):\n    return x {'*' if n % 2 else '+'} x + {n} - {n}\n" for n in range(programs)
    ]
    style = find_style("chat")
    samples = [sample_of("custom", "p", n, "p", text, 1, style) for n, text in enumerate(texts)]
    with Judge(task) as judge:
        judge.judge(samples[:1])  # starts the sandbox
        began = time.perf_counter()
        judged = judge.judge(samples[1:])
        seconds = time.perf_counter() - began
    assert sum(one.verdict.passed for one in judged) == programs // 2
    return (programs - 1) / seconds
