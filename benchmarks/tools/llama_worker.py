"""Runs llama.cpp's server (PyPI ``xllamacpp``) in its own interpreter, without this project.

Standard input holds one JSON object, standard output gets one. ``{"versions": true}`` asks for
versions. Else ``model`` is a GGUF file and each of ``runs`` has ``reuse`` (``n_cache_reuse``),
``predict`` and ``sequences``: lists of prompts (token ids) that one slot gets one after the other,
the first without a cache. Answered for each prompt: tokens encoded, CPU seconds of all threads, and
the text of the next line.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

import xllamacpp  # pyright: ignore


def main():
    """Answers the one job."""
    job = json.load(sys.stdin)
    out = os.dup(1)
    os.dup2(2, 1)  # the server's own words are no part of the answer
    if "versions" in job:
        answer = {"xllamacpp": version("xllamacpp")}
    else:
        answer = [run(job["model"], part) for part in job["runs"]]
    os.write(out, json.dumps(answer).encode())
    os.close(out)
    os._exit(0)  # the server's threads may not end


def run(model, part):
    """One server over all sequences."""
    params: Any = xllamacpp.CommonParams()  # pyright: ignore[reportAttributeAccessIssue]
    params.model.path = model
    params.n_ctx = part["context"]
    params.n_parallel = 1
    params.n_cache_reuse = part["reuse"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = False
    server: Any = xllamacpp.Server(params)  # pyright: ignore[reportAttributeAccessIssue]
    return [
        [ask(server, prompt, part["predict"], number > 0) for number, prompt in enumerate(prompts)]
        for prompts in part["sequences"]
    ]


def ask(server, prompt, predict, cached):
    """One completion."""
    began = time.process_time()
    answer = server.handle_completions(
        {
            "prompt": prompt,
            "n_predict": predict,
            "temperature": 0,
            "cache_prompt": cached,
            "stop": ["\n"],
        }
    )
    return {
        "encoded": answer["timings"]["prompt_n"],
        "cpu_s": time.process_time() - began,
        "text": answer["choices"][0]["text"],
    }


main()
