"""A resources server for NeMo-Gym (0.7) with verdicts that a program cannot forge.

It reads the rows of NeMo-Gym's ``code_gen`` and replaces it in existing configurations: put
``resources_servers/code_gen`` in a directory that ``NEMO_GYM_EXTRA_ROOTS`` names, with ``configs``
and ``requirements.txt`` (``codegen-toolkit``) and this ``app.py``::

    from codegen.adapters.nemo_gym import CodegenServer

    if __name__ == "__main__":
        CodegenServer.run_webserver()

NeMo-Gym's server runs the program next to the expected outputs, and scores 0 if the grading process
dies. A sandbox failure here is a ``JudgeError``: the row is masked, listed among the failures and
retried by ``gym eval reverify --judge-failed-only``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from typing import Any

from nemo_gym.base_resources_server import (
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)
from nemo_gym.judge import JudgeError

from codegen.adapters.verl import compute_score
from codegen.sandbox.verdicts import NotScored


class CodegenVerifyRequest(BaseVerifyRequest):
    """A response, and ``unit_tests`` in LiveCodeBench's form, plain or packed."""

    verifier_metadata: dict[str, Any]


class CodegenServer(SimpleResourcesServer):
    """Scores the program of a response: 1 if it passes all tests, else 0."""

    async def verify(self, body: CodegenVerifyRequest) -> BaseVerifyResponse:
        """Returns the reward.

        Raises:
            InputError: for malformed tests. JudgeError: if the sandbox failed.
        """
        tests = body.verifier_metadata["unit_tests"]
        if "packed" in tests:
            tests = tests | json.loads(zlib.decompress(base64.b64decode(tests["packed"])))
        given = ("nemo_gym", body.response.output_text, tests)
        try:
            found = await asyncio.to_thread(compute_score, *given, continuous=False)
        except NotScored as error:
            raise JudgeError(str(error)) from error
        return BaseVerifyResponse(**body.model_dump(), reward=found["score"])
