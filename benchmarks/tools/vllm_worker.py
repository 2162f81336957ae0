"""Decodes with vLLM in a separate process, and prints the seconds.

It reads one JSON object: ``model`` (a directory), ``load_format`` (``dummy`` makes random weights
from a configuration), ``prompt`` (token ids), ``tokens`` and ``batches``. It prints another:
``seconds`` by batch, of all tokens after the first of each request, and vLLM's version.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def _main() -> None:
    out, sys.stdout = sys.stdout, sys.stderr
    job = json.loads(sys.stdin.read())
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    import vllm  # type: ignore[reportMissingImports]

    options: dict[str, Any] = {
        "load_format": job["load_format"],
        "skip_tokenizer_init": True,
        "enable_prefix_caching": False,
        "max_model_len": len(job["prompt"]) + job["tokens"] + 64,
        "gpu_memory_utilization": 0.85,
        "trust_remote_code": False,
    }
    engine = vllm.LLM(job["model"], **options)

    def seconds(batch: int, tokens: int) -> float:
        params = vllm.SamplingParams(
            temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        began = time.perf_counter()
        engine.generate(
            [{"prompt_token_ids": job["prompt"]}] * batch, [params] * batch, use_tqdm=False
        )
        return time.perf_counter() - began

    found = {}
    for batch in job["batches"]:
        seconds(batch, job["tokens"])
        found[batch] = max(1e-9, seconds(batch, job["tokens"]) - seconds(batch, 1))
    out.write(json.dumps({"seconds": found, "version": vllm.__version__}) + "\n")


if __name__ == "__main__":
    _main()
