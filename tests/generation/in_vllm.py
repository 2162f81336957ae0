"""Run by the Python that has vLLM: makes samples, as standard input asks, and prints them.

    python in_vllm.py MODEL_DIR '{"dtype": "float32", ...}' < cases.json

A case has ``decoder`` and ``options``, ``params`` and ``requests``; the answer to each is one line
of JSON, a list of samples or of one error.
"""

import json
import sys
from dataclasses import asdict

from codegen.core.errors import CodegenError
from codegen.generation import Decoder, Request, SamplingParams, samples
from codegen.generation.vllm import VllmBackend


def main() -> None:
    generator = VllmBackend(sys.argv[1], options=json.loads(sys.argv[2]))
    for case in json.load(sys.stdin):
        requests = [Request(**one | {"stop": tuple(one["stop"])}) for one in case["requests"]]
        decoder = Decoder(case["decoder"], case["options"])
        try:
            params = SamplingParams(**case["params"])
            made = [asdict(sample) for sample in samples(generator, requests, params, decoder)]
        except CodegenError as error:
            made = [str(error)]
        print("SAMPLES", json.dumps(made), flush=True)
    generator.close()


if __name__ == "__main__":
    main()
