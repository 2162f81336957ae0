"""Runs arctic-inference's suffix tree in its own interpreter; does not import this project.

Reads one JSON object from standard input and writes one to standard output. ``{"versions": true}``
requests versions, anything else the times and the memory of one tree.
"""

import gc
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from arctic_inference.suffix_decoding._C import SuffixTree


def main():
    """Runs one job."""
    job = json.load(sys.stdin)
    if "versions" in job:
        answer = {
            "python": ".".join(map(str, sys.version_info[:3])),
            "arctic-inference": version("arctic-inference"),
            "numpy": version("numpy"),
        }
    else:
        answer = measure(job)
    json.dump(answer, sys.stdout)


def measure(job):
    """Returns the times and memory of one tree."""
    files = [np.array(tokens, dtype=np.int32) for tokens in job["files"]]
    single = [np.array([token], dtype=np.int32) for token in job["single"]]
    contexts = [[np.array(c, dtype=np.int32) for c in group] for group in job["contexts"]]
    total = sum(map(len, files))
    gc.collect()
    before = resident()
    tree = SuffixTree(job["depth"])
    began = time.process_time()
    for number, tokens in enumerate(files):
        tree.extend_ndarray(number, tokens)
    append = time.process_time() - began
    grown = resident() - before
    began = time.process_time()
    for token in single:
        tree.extend_ndarray(len(files), token)
    one = time.process_time() - began
    tree.remove(len(files))
    groups = []
    for group in contexts:
        calls, matched, drafted = [], 0, 0
        began = time.process_time()
        for context in group:
            tree.speculate_ndarray(context, job["limit"], job["factor"], 0.0, 0.1, False)
        cpu = time.process_time() - began
        for context in group:
            start = time.perf_counter_ns()
            draft = tree.speculate_ndarray(context, job["limit"], job["factor"], 0.0, 0.1, False)
            calls.append((time.perf_counter_ns() - start) / 1e3)
            matched += draft.match_len
            drafted += len(draft.token_ids)
        groups.append(
            {
                "cpu_us": cpu / len(group) * 1e6,
                "calls_us": calls,
                "match": matched / len(group),
                "drafted": drafted / len(group),
            }
        )
    return {
        "append_us": append / total * 1e6,
        "append_one_us": one / len(single) * 1e6,
        "bytes_per_token": grown / total,
        "groups": groups,
    }


def resident():
    """Returns this process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
