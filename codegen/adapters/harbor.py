"""A verifier for harbor (0.26) that keeps a task's tests out of the agent's container.

``harbor run -p TASK --agent AGENT --verifier codegen.adapters.harbor:CodegenVerifier``

The agent leaves a program at ``/app/answer.py``. The verifier runs it in the sandbox with the tests
in ``tests/problem.json``, a row of a custom task (:mod:`codegen.evals.tasks.custom`). The reward is
1 if they pass, else 0. A sandbox failure raises: harbor counts an error, not a reward.

harbor's own verifier runs the tests in the agent's container and reads the reward from a file
there. Leave ``environment_mode`` at its default: a separate environment lacks the program.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harbor.models.verifier.result import VerifierResult
from harbor.verifier.base import BaseVerifier

from codegen.adapters import judge_program, read_problem
from codegen.sandbox.verdicts import NotScored


class CodegenVerifier(BaseVerifier):
    """Scores one file in the container.

    Args:
        answer: absolute path of the program (``--verifier-kwarg answer=PATH``).
    """

    def __init__(self, *, answer: str = "/app/answer.py", **options: Any) -> None:
        super().__init__(**options)
        self._answer = answer

    async def verify(self) -> VerifierResult:
        """Returns the reward.

        Raises:
            InputError: for malformed tests. NotScored: if the sandbox or the container failed.
        """
        tests = self.task.paths.tests_dir / "problem.json"
        problem = read_problem(json.loads(tests.read_text(encoding="utf-8")), str(tests))
        found = await self.environment.exec(f"test -f {shlex.quote(self._answer)}")
        if found.return_code not in (0, 1):
            raise NotScored(f"The container failed: {found.stderr or found.return_code}")
        passed = False
        if found.return_code == 0:
            with TemporaryDirectory() as folder:
                file = Path(folder, "answer")
                await self.environment.download_file(self._answer, file)
                # A link could lead to a file on this machine.
                program = "" if file.is_symlink() else file.read_text("utf-8", "replace")
            passed = (await asyncio.to_thread(judge_program, problem, program)).passed
        return VerifierResult(rewards={"reward": float(passed)})
